"""Paper 4's figures from logs that were written by hand, and its page from results alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.papers import lateness
from bench.papers.delivered import BEFORE_S, DEAD_S, STRETCHES, Plan, Sending, Stretch, figures
from bench.papers.lateness import fill, steps
from bench.papers.pages import Page
from bench.papers.results import Results, Row
from bench.papers.steps import Scale
from bench.rivals.process import Client
from bench.rivals.rival import Rival

MS = 10**6
WALL = 1_790_000_000 * 10**9  # of the senders' clocks where the monotonic one is 0
FULL = Scale(False, ())


def logs(folder: Path) -> dict[str, Path]:
    """Two senders of good clocks, one that is 5 s ahead; a stretch of 100 ms, then another.

    Numbers are milliseconds. In the first stretch event 0/40 comes 60 ms after 1/50, and again later; 0/70 never."""
    sent = [(sender, at, 5000 if sender == 2 else 0) for sender, at in ((0, 10), (1, 20), (0, 40), (1, 50), (0, 70))]
    sent += [(0, 110, 0), (1, 120, 0), (2, 130, 5000), (0, 140, 0)]
    live = [(0, 10, 12), (1, 20, 30), (1, 50, 60), (0, 40, 120), (0, 110, 121), (0, 40, 122), (1, 120, 125)]
    live += [(2, 130, 131), (7, 7, 132), (0, 140, 145)]
    text = "".join(f"S {sender} {at} {at * MS} {WALL + (at + skew) * MS}\n" for sender, at, skew in sent)
    (folder / "sent.log").write_text(text + "A 0 10 11000000\n")
    (folder / "live.log").write_text("".join(f"R {sender} {at} {read * MS}\n" for sender, at, read in live))
    ordered = sorted((WALL + (at + skew) * MS, sender, at) for sender, at, skew in sent)
    (folder / "past.log").write_text("".join(f"R {sender} {at} {900 * MS}\n" for _, sender, at in ordered))
    return {name: folder / f"{name}.log" for name in ("sent", "live", "past")}


def test_an_event_belongs_to_the_stretch_in_which_it_was_due_and_is_late_among_its_own(tmp_path: Path) -> None:
    paths = logs(tmp_path)
    stretches = [Stretch("normal", 0, 100 * MS), Stretch("skew", 100 * MS, 200 * MS)]
    found = figures(stretches, [paths["sent"]], paths["live"], paths["past"])
    assert found["live_normal_events"] == 4
    assert found["live_normal_unread"] == 1
    assert found["live_normal_late_max_s"] == 0.01  # 0/40 after 1/50
    assert found["live_normal_delay_max_s"] == 0.08  # and read at 120
    assert found["live_normal_adjacent"] == pytest.approx(1 / 3)
    assert found["live_normal_pairs"] == pytest.approx(1 / 6)
    assert found["live_normal_own_adjacent"] == 0.0
    assert found["live_again"] == 1
    assert found["live_normal_late_above"] == 0.0
    assert found["live_skew_late_above"] == 0.25
    assert found["live_skew_events"] == 4
    assert found["live_skew_late_max_s"] == 4.99  # 0/140 after one that says 5130
    assert found["live_skew_missed_0_0"] == 0.75  # it alone came before its time
    assert found["live_skew_delay_p50_s"] == 0.005
    assert found["live_normal_missed_0_0"] == 1.0
    assert found["past_normal_events"] == 5
    assert found["past_normal_late_max_s"] == found["past_normal_pairs"] == found["past_skew_late_max_s"] == 0
    assert found["past_again"] == 0


def test_a_stretch_without_events_has_no_figures_but_what_was_never_read(tmp_path: Path) -> None:
    paths = logs(tmp_path)
    found = figures([Stretch("normal", 60 * MS, 100 * MS)], [paths["sent"]], paths["live"], paths["past"])
    assert found["live_normal_events"] == 0
    assert found["live_normal_unread"] == 1
    assert "live_normal_late_p99_s" not in found


def test_who_is_killed_and_started_again_has_new_numbers_and_a_log_of_its_own(tmp_path: Path) -> None:
    class Played(Client):
        def __init__(self) -> None:
            self.ended = ""

        def kill(self) -> None:
            self.ended = "killed"

        def finish(self, timeout_s: float = 0.0) -> Client:
            self.ended = "finished"
            return self

    class Sends:
        def __init__(self) -> None:
            self.told: list[tuple[int, int, str]] = []
            self.clients: list[Played] = []

        def pace(self, log: Path, *, rate: float, first: int, skew_s: float, number: int) -> Client:
            assert rate == 200
            self.told.append((first, number, log.name))
            self.clients.append(Played())
            return self.clients[-1]

    rival = Sends()
    with Sending(rival, tmp_path, Plan(1200, 1, 1, 1, 1, 1)) as sending:  # type: ignore[arg-type]  # it is told to pace and nothing else
        assert sorted(rival.told) == [(sender, 0, f"sent{sender}.0.log") for sender in range(6)]
        sending.kill(5)
        sending.start(5)
    assert rival.told[-1] == (5, 10**7, "sent5.1.log")
    assert [one.ended for one in rival.clients].count("killed") == 1
    assert [one.ended for one in rival.clients].count("finished") == 6
    assert sending.logs[-1].name == "sent5.1.log"


def test_what_is_counted_of_the_death_of_a_server_is_as_long_for_all() -> None:
    full, quick = lateness.FULL_PLAN, lateness.QUICK_PLAN
    assert full.down_s > lateness.TUNED_DOWN_S == DEAD_S
    assert full.counted_s == replace(full, down_s=lateness.TUNED_DOWN_S).counted_s == BEFORE_S + DEAD_S
    assert quick.counted_s == BEFORE_S + quick.down_s


# --- the page --------------------------------------------------------------------------------------------------------


def test_a_page_is_made_of_results_alone_and_says_whether_the_goal_was_reached(tmp_path: Path) -> None:
    text = page(tmp_path / "a", buck_ms=100).read_text()
    assert "was 0.1 s with Buck (1 repetition) and 2 s with Kafka's best" in text
    assert "(Kafka, 3 partitions, tuned; 1 repetition): 0.05 of it" in text
    assert "which is reached" in text
    assert "no pair of events the wrong way round, in any stretch" in text
    assert "| rsyslog | left out: no rsyslogd |" in text
    assert "Buck, merged" in text
    assert "plots/4-lateness.svg" in text
    assert "Buck: 0 live and 0 later" in text


@pytest.mark.parametrize(
    ("buck", "kafka", "verdict"),
    [
        ([1.5], {"Kafka": [2.0]}, "which is missed"),
        ([0.25], {"Kafka": [2.0], "Kafka, tuned": [3.0]}, "which is reached"),
        ([0.1, 0.25], {"Kafka": [2.0, 9.0]}, "which is reached"),
        ([0.1, 0.3], {"Kafka": [2.0]}, "which is not decided by these repetitions"),
        ([0.2], {"Kafka": [1.0, 2.0]}, "which is not decided by these repetitions"),
        ([0.6, 0.7], {"Kafka": [2.0, 4.0]}, "which is missed"),
        ([0.25], {"Kafka": [0.0]}, "which is not decided by these repetitions"),
    ],
)
def test_a_verdict_holds_for_each_repetition_or_is_none(
    buck: list[float], kafka: dict[str, list[float]], verdict: str
) -> None:
    assert lateness._goal(buck, kafka).endswith(verdict)
    assert f"{len(buck)} repetition" in lateness._goal(buck, kafka)


def test_a_page_stands_where_nothing_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "docs/4.md"
    results = Results(tmp_path / "results")
    made = Page(4, results)
    fill(results, {4: made})
    made.write(path)
    assert "there is nothing to compare" in path.read_text()


def page(folder: Path, buck_ms: int) -> Path:
    """Of logs that were written by hand: Kafka's and Buck's are late by so much in the stretch of the server."""
    folder.mkdir()
    results = Results(folder / "results")
    results.left_out(Row(4, "order", "rsyslog", "", 0), "no rsyslogd")
    for system, variant, late_ms in (
        ("kafka", "3 partitions", 9000),
        ("kafka", "3 partitions, tuned", 2000),
        ("buck", "", buck_ms),
    ):
        sent = folder / "sent.log"
        sent.write_text("".join(f"S 0 {i} {i * MS} {WALL + i * MS}\n" for i in (0, late_ms)))
        for name, order in (("live", (late_ms, 0)), ("past", (0, late_ms))):
            (folder / f"{name}.log").write_text("".join(f"R 0 {i} {20_000 * MS}\n" for i in order))
        stretches = [Stretch(name, 0, 10_000 * MS) for name in STRETCHES]
        found = figures(stretches, [sent], folder / "live.log", folder / "past.log")
        found |= {
            "rate": 1200,
            "ahead_s": 3.0,
            "senders": 6,
            "counted_s": 9.0,
            "differences": [f"{system} is another system"],
        }
        results.add(Row(4, "order", system, variant, 0), found, 1, 1.0)
    made = Page(4, results)
    fill(results, {4: made})
    made.write(folder / "docs/4.md")
    return folder / "docs/4.md"


def test_a_quick_run_has_one_with_a_leader_and_one_without_and_a_full_one_all_variants() -> None:
    quick = steps(Scale.of(True, []))
    assert [one.system for one in quick if one.missing != lateness.SHORT] == ["nats", "buck"]
    assert [one.variant for one in steps(FULL)][:3] == ["3 partitions", "3 partitions, tuned", "1 partition, tuned"]
    assert len(steps(FULL)) == len(lateness.MEASURED)


def test_a_step_that_fails_leaves_nothing_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`through` ends its reader; the cluster's own end is the rival's."""
    from bench.papers import delivered

    class Reads(Client):
        def __init__(self) -> None:
            self.killed = False

        def running(self) -> bool:
            return not self.killed

        def kill(self) -> None:
            self.killed = True

    class Broken(Rival):
        reader = Reads()

        def __init__(self) -> None:
            pass

        def consume(self, log: Path, *, live: bool = True) -> Client:
            return self.reader

        def pace(self, *_: object, **__: object) -> Client:
            raise OSError("no process can be started")

    monkeypatch.setattr(Broken, "__abstractmethods__", frozenset())
    rival = Broken()  # type: ignore[abstract]  # what it lacks isn't asked for
    with pytest.raises(OSError, match="no process"):
        delivered.through(rival, tmp_path, Plan(60, 1, 1, 1, 1, 1))
    assert rival.reader.killed
