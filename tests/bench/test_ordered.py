"""What paper 3 is made of: loads, sorters, the judge of what came out, and how growth is fitted."""

from __future__ import annotations

import io
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.papers import disorder, ordered, windows
from bench.papers.disorder import STAMP, WINDOW_S, Sender, Sum, begin_us, stamps, times_of, write
from bench.papers.growth import better, comparisons, fit, passes, trie_depth
from bench.papers.pages import Page
from bench.papers.piped import Sink, measure
from bench.papers.results import Results, Row
from bench.papers.sorters import Buckets, cut_up, external
from bench.papers.steps import Scale
from bench.rivals.process import RivalError
from protocol.limits import LATE_S
from protocol.packet import Class, Header, StreamRef

WIDTH_US = WINDOW_S * 10**6
START_US = 1_763_596_800 * 10**6  # a window's edge, and a day's


def lines_at(times: list[int]) -> bytes:
    """A line for each time, counted in microseconds from the beginning of the load."""
    heads = stamps(np.array(times, np.int64) + START_US)
    return b"".join(head.tobytes() + b" line %d\n" % i for i, head in enumerate(heads))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_bytes(b"".join(b"Jun  9 06:06:%02d combo app[%d]: text %d\n" % (i % 60, i, 7 * i) for i in range(500)))
    return path


# --- loads -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 5 * 10**12), min_size=1, max_size=30))
def test_times_are_read_as_they_were_written(times: list[int]) -> None:
    data = np.frombuffer(lines_at(times), np.uint8)
    starts = np.concatenate(([0], np.flatnonzero(data == 10)[:-1] + 1))
    assert (times_of(data, starts) - START_US).tolist() == times


def test_a_time_is_written_as_everybody_reads_it() -> None:
    assert stamps(np.array([1_763_842_504_123_456]))[0].tobytes() == b"2025-11-22T20:15:04.123456Z"


@given(st.floats(1.7e9, 4e9))
def test_a_load_begins_at_a_window_and_its_largest_lies_before_now_and_is_not_too_old(now_s: float) -> None:
    scale, begin = Scale(False, ()), begin_us(now_s)
    assert begin % WIDTH_US == 0
    assert begin / 1e6 > now_s - LATE_S + 3600  # which loading and measuring all sizes may take
    assert begin / 1e6 + max(windows.sizes(scale)) / windows.window_raw(scale) * WINDOW_S < now_s


def packet(bucket: int, late: bool = False, path: bytes = b"/x/part5/sender1.log") -> Header:
    stream = StreamRef(b"i", path, b"h")
    return Header("prod", bucket, WINDOW_S, b"t", b"h", 0, 0, Class(), 7, 0, 0, late, (stream,), (), b"")


