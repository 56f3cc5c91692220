"""Bytes of streams become columns, and columns packets: cut at buckets, by size and by age.

A block of one stream's bytes goes through the kernel once, which deals its lines to the open builders: one for each
(bucket, class), one more for late lines, at most eight; lines of all streams share them. The class is the file's, or,
where rules ask for what a line names, the line's own (kinds.py). A builder that is full, old
enough, or the fullest when a ninth is wanted, is closed: its columns are compressed and a `Draft` is born, which is a
packet without its number. The journal gives it that.

    block --> encode --> [builder 12:00] [builder 12:05] [late]
                              |  full, or of age
                              v
                 columns --> zstd --> Draft --> journal

How long a builder stays open is the time to gather 32 KiB, at least half a second and at most five, or what `linger`
says: small packets are dear in bytes and in work, but a line should be stored soon. While somebody watches live it is
half a second; while history is gathered (`--once`, `--backfill`) a builder waits to be full, or until nothing came for
a while.

Late lines (older than a day, or too far ahead) are filed by arrival: their builder belongs to the bucket of the
arrival, takes every point, and is closed when the arrivals reach the next bucket. The bounds of late and early are
moved outwards to the edge of their buckets, so that no bucket has some of its lines in the one and some in the other.

Nothing here knows a clock, a file or a task: `arrival` is a point, `now` a monotonic time, both given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from protocol.content import ContentHasher
from protocol.formats import Format
from protocol.kernel import DONE, FULL, NEED, Builder, Stream, encode
from protocol.limits import BUILDERS_MAX, EARLY_S, LATE_S, POINT_HZ
from protocol.packet import Class, Packer, Run, StreamRef
from tailer.kinds import Route

# A builder that has gathered this much may close: from here on a larger packet saves little.
GATHER_RAW = 32 << 10
AGE_MIN_S, AGE_MAX_S = 0.5, 5.0
# While history is gathered: a builder to which nothing was added for this long is closed all the same.
IDLE_S = 5.0
# Paths live in the header, which has a limit of its own: a builder whose paths add up to this is closed.
PATHS_MAX = 96 << 10
# Empty files of one packet.
EMPTIES_MAX = 256
POINT_MAX = (1 << 63) - 1


@dataclass(slots=True, eq=False)
class Source:
    """A stream whose bytes are fed in. `handle` is what the kernel calls it: unique in this process."""

    handle: int
    id: bytes
    path: bytes
    head: bytes
    kind: Class
    kernel: Stream
    route: Route | None = None  # where its lines have several classes

    def ref(self) -> StreamRef:
        return StreamRef(self.id, self.path, self.head)


@dataclass(frozen=True, slots=True)
class Draft:
    """A packet that has no number yet: all that its header will say, and its compressed body."""

    bucket: int
    late: bool
    kind: Class
    count: int
    raw: int
    point_min: int
    point_max: int
    streams: tuple[StreamRef, ...]
    runs: tuple[Run, ...]
    content: bytes
    formats: tuple[Format, ...]
    shn: tuple[bytes, ...]
    app: tuple[bytes, ...]
    sizes: tuple[int, ...]
    body: bytes
    opened_at: float


@dataclass(slots=True, eq=False)
class _Open:
    """A builder at work. `paths` is what its streams' paths add to the header."""

    builder: Builder
    bucket: int
    late: bool
    kind: Class
    opened: float
    touched: float
    hasher: ContentHasher
    sources: dict[int, Source] = field(default_factory=dict)
    empties: list[Source] = field(default_factory=list)
    paths: int = 0

    def feed(self, source: Source, block: memoryview, origin: int, now: float) -> None:
        """Hash what the last call of the kernel appended. `origin` is the offset that the block's first byte has."""
        fresh = self.builder.fresh()
        if not fresh:
            return
        self.touched = now
        if source.handle not in self.sources:
            self.sources[source.handle] = source
            self.paths += len(source.path)
        for _, first, end in fresh:
            self.hasher.raw(source.id, source.path, first, block[first - origin : end - origin])


