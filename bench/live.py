"""How long until a line that was written to a followed file is shown to somebody who watches live.

A thousand lines a second go to a file that a real tailer follows; three bucks; two hundred viewers in a process of
their own, each linked to every buck, the lines of 61 clients dealt over them. One sees all lines and measures. Beside
it: what the bucks cost with these viewers and with none.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import quantiles
from typing import BinaryIO

from bench.cluster import Cluster
from bench.filling import fresh
from bench.measure import ROOT, FailedError, spread
from bench.options import Options
from bench.report import Row

RATE, VIEWERS, CLIENTS = 1000, 200, 61
WARM_S, RUN_S, END_S = 3.0, 15.0, 3.0
PATIENCE_S = 60.0


@dataclass
class Found:
    """One run: ages of lines in seconds, what was missed, links held, and CPU seconds a second of all bucks."""

    ages: list[float]
    missed: int
    links: int
    quiet_cpu: float
    watched_cpu: float


def write_for(file: BinaryIO, seconds: float) -> None:
    """A line each millisecond."""
    begin, written = time.monotonic(), 0
    while (now := time.monotonic()) < begin + seconds:
        for number in range(written, due := int((now - begin) * RATE)):
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
            client = f"client {number % CLIENTS}"
            file.write(f"{stamp}Z INFO request {number} of {client} at={time.monotonic_ns()}\n".encode())
        written = due
        time.sleep(0.001)


def _cpu(cluster: Cluster) -> float:
    return sum(buck.usage().cpu_s for buck in cluster.live())


def once(options: Options, run_s: float, viewers: int) -> Found:
    """One cluster, first with nobody watching, then with everybody."""
    with fresh(options.folder / "cluster", 3) as cluster:
        log = cluster.root / "app.log"
        log.touch()
        cluster.tailer("--from", "head", str(log))
        with log.open("ab", buffering=0) as file:
            write_for(file, WARM_S)
            before = _cpu(cluster)
            write_for(file, run_s)
            quiet = (_cpu(cluster) - before) / run_s
            return _watched(cluster, file, run_s, viewers, quiet)


def _watched(cluster: Cluster, file: BinaryIO, run_s: float, viewers: int, quiet: float) -> Found:
    command = [sys.executable, "-m", "bench.viewers", str(viewers), *cluster.addresses()]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as crowd:
        assert crowd.stdout
        if crowd.stdout.readline() != b"ready\n":
            raise FailedError("the viewers could not all be linked")
        write_for(file, WARM_S)
        before = _cpu(cluster)
        write_for(file, run_s)
        watched = (_cpu(cluster) - before) / run_s
        time.sleep(END_S)
        output, _ = crowd.communicate(timeout=PATIENCE_S)
    found = json.loads(output)
    ages = found["ages"][int(WARM_S * RATE) :]
    return Found(ages, found["missed"], found["links"], quiet, watched)


def run(options: Options, run_s: float = RUN_S, viewers: int = VIEWERS) -> list[Row]:
    runs = [once(options, run_s, viewers) for _ in range(options.runs)]
    assert all(one.links == 3 * viewers for one in runs), [one.links for one in runs]
    cuts = [quantiles(one.ages, n=100) for one in runs]
    note = f"{RATE} lines/s, {viewers} viewers on 3 bucks, {run_s:.0f} s a run"
    return [
        Row("live", "line to viewer, p50", spread([cut[49] for cut in cuts]), "s", note=note),
        Row("live", "line to viewer, p99", spread([cut[98] for cut in cuts]), "s", most=1.0, note=note),
        Row("live", "events missed", spread([float(one.missed) for one in runs]), "", note=note),
        Row("live", "CPU of all bucks, watched", spread([one.watched_cpu for one in runs]), "cores", note=note),
        Row("live", "CPU of all bucks, nobody", spread([one.quiet_cpu for one in runs]), "cores", note=note),
    ]