def test_windows_are_counted_among_what_is_filed_and_it_is_an_error_if_there_are_none() -> None:
    spread = [packet(300 * i // 2) for i in range(20)] + [packet(10**6, True, b"/x/ready.log")]
    assert windows.filed(spread[::2] * 2 + spread[-1:], 10.2) == 10
    with pytest.raises(RivalError, match=r"goes on for 250\.0 windows, and lies in 1$"):
        windows.filed([packet(0)], 250.0)
    with pytest.raises(RivalError, match="7 of 14 lines were filed by their arrival"):
        windows.filed([packet(0), packet(300, late=True)], 2.0)


def test_senders_go_through_the_same_time_and_few_of_their_lines_are_late(log: Path, tmp_path: Path) -> None:
    def load(apart: bool) -> list[bytes]:
        senders = [Sender([log], i, seed=3, begin=START_US, block=20_000) for i in range(3)]
        paths, made, end = write(tmp_path / str(apart), senders, START_US, 300_000, 100_000, apart)
        datas = [path.read_bytes() for path in paths]
        assert made == sum((Sum.of(np.frombuffer(data, np.uint8)) for data in datas), Sum())
        assert made.size == pytest.approx(300_000, rel=0.02)
        assert (end - START_US) / WIDTH_US == pytest.approx(3, rel=0.02)
        return datas

    apart, together = load(True), load(False)
    assert sorted(line for data in apart for line in data.splitlines()) == sorted(together[0].splitlines())
    times = cut_up(together[0]).times
    late = np.maximum.accumulate(times) - times
    assert 0 < late.max() <= disorder.LATE_MAX_US
    assert 0.02 < np.count_nonzero(late) / len(late) < 0.12
    texts = [line[STAMP:] for line in apart[0].splitlines()]
    assert len(set(texts)) > 0.9 * len(texts)  # numbers go on changing
    assert not any(b"06:06" in text for text in texts)  # their own times are gone


# --- sorters ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**6), max_size=300), st.integers(200, 4000))
def test_an_external_sort_gives_all_lines_in_order_whatever_fits(times: list[int], memory: int) -> None:
    import tempfile

    data, out = lines_at(times) if times else b"", io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        runs = external(io.BytesIO(data), out, Path(folder), memory)
        assert not list(Path(folder).iterdir())
    assert runs == 0 if not times else runs >= 1
    assert out.getvalue().splitlines() == sorted(data.splitlines(), key=lambda line: line[:STAMP])


def test_a_window_is_written_when_every_partition_is_past_its_end_and_not_before(tmp_path: Path) -> None:
    out = io.BytesIO()
    found = Buckets(out, tmp_path, 1 << 30, 2)
    found.add(0, lines_at([5, WIDTH_US - 1, 3, WIDTH_US + 2_000_000]))
    assert not out.getvalue()
    found.add(1, lines_at([4, WIDTH_US + 999_999]))
    assert not out.getvalue()
    found.add(1, lines_at([WIDTH_US + 1_000_000]))
    assert (cut_up(out.getvalue()).times - START_US).tolist() == [3, 4, 5, WIDTH_US - 1]
    with pytest.raises(ValueError, match=r"more than 1\.0 s late"):
        found.add(0, lines_at([7]))
    found.ended(0)
    found.ended(1)
    assert (cut_up(out.getvalue()).times - START_US).tolist()[4:] == [WIDTH_US + n for n in (999_999, 10**6, 2 * 10**6)]


def test_windows_go_to_files_when_memory_is_short_and_come_back(tmp_path: Path) -> None:
    out, rng = io.BytesIO(), random.Random(1)
    times = [rng.randrange(WIDTH_US) for _ in range(200)]
    found = Buckets(out, tmp_path, 4000, 1)
    for at in range(0, 200, 20):
        found.add(0, lines_at(times[at : at + 20]))
    assert list(tmp_path.iterdir())
    found.ended(0)
    assert (cut_up(out.getvalue()).times - START_US).tolist() == sorted(times)
    assert not list(tmp_path.iterdir())


# --- the judge -------------------------------------------------------------------------------------------------------


def judged(data: bytes, expected: bytes) -> Sink:
    sink = Sink(0.0)
    for at in range(0, len(data), 100):
        sink.take(data[at : at + 100])
    sink.check(Sum.of(np.frombuffer(expected, np.uint8)), "it")
    return sink


def test_what_is_lost_twice_or_out_of_order_is_seen() -> None:
    data = lines_at([1, 2, 3, WIDTH_US])
    assert judged(data, data).first_s > 0
    one, two, *rest = data.splitlines(keepends=True)
    with pytest.raises(RivalError, match="not in order"):
        judged(b"".join([two, one, *rest]), data)
    for wrong in ([one, *rest], [one, one, *rest], [one, two, two, *rest], [one, two, *rest, b"2025"]):
        with pytest.raises(RivalError, match="came out"):
            judged(b"".join(wrong), data)
    with pytest.raises(RivalError, match="without a time"):
        judged(b"ready\n" + data, data)


def test_a_pipe_is_measured_and_a_program_that_fails_is_named(tmp_path: Path) -> None:
    data = lines_at(list(range(1000)))
    (tmp_path / "lines").write_bytes(data)
    expected = Sum.of(np.frombuffer(data, np.uint8))
    cost = measure(
        "it", [["cat", str(tmp_path / "lines")]], ["sh", "-c", "sleep 0.1; sort"], expected, tmp_path / "log"
    )
    assert set(cost.parts) == {"cat", "sh"}
    assert cost.written >= 2 * len(data)
    assert cost.cpu_s > 0 < cost.peak
    words = [sys.executable, "-c", "raise SystemExit(3)"]
    with pytest.raises(RivalError, match="ended with 3"):
        measure("it", [], words, expected, tmp_path / "log")


# --- growth ----------------------------------------------------------------------------------------------------------

SIZES = [1e3 * 2**i for i in range(6)]


def test_a_law_is_found_from_its_own_points() -> None:
    linear = better(SIZES, [3.0 + 0.002 * n for n in SIZES])[0]
    assert (linear.law, round(linear.fixed, 6), round(linear.each, 6)) == ("linear", 3.0, 0.002)
    assert linear.worst < 1e-9
    sorting = better(SIZES, [1.0 + 0.5 * n * np.log2(n) for n in SIZES])[0]
    assert sorting.law == "n log n"
    assert sorting.at(2e3) == pytest.approx(1.0 + 0.5 * 2e3 * np.log2(2e3))
    costs = [2.0 + 0.1 * n * (1 + passes(n, 4e3)) for n in SIZES]
    external_sort = better(SIZES, costs, room=4e3)[0]
    assert external_sort.law == "n passes"
    assert external_sort.at(4e3) == pytest.approx(2.0 + 0.1 * 4e3)
    assert external_sort.at(8e3) == pytest.approx(2.0 + 0.1 * 8e3 * 2)
    assert better(SIZES, costs, room=1e9)[0].law != "n passes"  # it says the same as the linear one where all fits
    falling = fit("linear", [1.0, 2.0], [2.0, 1.0])
    assert falling.fixed >= 0 <= falling.each
    with pytest.raises(ValueError, match="two sizes"):
        fit("linear", [1.0], [1.0])


def test_the_least_that_a_sort_must_do() -> None:
    assert comparisons(1) == 0
    assert comparisons(4) == pytest.approx(np.log2(24) / 4)
    assert comparisons(10**6) == pytest.approx(20 * np.log10(2) / np.log10(2) - 1.51, abs=0.02)
    assert [passes(size, 100.0) for size in (50, 100, 101, 1600, 1601)] == [0, 0, 1, 1, 2]
    assert [trie_depth(span) for span in (1, 2, 16, 17, 256, 300 * 10**8)] == [0, 1, 1, 2, 2, 9]


# --- pages -----------------------------------------------------------------------------------------------------------


def test_the_page_is_written_from_whatever_there_is(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    results.left_out(Row(3, "ordered", "nats", "", 0), "no nats-server")

    def row(way: str, size: int, cpu_s: float) -> dict[str, object]:
        figures = dict.fromkeys(("peak", "read", "written", "stored", "lines"), size)
        times = {"cpu_s": cpu_s, "servers_cpu_s": 0.1, "first_s": 1.0, "last_s": 2.0}
        return {"way": way, "size": size, "target": size, **figures, **times}

    facts: dict[str, object] = {"differences": ["it is other"], "window_raw": 10**6, "memory": 10**6, "buckets": 41}
    facts |= {"loading_cpu_s": 0.7, "loaded": 10**8}
    sizes = [10**7, 2 * 10**7, 4 * 10**7]
    ways = {"buck": ["merge"], "kafka": ["GNU sort", "external sort", "buckets"]}
    for system, some in ways.items():
        rows = [row(way, size, size / 1e7 * (1 if system == "buck" else 3)) for way in some for size in sizes]
        results.add(Row(3, "ordered", system, "", 0), {"rows": rows, **facts}, 1, 1.0)
    page = Page(3, results)
    ordered.fill(results, {3: page})
    page.write(tmp_path / "3.md")
    text = (tmp_path / "3.md").read_text()
    assert "{{" not in text
    assert "left out: no nats-server" in text
    assert "| kafka, GNU sort | 0.04 GB | 0.34 | 0.5: reached |" in text
    assert "- kafka: it is other." in text
    assert "41 windows" in text
    assert "| kafka | 7 |" in text
    assert "n passes" in text


def test_a_page_stands_where_nothing_was_measured(tmp_path: Path) -> None:
    page = Page(3, Results(tmp_path / "results"))
    ordered.fill(page.results, {3: page})
    page.write(tmp_path / "3.md")
    assert "not measured" in (tmp_path / "3.md").read_text()
