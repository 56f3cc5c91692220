"""Each event once. The merge is held against a model that looks at every event by itself."""

from __future__ import annotations

import random
import zlib
from collections import Counter

import trio
from hypothesis import given
from hypothesis import strategies as st

from porter.merge import Merged, merged, resolve, tangles
from porter.shelf import block_of, spans_of
from porter.source import Piece, Span
from protocol.packet import Packet
from tests.porter.fleet import BUCKET, FakeTailer

# Lines of a file that is read several times. Some are equal: they are events of their own, at other offsets.
FILE = [b"line %d\n" % number if number % 3 else b"the same\n" for number in range(60)]
STARTS = [sum(map(len, FILE[:number])) for number in range(len(FILE) + 1)]


def pieces_of(packet: Packet) -> list[Piece]:
    """A packet's runs, with their rows."""
    block = block_of(packet)
    pieces, row = [], 0
    for span in spans_of(packet.header):
        pieces.append(Piece(span, block, row, row + span.count))
        row += span.count
    return pieces


def events_of(piece: Piece) -> list[tuple[int, bytes]]:
    """(offset, bytes) of each row."""
    rows = piece.block.rows
    return [(rows.offsets[row], rows.render(row, row + 1)) for row in range(piece.row, piece.last)]


def consistent(piece: Piece) -> bool:
    """Does the span say what the rows are?"""
    events = events_of(piece)
    text = b"".join(data for _, data in events)
    span = piece.span
    return (span.first, span.end, span.count) == (events[0][0], span.first + len(text), len(events))


async def merge_all(pieces: list[Piece]) -> Merged:
    """Everything through tangles and windows, as jobs do it."""
    by_span = {piece.span: piece for piece in pieces}
    assert len(by_span) == len(pieces)

    async def load(span: Span) -> Piece | None:
        return by_span[span]

    whole = Merged()
    for group in tangles(by_span):
        async for part in merged(group, load):
            whole.kept.extend(part.kept)
            whole.dropped.extend(part.dropped)
            whole.clashes.extend(part.clashes)
    return whole


READING = st.tuples(
    st.integers(0, 59),  # first line
    st.integers(1, 40),  # lines
    st.booleans(),  # another tailer: another key, nothing in common
    st.dictionaries(st.integers(0, 59), st.just(b"CHANGED"), max_size=2),
)


@given(st.lists(READING, min_size=1, max_size=7), st.integers(0, 5))
def test_each_identity_with_equal_bytes_is_shown_once_and_other_bytes_beside_it(
    readings: list[tuple[int, int, bool, dict[int, bytes]]], seed: int
) -> None:
    tailers = [FakeTailer("a"), FakeTailer("b")]
    pieces: list[Piece] = []
    model: dict[tuple[bytes, int], Counter[bytes]] = {}
    for first, count, other, changes in readings:
        lines = FILE[first : first + count]
        # a changed line keeps its length, so the offsets of those behind it stay what they are
        lines = [changes[first + i].ljust(len(one) - 1)[: len(one) - 1] + b"\n" if first + i in changes else one
                 for i, one in enumerate(lines)]  # fmt: skip
        tailer = tailers[other]
        for packet in tailer.read(b"/log", b"".join(lines), first=STARTS[first]):
            pieces += pieces_of(packet)
        for i, line in enumerate(lines):
            model.setdefault((tailer.key.node, STARTS[first + i]), Counter())[line] += 1
    random.Random(seed).shuffle(pieces)
    whole = trio.run(merge_all, pieces)
    shown: dict[tuple[bytes, int], Counter[bytes]] = {}
    for piece in [*whole.kept, *(clash.piece for clash in whole.clashes)]:
        assert consistent(piece)
        for offset, data in events_of(piece):
            shown.setdefault((piece.span.tailer, offset), Counter())[data] += 1
    assert shown == {key: Counter(dict.fromkeys(versions, 1)) for key, versions in model.items()}
    events = sum(sum(versions.values()) for versions in model.values())
    dropped = sum(len(one.points) for one in whole.dropped)
    assert events == dropped + sum(sum(versions.values()) for versions in shown.values())


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(1, 300)), min_size=1, max_size=8), st.integers(0, 5))
def test_however_the_bytes_were_cut_into_fragments_the_file_comes_out_exact(
    cuts: list[tuple[int, int]], seed: int
) -> None:
    text = b"".join(FILE)[:800]
    tailer = FakeTailer()
    pieces: list[Piece] = []
    for first, size in cuts:
        part = text[first : first + size]
        if part:
            for packet in tailer.read(b"/log", part, first=first, final=True):
                pieces += pieces_of(packet)
    random.Random(seed).shuffle(pieces)
    whole = trio.run(merge_all, pieces)
    assert not whole.clashes
    at = 0
    for piece in whole.kept:
        assert consistent(piece)
        assert piece.span.first >= at
        at = piece.span.end
        assert piece.render() == text[piece.span.first : piece.span.end]
    covered = {byte for first, size in cuts for byte in range(first, min(first + size, len(text)))}
    assert sum(piece.span.end - piece.span.first for piece in whole.kept) == len(covered)


