"""Paper 2: what a fourth node costs three that are busy, and what it takes off them, alone or by an operator."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

from bench.papers import checker, faults
from bench.papers.checker import NS, Sent
from bench.papers.faults import NODES, SENDERS, Watch
from bench.papers.pages import Page, cell
from bench.papers.results import Results
from bench.papers.steps import Figures, Room, Scale, Step
from bench.rivals import nets
from bench.rivals.buck import Buck
from bench.rivals.kafka import Kafka
from bench.rivals.nats import Nats
from bench.rivals.rival import READY_S, Rival, Settings

PAPER, NAME = 2, "a server more"
REPETITIONS = 1  # it takes a minute and more
KINDS: list[type[Rival]] = [Buck, Kafka, Nats]
NO_TIME = "the quick run has no time for it"
LOOK_S = 0.02
MOVED_S = 60.0  # so long a move of some megabytes is waited for
MB = 1e6
ALONE: list[tuple[str, str, float]] = [
    ("MB on all disks before", "held_mb", 1),
    ("joined after (s)", "joined_s", 1),
    ("first new event on it after (s)", "used_s", 1),
    ("its share of new bytes stored, alone (%)", "share_alone", 100),
    ("slowest event, calm (s)", "worst_calm_s", 1),
    ("slowest event from its start on (s)", "worst_ack_s", 1),
    ("MB it received", "received_new", 1 / MB),
    ("its CPU (s)", "cpu_new_s", 1),
    ("extra MB received by all nodes", "received_extra", 1 / MB),
    ("extra CPU of all nodes (s)", "cpu_extra_s", 1),
]
MOVED: list[tuple[str, str, float]] = [
    ("moved after (s)", "moved_s", 1),
    ("MB it received meanwhile", "moved_received", 1 / MB),
    ("slowest event meanwhile (s)", "worst_ack_moving_s", 1),
    ("its share of new bytes stored after it (%)", "share_moved", 100),
]
JUDGED = {"acknowledged": "acked", "lost": "lost", "read twice": "duplicates"}


@dataclass(frozen=True)
class Plan:
    """`rate`: events a second, of all senders. `patience_s`: until it is said that nothing came to the new node by
    itself. `share_s`: how long it is measured what of new events lies on it. `warm_s`: before what is called calm."""

    rate: float = 1500.0
    warm_s: float = 20.0  # brokers that have just begun are dear: their code is still being compiled
    calm_s: float = 8.0
    patience_s: float = 15.0
    share_s: float = 8.0


def steps(scale: Scale) -> list[Step]:
    """A cluster for each system; on loopback, where what nodes receive isn't counted, if there are no networks."""
    settings = Settings(linger_ms=5, nets=not nets.missing())
    return [
        Step(
            PAPER, NAME, kind.name, partial(measure, kind, settings),
            missing=NO_TIME if scale.quick else kind.missing(),
            repetitions=REPETITIONS,
        )
        for kind in KINDS
    ]  # fmt: skip


def measure(kind: type[Rival], settings: Settings, room: Room) -> Figures:
    with kind(room.folder / "cluster", settings) as rival:
        return run(rival, room, Plan())


# --- one cluster ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stretch:
    """Monotonic nanoseconds of its begin and end, and what all nodes used in it: seconds, CPU seconds, bytes."""

    begin: int
    end: int
    used: dict[str, float]


class Meter:
    """Measures one stretch after another."""

    def __init__(self, rival: Rival) -> None:
        self._rival = rival
        self.begin()

    def begin(self) -> None:
        self._begin, self._before = time.monotonic_ns(), self._now()

    def end(self) -> Stretch:
        now = self._now()
        used = {name: value - self._before[name] for name, value in now.items()}
        return Stretch(self._begin, time.monotonic_ns(), used)

    def _now(self) -> dict[str, float]:
        now = {"at": time.monotonic(), "cpu_s": self._rival.cpu_s()}
        if self._rival.settings.nets:
            now["received"] = sum(one.received for one in self._rival.network())
        return now


@dataclass(frozen=True)
class Added:
    """What became of the new node without help. Seconds from its start; None: not within the patience."""

    node: int
    joined_s: float
    used_s: float | None


def run(rival: Rival, room: Room, plan: Plan) -> Figures:
    """Calm, then a node more, then its part moved to it if none came by itself; and whether all is there."""
    logs = room.folder / "logs"
    rival.spare = 1
    rival.start(NODES)
    sender = rival.pace(logs / "sent.log", rate=plan.rate, senders=SENDERS)
    watch = Watch(logs / "sent.log")
    try:
        watch.settle(time.monotonic_ns())
        time.sleep(plan.warm_s)
        meter = Meter(rival)
        time.sleep(plan.calm_s)
        calm = meter.end()
        held = rival.disk().allocated
        meter.begin()
        added = add(rival, plan.patience_s)
        alone_share = _share(rival, plan.share_s)[added.node]
        alone = meter.end()
        cpu_new_s, received_new = rival.nodes[added.node].usage().cpu_s, _received(rival, added.node)
        moving, said, moved = None, "", None
        if added.used_s is None:
            meter.begin()
            said = rival.move_to(added.node, time.monotonic() + MOVED_S)
            moving, after = meter.end(), _received(rival, added.node)
            moved = None if after is None or received_new is None else after - received_new
            rival.confirm_moved(time.monotonic() + MOVED_S)
        moved_share = _share(rival, plan.share_s)[added.node] if said else None
        last = time.monotonic_ns()
        watch.settle(last)
        sender.finish()
    except BaseException:  # also where the run is ended from outside: no sender outlives it
        sender.kill()
        raise
    finally:
        watch.close()
    sent = checker.sent_of([logs / "sent.log"])
    read = faults.read_past(rival, logs / "read.log")
    figures: Figures = {
        "joined_s": added.joined_s,
        "used_s": added.used_s,
        "share_alone": alone_share,
        "held_mb": held / MB,
        "cpu_new_s": cpu_new_s,
        "received_new": received_new,
        **_compared(sent, calm, alone),
        "note": _note(added, said),
        "judged": checker.judge(sent, read or [], whole=read is not None).figures(),
        "plan": asdict(plan),
    }
    if moving and said:
        figures |= {
            "moved_s": (moving.end - moving.begin) / NS,
            "moved_received": moved,
            "worst_ack_moving_s": checker.worst(sent, moving.begin, last) / NS,
            "share_moved": moved_share,
        }
    return figures


