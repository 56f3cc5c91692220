"""What a buck that comes back costs the others, and how soon the copies of one that is dead for ever are made up for.

*Back*: four bucks with windows of 5 s and a tailer; one buck is killed while lines are written. When writing has ended
and everything is sealed and mended, the three that lived are watched for a while: once with the fourth started again at
the beginning of it, once without. The difference of their CPU, and of the bytes through the proxies before them, is
what it costs. *For ever*: when some is at A2 and more is written, one is killed and nobody starts it again. The time
until no packet of the tailer's journal is below A2, `porter status` before and after `porter repair`, and beside it
what the checker counts on the disks that live.
"""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import befalling
from bench.cluster import Cluster, Process
from bench.filling import fresh
from bench.measure import FailedError, spread
from bench.options import Options
from bench.report import Row
from porter.audit import SEAL_LAG_S
from service.run import SHORTFALL
from tests.scenarios.checker import copies
from tests.scenarios.writing import Writer

BUCKS, VICTIM, A2_COPIES = 4, 1, 3
WIDTH_S = 5
STEP_S, STEP_LINES = 0.1, 100
BEFORE_S, AFTER_S = 8.0, 3.0
SETTLE_S = 2 * WIDTH_S + 10.0
WATCH_S = 15.0
PATIENCE_S = 120.0
AGAIN_S = 60.0  # what is promised, besides the width of a bucket


@dataclass
class Cost:
    """What the three that lived used in WATCH_S, and what the one that came back fetched."""

    cpu_s: float
    carried: float
    pulled: float


@dataclass
class Loss:
    """A buck dead for ever: seconds to A2 for everything, and packets on too few bucks: as `porter status` says and as
    the disks say before the repair, then after it; and how long the repair took."""

    again_s: float
    below: int
    short: int
    below_then: int
    short_then: int
    repair_s: float


class Writing:
    """A tailer that says of itself how far it is, and the file that it follows."""

    def __init__(self, cluster: Cluster) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._http = f"127.0.0.1:{free.getsockname()[1]}"
        self._writer = Writer(0, cluster.root / "app.log")
        self._writer.path.touch()
        self.tailer: Process = cluster.tailer("--from", "head", "--http", self._http, str(self._writer.path))
        deadline = time.monotonic() + PATIENCE_S
        while not self._is_up():
            if time.monotonic() > deadline or not self.tailer.running():
                raise FailedError(f"the tailer did not start:\n{self.tailer.log_end()}")
            time.sleep(STEP_S)

    def _is_up(self) -> bool:
        try:
            return bool(page(self._http, "/status"))
        except OSError:
            return False

    def go_on(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._writer.write(STEP_LINES)
            time.sleep(STEP_S)

    def until_sealed(self, most_s: float) -> float:
        """Seconds until everything in the journal is at A2."""
        begin = time.monotonic()
        while (now := time.monotonic()) < begin + most_s:
            levels = page(self._http, "/status")["packets"]
            if not levels["A0"] and not levels["A1"]:
                return now - begin
            time.sleep(STEP_S)
        raise FailedError(f"not at A2 after {most_s:.0f} s: {levels}\n{self.tailer.log_end()}")


def page(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=PATIENCE_S) as answer:
        return json.load(answer)


def _metric(address: str, name: str) -> float:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE_S) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"buck_{name}_total"))


def cost(folder: Path, *, back: bool) -> Cost:
    """One run, with the return or without."""
    with fresh(folder, BUCKS, width=f"{WIDTH_S}s", proxied=range(BUCKS)) as cluster:
        writing = Writing(cluster)
        writing.go_on(BEFORE_S)
        heal = befalling.kill(cluster, VICTIM)
        writing.go_on(AFTER_S)
        writing.until_sealed(PATIENCE_S)
        time.sleep(SETTLE_S)
        others = [i for i in range(BUCKS) if i != VICTIM]
        begin = _used(cluster, others)
        if back:
            heal()
        time.sleep(WATCH_S)
        end = _used(cluster, others)
        pulled = _metric(cluster.fixed[VICTIM][1], "bytes_pulled") if back else 0.0
    return Cost(end[0] - begin[0], end[1] - begin[1], pulled)


