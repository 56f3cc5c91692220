"""Does a part of the archive still hold what the tailers have signed? Proved from its objects alone.

    rows -> rendered bytes and points -> `content` -> 16 bytes in a seal -> the seal's signature

A packet's `content` is a digest over its streams' bytes and times. In the archive its rows are sorted among others',
cut by time into several row groups, and where the same bytes came twice there is a row for one packet only. All that
is needed to put it together again is there: rows name their packet, the footer names streams without events, and what
was dropped with the times that it had; the bytes of that are in other rows, of this part or another.

Row groups are read as they are, not as the footer says they are; where the two differ, that is damage, and named by
row group, stream and offsets, like a packet that does not give what was signed of it.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from porter.archived import Archive
from porter.catalog import PartName
from porter.damage import Damage
from porter.footer import DroppedRow, EmptyRow, Footer
from porter.layout import Found, laid_out, layout_damage
from porter.merge import text_of
from porter.parquet_read import Run
from porter.part import rows_digest
from porter.signed import Signed
from porter.source import Block, Piece, Span
from protocol.content import ContentHasher
from protocol.errors import FormatError
from protocol.packet import Key
from protocol.ranges import Ranges
from protocol.seal import CONTENT_SIZE

__all__ = ["damage_of"]

READINGS_MAX = 256  # where a stream has other bytes at the same offsets: which were dropped must be tried


class _Bytes(NamedTuple):
    """A stretch of one stream of one packet; `group`: its rows are there, -1: it was dropped."""

    stream: bytes
    first: int
    end: int
    path: bytes
    text: bytes
    points: tuple[int, ...]
    group: int = -1


class _Packet:
    """A packet that is being put together. `content`: what its rows must give; None: nobody says."""

    def __init__(self, host: bytes, events: int, content: bytes | None, empty: Sequence[EmptyRow]) -> None:
        self.host, self.events, self.content, self.empty = host, events, content, empty
        self.dropped: list[DroppedRow] = []
        self.found: list[_Bytes] = []
        self.seen = 0  # events that have a row, or were dropped whole
        self.proved = False


async def damage_of(archive: Archive, name: PartName, signed: Signed) -> AsyncGenerator[Damage, None]:
    """All that is not as it was written in one part. FormatError if it has no footer that can be read."""
    footer = await archive.footer(name)
    proof = _Proof(archive, str(name), footer, signed)
    count = await archive.group_count(name)
    if count != len(footer.groups):
        yield Damage(str(name), f"{count} row groups, not {len(footer.groups)}")
    for number in range(count):
        try:
            block, runs, mended = await archive.whole(name, number)
        except FormatError as error:
            yield Damage(str(name), str(error).removeprefix(f"{name}: row group {number}: "), number)
            proof.harmed.add(number)
            continue
        for damage in await proof.group(number, block, runs, mended):
            yield damage
    for damage in await proof.rest():
        yield damage


class _Proof:
    """One part's packets on their way to being proved."""

    def __init__(self, archive: Archive, name: str, footer: Footer, signed: Signed) -> None:
        self._archive, self._name, self._footer = archive, name, footer
        self._packets, self._twins = _packets(footer, signed)
        self._laid = laid_out(footer)
        self._unlike: set[int] = set()  # row groups that are not what their digest says
        self._suspects: set[tuple[int, bytes, bytes]] = set()  # row group, tailer, stream: of these rows were changed
        self.harmed: set[int] = set()  # those of which something was named

    async def group(self, number: int, block: Block, runs: Sequence[Run], mended: Sequence[int]) -> list[Damage]:
        """One row group: is it laid out as the footer says? Its rows go to their packets."""
        found = list(_found(number, block, runs))
        expected = self._footer.groups[number] if number < len(self._footer.groups) else None
        if expected is None or rows_digest(block.rows) != expected.digest:
            self._unlike.add(number)
        damages = layout_damage(self._name, number, self._laid.get(number, []), found)
        self._suspects |= {(number, one.tailer, one.stream) for one in damages}
        damages = [one for one in damages if one.what]
        for row in mended:
            one = next(one for one in found if one.run.row <= row < one.run.last)
            damages.append(self._damage(one.key, _piece(one), "a line is not what its raw bytes say"))
        for one in found:
            damages += await self._take(one.key, _piece(one))
        if damages:
            self.harmed.add(number)
        return damages

    async def _take(self, key: Key, piece: _Bytes) -> list[Damage]:
        packet = self._packets.get(key)
        if packet is None:
            what = "rows of a packet that the footer does not name"
            return [] if key in self._twins else [self._damage(key, piece, what)]
        if packet.proved:
            return [self._damage(key, piece, "more rows than its tailer sent")]
        packet.found.append(piece)
        packet.seen += len(piece.points)
        if packet.seen == packet.events and await self._holds(packet):
            packet.proved = True
            packet.found, packet.dropped = [], []
        return []

    async def rest(self) -> list[Damage]:
        """After the last row group: packets that could not be proved."""
        damages: list[Damage] = []
        bare: defaultdict[tuple[bytes, int, str], Ranges] = defaultdict(Ranges)
        for key, packet in self._packets.items():
            if packet.proved or await self._holds(packet):
                continue
            what = "not what its tailer sent" if packet.content else "no seal states what it had"
            self.harmed |= {piece.group for piece in packet.found}
            if packet.found:
                changed = [one for one in packet.found if (one.group, key.tailer, one.stream) in self._suspects]
                damages += [self._damage(key, piece, what) for piece in _joined(changed or packet.found)]
            else:
                what = "no row of it is there" if packet.content and packet.events else what
                bare[key.tailer, key.epoch, what].add(key.number, key.number + 1)
        for (tailer, epoch, what), numbers in bare.items():
            damages.append(Damage(self._name, what, tailer=tailer, epoch=epoch, numbers=numbers))
        for number in sorted(self._unlike - self.harmed):
            damages.append(Damage(self._name, "not what its digest says", number))
        return damages

    def _damage(self, key: Key, piece: _Bytes, what: str) -> Damage:
        numbers = Ranges([(key.number, key.number + 1)])
        place = piece.stream, piece.path, piece.first, piece.end
        return Damage(self._name, what, piece.group, key.tailer, key.epoch, numbers, *place)

    async def _holds(self, packet: _Packet) -> bool:
        """Do rows, dropped pieces and empty streams together give the packet's content?"""
        parts = [*packet.found, *[await self._dropped(row) for row in packet.dropped]]
        parts.sort(key=lambda one: (one.stream, one.first))
        hasher = ContentHasher(packet.host)
        for one in packet.empty:
            hasher.raw(one.stream, one.path, one.at, b"")
        try:
            for part in _whole_events(parts, packet.events):
                hasher.raw(part.stream, part.path, part.first, part.text, part.end)
                hasher.points(part.stream, part.path, np.array(part.points, np.uint64).tobytes())
        except FormatError:
            return False  # bytes that step back
        return hasher.digest()[:CONTENT_SIZE] == packet.content

    async def _dropped(self, row: DroppedRow) -> _Bytes:
        """What was dropped, from the rows that have its bytes."""
        like = Span(b"", row.path, row.stream, row.key.tailer, 0, 0, 0, False, 0, row.first, row.end, 0, 0)
        try:
            pieces = [await self._archive.load(span) for span in await self._archive.overlapping(like)]
            readings = islice(_readings(pieces, row.first, row.end), READINGS_MAX)
            text = next((text for text in readings if zlib.crc32(text) == row.crc), b"")
        except FormatError:
            text = b""  # the object that has them is named where it is looked at itself
        return _Bytes(row.stream, row.first, row.end, row.path, text, row.points)


