"""The kernel's way in, line by line: which times are read, what is taken out, which year it was; for both kernels."""

import os
from typing import Any

import pytest

from protocol import kernel as chosen
from protocol.columns import APP, CRLF, HOST, OPEN, PART, PID, TIME
from protocol.formats import BSD, CTIME, EPOCH, ISO, SLASH
from protocol.learned import SEARCHES, Learned
from protocol.limits import LINE_MAX
from tests.protocol.gathering import (
    ARRIVAL,
    HINT,
    NOON,
    SECOND,
    Event,
    Gatherer,
    Twin,
    compiled,
    events,
    gather,
    kernels,
)


def read(kernel: Any, data: bytes, hint: int = HINT) -> list[Event]:
    """The events of one stream; the bytes must come back."""
    found = events(gather(kernel, [data], hint)[0]).get(0, [])
    assert b"".join(event.raw for event in found) == data
    return found


TIMES = [
    ("2023-11-14T12:00:01.123456+0100 x", NOON - 3599 * SECOND + 12_345_600),
    ("2023-11-14T12:00:01.123456789Z x", NOON + SECOND + 12_345_678),
    ("2023-11-14 12:00:01,123 x", NOON + SECOND + 12_300_000),
    ("2023-11-14 12:00:01Zulu", NOON + SECOND),
    ("2023-11-14T12:00:01-03:30 x", NOON + 12_601 * SECOND),
    ("Nov 14 12:00:01 host app[12]: x", NOON + SECOND),
    ("Nov  9 12:00:01 host app[12]: x", NOON - 5 * 86400 * SECOND + SECOND),
    ("Nov 09 12:00:01 host app[12]: x", NOON - 5 * 86400 * SECOND + SECOND),
    ("<13>Nov 14 12:00:01 host app: x", NOON + SECOND),
    ("<165>1 2023-11-14T12:00:01.003Z host app 12 ID - x", NOON + SECOND + 300_000),
    ('1.2.3.4 - - [14/Nov/2023:12:00:01 +0000] "GET / HTTP/1.1"', NOON + SECOND),
    ("1699963201.5 x", NOON + SECOND + 50_000_000),
    ("1699963201123 x", NOON + SECOND + 12_300_000),
    ('{"a":1,"ts":1699963201.25}', NOON + SECOND + 25_000_000),
    ('{"level":"info","time":"2023-11-14T12:00:01Z"}', NOON + SECOND),
    ("2023/11/14 12:00:01 [error] 12#12: x", NOON + SECOND),
    ("[Tue Nov 14 12:00:01.123456 2023] [core:error] x", NOON + SECOND + 12_345_600),
    ("Tue Nov 14 12:00:01.123 [conn1] x", NOON + SECOND + 12_300_000),
    ("231114 120001 143 INFO x", NOON + SECOND),
    ("11-14 12:00:01.123  1702  2395 D x", NOON + SECOND + 12_300_000),
    ("[task 2023-11-14T12:00:01.123Z] x", NOON + SECOND + 12_300_000),
]
NO_TIMES = [
    "2023-02-29 12:00:01 no leap year",
    "2023-02-30 12:00:01 never",
    "2016-12-31T23:59:60Z leap second",
    "2023-11-14 24:00:01",
    "1970-12-31 23:59:59 before all times",
    "2262-01-01 00:00:00 after all times",
    "1971-01-01T00:00:00+01:00 this was 1970",
    "0000-01-01 00:00:00",
    "2023-11-14_12:00:01",
    "2023-11-14 12:00:01.1234567890123456789 too fine",
    "[Wed Nov 14 12:00:01 2023] a Tuesday",
    "3000000000 is no time",
    "0999999999.5 x",
    "16999632011 x",
    "11-14 12:00:01 without a fraction",
    "<192>Nov 14 12:00:01 host app: x",
    "<013>Nov 14 12:00:01 host app: x",
    "nov 14 12:00:01 host app: x",
]


