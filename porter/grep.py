"""`porter grep QUERY`: search lines where they lie, in bucks and archive, without an index.

A scan prunes as it goes: whole buckets by time, packets and streams by host and path, and in what is left the longest
literal that every match must contain is looked for in the columns (`Rows.find`), so that only lines that may match are
ever rendered. The query's own predicate has the last word on each.

Matches of a bucket are sorted by time and written when the bucket is done (or when there are very many), so output is
in order of time but for late lines, which come where they arrived.
"""

from __future__ import annotations

import base64
import json
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from porter.progress import Progress
from porter.reader import Reader
from porter.source import Piece, Scope
from protocol.limits import POINT_HZ
from protocol.matching import candidates, name, without_end
from protocol.query import Query
from protocol.when import written

__all__ = ["Match", "as_json", "as_raw", "as_text", "escaped", "grep", "matches_of", "scope_of"]

SORTED_BYTES = 64 << 20  # of matches that are sorted at once

Write = Callable[[bytes], Awaitable[None]]


class Match(NamedTuple):
    """One line that was found. In this order they sort by time, then by where they come from."""

    point: int
    host: bytes
    path: bytes
    tailer: bytes
    stream: bytes
    offset: int
    line: bytes  # as it was, with its end
    app: bytes
    late: bool


async def grep(reader: Reader, query: Query, write: Write, render: Callable[[Match], bytes], shown: Progress) -> int:
    """Write every match, rendered; how many there were."""
    found: list[Match] = []
    size = count = done = 0
    at: int | None = None
    async with reader.scan(scope_of(query)) as parts:
        async for bucket, pieces in parts:
            if bucket != at or size > SORTED_BYTES:
                await _flush(found, write, render)
                size = 0
                done += bucket != at
                at = bucket
                shown.step(done, datetime.fromtimestamp(bucket, UTC).strftime("%Y-%m-%d %H:%M"))
            fresh = list(matches_of(query, pieces))
            found += fresh
            count += len(fresh)
            size += sum(len(match.line) + 200 for match in fresh)
    await _flush(found, write, render)
    return count


async def _flush(found: list[Match], write: Write, render: Callable[[Match], bytes]) -> None:
    found.sort()
    for at in range(0, len(found), 1000):
        await write(b"".join(map(render, found[at : at + 1000])))
    found.clear()


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


def as_raw(match: Match) -> bytes:
    """The line as it was; one that had no end gets one, so that two never become one."""
    return match.line if match.line.endswith(b"\n") else match.line + b"\n"


def as_text(match: Match, *, escape: bool) -> bytes:
    """`host path: line`. `escape`: for a terminal, which must not obey what somebody else has written to a log."""
    text = b"%s %s: %s" % (match.host, match.path, without_end(match.line))
    return (escaped(text) if escape else text) + b"\n"


def escaped(text: bytes) -> bytes:
    """Without what a terminal would obey."""
    shown = text.decode("utf-8", "backslashreplace")
    if shown.isprintable():
        return shown.encode()
    return "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in shown).encode()


def as_json(match: Match) -> bytes:
    """One JSON object. `raw` (base64) is there only where the line is not UTF-8, and `line` thus not exact."""
    document: dict[str, object] = {
        "time": written(match.point),
        "host": match.host.decode("utf-8", "backslashreplace"),
        "path": match.path.decode("utf-8", "backslashreplace"),
        "app": match.app.decode("utf-8", "backslashreplace"),
        "line": without_end(match.line).decode("utf-8", "replace"),
        "tailer": match.tailer.hex(),
        "stream": match.stream.hex(),
        "offset": match.offset,
        "late": match.late,
    }
    try:
        match.line.decode()
    except UnicodeDecodeError:
        document["raw"] = base64.b64encode(match.line).decode()
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"
