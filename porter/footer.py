"""What a part of the archive proves: the footer that it carries beside its rows.

Rows can't say which packets they were (those that had none, too), which bytes of which stream lie where, what has no
row here because the same bytes stand in other rows, and what the tailers have signed. The footer does: one msgpack
array, packed by zlib, in base85, under `buck` in the file's metadata.

Packets lie together by tailer, epoch, host, bucket and class, as sets of numbers. What a packet's rows must give, its
`content`, is in the seals that are here anyway; the footer repeats it only where these don't state it.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from porter import base85
from protocol.errors import FormatError
from protocol.packed import PackedError, pack, unpack_array
from protocol.packet import Key
from protocol.ranges import Ranges

FOOTER_KEY = b"buck"
FOOTER_VERSION = 3  # another one whenever a member is added, goes, or means something else: readers know only theirs
FOOTER_MAX = 256 << 20  # unpacked; an hour of a hundred thousand streams is a tenth of it
ROWS_MAX = 1 << 24  # members of any list in a footer


class Stretch(NamedTuple):
    """Rows `row` to `last` of row group `group`: bytes `first` to `end` of one stream, without a hole.

    `check`: a crc32 over their bytes and points. It proves nothing, `content` does; but where a packet that can't be
    proved has rows in several stretches, it says which of them were changed.
    """

    group: int
    row: int
    last: int
    first: int
    end: int
    epoch: int  # and number: the packet of the first row
    number: int
    run: int  # of that packet: streams lie in a packet in the order in which they were read
    check: int


class StreamRow(NamedTuple):
    """One stream of a part, and where its rows are."""

    tailer: bytes
    stream: bytes
    host: bytes
    path: bytes
    head: bytes
    stretches: tuple[Stretch, ...]

    @property
    def covered(self) -> Ranges:
        """Which bytes of it have rows here."""
        return Ranges((stretch.first, stretch.end) for stretch in self.stretches)


class EmptyRow(NamedTuple):
    """A stream of a packet without events: an empty file."""

    stream: bytes
    path: bytes
    at: int


@dataclass(slots=True)
class Batch:
    """Packets of one tailer, epoch, bucket and class whose rows are in this part.

    `events`: of each, in the order of the numbers. `contents`: of those that no seal of this part states so, the first
    bytes. `empty`: streams without a row, of those that have any. Two packets of one key are in two batches.
    """

    tailer: bytes
    epoch: int
    host: bytes
    bucket: int
    late: bool
    kind: int  # the class, as its code
    numbers: Ranges = field(default_factory=Ranges)
    events: tuple[int, ...] = ()
    contents: dict[int, bytes] = field(default_factory=dict)
    empty: dict[int, tuple[EmptyRow, ...]] = field(default_factory=dict)

    def each_key(self) -> Iterator[Key]:
        """The packets' keys."""
        return (Key(self.tailer, self.epoch, number) for number in self.numbers.numbers())


class DroppedRow(NamedTuple):
    """A piece of a packet that has no rows here, because the same bytes stand in other rows.

    `crc`: of the bytes; it says which rows, where a stream has two versions at these offsets.
    """

    key: Key
    stream: bytes
    path: bytes
    first: int
    end: int
    crc: int
    points: tuple[int, ...]


class GroupRow(NamedTuple):
    """One row group: how many rows, between which points (both included), and the digest of what they render to."""

    rows: int
    low: int
    high: int
    digest: bytes


