"""What writes the soak's logs: several files at once, of several classes, at a steady rate, rotated and deleted.

Its own thread appends blocks of `pages.py` until the number of lines that it is told has been written. The mixture
changes every half minute: how many files each tailer has, and of which kind their lines are. A file is rotated by its
age or size, as logrotate does it: renamed, and a new one begun under the old name. A rotated file is deleted once it is
archived, or the disk would fill; not while its tailer is down, or has not been seen to read since, nor shortly before
it is killed: then nobody could know whether more had been in it. The ledger, of files and their blocks, is all that
the checker knows.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.soak.pages import KINDS, LINES, PAGES

STEP_S = 0.1
STEP_LINES_MAX = 40_000  # what was missed in a long step is not written all at once
MIXTURE_S = 30.0
ROTATE_S = (15.0, 30.0)
ROTATE_BYTES = 256 << 20
CLASSES = {"precious": 0.1, "cheap": 0.1}  # their share of the lines; the rest is what no rule fits
PLAIN_FILES = (1, 4)
SHARES = {"a": 0.7, "b": 0.3}  # of each tailer


class Block(NamedTuple):
    """So many lines, written at once."""

    first: int
    lines: int
    when_us: int


@dataclass
class LogFile:
    """One file from its first line to its last, whatever its name was."""

    number: int
    tailer: str
    kind: str
    path: Path
    until: float
    names: list[Path] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    lines: int = 0
    size: int = 0
    rotated: bool = False
    deleted: bool = False

    def write(self, count: int) -> None:
        """Append so many lines."""
        with self.path.open("ab", buffering=0) as out:
            while count > 0:
                some = min(count, LINES - self.lines % LINES)
                block = Block(self.lines, some, time.time_ns() // 1000)
                self.size += out.write(PAGES[self.kind].render(self.number, *block))
                self.blocks.append(block)
                self.lines += some
                count -= some


class Load:
    """All files. `target` says how many lines there should be by now; `room` whether the disk has room for more."""

    def __init__(self, folder: Path, seed: int, room: Callable[[], bool]) -> None:
        self.folder, self.room = folder, room
        self.random = random.Random(f"load {seed}")
        self.files: list[LogFile] = []
        self.lines = self.size = self.mixtures = 0
        self.waited_s = 0.0
        self.target: Callable[[], float] = lambda: 0
        self._open: dict[str, LogFile] = {}
        self._mixed_at = -MIXTURE_S
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        for tailer in SHARES:
            (folder / tailer).mkdir(parents=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Write no more; raises what went wrong."""
        self._ended.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def delete(self, archived: dict[int, int], up_since_us: Mapping[str, int]) -> set[str]:
        """Remove rotated files all of whose lines are in the archive (`archived`: lines of each file there), of tailers
        that have read what was written after they came `up_since_us`. The tailers of which any went."""
        done = [file for file in self.files if file.rotated and archived.get(file.number, 0) >= file.lines]
        reading = {
            file.tailer
            for file in done
            if file.tailer in up_since_us and file.blocks and file.blocks[-1].when_us > up_since_us[file.tailer]
        }
        going = [file for file in done if file.tailer in reading and file.lines and not file.deleted]
        for file in going:
            file.path.unlink()
            file.deleted = True
        return {file.tailer for file in going}

    def kept(self) -> int:
        """Bytes of files that are still there."""
        return sum(file.size for file in self.files if not file.deleted)

    def _run(self) -> None:
        try:
            while not self._ended.wait(STEP_S):
                self._step(time.monotonic())
        except BaseException as error:
            self._error = error  # whoever calls `end` gets it

    def _step(self, now: float) -> None:
        if now >= self._mixed_at + MIXTURE_S:
            self._mix(now)
        for slot, file in list(self._open.items()):
            if now >= file.until or file.size > ROTATE_BYTES:
                self._rotate(slot, now)
        due = min(STEP_LINES_MAX, int(self.target()) - self.lines)
        if due > 0 and not self.room():
            self.waited_s += STEP_S
        elif due > 0:
            for file, share in self._shares():
                before = file.size
                file.write(count := round(due * share))
                self.lines += count
                self.size += file.size - before

    def _shares(self) -> list[tuple[LogFile, float]]:
        """Each open file and its part of what is written; together 1."""
        found = []
        for tailer, share in SHARES.items():
            mine = {slot: file for slot, file in self._open.items() if file.tailer == tailer}
            plain = [file for slot, file in mine.items() if "plain" in slot]
            each = share * (1 - sum(CLASSES.values())) / len(plain)
            found += [(file, each) for file in plain]
            found += [(mine[f"{tailer}/{name}"], share * part) for name, part in CLASSES.items()]
        return found

    def _mix(self, now: float) -> None:
        """Another number of files; those that are there rotate, so that lines of other kinds follow."""
        self._mixed_at, self.mixtures = now, self.mixtures + 1
        slots = [f"{tailer}/{name}" for tailer in SHARES for name in CLASSES]
        slots += [f"{tailer}/plain{n}" for tailer in SHARES for n in range(self.random.randint(*PLAIN_FILES))]
        for slot in self._open.keys() - set(slots):
            self._leave(self._open.pop(slot))
        for slot in slots:
            if slot not in self._open:
                self._begin(slot, now)

    def _begin(self, slot: str, now: float) -> None:
        path = self.folder / f"{slot}.log"
        kind = self.random.choice(list(KINDS))
        file = LogFile(len(self.files), slot.split("/")[0], kind, path, now + self.random.uniform(*ROTATE_S))
        file.names.append(path)
        self.files.append(file)
        self._open[slot] = file

    def _rotate(self, slot: str, now: float) -> None:
        self._leave(self._open[slot])
        self._begin(slot, now)

    def _leave(self, file: LogFile) -> None:
        if file.lines:
            file.path = file.path.rename(file.path.with_name(f"{file.path.name}.{file.number}"))
            file.names.append(file.path)
        file.rotated = True
