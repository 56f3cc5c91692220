"""What a pipe of programs costs that ends in sorted lines: CPU, memory and I/O of each process, and when lines came.

The sorted lines are read here and held against what was sent: all of them, none twice, in order. What that costs is
this process's own and not counted, but it competes for the cores, with every system alike.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import ROOT
from bench.papers.disorder import STAMP, WINDOW_S, Sum, times_of
from bench.rivals.process import RivalError

READ = 1 << 20
LOOK_S = 0.02
END_S = 1800.0


@dataclass
class Cost:
    """Seconds and bytes of all processes together. `peak`: the sum of the processes' own peaks of resident memory.
    `read`, `written`: through system calls on files and pipes, not sockets; `stored`: what went into files."""

    cpu_s: float = 0.0
    peak: int = 0
    read: int = 0
    written: int = 0
    stored: int = 0
    wall_s: float = 0.0
    first_s: float = 0.0  # until the first window was there, whole
    last_s: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)  # CPU seconds of each program

    def as_figures(self) -> dict[str, Any]:
        return asdict(self)


class Sink:
    """Reads sorted lines until their end."""

    def __init__(self, begun: float) -> None:
        self._begun, self._rest, self._last = begun, b"", 0
        self._first_end = 0
        self.seen, self.first_s, self.last_s = Sum(), 0.0, 0.0
        self.disorder = ""

    def read(self, fd: int) -> None:
        with open(fd, "rb", buffering=0) as pipe:
            while data := pipe.read(READ):
                self.take(data)

    def take(self, data: bytes) -> None:
        """Some more bytes."""
        now = time.monotonic() - self._begun
        data = self._rest + data
        cut = data.rfind(b"\n") + 1
        self._rest = data[cut:]
        lines = np.frombuffer(data, np.uint8)[:cut]
        if not cut:
            return
        starts = np.concatenate(([0], np.flatnonzero(lines == 10)[:-1] + 1))
        if (np.diff(np.append(starts, cut)) <= STAMP).any():
            self.disorder = self.disorder or "a line without a time came out"
            return
        times = times_of(lines, starts)
        if not self.disorder and (times[0] < self._last or (times[1:] < times[:-1]).any()):
            self.disorder = f"lines are not in order of time after {self.seen.lines} lines"
        self._last = int(times[-1])
        width = WINDOW_S * 10**6
        self._first_end = self._first_end or (int(times[0]) // width + 1) * width
        if not self.first_s and self._last >= self._first_end:
            self.first_s = now
        self.last_s = now
        self.seen += Sum.of(lines)

    def check(self, expected: Sum, what: str) -> None:
        """RivalError unless all that was sent has come, once and in order."""
        if self.disorder:
            raise RivalError(f"{what}: {self.disorder}")
        if self._rest or self.seen != expected:
            raise RivalError(
                f"{what}: {self.seen} came out, and {len(self._rest)} bytes of a line; sent was {expected}"
            )


def measure(
    name: str, sources: Sequence[Sequence[str]], last: Sequence[str], expected: Sum, log: Path, pipes: bool = False
) -> Cost:
    """Run `sources` (each writes to a pipe) and `last`, which reads them (the only one as its stdin; with `pipes`, all
    as /dev/fd/N, named behind its words) and writes sorted lines. RivalError if any fails or the lines are wrong."""
    begun = time.monotonic()
    cost, running = Cost(), list[subprocess.Popen[bytes]]()
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | {"LC_ALL": "C"}
    with contextlib.ExitStack() as ending, log.open("ab") as said:
        ending.callback(_end, running)
        fds: list[int] = []
        for words in sources:
            popen = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, cwd=ROOT, env=env
            )
            running.append(popen)
            assert popen.stdout
            fds.append(ending.enter_context(popen.stdout).fileno())
        command = [*last, *(f"/dev/fd/{fd}" for fd in fds)] if pipes else list(last)
        stdin = fds[0] if fds and not pipes else subprocess.DEVNULL
        popen = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=said,
            cwd=ROOT,
            env=env,
            pass_fds=fds if pipes else (),
        )
        running.append(popen)
        for one in running[:-1]:
            assert one.stdout
            one.stdout.close()
        assert popen.stdout
        sink = Sink(begun)
        reader = threading.Thread(target=sink.read, args=(os.dup(popen.stdout.fileno()),), daemon=True)
        popen.stdout.close()
        reader.start()
        _watch(running, cost, begun + END_S, f"{name}: see {log}")
        reader.join()
    cost.wall_s = time.monotonic() - begun
    cost.first_s, cost.last_s = sink.first_s or sink.last_s, sink.last_s
    sink.check(expected, name)
    return cost


def _watch(running: Sequence[subprocess.Popen[bytes]], cost: Cost, deadline: float, what: str) -> None:
    """Until all have ended: what each has used. Its I/O can still be read when it is dead and not yet reaped."""
    peaks = dict.fromkeys(running, 0)
    left = list(running)
    while left:
        for one in list(left):
            ended = os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            peaks[one] = max(peaks[one], _peak(one.pid))
            if not ended:
                continue
            io = dict(line.split(": ") for line in Path(f"/proc/{one.pid}/io").read_text().splitlines())
            _, status, used = os.wait4(one.pid, 0)
            one.returncode = os.waitstatus_to_exitcode(status)
            left.remove(one)
            words = [os.path.basename(str(word)) for word in one.args[:3]]  # type: ignore[index]  # a list, as we gave it
            program = words[2] if words[0].startswith("python") else words[0]
            cpu_s = used.ru_utime + used.ru_stime
            cost.parts[program] = cost.parts.get(program, 0.0) + cpu_s
            cost.cpu_s += cpu_s
            cost.read, cost.written = cost.read + int(io["rchar"]), cost.written + int(io["wchar"])
            cost.stored += int(io["write_bytes"])
            if one.returncode:
                raise RivalError(f"{program} ended with {one.returncode}: {what}")
        if time.monotonic() > deadline:
            raise RivalError(f"not in time: {what}")
        time.sleep(LOOK_S)
    cost.peak = sum(peaks.values())


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    for one in running:
        if one.returncode is None:
            one.kill()
            one.wait()
