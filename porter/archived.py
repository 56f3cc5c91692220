"""The archive as a source of rows: what `cat`, `grep` and `audit` read when the bucks have let go of it.

Footers say which stream has rows where, so nothing is searched: a footer is read once, a part is opened when its rows
are needed, and a few are kept open. A span here is a stretch of a row group: consecutive rows of one stream. No part
repeats what another holds, so nothing needs merging but the few events that were found to differ at the same offsets:
both are shown, as the bucks show them.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import NamedTuple

from porter.catalog import PartName, everything, parts, within
from porter.footer import Batch, Footer, GroupRow, StreamRow, Stretch, held_in
from porter.objects import Objects, digest
from porter.parquet_read import RowGroups, Run
from porter.source import Block, Piece, Scope, Span, StreamKey
from protocol.errors import FormatError
from protocol.kernel import Rows
from protocol.limits import POINT_HZ
from protocol.ranges import Ranges
from service.machine import Machine

OPEN_MAX = 8  # parts held open: a descriptor or a connection each, and its metadata
BLOCKS_MAX = 2  # stretches or row groups that stay decoded for the spans that follow


_NOTHING = Block(
    Rows.from_arrays(
        points=b"", flags=b"", format=b"", formats=(), shn=b"", shn_names=(), app=b"", app_names=(), pid=b"", pri=b"",
        lines=b"", line_offsets=bytes(4), offsets=b"",
    ),
    (), (), (),
)  # fmt: skip


class _Place(NamedTuple):
    """Where a block's rows are."""

    name: PartName
    group: int
    row: int
    last: int


class _Stream:
    """One stream over all parts."""

    __slots__ = ("covered", "rows")

    def __init__(self) -> None:
        self.covered = Ranges()
        self.rows: list[tuple[PartName, StreamRow]] = []

    def add(self, name: PartName, row: StreamRow) -> None:
        self.rows.append((name, row))
        for stretch in row.stretches:
            self.covered.add(stretch.first, stretch.end)


