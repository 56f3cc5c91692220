"""Each event once: duplicates are found by interval arithmetic, and only equal bytes are a duplicate.

The same bytes of a stream can come in two packets: a tailer that lost its journal reads lines again and cuts them
into other packets. So spans are laid side by side, stream by stream, and nothing is looked at where none overlap,
which is nearly always. Where some do, their rows are fetched and compared, byte by byte, over the overlap only:

    first filed     [======================)                    kept whole
    read again                    [==================)
      equal bytes                           [========)          the rest is kept: cut where its events begin
      other bytes                 [=========)                   a clash: those events are shown too, and counted

Which of two stays is decided by where they were filed (`Span.rank`), never by which bucks answered first, so that two
porters, or one over bucks and one over the archive, show the same rows. Points are never compared: a line without a
time of its own gets another when it is read again. A whole file may have been read twice, so overlaps are compared in
windows of a few packets: a window ends at an offset where an event begins in all of them.

What an event was cut into may differ too: a line that was unfinished for long is a fragment in one packet, and whole
in the other. Then only the bytes that are not there yet become a row of their own (`remnant`), and the file is exact.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from porter.remnant import remnant
from porter.source import Clash, Dropped, Origin, Piece, Span, StreamKey
from protocol.ranges import Ranges

__all__ = ["Load", "Merged", "Seen", "merged", "resolve", "tangles", "text_of"]

WINDOW = 16  # pieces that are compared at once: two or three packets of each of the readings of a file

Load = Callable[[Span], Awaitable[Piece | None]]  # None: its packet can't be read, and whoever loads has noted it


@dataclass(frozen=True, slots=True)
class Merged:
    """What is left of overlapping pieces, in order of stream and offset."""

    kept: list[Piece] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    clashes: list[Clash] = field(default_factory=list)


def tangles(spans: Iterable[Span]) -> Iterator[list[Span]]:
    """Spans in order of stream and offset, those that share bytes together; nearly all are alone."""
    group: list[Span] = []
    reach = 0
    for span in sorted(spans, key=lambda one: (one.source, one.first, one.end)):
        if group and group[-1].source == span.source and span.first < reach and span.end > span.first:
            group.append(span)
            reach = max(reach, span.end)
            continue
        if group:
            yield group
        group, reach = [span], span.end
    if group:
        yield group


async def merged(group: Sequence[Span], load: Load, shown: Container[Origin] = ()) -> AsyncGenerator[Merged, None]:
    """The rows of one of `tangles`, in order of offset, a window at a time. What was `shown` before stays."""
    window: list[Piece] = []
    for span in group:
        if len(window) >= WINDOW and _may_cut(window, span.first):
            left = [part for piece in window for part in _cut(piece, piece.span.first, span.first)]
            window = [part for piece in window for part in _cut(piece, span.first, piece.span.end)]
            yield resolve(left, shown)
        piece = await load(span) if span.count else None  # an empty file has nothing to load
        if piece is not None:
            window.append(piece)
    yield resolve(window, shown)


def _may_cut(pieces: Iterable[Piece], offset: int) -> bool:
    """Does an event begin at this offset in every piece that has it?"""
    for piece in pieces:
        if piece.span.first < offset < piece.span.end:
            offsets = piece.block.rows.offsets
            row = bisect_left(offsets, offset, piece.row, piece.last)
            if row == piece.last or offsets[row] != offset:
                return False
    return True


def resolve(pieces: Iterable[Piece], shown: Container[Origin] = ()) -> Merged:
    """Compare the pieces of one stream where they overlap, and keep each event once."""
    result = Merged()
    for piece in sorted(pieces, key=lambda one: (one.span.origin not in shown, one.span.rank)):
        _lay(piece, result)
    result.kept.sort(key=attrgetter("span.first", "span.end"))
    return result


def _lay(piece: Piece, result: Merged) -> None:
    """Keep what nobody has of this piece yet; drop what is equal; show what differs."""
    first, end = piece.span.first, piece.span.end
    under = [old for old in result.kept if old.span.first < end and first < old.span.end]
    if not under:
        result.kept.append(piece)
    elif _agree(piece, under):
        _keep_rest(piece, under, result)
    else:
        for part in _alike(piece, under):
            if _agree(part, under):
                _keep_rest(part, under, result)
            else:
                _clash(part, result)


def _keep_rest(piece: Piece, under: Sequence[Piece], result: Merged) -> None:
    whole = Ranges([(piece.span.first, piece.span.end)])
    taken = Ranges((old.span.first, old.span.end) for old in under) & whole
    for first, end in whole - taken:
        result.kept.extend(_cut(piece, first, end))
    for first, end in taken:
        row, last = _inside(piece, first, end)
        points = tuple(piece.block.rows.points[row:last])
        result.dropped.append(Dropped(piece.span, first, end, points))


def _clash(piece: Piece, result: Merged) -> None:
    """The third reading of a stream may equal the second where that differed from the first."""
    span = piece.span
    for old in result.clashes:
        if (old.first, old.end) == (span.first, span.end) and old.piece.render() == piece.render():
            points = tuple(piece.block.rows.points[piece.row : piece.last])
            result.dropped.append(Dropped(span, span.first, span.end, points))
            return
    result.clashes.append(Clash(piece, span.first, span.end))


def _agree(piece: Piece, under: Sequence[Piece]) -> bool:
    """Are the bytes the same wherever the piece lies over others?"""
    for old in under:
        first, end = max(piece.span.first, old.span.first), min(piece.span.end, old.span.end)
        if first < end and text_of(piece, first, end) != text_of(old, first, end):
            return False
    return True


def _alike(piece: Piece, under: Sequence[Piece]) -> Iterator[Piece]:
    """Cut a piece into stretches of events that all agree, and events that don't. Row by row: this is rare."""
    start, was = piece.row, None
    for row in range(piece.row, piece.last):
        agrees = _agree(_rows(piece, row, row + 1), under)
        if was is not None and (agrees != was or not was):
            yield _rows(piece, start, row)
            start = row
        was = agrees
    yield _rows(piece, start, piece.last)


