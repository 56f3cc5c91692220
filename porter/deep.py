"""`audit --deep` over bucks: believe no listing. Every copy is fetched, decoded, and held against what was signed.

A copy that fails is named with the buck that gave it; a packet without a good copy counts as not held. Two copies of
one key with other bytes are a conflict, even if no buck has noticed.
"""

from __future__ import annotations

from itertools import islice

from porter.cluster import Cluster
from porter.gather import Epoch, Survey, fetch
from porter.member import Member
from porter.shelf import block_of
from porter.signed import Signed
from protocol.content import rows_content
from protocol.errors import FormatError
from protocol.packet import Key, Packet
from protocol.ranges import Ranges
from protocol.seal import CONTENT_SIZE

__all__ = ["contents_of", "good_copies"]

NAMED_MAX = 1_000  # bad copies of a bucket, buck and epoch that are named one by one: a buck may list anything


async def good_copies(
    cluster: Cluster, listed: Survey, signed: Signed
) -> tuple[Survey, dict[Key, set[bytes]], list[str]]:
    """The survey without copies that are no good; packets of one key that differ, by content; what was wrong."""
    contents = signed.of_bucket(listed.bucket, listed.union())
    good = Survey(listed.bucket, {}, set(listed.conflicts), listed.unsure, listed.silent, listed.archived)
    judged: dict[bytes, str] = {}  # digest -> what is wrong with the packet; each is decoded once
    versions: dict[Key, dict[bytes, bytes]] = {}  # digest -> content
    troubles: list[str] = []
    for member, numbers in listed.held.items():
        good.held[member] = held = {epoch: one.copy() for epoch, one in numbers.items()}
        async with fetch(cluster, Survey(listed.bucket, {member: numbers})) as harvest:
            async for packet in harvest:
                key = packet.header.key
                if packet.digest not in judged:
                    judged[packet.digest] = _wrong(packet, contents.get(key))
                versions.setdefault(key, {})[packet.digest] = packet.header.content
                if judged[packet.digest]:
                    held[Epoch(*key[:2])].discard(key.number, key.number + 1)
                    troubles.append(_copy_text(listed.bucket, key, member, judged[packet.digest]))
        for epoch, missing in harvest.missing.items():
            held[epoch] -= missing
            why = "; ".join(sorted({bad.why for bad in harvest.bad})) or "listed, and not given"
            for number in islice(missing.numbers(), NAMED_MAX):
                troubles.append(_copy_text(listed.bucket, Key(*epoch, number), member, why))
            if missing.count > NAMED_MAX:
                troubles.append(f"{missing.count - NAMED_MAX} more such copies in bucket {listed.bucket} on {member}")
    clashes = {key: set(some.values()) for key, some in versions.items() if len(some) > 1 or key in listed.conflicts}
    return good, clashes, troubles


async def contents_of(cluster: Cluster, listed: Survey) -> dict[Key, set[bytes]]:
    """The contents of the packets that bucks know to be in conflict."""
    found: dict[Key, set[bytes]] = {key: set() for key in listed.conflicts}
    contested: dict[Epoch, Ranges] = {}
    for key in found:
        contested.setdefault(Epoch(*key[:2]), Ranges()).add(key.number, key.number + 1)
    if found:
        async with fetch(cluster, listed, lambda epoch, held: held & contested.get(epoch, Ranges())) as harvest:
            async for packet in harvest:
                found[packet.header.key].add(packet.header.content)
    return found


def _copy_text(bucket: int, key: Key, member: Member, why: str) -> str:
    return f"a bad copy: packet {key.number} of {key.tailer.hex()}/{key.epoch:x} in bucket {bucket} on {member}: {why}"


def _wrong(packet: Packet, signed: bytes | None) -> str:
    """What is wrong with a packet whose digest is right; "" if nothing."""
    header = packet.header
    try:
        content = rows_content(header.host, header.streams, header.runs, block_of(packet).rows)
    except FormatError as error:
        return f"it can't be decoded: {error}"
    if content != header.content:
        return "its rows are not what its header says"
    if signed is not None and content[:CONTENT_SIZE] != signed:
        return "it is not what its tailer has signed"
    return ""
