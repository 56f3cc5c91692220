"""Paper 2, order of fairness: what the same lines cost at full load and at a small one, and what idle nodes cost.

One cluster of a system at a time. It is started (time until ready), left alone (memory, CPU), then loaded; which way of
loading comes first is drawn by the seed, the same for all systems.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from bench.measure import Spread
from bench.papers import full_load, small_load, where
from bench.papers.full_load import BEST_KAFKA, BLOBS, FLUSHED_KAFKA, LESS, OTHER_KAFKA, TINIEST
from bench.papers.pages import Page, cell, verdict
from bench.papers.results import Results
from bench.papers.steps import Figures, Room, Scale, Step
from bench.rivals.buck import Buck
from bench.rivals.kafka import Kafka
from bench.rivals.nats import Nats
from bench.rivals.rival import Rival, Settings
from bench.rivals.syslog import Syslog

PAPER = 2
FULL, SMALL, WHERE = "full load", "small load", "where the CPU goes"
IDLE_S, QUICK_IDLE_S = 5.0, 1.0
OTHERWISE = "3 copies, other ways"
FLUSHED = "3 copies, each write waits for the device"
LEAST_SHARE = 0.01
FEW = 2  # repetitions of what takes a minute
ONCE = 1  # of what is beside the point, or takes the client in Python minutes
COMMAND = "`.venv/bin/python -m bench papers --only loads`"

Part = Callable[[Any, Room], Figures]


class System(NamedTuple):
    """What is started for a step. `full`, `small`: what is then done with it."""

    kind: type[Rival]
    variant: str
    settings: Settings
    nodes: int
    full: Part
    small: Part | None
    repetitions: int | None = None


def systems(scale: Scale) -> list[System]:
    """What is measured, the best of each; in a quick run fewer ways."""
    one, best = Settings(), partial(full_load.kafka, ways=BEST_KAFKA[:1] if scale.quick else BEST_KAFKA)
    other = partial(full_load.kafka, ways=OTHER_KAFKA, packed=False)
    two = partial(full_load.kafka, ways=BEST_KAFKA[:1])
    flushed = partial(full_load.kafka, ways=FLUSHED_KAFKA, packed=False)
    synced = Settings(sync="each")
    return [
        System(Kafka, "3 copies", one, 3, best, small_load.kafka),
        System(Kafka, OTHERWISE, one, 3, other, None, ONCE),
        System(Kafka, FLUSHED, synced, 3, flushed, None, ONCE),
        System(Kafka, "2 copies", Settings(copies=2), 3, two, None, FEW),
        System(Nats, "3 copies", one, 3, full_load.nats, small_load.nats, ONCE),
        System(Nats, FLUSHED, synced, 3, partial(full_load.nats, part=TINIEST), None, ONCE),
        System(Syslog, "2 copies", Settings(copies=2), 2, full_load.syslog, small_load.syslog, ONCE),
        System(Syslog, "1 copy", Settings(copies=1), 1, full_load.syslog, None, ONCE),
        System(Buck, "", one, 3, full_load.buck, small_load.buck),
        System(Buck, FLUSHED, synced, 3, partial(full_load.buck, names=["three copies"], part=LESS), None, ONCE),
    ]


def steps(scale: Scale) -> list[Step]:
    """Full load, then small; a quick run does both with one cluster, and leaves Kafka's other ways out."""
    full, small = [], []
    for one in systems(scale):
        name, missing = one.kind.name, one.kind.missing()
        parts = [one.full]
        if scale.quick and one.small:
            parts = [one.small, one.full]
        if scale.quick and not one.small:
            missing = missing or "a quick run has no time for it"
        run = partial(measure, one, parts)
        full.append(Step(PAPER, FULL, name, run, one.variant, missing, one.repetitions))
        if one.small and not scale.quick:
            run = partial(measure, one, [one.small])
            small.append(Step(PAPER, SMALL, name, run, one.variant, missing, one.repetitions or FEW))
    profiled = {Kafka, Buck} if not scale.quick else set()
    parts = [where.profile]
    for one in systems(scale):
        if one.kind in profiled and one.small:
            missing = one.kind.missing() or where.missing()
            full.append(Step(PAPER, WHERE, one.kind.name, partial(measure, one, parts), one.variant, missing, 1))
    return full + small


