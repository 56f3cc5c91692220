"""What the source had, whatever it is stored as: the `content` of a packet's header, which seals repeat.

A digest of the packet's bytes says that a copy is the copy; it says nothing once events lie in an archive in another
order and another compression. `content` is computed from the events themselves, so that whoever can render the rows,
from bucks or from the archive, can show that they are what the tailer has read and signed:

    BLAKE3-256 of  "buck content 1" | streams u32 | of each stream, in the order of its id:
        id 16 | path u16 + bytes | host u16 + bytes
        intervals u32 | of each, ascending, touching ones joined: first u64 | end u64
        BLAKE3-256 of the raw bytes there, 32 | BLAKE3-256 of the points of the events there, 32

Integers are big-endian, as everywhere outside columns; the points are hashed as they lie in memory and in columns, as
**little-endian** u64, so that nobody has to turn 131,072 of them around. A stream without events (an empty file) has
no interval and two digests of nothing.

There is one hasher a stream. It is fed as blocks pass, raw bytes and points separately, because the tailer has the
first per block and the second per packet. It refuses bytes that step back: one stream's offsets only grow in a packet.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from blake3 import blake3

from protocol.columns import RunLike
from protocol.errors import ColumnsError

_CONTEXT: Final = b"buck content 1"

Buffer = bytes | bytearray | memoryview


class Part(NamedTuple):
    """One stream's part of a statement of content."""

    id: bytes
    path: bytes
    host: bytes
    intervals: list[tuple[int, int]]
    raw_digest: bytes
    points_digest: bytes


def content(parts: Iterable[tuple[bytes, bytes, bytes, list[tuple[int, int]], bytes, bytes]]) -> bytes:
    """The statement over these streams; their order does not matter."""
    ordered = [Part(*part) for part in sorted(parts, key=lambda part: part[0])]
    pieces = [_CONTEXT, struct.pack(">I", len(ordered))]  # short: one call of the hasher is cheaper than many
    for part in ordered:
        pieces.append(part.id)
        for text in (part.path, part.host):
            pieces += struct.pack(">H", len(text)), text
        flat = [offset for interval in part.intervals for offset in interval]
        pieces.append(struct.pack(f">I{len(flat)}Q", len(part.intervals), *flat))
        pieces += part.raw_digest, part.points_digest
    return blake3(b"".join(pieces)).digest()


class _Stream:
    """What has been fed of one stream. Invariant: intervals are ascending, disjoint and do not touch."""

    __slots__ = ("intervals", "path", "points", "raw")

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.intervals: list[tuple[int, int]] = []
        self.raw = blake3()
        self.points = blake3()

    def extend(self, first: int, end: int) -> None:
        if not self.intervals or first > self.intervals[-1][1]:
            self.intervals.append((first, end))
        elif first == self.intervals[-1][1]:
            self.intervals[-1] = (self.intervals[-1][0], end)
        else:
            raise ColumnsError(f"offset {first} comes after {self.intervals[-1][1]} in one packet")


class ContentHasher:
    """Gathers one packet's content: `raw` and `points` for each run, in row order, then `digest`."""

    def __init__(self, host: bytes) -> None:
        self._host = host
        self._streams: dict[bytes, _Stream] = {}

    def _stream(self, stream_id: bytes, path: bytes) -> _Stream:
        stream = self._streams.get(stream_id)
        if stream is None:
            stream = self._streams[stream_id] = _Stream(path)
        return stream

    def raw(self, stream_id: bytes, path: bytes, first: int, data: Buffer, end: int | None = None) -> None:
        """The stream's bytes from offset `first` on; `end` is told where offsets do not count bytes (messages).

        No bytes at all make the stream known without an interval: an empty file."""
        stream = self._stream(stream_id, path)
        end = first + len(data) if end is None else end
        if end > first:
            stream.extend(first, end)
            stream.raw.update(data)

    def points(self, stream_id: bytes, path: bytes, points: Buffer) -> None:
        """The points of the stream's next events: u64 in memory order, as `Columns.points` and `Rows.points` are."""
        self._stream(stream_id, path).points.update(memoryview(points).cast("B"))

    def digest(self) -> bytes:
        """The statement over all that was fed."""
        return content(
            (key, s.path, self._host, s.intervals, s.raw.digest(), s.points.digest())
            for key, s in self._streams.items()
        )


class StreamLike(Protocol):
    """What is needed of a `packet.StreamRef`."""

    @property
    def id(self) -> bytes: ...
    @property
    def path(self) -> bytes: ...


class RowsLike(Protocol):
    """What is needed of the kernel's `Rows`."""

    @property
    def points(self) -> memoryview: ...
    def render(self, first: int = 0, last: int | None = None) -> bytes: ...


def rows_content(host: bytes, streams: Sequence[StreamLike], runs: Sequence[RunLike], rows: RowsLike) -> bytes:
    """The content of decoded rows, to be compared with what their packet's header claims."""
    hasher = ContentHasher(host)
    row = 0
    points = rows.points
    for index, first, end, count, _start in runs:
        if index >= len(streams):
            raise ColumnsError(f"run of stream {index} in a packet of {len(streams)}")
        stream = streams[index]
        hasher.raw(stream.id, stream.path, first, rows.render(row, row + count), end)
        hasher.points(stream.id, stream.path, points[row : row + count])
        row += count
    return hasher.digest()
