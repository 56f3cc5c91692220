"""The bucks as a source of rows: gather, merge, give out, a bucket (or a file) at a time.

A scan goes through the buckets in order of time. A bucket's packets are fetched first; their headers say which runs
overlap, here or with what earlier buckets gave (`Seen`): nearly none, and the rows of a packet are given out together.
Where one does, the earlier rows are fetched again and compared, so that each event is given out once.

A search by time can't just skip the other buckets: late and early events are filed by arrival, with any time. Seals
say which packets hold none of these; of a bucket outside the range only the others are fetched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import groupby

import trio

from porter.cluster import Cluster
from porter.gather import AT_ONCE, Epoch, Numbers, Survey, Want, survey, survey_all
from porter.merge import Seen, merged, tangles
from porter.shelf import QuarantinedError, Shelf
from porter.source import Clash, Origin, Piece, Scope, Source, Span
from protocol.limits import POINT_HZ
from protocol.ranges import Ranges

__all__ = ["Bucks"]


class Bucks:
    """`Source` over a cluster. `others` were scanned before it: packets in `skip` are theirs, and `seen` is shared."""

    def __init__(self, cluster: Cluster, memory: int) -> None:
        self.cluster = cluster
        self.skip: Mapping[tuple[bytes, int], Ranges] = {}
        self.others: Sequence[Source] = ()
        self.seen = Seen()
        self.shelf = Shelf(cluster, memory - memory // 4)
        self.clashes: list[Clash] = []
        self.unsure: set[str] = set()
        self.archived: dict[int, Numbers] = {}  # by bucket: what is wanted and was let go of for the archive
        self._past = Shelf(cluster, memory // 4)  # where overlaps are looked up; empty as long as there are none
        self._past_of: tuple[bytes, bytes, int] | None = None
        self._owner: dict[Origin, Source] = {}

    async def names(self) -> Iterable[tuple[bytes, bytes]]:
        """Every (host, path) on any buck."""
        found: set[tuple[bytes, bytes]] = set()
        for bucket in await self.cluster.buckets():
            found.update((host, path) for host, path, *_ in await self.cluster.streams(bucket.bucket))
        return found

    async def covers(self) -> Mapping[tuple[bytes, int], Ranges]:
        """Nothing for good: bucks let go of what is archived."""
        return {}

    async def spans(self, host: bytes, path: bytes) -> Sequence[Span]:
        """All runs of a file, over all buckets; its packets are on the shelf then."""
        buckets = [bucket.bucket for bucket in await self.cluster.buckets()]
        for at in range(0, len(buckets), AT_ONCE):
            async with trio.open_nursery() as nursery:
                for found in await survey_all(self.cluster, buckets[at : at + AT_ONCE], host, path):
                    self._note(found, self._unskipped)
                    if found.union():
                        nursery.start_soon(self.shelf.fill, found, self._unskipped)
        return [span for span in self.shelf.spans() if (span.host, span.path) == (host, path)]

    def _note(self, found: Survey, want: Want) -> None:
        """What of a bucket can't be had here for sure."""
        self.unsure.update(map(str, found.unsure))
        held = found.union()
        gone = {
            epoch: rest
            for epoch, numbers in found.archived.items()
            if (rest := want(epoch, numbers) - held.get(epoch, Ranges()))
        }
        if gone:
            self.archived[found.bucket] = gone

    async def load(self, span: Span) -> Piece:
        """The rows of a span; QuarantinedError if they can't be read."""
        return await self.shelf.load(span)

    def _unskipped(self, epoch: Epoch, numbers: Ranges) -> Ranges:
        skip = self.skip.get(epoch)
        return numbers - skip if skip else numbers

    @asynccontextmanager
    async def scan(self, scope: Scope) -> AsyncIterator[AsyncIterator[tuple[int, Sequence[Piece]]]]:
        """(bucket, pieces of one packet) after another, each event once."""
        async with aclosing(self._scan(scope)) as pieces:
            yield pieces

    async def _scan(self, scope: Scope) -> AsyncGenerator[tuple[int, Sequence[Piece]], None]:
        punctual = await self._punctual() if scope.start or scope.end else {}
        for bucket in await self.cluster.buckets():
            found = await survey(self.cluster, bucket.bucket, _only(scope.hosts), _only(scope.paths))
            wanted = self._wanted(bucket.bucket, scope, punctual)
            self._note(found, wanted)
            await self.shelf.fill(found, wanted)
            spans = [span for span in self.shelf.spans(*_points(scope)) if _fits(span, scope)]
            async with aclosing(self._once(spans)) as parts:
                async for pieces in parts:
                    yield bucket.bucket, pieces
            for span in spans:
                self.seen.add(span)
            self.shelf.clear()

    async def _once(self, spans: Sequence[Span]) -> AsyncGenerator[Sequence[Piece], None]:
        """The rows of a bucket's spans, without those that were given out before: in it, or by an earlier bucket."""
        alone: list[Span] = []
        tangled: list[list[Span]] = []
        for group in tangles(spans):
            if len(group) == 1 and not self.seen.knows(group[0]):
                alone += group
            else:
                tangled.append(group)
        for group in tangled:
            async with aclosing(self._compared(group)) as parts:
                async for pieces in parts:
                    yield pieces
        alone.sort(key=self._time_order)
        for _, together in groupby(alone, key=self._time_order):
            found = [piece for span in together if (piece := await self._load(span))]
            if found:
                yield found

    def _time_order(self, span: Span) -> tuple[int, bytes, int, int, int]:
        """Of packets, by the earliest point in each: whoever sorts may write what is earlier than the next packet."""
        return self.shelf.begins(span), span.tailer, span.epoch, span.number, span.copy

    async def _compared(self, group: Sequence[Span]) -> AsyncGenerator[Sequence[Piece], None]:
        """What a tangle adds to what was given out before."""
        earlier = [span for span in await self._earlier(group[0]) if span.source == group[0].source]
        shown = {span.origin for span in earlier}
        for part in tangles([*group, *earlier]):
            async for result in merged(part, self._load, shown):
                clashes = [one for one in result.clashes if one.piece.span.origin not in shown]
                self.clashes += clashes
                for piece in [*result.kept, *(one.piece for one in clashes)]:
                    if piece.span.origin not in shown:
                        yield [piece]

    async def _earlier(self, like: Span) -> Sequence[Span]:
        """The runs of a file that were given out before this span's bucket, here or by the other sources."""
        if not self.seen.knows_stream(like):
            return ()
        wanted = (like.host, like.path, like.bucket)
        if self._past_of != wanted:
            self._past.clear()
            self._past_of = wanted
            for bucket in await self.cluster.buckets(0, like.bucket):
                await self._past.fill(await survey(self.cluster, bucket.bucket, like.host, like.path), self._unskipped)
        found = [span for span in self._past.spans() if (span.host, span.path) == wanted[:2]]
        for other in self.others:
            for span in await other.spans(like.host, like.path):
                self._owner[span.origin] = other
                found.append(span)
        return found

    async def _load(self, span: Span) -> Piece | None:
        """The rows of a span of this bucket, of an earlier one, or of another source; None if they can't be read."""
        other = self._owner.get(span.origin)
        if other is not None:
            return await other.load(span)
        try:
            return await (self.shelf if self.shelf.has(span) else self._past).load(span)
        except QuarantinedError:
            return None  # the shelf has noted it, and its report says so

    def _wanted(self, bucket: int, scope: Scope, punctual: Numbers) -> Want:
        """All of a bucket in the range; outside of it only what may hold events of another time."""
        beside = (scope.end and bucket >= scope.end) or bucket + self.cluster.width <= scope.start

        def want(epoch: Epoch, numbers: Ranges) -> Ranges:
            rest = self._unskipped(epoch, numbers)
            return rest - punctual.get(epoch, Ranges()) if beside else rest

        return want

    async def _punctual(self) -> Numbers:
        """The packets that seals state to be of their bucket's time."""
        found: defaultdict[Epoch, Ranges] = defaultdict(Ranges)
        for seal in (await self.cluster.seals()).seals:
            for section in seal.sections:
                if not section.late:
                    found[Epoch(seal.tailer, section.epoch)] |= section.numbers
        return dict(found)


def _fits(span: Span, scope: Scope) -> bool:
    named = (not scope.hosts or span.host in scope.hosts) and (not scope.paths or span.path in scope.paths)
    return bool(span.count) and named and scope.admits(span.host, span.path)


def _only(names: Collection[bytes]) -> bytes:
    """The one name that a listing can be narrowed to, if there is only one."""
    return next(iter(names)) if len(names) == 1 else b""


def _points(scope: Scope) -> tuple[int, int]:
    return scope.start * POINT_HZ, (scope.end or 1 << 32) * POINT_HZ
