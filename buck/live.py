"""Live: the events of young packets, shown to whoever watches, while somebody does.

    Session.put ── offer ──> queue of packets ── Fanout.run: decode once, each query once ──> Viewer ──> link or page
                                (bytes)                                                       (bytes)

With nobody watching a packet costs one look at a flag. With somebody, its body is copied into a queue and the put goes
on; decoding and matching come later, in slices, and take at most a third of the loop's time. Both queues are bounded in
bytes; where one overflows, the oldest is dropped, counted, and the viewer told. Viewers who ask the same share the work
and the bytes.

What is shown: first-time puts that are not `again` and younger than LIVE_AGE_MS, so a viewer that listens to every buck
and remembers for LIVE_REMEMBER_S what it has shown shows nothing twice. What can't be decoded is counted and missed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import trio

from buck.counts import Counts
from buck.errors import Declined
from protocol import terms
from protocol.errors import FormatError, QueryError
from protocol.event import Event, encode
from protocol.feed import LiveRows
from protocol.kernel import Rows
from protocol.lexer import tokens
from protocol.limits import LIVE_ROWS_BYTES, LIVE_ROWS_MAX, PACKET_SIZE_MAX
from protocol.matching import candidates, name, without_end
from protocol.packet import Header, Packet, unpack
from protocol.query import Query, parse
from service.backlog import Backlog
from service.machine import Machine

VIEWERS_MAX = 256
VIEWER_BYTES_MAX = 512 << 10  # seconds of what a person can read; 256 viewers, all slow and all different: 128 MiB
QUEUE_BYTES_MAX = 2 * PACKET_SIZE_MAX  # packets that wait to be decoded
SLICE_ROWS = 128  # rows looked at before others may run: about a millisecond
SLICE_S = 0.002
PAUSES = 2  # for each slice's time the loop is left to others for so many times as long


@dataclass(slots=True)
class Frame:
    """Rows on their way to several viewers; `text` is what pages show of them, made once."""

    rows: LiveRows
    text: str = ""


Viewer = Backlog[Frame]


class _Young(NamedTuple):
    """What is kept of a packet until it is decoded."""

    header: Header
    packet: Packet


class _Group:
    """Viewers who asked the same."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.viewers: set[Viewer] = set()

    def admits(self, header: Header) -> bool:
        """Can this packet hold a match?"""
        if not self.query.admits(host=header.host) or not self.query.admits_points(header.point_min, header.point_max):
            return False
        return any(self.query.admits(path=stream.path) for stream in header.streams)


class Fanout:
    """All viewers of a buck. `run` does the work; `wanted` is the flag that a put looks at."""

    def __init__(self, machine: Machine, counts: Counts) -> None:
        self.wanted = False
        self.viewers = 0
        self._machine = machine
        self._counts = counts
        self._groups: dict[tuple[object, ...], _Group] = {}
        self._queue: Backlog[_Young] = Backlog(QUEUE_BYTES_MAX)
        self._watchers: set[trio.Event] = set()
        self._since = 0.0

    @contextmanager
    def viewing(self, text: str) -> Iterator[Viewer]:
        """What matches this query from now on, until the block ends. Declined if it can't be shown."""
        query = _read(text, self._machine.time_ns())
        if self.viewers >= VIEWERS_MAX:
            raise Declined("slow", f"{VIEWERS_MAX} viewers watch this buck already")
        key = (text, query.fields.start, query.fields.end)
        viewer = Viewer(VIEWER_BYTES_MAX)
        self._groups.setdefault(key, _Group(query)).viewers.add(viewer)
        self._count(+1)
        try:
            yield viewer
        finally:
            group = self._groups[key]
            group.viewers.discard(viewer)
            if not group.viewers:
                del self._groups[key]
            self._count(-1)

    @contextmanager
    def watching(self, known: bool) -> Iterator[trio.Event]:
        """Set once `wanted` is other than known."""
        news = trio.Event()
        self._watchers.add(news)
        if self.wanted != known:
            news.set()
        try:
            yield news
        finally:
            self._watchers.discard(news)

    def _count(self, change: int) -> None:
        self.viewers += change
        self._counts.viewers.set(self.viewers)
        if self.wanted != bool(self.viewers):
            self.wanted = bool(self.viewers)
            for news in self._watchers:
                news.set()

    def offer(self, packet: Packet) -> None:
        """A young packet came for the first time. Costs its caller a copy of the body, and nothing ever waits."""
        body = bytes(packet.body)
        young = _Young(packet.header, Packet(packet.header, b"", memoryview(body), packet.digest))
        self._counts.live_missed.inc(self._queue.put(young, len(body), packet.header.count))

    async def run(self) -> None:
        """Decode and hand out, until cancelled."""
        while taken := await self._queue.take():
            missed, young = taken
            if missed:
                for group in self._groups.values():
                    self._miss(group, missed)
            self._since = self._machine.now()
            if young:
                await self._show(young)
            await self._pause(at_once=True)

    async def _show(self, young: _Young) -> None:
        header = young.header
        groups = [group for group in self._groups.values() if group.admits(header)]
        if not groups:
            return
        try:
            rows = rows_of(young.packet)
        except FormatError:
            self._counts.live_undecodable.inc()
            for group in groups:
                self._miss(group, header.count)
            return
        for group in groups:
            for frame in frames(group.query, header, rows):
                if frame is not None:
                    self._give(group, frame)
                await self._pause()

    def _give(self, group: _Group, rows: LiveRows) -> None:
        frame, size, events = Frame(rows), sum(map(len, rows.rows)), len(rows.rows)
        self._counts.live_rows.inc(events * len(group.viewers))
        for viewer in group.viewers:
            self._counts.live_missed.inc(viewer.put(frame, size, events))

    def _miss(self, group: _Group, events: int) -> None:
        for viewer in group.viewers:
            viewer.miss(events)
            self._counts.live_missed.inc(events)

    async def _pause(self, at_once: bool = False) -> None:
        """Let others run; after a slice for as long as keeps our share at a third."""
        spent = self._machine.now() - self._since
        if spent >= SLICE_S or at_once:
            await trio.sleep(PAUSES * spent)
            self._since = self._machine.now()


