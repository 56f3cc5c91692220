"""`porter grep QUERY`: search lines where they lie, in bucks and archive, without an index.

A scan prunes as it goes: whole buckets by time, packets and streams by host and path, and in what is left the longest
literal that every match must contain is looked for in the columns (`Rows.find`), so that only lines that may match are
ever rendered. The query's own predicate has the last word on each. A query that names no text takes whole packets.

Output is in order of time, bucket by bucket, but for late lines, which come in the bucket in which they arrived; how
that takes little memory is told in `waiting`. Only what was read twice, and more than `WAITING_MAX` of it in one
bucket, or more than that at one moment, comes in stretches that are in order each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING

from porter.progress import Progress
from porter.reader import Reader
from porter.source import Piece, Scope
from porter.waiting import Match, Matches, Waiting, as_json, as_raw, as_text, escaped
from protocol.limits import POINT_HZ
from protocol.matching import candidates, name, without_end
from protocol.query import Query

if TYPE_CHECKING:
    from porter.columnar import Columns

__all__ = ["Match", "as_json", "as_raw", "as_text", "escaped", "grep", "matches_of", "scope_of"]

WRITTEN_AT, WAITING_MAX = 16 << 20, 64 << 20  # bytes that wait: final ones go out; all, in the order there is

Write = Callable[[bytes], Awaitable[None]]


async def grep(reader: Reader, query: Query, write: Write, render: Callable[[Match], bytes], shown: Progress) -> int:
    """Write every match, rendered; how many there were."""
    matches, columns = Matches(render), _columns(query) if render is as_raw else None
    waiting: Waiting = columns or matches
    done, room = 0, WRITTEN_AT
    at: int | None = None
    async with reader.scan(scope_of(query)) as parts:
        async for bucket, pieces in parts:
            if bucket != at or waiting.size > room:
                earlier = None if bucket != at or waiting.size > WAITING_MAX else min(pieces[0].block.rows.points)
                for data in waiting.take(earlier):
                    await write(data)
                room = max(WRITTEN_AT, 2 * waiting.size)  # what overlaps is not sorted anew with each packet
            if bucket != at:
                done, at = done + 1, bucket
                shown.step(done, datetime.fromtimestamp(bucket, UTC).strftime("%Y-%m-%d %H:%M"))
            if columns:
                for piece in pieces:
                    if piece.last > piece.row and query.admits(host=piece.span.host, path=piece.span.path):
                        columns.add(piece)
            else:
                matches.add(list(matches_of(query, pieces)))
    for data in waiting.take():
        await write(data)
    return waiting.count


def _columns(query: Query) -> Columns | None:
    """Where lines wait that nobody looks into."""
    if query.fields.app or not query.only_fields or find_spec("numpy") is None:
        return None
    from porter.columnar import Columns  # not for who looks into lines: its library takes a tenth of a second

    return Columns(query.fields)


def scope_of(query: Query) -> Scope:
    """What a scan for this query may leave out."""
    fields = query.fields
    hosts = [name for name in fields.host if b"*" not in name]
    paths = [name for name in fields.path if b"*" not in name]
    start = (fields.start or 0) // POINT_HZ
    end = -(-fields.end // POINT_HZ) if fields.end is not None else 0
    return Scope(start, end, hosts, paths, lambda host, path: query.admits(host=host, path=path))


def matches_of(query: Query, pieces: Sequence[Piece]) -> Iterator[Match]:
    """The matches in pieces of one block."""
    block = pieces[0].block
    rows = block.rows
    places = sorted((piece for piece in pieces if piece.last > piece.row), key=lambda piece: piece.row)
    starts = [piece.row for piece in places]
    wanted: list[int] = []
    owners: list[Piece] = []
    for row in candidates(query, rows):
        place = bisect_right(starts, row) - 1
        if place >= 0 and row < places[place].last:
            wanted.append(row)
            owners.append(places[place])
    predicate = query.predicate()
    for row, piece, line in zip(wanted, owners, rows.render_many(wanted), strict=True):
        span = piece.span
        app, point = name(block.app, rows.app[row]), rows.points[row]
        if predicate(without_end(line), span.host, app, span.path, point):
            where = span.host, span.path, span.tailer, span.stream
            yield Match(point, *where, rows.offsets[row], line, app, span.late)
