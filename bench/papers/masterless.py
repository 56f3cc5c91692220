"""Paper 2: what befalls every system's clients when a node is killed, held still, cut off, or all are restarted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.measure import Spread
from bench.papers import faults, placements, plots
from bench.papers.pages import Page, cell, verdict
from bench.papers.results import Found, Results
from bench.papers.steps import Figures, Room, Scale, Step
from bench.rivals import nets
from bench.rivals.buck import Buck
from bench.rivals.kafka import Kafka
from bench.rivals.nats import Nats
from bench.rivals.rival import Rival, Settings
from bench.rivals.syslog import Syslog

PAPER, NAME = 2, "faults"
REPETITIONS = 2
DEFAULT, TUNED = Settings(linger_ms=5, nets=True), Settings(linger_ms=5, nets=True, timeouts="tuned")
VARIANTS: list[tuple[type[Rival], str, Settings]] = [
    (Buck, "default", DEFAULT),
    (Buck, "tuned", TUNED),
    (Kafka, "default", DEFAULT),
    (Kafka, "tuned", TUNED),
    (Nats, "default", DEFAULT),
    (Nats, "tuned", TUNED),
    (Syslog, "two receivers", Settings(copies=2, nets=True)),
]
TITLES = {
    "kill": "kill -9, then a restart",
    "stop": "SIGSTOP, then SIGCONT",
    "cut": "black hole, then healed",
    "rolling": "all restarted in turn",
}
MB, MS = 1e6, 1e3
CALM = {"ready_s": 1, "idle_rss": 1 / MB, "calm_ack_p50_s": MS, "calm_frames_per_event": 1,
        "calm_received_per_event": 1, "calm_cpu_share": 1}  # fmt: skip
QUICK = [(Buck, "tuned"), (Nats, "tuned")]  # one with a leader, one without; brokers take longest to start
ONCE = "the quick run has time for few clusters"


def steps(scale: Scale) -> list[Step]:
    """A cluster for each system and each set of time-outs."""
    here = nets.missing()
    return [
        Step(
            PAPER, NAME, kind.name, partial(measure, kind, settings), variant,
            ONCE if scale.quick and (kind, variant) not in QUICK else kind.missing() or here,
            1 if variant == "default" else REPETITIONS,
        )
        for kind, variant, settings in VARIANTS
    ]  # fmt: skip


def measure(kind: type[Rival], settings: Settings, room: Room) -> Figures:
    plan = faults.QUICK if room.scale.quick else faults.LONG if settings == DEFAULT else faults.SHORT
    with kind(room.folder / "cluster", settings) as rival:
        return faults.run(rival, room, plan)


# --- the page ---------------------------------------------------------------------------------------------------------


def fill(results: Results, pages: dict[int, Page]) -> None:
    """Tables, the plot, and what compares Buck with the best of the others."""
    if (page := pages.get(PAPER)) is None:
        return
    asked = _Asked(results)
    tables: dict[str, tuple[list[str], Callable[[tuple[str, str]], list[str]]]] = {
        "gaps": (
            [f"{title}: no ack at all, slowest event (s)" for title in TITLES.values()],
            lambda which: [asked.pair(which, f"{fault}_gap_s", f"{fault}_worst_s") for fault in TITLES],
        ),
        "judged": (
            ["acknowledged", "lost", "read twice", "never sent", "neither acknowledged nor there", "verdicts",
             "the judge sees a planted loss, duplicate, phantom"],
            lambda which: [*(asked.total(which, key) for key in ("acked", "lost", "duplicates", "phantoms", "torn")),
                           asked.verdicts(which), asked.verified(which)],
        ),
        "returning": (
            ["back after (s)", "extra MB received by all nodes", "extra CPU of all nodes (s)"],
            lambda which: [asked.cell(which, "kill_back_s"), asked.cell(which, "return_received", 1 / MB),
                           asked.cell(which, "return_cpu_s")],
        ),
        "calm": (
            ["ready after (s)", "idle memory of all nodes (MB)", "from due to acknowledged, median (ms)",
             "Ethernet frames to nodes an event", "bytes to nodes an event", "CPU of the nodes (cores)"],
            lambda which: [asked.cell(which, key, factor) for key, factor in CALM.items()],
        ),
    }  # fmt: skip
    for table, (header, cells) in tables.items():
        page.table(table, ["system", *header], [asked.row(name, which, cells) for name, which in asked.rows()])
    _placements(page)
    page.plot("faults", draw(results), "Events acknowledged a second, and what the slowest event waited that fell due"
              " then, around each fault; the last repetition of each system, all at the same rate and on the same"
              " clock.")  # fmt: skip
    worst = {fault: asked.beside(f"{fault}_worst_s", 8.0, ("kafka", "nats")) for fault in ("kill", "stop", "cut")}
    page.value("worst beside the best", "\n".join(f"- {TITLES[fault]}: {text}" for fault, text in worst.items()))
    page.value("memory beside Kafka", asked.beside("idle_rss", 5.0, ("kafka",)))
    page.value("ready beside Kafka", asked.beside("ready_s", 10.0, ("kafka",)))
    page.value("plan", asked.plan())
    page.value("differences", asked.differences())


def _placements(page: Page) -> None:
    def share(one: placements.Outcome) -> str:
        return " · ".join(f"{100 * float(value):.3g}" for value in (one.lost, one.hidden, one.refused))

    page.table(
        "placements",
        ["nodes", "die at once", *placements.SCHEMES],
        [[str(nodes), str(killed), *map(share, row.values())] for nodes, killed, row in placements.table()],
    )


class _Asked:
    """What the tables ask of the results."""

    def __init__(self, results: Results) -> None:
        self.results = results

    def rows(self) -> list[tuple[str, tuple[str, str]]]:
        """Each system's name in the tables, and its step: in this order, whatever ran."""
        return [(f"{kind.name} {variant}".strip(), (kind.name, variant)) for kind, variant, _ in VARIANTS]

    def _spread(self, which: tuple[str, str], key: str, factor: float = 1.0) -> Spread | None:
        found = self.results.spread(PAPER, NAME, *which, key)
        return None if found is None else Spread(*(value * factor for value in found))

    def cell(self, which: tuple[str, str], key: str, factor: float = 1.0) -> str:
        return cell(self._spread(which, key, factor), why=self.results.absent(PAPER, NAME, *which))

    def pair(self, which: tuple[str, str], first: str, second: str) -> str:
        if self._spread(which, first) is None:
            return self.cell(which, first)
        return f"{self.cell(which, first)}, {self.cell(which, second)}"

    def _found(self, which: tuple[str, str]) -> list[Found]:
        return self.results.of(PAPER, NAME, *which)

    def row(self, name: str, which: tuple[str, str], cells: Callable[[tuple[str, str]], list[str]]) -> list[str]:
        """What a system's cells say, or once why there are none."""
        found = cells(which)
        if self._found(which):
            return [name, *found]
        why = "; ".join(self.results.absent(PAPER, NAME, *which)) or "not measured"
        return [name, why, *["-"] * (len(found) - 1)]

    def total(self, which: tuple[str, str], key: str) -> str:
        found = self._found(which)
        return str(sum(one.figures["judged"][key] for one in found)) if found else self.cell(which, key)

    def verdicts(self, which: tuple[str, str]) -> str:
        return ", ".join(one.figures["judged"]["verdict"] for one in self._found(which)) or "not measured"

    def verified(self, which: tuple[str, str]) -> str:
        found = [one.figures["verify"] for one in self._found(which)]
        wrong = sorted({key for one in found for key, seen in one.items() if not seen})
        return "not measured" if not found else "yes" if not wrong else f"NOT {', '.join(wrong)}"

    def beside(self, key: str, wanted: float, kinds: tuple[str, ...]) -> str:
        """Buck, tuned, beside the least of these systems: what it is wanted to be so many times less than."""
        ours = self._spread(("buck", "tuned"), key)
        others = {name: self._spread(which, key) for name, which in self.rows() if which[0] in kinds}
        known = {name: spread.median for name, spread in others.items() if spread is not None}
        if ours is None or not known:
            return "not measured"
        best = min(known, key=lambda name: known[name])
        ratio = ours.median / known[best] if known[best] else float("inf")
        theirs = others[best]
        assert theirs is not None
        of_all = f", the best of {' and '.join(kinds)}" if len(kinds) > 1 else ""
        said = verdict(ours, theirs, 1 / wanted)
        return f"{ratio:.2g} of {best}'s{of_all} (wanted: {1 / wanted:.3g} at most, {said})"

    def plan(self) -> str:
        found = self.results.of(PAPER, NAME)
        if not found:
            return "nothing was measured"
        one = found[0].figures["plan"]
        lasted = sorted({run.figures["plan"]["out_s"] for run in found})
        counts = [f"{name} {len(self._found(which))}" for name, which in self.rows()]
        return (
            f"{one['rate']:.0f} events a second of {faults.SENDERS} senders, each fault for"
            f" {' or '.join(f'{seconds:g}' for seconds in lasted)} s (the longer where time-outs are the default ones);"
            f" repetitions: {', '.join(counts)}"
        )

    def differences(self) -> str:
        """Each once: of a system, where all its variants say so, else of the variant."""
        said: dict[tuple[str, str], list[str]] = {}
        ran = [(name, which) for name, which in self.rows() if self._found(which)]
        for name, which in ran:
            for text in self._found(which)[0].figures["differences"]:
                said.setdefault((which[0], text), []).append(name)
        variants = Counter(which[0] for _, which in ran)
        lines = [
            f"- {kind if len(names) == variants[kind] else ', '.join(names)}: {text}"
            for (kind, text), names in said.items()
        ]
        return "\n".join(lines) or "- nothing was measured"


