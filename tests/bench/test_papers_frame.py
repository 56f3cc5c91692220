"""The frame of the papers: turns, runs that go on where they ended, what failed or is missing, pages, and plots."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.measure import ROOT, Spread
from bench.papers import commands, pages, plots, steps
from bench.papers.pages import Page, cell
from bench.papers.results import SERIES_MAX, Results, Row
from bench.papers.steps import Figures, Room, Scale, Step
from bench.rivals.nats import Nats
from bench.rivals.process import RivalError

FULL = Scale(False, ())
ROW = Row(4, "speed", "buck", "", 0)


def step(system: str, run: Callable[[Room], Figures] | None = None, **more: object) -> Step:
    return Step(**{"paper": 4, "name": "speed", "system": system, "run": run or (lambda room: {"one": 1}), **more})  # type: ignore[arg-type]  # what a test gives fits


def ran(
    found: list[Step], results: Results, folder: Path, scale: Scale = FULL, seconds: float = math.inf
) -> tuple[bool, list[str]]:
    said: list[str] = []
    return steps.run(found, scale, results, folder / "work", said.append, seconds), said


# --- turns -----------------------------------------------------------------------------------------------------------


def test_systems_take_turns_and_every_second_turn_goes_backwards() -> None:
    found = [step("a"), step("b", repetitions=2), step("other", name="size", repetitions=1), step("c")]
    turns = [f"{one.system}{repetition}" for one, repetition in steps.in_turn(found, Scale(False, (), repetitions=3))]
    assert turns == ["a0", "b0", "c0", "other0", "c1", "b1", "a1", "a2", "c2"]


def test_all_is_run_once_and_repeated_while_there_is_time(tmp_path: Path) -> None:
    found = [step("slow", lambda room: {"one": time.sleep(0.1)}), step("fast")]
    _, said = ran(found, Results(tmp_path), tmp_path, Scale(False, (), repetitions=3), seconds=0.05)
    assert [line for line in said if "slow" in line][1:] == [
        f"paper 4: speed, slow, {i} of 3: no time left for it" for i in (2, 3)
    ]
    results = Results(tmp_path)
    assert len(results.of(4, "speed", "slow")) == 1
    _, said = ran(found, results, tmp_path, Scale(False, (), repetitions=3))  # goes on
    assert len(results.of(4, "speed", "slow")) == len(results.of(4, "speed", "fast")) == 3


def test_a_quick_run_is_once_each_and_the_same_for_all_systems(tmp_path: Path) -> None:
    rooms: dict[str, list[Room]] = {"a": [], "b": []}

    def keep(system: str) -> Callable[[Room], Figures]:
        def run(room: Room) -> Figures:
            assert not list(room.folder.iterdir())
            (room.folder / "left").write_text("behind")
            rooms[system].append(room)
            return {}

        return run

    scale = Scale.of(True, [])
    assert ran([step("a", keep("a")), step("b", keep("b"))], Results(tmp_path), tmp_path, scale)[0]
    assert [len(found) for found in rooms.values()] == [1, 1]
    assert rooms["a"][0].seed == rooms["b"][0].seed
    assert not (tmp_path / "work").exists()


# --- runs that are interrupted ---------------------------------------------------------------------------------------


class Killed(BaseException):
    """The end of a process, as far as a test can play it."""


def test_an_interrupted_run_goes_on_and_repeats_nothing_that_is_done(tmp_path: Path) -> None:
    calls: list[str] = []

    def run(system: str, kill_at: int) -> Callable[[Room], Figures]:
        def made(room: Room) -> Figures:
            calls.append(system)
            if len(calls) == kill_at:
                raise Killed
            return {"calls": len(calls)}

        return made

    with pytest.raises(Killed):
        ran([step(one, run(one, 3), repetitions=2) for one in "ab"], Results(tmp_path), tmp_path)
    assert calls == ["a", "b", "b"]  # the last was begun and is not done
    path = Results(tmp_path).path
    path.write_bytes(path.read_bytes() + b'{"paper": 4, "name": "spe')  # what a torn write leaves
    results = Results(tmp_path)
    assert results.absent(4, "speed", "b", "") == ["begun"]
    whole, said = ran([step(one, run(one, 0), repetitions=2) for one in "ab"], results, tmp_path)
    assert whole
    assert calls == ["a", "b", "b", "b", "a"]
    assert len(said) == 2
    again = Results(tmp_path)
    assert [one.figures["calls"] for one in again.of(4, "speed")] == [1, 5, 2, 4]
    assert again.absent(4, "speed", "b", "") == []
    assert all(json.loads(line) for line in again.path.read_text().splitlines())


def test_a_failed_step_is_named_and_tried_again_next_time_and_the_others_go_on(tmp_path: Path) -> None:
    def fail(error: Exception) -> Callable[[Room], Figures]:
        def run(room: Room) -> Figures:
            raise error

        return run

    errors = [RivalError("kafka 0 ended with 1"), ZeroDivisionError("division by zero")]
    found = [*(step(str(i), fail(error), repetitions=1) for i, error in enumerate(errors)), step("b", repetitions=1)]
    results = Results(tmp_path)
    whole, said = ran(found, results, tmp_path)
    assert not whole
    assert "paper 4: speed, 0, 1: FAILED: kafka 0 ended with 1" in said
    assert "paper 4: speed, 1, 1: FAILED: ZeroDivisionError: division by zero" in said
    assert results.absent(4, "speed", "0", "") == ["failed: kafka 0 ended with 1"]
    assert len(results.of(4, "speed", "b")) == 1
    assert ran([step("0", repetitions=1)], Results(tmp_path), tmp_path)[0]
    assert Results(tmp_path).absent(4, "speed", "0", "") == []


def test_figures_that_are_too_large_fail_their_step_alone(tmp_path: Path) -> None:
    results = Results(tmp_path)
    with pytest.raises(ValueError, match="thin them"):
        results.add(ROW, {"series": [0.5] * SERIES_MAX}, 1, 1.0)
    assert not results.path.exists()
    found = [step("a", lambda room: {"series": "x" * SERIES_MAX}, repetitions=1), step("b", repetitions=1)]
    whole, said = ran(found, results, tmp_path)
    assert not whole
    assert "thin them" in said[0]
    assert len(results.of(4, "speed", "b")) == 1


# --- what is missing -------------------------------------------------------------------------------------------------


def test_a_missing_system_stands_in_the_results_with_its_reason_until_it_is_there(tmp_path: Path) -> None:
    found = [step("kafka", missing="no kcat: apt-get install kcat"), step("buck")]
    whole, said = ran(found, Results(tmp_path), tmp_path)
    assert whole
    assert said[0] == "paper 4: speed, kafka: left out: no kcat: apt-get install kcat"
    results = Results(tmp_path)
    assert set(results.systems(4, "speed")) == {("buck", ""), ("kafka", "")}
    assert results.absent(4, "speed", "kafka", "") == ["left out: no kcat: apt-get install kcat"]
    assert ran(found, results, tmp_path) == (True, [])  # it has been said
    assert ran([step("kafka"), step("buck")], Results(tmp_path), tmp_path)[0]
    assert len(Results(tmp_path).of(4, "speed", "kafka")) == FULL.repetitions


# --- pages -----------------------------------------------------------------------------------------------------------


def page(tmp_path: Path, text: str) -> tuple[Page, Path]:
    template = tmp_path / "text.md"
    template.write_text(text)
    return Page(4, Results(tmp_path / "results")), template


def test_a_page_has_its_values_tables_and_plots_at_their_places(tmp_path: Path) -> None:
    found, template = page(tmp_path, "It took {{long}}.\n\n{{table}}\n\n{{curve}}\n")
    found.value("long", "3 s")
    found.table("table", ["system", "a|b"], [["kafka", cell(Spread(1.0, 2.0, 3.0), "s")]])
    found.plot("curve", plots.sheet()[0], "How long it took.")
    found.write(tmp_path / "docs/4.md", template)
    assert (tmp_path / "docs/4.md").read_text() == (
        "It took 3 s.\n\n| system | a\\|b |\n| --- | --- |\n| kafka | 2 (1–3) s |\n\n"
        "![How long it took.](../results/plots/4-curve.svg)\n\n*How long it took.*\n"
    )
    assert (tmp_path / "docs/../results/plots/4-curve.svg").exists()


def test_a_page_names_the_places_that_nothing_fills(tmp_path: Path) -> None:
    found, template = page(tmp_path, "{{long}} {{short}} {{long}} {{table}}")
    found.value("short", "1 s")
    with pytest.raises(ValueError, match=r"paper 4: nothing fills long, table$"):
        found.write(tmp_path / "docs/4.md", template)
    assert not (tmp_path / "docs").exists()


def test_a_page_has_nothing_twice_and_no_ragged_table(tmp_path: Path) -> None:
    found, _ = page(tmp_path, "")
    found.value("long", "1 s")
    with pytest.raises(ValueError, match="two things called long"):
        found.plot("long", plots.sheet()[0], "")
    with pytest.raises(ValueError, match=r"2 columns, but a row is \['a'\]"):
        found.table("ragged", ["one", "two"], [["a"]])


def test_a_cell_says_why_there_is_no_figure() -> None:
    assert cell(Spread(2.0, 2.0, 2.0), "MB") == "2 MB"
    assert cell(None, "MB", ["failed: it ended"]) == "failed: it ended"
    assert cell(None) == "not measured"


def test_a_plot_is_written_as_svg_and_png_the_same_twice(tmp_path: Path) -> None:
    def draw(name: str) -> list[bytes]:
        figure, (axes,) = plots.sheet()
        for system in plots.LOOKS:
            one = plots.look(system)
            axes.plot([1, 10, 100], [1, 2, 3], color=one.colour, ls=one.dashes, marker=one.mark, label=system)
        axes.set_xscale("log")
        axes.legend()
        base = plots.save(figure, tmp_path / name)
        return [base.with_suffix(end).read_bytes() for end in (".svg", ".png")]

    one, other = draw("one"), draw("other")
    assert [data == again for data, again in zip(one, other, strict=True)] == [True, True]
    assert one[0].startswith(b"<?xml")
    assert one[1].startswith(b"\x89PNG")
    assert b"kafka</text>" in one[0]  # text stays text


def test_systems_and_their_variants_look_different_in_more_than_colour() -> None:
    looks = [plots.look(system) for system in plots.LOOKS]
    assert len({one.dashes for one in looks}) == len({one.mark for one in looks}) == len(looks)
    variants = [plots.look("kafka", turn) for turn in range(4)]
    assert len({(one.dashes, one.mark) for one in variants}) == len(variants)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`papers --quick` with one module, of two steps: `ends` says how the second ends."""
    module = types.ModuleType("bench.papers.played")
    log = tmp_path / "app.log"
    log.write_text("a line\n")
    (tmp_path / "text").mkdir()
    (tmp_path / "text/4.md").write_text("{{all}}")

    def fill(results: Results, found: dict[int, Page]) -> None:
        rows = [f"{system}: {cell(results.spread(4, 'speed', system, '', 'one'))}" for system in "ab"]
        found[4].value("all", ", ".join(rows))

    def run(*words: str, ends: Callable[[Room], Figures] | None = None) -> int:
        setattr(module, "steps", lambda scale: [step("a"), step("b", ends)])  # noqa: B010  # a module has no such attribute to mypy
        setattr(module, "fill", fill)  # noqa: B010  # the same
        given = ["--quick", "--results", str(tmp_path / "results"), "--folder", str(tmp_path / "work"), *words]
        return commands.papers([*given, "--logs", str(log)])

    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(commands, "MODULES", ["played"])
    for owner in (commands, pages):
        monkeypatch.setattr(owner, "TEXT", tmp_path / "text")
    return run


