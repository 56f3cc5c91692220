"""Is every line that was written there exactly once? An oracle that knows nothing of the product.

It is told what was written and what came back, as bytes, and says what is wrong in words. For a file that comes back
from `porter cat` the question is simple: the bytes are equal, or they aren't; if not, it says how: lines that are lost
(at the beginning, in the middle, at the end), lines that came twice, lines that nobody wrote, lines with other bytes
under the same name, lines in another order. The archive is read by DuckDB, from the Parquet files alone; copies are
counted in the bucks' files, from the envelope that docs/FILES.md draws; so are the packets that are gone, against
which the gaps that an audit tells are held, number by number.

`judge` sums it up as *valid*, *invalid* or *unknown*: while something is still on its way, the end of a file may be
missing and nothing follows from that; any other difference is a broken promise at any time.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import duckdb
import msgpack
from blake3 import blake3

ID = re.compile(rb"\bw\d+-\d+\b")
NO_END = 2  # flags of a row whose line has no end, or goes on in the next row
NOT_WHOLE = 4 | NO_END
PREFIX = struct.Struct(">4sII")  # a packet: magic, size of the header, size of the body; both follow, then the digest
MAGIC, DIGEST_SIZE = b"BUK1", 32


@dataclass
class Judgement:
    """The verdict on some files, and why."""

    verdict: Literal["valid", "invalid", "unknown"] = "valid"
    why: list[str] = field(default_factory=list)


def judge(written: Mapping[str, Sequence[bytes]], back: Mapping[str, bytes], *, drained: bool) -> Judgement:
    """All files at once. `drained`: whoever had to deliver said that everything is delivered."""
    found = Judgement()
    for path, lines in written.items():
        data = back.get(path, b"")
        wrong = differences(lines, data)
        if not wrong:
            continue
        found.why += [f"{path}: {text}" for text in wrong]
        late = not drained and b"".join(lines).startswith(data)
        if not late:
            found.verdict = "invalid"
        elif found.verdict == "valid":
            found.verdict = "unknown"
    phantoms = sorted(back.keys() - written.keys())
    if phantoms:
        found.verdict = "invalid"
        found.why += [f"phantom: a file that nobody wrote: {path}" for path in phantoms]
    return found


def differences(written: Sequence[bytes], back: bytes) -> list[str]:
    """How `back` differs from these lines, one after another; nothing if it doesn't."""
    if b"".join(written) == back:
        return []
    returned = back.splitlines(keepends=True) if b"\r" not in back else _split(back)
    ours, theirs = _by_name(written), _by_name(returned)
    found = []
    lost = [n for n, name in enumerate(ours) if name not in theirs]
    if lost:
        first, last = lost[0], lost[-1]
        place = "prefix" if last < len(lost) else "postfix" if len(ours) - first == len(lost) else "middle"
        found.append(f"lost {len(lost)} lines of {len(ours)} ({place}): {_names(ours, lost)}")
    found += [f"twice: {name!r} x{len(lines)}" for name, lines in theirs.items() if name and len(lines) > 1][:5]
    found += [f"phantom: {name!r}" for name in theirs if name not in ours][:5]
    found += [f"corrupt: {name!r}" for name in ours if name and name in theirs and ours[name] != theirs[name]][:5]
    if not lost and [name for name in ours if name] != [name for name in theirs if name]:
        found.append("in another order")
    if len(ours.get(b"", ())) != len(theirs.get(b"", ())):
        found.append(f"lines without a name: {len(ours.get(b'', ()))} written, {len(theirs.get(b'', ()))} came back")
    at = next((i for i, (a, b) in enumerate(zip(b"".join(written), back, strict=False)) if a != b), len(back))
    return [*found, f"{len(back)} bytes for {sum(map(len, written))}, equal up to {at}"]


@dataclass(frozen=True)
class Counts:
    """How many lines were written, and in how many of them what came back differs."""

    written: int = 0
    lost: int = 0
    duplicates: int = 0
    phantoms: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.written + other.written,
            self.lost + other.lost,
            self.duplicates + other.duplicates,
            self.phantoms + other.phantoms,
        )


def count(written: Mapping[str, Sequence[bytes]], back: Mapping[str, bytes]) -> Counts:
    """All files at once, each as a bag of lines: one with other bytes is lost, and a phantom."""
    total = Counts()
    for path in written.keys() | back.keys():
        ours, theirs = Counter(written.get(path, ())), Counter(_split(back.get(path, b"")))
        more = theirs - ours
        twice = sum(n for line, n in more.items() if line in ours)
        total += Counts(ours.total(), (ours - theirs).total(), twice, more.total() - twice)
    return total


