"""One cluster, events at a steady rate, and one thing after another that happens to a node: everything on one clock.

Where a system has a leader, it is the one that is hit. Elsewhere it is any. A fault
lasts the same time for all systems, then is undone, and the next one waits until what was due before has settled.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.papers import checker
from bench.papers.checker import NS, Id, Sent
from bench.papers.steps import Figures, Room
from bench.rivals.process import RivalError
from bench.rivals.rival import Rival

NODES, SENDERS = 3, 6
NODES_OF = {"rsyslog": 2}  # every receiver has everything: two of them are two copies
BEFORE_S, WIDTH_S = 2.0, 1.0  # what the plots show before a fault; a point of theirs
QUIET_S, SETTLE_S = 2.0, 40.0
PLANTED, PLANTED_S = 90, 0.5  # the sender whose events are given twice, and how long it sends
FAULTS = ("kill", "stop", "cut", "rolling")


@dataclass(frozen=True)
class Plan:
    """`rate`: events a second, of all senders. `out_s`: how long a fault lasts. `warm_s`: sent before anything counts,
    while JVMs that have just begun compile what they do."""

    faults: tuple[str, ...] = FAULTS
    rate: float = 2000.0
    calm_s: float = 5.0
    out_s: float = 6.0
    warm_s: float = 20.0


SHORT, LONG = Plan(), Plan(("kill",), out_s=12.0)  # longer than what by default is waited for
QUICK = Plan(("kill",), rate=400.0, calm_s=1.5, out_s=2.5, warm_s=0.0)


@dataclass(frozen=True)
class Mark:
    """A fault: monotonic nanoseconds of its begin, of its undoing, and of when that had settled; seconds until the node
    took part again, where it had to be started."""

    fault: str
    begin: int
    undone: int
    end: int
    back_s: float | None


@dataclass(frozen=True)
class Used:
    """What all nodes have used by a moment."""

    at: float
    cpu_s: float
    received: int
    frames: int

    @classmethod
    def by_now(cls, rival: Rival) -> Used:
        received = sum(one.received for one in rival.network())
        frames = sum(one.received for one in rival.network_of_nodes.frames())
        return cls(time.monotonic(), rival.cpu_s(), received, frames)

    def since(self, earlier: Used) -> dict[str, float]:
        return {
            name: getattr(self, name) - getattr(earlier, name) for name in ("at", "cpu_s", "received", "frames")
        }  # fmt: skip


class Watch:
    """What a sender's log says while it is being written."""

    def __init__(self, log: Path) -> None:
        self._file, self._rest = log.open("rb"), b""
        self._waiting: dict[bytes, int] = {}
        self.newest = 0  # the latest due time of what is acknowledged

    def older_than(self, ns: int) -> int:
        """How many events that were due before this moment wait for their acknowledgement."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            kind, sender, number, stamp = line.split(b" ", 4)[:4]
            name = sender + b"/" + number
            if kind == b"S":
                self._waiting[name] = int(stamp)
            elif kind == b"A":
                self.newest = max(self.newest, self._waiting.pop(name, 0))
        return sum(due < ns for due in self._waiting.values())

    def settle(self, ns: int) -> None:
        """Until newer events are acknowledged and older ones are, or no more of them come."""
        left, changed = self.older_than(ns), time.monotonic()
        deadline = changed + SETTLE_S
        while (now := time.monotonic()) < deadline:
            before, left = left, self.older_than(ns)
            changed = now if left != before else changed
            if self.newest > ns and (not left or now > changed + QUIET_S):
                return
            time.sleep(0.05)

    def close(self) -> None:
        self._file.close()


def run(rival: Rival, room: Room, plan: Plan) -> Figures:
    """All that happens to one cluster, and what came of it."""
    logs = room.folder / "logs"
    ready_s = rival.start(NODES_OF.get(rival.name, NODES))
    time.sleep(plan.calm_s)
    figures: Figures = {"ready_s": ready_s, "idle_rss": sum(now for now, _ in rival.memory())}
    sender = rival.pace(logs / "sent.log", rate=plan.rate, senders=SENDERS)
    watch = Watch(logs / "sent.log")
    try:
        watch.settle(time.monotonic_ns())
        time.sleep(plan.warm_s)
        begin, warm = Used.by_now(rival), time.monotonic_ns()
        time.sleep(plan.calm_s)
        calm = Used.by_now(rival).since(begin)
        marks, back = [], None
        for fault in plan.faults:
            mark, used = _happen(rival, fault, plan, watch, random.Random(room.seed))
            marks.append(mark)
            time.sleep(BEFORE_S)  # nothing of this fault is on its way when the next begins
            back = used or back
        watch.settle(time.monotonic_ns())
        sender.finish()
    finally:
        watch.close()
    planted = _plant(rival, logs, plan.rate / SENDERS)
    read = read_past(rival, logs / "read.log")
    sent = checker.sent_of([logs / "sent.log"])
    events = calm["at"] * plan.rate
    figures |= {
        "calm_received_per_event": calm["received"] / events,
        "calm_frames_per_event": calm["frames"] / events,
        "calm_cpu_share": calm["cpu_s"] / calm["at"],
        "calm_ack_p50_s": _median_wait(sent, warm, marks[0].begin),
        "judged": checker.judge(
            sent, [one for one in read or [] if one[0] != PLANTED], whole=read is not None
        ).figures(),
        "verify": verify(planted, [one for one in read or [] if one[0] == PLANTED]),
        "plan": dataclasses.asdict(plan),
        "differences": rival.differences(),
    }
    for mark in marks:
        figures |= {f"{mark.fault}_{key}": value for key, value in _look(sent, mark, plan).items()}
    if back:
        figures |= _cost_of_return(calm, back)
    return figures


def _happen(
    rival: Rival, fault: str, plan: Plan, watch: Watch, any_of: random.Random
) -> tuple[Mark, dict[str, float] | None]:
    """One fault, undone and settled; and what was used from the start of a node that was dead."""
    leader = rival.leader()
    victim = any_of.randrange(len(rival.nodes)) if leader is None else leader
    doing: dict[str, tuple[Callable[[int], object], Callable[[int], object]]] = {
        "kill": (rival.kill, rival.restart),
        "stop": (rival.freeze, rival.thaw),
        "cut": (rival.cut, rival.heal),
    }
    begin, back_s, before = time.monotonic_ns(), None, None
    if fault == "rolling":
        back_s = max(rival.restart(i) for i in range(len(rival.nodes)))
        undone = time.monotonic_ns()
    else:
        do, undo = doing[fault]
        do(victim)
        time.sleep(plan.out_s)
        undone = time.monotonic_ns()
        before = Used.by_now(rival) if fault == "kill" else None
        said = undo(victim)
        back_s = float(said) if isinstance(said, float) else None
    watch.settle(undone)
    used = Used.by_now(rival).since(before) if before else None
    return Mark(fault, begin, undone, time.monotonic_ns(), back_s), used


def _look(sent: Sent, mark: Mark, plan: Plan) -> dict[str, Any]:
    """Around one fault: the longest silence, the slowest event, and both over time. Seconds."""
    gap, _ = checker.longest_gap(sent, mark.begin, mark.end)
    first, width = mark.begin - int(BEFORE_S * NS), int(WIDTH_S * NS)
    last = min(mark.end, mark.begin + int((2 * plan.out_s + 4) * NS)) if mark.fault != "rolling" else mark.end
    return {
        "gap_s": gap / NS,
        "worst_s": checker.worst(sent, mark.begin, mark.end) / NS,
        "lasted_s": (mark.undone - mark.begin) / NS,
        "settled_s": (mark.end - mark.undone) / NS,
        "back_s": mark.back_s,
        "rate": [round(one, 1) for one in checker.rate(sent, first, last, width)],
        "waits": [None if one is None else round(one, 3) for one in checker.waits(sent, first, last, width)],
    }


def _median_wait(sent: Sent, since: int, before: int) -> float | None:
    """Of events that fell due and were acknowledged between the two, in seconds."""
    waits = sorted(ns - sent.due[name] for name, ns in sent.acked.items() if since <= sent.due[name] < ns < before)
    return waits[len(waits) // 2] / NS if waits else None


def _cost_of_return(calm: dict[str, float], back: dict[str, float]) -> Figures:
    """Beyond what the same time costs when all is well; the work that had waited is in it."""
    return {f"return_{name}": back[name] - calm[name] / calm["at"] * back["at"] for name in ("cpu_s", "received")}


# --- what came out --------------------------------------------------------------------------------------------------


def read_past(rival: Rival, log: Path) -> list[Id] | None:
    """What the system's reader of the past is given now; None if it doesn't get to its end."""
    try:
        rival.consume(log, live=False).finish()
    except RivalError:
        return None
    return checker.read_ids(log)


def _plant(rival: Rival, logs: Path, rate: float) -> Sent:
    """Events of one name and number are really sent twice, by two senders that pretend to be the same. They are not
    given the ids by which a system could tell."""
    asked = rival.settings
    rival.settings = dataclasses.replace(asked, idempotent=False)
    try:
        for turn in ("first", "again"):
            sender = rival.pace(logs / turn / "sent.log", rate=max(rate, 20.0), first=PLANTED)
            time.sleep(PLANTED_S)
            sender.finish()
    finally:
        rival.settings = asked
    return checker.sent_of([logs / "first" / "sent.log"])


def verified(rival: Rival, logs: Path) -> dict[str, bool]:
    """`verify` on a cluster where nothing else was sent."""
    planted = _plant(rival, logs, 100.0)
    return verify(planted, read_past(rival, logs / "read.log") or [])


def verify(sent: Sent, read: list[Id]) -> dict[str, bool]:
    """Does the judge see a duplicate that was really made, and a loss and a phantom that are put into the log?"""
    once = list(dict.fromkeys(one for one in read if one in sent.due))
    victim = next((one for one in once if one in sent.acked), None)
    twice = checker.judge(sent, [one for one in read if one in sent.due])
    short = checker.judge(sent, [one for one in once if one != victim])
    more = checker.judge(sent, [*once, (PLANTED, 10**9)])
    honest = checker.judge(sent, once)
    return {
        "honest": honest.verdict == "valid",
        "loss": (short.verdict, short.lost) == ("invalid", 1),
        "duplicate": twice.verdict == "invalid" and twice.duplicates > 0,
        "phantom": (more.verdict, more.phantoms) == ("invalid", 1),
    }
