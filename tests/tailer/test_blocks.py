"""Blocks: how lines are dealt to builders, when those close, and what the drafts say."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.content import rows_content
from protocol.header import Header
from protocol.kernel import Rows, Stream
from protocol.limits import BUILDERS_MAX, HEADER_MAX, PACKET_RAW_MAX, POINT_HZ
from protocol.packet import Class, build, read, unpack
from tailer.blocks import AGE_MAX_S, AGE_MIN_S, GATHER_RAW, IDLE_S, Blocks, Draft, Source

ARRIVAL = 1_790_000_000 * POINT_HZ  # 2026-09-21T14:13:20Z
DAY = 86_400
HANDLES = itertools.count(1)


def source(path: bytes = b"/a.log", kind: Class | None = None) -> Source:
    handle = next(HANDLES)
    return Source(handle, handle.to_bytes(16, "big"), path, bytes(8), kind or Class(), Stream(ARRIVAL))


def stamped(second: int, text: str = "a line") -> bytes:
    """A line with a time, counted in seconds from the arrival."""
    whole = 14 * 3600 + 13 * 60 + 20 + second
    day, rest = divmod(whole, DAY)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"2026-09-{21 + day:02}T{clock}Z {text}\n".encode()


def add(blocks: Blocks, one: Source, data: bytes, offset: int = 0, now: float = 0.0, arrival: int = ARRIVAL) -> int:
    return blocks.add(one, memoryview(data), 0, offset, arrival, True, now)


def decoded(draft: Draft) -> tuple[Header, Rows]:
    header = Header(
        env="e", bucket=draft.bucket, width=300, tailer=bytes(16), host=b"host", epoch=1, number=1, kind=draft.kind,
        count=draft.count, point_min=draft.point_min, point_max=draft.point_max, late=draft.late, streams=draft.streams,
        runs=draft.runs, content=draft.content, formats=draft.formats, shn=draft.shn, app=draft.app, sizes=draft.sizes,
    )  # fmt: skip
    packet = read(build(header, draft.body))
    head = packet.header
    return head, Rows.decode(unpack(packet), head.count, head.sizes, head.formats, head.shn, head.app, head.runs)


def bucket(second: int) -> int:
    return (ARRIVAL // POINT_HZ + second) // 300 * 300


def test_lines_go_to_the_bucket_of_their_time() -> None:
    blocks = Blocks(300, b"host")
    data = b"".join(stamped(second) for second in (-600, 0, -600, 0, -601))
    add(blocks, source(), data)
    drafts = blocks.flush()
    assert {(draft.bucket, draft.count) for draft in drafts} == {(bucket(0), 2), (bucket(-600), 3)}
    for draft in drafts:
        assert draft.bucket <= draft.point_min // POINT_HZ <= draft.point_max // POINT_HZ < draft.bucket + 300
        assert not draft.late


def test_a_line_at_the_edge_of_a_bucket_belongs_to_the_later_one() -> None:
    edge = bucket(0) - ARRIVAL // POINT_HZ
    blocks = Blocks(300, b"host")
    add(blocks, source(), stamped(edge) + stamped(edge - 1))
    found = {draft.bucket: draft.count for draft in blocks.flush()}
    assert found == {bucket(0): 1, bucket(0) - 300: 1}


def test_lines_without_a_time_have_that_of_the_line_before_and_the_first_its_arrival() -> None:
    blocks = Blocks(300, b"host")
    add(blocks, source(), b"no time yet\n" + stamped(-1000) + b"\tat a.b.c\n")
    found = {draft.bucket: draft.count for draft in blocks.flush()}
    assert found == {bucket(0): 1, bucket(-1000): 2}


def test_late_and_early_lines_are_filed_by_arrival() -> None:
    blocks = Blocks(300, b"host")
    seconds = (-2 * DAY, -10 * DAY, 0, 3600)
    add(blocks, source(), b"".join(stamped(second) for second in seconds))
    drafts = blocks.flush()
    (late,) = [draft for draft in drafts if draft.late]
    assert late.bucket == bucket(0)
    assert late.count == 3
    assert late.point_min == ARRIVAL - 10 * DAY * POINT_HZ
    assert late.point_max == ARRIVAL + 3600 * POINT_HZ


def test_the_bounds_of_late_and_early_cut_no_bucket() -> None:
    """All lines of the bucket that holds the bound go the same way."""
    blocks = Blocks(300, b"host")
    first = bucket(-DAY) - ARRIVAL // POINT_HZ
    add(blocks, source(), b"".join(stamped(first + second) for second in range(0, 300, 10)))
    drafts = blocks.flush()
    assert [(draft.late, draft.count) for draft in drafts] == [(False, 30)]


def test_a_late_builder_closes_when_arrivals_reach_the_next_bucket() -> None:
    blocks = Blocks(300, b"host", gather=True)
    one = source()
    used = add(blocks, one, stamped(-2 * DAY))
    assert not blocks.take()
    add(blocks, one, stamped(-2 * DAY), used, arrival=ARRIVAL + 300 * POINT_HZ)
    assert [draft.bucket for draft in blocks.take()] == [bucket(0)]
    assert [draft.bucket for draft in blocks.flush()] == [bucket(300)]


def test_a_ninth_builder_closes_the_fullest() -> None:
    blocks = Blocks(300, b"host")
    one, offset = source(), 0
    for i in range(BUILDERS_MAX + 1):
        data = stamped(-300 * i, "x" * (900 if i == 3 else 10))
        offset += add(blocks, one, data, offset)
    (closed,) = blocks.take()
    assert closed.bucket == bucket(-900)
    assert len(blocks.flush()) == BUILDERS_MAX


def test_classes_do_not_share_a_packet() -> None:
    blocks = Blocks(300, b"host")
    dear = Class(3, True, True)
    for kind in (Class(), dear):
        add(blocks, source(kind=kind), stamped(0))
    assert {draft.kind for draft in blocks.flush()} == {Class(), dear}


def test_streams_share_a_packet() -> None:
    blocks = Blocks(300, b"host")
    for i in range(100):
        add(blocks, source(b"/%d.log" % i), stamped(0, f"of file {i}"))
    (draft,) = blocks.flush()
    assert len(draft.streams) == len(draft.runs) == 100
    header, rows = decoded(draft)
    assert rows.render() == b"".join(stamped(0, f"of file {i}") for i in range(100))
    assert rows_content(b"host", header.streams, header.runs, rows) == draft.content


def test_a_full_builder_closes_at_once() -> None:
    blocks = Blocks(300, b"host", gather=True)
    data = stamped(0, "y" * 1000) * (5 << 10)
    used = add(blocks, source(), data)
    assert used == len(data)
    drafts = blocks.take() + blocks.flush()
    assert sum(draft.raw for draft in drafts) == len(data)
    assert all(draft.raw > PACKET_RAW_MAX - 2000 for draft in drafts[:-1])


def test_a_header_with_many_long_paths_stays_within_its_limit() -> None:
    blocks = Blocks(300, b"host", gather=True)
    for i in range(900):
        add(blocks, source(b"/%d/" % i + b"p" * 4000), stamped(0))
    for i in range(300):
        blocks.leave_empty(source(b"/%d/" % i + b"e" * 4000), ARRIVAL, 0.0)
    drafts = blocks.flush()
    assert sum(len(draft.streams) for draft in drafts) == 1200
    for draft in drafts:
        header, _ = decoded(draft)
        assert len(header.encode()) < HEADER_MAX


@pytest.mark.parametrize(
    ("linger", "live", "size", "age"),
    [
        (AGE_MAX_S, False, 100, AGE_MAX_S),
        (AGE_MAX_S, False, GATHER_RAW, AGE_MIN_S),
        (AGE_MAX_S, True, 100, AGE_MIN_S),
        (AGE_MAX_S, True, GATHER_RAW, AGE_MIN_S),
        (60.0, False, 100, 60.0),
        (60.0, True, 100, AGE_MIN_S),
        (0.005, False, 100, 0.005),
        (0.005, False, GATHER_RAW, 0.005),
        (0.005, True, 100, 0.005),
    ],
)
def test_a_builder_closes_by_age(linger: float, live: bool, size: int, age: float) -> None:
    blocks = Blocks(300, b"host", linger=linger)
    blocks.live = live
    assert blocks.hurries == (live or linger < 1.0)
    add(blocks, source(), stamped(0, "z" * size), now=100.0)
    assert blocks.next_due() == 100.0 + age
    assert not blocks.due(100.0 + age - 0.01)
    assert len(blocks.due(100.0 + age)) == 1
    assert blocks.next_due() == float("inf")


def test_a_gathering_builder_waits_until_nothing_comes() -> None:
    blocks = Blocks(300, b"host", gather=True)
    one, offset = source(), 0
    for i in range(10):
        offset += add(blocks, one, stamped(0), offset, now=3.0 * i)
        assert not blocks.due(3.0 * i)
    assert len(blocks.due(27.0 + IDLE_S)) == 1


def test_empty_files_are_runs_without_events() -> None:
    blocks = Blocks(300, b"host")
    for i in range(3):
        blocks.leave_empty(source(b"/%d" % i), ARRIVAL, 0.0)
    (draft,) = blocks.due(AGE_MAX_S)
    header, rows = decoded(draft)
    assert draft.count == rows.count == 0
    assert [(run.first, run.end, run.count) for run in draft.runs] == [(0, 0, 0)] * 3
    assert rows_content(b"host", header.streams, header.runs, rows) == draft.content


def test_an_unfinished_line_is_left_unless_it_is_final() -> None:
    blocks = Blocks(300, b"host")
    one = source()
    data = memoryview(stamped(0) + b"unfinished")
    used = blocks.add(one, data, 0, 0, ARRIVAL, False, 0.0)
    assert used == len(stamped(0))
    assert blocks.add(one, data, used, used, ARRIVAL, False, 0.0) == used
    assert blocks.add(one, data, used, used, ARRIVAL, True, 0.0) == len(data)


LINE = st.one_of(
    st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"") + b"\n"),
    st.integers(-3 * DAY, 900).map(stamped),
    st.integers(-900, 0).map(lambda s: stamped(s, "app[12]: text")),
)


@given(lines=st.lists(LINE, max_size=60), cuts=st.lists(st.integers(0, 400), max_size=12), tail=st.binary(max_size=9))
def test_the_bytes_and_their_content_come_out_however_they_were_cut(
    lines: list[bytes], cuts: list[int], tail: bytes
) -> None:
    data = b"".join(lines) + tail
    blocks, one, done = Blocks(300, b"host"), source(), 0
    drafts = []
    for end in [*sorted(min(cut * 7, len(data)) for cut in cuts), len(data)]:
        if end > done:
            block = memoryview(b"......" + data[done:end])
            done += blocks.add(one, block, 6, done, ARRIVAL, end == len(data), 0.0) - 6
        drafts += blocks.take()
    drafts += blocks.flush()
    pieces = {}
    for draft in drafts:
        header, rows = decoded(draft)
        assert rows_content(b"host", header.streams, header.runs, rows) == draft.content
        assert draft.raw == sum(run.end - run.first for run in draft.runs)
        row = 0
        for run in draft.runs:
            assert run.first not in pieces
            pieces[run.first] = rows.render(row, row + run.count)
            row += run.count
    assert b"".join(pieces[first] for first in sorted(pieces)) == data
