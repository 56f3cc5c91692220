"""`porter audit`: is everything there that the tailers say they have written, and can it be proved?

What is held is asked of every buck (sets of packet numbers, no packet is fetched) and read from the archive's footers;
what must be there is in the seals, which come from both too. `verdict.py` weighs one against the other.

`--deep` believes no listing: every copy on every buck is fetched, its digest is checked, its rows are decoded, and the
`content` computed from them is held against the packet's header and against what its tailer has signed. A copy that
fails is named; a packet without a good copy counts as not held.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from porter.catalog import HOUR_S
from porter.cluster import Cluster
from porter.coverage import Coverage
from porter.gather import AT_ONCE, Epoch, Numbers, Survey, fetch, survey_all
from porter.member import Member
from porter.reader import Reader, numbers_text
from porter.roster import Seen, ask_roster, look_at_verdicts
from porter.shelf import block_of
from porter.verdict import COMPLETE, UNKNOWN, Evidence, Verdict, judge
from protocol.content import rows_content
from protocol.errors import FormatError
from protocol.messages import Covered, Intervals
from protocol.packet import Key, Packet
from protocol.ranges import Ranges
from protocol.seal import CONTENT_SIZE, Seal

if TYPE_CHECKING:
    from porter.archived import Archive

__all__ = ["Audit", "Found", "Tell", "audit", "look_at_archive", "look_at_bucks", "sealed_and_gone"]

SEAL_LAG_S = 120  # a tailer seals a bucket at most a minute after its end; twice that is silence

Tell = Callable[[int, str], None]


@dataclass
class Found:
    """What there is, from all sources: the evidence of an audit before it is judged."""

    seals: list[Seal] = field(default_factory=list)
    held: dict[tuple[bytes, int], dict[int, Ranges]] = field(default_factory=dict)
    copies: dict[bytes, dict[int, int]] = field(default_factory=dict)  # tailer -> number of copies -> packets
    conflicts: set[Key] = field(default_factory=set)
    troubles: list[str] = field(default_factory=list)  # what went wrong without making anything incomplete
    unsure: dict[str, None] = field(default_factory=dict)  # bucks that may hold more than they say
    asked: bool = True
    due: int = 0
    coverage: Coverage = field(default_factory=Coverage)
    seen: Seen = field(default_factory=Seen)

    def hold(self, bucket: int, numbers: Numbers) -> None:
        """These packets of a bucket are there."""
        for epoch, more in numbers.items():
            buckets = self.held.setdefault(epoch, {})
            buckets[bucket] = buckets[bucket] | more if bucket in buckets else more.copy()

    def add(self, listed: Survey) -> None:
        """What the bucks hold of one bucket."""
        self.hold(listed.bucket, listed.union())
        self.count(listed.copies())
        self.conflicts |= listed.conflicts
        self.unsure |= {f"unsure what it holds: {member}": None for member in listed.unsure}

    def count(self, levels: list[Numbers]) -> None:
        """`levels` of `Survey.copies`: at [k] what at least k + 1 bucks hold."""
        for number, level in enumerate(levels, 1):
            above = levels[number] if number < len(levels) else {}
            for epoch, numbers in level.items():
                exactly = numbers.count - above.get(epoch, Ranges()).count
                counts = self.copies.setdefault(epoch.tailer, {})
                counts[number] = counts.get(number, 0) + exactly


@dataclass(frozen=True)
class Audit:
    """The verdict, how many copies there are, and what else came to light. `notes` take nothing from the verdict."""

    verdict: Verdict
    copies: dict[bytes, dict[int, int]]
    troubles: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """As JSON."""
        copies = {tailer.hex(): counts for tailer, counts in self.copies.items()}
        return self.verdict.document(copies=copies, troubles=list(self.troubles), notes=list(self.notes))


def audit(env: str, found: Found, start: int = 0, end: int = 0, hosts: Collection[bytes] = ()) -> Audit:
    """Judge what was found."""
    width = max((seal.width for seal in found.seals), default=1)
    start -= start % width  # the bucket that a range begins in belongs to it
    healed = found.coverage.whole()
    facts = found.conflicts, found.asked, found.due, healed, not found.unsure
    roster = found.seen.expected.values(), found.seen.retired.values()
    evidence = Evidence(found.seals, found.held, *facts, *roster)
    verdict = judge(env, evidence, start, end, hosts)
    more = [] if verdict.accounts else [f"no tailer of env {env} was found: are host, env, peer and archive right?"]
    if not found.asked and verdict.state == UNKNOWN:
        more.append("unknown: a tailer that only a buck that was not asked has met would be missing here")
    if verdict.state == COMPLETE:  # all that is stated is held, whatever else an unsure buck may hold
        return Audit(verdict, found.copies, (*found.troubles, *found.seen.troubles, *more), tuple(found.unsure))
    return Audit(verdict, found.copies, (*found.troubles, *found.seen.troubles, *found.unsure, *more))


async def look_at_archive(archive: Archive, found: Found, deep: bool = False) -> None:
    """Add what the archive's footers say; `deep`: every packet is put together again from its rows, and checked.

    An hour that is archived is over: whoever has not stated it to its end has been silent.
    """
    from porter.proof import unproved  # numpy and pyarrow are loaded where there is an archive

    seals: dict[bytes, Seal] = {}
    for name in await archive.parts():
        footer = await archive.footer(name)
        found.due = max(found.due, name.hour + HOUR_S)
        found.coverage.add_footer(footer)
        wrong = set(await unproved(archive, name)) if deep else set()
        found.troubles += [f"{name}: the rows of packet {key.number} are not what its tailer sent" for key in wrong]
        for key, packet in ((packet.key, packet) for packet in footer.packets if packet.key not in wrong):
            found.hold(packet.bucket, {Epoch(key.tailer, key.epoch): Ranges([(key.number, key.number + 1)])})
        for text in footer.seals:
            try:
                seals.setdefault(bytes(text), Seal.read(text))
            except FormatError as error:
                found.troubles.append(f"{name}: a seal that doesn't hold: {error}")
    known = {seal.data for seal in found.seals}
    found.seals += [seal for text, seal in seals.items() if text not in known]
    await look_at_verdicts(archive, found.seen)


async def look_at_bucks(cluster: Cluster, found: Found, start: int, end: int, deep: bool, tell: Tell) -> None:
    """Add what the bucks have of the buckets [start, end); 0 is open."""
    sealed = await cluster.seals()
    known = {seal.data for seal in found.seals}
    found.seals += [seal for seal in sealed.seals if seal.data not in known]
    found.troubles += sealed.forged
    found.seen.join(await ask_roster(cluster))
    signed = _Signed(found.seals) if deep else None
    found.due = (await cluster.time_s() - SEAL_LAG_S) // cluster.width * cluster.width
    buckets = [bucket.bucket for bucket in await cluster.buckets(start - start % cluster.width, end)]
    for at in range(0, len(buckets), AT_ONCE):
        tell(at, f"of {len(buckets)} buckets")
        for listed in await survey_all(cluster, buckets[at : at + AT_ONCE]):
            found.add(listed if signed is None else await _deep(cluster, listed, signed, found))
    found.troubles += [f"not asked: {member}: {member.trouble}" for member in cluster.silent]
    found.troubles = list(dict.fromkeys(found.troubles))
    if any(section.lost_after is not None for seal in found.seals for section in seal.sections):
        await found.coverage.add_bucks(cluster)
    found.asked = not cluster.silent


async def sealed_and_gone(reader: Reader, tailers: Collection[bytes]) -> list[str]:
    """Packets of these tailers that nobody has any more: any of their files may lack something, even at its end."""
    seals: list[Seal] = []
    held: defaultdict[tuple[bytes, int], Ranges] = defaultdict(Ranges)
    if reader.archive is not None:
        found = Found()
        await look_at_archive(reader.archive, found)
        seals += found.seals
        for epoch, numbers in (await reader.archive.covers()).items():
            held[epoch] |= numbers
    if reader.bucks is not None:
        cluster = reader.bucks.cluster
        for tailer in tailers:
            seals += (await cluster.seals(tailer)).seals
            for answer in await cluster.ask_all(Covered(0, tailer, (), ())):
                assert isinstance(answer.message, Intervals)
                for number, numbers in answer.message.epochs:
                    held[tailer, number] |= numbers
    gone: dict[tuple[bytes, int, int], Ranges] = {}
    for seal in seals:
        for section in seal.sections if seal.tailer in tailers else ():
            lost = section.numbers - held[seal.tailer, section.epoch]
            if lost:
                place = seal.tailer, section.epoch, section.bucket
                gone[place] = gone.get(place, Ranges()) | lost
    return [
        f"packets {numbers_text(numbers)} of {tailer.hex()}/{epoch:x} in bucket {bucket} are gone: "
        "they may have held more of this file"
        for (tailer, epoch, bucket), numbers in sorted(gone.items(), key=lambda one: one[0])
    ]


class _Signed:
    """What tailers have signed of each packet's content."""

    def __init__(self, seals: Iterable[Seal]) -> None:
        self._sections: defaultdict[tuple[bytes, int, int], list[tuple[Ranges, bytes]]] = defaultdict(list)
        for seal in seals:
            for section in seal.sections:
                place = seal.tailer, section.epoch, section.bucket
                self._sections[place].append((section.numbers, section.contents))

    def of_bucket(self, bucket: int, epochs: Iterable[Epoch]) -> dict[Key, bytes]:
        """Packet -> the first bytes of its content."""
        found: dict[Key, bytes] = {}
        for epoch in epochs:
            for numbers, contents in self._sections.get((*epoch, bucket), ()):
                for at, number in enumerate(numbers.numbers()):
                    found[Key(*epoch, number)] = contents[at * CONTENT_SIZE : (at + 1) * CONTENT_SIZE]
        return found