def _packets(footer: Footer, signed: Signed) -> tuple[dict[Key, _Packet], set[Key]]:
    """The packets to prove; and those that share a key with another, and so can't be told apart by their rows."""
    packets: dict[Key, _Packet] = {}
    twins: set[Key] = set()
    for batch in footer.packets:
        stated = signed.contents(batch.tailer, batch.epoch, batch.bucket)
        for key, events in zip(batch.each_key(), batch.events, strict=True):
            if key in packets:
                twins.add(key)
            content = batch.contents.get(key.number, stated.get(key.number))
            packets[key] = _Packet(batch.host, events, content, batch.empty.get(key.number, ()))
    for key in twins:
        del packets[key]
    for dropped in footer.dropped:
        if packet := packets.get(dropped.key):
            packet.dropped.append(dropped)
            packet.seen += len(dropped.points)
    return packets, twins


def _found(number: int, block: Block, runs: Iterable[Run]) -> Iterator[Found]:
    """The runs of a row group, and what their rows say."""
    rows = block.rows
    for run in runs:
        end = rows.offsets[run.last - 1] + rows.raw_sizes[run.last - 1]
        facts = rows.render(run.row, run.last), tuple(rows.points[run.row : run.last])
        yield Found(run, number, rows.offsets[run.row], end, *facts)


def _piece(one: Found) -> _Bytes:
    return _Bytes(one.run.stream, one.first, one.end, one.run.path, one.text, one.points, one.group)


def _joined(pieces: Iterable[_Bytes]) -> Iterator[_Bytes]:
    """Those of one row group and stream that touch, as one."""
    before: _Bytes | None = None
    for piece in sorted(pieces, key=lambda one: (one.group, one.stream, one.first)):
        if before and (before.group, before.stream, before.end) == (piece.group, piece.stream, piece.first):
            before = before._replace(end=piece.end)
            continue
        if before:
            yield before
        before = piece
    if before:
        yield before


def _whole_events(parts: Sequence[_Bytes], events: int) -> Iterator[_Bytes]:
    """The parts; an event that a dropped piece has cut in two has two rows, but its point counts once."""
    excess = sum(len(part.points) for part in parts) - events
    before: tuple[bytes, int] | None = None  # stream and point of the last row
    cut = False
    for part in parts:
        if excess > 0 and cut and part.group >= 0 and (part.stream, part.points[0]) == before:
            excess -= 1
            yield part._replace(points=part.points[1:])
        else:
            yield part
        cut = not part.points
        before = (part.stream, part.points[-1]) if part.points else before


def _readings(pieces: Sequence[Piece], first: int, end: int) -> Iterator[bytes]:
    """Every way to read the bytes from `first` to `end`: usually one."""
    if first == end:
        yield b""
    for piece in pieces:
        if piece.span.first <= first < min(piece.span.end, end):
            stop = min(piece.span.end, end)
            for rest in _readings(pieces, stop, end):
                yield text_of(piece, first, stop) + rest
