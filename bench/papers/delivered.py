"""One cluster, some senders and a reader, through what befalls them; and the figures of how its events came.

All in one run, in stretches, each with its own fault: nothing; a sender killed, with all that is its own on its host,
and started again; a server that leads (where any does) killed, and what is due in the seconds after that, as many in
all systems, whenever it is started again; a sender whose clock goes ahead.
An event belongs to the stretch in which it was due. Its figures are made of that stretch's events alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench.papers import arrivals
from bench.rivals.lines import read_log
from bench.rivals.process import Client
from bench.rivals.rival import Rival
from bench.rivals.syslog import Syslog

STRETCHES = ("normal", "sender", "server", "skew")
BEFORE_S = 1.0  # so long before the death of a server does what is counted begin
DEAD_S = 8.0  # and so long after it, at most, does it end: in all systems alike, whenever each serves again
NUMBERS_EACH = 10**7  # a killed sender's last numbers may have been sent and not logged: nobody uses them again
FIRST_S = 90.0  # so long may it take until something of each sender has come
READ_S = 8.0  # so long a reader may take to be given all that was acknowledged
LOOK_S = 0.5  # each look reads the whole log: more often, it would take from what is measured
ABOVE_US = 1_000_000  # which share of the events is later than that is told
WAITS_US = (0, 100_000, 1_000_000, 10_000_000)
BUCKETS_US = (10_000_000, 300_000_000)


@dataclass(frozen=True)
class Plan:
    """Seconds of each stretch; events a second of all senders together. `down_s`: from a server's death to its start;
    0: it isn't started again. `warm_s`: sent before anything counts, while JVMs that have just begun compile."""

    rate: float
    normal_s: float
    sender_s: float
    down_s: float
    after_s: float
    skew_s: float
    ahead_s: float = 3.0
    restart: bool = True
    senders: int = 6
    warm_s: float = 0.0

    @property
    def victim(self) -> int:
        """The sender that is killed, and whose clock goes ahead later."""
        return self.senders - 1

    @property
    def counted_s(self) -> float:
        """Of the death of a server."""
        return BEFORE_S + min(self.down_s, DEAD_S)


class Stretch(NamedTuple):
    """Nanoseconds of CLOCK_MONOTONIC."""

    name: str
    begin: int
    end: int


class Sending:
    """The senders, a process each, as hosts would be; and the logs of all that ever were."""

    def __init__(self, rival: Rival, folder: Path, plan: Plan) -> None:
        self.rival, self.folder, self.plan = rival, folder, plan
        self.logs: list[Path] = []
        self._clients: dict[int, Client] = {}
        self._turns: Counter[int] = Counter()

    def start(self, sender: int, skew_s: float = 0.0) -> int:
        """For the first time, or again: its numbers go on after a gap. The first of them."""
        turn = self._turns[sender]
        self._turns[sender] += 1
        log = self.folder / f"sent{sender}.{turn}.log"
        self.logs.append(log)
        rate, number = self.plan.rate / self.plan.senders, turn * NUMBERS_EACH
        self._clients[sender] = self.rival.pace(log, rate=rate, first=sender, skew_s=skew_s, number=number)
        return number

    def kill(self, sender: int) -> None:
        self._clients.pop(sender).kill()

    def finish(self, sender: int) -> None:
        self._clients.pop(sender).finish()

    def __enter__(self) -> Sending:
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.start, range(self.plan.senders)))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for client in self._clients.values():
                client.kill()
            return
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.finish, list(self._clients)))


def through(rival: Rival, folder: Path, plan: Plan) -> tuple[list[Stretch], list[Path], Path, Path]:
    """Let it all happen in a cluster that runs. The stretches, the senders' logs, the live reader's, and that of one
    who reads all once it is over."""
    live, past = folder / "live.log", folder / "past.log"
    stretches: list[Stretch] = []

    @contextmanager
    def stretch(name: str, most_s: float = 3600.0) -> Iterator[None]:
        begin = time.monotonic_ns()
        yield
        stretches.append(Stretch(name, begin, min(time.monotonic_ns(), begin + round(most_s * 1e9))))

    reader = rival.consume(live)
    try:
        with Sending(rival, folder, plan) as sending:
            _until_read(live, {(sender, 0) for sender in range(plan.senders)}, reader)
            time.sleep(plan.warm_s)
            with stretch("normal"):
                time.sleep(plan.normal_s)
            with stretch("sender"):
                _sender_dies(sending, plan)
            leader = rival.leader()  # asked before: with some it takes seconds
            with stretch("server", plan.counted_s):
                _server_dies(rival, leader or 0, plan)  # rsyslog's reader reads the first one's file
            sending.finish(plan.victim)
            _until_read(live, {(plan.victim, sending.start(plan.victim, plan.ahead_s))}, reader)
            with stretch("skew"):
                time.sleep(plan.skew_s)
        _until_all_read(sending.logs, live, reader)
        reader.finish()
    except BaseException:
        if reader.running():
            reader.kill()
        raise
    rival.consume(past, live=False).finish()
    return stretches, sending.logs, live, past