def measure(system: System, parts: Sequence[Part], room: Room) -> Figures:
    """A cluster from its start to its end."""
    with system.kind(room.folder / "cluster", system.settings) as rival:
        figures: Figures = {"quick": room.scale.quick, "ready_s": rival.start(system.nodes)}
        figures["differences"] = rival.differences()
        cpu, begin = rival.cpu_s(), time.monotonic()
        time.sleep(QUICK_IDLE_S if room.scale.quick else IDLE_S)
        figures["idle_cpu_percent"] = (rival.cpu_s() - cpu) / (time.monotonic() - begin) * 100
        figures["idle_rss_mb"] = sum(now for now, _ in rival.memory()) / 1e6
        for part in parts:
            figures |= part(rival, room)
        figures["loaded_rss_mb"] = sum(now for now, _ in rival.memory()) / 1e6
        return figures


# --- the page --------------------------------------------------------------------------------------------------------


class Line(NamedTuple):
    """A line of a table: whose figures, and what stands before their keys."""

    system: str
    variant: str
    prefix: str = ""

    @property
    def words(self) -> str:
        return ", ".join(filter(None, (self.system, self.variant, self.prefix)))


LINES = [Line("kafka", "3 copies", way.name) for way in BEST_KAFKA]
LINES += [*(Line("kafka", OTHERWISE, way.name) for way in OTHER_KAFKA), Line("kafka", "3 copies", BLOBS)]
LINES_2 = [Line("kafka", "2 copies", BEST_KAFKA[0].name), Line("kafka", "2 copies", BLOBS)]
OTHERS = [
    Line("nats", "3 copies", "client in Python"),
    Line("rsyslog", "2 copies", "two receivers"),
    Line("rsyslog", "1 copy", "one receiver"),
]
SYNCED = [
    Line("kafka", FLUSHED, FLUSHED_KAFKA[0].name),
    Line("nats", FLUSHED, "client in Python"),
    Line("buck", FLUSHED, "three copies"),
]
BUCK_3, BUCK_2 = (Line("buck", "", name) for name in ("three copies", "two copies"))
AGENTS = [
    *(Line("kafka", "3 copies", name) for name in small_load.LINGERS),
    Line("nats", "3 copies", "one client for all hosts"),
    Line("rsyslog", "2 copies", "an rsyslog a host"),
    Line("buck", "", "a tailer a host"),
]
NODES = [
    Line("kafka", "3 copies"),
    Line("nats", "3 copies"),
    Line("rsyslog", "2 copies"),
    Line("buck", ""),
]
Column = tuple[str, str]  # its head, and the key of its figures


def fill(results: Results, pages: dict[int, Page]) -> None:
    if (page := pages.get(PAPER)) is None:
        return
    full: list[Column] = [
        ("CPU-s per GB", "cpu_s_per_gb"),
        ("of it client", "client_cpu_s_per_gb"),
        ("of it servers", "servers_cpu_s_per_gb"),
        ("client's start alone", "start_cpu_s_per_gb"),
        ("MB/s", "mb_per_s"),
        ("stored / raw, all copies", "stored_share"),
        ("reading all back, CPU-s per GB", "read_cpu_s_per_gb"),
        ("raw MB", "raw_mb"),
    ]
    _table(results, page, "loads-full", [*LINES, *LINES_2, *OTHERS, BUCK_3, BUCK_2, *SYNCED], full)
    small: list[Column] = [
        ("stored / raw, each copy", "stored_share"),
        ("after all agents were ended", "stored_share_ended"),
        ("packets or batches a second", "packets_per_s"),
        ("clients' CPU, % of a core", "client_cpu_percent"),
        ("servers' CPU, % of a core", "servers_cpu_percent"),
        ("clients' memory, MB", "client_rss_mb"),
        ("servers' memory, MB", "servers_rss_mb"),
        ("hosts", "hosts"),
    ]
    _table(results, page, "loads-small", AGENTS, small)
    idle: list[Column] = [
        ("ready after, s", "ready_s"),
        ("memory of all nodes, idle, MB", "idle_rss_mb"),
        ("after full load, MB", "loaded_rss_mb"),
        ("CPU of all nodes, idle, % of a core", "idle_cpu_percent"),
    ]
    _table(results, page, "loads-idle", NODES, idle)
    header = ["what", "Buck", "the best of Kafka", "Buck / Kafka", "asked for", "reached"]
    page.table("loads-numbers", header, list(_numbers(results)))
    page.table("loads-where", ["", "side", "what was done", "share of all CPU"], list(_where(results)))
    page.value("loads-differences", _differences(results))
    page.value("loads-command", COMMAND)


def found(results: Results, line: Line, key: str) -> Spread | None:
    """A figure over the repetitions of the step that has it: a quick run has all in one."""
    name = f"{line.prefix}: {key}" if line.prefix else key
    for step in (FULL, SMALL):
        if (spread := results.spread(PAPER, step, line.system, line.variant, name)) is not None:
            return spread
    return None


