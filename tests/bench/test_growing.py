"""What a new node costs and gives is reckoned and told right; the page says what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.papers import growing
from bench.papers.checker import NS, Sent
from bench.papers.growing import Stretch
from bench.papers.pages import TEXT, Page
from bench.papers.results import Results, Row
from bench.papers.steps import Scale
from bench.rivals.buck import Buck
from bench.rivals.kafka_moves import evened
from bench.rivals.process import RivalError
from bench.rivals.rival import Settings

EACH = {0: [1, 2, 3], 1: [2, 3, 1], 2: [3, 1, 2]}


def test_shares_are_of_what_came_meanwhile() -> None:
    assert growing.shares([100, 100, 0], [130, 110, 10]) == pytest.approx([0.6, 0.2, 0.2])
    assert growing.shares([100, 100], [50, 110]) == [0.0, 1.0], "what was dropped is no growth"
    assert growing.shares([5, 5], [5, 5]) == [0.0, 0.0]


def test_the_extra_is_what_calm_does_not_explain() -> None:
    sent = Sent({(0, 0): NS, (0, 1): 11 * NS}, {(0, 0): int(1.5 * NS), (0, 1): 14 * NS})
    calm = Stretch(0, 5 * NS, {"at": 5.0, "cpu_s": 1.0, "received": 500.0})
    alone = Stretch(10 * NS, 20 * NS, {"at": 10.0, "cpu_s": 5.0, "received": 1800.0})
    found = growing._compared(sent, calm, alone)
    assert (found["worst_calm_s"], found["worst_ack_s"]) == (0.5, 3.0)
    assert (found["cpu_extra_s"], found["received_extra"]) == (3.0, 800.0)
    for stretch in (calm, alone):
        del stretch.used["received"]
    assert growing._compared(sent, calm, alone)["received_extra"] is None, "nobody counts on loopback"


@pytest.mark.parametrize(("partitions", "moved"), [(1, 0), (2, 1), (3, 2)])
def test_a_new_broker_gets_its_even_part_and_no_leader_changes(partitions: int, moved: int) -> None:
    before = {number: EACH[number] for number in range(partitions)}
    plan = evened(before, 4)
    assert len(plan) == moved
    for number, replicas in plan.items():
        assert replicas[0] == before[number][0]
        assert len(set(replicas) - {4}) == len(replicas) - 1 == 2
    after = [broker for one in (before | plan).values() for broker in one]
    counts = [after.count(broker) for broker in (1, 2, 3)]
    assert max(counts) - min(counts) <= 1


def test_only_a_cluster_with_a_spare_node_can_grow(tmp_path: Path) -> None:
    with pytest.raises(RivalError, match="set `spare` before the start"):
        Buck(tmp_path, Settings()).add()


def figures(**more: Any) -> dict[str, Any]:
    return {
        "joined_s": 1.5, "used_s": 4.0, "share_alone": 0.25, "held_mb": 0.8, "worst_calm_s": 0.5, "worst_ack_s": 0.75,
        "cpu_extra_s": 2.0, "received_extra": 3_000_000, "cpu_new_s": 1.0, "received_new": 500_000, "note": "",
        "judged": {"acked": 100, "lost": 0, "duplicates": 0},
        "plan": {"rate": 400.0, "calm_s": 1.5, "patience_s": 12.0, "share_s": 2.0},
    } | more  # fmt: skip


def written(results: Results, folder: Path) -> str:
    page = Page(2, results)
    growing.fill(results, {2: page})
    places = ("growing", "growing-moved", "growing-plan", "growing-notes")
    assert all(f"{{{{{name}}}}}" in (TEXT / "2.md").read_text() for name in places)
    (folder / "text.md").write_text("\n\n".join(f"{{{{{name}}}}}" for name in places))
    page.write(folder / "2.md", folder / "text.md")
    return (folder / "2.md").read_text()


def test_the_page_tells_what_came_alone_what_was_moved_and_what_is_missing(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.add(Row(2, growing.NAME, "buck", "", 0), figures(), 1, 1.0)
    moved = figures(used_s=None, share_alone=0.0, note="it was moved", moved_s=9.0, moved_received=2_000_000,
                    worst_ack_moving_s=1.25, share_moved=0.22)  # fmt: skip
    results.add(Row(2, growing.NAME, "kafka", "", 0), moved, 1, 1.0)
    results.left_out(Row(2, growing.NAME, "nats", "", 0), "no server")
    text = written(results, tmp_path)
    assert "| buck | 0.8 | 1.5 | 4 | 25 | 0.5 | 0.75 | 0.5 | 1 | 3 | 2 |" in text
    assert "| kafka | 0.8 | 1.5 | never | 0 |" in text
    assert "| buck | - | - | - | - | 100 | 0 | 0 |" in text
    assert "| kafka | 9 | 2 | 1.25 | 22 | 100 | 0 | 0 |" in text
    assert "| nats | left out: no server | - |" in text
    assert "- kafka: it was moved" in text
    assert "repetitions: buck 1, kafka 1, nats 0" in text


def test_the_page_can_be_made_of_nothing(tmp_path: Path) -> None:
    assert "nothing was measured" in written(Results(tmp_path), tmp_path)


def test_a_quick_run_has_no_time_for_it_and_says_so() -> None:
    quick = {step.system: step.missing for step in growing.steps(Scale.of(True, []))}
    assert set(quick.values()) == {growing.NO_TIME}
    assert all(step.missing != growing.NO_TIME for step in growing.steps(Scale.of(False, [])))
