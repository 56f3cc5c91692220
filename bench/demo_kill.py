"""kill -9 in the demo: each process once, while it works, and again on its feet. `make demo CHECK=1 KILL=1`.

Bucks and tailer are killed in turn while logs are written and read; the archive run when it has put its first object.
Each is started again where it was, and a line on the console says who was killed when and who took over.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from bench.cluster import Cluster, ClusterError, Process

BEFORE_S = 1.0  # between one that is up again and the next that is killed
AWAY_S = 1.0  # long enough for the others to notice
LOOK_S = 0.002
PATIENCE_S = 120.0


class Killer:
    """Whom it kills, and what it has said. `tailer` is the one that runs now."""

    def __init__(self, cluster: Cluster, follow: Callable[[], Process], console: Console) -> None:
        self.cluster, self.follow, self.console = cluster, follow, console
        self.tailer = follow()
        self.told: list[str] = []
        self._begin = time.monotonic()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin with it; returns at once."""
        self._thread.start()

    def finished(self) -> None:
        """Wait until each of them was killed and is back; ClusterError if one isn't."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def archive_run(self, folder: Path, *options: str) -> None:
        """Start an archive run and kill it in the middle: there is something in `folder`, and it isn't done."""
        command = self.cluster.porter_command("archive", "--archive", str(folder), *options)
        run = Process("porter archive", command[2:], self.cluster.logs / "porter.log")
        self.cluster.processes.append(run)
        deadline = time.monotonic() + PATIENCE_S
        while run.running() and not _objects(folder) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        self._kill(run, f"having put {_objects(folder)} objects; the next run goes on from there")

    def _run(self) -> None:
        try:
            for i in range(len(self.cluster.bucks)):
                self._buck(i)
                if i == 0:
                    self._tailer()
        except BaseException as error:
            self._error = error  # whoever waits in `finished` gets it

    def _buck(self, i: int) -> None:
        time.sleep(BEFORE_S)
        buck = self.cluster.bucks[i]
        assert buck is not None
        self._kill(buck)
        time.sleep(AWAY_S)
        self._say(f"{buck.name} is back as {self.cluster.start(i).pid}, on its old disk")

    def _tailer(self) -> None:
        time.sleep(BEFORE_S)
        self._kill(self.tailer)
        self.tailer = self.follow()
        self._say(f"{self.tailer.name} is back as {self.tailer.pid}, with its journal")

    def _kill(self, process: Process, more: str = "") -> None:
        if not process.running():
            raise ClusterError(f"{process.name} ended before it could be killed:\n{process.log_end()}")
        process.kill()
        if process.popen.returncode != -signal.SIGKILL:
            raise ClusterError(f"{process.name} ended with {process.popen.returncode}, not by the kill")
        self._say(f"kill -9 {process.pid} ({process.name})" + (f", {more}" if more else ""))

    def _say(self, text: str) -> None:
        self.told.append(text)
        at = time.monotonic() - self._begin
        self.console.print(f"{at:6.1f} s  {text}", highlight=False, markup=False, soft_wrap=True)


def _objects(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*")) if folder.exists() else 0