def _table(results: Results, page: Page, name: str, lines: Sequence[Line], columns: Sequence[Column]) -> None:
    rows = []
    for line in lines:
        spreads = [found(results, line, key) for _, key in columns]
        cells = [cell(spread) if spread else "" for spread in spreads]
        if not any(spreads):
            steps_of = (SMALL, FULL) if lines is AGENTS else (FULL, SMALL)
            whys = (results.absent(PAPER, step, line.system, line.variant) for step in steps_of)
            cells[0] = cell(None, why=next(filter(None, whys), []))
        rows.append([line.words, *cells, str(_times(results, line))])
    page.table(name, ["", *(head for head, _ in columns), "runs"], rows)


def _times(results: Results, line: Line) -> int:
    """How many repetitions have figures of this line."""
    prefix = line.prefix and f"{line.prefix}: "
    steps_of = [results.of(PAPER, step, line.system, line.variant) for step in (FULL, SMALL)]
    return max(sum(any(key.startswith(prefix) for key in one.figures) for one in runs) for runs in steps_of)


class Number(NamedTuple):
    """One comparison that was asked for: Buck's figure against the least of Kafka's."""

    what: str
    buck: Line
    kafka: Sequence[Line]
    key: str
    most: float


BUCK, KAFKA_3, SMALL_BUCK = NODES[-1], NODES[0], AGENTS[-1]
NUMBERS = [
    Number("CPU-s per GB, three copies, a message a line", BUCK_3, LINES[:-1], "cpu_s_per_gb", 1 / 6),
    Number("the same, two copies", BUCK_2, [*LINES_2[:-1], *LINES[:-1]], "cpu_s_per_gb", 1 / 6),
    Number("CPU-s per GB, three copies, against packed blobs", BUCK_3, LINES[-1:], "cpu_s_per_gb", 1.2),
    Number("the same, two copies", BUCK_2, LINES_2[-1:], "cpu_s_per_gb", 1.2),
    Number("stored, three copies, a message a line", BUCK_3, LINES[:-1], "stored_share", 0.6),
    Number("stored, two copies, a message a line", BUCK_2, LINES_2[:-1], "stored_share", 0.6),
    Number(
        "stored at the small load, each copy, Kafka sending almost at once",
        SMALL_BUCK,
        AGENTS[:1],
        "stored_share",
        0.5,
    ),
    Number("the same, Kafka waiting as long", SMALL_BUCK, AGENTS[1:2], "stored_share", 0.5),
    Number("memory of three idle nodes, MB", BUCK, [KAFKA_3], "idle_rss_mb", 0.2),
    Number("time until ready, s", BUCK, [KAFKA_3], "ready_s", 0.1),
]


def _numbers(results: Results) -> list[list[str]]:
    """Where a figure of a quick run takes part, nothing is judged."""
    rows = []
    quick = any(run.figures.get("quick") for step in (FULL, SMALL) for run in results.of(PAPER, step))
    for number in NUMBERS:
        ours = found(results, number.buck, number.key)
        theirs = {line: spread for line in number.kafka if (spread := found(results, line, number.key))}
        theirs = {line: spread for line, spread in theirs.items() if spread.median > 0}  # too little to take a block
        row = [number.what, cell(ours)]
        if ours is None or not theirs:
            rows.append([*row, "not measured", "", f"≤ {number.most:.2g}", ""])
            continue
        best = min(theirs, key=lambda line: theirs[line].median)
        ratio = ours.median / theirs[best].median
        said = f"{cell(theirs[best])} ({best.prefix})" if best.prefix else cell(theirs[best])
        reached = "not judged" if quick else verdict(ours, theirs[best], number.most)
        rows.append([*row, said, f"{ratio:.2f}", f"≤ {number.most:.2g}", reached])
    return rows


def _where(results: Results) -> Iterator[list[str]]:
    """Shares of at least a hundredth, the largest first."""
    for system, variant in results.systems(PAPER, WHERE):
        for run in results.of(PAPER, WHERE, system, variant):
            for name, share in run.figures["where"].items():
                if share >= LEAST_SHARE:
                    yield [system, *name.split(": ", 1), f"{share:.0%}"]
        for why in results.absent(PAPER, WHERE, system, variant):
            yield [system, "", why, ""]


def _differences(results: Results) -> str:
    """What each system says, once."""
    lines = []
    for system, variant in results.systems(PAPER, FULL):
        runs = results.of(PAPER, FULL, system, variant)
        lines += [f"* {system}: {text}." for run in runs[:1] for text in run.figures["differences"]]
    return "\n".join(dict.fromkeys(lines)) or "nothing was measured"
