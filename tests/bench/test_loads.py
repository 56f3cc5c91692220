"""Full and small load: the lines that are loaded, what is counted in the systems' files, and the page."""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.papers import full_load, loads, material, where
from bench.papers.pages import Page
from bench.papers.results import Results, Row
from bench.papers.small_load import batches
from bench.papers.steps import Scale

# --- the lines -------------------------------------------------------------------------------------------------------


def test_less_than_there_is_is_the_beginning_of_each_log_in_whole_lines(tmp_path: Path) -> None:
    for name, text in (("a.log", b"one line of a\n" * 100), ("b.log", b"b\n" * 100 + b"no end")):
        (tmp_path / name).write_bytes(text)
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    path = material.one_file(tmp_path / "made", logs, 400)
    data = path.read_bytes()
    assert 400 <= len(data) <= 400 + 2 * 14
    assert data.startswith(b"one line of a\n" * 20)
    assert data.endswith(b"b\n")
    made = path.stat()
    assert material.one_file(tmp_path / "made", logs, 400).stat() == made  # and is not made again
    assert material.head(path, 3).read_bytes() == b"one line of a\n" * 3


def test_more_than_there_is_is_each_log_and_other_days_of_it() -> None:
    data = b"2024-01-05 12:00:00 session 123456 opened\n"
    long = material.stretched(data, 3 * len(data))
    lines = long.splitlines(keepends=True)
    assert [len(line) for line in lines] == [len(data)] * 3
    assert len(set(lines)) == 3
    assert material.stretched(b"no end", 6) == b"no end\n"
    assert material.stretched(b"", 100) == b""


# --- what Kafka is given as blobs ------------------------------------------------------------------------------------


@given(st.binary(max_size=300), st.integers(1, 40))
def test_pieces_are_whole_lines_and_together_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, size: int
) -> None:
    blobs = pytest.importorskip("bench.papers.blobs", reason="no confluent-kafka")
    path = tmp_path_factory.mktemp("pieces") / "file"
    path.write_bytes(data)
    found = list(blobs.pieces(path, size))
    assert b"".join(found) == data
    assert all(piece.endswith(b"\n") for piece in found[:-1])
    assert all(len(piece) <= size or piece.count(b"\n") == 1 for piece in found[:-1])
    assert sum(map(blobs.count_lines, found)) == sum(line not in (b"", b"\r") for line in data.split(b"\n"))


def test_batches_of_a_kafka_log_are_counted_and_a_torn_one_is_not() -> None:
    def batch(offset: int, size: int) -> bytes:
        return struct.pack(">qi", offset, size) + bytes(size)

    whole = batch(0, 100) + batch(7, 61) + batch(9, 500)
    assert batches(whole) == 3
    assert batches(whole[:-1]) == 2
    assert batches(b"") == 0
    assert batches(whole + bytes(100)) == 3  # zeros that a file was lengthened by


# --- measuring -------------------------------------------------------------------------------------------------------


