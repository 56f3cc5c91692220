"""What one bucket file holds, by key and by stream. Pure.

A part has an `Index`: for each (tailer, epoch) a `Group`. A group's rows are columns sorted by packet number, as
arrays and not as objects, since a part may hold half a million small packets: 52 bytes a packet while the part is
open, 20 after it was closed (the digest is the packet's last 32 bytes, so it is looked up there). A number stands
twice only after a conflict: same key, other bytes; both are kept.

Streams are noted with their intervals of offsets and the numbers of the packets that hold them: that is what `list`
with a path and `covered` answer from, with no packet read. The index of a closed part lies in its footer
(`footer.py`), which keeps the streams as bytes until somebody asks.
"""

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from operator import eq
from typing import NamedTuple

from protocol.packet import Header, Packet
from protocol.ranges import Ranges

DIGEST_SIZE = 32
# What Python's objects weigh around a group's columns, and for a noted stream: so that budgets are of real memory.
GROUP_COST = 900
STREAM_COST = 1200
PACKET_COST = 52

GroupKey = tuple[bytes, int]  # tailer, epoch


class StreamKey(NamedTuple):
    """A stream under one path and host: an event keeps the path under which it was first read."""

    id: bytes
    path: bytes
    host: bytes


class StreamNote:
    """Which bytes of a stream are here, and in which packets."""

    __slots__ = ("head", "intervals", "numbers")

    def __init__(self, head: bytes, intervals: Ranges | None = None, numbers: Ranges | None = None) -> None:
        self.head = head
        self.intervals = Ranges() if intervals is None else intervals
        self.numbers = Ranges() if numbers is None else numbers


class Place(NamedTuple):
    """Where a packet lies in its file."""

    number: int
    offset: int
    size: int


Streams = dict[StreamKey, StreamNote]


class Group:
    """The packets of one tailer and epoch in one part. Invariant: the columns are equally long, `numbers` ascends."""

    __slots__ = ("_streams", "digests", "numbers", "offsets", "point_max", "point_min", "sizes")

    def __init__(self, streams: Callable[[], Streams] | None = None) -> None:
        self.numbers = array("Q")
        self.offsets = array("Q")
        self.sizes = array("I")
        self.digests: bytearray | None = bytearray() if streams is None else None
        self.point_min = (1 << 64) - 1
        self.point_max = 0
        self._streams: Streams | Callable[[], Streams] = {} if streams is None else streams

    @property
    def count(self) -> int:
        """How many packets."""
        return len(self.numbers)

    @property
    def streams(self) -> Streams:
        """The streams, read from the footer at each look if the part is closed."""
        return self._streams() if callable(self._streams) else self._streams

    def add(self, number: int, offset: int, size: int, digest: bytes) -> None:
        """Note a packet. Numbers mostly ascend; a straggler is put where it belongs."""
        assert self.digests is not None, "a closed part takes no packets"
        at = len(self.numbers)
        if at and number <= self.numbers[-1]:
            at = bisect_right(self.numbers, number)
        self.numbers.insert(at, number)
        self.offsets.insert(at, offset)
        self.sizes.insert(at, size)
        self.digests[at * DIGEST_SIZE : at * DIGEST_SIZE] = digest

    def note(self, header: Header) -> int:
        """Note the streams and points of a packet; how many streams are new."""
        assert not callable(self._streams), "a closed part takes no packets"
        self.point_min = min(self.point_min, header.point_min)
        self.point_max = max(self.point_max, header.point_max)
        notes = []
        before = len(self._streams)
        for stream in header.streams:
            key = StreamKey(stream.id, stream.path, header.host)
            note = self._streams.get(key)
            if note is None:
                note = self._streams[key] = StreamNote(stream.head)
            note.numbers.add(header.number, header.number + 1)
            notes.append(note)
        for run in header.runs:
            if run.first < run.end:
                notes[run.stream].intervals.add(run.first, run.end)
        return len(self._streams) - before

    def rows(self, number: int) -> range:
        """The rows of a number: none, one, or the sides of a conflict."""
        return range(bisect_left(self.numbers, number), bisect_right(self.numbers, number))

    def digest(self, row: int) -> bytes | None:
        """A packet's digest; None if the part is closed: then it's the last bytes of the packet."""
        return None if self.digests is None else bytes(self.digests[row * DIGEST_SIZE : (row + 1) * DIGEST_SIZE])

    def root(self) -> bytes:
        """One hash for all digests in order of number: equal roots, equal packets."""
        assert self.digests is not None
        return hashlib.blake2b(self.digests, digest_size=DIGEST_SIZE).digest()

    def ranges(self, below: int | None = None) -> Ranges:
        """The numbers held; with `below`, only of packets that begin below that offset."""
        if below is None:
            return ranges_of(self.numbers)
        return ranges_of(
            array("Q", (n for n, offset in zip(self.numbers, self.offsets, strict=True) if offset < below))
        )

    def places(self, wanted: Ranges) -> Iterator[Place]:
        """Where the wanted numbers lie."""
        for first, end in wanted:
            for row in range(bisect_left(self.numbers, first), bisect_left(self.numbers, end)):
                yield Place(self.numbers[row], self.offsets[row], self.sizes[row])

    def conflicts(self) -> Iterator[int]:
        """The numbers that stand more than once."""
        if not any(map(eq, self.numbers, self.numbers[1:])):
            return
        for row in range(1, len(self.numbers)):
            if self.numbers[row] == self.numbers[row - 1] and (row < 2 or self.numbers[row - 2] != self.numbers[row]):
                yield self.numbers[row]


