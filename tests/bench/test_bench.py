"""The benchmarks run, at sizes at which their figures say nothing, and their corpus is what it claims to be."""

import re
from pathlib import Path

import pytest

from bench import (
    archive,
    buck,
    corpus,
    kernel,
    latency,
    memory,
    past,
    prototype,
    read,
    report,
    secure,
    sizes,
    small_hosts,
    tailer,
)
from bench.cluster import Cluster
from bench.measure import FailedError, run, spread
from bench.options import Options
from bench.packing import packets
from bench.report import Row
from protocol import packet as protocol_packet

HEADS = {
    "loghub_full/Linux.log": 200_000,
    "postgres/pgbouncer.log": 100_000,
    "elastic_examples/apache_access.log": 60_000,
}


@pytest.fixture
def small(tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """The heads of three real logs instead of all of them, and the word that some benchmarks look for."""
    folder = tmp_path / "logs"
    for name, size in HEADS.items():
        (folder / name).parent.mkdir(parents=True)
        lines = (shared_data / "logs" / name).read_bytes()[:size].rpartition(b"\n")[0]
        (folder / name).write_bytes(lines + b"\n")
    with (folder / "loghub_full/Linux.log").open("ab") as file:
        file.write(b"Jun 20 03:40:59 combo kernel: init_idle eventpollfs\n")
    monkeypatch.setattr(corpus, "SHARED", folder)
    monkeypatch.setattr(corpus, "BIG", 50_000)
    monkeypatch.setattr(prototype, "load", lambda folder: None)  # building it takes longer than all the rest
    monkeypatch.setattr(kernel, "LEAST_BYTES", 1)
    return Options(tmp_path, 1, 500_000)


def told(rows: list[Row]) -> set[str]:
    """What there are figures of; none is negative."""
    assert all(row.value.low >= 0 for row in rows)
    return {row.what for row in rows}


def test_kernel_and_sizes(small: Options) -> None:
    names = {Path(name).name for name in HEADS}
    assert told(kernel.run(small)) == names | {f"{name}, twin" for name in names}
    assert told(sizes.run(small)) == names | {"geometric mean"}


def test_tailer(small: Options) -> None:
    assert "CPU, against zstd -1 -T1" in told(tailer.run(small))


def test_buck(small: Options) -> None:
    assert told(buck.run(small)) >= {"stored", "CPU, against socat"}


def test_secure(small: Options) -> None:
    assert told(secure.run(small)) >= {"throughput, against clear text", "a buck's core"}


@pytest.mark.slow
def test_read(small: Options) -> None:
    assert told(read.run(small)) >= {"cat", f"grep {read.RARE}"}


@pytest.mark.slow
def test_archive_of_the_corpus(small: Options) -> None:
    assert "a rare word, DuckDB" in told(archive.from_bucks(small))
    assert told(archive.sort_and_write(small)) == {"sort and write alone"}


@pytest.mark.slow
def test_archive_of_each_file(small: Options) -> None:
    assert "median of formats" in told(archive.sizes(small))


def test_archive_of_a_fleet(small: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "HOSTS", 4)
    rows = archive.fleet(small)
    assert len({row.note for row in rows if row.note}) == 1, "the same lines, however they are cut into packets"
    dealt = list(archive.deal(corpus.big_files()))
    for path in corpus.big_files():
        assert b"".join(one[bytes(path)] for one in dealt) == path.read_bytes()


def test_latency(small: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "WARM_S", 1.0)
    assert told(latency.run(small, 1.0)) == {"written to A1, p50", "written to A1, p99"}


@pytest.mark.slow
def test_small_hosts(small: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_hosts, "SETTLE_S", 0.5)
    monkeypatch.setattr(small_hosts, "END_S", 6.0)
    rows = {row.what: row for row in small_hosts.run(small, 2, 1.0)}
    assert 0 < rows["one copy"].value.median < 1


def test_memory(small: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "IDLE_S", 1.0)
    assert "tailer, idle" in told(memory.idle_tailer(small))
    assert told(memory.porter(small)) == {f"porter archive --memory {size}MB, peak" for size in (128, 256, 512)}


def test_a_buck_believes_the_past_that_was_made_for_it(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1):
        pass
    disk = tmp_path / "buck0/disk0"
    made = past.make(disk, 576, tailers=1)
    assert made == 576
    begin = sorted(disk.rglob("*.closed"))
    with Cluster(tmp_path, 1) as cluster:
        past.look(cluster.addresses()[0])
        assert "WARN" not in cluster.processes[0].log_end().upper()
    assert sorted(disk.rglob("*.closed")) == begin
    assert past.make(disk, 576, tailers=1) == 576, "kept"


def test_a_corpus_grows_by_whole_repeats_that_differ(small: Options) -> None:
    paths = corpus.make(small.folder / "corpus", small.size)
    raw = [path.read_bytes() for path in corpus.files()]
    made = [path.read_bytes() for path in paths]
    assert sum(map(len, made)) >= small.size
    for before, after in zip(raw, made, strict=True):
        assert after.startswith(before)
        assert not after[len(before) :].startswith(before), "a repeat is another log"
    assert [path.read_bytes() for path in corpus.make(small.folder / "again", small.size)] == made


def test_a_repeat_has_other_dates_and_numbers_and_the_same_lengths() -> None:
    line = b'1.2.3.4 - - [29/Dec/2019:09:00:01 +0000] "GET /a?n=12345" 200 0x1ff2 2019-12-31T01:02:03.456Z id=12345\n'
    other = corpus.vary(line, 1)
    assert corpus.vary(line, 0) == line
    assert b"[15/Jan/2020:09:00:01 +0000]" in other
    assert b"2020-01-17T01:02:03." in other
    numbers = re.search(rb"n=(\d{5}).*id=(\d{5})\n", other)
    assert numbers is not None
    assert numbers[1] == numbers[2] != b"12345", "the same number is always the same other one"
    assert corpus.vary(line, 1) == other != corpus.vary(line, 2)
    assert corpus.vary(b"Feb  3 10:00:00 x\n", 1) == b"Feb 20 10:00:00 x\n"


def test_packets_hold_all_lines(small: Options) -> None:
    for path in corpus.files():
        found = [protocol_packet.read(data) for data in packets({bytes(path): path.read_bytes()})]
        assert sum(one.header.raw for one in found) == path.stat().st_size
        assert sum(one.header.count for one in found) == path.read_bytes().count(b"\n")


@pytest.mark.parametrize(
    ("value", "most", "least", "reached"),
    [
        (1.0, 1.0, None, True),
        (1.1, 1.0, None, False),
        (1.0, None, 1.0, True),
        (0.9, None, 1.0, False),
        (1.0, None, None, None),
    ],
)
def test_a_row_knows_whether_its_median_is_where_it_should_be(
    value: float, most: float | None, least: float | None, reached: bool | None
) -> None:
    assert Row("bench", "what", spread([0.0, value, 9.0]), "x", most, least).reached is reached


def test_a_row_that_every_run_must_reach_is_judged_by_the_worst() -> None:
    values = spread([1.0, 2.0, 9.0])
    assert Row("bench", "what", values, "x", most=9.0, every=True).reached
    assert not Row("bench", "what", values, "x", most=8.0, every=True).reached
    assert not Row("bench", "what", values, "x", least=1.5, every=True).reached


def test_what_fails_is_not_measured() -> None:
    assert run(["sh", "-c", "exit 3"], codes=(3,)).wall_s > 0
    with pytest.raises(FailedError, match="exit 3"):
        run(["sh", "-c", "exit 3"])


def test_the_document_gets_the_figures_and_keeps_its_words(tmp_path: Path) -> None:
    path = tmp_path / "doc.md"
    path.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.document([Row("small hosts", "one copy", spread([0.25]), "of raw", most=0.35)], path)
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| one copy | 0.25 (0.25-0.25) | of raw | <= 0.35 | yes |" in text
    assert "python -m bench small_hosts`: A hundred small hosts" in text
    assert "old" not in text
