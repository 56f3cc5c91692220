"""What must be true at the end of a simulated cluster's life, by what was written and nothing else.

Nothing that was written is lost, nothing comes twice, nothing comes that was never written: each file of each writer
comes back byte for byte, from the bucks, and from the archive with the bucks gone; no two rows of the archive's Parquet
objects have one identity. The bucks' disks are scanned for the copies of each packet. The product's audit has to agree.
"""

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow.parquet

from buck.remnant import decode
from porter.account import COMPLETE, INCOMPLETE
from protocol.ranges import Ranges
from tests.simulation.loss import REMNANT, Lost, packets_in, stored
from tests.simulation.machine import Host
from tests.simulation.writers import Writer


class WrongError(AssertionError):
    """Something that was promised isn't true."""


class Copy(NamedTuple):
    """A file as a reader gave it, and the stretches (first, end) that it said are missing before or between."""

    data: bytes
    gaps: tuple[tuple[int, int], ...] = ()


def compare(where: str, writers: Sequence[Writer], found: Sequence[Copy], lost: int = 0) -> None:
    """The files found of one host, against those its writers wrote, in any order; exactly `lost` bytes are missing."""
    wanted = Counter(bytes(file) for writer in writers for file in writer.files if file)
    if lost:
        _compare_rest(where, list(wanted.elements()), found, lost)
        return
    if any(one.gaps for one in found):
        raise WrongError(f"{where}: gaps where nothing is lost: {[one.gaps for one in found]}")
    got = Counter(one.data for one in found if one.data)
    if wanted == got:
        return
    missing, more = list((wanted - got).elements()), list((got - wanted).elements())
    texts = [f"{where}: {len(missing)} of {sum(wanted.values())} files are not as they were written"]
    for one in missing:
        near = max(more, key=lambda other: _alike(one, other), default=b"")
        texts.append(_difference(one, near))
    texts += [f"a file of {len(one)} bytes that nobody wrote: {one[:60]!r}" for one in more[len(missing) :]]
    raise WrongError("\n  ".join(texts))


def _compare_rest(where: str, wanted: list[bytes], found: Sequence[Copy], lost: int) -> None:
    """Each copy is one of the files but for the gaps that it tells, and its end; together these are what is lost."""
    missing = 0
    for copy in sorted((one for one in found if one.data), key=lambda one: -len(one.data)):
        lacks = {at: count for at, file in enumerate(wanted) if (count := _lacks(file, copy)) >= 0}
        if not lacks:
            raise WrongError(f"{where}: a file of {len(copy.data)} bytes and gaps {copy.gaps} that nobody wrote")
        best = min(lacks, key=lambda at: (lacks[at], at))
        missing += lacks[best]
        del wanted[best]
    missing += sum(map(len, wanted))
    if missing != lost:
        raise WrongError(f"{where}: {missing} bytes are missing, and {lost} were destroyed")


def _lacks(file: bytes, copy: Copy) -> int:
    """How many bytes of a file this copy of it lacks, as it says; -1: it is none of it."""
    at = taken = 0
    for first, end in copy.gaps:
        if copy.data[taken : taken + first - at] != file[at:first]:
            return -1
        taken, at = taken + first - at, end
    rest = copy.data[taken:]
    return len(file) - len(copy.data) if file[at : at + len(rest)] == rest else -1


def check_gaps(document: dict[str, Any], lost: Lost, promised: bool) -> None:
    """An audit names exactly these packets as lost, and nothing else is wrong or unsure.

    A file with a gap can't prove any more that what a crash took of an epoch's end was read again.
    """
    told: dict[tuple[bytes, int, int], Ranges] = {}
    for account in document["tailers"]:
        for gap in account["incomplete"]:
            place = bytes.fromhex(account["tailer"]), int(gap["epoch"], 16), gap["bucket"]
            told[place] = told.get(place, Ranges()) | Ranges.from_flat(gap["numbers"])
            if gap["allowed"] == promised:
                raise WrongError(f"a gap is called allowed: {gap['allowed']}, of a class that promises: {promised}")
        holed = bool(account["incomplete"])
        unknown = [one for one in account["unknown"] if not (holed and one["reason"].endswith(" was lost in a crash"))]
        if unknown or account["conflicts"] or account["dropped"] or account["unread"]:
            raise WrongError(f"more than the gap is wrong with {account['host']}: {account}")
    if told != lost.packets or document["state"] != (INCOMPLETE if lost.packets else COMPLETE):
        raise WrongError(f"destroyed: {lost.packets}; told as {document['state']}: {told}")


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
        more = [one for one in account["unknown"] if (one["from"], one["to"]) != (after, 0)]
        if any(one not in other["unknown"] for one in more) or any(account[name] != other[name] for name in STATED):
            raise WrongError(f"the archive alone says of {account['host']} {account}, the bucks {other}")


def copies(hosts: Sequence[Host]) -> dict[tuple[bytes, int, int], set[str]]:
    """Which hosts hold each packet, by what lies on their disks: only good ones count."""
    found: defaultdict[tuple[bytes, int, int], set[str]] = defaultdict(set)
    for host in hosts:
        for node in stored(host.platter.root):
            data = bytearray(node.data)
            for start, end in node.holes:
                data[start:end] = bytes(max(0, min(end, len(data)) - start))  # in the cache, and nowhere else
            for _, _, header in packets_in(data):
                found[header.key].add(host.name)
    return found


def let_go(hosts: Iterable[Host]) -> dict[tuple[bytes, int], Ranges]:
    """The packets of each (tailer, epoch) that one of these hosts has dropped as archived, by its disks."""
    found: dict[tuple[bytes, int], Ranges] = {}
    for node in (node for host in hosts for node in stored(host.platter.root, (REMNANT,))):
        for epoch, gone in decode(bytes(node.data)).groups.items():
            found[epoch] = found.get(epoch, Ranges()) | gone.numbers
    return found


def check_copies(
    hosts: Sequence[Host], wanted: int, spare: set[str], archived: Mapping[tuple[bytes, int], Ranges]
) -> None:
    """Each packet is on so many hosts, but for what one of them dropped, and is in the archive indeed; of those in
    `spare` one copy may be bad."""
    dropped = let_go(hosts)
    for key, names in copies(hosts).items():
        if key[2] in archived.get(key[:2], ()) and key[2] in dropped.get(key[:2], ()):
            continue
        if len(names | spare) < min(wanted, len(hosts)) or len(names) < min(wanted, len(hosts)) - len(spare):
            raise WrongError(f"packet {key[2]} of {key[0].hex()}/{key[1]:x} is on {sorted(names)} only")