class Archive:
    """All parts of one env between two times (seconds; 0: open). `with` gives its open parts back."""

    def __init__(self, machine: Machine, objects: Objects, env: str, start: int = 0, end: int = 0) -> None:
        self._machine, self._objects, self._env = machine, objects, env
        self._start, self._end = start, end
        self._listed: list[PartName] = []
        self._known = False
        self._open: OrderedDict[PartName, RowGroups] = OrderedDict()
        self._footers: dict[PartName, Footer] = {}
        self._batches: dict[PartName, defaultdict[tuple[bytes, int], list[Batch]]] = {}
        self._streams: defaultdict[StreamKey, _Stream] = defaultdict(_Stream)
        self._blocks: OrderedDict[_Place, Block] = OrderedDict()
        self._places: dict[Span, _Place] = {}

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            self._open.popitem()[1].close()

    async def parts(self) -> list[PartName]:
        """Its parts, oldest hour first; listed once."""
        if not self._known:
            self._listed = await self._machine.slow(parts, self._objects, self._env, self._start, self._end)
            self._known = True
        return self._listed

    async def everything(self) -> list[PartName]:
        """Its parts and its verdicts, as they are listed now."""
        self.refresh()
        found = await self._machine.slow(everything, self._objects, self._env)
        self._listed = [name for name in found if name.kind == "p" and within(name, self._start, self._end)]
        self._known = True
        return [name for name in found if within(name, self._start, self._end)]

    async def get(self, name: PartName) -> bytes:
        """All bytes of an object."""
        return await self._machine.slow(self._objects.get, str(name))

    async def digest(self, name: str) -> str:
        """SHA-256 of an object, as verdicts name it."""
        return await self._machine.slow(digest, self._objects, name)

    def leave_out(self, name: PartName) -> None:
        """Read on as if this part were not there: it can't be read, and that was said."""
        self._listed = [one for one in self._listed if one != name]

    def refresh(self) -> None:
        """Others may have written parts: list again. What was read of a part stays true for ever."""
        self._known = False

    async def footer(self, name: PartName) -> Footer:
        """A part's footer (FormatError if the object was changed)."""
        if name not in self._footers:
            groups = await self._part(name)
            footer = await self._machine.slow(Footer.decode, groups.footer, str(name))
            self._footers[name] = footer
            for stream in footer.streams:
                self._streams[StreamKey(stream.tailer, stream.stream)].add(name, stream)
            batches = self._batches[name] = defaultdict(list)
            for batch in footer.packets:
                batches[batch.tailer, batch.epoch].append(batch)
        return self._footers[name]

    async def verdicts(self) -> list[tuple[PartName, bytes]]:
        """The last verdict of each hour, as it is."""
        names = await self._machine.slow(parts, self._objects, self._env, self._start, self._end, "v")
        last = {name.hour: name for name in names}
        return [(name, await self._machine.slow(self._objects.get, str(name))) for name in last.values()]

    async def names(self) -> Iterable[tuple[bytes, bytes]]:
        """Every (host, path) that has rows here, or was an empty file."""
        found: set[tuple[bytes, bytes]] = set()
        for name in await self.parts():
            found |= {(stream.host, stream.path) for stream in (await self.footer(name)).streams}
        return found

    async def covers(self) -> Mapping[tuple[bytes, int], Ranges]:
        """The packets whose rows are here, of each (tailer, epoch): nobody need ask a buck for them."""
        return held_in([await self.footer(name) for name in await self.parts()])

    async def spans(self, host: bytes, path: bytes) -> Sequence[Span]:
        """All stretches of the streams read under this host and path; an empty stream has one without bytes."""
        found: list[Span] = []
        for name in await self.parts():
            footer = await self.footer(name)
            for stream in footer.streams:
                if (stream.host, stream.path) == (host, path):
                    found += [self._loadable(name, stream, stretch) for stretch in stream.stretches]
            found += _empty(footer, host, path)
        return found

    async def overlapping(self, span: Span) -> list[Span]:
        """The stretches that share a byte with a span of the same stream, in any hour. Cheap where there are none."""
        for name in await self.parts():
            if name not in self._footers:
                await self.footer(name)
        stream = self._streams.get(span.source)
        if stream is None or span.end <= span.first or not stream.covered & Ranges([(span.first, span.end)]):
            return []
        return [
            self._loadable(name, row, stretch)
            for name, row in stream.rows
            for stretch in row.stretches
            if stretch.first < span.end and span.first < stretch.end
        ]

    async def load(self, span: Span) -> Piece:
        """The rows of a span that this archive gave; an empty stream's span has none."""
        if not span.count:
            return Piece(span, _NOTHING, 0, 0)
        block = await self._block(self._places[span])
        return Piece(span, block, 0, block.rows.count)

    async def whole(self, name: PartName, number: int) -> tuple[Block, list[Run], list[int]]:
        """A row group as it says itself what it is (`RowGroups.whole`). FormatError if it can't be read."""
        part = await self._part(name)
        return await self._machine.slow(part.whole, number)

    async def group_count(self, name: PartName) -> int:
        """How many row groups a part really has."""
        return (await self._part(name)).count

    @asynccontextmanager
    async def scan(self, scope: Scope) -> AsyncIterator[AsyncIterator[tuple[int, Sequence[Piece]]]]:
        """(hour, pieces of one row group) after another."""
        yield self._scan(scope)

    async def _scan(self, scope: Scope) -> AsyncIterator[tuple[int, Sequence[Piece]]]:
        for name in await self.parts():
            footer = await self.footer(name)
            groups: dict[int, list[tuple[StreamRow, Stretch]]] = {}
            for stream in footer.streams:
                if _wanted(stream, scope):
                    for stretch in stream.stretches:
                        groups.setdefault(stretch.group, []).append((stream, stretch))
            for group in sorted(groups):
                if not _outside(footer.groups[group], scope):
                    yield name.hour, await self._pieces(name, group, groups[group])

    async def _pieces(self, name: PartName, group: int, wanted: list[tuple[StreamRow, Stretch]]) -> list[Piece]:
        """The wanted stretches of a row group; it is decoded whole, from its first wanted row to its last."""
        wanted.sort(key=lambda one: one[1].row)
        first = wanted[0][1].row
        block = await self._block(_Place(name, group, first, wanted[-1][1].last))
        return [
            Piece(self._span(name, stream, stretch), block, stretch.row - first, stretch.last - first)
            for stream, stretch in wanted
        ]

    def _span(self, name: PartName, stream: StreamRow, stretch: Stretch) -> Span:
        batches = self._batches[name][stream.tailer, stretch.epoch]
        bucket, late = next(
            ((one.bucket, one.late) for one in batches if stretch.number in one.numbers), (name.hour, False)
        )
        return Span(
            host=stream.host,
            path=stream.path,
            stream=stream.stream,
            tailer=stream.tailer,
            epoch=stretch.epoch,
            number=stretch.number,
            bucket=bucket,
            late=late,
            index=stretch.run << 64 | stretch.group << 32 | stretch.row,  # in the order of the packet, as on a buck
            first=stretch.first,
            end=stretch.end,
            count=stretch.last - stretch.row,
            point=0,
            copy=name.number,  # two packets in conflict about one key may be in two parts
        )

    def _loadable(self, name: PartName, stream: StreamRow, stretch: Stretch) -> Span:
        """A span that `load` will know."""
        span = self._span(name, stream, stretch)
        self._places[span] = _Place(name, stretch.group, stretch.row, stretch.last)
        return span

    async def _part(self, name: PartName) -> RowGroups:
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        reader = await self._machine.slow(self._objects.open, str(name))
        try:
            self._open[name] = await self._machine.slow(RowGroups, str(name), reader)
        except FormatError:
            reader.close()
            raise
        if len(self._open) > OPEN_MAX:
            self._open.popitem(last=False)[1].close()
        return self._open[name]

    async def _block(self, place: _Place) -> Block:
        if place not in self._blocks:
            part = await self._part(place.name)
            self._blocks[place] = await self._machine.slow(part.block, place.group, place.row, place.last)
            if len(self._blocks) > BLOCKS_MAX:
                self._blocks.popitem(last=False)
        return self._blocks[place]


def _wanted(stream: StreamRow, scope: Scope) -> bool:
    return (not scope.hosts or stream.host in scope.hosts) and (not scope.paths or stream.path in scope.paths)


def _outside(group: GroupRow, scope: Scope) -> bool:
    """Does a row group's time lie beside what is asked for?"""
    return bool(scope.end and group.low >= scope.end * POINT_HZ) or group.high < scope.start * POINT_HZ


def _empty(footer: Footer, host: bytes, path: bytes) -> Iterator[Span]:
    """Streams of this path that have no event: `cat` answers with nothing, and with 0."""
    for batch in footer.packets:
        for number, some in batch.empty.items() if batch.host == host else ():
            for one in some:
                if one.path == path:
                    facts = batch.tailer, batch.epoch, number, batch.bucket, batch.late
                    yield Span(host, path, one.stream, *facts, 0, one.at, one.at, 0, 0)
