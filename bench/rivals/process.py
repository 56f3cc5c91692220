"""A program of anybody's: started, stopped, killed, held still, and counted to the last microsecond of its CPU."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from bench.cluster import TICKS, Usage
from bench.measure import ROOT

STOP_S = 30.0
LOOK_S = 0.01
END_LINES = 15


class RivalError(Exception):
    """A system did not do what it should; the text says which, what, and the end of its log."""


class Program:
    """One process and its log. Whoever ends it learns what it and its children used."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name, self.popen, self.log = name, popen, log
        self._used = Usage(0.0, 0, 0)
        self._lock = threading.Lock()

    @classmethod
    def start(cls, name: str, command: Sequence[str | Path], log: Path, env: dict[str, str] | None = None) -> Program:
        """A server: no input, all output to its log."""
        with log.open("ab") as out:
            popen = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
            )
        return cls(name, popen, log)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def running(self) -> bool:
        self._reap()
        return self.popen.returncode is None

    def usage(self) -> Usage:
        """What it and its ended children have used; of an ended process: in all, with no memory now."""
        with self._lock:
            if self.popen.returncode is None:
                self._look()
            return self._used

    def _look(self) -> None:
        stat = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        status = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        now, most = (int(status.get(key, "0").split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
        most = max(most, self._used.rss_max)
        self._used = Usage(sum(map(int, stat[11:15])) / TICKS, now, most)

    def _reap(self) -> None:
        """Take note of its end, if it has ended."""
        with self._lock:
            if self.popen.returncode is not None:
                return
            self._look()
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._used = Usage(used.ru_utime + used.ru_stime, 0, self._used.rss_max)
                self.popen.returncode = os.waitstatus_to_exitcode(status)

    def signal(self, number: int) -> None:
        if self.running():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait: what is on disk now is what a crash leaves."""
        self.signal(signal.SIGKILL)
        self.wait(STOP_S)

    def stop(self, timeout_s: float = STOP_S) -> int:
        """SIGTERM and its exit code; one that does not end in time is killed, which is said by an error."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> int:
        deadline = time.monotonic() + timeout_s
        while self.running():
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
                raise RivalError(f"{self.name} did not end within {timeout_s:.0f} s:\n{self.log_end()}")
            time.sleep(LOOK_S)
        return self.popen.returncode

    def log_end(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-END_LINES:])
        return f"no log at {self.log}"


class Client(Program):
    """A sender or reader of ours: says `ready` when it has begun, goes on until its stdin ends, then finishes."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, env: dict[str, str] | None = None) -> None:
        with log.open("ab") as out:
            popen = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
            )
        super().__init__(name, popen, log)

    def until_ready(self, timeout_s: float) -> Client:
        """Wait for its first line. RivalError, and it is ended, if that doesn't come or is another."""
        said: list[bytes] = []
        out = self.popen.stdout
        assert out is not None
        reader = threading.Thread(target=lambda: said.append(out.readline()), daemon=True)
        reader.start()
        reader.join(timeout_s)
        if said != [b"ready\n"]:
            self.kill()
            reader.join()
            self._close()
            raise RivalError(f"{self.name} did not begin within {timeout_s:.0f} s:\n{self.log_end()}")
        return self

    def finish(self, timeout_s: float = 60.0) -> Client:
        """Let it end what is under way. RivalError if it doesn't in time, or says that it failed."""
        assert self.popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.close()
        try:
            code = self.wait(timeout_s)
        finally:
            self._close()
        if code != 0:
            raise RivalError(f"{self.name} ended with {code}:\n{self.log_end()}")
        return self

    def kill(self) -> None:
        super().kill()
        self._close()

    def _close(self) -> None:
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
