"""Many short runs of real processes under every fault, each ended by the checker: events lost, duplicates, phantoms.

    python -m bench chaos --runs 5             ten seeds for each of --runs
    python -m bench.chaos --seeds 0:50         these seeds, with a line each; --jobs 2 side by side
    python -m bench.chaos --seeds 7:8          one of them again

A run is three to five bucks with windows of 5 s, each behind a proxy; one or two tailers that follow files; four to six
faults in eight seconds, drawn from the seed, that overlap and heal again. In the end everything is delivered
(`tailer run --once`, to A2), audited, read back from the bucks, archived, and read back from the archive: by the
product's reader, judged against what was written by a checker that shares no code with it, and by DuckDB from the
Parquet files alone. What is on the bucks' disks is counted from the files.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import befalling
from bench.befalling import Heal
from bench.cluster import Cluster, ClusterError, Process
from bench.measure import spread
from bench.options import Options
from bench.report import Row
from tests.scenarios.checker import Counts, copies, count, judge, parquet_lines
from tests.scenarios.reading import read_back
from tests.scenarios.writing import Writer

WIDTH_S = 5
RUN_S = 8.0
STEP_S, STEP_LINES = 0.25, 100
FILE_S = 3.0  # then another file is begun
FAULTS = (4, 6)
PAUSE_S = (0.3, 3.0)
DISK_SIZE = 96 << 20
PATIENCE_S = 120.0
A2_COPIES = 3
SEEDS_A_RUN = 10
AUDIT_WORDS = {0: "complete", 1: "incomplete", 3: "unknown"}


@dataclass
class Result:
    """One seed: what befell it, and what was found."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    bucks: Counts = field(default_factory=Counts)
    archive: Counts = field(default_factory=Counts)
    rows: int = 0  # that DuckDB counts in the archive and nobody wrote, or the other way round
    short: int = 0  # packets on fewer bucks than A2 says
    audit: str = ""
    why: list[str] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def good(self) -> bool:
        return not self.why

    def line(self) -> str:
        faults = ", ".join(f"{n} x {what}" for what, n in self.faults.items())
        verdict = "valid" if self.good else "INVALID: " + "; ".join(self.why[:5])
        lines = f"{self.bucks.written} lines"
        return f"seed {self.seed}: {lines}, {faults}; audit {self.audit}, {verdict} ({self.took_s:.0f} s)"


