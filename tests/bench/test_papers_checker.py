"""The judge of all systems sees what was lost, doubled, made up or turned round, and says when it can't know."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.papers import checker
from bench.papers.checker import NS, Sent, judge
from bench.rivals.lines import Event, Log, Record

IDS = st.tuples(st.integers(0, 2), st.integers(0, 5))


def sent(due: dict[tuple[int, int], float], acked: dict[tuple[int, int], float]) -> Sent:
    """Times in seconds."""
    return Sent({name: int(s * NS) for name, s in due.items()}, {name: int(s * NS) for name, s in acked.items()})


def test_an_honest_run_is_valid_and_what_nobody_promised_is_not_lost() -> None:
    found = judge(sent({(0, 0): 1, (0, 1): 2, (1, 0): 2, (1, 1): 3}, {(0, 0): 2, (0, 1): 3}), [(0, 0), (1, 0), (0, 1)])
    assert (found.verdict, found.why, found.torn) == ("valid", (), 1)
    assert (found.sent, found.acked, found.read, found.lost, found.duplicates) == (4, 2, 3, 0, 0)


def test_each_wrong_is_named_with_an_example() -> None:
    run = sent({(0, n): n for n in range(4)}, {(0, n): n for n in range(4)})
    found = judge(run, [(0, 1), (0, 0), (0, 0), (7, 9), (0, 2)])
    assert (found.verdict, found.lost, found.duplicates, found.phantoms, found.inversions) == ("invalid", 1, 1, 1, 1)
    assert found.why == (
        "1 acknowledged and never read, such as 0/3",
        "1 read twice, such as 0/0",
        "1 never sent, such as 7/9",
    )


def test_what_can_not_be_proved_is_unknown() -> None:
    run = sent({(0, 0): 1}, {(0, 0): 2})
    assert judge(run, [], whole=False).verdict == "unknown"
    assert judge(run, [(0, 0), (0, 0)], whole=False).verdict == "invalid", "a duplicate is one however it goes on"
    assert judge(sent({(0, 0): 1}, {}), [(0, 0)]).verdict == "unknown"


@given(st.sets(IDS), st.sets(IDS), st.lists(IDS))
def test_the_counts_are_those_of_the_definitions(due: set[tuple[int, int]], ack: set[tuple[int, int]],
                                                 read: list[tuple[int, int]]) -> None:  # fmt: skip
    found = judge(sent(dict.fromkeys(due, 0), dict.fromkeys(ack & due, 0)), read)
    counts = Counter(read)
    assert found.lost == sum(counts[name] == 0 for name in ack & due)
    assert found.duplicates == sum(count - 1 for count in counts.values())
    assert found.phantoms == sum(name not in due for name in counts)
    assert found.torn == sum(name not in ack and not counts[name] for name in due)
    assert (found.verdict == "invalid") == bool(found.lost or found.duplicates or found.phantoms)


def test_a_log_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="sent twice"):
        Sent.of([Record("S", 0, 0, 1), Record("S", 0, 0, 2)])
    with pytest.raises(ValueError, match="not sent"):
        Sent.of([Record("A", 0, 0, 1)])


def test_logs_are_read_as_senders_and_readers_write_them(tmp_path: Path) -> None:
    with Log(tmp_path / "sent") as log:
        log.sent(Event(3, 0, 10, 0, b""))
        log.sent(Event(3, 1, 20, 0, b""))
        log.acked(3, 0, 15)
        log.failed(3, 1, "no leader")
    with Log(tmp_path / "read") as log:
        log.read([b"event=3/0 x", b"event=3/1 x"])
    found = checker.sent_of([tmp_path / "sent"])
    assert (found.due, found.acked, found.latencies) == ({(3, 0): 10, (3, 1): 20}, {(3, 0): 15}, [5])
    assert found.failed.keys() == {(3, 1)}
    assert checker.read_ids(tmp_path / "read") == [(3, 0), (3, 1)]


def test_gaps_count_from_the_begin_and_to_the_end_of_the_time_that_is_looked_at() -> None:
    run = sent({(0, n): 0 for n in range(4)}, {(0, 0): 1.0, (0, 1): 1.5, (0, 2): 4.0, (0, 3): 9.0})
    assert checker.longest_gap(run, 1 * NS, 5 * NS) == (int(2.5 * NS), int(1.5 * NS))
    assert checker.longest_gap(run, 5 * NS, 8 * NS) == (3 * NS, 5 * NS), "nothing at all was acknowledged"


def test_the_rate_over_time_counts_each_ack_once() -> None:
    run = sent({(0, n): 0 for n in range(4)}, {(0, 0): 1.0, (0, 1): 1.4, (0, 2): 2.0, (0, 3): 3.2})
    assert checker.rate(run, 1 * NS, int(3.5 * NS), NS) == [2.0, 1.0, 2.0]


def test_the_worst_event_is_found_though_its_fault_is_over_or_it_never_was_acknowledged() -> None:
    run = sent({(0, 0): 1.0, (0, 1): 1.5, (0, 2): 3.0}, {(0, 0): 9.0, (0, 1): 1.6})
    assert checker.waits(run, 1 * NS, 4 * NS, NS) == [8.0, None, 1.0]
    assert checker.worst(run, 2 * NS, 4 * NS) == 8 * NS, "it was on its way when the fault began"
    assert checker.worst(run, 10 * NS, 11 * NS) == 8 * NS, "still waiting, since it was due"
    assert checker.worst(sent({(0, 0): 1.0}, {(0, 0): 1.1}), 2 * NS, 3 * NS) == 0


def test_the_judge_knows_nothing_of_any_product() -> None:
    tree = ast.parse(Path(checker.__file__).read_text())
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert {name for name in modules if name.split(".")[0] in {"bench", "buck", "tailer", "porter", "protocol",
                                                               "service"}} == {"bench.rivals.lines"}  # fmt: skip
