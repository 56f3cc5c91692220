"""Does the archive still hold what the tailers have signed? Proved from its objects alone.

A packet's `content` is a digest over its streams' bytes and times. In the archive its rows are sorted among others',
cut by time into several row groups, and where the same bytes came twice there is a row for one packet only. All that
is needed to put it together again is there: rows name their packet, the footer names each packet's content, streams
without events, and what was dropped with the times that it had; the bytes of that are in other rows.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from porter.archived import Archive
from porter.catalog import DroppedRow, Footer, PacketRow, PartName
from porter.merge import text_of
from porter.source import Piece, Span
from protocol.content import ContentHasher
from protocol.errors import FormatError
from protocol.packet import Key

READINGS_MAX = 256  # where a stream has other bytes at the same offsets: which were dropped must be tried


class _Bytes(NamedTuple):
    """A stretch of one stream of one packet; `rows`: it has rows of its own, it was not dropped."""

    stream: bytes
    first: int
    end: int
    path: bytes
    text: bytes
    points: tuple[int, ...]
    rows: bool = True


class _Packet:
    """A packet that is being put together."""

    def __init__(self, row: PacketRow) -> None:
        self.row = row
        self.dropped: list[DroppedRow] = []
        self.found: list[_Bytes] = []
        self.events = 0  # of those that have a row, or were dropped whole


async def unproved(archive: Archive, name: PartName) -> list[Key]:
    """The packets of a part whose content is not what the footer says; none, where all is well."""
    footer = await archive.footer(name)
    packets = _packets(footer)
    strange: dict[Key, None] = {}
    twice = {row.key for row in footer.packets} - set(packets)
    async for key, found in _rows(archive, name, footer):
        packet = packets.get(key)
        if packet is not None:
            packet.found.append(found)
            packet.events += len(found.points)
            if packet.events == packet.row.events and await _holds(archive, packet):
                packets[key] = _Packet(packet.row._replace(events=-1))  # proved, its rows can go
        elif key not in twice:
            strange[key] = None
    left = [key for key, packet in packets.items() if packet.row.events >= 0 and not await _holds(archive, packet)]
    again = [key for key, packet in packets.items() if packet.row.events < 0 and packet.found]
    return [*left, *again, *strange]


def _packets(footer: Footer) -> dict[Key, _Packet]:
    """The packets to prove: but those that share a key with another, and so can't be told apart."""
    keys = Counter(row.key for row in footer.packets)
    packets = {row.key: _Packet(row) for row in footer.packets if keys[row.key] == 1}
    for dropped in footer.dropped:
        if packet := packets.get(dropped.key):
            packet.dropped.append(dropped)
            packet.events += len(dropped.points)
    return packets


async def _rows(archive: Archive, name: PartName, footer: Footer) -> AsyncIterator[tuple[Key, _Bytes]]:
    """Every run of rows that are of one packet and of one stream, without a hole."""
    for number in range(len(footer.groups)):
        for piece, keys in await archive.group(name, number):
            rows, span = piece.block.rows, piece.span
            for epoch, packet, row, last in keys:
                end = rows.offsets[last] if last < piece.last else span.end
                found = rows.render(row, last), tuple(rows.points[row:last])
                yield Key(span.tailer, epoch, packet), _Bytes(span.stream, rows.offsets[row], end, span.path, *found)


async def _holds(archive: Archive, packet: _Packet) -> bool:
    """Do rows, dropped pieces and empty streams together give the packet's content?"""
    parts = [*packet.found, *[await _dropped(archive, row) for row in packet.dropped]]
    parts.sort(key=lambda one: (one.stream, one.first))
    hasher = ContentHasher(packet.row.host)
    for one in packet.row.empty:
        hasher.raw(one.stream, one.path, one.at, b"")
    try:
        for part in _whole_events(parts, packet.row.events):
            hasher.raw(part.stream, part.path, part.first, part.text, part.end)
            hasher.points(part.stream, part.path, np.array(part.points, np.uint64).tobytes())
    except FormatError:
        return False  # bytes that step back
    return hasher.digest() == packet.row.content


def _whole_events(parts: Sequence[_Bytes], events: int) -> Iterator[_Bytes]:
    """The parts; an event that a dropped piece has cut in two has two rows, but its point counts once."""
    excess = sum(len(part.points) for part in parts) - events
    before: tuple[bytes, int] | None = None  # stream and point of the last row
    cut = False
    for part in parts:
        if excess > 0 and cut and part.rows and (part.stream, part.points[0]) == before:
            excess -= 1
            yield part._replace(points=part.points[1:])
        else:
            yield part
        cut = not part.points
        before = (part.stream, part.points[-1]) if part.points else before


async def _dropped(archive: Archive, row: DroppedRow) -> _Bytes:
    """What was dropped, from the rows that have its bytes."""
    like = Span(b"", row.path, row.stream, row.key.tailer, 0, 0, 0, False, 0, row.first, row.end, 0, 0)
    pieces = [await archive.load(span) for span in await archive.overlapping(like)]
    readings = islice(_readings(pieces, row.first, row.end), READINGS_MAX)
    text = next((text for text in readings if zlib.crc32(text) == row.crc), b"")
    return _Bytes(row.stream, row.first, row.end, row.path, text, row.points, rows=False)


def _readings(pieces: Sequence[Piece], first: int, end: int) -> Iterator[bytes]:
    """Every way to read the bytes from `first` to `end`: usually one."""
    if first == end:
        yield b""
    for piece in pieces:
        if piece.span.first <= first < min(piece.span.end, end):
            stop = min(piece.span.end, end)
            for rest in _readings(pieces, stop, end):
                yield text_of(piece, first, stop) + rest
