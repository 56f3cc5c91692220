"""One hour's packets on their way into one part: which rows of which packet, in which row groups, in which order.

    merge        each event once; against the rows of all earlier parts too, which are read where bytes overlap
    row groups   whole buckets in time order up to a size; a larger bucket is cut by time (the bucket trie); late rows
                 last, in groups of their own, as they were filed. Inside a group rows lie by path, host, stream, offset
    footer       what rows can't say: every packet, streams without events, what was dropped as a duplicate

A packet that can't be decoded, or whose rows are not what its tailer said of them, is left out and named on the shelf:
it is not covered, so the next run tries it again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from porter.archived import Archive
from porter.catalog import DroppedRow, Footer, PacketRow
from porter.merge import merged, tangles
from porter.parquet import GROUP_LINE_MAX, GROUP_ROWS_MAX, Part, columns
from porter.part import PartWriter, check_block
from porter.shelf import Place, QuarantinedError, Shelf
from porter.source import Block, Dropped, Origin, Piece, Span, StreamKey
from porter.trie import Limit, Load, leaves
from protocol.errors import FormatError
from protocol.packet import Header, Key, StreamRef
from service.machine import Machine

LIMIT = Limit(GROUP_ROWS_MAX, GROUP_LINE_MAX)
ALL = (0, 1 << 64)


class _Group(NamedTuple):
    """A row group to be: of these packets the rows with low <= point < high."""

    loads: list[Load]
    low: int = ALL[0]
    high: int = ALL[1]


class Hour:
    """One hour's packets on a shelf, on their way into one part."""

    def __init__(self, machine: Machine, archive: Archive, shelf: Shelf, footer: Footer) -> None:
        self._machine, self._archive, self._shelf, self._footer = machine, archive, shelf, footer
        self._spans: defaultdict[Place, list[Span]] = defaultdict(list)  # alone with their bytes: loaded when written
        self._pieces: defaultdict[Place, list[Piece]] = defaultdict(list)  # what merging left of others
        self._columns: tuple[Block, object] | None = None
        self._checked: set[Place] = set()
        self.clashes = 0

    @property
    def quarantined(self) -> Mapping[Key, str]:
        """Packets that were there and are left out, and why."""
        return self._shelf.quarantined

    async def write(self, path: Path) -> PartWriter:
        """The whole part, closed."""
        await self._merge()
        out = PartWriter(path, self._footer)
        for group in self._groups():
            await self._write_group(out, group)
        await self._machine.slow(self._close, out)
        return out

    # ------------------------------------------------------------------------------------------------------- merging

    async def _merge(self) -> None:
        """Which rows of which packet are written; what isn't goes into the footer."""
        spans = list(self._shelf.spans())
        earlier = {old.origin: old for span in spans for old in await self._archive.overlapping(span)}
        for same in tangles([*spans, *earlier.values()]):
            if len(same) > 1:
                await self._compare(same, earlier)
            elif same[0].count and same[0].origin not in earlier:
                self._spans[_place(same[0])].append(same[0])

    async def _compare(self, same: Sequence[Span], earlier: Mapping[Origin, Span]) -> None:
        """Spans that share bytes: what is in a part already stays there, whatever its bucket is."""

        async def load(span: Span) -> Piece | None:
            return await (self._archive.load(span) if span.origin in earlier else self._load(span))

        async for result in merged(same, load, earlier):
            self.clashes += len(result.clashes)
            for piece in (*result.kept, *(clash.piece for clash in result.clashes)):
                if piece.span.origin not in earlier and piece.row < piece.last:
                    self._pieces[_place(piece.span)].append(piece)
            self._footer.dropped += [_dropped(one) for one in result.dropped if one.span.origin not in earlier]

    async def _load(self, span: Span) -> Piece | None:
        """A span's rows, held once against what the tailer said of them; None if they can't be had."""
        place = _place(span)
        try:
            piece = await self._shelf.load(span)
            if place not in self._checked:
                check_block(self._shelf.headers[place], piece.block)
                self._checked.add(place)
            return piece
        except QuarantinedError:
            return None
        except FormatError as error:
            self._shelf.quarantined[place.key] = str(error)
            return None

    # ---------------------------------------------------------------------------------------------------- row groups

    def _groups(self) -> Iterator[_Group]:
        """Whole buckets while they fit, else leaves of a bucket's trie; late packets after them, as they were filed."""
        timely, late = self._loads()
        yield from _gather([timely[bucket] for bucket in sorted(timely)])
        yield from _gather([[load] for load in late])

    def _loads(self) -> tuple[dict[int, list[Load]], list[Load]]:
        """The packets that have rows to write: timely ones by bucket, and late ones."""
        timely: defaultdict[int, list[Load]] = defaultdict(list)
        late: list[Load] = []
        for place in sorted(set(self._spans) | set(self._pieces)):
            header = self._shelf.headers[place]
            load = Load(place, header.point_min, header.point_max, header.count, header.raw)
            (late if header.late else timely[place.bucket]).append(load)
        return timely, late

    async def _write_group(self, out: PartWriter, group: _Group) -> None:
        parts: list[Part] = []
        for load in group.loads:
            for piece in await self._rows_of(_packet(load)):
                parts += self._part(piece, group.low, group.high)
        if parts:
            await self._machine.slow(out.write, parts)

    async def _rows_of(self, place: Place) -> list[Piece]:
        loaded = [await self._load(span) for span in self._spans.get(place, ())]
        return [*(piece for piece in loaded if piece is not None), *self._pieces.get(place, ())]

    def _part(self, piece: Piece, low: int, high: int) -> list[Part]:
        """A piece's rows between two points, with their columns."""
        rows = np.arange(piece.row, piece.last)
        if (low, high) != ALL:
            times = np.frombuffer(piece.block.rows.points, np.uint64)[piece.row : piece.last]
            rows = rows[(times >= low) & (times < high)]
        if self._columns is None or self._columns[0] is not piece.block:
            self._columns = piece.block, columns(piece.block)
        return [Part(piece, self._columns[1], rows)] if len(rows) else []

    # -------------------------------------------------------------------------------------------------------- footer

    def _close(self, out: PartWriter) -> None:
        empty: list[tuple[StreamKey, bytes, bytes]] = []
        for place, header in self._shelf.headers.items():
            if place.key in self._shelf.quarantined:
                continue
            out.heads.update((stream.id, stream.head) for stream in header.streams)
            without = tuple((header.streams[run.stream].id, run.first) for run in header.runs if not run.count)
            empty += [(StreamKey(header.tailer, s.id), header.host, s.path) for s in _without_rows(header)]
            self._footer.packets.append(
                PacketRow(
                    header.key, header.bucket, header.late, header.kind.code(), header.count, header.content, without
                )
            )
        out.close(empty)


def _gather(units: Iterable[list[Load]]) -> Iterator[_Group]:
    """Units in order, as many together as a row group takes; a unit that is too large for one is cut by time."""
    group: list[Load] = []
    for loads in units:
        if not _fits(loads):
            if group:
                yield _Group(group)
            for leaf in leaves(loads, LIMIT):
                yield _Group(list(leaf.loads), leaf.low, leaf.high)
            group = []
        elif not _fits([*group, *loads]):
            yield _Group(group)
            group = list(loads)
        else:
            group += loads
    if group:
        yield _Group(group)


def _fits(loads: Sequence[Load]) -> bool:
    return sum(load.rows for load in loads) <= LIMIT.rows and sum(load.raw for load in loads) <= LIMIT.raw


def _place(span: Span) -> Place:
    return Place(span.bucket, span.key, span.copy)


def _packet(load: Load) -> Place:
    assert isinstance(load.what, Place)
    return load.what


def _without_rows(header: Header) -> Iterator[StreamRef]:
    for run in header.runs:
        if not run.count:
            yield header.streams[run.stream]


def _dropped(dropped: Dropped) -> DroppedRow:
    return DroppedRow(dropped.span.key, dropped.span.stream, dropped.first, dropped.end, dropped.points)
