"""Two ways to sort what a queue hands out, as programs: an external sort of our own, and a consumer that buckets.

    python -m bench.papers.sorters external FOLDER MEMORY              < lines    > sorted lines
    python -m bench.papers.sorters buckets  FOLDER MEMORY /dev/fd/N... (a partition each)    > sorted lines

Both use what Buck's porter uses: numpy sorts the times, the kernel lays out the lines (`arranged`). `external` sorts as
much as fits, writes it as a run, and merges all runs at the end: each event is written to a file once and read back.

`buckets` is what who knows of windows would write. It reads the partition that is furthest behind, keeps each window's
lines in memory, and when every partition has gone `BOUND_S` past a window's end, sorts and writes it. Windows go to
files only when memory is short. A line that comes after its window was written is an error: the bound was too small.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from bench.papers.disorder import WINDOW_S, Numbers, times_of
from protocol.kernel import arranged

BOUND_S = 1.0
READ = 1 << 20
ROWS = 8192
WIDTH_US = WINDOW_S * 10**6


def lines_of(file: BinaryIO, size: int = READ) -> Iterator[bytes]:
    """Whole lines, about `size` bytes at a time."""
    rest = b""
    while data := file.read(size):
        data = rest + data
        cut = data.rfind(b"\n") + 1
        rest = data[cut:]
        if cut:
            yield data[:cut]
    if rest:
        raise ValueError("the last line has no end")


class Lines(NamedTuple):
    """Times of some lines, and their edges: line i is data[edges[i]:edges[i + 1]]."""

    times: Numbers
    edges: Numbers
    data: bytes


def cut_up(data: bytes) -> Lines:
    """Find the lines and read their times."""
    text = np.frombuffer(data, np.uint8)
    edges = np.concatenate(([0], np.flatnonzero(text == 10) + 1)).astype(np.int64)
    return Lines(times_of(text, edges[:-1]), edges, data)


def put_sorted(parts: Sequence[Lines], out: BinaryIO) -> None:
    """Lines in order of time; those of equal times as they came."""
    starts = np.cumsum([0, *(len(part.data) for part in parts)])
    edges = np.concatenate([part.edges[:-1] + start for part, start in zip(parts, starts, strict=False)])
    edges, data = np.append(edges, starts[-1]), b"".join(part.data for part in parts)
    order = np.argsort(np.concatenate([part.times for part in parts]), kind="stable")
    for at in range(0, len(order), ROWS):
        out.write(arranged(data, edges, order[at : at + ROWS]))


# --- external sort ---------------------------------------------------------------------------------------------------


def external(source: BinaryIO, out: BinaryIO, folder: Path, memory: int) -> int:
    """Sort by runs; how many there were. A run in the making takes its size some times."""
    runs: list[Path] = []
    for data in lines_of(source, memory // 8):
        runs.append(folder / f"run{len(runs)}")
        with runs[-1].open("wb") as file:
            put_sorted([cut_up(data)], file)
    merge(runs, out, memory)
    return len(runs)


def merge(runs: Sequence[Path], out: BinaryIO, memory: int) -> None:
    """Lines of sorted files in one order: what is not beyond the last line that each has shown is final. A file goes
    away when it has been read."""
    if not runs:
        return
    files = [path.open("rb") for path in runs]
    readers = [lines_of(file, max(1 << 16, memory // 8 // len(runs))) for file in files]
    held = [cut_up(data) if (data := next(reader, b"")) else None for reader in readers]
    while left := [(i, part) for i, part in enumerate(held) if part]:
        bound = min(int(part.times[-1]) for _, part in left)
        ready: list[Lines] = []
        for i, part in left:
            count = int(np.searchsorted(part.times, bound, side="right"))
            ready.append(Lines(part.times[:count], part.edges[: count + 1], part.data[: int(part.edges[count])]))
            if count < len(part.times):
                rest = part.edges[count:]
                held[i] = Lines(part.times[count:], rest - rest[0], part.data[int(rest[0]) :])
            else:
                held[i] = cut_up(data) if (data := next(readers[i], b"")) else None
                if held[i] is None:
                    files[i].close()
                    runs[i].unlink()
        put_sorted(ready, out)


# --- a consumer that buckets -----------------------------------------------------------------------------------------


@dataclass
class Window:
    """A window's lines, in memory but for those that are in its file."""

    path: Path
    parts: list[Lines] = field(default_factory=list)
    size: int = 0

    def add(self, part: Lines) -> None:
        """More lines."""
        self.parts.append(part)
        self.size += len(part.data)

    def spill(self) -> None:
        """To its file: memory is short."""
        with self.path.open("ab") as file:
            file.writelines(part.data for part in self.parts)
        self.parts, self.size = [], 0

    def put(self, out: BinaryIO) -> None:
        """Write it in order."""
        early: list[Lines] = []
        if self.path.exists():
            early = [cut_up(self.path.read_bytes())]
            self.path.unlink()
        put_sorted([*early, *self.parts], out)