def _split(data: bytes) -> list[bytes]:
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _by_name(lines: Sequence[bytes]) -> dict[bytes, list[bytes]]:
    """Lines by their id; those without one under the empty one."""
    found: dict[bytes, list[bytes]] = {}
    for line in lines:
        match = ID.search(line)
        found.setdefault(match[0] if match else b"", []).append(line)
    return found


def _names(ours: Mapping[bytes, object], places: Sequence[int]) -> str:
    names = list(ours)
    return ", ".join(repr(names[place]) for place in places[:3]) + (" ..." if len(places) > 3 else "")


def copies(nodes: Iterable[Iterable[Path]]) -> Counter[bytes]:
    """On how many nodes each packet lies, by its digest. A node is given as its bucket files; damaged packets count
    for nothing, and two on one node for one."""
    return Counter(
        digest for files in nodes for digest in {packet[-DIGEST_SIZE:] for file in files for packet in packets_in(file)}
    )


class Key(NamedTuple):
    """A packet's name, and the window it is filed in."""

    tailer: str  # in hexadecimal, as the epoch
    epoch: str
    bucket: int
    number: int


def keys(files: Iterable[Path]) -> set[Key]:
    """The names of the good packets in some bucket files."""
    return {key_of(packet) for file in files for packet in packets_in(file)}


def key_of(packet: bytes) -> Key:
    """From its header, as docs/FILES.md draws it."""
    header = msgpack.unpackb(packet[PREFIX.size : PREFIX.size + PREFIX.unpack_from(packet)[1]])
    return Key(header[4].hex(), f"{header[6]:x}", header[2], header[7])


def gap_differences(audit: Mapping[str, Any], gone: Collection[Key]) -> list[str]:
    """How the gaps in an audit's JSON differ from the packets that are gone; nothing if they are told exactly."""
    told = Counter(
        Key(account["tailer"], gap["epoch"], gap["bucket"], number)
        for account in audit["tailers"]
        for gap in account["incomplete"]
        for start, end in zip(gap["numbers"][::2], gap["numbers"][1::2], strict=True)
        for number in range(start, end)
    )
    state = "incomplete" if gone else "complete"
    found = [] if audit["state"] == state else [f"called {audit['state']}, and it is {state}"]
    found += [f"gone, and not told: {key}" for key in sorted(set(gone) - told.keys())]
    found += [f"told, and not gone: {key}" for key in sorted(told.keys() - set(gone))]
    return [*found, *(f"told {times} times: {key}" for key, times in sorted(told.items()) if times > 1)]


def packets_in(file: Path) -> Iterator[bytes]:
    """The good packets of a bucket file, whole."""
    data = file.read_bytes()
    at = data.find(MAGIC)
    while at >= 0:
        size = 0
        if at + PREFIX.size <= len(data):
            size = PREFIX.size + sum(PREFIX.unpack_from(data, at)[1:]) + DIGEST_SIZE
        digest = data[at + size - DIGEST_SIZE : at + size]
        good = 0 < size <= len(data) - at and blake3(data[at : at + size - DIGEST_SIZE]).digest() == digest
        if good:
            yield data[at : at + size]
        at = data.find(MAGIC, at + (size if good else 1))


def parquet_lines(folder: Path) -> dict[str, int]:
    """How many whole lines each path has in the archive's objects, whatever they say."""
    return _counts(folder, f"(flags & {NOT_WHOLE}) = 0")


def parquet_unfinished(folder: Path) -> dict[str, int]:
    """How many rows of each path are lines without an end. A file has one at most, its last."""
    return _counts(folder, f"(flags & {NO_END}) <> 0")


def parquet_equal(folder: Path, line: bytes) -> dict[str, int]:
    """How many rows of each path are exactly this line."""
    return _counts(folder, f"line = '{line.decode()}'")


def parquet_names(folder: Path) -> Counter[bytes]:
    """How often each `w<writer>-<n>` is there."""
    rows = _query(folder, "SELECT regexp_extract(line, '\\bw\\d+-\\d+\\b') AS name FROM {} WHERE name <> ''")
    return Counter(str(name).encode() for (name,) in rows)


def _counts(folder: Path, where: str) -> dict[str, int]:
    return {
        str(path): int(n) for path, n in _query(folder, f"SELECT path, count(*) FROM {{}} WHERE {where} GROUP BY 1")
    }


def _query(folder: Path, text: str) -> list[tuple[object, ...]]:
    source = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = false)"
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        return connection.execute(text.format(source)).fetchall()


def expected_names(lines: Sequence[bytes]) -> Counter[bytes]:
    """The same of what was written."""
    return Counter(match[0] for match in map(ID.search, lines) if match)
