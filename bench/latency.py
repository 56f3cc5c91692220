"""How long until a line that was written to a followed file is stored by two bucks (A1).

A thousand lines a second are written, one by one, to a file that a real tailer follows. The disks of the two bucks are
watched every few milliseconds: a line is there when both have a packet whose runs cover its last byte. The ack to the
tailer is the buck's next step.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from pathlib import Path
from statistics import quantiles
from typing import BinaryIO

from bench.filling import fresh
from bench.measure import spread
from bench.options import Options
from bench.report import Row
from bench.stored import Disk

RATE = 1000
LOOK_S = 0.003
WARM_S, RUN_S = 3.0, 20.0
END_S = 20.0  # so long after that the last lines must be stored


class Writer:
    """Appends a line each millisecond, and notes when which offset was reached."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._begin = time.perf_counter()
        self.ends: list[int] = []
        self.times: list[float] = []

    def write_due(self) -> None:
        now = time.perf_counter()
        while len(self.times) < (now - self._begin) * RATE:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
            number = len(self.times)
            line = (
                f"{stamp}Z INFO request {number * 7919 % 100003} took {number * 31 % 977} ms for client {number % 61}\n"
            )
            self._file.write(line.encode())
            self.ends.append(self._file.tell())
            self.times.append(time.perf_counter())


class Watch:
    """Up to which offset a disk has the file, and since when."""

    def __init__(self, folder: Path) -> None:
        self._disk = Disk(folder)
        self.end = 0
        self._ahead: dict[int, int] = {}

    def look(self) -> int:
        for header, _ in self._disk.fresh():
            self._ahead.update({run.first: run.end for run in header.runs})
        while self.end in self._ahead:  # packets may overtake each other
            self.end = self._ahead.pop(self.end)
        return self.end


def once(options: Options, run_s: float) -> list[float]:
    """Seconds from written to stored twice, of each line after the warm-up."""
    with fresh(options.folder / "cluster") as cluster:
        log = cluster.root / "app.log"
        log.touch()
        tailer = cluster.tailer("--from", "head", str(log))
        time.sleep(WARM_S)
        watches = [Watch(cluster.disk_folders(i)[0]) for i in range(2)]
        with log.open("ab", buffering=0) as file:
            found = _write_and_watch(Writer(file), watches, int((WARM_S + run_s) * RATE))
        if found is None:
            raise TimeoutError(f"lines are not stored in time:\n{tailer.log_end()}")
    return found[int(WARM_S * RATE) :]


def _write_and_watch(writer: Writer, watches: list[Watch], wanted: int) -> list[float] | None:
    """What so many lines took each. It is written on until the last is stored: their rate is what closes packets."""
    deadline = time.perf_counter() + wanted / RATE + END_S
    found: list[float] = []
    while len(found) < wanted:
        writer.write_due()
        both = min(watch.look() for watch in watches)
        seen = time.perf_counter()
        found += [seen - writer.times[i] for i in range(len(found), bisect_right(writer.ends, both))]
        if seen > deadline:
            return None
        time.sleep(LOOK_S)
    return found[:wanted]


def run(options: Options, run_s: float = RUN_S) -> list[Row]:
    runs = [quantiles(once(options, run_s), n=100) for _ in range(options.runs)]
    note = f"{RATE} lines/s, {run_s:.0f} s a run; looked every {LOOK_S * 1000:.0f} ms"
    return [
        Row("latency", "written to A1, p50", spread([cuts[49] for cuts in runs]), "s", note=note),
        Row("latency", "written to A1, p99", spread([cuts[98] for cuts in runs]), "s", most=0.8, note=note),
    ]