def _used(cluster: Cluster, who: list[int]) -> tuple[float, float]:
    cpu_s = sum(befalling.buck(cluster, i).usage().cpu_s for i in who)
    return cpu_s, sum(sum(cluster.proxies[i].carried) for i in who)


def loss(folder: Path) -> Loss:
    """One run in which a buck dies and does not come back. Runs go side by side: each has an env of its own, since the
    dead one's port may become another's."""
    with fresh(folder, BUCKS, width=f"{WIDTH_S}s", env_name=folder.name) as cluster:
        writing = Writing(cluster)
        writing.go_on(BEFORE_S)
        writing.until_sealed(PATIENCE_S)
        writing.go_on(AFTER_S)
        befalling.kill(cluster, VICTIM)
        begin = time.monotonic()
        writing.go_on(AFTER_S)
        writing.until_sealed(PATIENCE_S)
        again_s = time.monotonic() - begin
        time.sleep(SEAL_LAG_S + WIDTH_S)  # repair leaves younger windows to their tailers
        below, short = _below(cluster), _short(cluster)
        begin = time.monotonic()
        done = cluster.porter("repair", check=False)
        repair_s = time.monotonic() - begin
        if done.returncode != SHORTFALL:  # the dead one was not asked
            raise FailedError(f"porter repair ended with {done.returncode}:\n{done.stdout.decode()}")
        return Loss(again_s, below, short, _below(cluster), _short(cluster), repair_s)


def _below(cluster: Cluster) -> int:
    said: dict[str, int] = json.loads(cluster.porter("status", "--json", check=False).stdout)["below"]
    return sum(said.values())


def _short(cluster: Cluster) -> int:
    """Packets that lie on fewer living bucks than A2 says, counted in their files. What only the dead one had is no
    packet here: then the journal would not be at A2."""
    living = [i for i in range(BUCKS) if i != VICTIM]
    return sum(count < A2_COPIES for count in copies(_files(cluster, i) for i in living).values())


def _files(cluster: Cluster, i: int) -> Iterator[Path]:
    for disk in cluster.disk_folders(i):
        yield from (path for path in disk.rglob("*.*") if path.is_file())


def run(options: Options) -> list[Row]:
    folder = options.folder / "cluster"
    with_it = [cost(folder, back=True) for _ in range(options.runs)]
    without = [cost(folder, back=False) for _ in range(options.runs)]
    note = f"of three bucks together, in the {WATCH_S:.0f} s after its start; without a return beside it"
    rows = [
        Row("failover", "a return: CPU of the others", spread([one.cpu_s for one in with_it]), "CPU-s", note=note),
        Row("failover", "no return: CPU of the same", spread([one.cpu_s for one in without]), "CPU-s"),
        Row("failover", "a return: bytes of the others", spread([one.carried / 1e3 for one in with_it]), "kB"),
        Row("failover", "no return: bytes of the same", spread([one.carried / 1e3 for one in without]), "kB"),
        Row("failover", "a return: packets fetched", spread([one.pulled / 1e3 for one in with_it]), "kB"),
    ]
    with ThreadPoolExecutor(options.runs) as pool:  # they wait most of the time
        losses = list(pool.map(loss, [options.folder / f"loss{n}" for n in range(options.runs)]))
    return [*rows, *_rows(losses)]


def _rows(runs: list[Loss]) -> list[Row]:
    most = WIDTH_S + AGAIN_S
    differ = sum(abs(one.below - one.short) for one in runs)
    return [
        Row("failover", "dead for ever: all back at A2", spread([one.again_s for one in runs]), "s", most=most,
            note=f"windows of {WIDTH_S} s, a bucket and 60 s", every=True),
        Row("failover", "dead for ever: A2 packets below theirs, by `porter status`",
            spread([float(one.below) for one in runs]), "packets", least=1, every=True,
            note="as many as on the disks" if not differ else f"the disks differ by {differ}"),
        Row("failover", "the same after `porter repair`, and on the disks",
            spread([float(max(one.below_then, one.short_then)) for one in runs]), "packets", most=0,
            every=True),
        Row("failover", "the repair took", spread([one.repair_s for one in runs]), "s"),
    ]  # fmt: skip