def test_what_was_filed_first_stays_whatever_order_it_comes_in() -> None:
    tailer = FakeTailer()
    early = pieces_of(tailer.read(b"/log", b"one\ntwo\n")[0])
    late = pieces_of(tailer.read(b"/log", b"one\ntwo\n", bucket=BUCKET + 300)[0])
    for order in ([*early, *late], [*late, *early]):
        assert [piece.span.bucket for piece in resolve(order).kept] == [BUCKET]


def test_what_was_shown_before_stays_even_if_it_was_filed_later() -> None:
    tailer = FakeTailer()
    early = pieces_of(tailer.read(b"/log", b"one\ntwo\n")[0])
    late = pieces_of(tailer.read(b"/log", b"one\n", bucket=BUCKET + 300)[0])
    result = resolve([*early, *late], {late[0].span.origin})
    assert [(piece.span.bucket, piece.render()) for piece in result.kept] == [
        (BUCKET + 300, b"one\n"),
        (BUCKET, b"two\n"),
    ]


def test_two_readings_that_differ_in_the_same_way_are_one_clash() -> None:
    tailer = FakeTailer()
    readings = [b"one\ntwo\n", b"one\nTWO\n", b"one\nTWO\n"]
    pieces = [piece for raw in readings for piece in pieces_of(tailer.read(b"/log", raw)[0])]
    result = resolve(pieces)
    assert [piece.render() for piece in result.kept] == [b"one\ntwo\n"]
    assert [clash.piece.render() for clash in result.clashes] == [b"TWO\n"]


def test_events_with_one_crc_and_other_bytes_are_a_clash() -> None:
    one, other = b"plumless\n", b"buckeroo\n"
    assert zlib.crc32(one) == zlib.crc32(other)
    tailer = FakeTailer()
    result = resolve([piece for raw in (one, other) for piece in pieces_of(tailer.read(b"/log", raw)[0])])
    assert [piece.render() for piece in result.kept] == [one]
    assert [clash.piece.render() for clash in result.clashes] == [other]


def test_a_file_read_twice_is_compared_in_windows_and_never_whole() -> None:
    tailer = FakeTailer()
    lines = [b"line %d\n" % number for number in range(400)]
    pieces: list[Piece] = []
    for size in (5, 397):  # two readings, cut at different lines
        at = 0
        for first in range(0, len(lines), size):
            raw = b"".join(lines[first : first + size])
            pieces += pieces_of(tailer.read(b"/log", raw, first=at)[0])
            at += len(raw)
    windows: list[Merged] = []

    async def collect() -> None:
        by_span = {piece.span: piece for piece in pieces}

        async def load(span: Span) -> Piece | None:
            return by_span[span]

        (group,) = tangles(by_span)
        windows.extend([part async for part in merged(group, load)])

    trio.run(collect)
    assert len(windows) > 4
    assert b"".join(piece.render() for part in windows for piece in part.kept) == b"".join(lines)