class Index:
    """The groups of one part."""

    def __init__(self) -> None:
        self.groups: dict[GroupKey, Group] = {}
        self.cost = 0  # bytes of memory, about

    def add(self, packet: Packet, offset: int) -> None:
        """Note a packet that lies at `offset`."""
        header = packet.header
        group = self.groups.get((header.tailer, header.epoch))
        if group is None:
            group = self.groups[header.tailer, header.epoch] = Group()
            self.cost += GROUP_COST
        group.add(header.number, offset, len(packet.data), packet.digest)
        self.cost += PACKET_COST + STREAM_COST * group.note(header)

    def group(self, tailer: bytes, epoch: int) -> Group | None:
        return self.groups.get((tailer, epoch))

    def has(self, packet: Packet) -> bool:
        """Is this very packet here, in a part that is open?"""
        group = self.groups.get((packet.header.tailer, packet.header.epoch))
        return group is not None and any(group.digest(row) == packet.digest for row in group.rows(packet.header.number))

    def settle(self) -> None:
        """The part is closed: give up the digests, for they are in the file."""
        for group in self.groups.values():
            group.digests = None

    @property
    def packets(self) -> int:
        return sum(len(group.numbers) for group in self.groups.values())

    def check(self) -> None:
        """Invariants."""
        for group in self.groups.values():
            count = len(group.numbers)
            assert count == len(group.offsets) == len(group.sizes) > 0, "columns differ in length"
            assert group.digests is None or len(group.digests) == count * DIGEST_SIZE, "a digest a row"
            assert all(a <= b for a, b in zip(group.numbers, group.numbers[1:], strict=False)), "numbers ascend"
            held = group.ranges()
            assert all(number in held for note in group.streams.values() for number, _ in note.numbers)


def ranges_of(numbers: "array[int]") -> Ranges:
    """Ascending numbers, with or without repeats, as ranges."""
    ranges = Ranges()
    if not numbers:
        return ranges
    first = end = numbers[0]
    if numbers[-1] - first == len(numbers) - 1 and numbers == array("Q", range(first, numbers[-1] + 1)):
        return Ranges([(first, numbers[-1] + 1)])  # what nearly all are, told without a look at each
    for number in numbers:
        if number > end:
            ranges.add(first, end)
            first = number
        end = number + 1
    ranges.add(first, end)
    return ranges
