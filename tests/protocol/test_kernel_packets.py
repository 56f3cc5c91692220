"""The kernel's way in, packet by packet: which one takes a line, when it is full, what it gives back; both kernels."""

from typing import Any

import pytest

from protocol.columns import APP, HOST, PID, TIME
from protocol.limits import PACKET_EVENTS_MAX, PACKET_RUNS_MAX, PACKET_STREAMS_MAX
from tests.protocol.gathering import ALWAYS, ARRIVAL, HINT, NOON, SECOND, Gatherer, events, gather, kernels


@kernels
def test_what_is_fresh_is_told_once_and_joined(kernel: Any) -> None:
    stream, builder = kernel.Stream(HINT), kernel.Builder()
    builder.open(0, ALWAYS)
    for arrival in range(1, 4):
        kernel.encode(stream, 7, b"ab\n", 0, 3 * arrival, arrival, False, [builder], 0, ALWAYS)
    kernel.encode(stream, 8, b"c\n", 0, 0, 4, False, [builder], 0, ALWAYS)
    assert builder.fresh() == [(7, 3, 12), (8, 0, 2)]
    assert builder.fresh() == []
    kernel.encode(stream, 8, b"d\n", 0, 2, 4, False, [builder], 0, ALWAYS)
    kernel.encode(stream, 7, b"e\n", 0, 50, 4, False, [builder], 0, ALWAYS)
    assert builder.fresh() == [(8, 2, 4), (7, 50, 52)]
    assert builder.runs() == [(7, 3, 6, 1, 1), (7, 6, 9, 1, 2), (7, 9, 12, 1, 3), (8, 0, 4, 2, 4), (7, 50, 52, 1, 4)]


@kernels
def test_lines_go_to_the_packet_of_their_time(kernel: Any) -> None:
    minute = 60 * SECOND
    clocks = ["12:00:01", "12:01:00", "12:00:59", "11:59:59", "10:00:00", "12:00:30", "13:00:00"]
    data = b"".join(b"2023-11-14 %b x\n" % clock.encode() for clock in clocks)
    one = Gatherer(kernel, width=minute, oldest=NOON - 10 * minute, newest=NOON + 5 * minute)
    one.start(0)
    one.feed(0, data)
    packets = one.finish()
    assert [(packet.late, len(packet.points)) for packet in packets] == [(False, 3), (False, 1), (False, 1), (True, 2)]
    assert b"".join(event.raw for event in events(packets)[0]) == data
    assert [len(packet.runs) for packet in packets] == [3, 1, 1, 2]
    assert sorted(one.fresh[0]) == [(i * 22, i * 22 + 22) for i in range(7)]


@kernels
def test_a_bucket_that_the_edge_of_lateness_cuts_takes_only_what_is_in_time(kernel: Any) -> None:
    minute = 60 * SECOND
    one = Gatherer(kernel, width=minute, oldest=NOON + 30 * SECOND, newest=NOON + 90 * SECOND)
    one.start(0)
    one.feed(0, b"".join(b"2023-11-14 12:%02d:%02d x\n" % divmod(s, 60) for s in (40, 20, 50, 80, 100, 85)))
    packets = one.finish()
    assert [(packet.late, packet.points) for packet in packets] == [
        (False, (NOON + 40 * SECOND, NOON + 50 * SECOND)),
        (True, (NOON + 20 * SECOND, NOON + 100 * SECOND)),
        (False, (NOON + 80 * SECOND, NOON + 85 * SECOND)),
    ]


@kernels
def test_need_and_full_change_nothing(kernel: Any) -> None:
    stream, builder = kernel.Stream(HINT), kernel.Builder(100)
    line = b"[task 2023-11-14 12:00:01] " + b"x" * 60 + b"\n"
    for _ in range(3):
        answer = kernel.encode(stream, 0, line, 0, 0, ARRIVAL, False, [], 0, ALWAYS)
        assert answer == (0, 1, NOON + SECOND)
    builder.open(0, NOON)
    assert kernel.encode(stream, 0, line, 0, 0, ARRIVAL, False, [builder], 0, ALWAYS) == (0, 1, NOON + SECOND)
    builder.open(0, ALWAYS)
    other = kernel.Builder()
    other.open(0, NOON)
    for _ in range(3):
        used, why, which = kernel.encode(stream, 0, line * 2, 0, 0, ARRIVAL, False, [other, builder], 0, ALWAYS)
        assert (used, why, which) == (len(line), 2, 1)
        builder.open(0, ALWAYS)
    fresh = kernel.Stream(HINT)
    builder.open(0, ALWAYS)
    kernel.encode(fresh, 0, line, 0, 0, ARRIVAL, False, [builder], 0, ALWAYS)
    for _ in range(2):
        builder.open(0, ALWAYS)
        kernel.encode(fresh, 0, line, 0, 0, ARRIVAL, False, [builder], 0, ALWAYS)
    assert fresh.state() == stream.state()


@kernels
def test_a_search_that_is_asked_again_is_spent_once(kernel: Any) -> None:
    stream = kernel.Stream(HINT)
    before = stream.state()
    for _ in range(100):
        assert kernel.encode(stream, 0, b"no time in here\n", 0, 0, ARRIVAL, False, [], 0, ALWAYS)[1] == 1
    assert stream.state() == before