class Run:
    """A cluster, its tailers and what is written for them."""

    def __init__(self, cluster: Cluster, seed: int, *, mounted: bool, seconds: float = RUN_S) -> None:
        self.cluster, self.seconds = cluster, seconds
        self.random = random.Random(f"chaos {seed}")
        self.result = Result(seed)
        self.seed = seed
        self.archive = cluster.root / "archive"
        self.names = [f"tailer{n}" for n in range(self.random.choice((1, 1, 2)))]
        self.writers: dict[str, list[Writer]] = {name: [] for name in self.names}
        for name in self.names:
            self._folder(name).mkdir(parents=True)
        self.tailers = {name: self._follow(name) for name in self.names}
        self.heals: list[tuple[float, Heal]] = []
        self.faults: dict[str, Callable[[], Heal]] = {
            "kill a buck": lambda: befalling.kill(cluster, self._any()),
            "kill all bucks": lambda: befalling.kill_all(cluster),
            "stop a buck": lambda: befalling.stop(befalling.buck(cluster, self._any())),
            "cut off a buck": lambda: befalling.cut(cluster, self._any()),
            "cut the way to a buck": lambda: befalling.cut(cluster, self._any(), back=False),
            "cut the way from a buck": lambda: befalling.cut(cluster, self._any(), to=False),
            "reset a buck's links": lambda: befalling.reset(cluster, self._any()),
            "kill a tailer": self._kill_tailer,
            "kill a tailer, its journal gone": partial(self._kill_tailer, forget=True),
            "stop a tailer": lambda: befalling.stop(self.tailers[self.random.choice(self.names)]),
            "kill an archive run": self._kill_archive,
        }
        if mounted:
            self.faults["fill a disk"] = lambda: befalling.fill(cluster.disk_folders(self._any())[0])

    # --- while it lasts -----------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Write, and let faults come and go."""
        begin = time.monotonic()
        due = sorted(self.random.uniform(0.5, self.seconds) for _ in range(self.random.randint(*FAULTS)))
        file_until = 0.0
        while (now := time.monotonic() - begin) < self.seconds:
            if now >= file_until:
                self._new_files()
                file_until = now + FILE_S
            for writers in self.writers.values():
                writers[-1].write(STEP_LINES)
            while due and due[0] <= now:
                due.pop(0)
                self._fault(now)
            self._heal(now)
            time.sleep(STEP_S)
        self._heal(float("inf"))

    def _fault(self, now: float) -> None:
        what = self.random.choice(sorted(self.faults))
        self.result.faults[what] += 1
        self.heals.append((now + self.random.uniform(*PAUSE_S), self.faults[what]()))

    def _heal(self, now: float) -> None:
        for one in [one for one in self.heals if one[0] <= now]:
            self.heals.remove(one)
            one[1]()

    def _new_files(self) -> None:
        for n, (name, writers) in enumerate(self.writers.items()):
            number = 100 * n + len(writers)
            writers.append(Writer(number, self._folder(name) / f"{number}.log", self.seed))

    def _any(self) -> int:
        return self.random.randrange(len(self.cluster.bucks))

    def _folder(self, name: str) -> Path:
        return self.cluster.root / "logs" / name

    def _follow(self, name: str) -> Process:
        return self.cluster.tailer("--from", "head", str(self._folder(name) / "*.log"), name=name)

    def _kill_tailer(self, forget: bool = False) -> Heal:
        name = self.random.choice(self.names)
        self.tailers[name].kill()
        if forget:
            shutil.rmtree(self.cluster.root / name, ignore_errors=True)  # it may never have made one
        return partial(self._follow_again, name)

    def _follow_again(self, name: str) -> None:
        if not self.tailers[name].running():
            self.tailers[name] = self._follow(name)

    def _kill_archive(self) -> Heal:
        command = self.cluster.porter_command("archive", "--older", "0s", "--archive", str(self.archive))
        porter = Process("porter", command[2:], self.cluster.logs / "porter.log")
        self.cluster.processes.append(porter)
        return porter.kill

    # --- the end ------------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """Everything is handed over; what came of it."""
        for name in self.names:
            self._drain(name)
        audit = self.cluster.porter("audit", check=False)
        self.result.audit = AUDIT_WORDS.get(audit.returncode, str(audit.returncode))
        text = audit.stdout.decode()
        if audit.returncode not in (0, 3) or "missing" in text or "conflict" in text:
            self.result.why.append(f"audit: exit {audit.returncode}: {text}{audit.stderr.decode()}")
        self.result.bucks = self._compare("bucks", self.cluster.addresses(), "")
        self._count_copies()
        self.cluster.porter("archive", "--older", "0s", "--archive", str(self.archive))
        self.result.archive = self._compare("archive", [], str(self.archive))
        self._count_rows()

    def _drain(self, name: str) -> None:
        """A clean stop, then the rest to A2."""
        try:
            code = self.tailers[name].stop(PATIENCE_S)
            if code not in (0, -signal.SIGTERM):  # the latter: it was only just being started again
                self.result.why.append(f"{name} ended with {code}: {self.tailers[name].log_end(5)}")
            last = self.cluster.tailer("--once", str(self._folder(name) / "*.log"), name=name)
            if (code := last.wait(PATIENCE_S)) != 0:
                self.result.why.append(f"{name} --once ended with {code}: {last.log_end(5)}")
        except ClusterError as error:
            self.result.why.append(str(error))

    def _written(self) -> dict[str, list[bytes]]:
        return {str(writer.path): writer.lines for writers in self.writers.values() for writer in writers}

    def _compare(self, where: str, peers: list[str], archive: str) -> Counts:
        written = self._written()
        read = read_back(written, root=self.cluster.root, peers=peers, archive=archive, env=self.cluster.env_name)
        back = {path: one.data for path, one in read.items()}
        self.result.why += [f"{where}: {text}" for text in judge(written, back, drained=True).why]
        self.result.why += [f"{where}: {text}" for one in read.values() for text in one.complaints]
        return count(written, back)

    def _count_copies(self) -> None:
        nodes = [
            [path for disk in self.cluster.disk_folders(i) for path in disk.rglob("*.*") if path.is_file()]
            for i in range(len(self.cluster.bucks))
        ]
        self.result.short = sum(n < A2_COPIES for n in copies(nodes).values())
        if self.result.short:
            self.result.why.append(f"{self.result.short} packets on fewer than {A2_COPIES} bucks")

    def _count_rows(self) -> None:
        there, written = parquet_lines(self.archive), self._written()
        for path in there.keys() | written.keys():
            wrong = abs(there.get(path, 0) - len(written.get(path, ())))
            self.result.rows += wrong
            if wrong:
                self.result.why.append(f"DuckDB: {there.get(path, 0)} lines of {path}")


