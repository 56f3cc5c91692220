"""Does the archive still hold what the tailers have signed? Proved from its objects alone.

A packet's `content` is a digest over its streams' bytes and times. In the archive its rows are sorted among others',
cut by time into several row groups, and where the same bytes came twice there is a row for one packet only. All that
is needed to put it together again is there: rows name their packet, the footer names each packet's content, streams
without events, and what was dropped with the times that it had; the bytes of that are in other rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice, product
from typing import NamedTuple

import numpy as np

from porter.archived import Archive
from porter.catalog import DroppedRow, Footer, PacketRow, PartName
from porter.merge import text_of
from porter.source import Piece, Span
from protocol.content import ContentHasher
from protocol.errors import FormatError
from protocol.packet import Key

GUESSES_MAX = 64  # where a stream has other bytes at the same offsets, which of them were dropped must be tried


class _Bytes(NamedTuple):
    """A stretch of one stream of one packet. More than one text: those that it may have had."""

    stream: bytes
    first: int
    end: int
    path: bytes
    texts: tuple[bytes, ...]
    points: bytes


class _Packet:
    """A packet that is being put together."""

    def __init__(self) -> None:
        self.events = 0
        self.found: list[_Bytes] = []

    def add(self, found: _Bytes) -> None:
        self.events += len(found.points) // 8
        self.found.append(found)


async def unproved(archive: Archive, name: PartName) -> list[Key]:
    """The packets of a part whose content is not what the footer says; none, where all is well."""
    footer = await archive.footer(name)
    dropped: defaultdict[Key, list[DroppedRow]] = defaultdict(list)
    for row in footer.dropped:
        dropped[row.key].append(row)
    owed = {packet.key: packet for packet in footer.packets}
    sizes = {
        packet.key: packet.events - sum(len(row.points) for row in dropped[packet.key]) for packet in footer.packets
    }
    packets: defaultdict[Key, _Packet] = defaultdict(_Packet)
    wrong: list[Key] = []

    async def judge(key: Key) -> None:
        packet = packets.pop(key, _Packet())
        lost = [await _dropped(archive, row) for row in dropped[key]]
        if not _holds(owed.pop(key), [*packet.found, *lost]):
            wrong.append(key)

    async for key, found in _rows(archive, name, footer):
        packets[key].add(found)
        if key in owed and packets[key].events == sizes[key]:
            await judge(key)
    for key in list(owed):
        await judge(key)
    return [*wrong, *packets]  # rows of packets that the footer does not name, or more rows than these had


async def _rows(archive: Archive, name: PartName, footer: Footer) -> AsyncIterator[tuple[Key, _Bytes]]:
    """Every run of rows that are of one packet and of one stream, without a hole."""
    for number in range(len(footer.groups)):
        for piece, keys in await archive.group(name, number):
            rows, span = piece.block.rows, piece.span
            for epoch, packet, row, last in keys:
                end = rows.offsets[last] if last < piece.last else span.end
                points = np.frombuffer(rows.points, np.uint64)[row:last].tobytes()
                texts = (rows.render(row, last),)
                yield (
                    Key(span.tailer, epoch, packet),
                    _Bytes(span.stream, rows.offsets[row], end, span.path, texts, points),
                )


async def _dropped(archive: Archive, row: DroppedRow) -> _Bytes:
    """What was dropped, from the rows that have its bytes."""
    like = Span(b"", row.path, row.stream, row.key.tailer, 0, 0, 0, False, 0, row.first, row.end, 0, 0)
    pieces = [await archive.load(span) for span in await archive.overlapping(like)]
    texts = tuple(dict.fromkeys(islice(_readings(pieces, row.first, row.end), GUESSES_MAX)))
    points = np.array(row.points, np.uint64).tobytes()
    return _Bytes(row.stream, row.first, row.end, row.path, texts, points)


def _readings(pieces: Sequence[Piece], first: int, end: int) -> Iterator[bytes]:
    """Every way to read the bytes from `first` to `end`: usually one."""
    if first == end:
        yield b""
        return
    for piece in pieces:
        if piece.span.first <= first < piece.span.end:
            stop = min(piece.span.end, end)
            for rest in _readings(pieces, stop, end):
                yield text_of(piece, first, stop) + rest


def _holds(packet: PacketRow, found: Sequence[_Bytes]) -> bool:
    """Does one of the ways to read it give the packet's content?"""
    parts = sorted(found, key=lambda one: (one.stream, one.first))
    return any(_content(packet, parts, texts) for texts in islice(product(*(p.texts for p in parts)), GUESSES_MAX))


def _content(packet: PacketRow, parts: Sequence[_Bytes], texts: Sequence[bytes]) -> bool:
    hasher = ContentHasher(packet.host)
    for one in packet.empty:
        hasher.raw(one.stream, one.path, one.at, b"")
    try:
        for part, text in zip(parts, texts, strict=True):
            hasher.raw(part.stream, part.path, part.first, text, part.end)
            hasher.points(part.stream, part.path, part.points)
    except FormatError:
        return False  # bytes that step back: rows of another packet under the same key
    return hasher.digest() == packet.content