def add(rival: Rival, patience_s: float) -> Added:
    """Start a node, and wait until it is a member and holds an event, or the patience is at its end."""
    begin = time.monotonic()
    node = rival.add()
    joined_s = used_s = None
    while joined_s is None or (used_s is None and time.monotonic() < begin + patience_s):
        if used_s is None and rival.stored(node):
            used_s = time.monotonic() - begin
        if joined_s is None and rival.joined(node):
            joined_s = time.monotonic() - begin
        rival.pause(begin + READY_S, "the others don't count it among them", node)
    return Added(node, joined_s, used_s)


def _note(added: Added, said: str) -> str:
    if added.used_s is not None:
        return ""
    return f"nothing came to it by itself; then {said}" if said else "nothing came to it while it was waited for"


def _share(rival: Rival, seconds: float) -> list[float]:
    """Of what the nodes store of new events in this time, each one's part; copies count each."""
    before = [rival.stored(i) for i in range(len(rival.nodes))]
    time.sleep(seconds)
    return shares(before, [rival.stored(i) for i in range(len(rival.nodes))])


def shares(before: Sequence[int], after: Sequence[int]) -> list[float]:
    """Each node's part of what all have grown by; a node that dropped something old has grown by nothing."""
    grown = [max(0, late - early) for early, late in zip(before, after, strict=True)]
    return [one / (sum(grown) or 1) for one in grown]


def _received(rival: Rival, node: int) -> int | None:
    """Bytes since its start; None on loopback, where nobody counts."""
    return rival.network()[node].received if rival.settings.nets else None


def _compared(sent: Sent, calm: Stretch, alone: Stretch) -> Figures:
    """The slowest events of both stretches, and what the second used beyond what its time costs when all is well."""
    beyond = {name: used - calm.used[name] / calm.used["at"] * alone.used["at"] for name, used in alone.used.items()}
    return {
        "worst_calm_s": checker.worst(sent, calm.begin, calm.end) / NS,
        "worst_ack_s": checker.worst(sent, alone.begin, alone.end) / NS,
        "cpu_extra_s": beyond["cpu_s"],
        "received_extra": beyond.get("received"),
    }


# --- the page ---------------------------------------------------------------------------------------------------------


def fill(results: Results, pages: dict[int, Page]) -> None:
    """What a new node is without help, what an operator adds, and how it was measured."""
    if (page := pages.get(PAPER)) is None:
        return
    for table, columns in (("growing", ALONE), ("growing-moved", MOVED)):
        header = ["system", *(title for title, _, _ in columns), *(JUDGED if columns is MOVED else ())]
        page.table(table, header, [_row(results, kind.name, columns, len(header)) for kind in KINDS])
    page.value("growing-plan", _plan(results))
    page.value("growing-notes", _notes(results))


def _row(results: Results, system: str, columns: Sequence[tuple[str, str, float]], width: int) -> list[str]:
    """What was measured of a system, or once why nothing was."""
    found = results.of(PAPER, NAME, system, "")
    if not found:
        why = "; ".join(results.absent(PAPER, NAME, system, "")) or "not measured"
        return [system, why, *["-"] * (width - 2)]
    totals = [str(sum(one.figures["judged"][key] for one in found)) for key in JUDGED.values()]
    cells = [_cell(results, system, key, factor) for _, key, factor in columns]
    return [system, *cells, *(totals if columns is MOVED else ())]


def _cell(results: Results, system: str, key: str, factor: float) -> str:
    spread = results.spread(PAPER, NAME, system, "", key)
    if spread is None:
        return "never" if key == "used_s" else "-"
    return cell(type(spread)(*(value * factor for value in spread)))


def _plan(results: Results) -> str:
    found = results.of(PAPER, NAME)
    if not found:
        return "nothing was measured"
    one = found[0].figures["plan"]
    counts = ", ".join(f"{kind.name} {len(results.of(PAPER, NAME, kind.name, ''))}" for kind in KINDS)
    return (
        f"{one['rate']:.0f} events a second of {SENDERS} senders; {one['calm_s']:g} s are what is called"
        f" calm; the share is that of {one['share_s']:g} s, and for the first event {one['patience_s']:g} s are waited;"
        f" repetitions: {counts}"
    )


def _notes(results: Results) -> str:
    lines = {
        f"- {kind.name}: {note}"
        for kind in KINDS
        for one in results.of(PAPER, NAME, kind.name, "")
        if (note := one.figures["note"])
    }
    return "\n".join(sorted(lines)) or "- no operator did anything"
