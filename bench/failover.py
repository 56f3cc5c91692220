"""The worst put to A1 of any packet under load when a buck is killed, stopped, cut off, comes back, or all are killed.

Four bucks, and two senders that are the tailer's own sending half (bench/placing.py), 64 KiB packets. How much they can
place at full speed is measured first; then they send 60 % of that, one run a fault, a fresh cluster for each run. The
one that is hit stands behind a proxy in all runs. After a fault whose victim keeps silent the product asks another buck
after SILENT_S; that is the time-out that the limits speak of. "Worst" is over all packets whose way overlapped with
anything after the fault; "without any ack" is the longest time in which no packet at all got its second ack.

bench/returning.py measures the rest: what a returning buck costs the others, and one that is dead for ever.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rich.console import Console

from bench import befalling, returning
from bench.cluster import Cluster
from bench.filling import fresh
from bench.measure import ROOT, FailedError, spread
from bench.options import Options
from bench.report import Row, show
from tailer.asked import SILENT_S

BUCKS, SENDERS, VICTIM = 4, 2, 1
PACKET_SIZE = 64 << 10
SHARE = 0.6
FULL_S, WARM_S, AFTER_S = 5.0, 2.0, 3.0
END_S = 60.0
OTHERS = "NATS JetStream R3: 8.1 s without any ack after a kill -9, Kafka 8.4-11.9 s"


@dataclass
class Found:
    """One run. Seconds."""

    before: float  # the worst packet before the fault
    worst: float
    silent: float  # the longest time without any ack


@dataclass
class AllKilled:
    """Seconds without a second buck; and from the moment at which it listens until the first packet is stored, and
    until the last is that had been begun before. `waiting`: bytes of packets that waited then."""

    down: float
    first: float
    last: float
    waiting: int


class Load:
    """Senders at a rate each, from `with` on."""

    def __init__(self, cluster: Cluster, rate: float, senders: int = SENDERS) -> None:
        self.cluster = cluster
        self._processes = [self._sender(n, rate) for n in range(senders)]

    def _sender(self, n: int, rate: float) -> subprocess.Popen[bytes]:
        log = (self.cluster.logs / f"sender{n}.log").open("ab")
        words = [sys.executable, "-m", "bench.placing", "--journal", str(self.cluster.root / f"sender{n}")]
        words += ["--name", f"sender{n}", "--rate", str(rate), "--size", str(PACKET_SIZE)]
        words += ["--members", str(len(self.cluster.bucks))]
        for address in self.cluster.addresses():
            words += ["--to", address]
        with log:
            return subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)

    def __enter__(self) -> Load:
        for process in self._processes:
            assert process.stdout
            if process.stdout.readline() != b"ready\n":
                raise FailedError(f"a sender did not start: {self.cluster.logs}")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def end(self) -> list[tuple[float, float]]:
        """When each packet was begun and stored, in the order of the latter. FailedError if one never was."""
        for process in self._processes:
            assert process.stdin
            process.stdin.close()
            process.stdin = None
        with ThreadPoolExecutor() as pool:
            outputs = list(pool.map(lambda process: process.communicate(timeout=END_S)[0], self._processes))
        for n, process in enumerate(self._processes):
            if process.returncode:
                said = (self.cluster.logs / f"sender{n}.log").read_text()[-2000:]
                raise FailedError(f"sender {n} ended with {process.returncode}: {said}")
        found = [(begun, stored) for output in outputs for begun, stored in json.loads(output)]
        if late := sum(stored is None for _, stored in found):
            raise FailedError(f"{late} packets of {len(found)} were never stored twice")
        return sorted(found, key=lambda one: one[1])


def full_load(folder: Path) -> float:
    """Bytes of packets a second that all senders together bring to A1 when nothing holds them back."""
    with fresh(folder, BUCKS, proxied=(VICTIM,)) as cluster, Load(cluster, 0.0) as load:
        time.sleep(WARM_S / 2)
        begin = time.monotonic()
        time.sleep(FULL_S)
        end = time.monotonic()
        placed = [stored for _, stored in load.end() if begin <= stored < end]
    return len(placed) * PACKET_SIZE / FULL_S


# --- faults: each does what is to be done while the load goes on, and returns since when it counts ------------------


def killed(cluster: Cluster) -> float:
    begin = time.monotonic()
    befalling.kill(cluster, VICTIM)
    time.sleep(AFTER_S)
    return begin


def stopped(cluster: Cluster) -> float:
    begin = time.monotonic()
    heal = befalling.stop(befalling.buck(cluster, VICTIM))
    time.sleep(AFTER_S)
    heal()
    time.sleep(AFTER_S / 2)
    return begin


def cut_off(cluster: Cluster) -> float:
    begin = time.monotonic()
    heal = befalling.cut(cluster, VICTIM)
    time.sleep(AFTER_S)
    heal()
    time.sleep(AFTER_S / 2)
    return begin


def returned(cluster: Cluster) -> float:
    heal = befalling.kill(cluster, VICTIM)
    time.sleep(AFTER_S)
    begin = time.monotonic()
    heal()
    time.sleep(AFTER_S)
    return begin


def once(folder: Path, rate: float, fault: Callable[[Cluster], float]) -> Found:
    """A run with a fault in it."""
    with fresh(folder, BUCKS, proxied=(VICTIM,)) as cluster, Load(cluster, rate / SENDERS) as load:
        time.sleep(WARM_S)
        begin = fault(cluster)
        end = time.monotonic()
        found = load.end()
    before = [stored - begun for begun, stored in found if begin - WARM_S / 2 < stored < begin]
    after = [stored - begun for begun, stored in found if stored >= begin and begun < end]
    return Found(max(before), max(after), _longest_silence(found, begin, end))


def _longest_silence(found: list[tuple[float, float]], begin: float, end: float) -> float:
    acks = [stored for _, stored in found if begin <= stored <= end]
    return max(later - earlier for earlier, later in pairwise([begin, *acks, end]))


def all_killed(folder: Path, rate: float) -> AllKilled:
    """All bucks are killed and started again at once."""
    with fresh(folder, BUCKS, proxied=(VICTIM,)) as cluster, Load(cluster, rate / SENDERS) as load:
        time.sleep(WARM_S)
        for i in range(BUCKS):
            befalling.kill(cluster, i)
        dead = time.monotonic()

        def back(i: int) -> float:
            cluster.start(i)
            return time.monotonic()

        with ThreadPoolExecutor(BUCKS) as pool:
            second = sorted(pool.map(back, range(BUCKS)))[1]
        time.sleep(AFTER_S)
        found = load.end()
    first = min(stored for _, stored in found if stored > dead)
    waited = [stored for begun, stored in found if begun < second <= stored]
    return AllKilled(
        second - dead, max(0.0, first - second), max(waited, default=second) - second, len(waited) * PACKET_SIZE
    )


FAULTS: dict[str, tuple[Callable[[Cluster], float], float | None]] = {
    "kill -9": (killed, 0.3),
    "SIGSTOP": (stopped, SILENT_S + 0.3),
    "black hole": (cut_off, SILENT_S + 0.3),
    "return": (returned, None),
}


def run(options: Options) -> list[Row]:
    folder = options.folder / "cluster"
    full = full_load(folder)
    note = f"{SHARE * full / 1e6:.0f} MB/s of packets, {SHARE:.0%} of full load; {BUCKS} bucks, {SENDERS} senders"
    rows = [Row("failover", "full load", spread([full / 1e6]), "MB/s")]
    for name in FAULTS:
        rows += of_fault(folder, name, SHARE * full, options.runs, note)
    return [*rows, *of_all(folder, SHARE * full, options.runs, note, full), *returning.run(options)]


def of_fault(folder: Path, name: str, rate: float, runs: int, note: str) -> list[Row]:
    fault, most = FAULTS[name]
    return _rows(name, [once(folder, rate, fault) for _ in range(runs)], most, note)


def of_all(folder: Path, rate: float, runs: int, note: str, full: float = 0.0) -> list[Row]:
    """`full`: bytes a second, if it was measured; then what waited is told as seconds of it too: the floor."""
    times = [all_killed(folder, rate) for _ in range(runs)]
    what = "all killed: what waited, at full load and nothing else"
    floor = [Row("failover", what, spread([one.waiting / full for one in times]), "s")] if full else []
    return [
        Row("failover", "all killed: without a second buck", spread([one.down for one in times]), "s"),
        Row("failover", "all killed: second buck back to the first ack", spread([one.first for one in times]), "s"),
        *floor,
        _worst("all killed: second buck back to the last that waited", [one.last for one in times], 1.0, note),
    ]


def _rows(name: str, runs: list[Found], most: float | None, note: str) -> list[Row]:
    return [
        _worst(f"{name}: worst put to A1", [one.worst for one in runs], most, note),
        Row("failover", f"{name}: without any ack", spread([one.silent for one in runs]), "s", note=OTHERS),
        Row("failover", f"{name}: worst before it", spread([one.before for one in runs]), "s"),
    ]


def _worst(what: str, seconds: list[float], most: float | None, note: str) -> Row:
    """A limit for any packet is one for every run, whatever the median is."""
    if most is not None:
        note = f"{sum(one <= most for one in seconds)} of {len(seconds)} runs; {note}"
    return Row("failover", what, spread(seconds), "s", most=most, note=note, every=True)


def main() -> int:
    """One kind of fault at a rate of one's own choice, to look closer."""
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=main.__doc__)
    parser.add_argument("fault", choices=[*FAULTS, "all killed"])
    parser.add_argument("--rate", type=float, default=1e6, help="bytes a second of all senders together (1e6)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=ROOT / "build/failover", help="for its files")
    asked = parser.parse_args()
    folder, note = asked.folder / "cluster", f"{asked.rate / 1e6:g} MB/s of packets"
    if asked.fault == "all killed":
        show(of_all(folder, asked.rate, asked.runs, note), Console(width=200))
    else:
        show(of_fault(folder, asked.fault, asked.rate, asked.runs, note), Console(width=200))
    return 0


if __name__ == "__main__":
    sys.exit(main())