def play(seed: int, parent: Path, *, seconds: float = RUN_S) -> Result:
    """One seed in a folder of its own, which is kept only if something was wrong."""
    begin = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-", dir=parent))
    bucks = 3 + seed % 3
    mounted = seed % 2 == 1 and befalling.can_mount()
    with contextlib.ExitStack() as stack:
        for i in range(bucks if mounted else 0):
            stack.enter_context(befalling.small_disk(root / f"buck{i}" / "disk0", DISK_SIZE))
        # An env of its own: a run at its side, or the next one, may be given ports that this one had.
        env = f"chaos{seed}"
        cluster = stack.enter_context(Cluster(root, bucks, env_name=env, width=f"{WIDTH_S}s", proxied=range(bucks)))
        run = Run(cluster, seed, mounted=mounted, seconds=seconds)
        try:
            run.play()
            run.judge()
        except ClusterError as error:
            run.result.why.append(str(error))
    run.result.took_s = time.monotonic() - begin
    if run.result.good:
        shutil.rmtree(root)
    else:
        run.result.why.append(f"what is left of it: {root}")
    return run.result


def play_all(seeds: Iterable[int], parent: Path, jobs: int = 1) -> list[Result]:
    """All seeds, each with a line when it is through."""
    parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        results = []
        for result in pool.map(partial(play, parent=parent), seeds):
            print(result.line(), flush=True)
            results.append(result)
    return results


def summary(results: list[Result]) -> str:
    """One line for all."""
    faults, audits = Counter[str](), Counter(result.audit for result in results)
    for result in results:
        faults += result.faults
    lost, twice, phantoms = totals(results)
    lines, good = sum(result.bucks.written for result in results), sum(result.good for result in results)
    drawn = ", ".join(f"{n} x {what}" for what, n in faults.most_common())
    said = ", ".join(f"{n} {word}" for word, n in audits.most_common())
    return (
        f"chaos: {len(results)} runs, {lines} lines, {faults.total()} faults ({drawn}); "
        f"acked events lost {lost}, duplicates {twice}, phantoms {phantoms}; "
        f"valid {good} of {len(results)}, audits: {said}"
    )


def totals(results: list[Result]) -> tuple[int, int, int]:
    """Lost, duplicates and phantoms, as seen from the bucks and from the archive, which DuckDB counted too."""
    both = [counts for result in results for counts in (result.bucks, result.archive)]
    rows = sum(result.rows for result in results)
    return sum(c.lost for c in both), sum(c.duplicates for c in both) + rows, sum(c.phantoms for c in both)


def run(options: Options) -> list[Row]:
    results = play_all(range(SEEDS_A_RUN * options.runs), options.folder / "chaos")
    text = summary(results)
    print(text)
    figures = dict(zip(("acked events lost", "duplicates", "phantoms"), totals(results), strict=True))
    note = f"{len(results)} runs, {sum(result.faults.total() for result in results)} faults"
    rows = [Row("chaos", what, spread([float(n)]), "", most=0, note=note) for what, n in figures.items()]
    wrong = sum(not result.good for result in results)
    return [*rows, Row("chaos", "runs that are not valid", spread([float(wrong)]), "", most=0)]


def main() -> int:
    """Some seeds, with a line each."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--seeds", default="0:50", metavar="FROM:TO")
    parser.add_argument("--jobs", type=int, default=1, help="side by side (1)")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "build/chaos", help="for its files")
    asked = parser.parse_args()
    first, _, end = asked.seeds.partition(":")
    results = play_all(range(int(first), int(end or int(first) + 1)), asked.folder, asked.jobs)
    print(summary(results))
    return int(not all(result.good for result in results))


if __name__ == "__main__":
    sys.exit(main())