async def _deep(cluster: Cluster, listed: Survey, signed: _Signed, found: Found) -> Survey:
    """Fetch every copy; the survey again, with those left out that are no good."""
    contents = signed.of_bucket(listed.bucket, listed.union())
    good = Survey(listed.bucket, {}, set(listed.conflicts), listed.unsure, listed.silent)
    judged: dict[bytes, str] = {}  # digest -> what is wrong with the packet; each is decoded once
    digests: dict[Key, bytes] = {}
    for member, numbers in listed.held.items():
        good.held[member] = held = {epoch: one.copy() for epoch, one in numbers.items()}
        async with fetch(cluster, Survey(listed.bucket, {member: numbers})) as harvest:
            async for packet in harvest:
                key = packet.header.key
                if packet.digest not in judged:
                    judged[packet.digest] = _wrong(packet, contents.get(key))
                if digests.setdefault(key, packet.digest) != packet.digest:
                    good.conflicts.add(key)
                if judged[packet.digest]:
                    held[Epoch(*key[:2])].discard(key.number, key.number + 1)
                    found.troubles.append(_copy_text(listed.bucket, key, member, judged[packet.digest]))
        for epoch, missing in harvest.missing.items():
            held[epoch] -= missing
            for number in missing.numbers():
                why = "; ".join({bad.why for bad in harvest.bad}) or "listed, and not given"
                found.troubles.append(_copy_text(listed.bucket, Key(*epoch, number), member, why))
    return good


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