def test_the_command_writes_pages_and_says_on_what_machine(quick: Callable[..., int], tmp_path: Path) -> None:
    assert quick() == 0
    assert (tmp_path / "results/4.md").read_text() == "a: 1, b: 1"
    environment = [json.loads(line) for line in (tmp_path / "results/environment.json").read_text().splitlines()]
    assert environment[0]["versions"]["buck"]
    assert environment[0]["machine"]


def test_the_command_ends_with_1_where_a_step_failed_and_still_writes_its_pages(
    quick: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(room: Room) -> Figures:
        raise RivalError("it ended")

    assert quick(ends=fail) == 1
    assert "FAILED: it ended" in capsys.readouterr().out
    assert (tmp_path / "results/4.md").read_text() == "a: 1, b: not measured"
    assert quick() == 0  # goes on in the same folder
    assert (tmp_path / "results/4.md").read_text() == "a: 1, b: 1"


@pytest.mark.parametrize(
    ("words", "said"), [(["--only", "novel"], "there is no novel: there are played"), (["--logs", "/no/*"], "/no/*")]
)
def test_the_command_refuses_what_is_not_there(
    words: list[str], said: str, quick: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        commands.papers(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_section_of_its_own_file_stands_at_its_place_and_one_without_a_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "2.md").write_text("# Two\n\n<!-- loads -->\n\nend\n")
    (tmp_path / "2-loads.md").write_text("### Loads\n{{one}}\n")
    assert pages.whole(tmp_path / "2.md") == "# Two\n\n### Loads\n{{one}}\n\nend\n"
    (tmp_path / "2-fleet.md").write_text("far")
    with pytest.raises(ValueError, match=r"2.md has no <!-- fleet --> for 2-fleet.md"):
        pages.whole(tmp_path / "2.md")


def test_on_a_page_an_error_is_a_line(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.failed(ROW, "no answer:\n" + "a log's line\n" * 100, 1)
    (why,) = results.absent(*ROW[:4])
    assert why.startswith("failed: no answer: a log's line")
    assert len(why) <= 120
    assert "\n" not in why
    assert "a log's line\\n" * 100 in results.path.read_text()


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (Spread(1.0, 2.0, 2.5), Spread(5.0, 7.0, 11.0), "reached"),
        (Spread(2.0, 2.5, 3.0), Spread(5.0, 7.0, 11.0), "not decided: repetitions differ"),
        (Spread(6.0, 7.0, 8.0), Spread(5.0, 7.0, 11.0), "missed"),
        (Spread(2.0, 2.0, 2.0), Spread(5.0, 7.0, 11.0), "reached"),
        (Spread(2.0, 2.0, 2.0), Spread(4.0, 4.0, 4.0), "reached (once)"),
        (Spread(3.0, 3.0, 3.0), Spread(4.0, 4.0, 4.0), "missed (once)"),
    ],
)
def test_a_number_is_reached_or_missed_whichever_repetitions_are_compared(
    ours: Spread, theirs: Spread, said: str
) -> None:
    assert pages.verdict(ours, theirs, 0.5) == said


def test_a_page_says_where_of_which_versions_and_commits_it_was_measured(tmp_path: Path) -> None:
    for number, system in enumerate(("buck", "kafka", "buck")):
        Results(tmp_path, f"c{number}").add(Row(4, "speed", system, str(number), 0), {"one": 1}, 1, 1.0)
    older = {"machine": "1 x old, commit x", "versions": {"kafka": {"kafka": "1"}}}
    newer = {
        "machine": "2 x CPU, commit c2",
        "versions": {"kafka": {"kafka": "4", "java": "17"}, "buck": {"buck": "c2"}},
    }
    (tmp_path / "environment.json").write_text(f"{json.dumps(older)}\n{json.dumps(newer)}\n")
    said = "Measured on 2 x CPU, all nodes and clients on it. Others: kafka 4, java 17. Buck: c0, c2."
    assert Results(tmp_path).about() == said


@pytest.mark.parametrize(
    ("value", "said"), [(0.0, "0"), (0.01234, "0.0123"), (999.4, "999"), (1000.0, "1,000"), (10123.7, "10,124")]
)
def test_a_number_has_three_digits_or_all_before_its_point(value: float, said: str) -> None:
    assert pages.number(value) == said


@pytest.mark.slow
def test_a_run_that_is_ended_leaves_no_server_behind_and_is_marked(tmp_path: Path, shared_data: Path) -> None:
    if why := Nats.missing():
        pytest.skip(why)
    words = ["--quick", "--only", "lateness", "--results", tmp_path / "results", "--folder", tmp_path / "work"]
    command = [sys.executable, "-m", "bench", "papers", *map(str, words)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + 60
        while not (servers := serving(tmp_path)) and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        run.terminate()
        assert run.wait(60) == 128 + signal.SIGTERM
    assert servers
    assert not serving(tmp_path)
    assert Results(tmp_path / "results").absent(4, "order", "nats", "") == ["begun"]


def serving(folder: Path) -> list[str]:
    """Servers that run in this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"nats-server" in words[0] and any(os.fsencode(folder) in word for word in words):
                found.append(path.parent.name)
    return found
