"""What must be true at the end of a simulated cluster's life, by what was written and nothing else.

Nothing that was written is lost, nothing comes twice, nothing comes that was never written: each file of each writer
comes back byte for byte, from the bucks, and from the archive with the bucks gone; no two rows of the archive's Parquet
objects have one identity. The bucks' disks are scanned for the copies of each packet. The product's audit has to agree.
"""

import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pyarrow.parquet

from protocol.packet import peek, read
from tests.simulation.machine import Host
from tests.simulation.platter import Folder, Inode
from tests.simulation.writers import Writer

MAGIC = b"BUK1"


class WrongError(AssertionError):
    """Something that was promised isn't true."""


def compare(where: str, writers: Sequence[Writer], found: Sequence[bytes]) -> None:
    """The files found of one host, against those its writers wrote, in any order."""
    wanted = Counter(bytes(file) for writer in writers for file in writer.files if file)
    got = Counter(one for one in found if one)
    if wanted == got:
        return
    missing, more = list((wanted - got).elements()), list((got - wanted).elements())
    texts = [f"{where}: {len(missing)} of {sum(wanted.values())} files are not as they were written"]
    for one in missing:
        near = max(more, key=lambda other: _alike(one, other), default=b"")
        texts.append(_difference(one, near))
    texts += [f"a file of {len(one)} bytes that nobody wrote: {one[:60]!r}" for one in more[len(missing) :]]
    raise WrongError("\n  ".join(texts))


def _alike(one: bytes, other: bytes) -> int:
    """How many bytes are the same from the start."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def _difference(wanted: bytes, found: bytes) -> str:
    at = _alike(wanted, found)
    return (
        f"{len(found)} bytes instead of {len(wanted)}, and from {at} on "
        f"{found[at : at + 50]!r} instead of {wanted[at : at + 50]!r}"
    )


def check_rows(objects: dict[str, bytes]) -> int:
    """No identity stands twice in the archive's objects, read without any code of ours. Returns the rows."""
    seen: set[tuple[object, ...]] = set()
    rows = 0
    for name, data in sorted(objects.items()):
        if name.endswith(".parquet"):
            table = pyarrow.parquet.read_table(io.BytesIO(data), columns=["tailer", "stream", "offset"])
            rows += table.num_rows
            for identity in zip(*(column.to_pylist() for column in table.columns), strict=True):
                if identity[2] is not None:  # null: it begins where the row before ends
                    if identity in seen:
                        raise WrongError(f"{name}: {identity} is there twice")
                    seen.add(identity)
    return rows


STATED = ("host", "packets", "events", "raw", "unstated", "dropped", "unread", "incomplete", "conflicts")


def check_verdict(document: dict[str, Any], bucks: dict[str, Any]) -> None:
    """An audit of the archive alone proves all that one of the bucks does: the same packets, losses and conflicts.

    Only how long a tailer lived after its last packet may bucks alone tell: its last seals wait for the next part.
    """
    known = {account["tailer"]: account for account in bucks["tailers"]}
    if known.keys() != {account["tailer"] for account in document["tailers"]}:
        raise WrongError(f"the archive alone knows {len(document['tailers'])} tailers, the bucks {len(known)}")
    for account in document["tailers"]:
        other, after = known[account["tailer"]], account["seal"]["until"]
        unknown = [one for one in account["unknown"] if (one["from"], one["to"]) != (after, 0)]
        if unknown or any(account[name] != other[name] for name in STATED):
            raise WrongError(f"the archive alone says of {account['host']} {account}, the bucks {other}")


def copies(hosts: Sequence[Host]) -> dict[tuple[bytes, int, int], set[str]]:
    """Which hosts hold each packet, by what lies on their disks: only good ones count."""
    found: defaultdict[tuple[bytes, int, int], set[str]] = defaultdict(set)
    for host in hosts:
        for data in _stored(host.platter.root):
            for key in _keys(data):
                found[key].add(host.name)
    return found


def check_copies(hosts: Sequence[Host], wanted: int, spare: set[str]) -> None:
    """Each packet is on so many hosts; of those in `spare` one copy may be bad."""
    for key, names in copies(hosts).items():
        if len(names | spare) < min(wanted, len(hosts)) or len(names) < min(wanted, len(hosts)) - len(spare):
            raise WrongError(f"packet {key[2]} of {key[0].hex()}/{key[1]:x} is on {sorted(names)} only")


def _keys(data: bytes) -> list[tuple[bytes, int, int]]:
    found = []
    at = data.find(MAGIC)
    while at >= 0:
        try:
            size = peek(data, at)
            header = read(data[at : at + size]).header
            found.append((header.tailer, header.epoch, header.number))
            at += size - 1
        except Exception:  # whatever a packet's reader says of bytes that are none
            pass
        at = data.find(MAGIC, at + 1)
    return found


def _stored(folder: Folder) -> list[bytes]:
    found: list[bytes] = []
    for name, node in folder.names.items():
        if isinstance(node, Folder):
            found += _stored(node)
        elif isinstance(node, Inode) and name.endswith((b".open", b".closed", b".bad")):
            data = bytearray(node.data)
            for start, end in node.holes:
                data[start:end] = bytes(max(0, min(end, len(data)) - start))  # in the cache, and nowhere else
            found.append(bytes(data))
    return found