def _sender_dies(sending: Sending, plan: Plan) -> None:
    time.sleep(plan.sender_s / 4)
    sending.kill(plan.victim)
    time.sleep(plan.sender_s / 4)
    sending.start(plan.victim)
    time.sleep(plan.sender_s / 2)


def _server_dies(rival: Rival, victim: int, plan: Plan) -> None:
    time.sleep(BEFORE_S)
    rival.kill(victim)
    time.sleep(plan.down_s)
    if plan.restart or isinstance(rival, Syslog):  # whose reader has nothing more to read otherwise
        rival.restart(victim)
        time.sleep(plan.after_s)


def _until_read(log: Path, firsts: set[tuple[int, int]], reader: Client) -> None:
    """Something of each sender has come, from a number on."""
    deadline = time.monotonic() + FIRST_S
    while waits := {first for first in firsts if not _has_come(log, *first)}:
        assert reader.running(), reader.log_end()
        assert time.monotonic() < deadline, f"nothing has come of senders {sorted(waits)} in {FIRST_S:.0f} s"
        time.sleep(LOOK_S)


def _has_come(log: Path, sender: int, number: int) -> bool:
    return any(one.sender == sender and one.number >= number for one in read_log(log))


def _until_all_read(logs: Sequence[Path], log: Path, reader: Client) -> None:
    """Or so long that what hasn't come is not awaited any more."""
    acked = {(one.sender, one.number) for path in logs for one in read_log(path) if one.kind == "A"}
    deadline = time.monotonic() + READ_S
    while reader.running() and time.monotonic() < deadline:
        if acked <= {(one.sender, one.number) for one in read_log(log)}:
            return
        time.sleep(LOOK_S)


# --- figures ---------------------------------------------------------------------------------------------------------


class Sent(NamedTuple):
    """When an event was due, and the time that stands in its line (microseconds)."""

    due_ns: int
    claimed_us: int
    sender: int


def figures(stretches: Sequence[Stretch], sent: Sequence[Path], live: Path, past: Path) -> dict[str, Any]:
    """Of both readers, by stretch: keys are READER_STRETCH_WHAT."""
    events = {
        (one.sender, one.number): Sent(one.ns, int(one.rest) // 1000, one.sender)
        for path in sent
        for one in read_log(path)
        if one.kind == "S"
    }
    shifts = sorted(one.claimed_us - one.due_ns // 1000 for one in events.values())
    shift = shifts[len(shifts) // 2]  # of most senders' clocks against the monotonic one
    found: dict[str, Any] = {}
    for reader, path in (("live", live), ("past", past)):
        read: dict[tuple[int, int], int] = {}
        again = 0
        for one in read_log(path):
            again += (one.sender, one.number) in read
            read.setdefault((one.sender, one.number), one.ns)
        found[f"{reader}_again"] = again
        for stretch in stretches:
            there = {key: one for key, one in events.items() if stretch.begin <= one.due_ns < stretch.end}
            came = [(there[key], ns // 1000 + shift) for key, ns in read.items() if key in there]
            of = _of(came)
            of["unread"] = len(there) - len(came)
            found |= {f"{reader}_{stretch.name}_{name}": value for name, value in of.items()}
    return found


def _of(came: Sequence[tuple[Sent, int]]) -> dict[str, Any]:
    """Of events in the order of reading, each with the reader's time."""
    times = [one.claimed_us for one, _ in came]
    if len(times) < 2:
        return {"events": len(times)}
    late = arrivals.lateness(times)
    delays = [read_us - one.claimed_us for one, read_us in came]
    sample = times[: arrivals.SAMPLE]
    own = [[one.claimed_us for one, _ in came if one.sender == sender] for sender in {one.sender for one, _ in came}]
    found: dict[str, Any] = {
        "events": len(times),
        "late_above": arrivals.missed(late, 0, ABOVE_US),
        "adjacent": arrivals.adjacent(times) / (len(times) - 1),
        "own_adjacent": sum(map(arrivals.adjacent, own)) / (len(times) - 1),
        "pairs": arrivals.inversions(sample) / (len(sample) * (len(sample) - 1) / 2),
        "late_bins": arrivals.binned(late),
        "delay_bins": arrivals.binned(delays),
    }
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)):
        found[f"late_{name}_s"] = arrivals.quantile(late, share) / 1e6
        found[f"delay_{name}_s"] = arrivals.quantile(delays, share) / 1e6
    for wait in WAITS_US:
        found |= {f"missed_{width}_{wait}": arrivals.missed(delays, width, wait) for width in (0, *BUCKETS_US)}
    return found