@dataclass(slots=True)
class Footer:
    """What a part proves. Everything but `version` is as the writer knew it when it wrote."""

    env: str
    width: int
    hour: int
    groups: list[GroupRow] = field(default_factory=list)
    packets: list[Batch] = field(default_factory=list)
    streams: list[StreamRow] = field(default_factory=list)
    dropped: list[DroppedRow] = field(default_factory=list)
    seals: list[bytes] = field(default_factory=list)
    libraries: dict[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many packets."""
        return sum(len(batch.events) for batch in self.packets)

    def each_key(self) -> Iterator[Key]:
        """Of all its packets."""
        return (key for batch in self.packets for key in batch.each_key())

    def encode(self) -> bytes:
        """The bytes for the file's metadata."""
        document = (
            FOOTER_VERSION,
            self.env,
            self.width,
            self.hour,
            [tuple(group) for group in self.groups],
            [_batch_out(batch) for batch in self.packets],
            [(*stream[:5], [edge for stretch in stream.stretches for edge in stretch]) for stream in self.streams],
            [_dropped_out(dropped) for dropped in self.dropped],
            self.seals,
            sorted(self.libraries.items()),
        )
        return base85.encode(zlib.compress(pack(document), 9))

    @classmethod
    def decode(cls, data: bytes, name: str) -> Footer:
        """The footer of the object `name`. FormatError if it is none, or of a version that is not known here."""
        try:
            version, *members = unpack_array(_unpack(base85.decode(data)), ROWS_MAX)
            if version != FOOTER_VERSION:
                raise FormatError(
                    f"{name}: footer of version {version}, this porter reads {FOOTER_VERSION}: {_advice(version)}"
                )
            env, width, hour, groups, packets, streams, dropped, seals, libraries = _lists(members)
            return cls(
                str(env),
                int(width),
                int(hour),
                [GroupRow(int(rows), int(low), int(high), _bytes(digest)) for rows, low, high, digest in groups],
                [_batch_in(row) for row in packets],
                [_stream_in(row) for row in streams],
                [_dropped_in(row) for row in dropped],
                [_bytes(seal) for seal in seals],
                {str(library): str(number) for library, number in libraries},
            )
        except (ValueError, TypeError, PackedError, zlib.error) as error:
            raise FormatError(f"{name}: its footer can't be read ({error}); was the object changed?") from error


class Check:
    """A stretch's `check`, row after row."""

    def __init__(self) -> None:
        self._text = self._points = 0

    def add(self, text: bytes | memoryview, points: bytes | memoryview) -> None:
        """The next rows: their bytes, and their points as they lie in memory."""
        self._text, self._points = zlib.crc32(text, self._text), zlib.crc32(points, self._points)

    @property
    def value(self) -> int:
        return zlib.crc32(self._points.to_bytes(4, "big"), self._text)


def held_in(footers: Iterable[Footer]) -> dict[tuple[bytes, int], Ranges]:
    """The packets that some part holds already, of each (tailer, epoch)."""
    found: defaultdict[tuple[bytes, int], list[Ranges]] = defaultdict(list)
    for footer in footers:
        for batch in footer.packets:
            found[batch.tailer, batch.epoch].append(batch.numbers)
    return {epoch: Ranges.union(numbers) for epoch, numbers in found.items()}


def held_by_bucket(footers: Iterable[Footer]) -> dict[tuple[bytes, int], dict[int, Ranges]]:
    """The same by bucket: (tailer, epoch) -> bucket -> numbers."""
    found: defaultdict[tuple[bytes, int], defaultdict[int, list[Ranges]]] = defaultdict(lambda: defaultdict(list))
    for footer in footers:
        for batch in footer.packets:
            found[batch.tailer, batch.epoch][batch.bucket].append(batch.numbers)
    return {
        epoch: {bucket: Ranges.union(numbers) for bucket, numbers in buckets.items()}
        for epoch, buckets in found.items()
    }


def _advice(version: object) -> str:
    later = isinstance(version, int) and version > FOOTER_VERSION
    return "update it" if later else "read it with the porter that wrote it"


def _bytes(value: object) -> bytes:
    """A byte string; never `bytes(number)`, which is as many zeros."""
    if type(value) is not bytes:
        raise TypeError(f"{type(value).__name__} where bytes should be")
    return value


def _lists(members: Sequence[object]) -> list[Any]:
    if len(members) != 9:
        raise ValueError(f"{len(members)} members")
    return list(members)


def _batch_out(batch: Batch) -> tuple[Any, ...]:
    facts = batch.tailer, batch.epoch, batch.host, batch.bucket, batch.late, batch.kind
    empty = [(number, *one) for number, some in sorted(batch.empty.items()) for one in some]
    return *facts, _steps(batch.numbers.flat()), batch.events, sorted(batch.contents.items()), empty


def _batch_in(row: Sequence[Any]) -> Batch:
    tailer, epoch, host, bucket, late, kind, steps, events, contents, without = row
    numbers, events = Ranges.from_flat(_sums(steps)), tuple(events)
    if len(events) != numbers.count or not all(type(count) is int for count in events):
        raise ValueError(f"{len(events)} counts of events for {numbers.count} packets")
    empty: dict[int, tuple[EmptyRow, ...]] = {}
    for number, stream, path, at in without:
        empty[int(number)] = (*empty.get(int(number), ()), EmptyRow(_bytes(stream), _bytes(path), int(at)))
    facts = _bytes(tailer), int(epoch), _bytes(host), int(bucket), bool(late), int(kind)
    return Batch(*facts, numbers, events, {int(number): _bytes(digest) for number, digest in contents}, empty)


def _stream_in(row: Sequence[Any]) -> StreamRow:
    tailer, stream, host, path, head, edges = row
    if len(edges) % len(Stretch._fields):
        raise ValueError(f"{len(edges)} members in stretches")
    width = len(Stretch._fields)
    stretches = tuple(Stretch(*map(int, edges[at : at + width])) for at in range(0, len(edges), width))
    return StreamRow(_bytes(tailer), _bytes(stream), _bytes(host), _bytes(path), _bytes(head), stretches)


def _dropped_out(row: DroppedRow) -> list[Any]:
    return [*row.key, row.stream, row.path, row.first, row.end, row.crc, _steps(row.points)]


def _dropped_in(row: Sequence[Any]) -> DroppedRow:
    tailer, epoch, number, stream, path, first, end, crc, steps = row
    key = Key(_bytes(tailer), int(epoch), int(number))
    return DroppedRow(key, _bytes(stream), _bytes(path), int(first), int(end), int(crc), tuple(_sums(steps)))


def _steps(values: Sequence[int]) -> list[int]:
    return [value - before for before, value in pairwise((0, *values))]


def _sums(steps: Sequence[Any]) -> list[int]:
    sums, at = [], 0
    for step in steps:
        at += int(step)
        sums.append(at)
    return sums


def _unpack(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(data, FOOTER_MAX)
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ValueError("it is cut off, or larger than any footer")
    return text
