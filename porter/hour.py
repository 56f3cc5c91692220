"""One hour's packets on their way into one part: which rows of which packet, in which row groups, in which order.

    merge        each event once; against the rows of all earlier parts too, which are read where bytes overlap
    row groups   whole buckets in time order up to a size; a larger bucket is cut by time (the bucket trie); late rows
                 last, in groups of their own, as they were filed. Inside a group rows lie by path, host, stream, offset
    footer       what rows can't say: every packet, streams without events, what was dropped as a duplicate

A packet that can't be decoded, or whose rows are not what its tailer said of them, is left out and named on the shelf:
it is not covered, so the next run tries it again. One that was good when others were compared with it, or of which rows
are written already, must stay so: if nobody gives it any more the part is begun again (`UnsteadyError`).
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from porter.archived import Archive
from porter.catalog import PartName
from porter.coverage import Coverage
from porter.footer import Batch, DroppedRow, EmptyRow, Footer
from porter.merge import merged, tangles, text_of
from porter.parquet import GROUP_LINE_MAX, GROUP_ROWS_MAX, Part, columns
from porter.parquet_read import block_of_columns
from porter.part import PartWriter, check_block
from porter.shelf import Place, QuarantinedError, Shelf
from porter.signed import Signed
from porter.source import Block, Dropped, Origin, Piece, Span, StreamKey
from porter.trie import Limit, Load, leaves
from protocol.columns import WIDE_NONE
from protocol.errors import FormatError
from protocol.packet import Header, Key
from protocol.seal import CONTENT_SIZE, Seal
from service.machine import Machine

LIMIT = Limit(GROUP_ROWS_MAX, GROUP_LINE_MAX)
ALL = (0, 1 << 64)
GROUP_COST = (
    12  # bytes of memory for a byte of a row group: packets' rows, their columns, the table, the writer's pages
)


class UnsteadyError(Exception):
    """A packet that was there a moment ago is not any more: begin again."""


class _Group(NamedTuple):
    """A row group to be: of these packets the rows with low <= point < high."""

    loads: list[Load]
    low: int = ALL[0]
    high: int = ALL[1]


class _Kept(NamedTuple):
    """What merging left of a span: rows of its packet, loaded again when written; or a remnant, which is tiny."""

    span: Span
    row: int
    last: int
    remnant: Piece | None


class Hour:
    """One hour's packets on a shelf, on their way into one part."""

    def __init__(self, machine: Machine, archive: Archive, shelf: Shelf, footer: Footer, memory: int) -> None:
        self._machine, self._archive, self._shelf, self._footer = machine, archive, shelf, footer
        self._limit = Limit(LIMIT.rows, min(LIMIT.raw, memory // GROUP_COST))
        self._spans: defaultdict[Place, list[Span]] = defaultdict(list)  # alone with their bytes
        self._kept: defaultdict[Place, list[_Kept]] = defaultdict(list)
        self._columns: tuple[Block, pa.RecordBatch] | None = None
        self._good: set[Place] = set()
        self._bad: set[Place] = set()
        self.clashes = 0

    @property
    def quarantined(self) -> Mapping[Key, str]:
        """Packets that were there and are left out, and why."""
        return self._shelf.quarantined

    async def write(self, path: Path) -> PartWriter:
        """The whole part, closed and verified."""
        await self._merge()
        out = PartWriter(path, self._footer, sum(header.raw for header in self._shelf.headers.values()))
        for group in self._groups():
            await self._write_group(out, group)
        if out.rows != self._expected():
            raise FormatError(f"{out.rows} rows were written, not {self._expected()}: this is a bug, nothing was put")
        await self._machine.slow(self._close, out)
        return out

    async def still_alone(self, known: Sequence[PartName]) -> None:
        """UnsteadyError if a part that is not among the `known` has bytes of these streams: another hour's, as a rule.

        Two parts of one hour can't be put under one name. Of two hours they can, and a file that was read again may
        have the same bytes in both: this is looked for at the last moment, when the part is written but for its name.
        """
        self._archive.refresh()
        coverage = Coverage()
        for name in set(await self._archive.parts()) - set(known):
            coverage.add_footer(await self._archive.footer(name))
        for span in self._shelf.spans():
            if coverage.meets(span.tailer, span.stream, span.first, span.end):
                raise UnsteadyError(f"another porter has just archived bytes of {span.path!r}")

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
            clashes = [clash.piece for clash in result.clashes if clash.piece.span.origin not in earlier]
            self.clashes += len(clashes)
            for piece in (*result.kept, *clashes):
                if piece.span.origin not in earlier and piece.row < piece.last:
                    self._kept[_place(piece.span)].append(_kept(piece))
            for dropped in result.dropped:
                if dropped.span.origin not in earlier:
                    self._footer.dropped.append(await self._dropped(dropped))

    async def _dropped(self, dropped: Dropped) -> DroppedRow:
        span, first, end = dropped.span, dropped.first, dropped.end
        run = self._shelf.headers[_place(span)].runs[span.index]
        piece = await self._load(span._replace(count=run.count))
        if piece is None:
            raise UnsteadyError(f"packet {span.number} was there a moment ago")
        crc = zlib.crc32(text_of(piece, first, end))
        return DroppedRow(span.key, span.stream, span.path, first, end, crc, dropped.points)

    async def _load(self, span: Span) -> Piece | None:
        """A span's rows, held once against what the tailer said of them; None if they can't be had."""
        place = _place(span)
        if place in self._bad:
            return None
        try:
            piece = await self._shelf.load(span)
            if place not in self._good:
                check_block(self._shelf.headers[place], piece.block)
                self._good.add(place)
            return piece
        except (QuarantinedError, FormatError) as error:
            if place in self._good:
                raise UnsteadyError(str(error)) from error
            self._shelf.quarantined[place.key] = str(error)
            self._bad.add(place)
            return None

    # ---------------------------------------------------------------------------------------------------- row groups

    def _groups(self) -> Iterator[_Group]:
        """Whole buckets while they fit, else leaves of a bucket's trie; late packets after them, as they were filed."""
        timely: defaultdict[int, list[Load]] = defaultdict(list)
        late: list[Load] = []
        for place in sorted(set(self._spans) | set(self._kept)):
            header = self._shelf.headers[place]
            load = Load(place, header.point_min, header.point_max, header.count, header.raw)
            (late if header.late else timely[place.bucket]).append(load)
        yield from _gather([timely[bucket] for bucket in sorted(timely)], self._limit)
        yield from _gather([[load] for load in late], self._limit)

    async def _write_group(self, out: PartWriter, group: _Group) -> None:
        parts: list[Part] = []
        for load in group.loads:
            pieces = await self._rows_of(_packet(load))
            parts += [part for piece in pieces for part in self._part(piece, group.low, group.high)]
        pieces = []
        self._columns = None  # whoever writes lets go of the parts one after another: nobody else may hold them
        for some in _narrow(parts):
            await self._machine.slow(out.write, some)

    async def _rows_of(self, place: Place) -> list[Piece]:
        """What is to be written of a packet."""
        found = [await self._load(span) for span in self._spans.get(place, ())]
        for kept in self._kept.get(place, ()):
            whole = None if kept.remnant else await self._load(kept.span)
            found.append(kept.remnant or (replace(whole, row=kept.row, last=kept.last) if whole else None))
        return [piece for piece in found if piece is not None]

    def _part(self, piece: Piece, low: int, high: int) -> list[Part]:
        """A piece's rows between two points, with their columns."""
        if self._columns is None or self._columns[0] is not piece.block:
            self._columns = piece.block, columns(piece.block)
        batch, rows = self._columns[1], np.arange(piece.row, piece.last)
        if (low, high) == ALL:
            return [Part(piece, batch, rows)]
        times = np.frombuffer(piece.block.rows.points, np.uint64)[piece.row : piece.last]
        rows = rows[(times >= low) & (times < high)]
        return [_alone(Part(piece, batch, rows))] if len(rows) else []

    def _expected(self) -> int:
        """How many rows must be written."""
        alone = sum(span.count for place, spans in self._spans.items() if place not in self._bad for span in spans)
        return alone + sum(kept.last - kept.row for pieces in self._kept.values() for kept in pieces)

    # -------------------------------------------------------------------------------------------------------- footer

    def _close(self, out: PartWriter) -> None:
        good = [header for place, header in self._shelf.headers.items() if place not in self._bad]
        for header in good:
            out.heads.update((stream.id, stream.head) for stream in header.streams)
        self._footer.packets = batches(good, Signed(map(Seal.read, self._footer.seals)))
        out.close(
            (StreamKey(batch.tailer, one.stream), batch.host, one.path)
            for batch in self._footer.packets
            for some in batch.empty.values()
            for one in some
        )


def _gather(units: Iterable[list[Load]], limit: Limit) -> Iterator[_Group]:
    """Units in order, as many together as a row group takes; a unit that is too large for one is cut by time."""
    group: list[Load] = []
    rows = raw = 0
    for loads in units:
        more_rows, more_raw = sum(load.rows for load in loads), sum(load.raw for load in loads)
        if group and (rows + more_rows > limit.rows or raw + more_raw > limit.raw):
            yield _Group(group)
            group, rows, raw = [], 0, 0
        if more_rows > limit.rows or more_raw > limit.raw:
            for leaf in leaves(loads, limit):
                yield _Group(list(leaf.loads), leaf.low, leaf.high)
        else:
            group += loads
            rows, raw = rows + more_rows, raw + more_raw
    if group:
        yield _Group(group)


def _narrow(parts: list[Part]) -> Iterator[list[Part]]:
    """All together, but where they have more names or formats than a row group's dictionary holds."""
    if _names_most(parts) < WIDE_NONE:
        if parts:
            yield parts
        return
    some: list[Part] = []
    seen: tuple[set[object], ...] = (set(), set(), set())
    for part in parts:
        block = part.piece.block
        fresh = [known | set(names) for known, names in zip(seen, (block.shn, block.app, block.formats), strict=True)]
        if some and max(map(len, fresh)) >= WIDE_NONE:
            yield some
            some, fresh = [], [set(block.shn), set(block.app), set(block.formats)]
        some.append(part)
        seen = tuple(fresh)
    if some:
        yield some


def _names_most(parts: Sequence[Part]) -> int:
    """No more names than these in any column, if no two packets share one."""
    blocks = {id(part.piece.block): part.piece.block for part in parts}.values()
    return sum(max(len(block.shn), len(block.app), len(block.formats)) for block in blocks)


def _alone(part: Part) -> Part:
    """The part with a block of its own rows: a leaf may take a little of very many packets, and must not hold them."""
    batch = part.take()
    block = block_of_columns(pa.Table.from_batches([batch]))
    return Part(replace(part.piece, block=block), batch, np.arange(batch.num_rows))


def _kept(piece: Piece) -> _Kept:
    tiny = piece if piece.block.rows.count == 1 else None
    return _Kept(piece.span, piece.row, piece.last, tiny)


def _place(span: Span) -> Place:
    return Place(span.bucket, span.key, span.copy)


def _packet(load: Load) -> Place:
    assert isinstance(load.what, Place)
    return load.what


def batches(headers: Iterable[Header], signed: Signed) -> list[Batch]:
    """These packets as the footer has them; what the seals state of them is not repeated."""
    accounts: defaultdict[tuple[object, ...], list[Header]] = defaultdict(list)
    twins: Counter[Key] = Counter()  # the second packet of a key is in a batch of its own
    for header in sorted(headers, key=lambda one: (one.key, one.content)):
        facts = header.tailer, header.epoch, header.host, header.bucket, header.late, header.kind.code()
        accounts[*facts, twins[header.key]].append(header)
        twins[header.key] += 1
    return [_batch(some, signed) for some in accounts.values()]


def _batch(headers: Sequence[Header], signed: Signed) -> Batch:
    first = headers[0]
    stated = signed.contents(first.tailer, first.epoch, first.bucket)
    made = Batch(first.tailer, first.epoch, first.host, first.bucket, first.late, first.kind.code())
    made.events = tuple(header.count for header in headers)
    for header in headers:
        made.numbers.add(header.number, header.number + 1)
        content = header.content[:CONTENT_SIZE]
        if stated.get(header.number) != content:
            made.contents[header.number] = content
        empty = [(header.streams[run.stream], run.first) for run in header.runs if not run.count]
        if empty:
            made.empty[header.number] = tuple(EmptyRow(stream.id, stream.path, at) for stream, at in empty)
    return made
