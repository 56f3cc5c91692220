"""The porter's timetable in the soak: an archive run, then a prune run, then a pause, and so on; each can be killed.

What a run that was killed, or ended with a shortfall, has left undone is for the next one. Both take whatever there is,
whatever its age: an hour is archived and let go of as a whole, and in this one there is always something young.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from pathlib import Path

from bench.cluster import Cluster, Process

LEAST_S = 0.7  # a run younger than that has hardly begun


class Porter:
    """`poll` it now and then."""

    def __init__(self, cluster: Cluster, archive: Path, every_s: float) -> None:
        self.cluster, self.archive, self.every_s = cluster, archive, every_s
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.peaks: list[tuple[float, int]] = []
        self.process: Process | None = None
        self.name = ""
        self._began = self._due = 0.0
        self._peak = 0

    def poll(self, now: float) -> bool:
        """Start what is due, note what has ended; True if an archive run has just ended well."""
        if self.process is None:
            if now >= self._due:
                self._due = now + self.every_s
                self._start("archive")
            return False
        if self.process.running():
            with contextlib.suppress(OSError, KeyError):  # it has just ended
                self._peak = max(self._peak, self.process.usage().rss)
            return False
        return self._ended(now)

    def kill(self, name: str) -> bool:
        """Kill this job if it runs and has begun."""
        if self.process is None or self.name != name or time.monotonic() < self._began + LEAST_S:
            return False
        self.process.kill()
        return True

    def finish(self, timeout_s: float) -> None:
        """Let the run that is under way end; start no more."""
        if self.process is not None:
            self.process.wait(timeout_s)
            self._ended(float("inf"))
        self._due = float("inf")

    def _ended(self, now: float) -> bool:
        assert self.process is not None
        code, name = self.process.popen.returncode, self.name
        self.process.popen.stdout.close()  # type: ignore[union-attr]  # it is always piped
        if code not in (0, 1, 3, -9):  # 1: nobody was there, while all were killed
            self.wrong.append(f"porter {name} ended with {code}: {self.process.log_end(3)}")
        self.done[f"{name}: {'killed' if code == -9 else f'exit {code}'}"] += 1
        if name == "archive":
            self.peaks.append((now, self._peak))
        self.process = None
        if name == "archive" and now != float("inf"):
            self._start("prune")
        return name == "archive" and code in (0, 3)

    def _start(self, name: str) -> None:
        command = self.cluster.porter_command(name, "--archive", str(self.archive), "--older", "0s")
        self.process = Process(f"porter {name}", command[2:], self.cluster.logs / f"porter-{name}.log")
        self.name, self._began, self._peak = name, time.monotonic(), 0
