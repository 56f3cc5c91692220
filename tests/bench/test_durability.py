"""Paper 1's pieces: the mix and its files, what is expected to be lost, counted fsyncs, disks that lose their power."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import losses
from bench.papers import carry, complete, durability, expected, hit, mixed, pages, results, steps, syncs
from bench.rivals import mix, power
from bench.rivals.process import RivalError
from bench.rivals.rival import Settings
from tailer.settings import TailerSettings

# --- what is expected -------------------------------------------------------------------------------------------------


@given(st.integers(1, 7), st.integers(1, 4), st.integers(0, 7))
def test_what_is_lost_is_what_the_formula_says(nodes: int, copies: int, hit: int) -> None:
    hit, held = min(hit, nodes), min(copies, nodes)
    inside = comb(hit, held)
    assert expected.lost(nodes, copies, hit) == Fraction(inside, comb(nodes, held))
    assert expected.cases(nodes, copies, hit) == comb(nodes, held) * comb(nodes, hit)


def test_it_is_what_the_tailers_own_choice_gives() -> None:
    cells = {(cell.bucks, cell.killed): cell for cell in losses.table()}
    for (nodes, killed), cell in cells.items():
        assert cell.a1 == pytest.approx(float(expected.lost(nodes, 2, killed)), abs=0.02)
        assert cell.a2 == pytest.approx(float(expected.lost(nodes, 3, killed)), abs=0.02)


def test_a_mix_loses_what_its_parts_do() -> None:
    assert expected.lost_of({1: 0.5, 3: 0.5}, 3, 1) == pytest.approx(0.5 / 3)
    assert expected.copies_of({1: 0.6, 3: 0.4}) == pytest.approx(1.8)
    with pytest.raises(ValueError, match="3 nodes, 2 copies, 4 hit"):
        expected.lost(3, 2, 4)


def test_a_quantile_is_one_of_the_values_and_enough_of_them_are_no_greater() -> None:
    values = [float(value) for value in range(1000, 0, -1)]
    assert [expected.quantile(values, share) for share in (0.001, 0.5, 0.99, 0.999, 1)] == [1, 500, 990, 999, 1000]
    assert expected.quantile([7.0], 0.5) == 7.0
    with pytest.raises(ValueError, match="of 0 values"):
        expected.quantile([], 0.5)


# --- the mix ----------------------------------------------------------------------------------------------------------


def test_classes_get_their_shares_of_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(
        b"".join(b"line %d with some text\n" % number for number in range(20_000)) + b"\nlast, without an end"
    )
    paths = mixed.files(tmp_path / "mix", [log], log.stat().st_size)
    found = {name: path.read_bytes() for name, path in paths.items()}
    total = sum(map(len, found.values()))
    for name, share in mixed.DAY.items():
        assert len(found[name]) / total == pytest.approx(share, abs=0.01)
    lines = sorted(line for data in found.values() for line in data.splitlines())
    assert lines == sorted(line for line in log.read_bytes().splitlines() if line)
    made = paths["debug"].stat().st_mtime_ns
    assert mixed.files(tmp_path / "mix", [log], log.stat().st_size) == paths
    assert paths["debug"].stat().st_mtime_ns == made, "it was there"


def test_less_is_some_of_every_log_and_more_is_not_the_same_again(tmp_path: Path) -> None:
    logs = [tmp_path / "a", tmp_path / "b"]
    for log in logs:
        log.write_bytes(b"".join(b"%s 2026-11-22 %d\n" % (log.name.encode(), number) for number in range(1000, 9999)))
    size = sum(log.stat().st_size for log in logs)

    def lines(part: str, wanted: int) -> list[bytes]:
        paths = mixed.files(tmp_path / part, logs, wanted).values()
        return [line for path in paths for line in path.read_bytes().splitlines()]

    once = set(lines("once", size))
    few, many = lines("few", size // 10), lines("many", 2 * size)
    assert {line[:1] for line in few} == {b"a", b"b"}
    assert len(b"".join(few)) == pytest.approx(size / 10, rel=0.3)
    assert len(many) == 2 * 2 * 8999
    assert len([line for line in many if line not in once]) == 2 * 8999


def test_senders_of_a_day_have_its_shares_and_rules_say_what_classes_are() -> None:
    senders = [mix.of("day", sender).name for sender in range(100)]
    assert {name: senders.count(name) / 100 for name in mixed.DAY} == mixed.DAY
    assert all(hit.SENDERS_MAX % len(mix.MIXES[case.mix]) == 0 for case in hit.CASES)
    assert [mix.of("each", sender).replicas for sender in range(4)] == [1, 2, 3, 3]
    text = mix.rules({"/a": mix.NORMAL, "/b": mix.AUDIT, "/c": mix.DEBUG})
    assert 'path = "/a"\ncopies = 2\nsync = "none"\nresend = true' in text
    assert 'path = "/b"\ncopies = 3\nsync = "packet"\nresend = true' in text
    assert 'path = "/c"\ncopies = 1\nsync = "none"\nresend = false' in text
    with pytest.raises(ValueError, match="mix is month: there are each, normal"):
        Settings(mix="month")


# --- losses -----------------------------------------------------------------------------------------------------------


def test_losses_are_counted_by_class(tmp_path: Path) -> None:
    sent, read = tmp_path / "sent", tmp_path / "read"
    events = [(sender, number) for sender in range(12, 15) for number in range(3)]
    sent.write_text("".join(f"S {s} {n} 1 1\n" + (f"A {s} {n} 2\n" if n < 2 else "") for s, n in events))
    shown = [event for event in events if event not in {(12, 0), (12, 1), (13, 2)}]
    read.write_text("".join(f"R {s} {n} 3\n" for s, n in [*shown, (14, 0)]))
    found = hit.count(sent, read, "unsynced")
    assert {key: count for key, count in found.items() if key.endswith("lost")} == {
        "debug: lost": 2, "pair: lost": 0, "normal: lost": 0,
    }  # fmt: skip
    assert (found["normal: acked"], found["normal: twice"], found["debug: twice"]) == (2, 1, 0)


class Fake:
    """A cluster that nothing but `hit` is asked of."""

    def __init__(self, folder: Path, starts: bool) -> None:
        self.name, self.folder, self.disks, self.starts = "fake", folder, None, starts

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self, count: int) -> None:
        if not self.starts:
            raise RivalError("no\nport")


def test_a_fault_that_fails_costs_no_other_faults_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    power_cuts = [hit.Case(hit.Fault(True, nodes), how) for nodes in (1, 2) for how in ("unsynced", "audit")]
    cases = [hit.Case(hit.Fault(False, 1), "each"), *power_cuts]

    def make(number: int) -> Any:
        made.append(number)
        return Fake(tmp_path / str(number), starts=len(made) != 2)

    def one(rival: Fake, case: hit.Case, *_: object) -> dict[str, int]:
        if case.fault == hit.Fault(True, 1):
            raise RuntimeError("unavailable\npartition")
        return {f"{case.name}: ran": 1}

    monkeypatch.setattr(hit, "_one", one)
    found = hit.hit(make, cases, 1, 0, 60, 1)
    assert found == {
        "kill -9 of 1: each: ran": 1,
        "power cut of 1: unsynced: why": "failed: unavailable partition",
        "power cut of 1: audit: why": "failed: no port",
        "power cut of 2: unsynced: ran": 1,
        "power cut of 2: audit: ran": 1,
    }
    assert len(made) == len(set(made)) == 3
    late = hit.hit(make, cases[:1], 1, 0, 0, 1)
    assert late == {"kill -9 of 1: each: why": "no time was left for it"}


def test_a_tailers_own_journal_and_files_are_delivered(tmp_path: Path) -> None:
    for name in ("12.log", "opening.log", "acks", "tailer.toml"):
        (tmp_path / name).touch()
    words = hit.deliver(tmp_path, ["a:1", "b:2"])
    assert words[words.index("--journal") + 1] == str(tmp_path / "journal")
    assert words[words.index("--config") + 1] == str(tmp_path / "tailer.toml")
    assert words[-2:] == [str(tmp_path / "12.log"), str(tmp_path / "opening.log")]
    settings = TailerSettings.model_validate({"once": True, "patience": words[words.index("--patience") + 1]})
    assert settings.patience == hit.PATIENCE_S


def test_losses_stand_in_a_table_with_what_failed(tmp_path: Path) -> None:
    figures: steps.Figures = {"power cut of 1: audit: why": "failed: no leader"}
    for kind, late in (("debug", 3), ("pair", None)):
        figures |= {f"power cut of 1: {kind}: {key}": value
                    for key, value in (("acked", 9), ("not at once", late), ("lost", 2))}  # fmt: skip
    cells = [durability._losses_of(figures, "power cut of 1", kind) for kind in (mix.DEBUG, mix.PAIR, mix.AUDIT)]
    assert cells == ["3 / 2 of 9", "no reader / 2 of 9", "failed: no leader"]


@pytest.mark.slow
def test_a_disk_without_power_has_what_was_synced_and_nothing_else(tmp_path: Path) -> None:
    if why := power.missing():
        pytest.skip(why)
    disks, place = power.Disks(tmp_path / "images", 16 << 20), tmp_path / "place"
    try:
        disks.mount(0, place)
        (place / "early").write_bytes(b"on the device")
        disks.sync()
        (place / "late").write_bytes(b"in the page cache")
        disks.cut(0)
        with pytest.raises(OSError, match="error"):
            (place / "later").write_bytes(b"nowhere")
        disks.restore(0)
        assert [path.name for path in place.iterdir()] == ["early"]
        assert (place / "early").read_bytes() == b"on the device"
    finally:
        disks.close()
    assert not os.path.ismount(place)
    disks.mount(0, tmp_path / "left")
    power.sweep(tmp_path)
    assert not os.path.ismount(tmp_path / "left")


# --- fsyncs -----------------------------------------------------------------------------------------------------------

SYNCING = "import os, time\nf = os.open(r'{0}', os.O_CREAT | os.O_WRONLY)\n"
OFTEN = SYNCING + "while True: os.write(f, b'x'); os.fsync(f); os.fdatasync(f); time.sleep(0.001)"
TWICE = SYNCING + "os.fsync(f); os.fdatasync(f)"


def until_larger(path: Path, size: int) -> None:
    deadline = time.monotonic() + 60.0
    while not path.exists() or path.stat().st_size <= size:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_the_kernel_counts_fsyncs(tmp_path: Path) -> None:
    if why := syncs.missing():
        pytest.skip(why)
    path = tmp_path / "a"
    process = subprocess.Popen([sys.executable, "-c", OFTEN.format(path)])
    try:
        until_larger(path, 0)
        with syncs.Syncs([process.pid], tmp_path / "counts") as found:
            until_larger(path, path.stat().st_size + 10)
        assert found.count is not None
        assert found.count >= 20
    finally:
        process.kill()
        process.wait()
    subprocess.run([*syncs.prefix(tmp_path / "two"), sys.executable, "-c", TWICE.format(tmp_path / "b")], check=True)
    assert syncs.counted(tmp_path / "two") == 2


def test_what_was_not_counted_is_none_and_what_is_no_count_is_an_error(tmp_path: Path) -> None:
    assert syncs.counted(tmp_path / "nothing") is None
    (tmp_path / "other").write_text("3,,syscalls:sys_enter_fsync,1,100.00,,\n")
    with pytest.raises(RivalError, match="other counts than those of fsync"):
        syncs.counted(tmp_path / "other")


# --- what is measured once, and what a tailer was told ----------------------------------------------------------------


def test_the_first_repetition_is_known_by_its_seed(tmp_path: Path) -> None:
    seeds: list[int] = []

    def run(room: steps.Room) -> steps.Figures:
        seeds.append(room.seed)
        return {}

    step = steps.Step(durability.PAPER, durability.COSTS, "a", run, repetitions=2)
    steps.run([step], steps.Scale(False, ()), results.Results(tmp_path / "r"), tmp_path / "work", lambda _: None)
    assert [seed == durability.FIRST_SEED for seed in seeds] == [True, False]


def test_a_tailers_command_line_says_how_long_it_lingers() -> None:
    assert carry.told_to_linger(["python", "-m", "tailer", "--linger", "5ms", "--to", "a:1"]) == "5ms"
    assert carry.told_to_linger(["python", "-m", "tailer"]) == ""


# --- completeness -----------------------------------------------------------------------------------------------------


def test_lines_get_numbers_and_producers_state_what_they_have(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\ntwo\n")
    complete.numbered(tmp_path / "log", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"host17/1/0 one\nhost17/1/1 two\n"
    complete.statements(tmp_path / "said", 3)
    rows = (tmp_path / "said").read_text().splitlines()
    assert rows[1].split()[:3] == ["host1/1", "window=1790000700", "5417-10833"]
    assert len({row.split()[3] for row in rows}) == 3
    assert complete.count_bytes() == 3 * (61 + 8 + 24)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_says_why_nothing_was_measured(tmp_path: Path) -> None:
    found = results.Results(tmp_path / "results")
    scale = steps.Scale(False, ())
    for step in [*durability.steps(scale), *complete.steps(scale)]:
        found.left_out(results.Row(step.paper, step.name, step.system, step.variant, 0), "no cluster today")
    page = pages.Page(1, found)
    for module in (durability, complete):
        module.fill(found, {1: page})
    page.write(tmp_path / "1.md")
    text = (tmp_path / "1.md").read_text()
    assert "no cluster today" in text
    assert "| 3 | 1 | 33.3 % | 0 | 0 | 20 % |" in text
    assert "60 % debug, 38 % normal, 2 % audit" in text