def _cut(piece: Piece, first: int, end: int) -> Iterator[Piece]:
    """The piece's bytes from `first` to `end`: whole rows, and remnants of those that reach beyond."""
    row, last = _inside(piece, first, end)
    begins = _offset(piece, row)
    if row > piece.row and begins > first:
        yield remnant(piece, row - 1, first - _offset(piece, row - 1), min(end, begins) - _offset(piece, row - 1))
    if row < last:
        yield _rows(piece, row, last)
    at = _offset(piece, last)
    if last < piece.last and max(at, first) < end and at >= first:
        yield remnant(piece, last, 0, end - at)


def _rows(piece: Piece, row: int, last: int) -> Piece:
    """Some of a piece's rows."""
    first, end = _offset(piece, row), _offset(piece, last)
    span = piece.span._replace(first=first, end=end, count=last - row)
    return replace(piece, span=span, row=row, last=last)


def _inside(piece: Piece, first: int, end: int) -> tuple[int, int]:
    """The rows that lie wholly between two offsets."""
    offsets = piece.block.rows.offsets
    row = bisect_left(offsets, first, piece.row, piece.last)
    last = piece.last if end >= piece.span.end else bisect_right(offsets, end, row, piece.last) - 1
    return row, max(row, last)


def _offset(piece: Piece, row: int) -> int:
    """Where a row begins; one past the last: where the piece ends."""
    return piece.block.rows.offsets[row] if row < piece.last else piece.span.end


def text_of(piece: Piece, first: int, end: int) -> bytes:
    """The source's bytes between two offsets of a piece."""
    rows = piece.block.rows
    row = bisect_right(rows.offsets, first, piece.row, piece.last) - 1
    last = bisect_left(rows.offsets, end, row, piece.last)
    data = rows.render(row, last)
    if not piece.span.counts_bytes:
        return data
    skip = first - rows.offsets[row]
    return data[skip : skip + end - first]


class Seen:
    """What was shown of each stream so far: its intervals, joined, so that days of buckets fit into memory."""

    def __init__(self) -> None:
        self._seen: defaultdict[StreamKey, Ranges] = defaultdict(Ranges)

    def add(self, span: Span) -> None:
        """These bytes are shown now."""
        if span.end > span.first:
            self._seen[span.source].add(span.first, span.end)

    def knows_stream(self, span: Span) -> bool:
        """Was anything of its stream shown?"""
        return span.source in self._seen

    def knows(self, span: Span) -> bool:
        """Was any byte of it shown before?"""
        seen = self._seen.get(span.source)
        return seen is not None and bool(seen & Ranges([(span.first, span.end)]))
