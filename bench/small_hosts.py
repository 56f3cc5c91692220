"""A hundred small hosts: tailers at ten lines a second each, three bucks. What they cost, and how small it gets.

Lines are those of a real syslog, written to a file of each tailer with the time of writing. CPU and memory are those of
a window in the middle; sizes are of everything that was written, one copy of each packet, headers and all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import mean
from typing import IO

from bench import corpus
from bench.cluster import Cluster, Process
from bench.filling import fresh
from bench.measure import spread
from bench.options import Options
from bench.report import Row
from bench.stored import one_copy

HOSTS, RATE, WINDOW_S = 100, 10, 30.0
STARTS_AT_ONCE = 4
SETTLE_S, END_S = 10.0, 9.0
STAMP_SIZE = len("Jun 14 15:16:01")


class Writer:
    """What is written for all hosts, to a file or pipe of each."""

    def __init__(self, files: Sequence[IO[bytes]]) -> None:
        """Unbuffered ones."""
        self._files, count = files, len(files)
        lines = (corpus.SHARED / "loghub_full/Linux.log").read_bytes().splitlines(keepends=True)
        self._lines = [cycle(lines[i * len(lines) // count :] + lines[: i * len(lines) // count]) for i in range(count)]
        self.raw = 0

    def write_for(self, seconds: float) -> None:
        """Ten times a second a line to each file, spread over the tenth."""
        begin, written = time.monotonic(), 0
        while (now := time.monotonic()) < begin + seconds:
            due = int((now - begin) * RATE * len(self._files))
            for number in range(written, due):
                self._write(number % len(self._files))
            written = due
            time.sleep(0.005)

    def _write(self, i: int) -> None:
        line = time.strftime("%b %e %H:%M:%S", time.gmtime()).encode() + next(self._lines[i])[STAMP_SIZE:]
        self.raw += self._files[i].write(line)


class Hosts(Writer):
    """The files of all hosts, and what is written to them."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.paths = [folder / f"host{i}.log" for i in range(count)]
        super().__init__([path.open("ab", buffering=0) for path in self.paths])

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()


def started(cluster: Cluster, paths: Sequence[Path]) -> list[Process]:
    """A tailer for each file; not all at once, since starting costs more than all they do later."""
    tailers: list[Process] = []
    waiting: Iterator[tuple[int, Path]] = iter(enumerate(paths))
    while some := list(islice(waiting, STARTS_AT_ONCE)):
        fresh_ones = [
            cluster.tailer("--from", "head", "--host", f"host{i}", str(path), name=f"host{i}") for i, path in some
        ]
        while any([_busy(one) for one in fresh_ones]):
            pass
        tailers += fresh_ones
    return tailers


def _busy(process: Process) -> bool:
    """Is it still starting? It is through when it has used no CPU for a moment."""
    before = process.usage().cpu_s
    time.sleep(0.2)
    return before < 0.2 or process.usage().cpu_s > before


def run(options: Options, hosts: int = HOSTS, window_s: float = WINDOW_S) -> list[Row]:
    with fresh(options.folder / "cluster", 3) as cluster, Hosts(cluster.root / "logs", hosts) as files:
        tailers = started(cluster, files.paths)
        files.write_for(SETTLE_S)
        before = [tailer.usage().cpu_s for tailer in tailers]
        bucks_before = [buck.usage().cpu_s for buck in cluster.live()]
        files.write_for(window_s)
        after = [tailer.usage() for tailer in tailers]
        bucks_after = [buck.usage().cpu_s for buck in cluster.live()]
        time.sleep(END_S)
        sizes = one_copy([cluster.disk_folders(i)[0] for i in range(3)])
    shares = [(usage.cpu_s - start) / window_s * 100 for usage, start in zip(after, before, strict=True)]
    bucks = [(end - start) / window_s * 100 for start, end in zip(bucks_before, bucks_after, strict=True)]
    note = f"{hosts} tailers at {RATE} lines/s, {window_s:.0f} s"
    seconds = window_s + SETTLE_S
    return [
        Row("small hosts", "one copy", spread([sum(sizes.values()) / files.raw]), "of raw", most=0.35, note=note),
        Row("small hosts", "CPU of a tailer, mean", spread([mean(shares)]), "% of a core", most=0.5,
            note=f"from {min(shares):.2f} to {max(shares):.2f}"),
        Row("small hosts", "packets", spread([len(sizes) / seconds]), "/s", note="all tailers together"),
        Row("small hosts", "memory of a tailer", spread([usage.rss / 1e6 for usage in after]), "MB RSS"),
        Row("small hosts", "CPU of a buck", spread(bucks), "% of a core"),
    ]  # fmt: skip