def draw(results: Results) -> Figure:
    """A row a fault: acknowledged events a second on the left, the wait of the slowest on the right."""
    keys = {key for one in results.of(PAPER, NAME) for key in one.figures}
    titles = {fault: title for fault, title in TITLES.items() if f"{fault}_rate" in keys} or TITLES
    figure, axes = plots.sheet(len(titles), 2, high=1 + 1.8 * len(titles))
    for row, (fault, title) in enumerate(titles.items()):
        left, right = axes[2 * row : 2 * row + 2]
        turns: dict[str, int] = {}
        for kind, variant, _ in VARIANTS:
            turn = turns[kind.name] = turns.get(kind.name, -1) + 1
            found = results.of(PAPER, NAME, kind.name, variant)
            if found and f"{fault}_rate" in found[-1].figures:
                figures, look = found[-1].figures, plots.look(kind.name, turn)
                label = f"{kind.name} {variant}".strip()
                seconds = figures[f"{fault}_lasted_s"] + figures[f"{fault}_settled_s"] + faults.BEFORE_S
                whole = int(seconds / faults.WIDTH_S)  # of the last point there is a part only, and it misleads
                _line(left, figures[f"{fault}_rate"][:whole], look, label)
                _line(right, figures[f"{fault}_waits"][:whole], look, label)
        left.set_title(title, fontsize=8, loc="left")
        left.set_ylabel("events/s acked")
        right.set_ylabel("slowest (s)")
        right.set_yscale("log")
        _scale(left, lambda value: value + 1)
    for one in axes[-2:]:
        one.set_xlabel("seconds since the fault")
    if axes[0].lines:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=7)
    return figure


def _scale(axes: Axes, above: Callable[[float], float]) -> None:
    """From nothing on; log beyond 100, for what had waited comes all at once."""
    axes.set_yscale("symlog", linthresh=100)
    axes.set_ylim(0, above(axes.get_ylim()[1]))


def _line(axes: Axes, values: list[float | None], look: plots.Look, label: str) -> None:
    times = [i * faults.WIDTH_S - faults.BEFORE_S for i in range(len(values))]
    axes.plot(times, [float("nan") if one is None else max(one, 1e-3) for one in values], label=label,
              color=look.colour, linestyle=look.dashes, marker=look.mark, markersize=2.5, markevery=4,
              linewidth=1)  # fmt: skip