@kernels
@pytest.mark.parametrize(("line", "point"), TIMES)
def test_a_time_is_read_and_rendered(kernel: Any, line: str, point: int) -> None:
    (event,) = read(kernel, line.encode() + b"\n")
    assert event.flags & TIME
    assert event.point == point


@kernels
@pytest.mark.parametrize("line", NO_TIMES)
def test_what_is_no_time_stays_in_its_line(kernel: Any, line: str) -> None:
    (event,) = read(kernel, line.encode() + b"\n")
    assert event == Event(0, line.encode() + b"\n", ARRIVAL, 0)


@kernels
def test_a_weekday_chooses_the_year(kernel: Any) -> None:
    (event,) = read(kernel, b"Tue Nov 15 12:00:01.123 [conn1] x\n")
    assert event.point // SECOND == 1_668_513_601, "the last Tuesday, November 15, was that of 2022"


@kernels
@pytest.mark.parametrize(
    ("line", "flags", "left"),
    [
        ("Nov 14 12:00:01 host app[12]: x", TIME | HOST | APP | PID, "x"),
        ("Nov 14 12:00:01 host app[012]: x", TIME | HOST, "app[012]: x"),
        ("Nov 14 12:00:01 host app[1234567890]: x", TIME | HOST, "app[1234567890]: x"),
        ("Nov 14 12:00:01 host app: ", TIME | HOST | APP, ""),
        ("Nov 14 12:00:01 host app:", TIME | HOST, "app:"),
        ("Nov 14 12:00:01 h\u00f6st app: x", TIME, " h\u00f6st app: x"),
        ("2023-11-14T12:00:01Z host app[1]: x", TIME | HOST | APP | PID, "x"),
        ("2023-11-14T12:00:01Z host app x", TIME, " host app x"),
        ("2023-11-14T12:00:01Z (host app: x", TIME, " (host app: x"),
        ("2023-11-14 12:00:01 host app: x", TIME, " host app: x"),
        ("<1>1 2023-11-14T12:00:01Z host app - x", TIME | HOST | APP, "x"),
        ("2023-11-14T12:00:01.123456789Z host app: x", TIME, "9Z host app: x"),
    ],
)
def test_host_app_and_pid_are_taken_only_if_they_come_back(kernel: Any, line: str, flags: int, left: str) -> None:
    packets, _ = gather(kernel, [line.encode() + b"\n"])
    rows = packets[0].rows(Twin)
    assert rows.flags[0] == flags
    assert rows.lines == left.encode() + b"\n"
    assert rows.render() == line.encode() + b"\n"


@kernels
def test_line_ends_are_kept(kernel: Any) -> None:
    found = read(kernel, b"a\r\n\n\r\r\n\r\nlast")
    assert [(event.raw, event.flags) for event in found] == [
        (b"a\r\n", CRLF),
        (b"\n", 0),
        (b"\r\r\n", CRLF),
        (b"\r\n", CRLF),
        (b"last", OPEN),
    ]