class Blocks:
    """The open builders of one tailer. Drafts that are ready wait in order until `take`, `due` or `flush`."""

    def __init__(self, width: int, host: bytes, *, gather: bool = False, linger: float = AGE_MAX_S) -> None:
        self.width = width
        self.host = host
        self.gather = gather
        self._age_min, self._age_max = min(linger, AGE_MIN_S), linger
        self.live = False
        self._open: list[_Open] = []
        self._empty: _Open | None = None
        self._spare: list[Builder] = []
        self._ready: list[Draft] = []
        self._packer = Packer()

    def add(
        self, source: Source, block: memoryview, start: int, offset: int, arrival: int, final: bool, now: float
    ) -> int:
        """Take the lines of block[start:], whose first byte is the stream's `offset`; the index up to which they were
        taken. An unfinished last line is left, unless `final`."""
        self._turn(arrival)
        oldest, newest = self._bounds(arrival)
        origin = offset - start
        asked = -1
        source.kernel.route = source.route
        while True:
            mine = [one for one in self._open if source.route is not None or one.kind == source.kind]
            builders = [one.builder for one in mine]
            start, why, which = encode(
                source.kernel, source.handle, block, start, origin + start, arrival, final, builders, oldest, newest
            )
            for one in mine:
                one.feed(source, block, origin, now)
            self._close_wordy(mine)
            if why == DONE:
                return start
            if why == NEED:
                assert asked != start, "the kernel refuses the builder that it asked for"
                asked = start
                kind = source.kind if source.route is None else Class.from_code(source.kernel.wanted)
                self._begin(which, oldest <= which < newest, arrival, kind, now)
            elif mine[which] in self._open:
                self._close(mine[which])

    def learn(self, kernel: Stream, block: memoryview, start: int, offset: int, arrival: int) -> None:
        """Lead a stream's format state through bytes that are in packets already; nothing of it is kept."""
        scratch = self._spare.pop() if self._spare else Builder()
        kernel.route = None
        origin, why = offset - start, FULL
        while why != DONE:
            scratch.open(0, POINT_MAX, False)
            start, why, _ = encode(kernel, 0, block, start, origin + start, arrival, True, [scratch], 0, POINT_MAX)
            scratch.finish()
        self._spare.append(scratch)

    def leave_empty(self, source: Source, arrival: int, now: float) -> None:
        """State that a source is there and has no bytes, so that a reader gets an empty file and not an error."""
        if self._empty is not None and self._empty.kind != source.kind:
            self._close_empty()
        if self._empty is None:
            bucket = self._bucket(arrival)
            self._empty = self._start(bucket, False, source.kind, now)
        self._empty.empties.append(source)
        self._empty.paths += len(source.path)
        if len(self._empty.empties) == EMPTIES_MAX or self._empty.paths > PATHS_MAX:
            self._close_empty()

    def take(self) -> list[Draft]:
        """The drafts that are ready, oldest first."""
        ready, self._ready = self._ready, []
        return ready

    def due(self, now: float) -> list[Draft]:
        """Close what is of age."""
        for one in [one for one in self._open if self._until(one) <= now]:
            self._close(one)
        if self._empty is not None and self._until(self._empty) <= now:
            self._close_empty()
        return self.take()

    def flush(self) -> list[Draft]:
        """Close everything."""
        for one in list(self._open):
            self._close(one)
        self._close_empty()
        return self.take()

    def next_due(self) -> float:
        """When `due` will have something to do; infinity while nothing is open."""
        return min((self._until(one) for one in self._all()), default=float("inf"))

    @property
    def ready(self) -> int:
        """Drafts that wait to be taken."""
        return len(self._ready)

    @property
    def linger(self) -> float:
        """How long a line waits for others at most, in seconds."""
        return self._age_max

    @property
    def hurries(self) -> bool:
        """Whether what was read is closed soon, however little it is: then files are read often, too."""
        return self.live or self._age_max <= AGE_MIN_S

    @property
    def raw(self) -> int:
        """Bytes that are in no draft yet."""
        return sum(one.builder.raw for one in self._open)

    def unwritten(self) -> dict[int, int]:
        """Of each source with lines in open builders, by handle: the lowest offset of such a line."""
        lowest: dict[int, int] = {}
        for one in self._open:
            for handle, first, *_ in one.builder.runs():
                lowest[handle] = min(first, lowest.get(handle, first))
        return lowest

    def _all(self) -> Iterable[_Open]:
        return [*self._open, self._empty] if self._empty is not None else self._open

    def _until(self, one: _Open) -> float:
        if self.gather:
            return one.touched + IDLE_S
        if self.live or one.builder.raw >= GATHER_RAW:
            return one.opened + self._age_min
        return one.opened + self._age_max

    def _bucket(self, point: int) -> int:
        return point // POINT_HZ // self.width * self.width

    def _bounds(self, arrival: int) -> tuple[int, int]:
        """From where to where a point is neither late nor early, in whole buckets."""
        oldest = max(self._bucket(max(arrival - LATE_S * POINT_HZ, 0)), 0)
        newest = self._bucket(arrival + EARLY_S * POINT_HZ) + self.width
        return oldest * POINT_HZ, newest * POINT_HZ

    def _turn(self, arrival: int) -> None:
        """Late lines belong to the bucket in which they arrive: another bucket, another builder."""
        bucket = self._bucket(arrival)
        for one in [one for one in self._open if one.late and one.bucket != bucket]:
            self._close(one)
        if self._empty is not None and self._empty.bucket != bucket:
            self._close_empty()

    def _begin(self, point: int, in_time: bool, arrival: int, kind: Class, now: float) -> None:
        if len(self._open) >= BUILDERS_MAX:
            self._close(max(self._open, key=lambda one: one.builder.raw))
        one = self._start(self._bucket(point if in_time else arrival), not in_time, kind, now)
        self._open.append(one)

    def _start(self, bucket: int, late: bool, kind: Class, now: float) -> _Open:
        builder = self._spare.pop() if self._spare else Builder()
        if late:
            builder.open(0, POINT_MAX, True, kind.code())
        else:
            builder.open(bucket * POINT_HZ, (bucket + self.width) * POINT_HZ, False, kind.code())
        return _Open(builder, bucket, late, kind, now, now, ContentHasher(self.host))

    def _close_wordy(self, mine: list[_Open]) -> None:
        for one in mine:
            if one.paths > PATHS_MAX:
                self._close(one)

    def _close(self, one: _Open) -> None:
        self._open.remove(one)
        if one.sources:
            self._ready.append(self._draft(one))
        self._spare.append(one.builder)

    def _close_empty(self) -> None:
        if self._empty is not None:
            one, self._empty = self._empty, None
            self._ready.append(self._draft(one))
            self._spare.append(one.builder)

    def _draft(self, one: _Open) -> Draft:
        """Read the builder out. Its columns are views of its memory, so they are compressed before it opens again."""
        builder = one.builder
        count, raw, low, high = builder.count, builder.raw, builder.point_min, builder.point_max
        streams: dict[int, int] = {}
        runs: list[Run] = []
        columns = builder.finish()
        row = 0
        for handle, first, end, events, start in builder.runs():
            index = streams.setdefault(handle, len(streams))
            runs.append(Run(index, first, end, events, start))
            source = one.sources[handle]
            one.hasher.points(source.id, source.path, columns.points[row : row + events])
            row += events
        refs = [one.sources[handle].ref() for handle in streams]
        if one.empties:
            low = high = one.bucket * POINT_HZ
        for source in one.empties:
            one.hasher.raw(source.id, source.path, 0, b"")
            runs.append(Run(len(refs), 0, 0, 0, low))
            refs.append(source.ref())
        return Draft(
            one.bucket, one.late, one.kind, count, raw, low, high, tuple(refs), tuple(runs), one.hasher.digest(),
            columns.formats, columns.shn, columns.app, columns.sizes,
            self._packer.compress(columns.lines, columns.small), one.opened,
        )  # fmt: skip