def test_a_way_is_measured_from_before_its_client_to_what_is_on_disks(tmp_path: Path) -> None:
    path = tmp_path / "some.log"
    path.write_bytes(b"line\n" * 2_000)
    state = {"cpu": 10.0, "disk": 500, "loads": 0}

    def load(one: Path) -> full_load.Loaded:
        state["cpu"] += 2.0
        state["disk"] += 3_000
        state["loads"] += 1
        size = one.stat().st_size
        return full_load.Loaded(0.5, 0.25 if size < 10_000 else 1.0, size, size // 5, size // 5)

    rival = SimpleNamespace(
        disk=lambda: SimpleNamespace(allocated=state["disk"]), cpu_s=lambda: state["cpu"], name="one"
    )
    found = full_load.measured(cast(Any, rival), "it", load, path)
    assert state["loads"] == 2  # one to warm up
    wanted = {"cpu_s_per_gb": 3e5, "client_cpu_s_per_gb": 1e5, "start_cpu_s_per_gb": 25e3, "stored_share": 0.3}
    wanted |= {"servers_cpu_s_per_gb": 2e5, "mb_per_s": 0.02, "raw_mb": 0.01, "lines": 2_000}
    assert found == pytest.approx({f"it: {key}": value for key, value in wanted.items()})


SAMPLES = """
 python  100    7f2a ( /usr/lib/libpython3.11.so.1.0)
 PERF_RECORD_FORK(200:200):(100:100)
 PERF_RECORD_FORK(100:101):(100:100)
 kcat 200  7fa0 (/usr/lib/librdkafka.so.1)
 rdk:broker1 200  ffffffff81b9 ([kernel.kallsyms])
 PERF_RECORD_FORK(201:201):(200:200)
 sh 201  7fa0 (/usr/lib/libc.so.6)
 data-plane-kafk 300  7fa0 (/tmp/perf-300.map)
 ReplicaFetcherT 300  7fa0 ([unknown])
 stranger 400  7fa0 (/usr/lib/libzstd.so.1)
"""


def test_samples_are_of_servers_and_of_what_the_harness_started() -> None:
    found = where.samples(SAMPLES.splitlines(), {300}, 100, by_thread=True)
    assert found == {
        ("clients", "librdkafka"): 1,
        ("clients", "Linux: files, sockets, memory"): 1,
        ("clients", "libc: copying, memory"): 1,
        ("servers", "network threads and request handlers"): 1,
        ("servers", "replicas fetching from leaders"): 1,
    }
    assert (
        where.samples(SAMPLES.splitlines(), {300}, 100, by_thread=False)["servers", "other, or not to be placed"] == 2
    )


# --- the page --------------------------------------------------------------------------------------------------------

TEXT = "{{loads-full}}\n\n{{loads-small}}\n\n{{loads-idle}}\n\n{{loads-numbers}}\n\n"
TEXT += "{{loads-where}}\n\n{{loads-differences}} {{loads-command}}"


def page_of(results: Results, folder: Path) -> str:
    page = Page(2, results)
    loads.fill(results, {2: page})
    (folder / "text.md").write_text(TEXT)
    page.write(folder / "2.md", folder / "text.md")
    return (folder / "2.md").read_text()


def figures(prefixes: list[str], cpu: float, stored: float) -> dict[str, Any]:
    keys: dict[str, float] = {"cpu_s_per_gb": cpu, "stored_share": stored, "raw_mb": 1.0}
    found: dict[str, Any] = {f"{prefix}: {key}": value for prefix in prefixes for key, value in keys.items()}
    return found | {"ready_s": cpu, "idle_rss_mb": 10 * cpu, "differences": ["it is another", f"it costs {cpu}"]}


def test_the_page_compares_with_the_best_of_kafka_and_says_what_is_not_reached(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    kafka = figures(["kcat"], 30.0, 0.3) | {"kcat, not idempotent: cpu_s_per_gb": 18.0}
    kafka |= {f"{full_load.BLOBS}: cpu_s_per_gb": 2.0, "kcat, linger 50 ms: stored_share": 1.0}
    results.add(Row(2, loads.FULL, "kafka", "3 copies", 0), kafka, 1, 1.0)
    buck = figures(["two copies", "three copies"], 3.0, 0.1) | {"a tailer a host: stored_share": 0.75}
    results.add(Row(2, loads.FULL, "buck", "", 0), buck, 1, 1.0)
    results.left_out(Row(2, loads.FULL, "nats", "3 copies", 0), "no nats-server")
    text = page_of(results, tmp_path)
    assert "copies, a message a line | 3 | 18 (kcat, not idempotent) | 0.17 | ≤ 0.17 | reached (once) |" in text
    assert "| stored, three copies, a message a line | 0.1 | 0.3 (kcat) | 0.33 | ≤ 0.6 | reached (once) |" in text
    assert f"| 3 | 2 ({full_load.BLOBS}) | 1.50 | ≤ 1.2 | missed (once) |" in text
    assert "at once | 0.75 | 1 (kcat, linger 50 ms) | 0.75 | ≤ 0.5 | missed (once) |" in text
    assert "| time until ready, s | 3 | 30 | 0.10 | ≤ 0.1 | reached (once) |" in text
    assert "| the same, two copies | 3 | 18 (kcat, not idempotent) | 0.17 | ≤ 0.17 | reached (once) |" in text
    assert "no nats-server" in text
    assert "* buck: it costs 3.0." in text
    nothing = {"kcat, linger 50 ms: stored_share": 0.0}  # a quick run may write too little to take a block
    results.add(Row(2, loads.FULL, "kafka", "3 copies", 0), kafka | nothing, 1, 1.0)
    assert "at once | 0.75 | not measured |" in page_of(results, tmp_path)
    results.add(Row(2, loads.FULL, "buck", "", 1), buck | {"quick": True}, 1, 1.0)
    text = page_of(results, tmp_path)
    assert "missed" not in text
    assert "≤ 0.6 | reached" not in text


def test_a_page_of_no_results_says_so(tmp_path: Path) -> None:
    text = page_of(Results(tmp_path / "results"), tmp_path)
    assert "nothing was measured" in text
    assert "yes" not in text


@pytest.mark.parametrize(("quick", "names"), [(True, {loads.FULL}), (False, {loads.FULL, loads.SMALL, loads.WHERE})])
def test_each_system_has_its_steps_and_is_told_if_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, quick: bool, names: set[str]
) -> None:
    monkeypatch.setattr(loads.Kafka, "missing", lambda: "it is not here")
    monkeypatch.setattr(loads.where, "missing", lambda: "")
    found = loads.steps(Scale.of(quick, []))
    assert {step.name for step in found} == names
    assert {step.system for step in found} == {"kafka", "nats", "rsyslog", "buck"}
    assert all((step.missing == "it is not here") == (step.system == "kafka") for step in found)