@kernels
@pytest.mark.parametrize("size", [LINE_MAX - 1, LINE_MAX, LINE_MAX + 1, 2 * LINE_MAX, 2 * LINE_MAX + 1, 1_000_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_long_line_becomes_fragments(kernel: Any, size: int, end: bytes) -> None:
    line = (b"2023-11-14 12:00:01 " + b"x2023-11-14 13:00:00 " * 50_000)[:size] + end
    found = read(kernel, line + b"2023-11-14 12:00:02 next\n" if end else line)
    parts = [event for event in found if event.offset < len(line)]
    assert [bool(event.flags & PART) for event in parts[:-1]] == [True] * (len(parts) - 1)
    assert all(len(event.raw) == LINE_MAX for event in parts[:-1])
    assert {event.point for event in parts} == {NOON + SECOND}, "fragments have the time of their line"
    assert [bool(event.flags & TIME) for event in parts] == [True] + [False] * (len(parts) - 1)
    if end:
        assert found[-1].point == NOON + 2 * SECOND


@kernels
def test_what_goes_on_after_an_open_line_has_no_time_of_its_own(kernel: Any) -> None:
    one = Gatherer(kernel)
    one.start(0)
    one.feed(0, b"2023-11-14 12:00:01 begin", final=True)
    assert one.streams[0].part
    one.feed(0, b"2023-11-14 13:00:00 rest\n2023-11-14 12:00:03 next\n")
    assert not one.streams[0].part
    assert [(event.point - NOON) // SECOND for event in events(one.finish())[0]] == [1, 1, 3]


@kernels
def test_a_line_without_a_time_takes_the_last_one_or_its_arrival(kernel: Any) -> None:
    one = Gatherer(kernel)
    one.start(0)
    one.feed(0, b"x\n", arrival=NOON - 7)
    one.feed(0, b"y\n", arrival=NOON - 5)
    assert (one.streams[0].timed, one.streams[0].point) == (False, NOON - 5)
    one.feed(0, b"2023-11-14 12:00:01 z\n", arrival=NOON - 3)
    one.feed(0, b"z goes on\n", arrival=NOON - 1)
    assert (one.streams[0].timed, one.streams[0].point) == (True, NOON + SECOND)
    packets = one.finish()
    assert [event.point for event in events(packets)[0]] == [NOON - 7, NOON - 5, NOON + SECOND, NOON + SECOND]
    assert [run[3:] for run in packets[0].runs] == [(1, NOON - 7), (3, NOON - 5)], "another arrival is another run"


@kernels
def test_a_point_that_is_set_is_the_last_one(kernel: Any) -> None:
    one = Gatherer(kernel)
    one.start(0)
    one.streams[0].point = NOON
    one.streams[0].part = True
    one.feed(0, b"2023-11-14 13:00:00 goes on\nx\n")
    assert [event.point for event in events(one.finish())[0]] == [NOON, NOON]


@kernels
def test_the_year_comes_from_the_hint_and_turns(kernel: Any) -> None:
    lines = [
        b"Dec 31 23:59:59 h a: x\n",
        b"Jan  1 00:00:00 h a: x\n",
        b"Dec 31 23:59:58 h a: x\n",
        b"Feb 28 01:02:03 h a: x\n",
    ]
    points = [event.point // SECOND for event in read(kernel, b"".join(lines))]
    new_year = 1_672_531_200  # 2023: in December 2023 the hint had not come yet
    assert points == [new_year - 1, new_year, new_year - 2, new_year + 58 * 86400 + 3723]


@kernels
@pytest.mark.parametrize(
    ("line", "year"), [("Nov 15 22:00:00", 2023), ("Nov 15 22:30:00", 2022), ("Feb 29 00:00:00", 2020)]
)
def test_a_date_is_at_most_a_day_after_the_hint(kernel: Any, line: str, year: int) -> None:
    (event,) = read(kernel, line.encode() + b" h a: x\n")
    assert 0 <= event.point // SECOND - (year - 1970) * 31_556_952 < 31_556_952


@kernels
def test_without_a_hint_a_date_without_a_year_is_no_time(kernel: Any) -> None:
    assert read(kernel, b"Nov 14 12:00:01 h a: x\n", hint=0)[0].flags == 0


@kernels
def test_a_line_that_does_not_match_turns_no_year(kernel: Any) -> None:
    data = b"Dec 31 23:59:59 h a: x\nJan  1 00:00:60 h a: x\nDec 31 23:59:59 h a: x\n"
    points = [event.point // SECOND for event in read(kernel, data)]
    assert points == [1_672_531_199] * 3


@kernels
def test_formats_are_forgotten_after_a_thousand_lines_without_a_hit(kernel: Any) -> None:
    data = b"2023/11/14 12:00:00 once\n" + b"2023-11-14 12:00:01 always\n" * 999
    one = Gatherer(kernel)
    one.start(0)
    one.feed(0, data)
    assert [form.kind for form in Learned.decode(one.streams[0].state()).formats] == [SLASH, ISO]
    one.feed(0, b"2023-11-14 12:00:01 always\n" * 1000)
    assert [form.kind for form in Learned.decode(one.streams[0].state()).formats] == [ISO]


@kernels
def test_an_anchor_outlives_its_first_format(kernel: Any) -> None:
    one = Gatherer(kernel)
    one.start(0)
    one.feed(0, b"[task 2023-11-14 12:00:00] once\n" + b"[task 2023-11-14 12:00:01.5] always\n" * 2000)
    one.feed(0, b"[task 2023-11-14 12:00:01.25] new\n")
    learned = Learned.decode(one.streams[0].state())
    assert [form.digits for form in learned.formats] == [1, 2]
    assert learned.budget == SEARCHES, "the anchor is known: nothing is searched"


@kernels
@pytest.mark.parametrize(
    ("first", "then", "taken"),
    [
        ("2023-11-14 12:00:01Z x", "2023-11-14 12:00:01Zulu x", "Zulu x"),
        ("2023-11-14 12:00:01+01 x", "2023-11-14 12:00:01+01:30 x", " x"),
        ("2023-11-14 12:00:01+01 x", "2023-11-14 12:00:01+01:60 x", ":60 x"),
        ("2023-11-14 12:00:01+01 x", "2023-11-14 12:00:01+0130 x", " x"),
        ("2023-11-14 12:00:01+01:30 x", "2023-11-14 12:00:01+01:305 x", "+01:305 x"),
        ("2023-11-14 12:00:01 x", "2023-11-14 12:00:01 +0130 x", " x"),
        ("2023-11-14 12:00:01 x", "2023-11-14 12:00:01 +01 x", " +01 x"),
        ("2023-11-14 12:00:01 x", "2023-11-14 12:00:01.5 x", " x"),
        ("2023-11-14 12:00:01 x", "2023-11-14 12:00:015 x", "2023-11-14 12:00:015 x"),
        ("2023-11-14 12:00:01.5 x", "2023-11-14 12:00:01.55 x", " x"),
        ("1699963201 x", "1699963201a x", "1699963201a x"),
        ("Tue Nov 14 12:00:01 2023 x", "Tue Nov 14 12:00:01 20234 x", " 20234 x"),
        ("Tue Nov 14 12:00:01 x", "Tue Nov 14 12:00:01 2023 x", " x"),
    ],
)
def test_the_format_before_does_not_change_what_a_line_means(kernel: Any, first: str, then: str, taken: str) -> None:
    packets, _ = gather(kernel, [f"{first}\n{then}\n".encode()])
    alone, _ = gather(kernel, [f"{then}\n".encode()])
    assert packets[0].rows(Twin).lines.split(b"\n")[1] == taken.encode()
    assert alone[0].rows(Twin).lines == taken.encode() + b"\n"
    if taken != then:
        assert packets[0].points[1] == alone[0].points[0]


@kernels
def test_searches_are_bounded_per_thousand_lines_and_not_per_block(kernel: Any) -> None:
    junk = b"".join(b"some words %d and no time at all\n" % i for i in range(70))
    data = junk + b"[task 2023-11-14 12:00:01] x\n"
    assert not read(kernel, data)[-1].flags, "64 searches are spent"
    data = junk[: junk.index(b"words 50 ")].rpartition(b"\n")[0] + b"\n[task 2023-11-14 12:00:01] x\n"
    assert read(kernel, data)[-1].flags == TIME
    packets, _ = gather(kernel, [junk, b"[task 2023-11-14 12:00:01] x\n"], raw_max=200)
    assert not events(packets)[0][-1].flags


def test_the_compiled_kernel_is_in_use_where_it_was_built() -> None:
    assert chosen.COMPILED is (compiled is not None and os.environ.get("BUCK_PURE", "") in ("", "0"))


@kernels
def test_the_kinds_are_what_formats_says(kernel: Any) -> None:
    lines = [b"2023-11-14 12:00:01 x\n", b"Nov 14 12:00:01 x\n", b"1699963201 x\n", b"Tue Nov 14 12:00:01 2023 x\n"]
    packets, _ = gather(kernel, lines)
    assert [form.kind for form in packets[0].formats] == [ISO, BSD, EPOCH, CTIME]
