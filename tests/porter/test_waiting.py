"""Matches that wait: whatever goes out is in order, nothing is lost, and no more waits than overlaps."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from porter.columnar import ROW_COST, Columns
from porter.source import Block, Piece, Span
from porter.waiting import Match, Matches, as_raw
from protocol.kernel import Rows
from protocol.query import Fields
from tests.protocol.packets_by_hand import TIME, Made, Row

POINTS = st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=12), min_size=1, max_size=8)
START = 1_763_596_800 * 10**8


class Lines:
    """Rows whose points and text are given: what Columns asks of a Rows."""

    def __init__(self, points: Sequence[int], texts: Sequence[bytes]) -> None:
        self._texts = texts
        self.points = memoryview(array("Q", points))
        self.raw_sizes = memoryview(array("I", map(len, texts)))

    def render(self, row: int, last: int) -> bytes:
        return b"".join(self._texts[row:last])


def piece(number: int, points: Sequence[int], texts: Sequence[bytes]) -> Piece:
    rows: Any = Lines(points, texts)
    ends = sum(map(len, texts))
    span = Span(b"h", b"/%d" % number, b"s", b"t", 1, number, 0, False, 0, 0, ends, len(points), points[0])
    return Piece(span, Block(rows, (), (), ()), 0, len(points))


def made(packets: Sequence[Sequence[int]]) -> list[Piece]:
    """A piece a packet, in order of the earliest point in each; every text says its point and whose it is."""
    ordered = sorted(packets, key=min)
    return [
        piece(n, points, [b"%d %d %d\n" % (p, n, i) for i, p in enumerate(points)]) for n, points in enumerate(ordered)
    ]


def keys(lines: bytes) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in lines.splitlines()]


@given(POINTS)
def test_what_is_earlier_than_the_packet_at_hand_is_final_and_comes_in_order(packets: list[list[int]]) -> None:
    waiting, out = Columns(Fields()), b""
    pieces = made(packets)
    for one in pieces:
        first = min(one.block.rows.points)
        out += b"".join(waiting.take(first))
        overlap = sum(1 for other in pieces[: one.span.number] for p in other.block.rows.points if p >= first)
        assert waiting.size <= overlap * (ROW_COST + 12)
        waiting.add(one)
    out += b"".join(waiting.take())
    expected = sorted([p, n, i] for n, points in enumerate(sorted(packets, key=min)) for i, p in enumerate(points))
    assert keys(out) == expected
    assert (waiting.count, waiting.size) == (len(expected), 0)


@given(POINTS, st.integers(0, 60), st.integers(0, 60))
def test_only_rows_of_the_time_that_is_asked_for_are_taken(packets: list[list[int]], start: int, end: int) -> None:
    waiting = Columns(Fields(start=start, end=end))
    for one in made(packets):
        waiting.add(one)
    expected = sorted(p for points in packets for p in points if start <= p < end)
    assert [key[0] for key in keys(b"".join(waiting.take()))] == expected


@given(POINTS)
def test_columns_and_matches_give_the_same_lines(packets: list[list[int]]) -> None:
    columns, matches = Columns(Fields()), Matches(as_raw)
    for one in made(packets):
        columns.add(one)
        lines = one.render().splitlines(keepends=True)
        span = one.span
        matches.add(
            [
                Match(p, span.host, span.path, span.tailer, span.stream, i, line, b"", False)
                for i, (p, line) in enumerate(zip(one.block.rows.points, lines, strict=True))
            ]
        )
    for before in (7, 30, None):
        assert b"".join(columns.take(before)) == b"".join(matches.take(before))


@pytest.mark.parametrize("ends", [(b"one", b"two\n"), (b"one\r\n", b"two"), (b"", b"\n")])
def test_a_line_that_had_no_end_gets_one(ends: tuple[bytes, bytes]) -> None:
    waiting = Columns(Fields())
    waiting.add(piece(0, [5, 5], ends))
    assert b"".join(waiting.take()) == b"".join(as_raw(Match(0, b"", b"", b"", b"", 0, e, b"", False)) for e in ends)


def test_it_takes_what_a_real_packet_has() -> None:
    rows = Rows.decode(**Made([Row(b"b", flags=TIME, point=START + 10**8, form=0), Row(b"c")], [(0, 2)]).arguments())
    span = piece(0, [1], [b"x"]).span
    waiting = Columns(Fields())
    waiting.add(Piece(span, Block(rows, (), (), ()), 0, rows.count))
    assert b"".join(waiting.take()).count(b"\n") == 2