@kernels
def test_a_packet_is_full_by_bytes_events_runs_streams_and_formats(kernel: Any) -> None:
    builder = kernel.Builder()
    builder.open(0, ALWAYS)
    stream = kernel.Stream(HINT)
    block = b"\n" * (PACKET_EVENTS_MAX + 5)
    answer = kernel.encode(stream, 0, block, 0, 0, ARRIVAL, False, [builder], 0, ALWAYS)
    assert answer == (PACKET_EVENTS_MAX, 2, 0)
    builder.open(0, ALWAYS)
    for i in range(PACKET_RUNS_MAX):
        assert kernel.encode(stream, i % 2, b"\n", 0, i, ARRIVAL, False, [builder], 0, ALWAYS)[1] == 0
    assert kernel.encode(stream, 2, b"\n", 0, 0, ARRIVAL, False, [builder], 0, ALWAYS) == (0, 2, 0)
    builder.open(0, ALWAYS)
    for i in range(PACKET_STREAMS_MAX):
        assert kernel.encode(stream, i, b"\n", 0, i, ARRIVAL, False, [builder], 0, ALWAYS)[1] == 0
    assert kernel.encode(stream, 5000, b"\n", 0, 0, ARRIVAL, False, [builder], 0, ALWAYS) == (0, 2, 0)
    assert kernel.encode(stream, 0, b"\n", 0, 77, ARRIVAL, False, [builder], 0, ALWAYS)[1] == 0
    zones = [b"%c%02d:%02d" % (sign, h, m) for sign in b"+-" for h in range(24) for m in (0, 30, 45)]
    builder.open(0, ALWAYS)
    used = kernel.encode(
        kernel.Stream(HINT),
        0,
        b"".join(b"2023-11-14T12:00:01%b x\n" % z for z in zones),
        0,
        0,
        ARRIVAL,
        False,
        [builder],
        0,
        ALWAYS,
    )
    many = kernel.Stream(HINT)
    again = kernel.encode(many, 1, b"2023/11/14 12:00:01.5 x\n", 0, 0, ARRIVAL, False, [builder], 0, ALWAYS)
    assert used[1] == 0, "a stream keeps 128 formats; other lines have no time"
    assert again == (0, 2, 0)
    assert len(builder.finish().formats) == 128


@kernels
def test_a_full_dictionary_leaves_the_names_in_their_lines(kernel: Any) -> None:
    data = b"".join(b"Nov 14 12:00:01 h%d a%d[1]: x\n" % (i // 2, i) for i in range(300)) + b"".join(
        b"Nov 14 12:00:01 g%d a1: x\n" % i for i in range(300)
    )
    packets, _ = gather(kernel, [data])
    assert len(packets[0].shn) == len(packets[0].app) == 255
    found = events(packets)[0]
    assert b"".join(event.raw for event in found) == data
    assert {event.flags for event in found} == {TIME, TIME | HOST, TIME | HOST | APP, TIME | HOST | APP | PID}


@kernels
def test_a_line_larger_than_a_packet_gets_one_of_its_own(kernel: Any) -> None:
    data = b"a\n" + b"x" * 500 + b"\nb\n"
    packets, _ = gather(kernel, [data], raw_max=100)
    assert [packet.raw for packet in packets] == [2, 501, 2]


@kernels
def test_views_outlive_the_next_packet(kernel: Any) -> None:
    builder = kernel.Builder()
    builder.open(0, ALWAYS)
    stream = kernel.Stream(HINT)
    kernel.encode(stream, 0, b"2023-11-14 12:00:01 first\n" * 100, 0, 0, ARRIVAL, False, [builder], 0, ALWAYS)
    first = builder.finish()
    with pytest.raises(ValueError, match="not open"):
        builder.finish()
    assert kernel.encode(stream, 0, b"x\n", 0, 0, ARRIVAL, False, [builder], 0, ALWAYS)[1] == 1, "closed"
    kept = bytes(first.lines), list(first.points)
    builder.open(0, ALWAYS)
    kernel.encode(stream, 0, b"2023-11-14 13:00:02 other\n" * 5000, 0, 0, ARRIVAL, False, [builder], 0, ALWAYS)
    assert (bytes(first.lines), list(first.points)) == kept
    del first
    second = builder.finish()
    assert bytes(second.lines) == b" other\n" * 5000
    builder.open(0, ALWAYS)
    empty = builder.finish()
    assert (bytes(empty.lines), bytes(empty.small), list(empty.points), empty.sizes) == (b"", b"", [], (0,) * 8)


@kernels
def test_a_start_beyond_the_block_is_refused(kernel: Any) -> None:
    for start in (-1, 3):
        with pytest.raises(ValueError, match="start"):
            kernel.encode(kernel.Stream(), 0, b"x\n", start, 0, 0, False, [], 0, ALWAYS)
    assert kernel.encode(kernel.Stream(), 0, memoryview(b"x\n"), 2, 0, 0, True, [], 0, ALWAYS) == (2, 0, 0)
