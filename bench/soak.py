"""Hours of a fleet in minutes: short windows, a steady load, a fault every 20 s, and the checker's word at the end.

    make soak MINUTES=30            three bucks with windows of 5 s, a tailer that follows, an archive every minute
    make soak MINUTES=3 SEED=7      shorter, with other faults; RATE=500 lines a second

Faults are drawn from the seed: SIGKILL of a buck, of the tailer, of an archive run; SIGSTOP of a buck for seconds.
The first buck is only ever stopped, so that its memory can be followed: a line is fitted through what it used after
the first 20 windows. It ends with 0 if the independent checker says *valid*, from the bucks and from the archive, the
audit has nothing missing, and memory doesn't grow by more than a tenth.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.cluster import Buck, Cluster, Process
from tests.scenarios.checker import Judgement, judge
from tests.scenarios.reading import read_back
from tests.scenarios.writing import Writer

WIDTH_S = 5
WARM_WINDOWS = 20
FAULT_EVERY_S = 20.0
ARCHIVE_EVERY_S = 60.0
FILE_S = 10.0  # then another file is begun
STEP_S = 0.2
PATIENCE_S = 120.0
GROWTH_MAX = 0.1
FAULTS = ("kill a buck", "stop a buck", "kill the tailer", "kill an archive run")


class Soak:
    """A cluster under load; what was written, what befell it, and what it used."""

    def __init__(self, cluster: Cluster, seed: int, rate: float) -> None:
        self.cluster, self.rate = cluster, rate
        self.random = random.Random(seed)
        self.seed = seed
        self.logs = cluster.root / "logs"
        self.logs.mkdir()
        self.archive = cluster.root / "archive"
        self.writers: list[Writer] = []
        self.faults: Counter[str] = Counter()
        self.rss: list[tuple[float, int]] = []
        self.later: list[tuple[float, int]] = []  # when a killed buck starts again, or a stopped one goes on
        self.stopped: set[int] = set()
        self.tailer = self._follow()
        self.porter: Process | None = None

    def run(self, seconds: float) -> None:
        """Write, break, mend, until the time is over; then heal everything."""
        begin = time.monotonic()
        fault_at = file_until = archive_at = 0.0
        while (now := time.monotonic() - begin) < seconds:
            if now >= file_until:
                self.writers.append(Writer(len(self.writers), self.logs / f"{len(self.writers)}.log", self.seed))
                file_until = now + FILE_S
            count = max(1, round(self.rate * STEP_S))
            for _ in self.writers[-1].pieces(count, count):
                pass
            if now >= archive_at:
                self._archive()
                archive_at = now + ARCHIVE_EVERY_S
            if now >= fault_at:
                self._fault(now)
                fault_at = now + FAULT_EVERY_S
            self._heal(now)
            if now >= WARM_WINDOWS * WIDTH_S or now > seconds / 2:
                self.rss.append((now, self._buck(0).usage().rss))
            time.sleep(STEP_S)
        self._heal(float("inf"))

    def _fault(self, now: float) -> None:
        what = self.random.choice(FAULTS)
        pause_s = self.random.uniform(1.0, 5.0)
        self.faults[what] += 1
        if what == "kill a buck":
            i = self.random.choice((1, 2))
            self._buck(i).kill()
            self.later.append((now + pause_s, i))
        elif what == "stop a buck":
            i = self.random.randrange(3)
            if self._buck(i).running():
                os.kill(self._buck(i).pid, signal.SIGSTOP)
                self.stopped.add(i)
            self.later.append((now + pause_s, i))
        elif what == "kill the tailer":
            self.tailer.kill()
            self.tailer = self._follow()
        else:
            self._archive()
            time.sleep(pause_s / 5)
            assert self.porter is not None
            self.porter.kill()

    def _heal(self, now: float) -> None:
        for due, i in [one for one in self.later if one[0] <= now]:
            self.later.remove((due, i))
            if i in self.stopped:
                self.stopped.discard(i)
                os.kill(self._buck(i).pid, signal.SIGCONT)
            elif not self._buck(i).running():
                self.cluster.start(i)

    def judged(self) -> tuple[Judgement, Judgement, int]:
        """Everything is handed over; the checker's word on bucks and archive; and the audit's exit code."""
        assert self.tailer.stop(PATIENCE_S) == 0, self.tailer.log_end()
        last = self.cluster.tailer("--once", str(self.logs / "*.log"))
        drained = last.wait(PATIENCE_S) == 0
        audit = self.cluster.porter("audit", check=False)
        print(audit.stdout.decode().rstrip())
        bucks = self._judge(drained, self.cluster.addresses(), "")
        if self.porter is not None and self.porter.running():
            self.porter.wait(PATIENCE_S)
        self.cluster.porter("archive", "--older", "0s", "--archive", str(self.archive))
        return bucks, self._judge(drained, [], str(self.archive)), audit.returncode

    def _judge(self, drained: bool, peers: list[str], archive: str) -> Judgement:
        paths = [writer.path for writer in self.writers]
        back = read_back(paths, root=self.cluster.root, peers=peers, archive=archive)
        written = {str(writer.path): writer.lines for writer in self.writers}
        return judge(written, {path: one.data for path, one in back.items()}, drained=drained)

    def growth(self) -> tuple[float, float]:
        """The fitted growth of the first buck's memory: bytes a minute, and the share of all of it in the run."""
        at, used = [at for at, _ in self.rss], [used for _, used in self.rss]
        slope = statistics.linear_regression(at, used).slope
        return slope * 60, slope * (at[-1] - at[0]) / statistics.mean(used)

    def _follow(self) -> Process:
        return self.cluster.tailer("--from", "head", str(self.logs / "*.log"))

    def _archive(self) -> None:
        if self.porter is not None and self.porter.running():
            return
        command = self.cluster.porter_command("archive", "--older", "0s", "--archive", str(self.archive))
        self.porter = Process("porter", command[2:], self.cluster.logs / "porter.log")
        self.cluster.processes.append(self.porter)

    def _buck(self, i: int) -> Buck:
        buck = self.cluster.bucks[i]
        assert buck is not None
        return buck


def main() -> int:
    """Parse what make passes on, and run."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=500.0, help="lines a second")
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="buck-soak-"))
    with Cluster(root, 3, width=f"{WIDTH_S}s") as cluster:
        soak = Soak(cluster, asked.seed, asked.rate)
        soak.run(asked.minutes * 60)
        bucks, archive, audit = soak.judged()
        slope, share = soak.growth()
    for text in [*bucks.why[:10], *archive.why[:10]]:
        print(text)
    lines = sum(len(writer.lines) for writer in soak.writers)
    faults = ", ".join(f"{count} x {what}" for what, count in soak.faults.items())
    windows = round(asked.minutes * 60 / WIDTH_S)
    print(
        f"soak: seed {asked.seed}, {asked.minutes:g} min, {windows} windows, {lines} lines, faults: {faults}; "
        f"bucks {bucks.verdict}, archive {archive.verdict}, audit exit {audit}; "
        f"memory {slope / 1e6:+.2f} MB a minute ({share:+.1%} in all)"
    )
    good = (bucks.verdict, archive.verdict) == ("valid", "valid") and audit in (0, 3) and share <= GROWTH_MAX
    if good:
        shutil.rmtree(root)
    else:
        print(f"what is left of it: {root}")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