def _read(text: str, now_ns: int) -> Query:
    """The query. Declined if it is none, or could make this buck think for ever."""
    try:
        if not terms.LINEAR and any(token.kind.endswith("regex") for token in tokens(text)):
            raise Declined("query", "a live /regex/ needs RE2 on the buck: install google-re2 there")
        return parse(text, now_ns)
    except QueryError as error:
        raise Declined("query", str(error)[:500]) from error


def rows_of(packet: Packet) -> Rows:
    """A packet's rows. FormatError if its body is not what its header says."""
    header = packet.header
    columns = header.count, header.sizes, header.formats, header.shn, header.app, header.runs
    return Rows.decode(unpack(packet), *columns)


def frames(query: Query, header: Header, rows: Rows) -> Iterator[LiveRows | None]:
    """What to show of a packet's rows; None between two slices of the work. Pure."""
    found = candidates(query, rows)
    row = 0
    for run in header.runs:
        stream, last = header.streams[run.stream], row + run.count
        mine = found[bisect_left(found, row) : bisect_left(found, last)]
        row = last
        if mine and query.admits(path=stream.path):
            blank = LiveRows(0, header.tailer, header.host, stream.path, stream.id, run.first, run.end, (), ())
            yield from _cut(query, header, rows, mine, blank)


def _cut(query: Query, header: Header, rows: Rows, mine: Sequence[int], blank: LiveRows) -> Iterator[LiveRows | None]:
    """One run's matches as frames, each of LIVE_ROWS_BYTES or a bit more; together they speak for the whole run."""
    predicate = query.predicate()
    first, size = blank.first, 0
    offsets: list[int] = []
    events: list[bytes] = []
    for at in range(0, len(mine), SLICE_ROWS):
        some = mine[at : at + SLICE_ROWS]
        for row, line in zip(some, rows.render_many(list(some)), strict=True):
            app, point, offset = name(header.app, rows.app[row]), rows.points[row], rows.offsets[row]
            if not predicate(without_end(line), header.host, app, blank.path, point):
                continue
            if size >= LIVE_ROWS_BYTES or len(events) >= LIVE_ROWS_MAX:
                yield _frame(blank, first, offset, offsets, events)
                first, size, offsets, events = offset, 0, [], []
            start = rows.starts[row]
            text = bytes(rows.lines[start : start + rows.text_sizes[row]])
            events.append(encode(Event(point, name(header.shn, rows.shn[row]), app, text)))
            offsets.append(offset - first)
            size += len(events[-1])
        yield None
    if events:
        yield _frame(blank, first, blank.end, offsets, events)


def _frame(blank: LiveRows, first: int, end: int, offsets: list[int], events: list[bytes]) -> LiveRows:
    where = blank.tailer, blank.host, blank.path, blank.stream
    return LiveRows(0, *where, first, end, tuple(offsets), tuple(events))