class Buckets:
    """Lines by window, from some partitions that each go on in time, about."""

    def __init__(self, out: BinaryIO, folder: Path, memory: int, partitions: int) -> None:
        self._out, self._folder, self._memory = out, folder, memory
        self._windows: dict[int, Window] = {}
        self.reached: dict[int, int] = dict.fromkeys(range(partitions), 0)  # partitions that go on: highest time seen
        self._written = -1

    def add(self, partition: int, data: bytes) -> None:
        """More lines of a partition. ValueError if the window of one was written before."""
        lines = cut_up(data)
        first, last = int(lines.times.min()) // WIDTH_US, int(lines.times.max()) // WIDTH_US
        if first <= self._written:
            raise ValueError(f"a line came more than {BOUND_S} s late, after its window was written")
        self.reached[partition] = max(self.reached[partition], int(lines.times.max()))
        for place in range(first, last + 1):
            window = self._windows.setdefault(place, Window(self._folder / f"window{place}"))
            if first == last:
                window.add(lines)
            elif len(chosen := np.flatnonzero(lines.times // WIDTH_US == place)):
                window.add(cut_up(arranged(data, lines.edges, chosen)))
        if sum(window.size for window in self._windows.values()) > self._memory // 4:
            max(self._windows.values(), key=lambda window: window.size).spill()
        self.close_past()

    def ended(self, partition: int) -> None:
        """A partition has no more lines."""
        del self.reached[partition]
        self.close_past()

    def close_past(self) -> None:
        """Write the windows that are over for every partition."""
        over = min(self.reached.values(), default=1 << 62) - int(BOUND_S * 1e6)
        for place in sorted(self._windows):
            if (place + 1) * WIDTH_US <= over:
                self._windows.pop(place).put(self._out)
                self._written = place


def buckets(sources: Sequence[BinaryIO], out: BinaryIO, folder: Path, memory: int) -> None:
    """Read whichever partition is furthest behind, until all have ended."""
    readers = {i: lines_of(source) for i, source in enumerate(sources)}
    found = Buckets(out, folder, memory, len(readers))
    while readers:
        behind = min(readers, key=lambda i: found.reached[i])
        data = next(readers[behind], b"")
        if data:
            found.add(behind, data)
        else:
            del readers[behind]
            found.ended(behind)


def main(words: Sequence[str]) -> int:
    """The command."""
    how, folder, memory = words[0], Path(words[1]), int(words[2])
    folder.mkdir(parents=True, exist_ok=True)
    if how == "external":
        external(sys.stdin.buffer, sys.stdout.buffer, folder, memory)
    else:
        with contextlib.ExitStack() as closing:
            sources = [closing.enter_context(open(path, "rb")) for path in words[3:]]
            buckets(sources, sys.stdout.buffer, folder, memory)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    os._exit(code)  # nothing is left to be written; taking all down again costs time that no consumer would spend
