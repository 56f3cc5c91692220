"""What befalls a cluster is timed and told right; the page is made of whatever was measured."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bench.papers import checker, faults, masterless, verify
from bench.papers.checker import NS, Sent
from bench.papers.faults import PLANTED, Mark, Plan, Watch
from bench.papers.pages import Page
from bench.papers.results import Results, Row
from bench.papers.steps import Room, Scale
from bench.rivals.buck import Buck
from bench.rivals.lines import Event, Log
from bench.rivals.nats import Nats
from bench.rivals.rival import Rival
from bench.rivals.syslog import Syslog

QUICK = Scale.of(True, [])


def sent(times: dict[int, tuple[float, float | None]]) -> Sent:
    """By number: due and acknowledged, in seconds."""
    due = {(0, n): int(due * NS) for n, (due, _) in times.items()}
    return Sent(due, {(0, n): int(ack * NS) for n, (_, ack) in times.items() if ack is not None})


def test_a_watch_waits_for_what_was_due_before_and_gives_up_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "QUIET_S", 0.3)
    with Log(tmp_path / "log") as log:
        for number in range(4):
            log.sent(Event(0, number, 100 + number, 0, b""))
        log.acked(0, 0)
        log.flush(at_once=True)
        watch = Watch(tmp_path / "log")
        assert watch.older_than(103) == 2
        waiting = threading.Thread(target=watch.settle, args=(102,))
        waiting.start()
        time.sleep(0.6)
        assert waiting.is_alive(), "nothing newer is acknowledged yet"
        log.acked(0, 3)
        log.flush(at_once=True)
        waiting.join(30)
        assert not waiting.is_alive(), "number 1 never comes"
        watch.close()


def test_a_fault_is_told_by_its_silence_and_its_slowest_event() -> None:
    run = sent({0: (9.0, 9.1), 1: (10.5, 14.0), 2: (11.0, 14.5), 3: (15.0, 15.1)})
    mark = Mark("kill", 10 * NS, 13 * NS, 16 * NS, 0.5)
    found = faults._look(run, mark, Plan(out_s=3.0))
    assert (found["gap_s"], found["worst_s"], found["lasted_s"], found["settled_s"]) == (4.0, 3.5, 3.0, 3.0)
    assert found["rate"][:3] == [0.0, 1.0, 0.0], "a second each, from two seconds before on"
    assert found["waits"][:3] == [None, 0.1, 3.5]


def test_the_judge_is_checked_by_what_is_known_and_a_blind_one_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Sent({(PLANTED, n): 0 for n in range(3)}, {(PLANTED, n): 1 for n in range(3)})
    read = [(PLANTED, n) for n in (0, 1, 2, 0, 1, 2)]
    assert all(faults.verify(run, read).values())
    assert not faults.verify(run, read[:3])["duplicate"], "the system hid the second ones"
    assert not faults.verify(run, read[:2])["honest"], "the system lost one"
    honest = checker.judge
    monkeypatch.setattr(checker, "judge", lambda *_: honest(run, read[:3]))
    assert not any(seen for name, seen in faults.verify(run, read).items() if name != "honest")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Nats, Syslog, Buck], ids=lambda kind: kind.name)
def test_the_judge_sees_what_is_planted_in_each_system(kind: type[Rival], tmp_path: Path, shared_data: Path) -> None:
    if why := kind.missing():
        pytest.skip(f"{kind.name}: {why}")
    assert all(verify.measure(kind, Room(tmp_path, QUICK, 1)).values())


def figures(worst: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ready_s": 1.0, "idle_rss": 10**8, "calm_ack_p50_s": 0.5, "calm_frames_per_event": 0.1,
        "calm_received_per_event": 50.0, "calm_cpu_share": 0.2, "return_cpu_s": 0.1, "return_received": 10**6,
        "judged": {"acked": 10, "lost": 0, "duplicates": 0, "phantoms": 0, "torn": 0, "verdict": "valid"},
        "verify": {"loss": True, "duplicate": True}, "plan": {"rate": 400.0, "out_s": 3.0},
        "differences": ["none"],
    }  # fmt: skip
    for fault in ("kill", "cut"):
        found |= {f"{fault}_gap_s": worst / 2, f"{fault}_worst_s": worst, f"{fault}_back_s": 1.5}
        found |= {f"{fault}_rate": [400.0, 0.0, 800.0, 9.0], f"{fault}_waits": [0.5, None, worst, 0.5]}
        found |= {f"{fault}_lasted_s": 0.5, f"{fault}_settled_s": 0.6}
    return found


def test_the_page_is_made_of_what_was_measured_and_says_what_was_not(tmp_path: Path) -> None:
    results = Results(tmp_path)
    for system, variant, worst in (("buck", "tuned", 1.0), ("kafka", "tuned", 4.0), ("nats", "tuned", 16.0)):
        results.add(Row(2, "faults", system, variant, 0), figures(worst), 1, 1.0)
    told = figures(1.0) | {"differences": ["none", "it waits"]}
    results.add(Row(2, "faults", "buck", "default", 0), told, 1, 1.0)
    results.left_out(Row(2, "faults", "kafka", "default", 0), "no java")
    page = Page(2, results)
    masterless.fill(results, {2: page})
    page.write(tmp_path / "2.md", text(tmp_path))
    written = (tmp_path / "2.md").read_text()
    assert "| buck tuned | 0.5, 1 | not measured | 0.5, 1 | not measured |" in written
    assert "| kafka default | left out: no java | - | - | - |" in written
    assert "| nats default | not measured | - | - | - |" in written
    assert "0.25 of kafka tuned's, the best of kafka and nats (wanted: 0.125 at most, missed (once))" in written
    assert "| 6 | 3 | 20 · 0 · 0 | 5 · 0 · 0 | 5 · 0 · 50 |" in written
    assert "- buck: none\n- buck default: it waits\n- kafka: none\n- nats: none" in written, "each once"
    assert (tmp_path / "plots" / "2-faults.svg").stat().st_size > 10_000


def test_of_a_second_that_is_not_over_nothing_is_drawn(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.add(Row(2, "faults", "buck", "tuned", 0), figures(1.0), 1, 1.0)
    (line,) = masterless.draw(results).axes[0].lines
    assert list(line.get_ydata()) == [400.0, 1e-3, 800.0]


def test_the_page_can_be_made_of_nothing(tmp_path: Path) -> None:
    results = Results(tmp_path)
    page = Page(2, results)
    masterless.fill(results, {2: page})
    page.write(tmp_path / "2.md", text(tmp_path))
    assert "nothing was measured" in (tmp_path / "2.md").read_text()


def text(folder: Path) -> Path:
    """The places that this part fills."""
    places = ["gaps", "faults", "worst beside the best", "judged", "returning", "calm", "memory beside Kafka",
              "ready beside Kafka", "placements", "plan", "differences"]  # fmt: skip
    path = folder / "text.md"
    path.write_text("\n\n".join(f"{{{{{name}}}}}" for name in places))
    return path


def test_each_step_has_a_cluster_of_its_own_and_the_quick_run_starts_two_systems_once() -> None:
    full = masterless.steps(Scale.of(False, []))
    assert [(step.system, step.variant) for step in full][:3] == [
        ("buck", "default"),
        ("buck", "tuned"),
        ("kafka", "default"),
    ]
    assert all("quick" not in step.missing for step in full)
    left = [step.system for step in masterless.steps(QUICK) if step.missing == masterless.ONCE]
    assert left == ["buck", "kafka", "kafka", "nats", "rsyslog"]
