"""How often processes ask a device to keep what they wrote: counted by the kernel (tracepoints), not by the processes.

    with Syncs(pids, folder / "syncs") as syncs: ...
    syncs.count                     # fsync, fdatasync, msync, sync_file_range of these and of what they start

Counting costs nothing that could be seen: a tracepoint is passed at these calls alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType

from bench.rivals.process import RivalError

CALLS = ("fsync", "fdatasync", "msync", "sync_file_range")
EVENTS = ",".join(f"syscalls:sys_enter_{call}" for call in CALLS)
TRY_S = 60.0


@cache
def missing() -> str:
    """Why nothing can be counted here; empty if it can."""
    if shutil.which("perf") is None:
        return "no perf: apt-get install linux-perf"
    try:
        command = ["perf", "stat", "-x,", "-e", EVENTS, "true"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TRY_S)
    except subprocess.TimeoutExpired:
        return f"perf did not end within {TRY_S:.0f} s"
    if done.returncode or "<not" in done.stderr:
        return "perf may not count system calls here: root may, or who has CAP_PERFMON and can read tracefs"
    return ""


class Syncs:
    """From entering to leaving; `count` is None where `missing`. Processes that run: all their threads, and later
    ones. RivalError if perf fails."""

    def __init__(self, pids: Sequence[int], out: Path) -> None:
        self.count: int | None = None
        self._pids, self._out = pids, out
        self._perf: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Syncs:
        if missing():
            return self
        asked, told = os.pipe(), os.pipe()
        command = ["perf", "stat", "-x,", "-o", str(self._out), "-e", EVENTS, "-D", "-1"]
        command += [f"--control=fd:{asked[0]},{told[1]}", "-p", ",".join(map(str, self._pids))]
        ours = (asked[0], told[1])
        with self._out.with_suffix(".said").open("wb") as said:
            self._perf = subprocess.Popen(command, pass_fds=ours, stdout=said, stderr=said)
        for descriptor in ours:
            os.close(descriptor)
        os.write(asked[1], b"enable\n")
        begun = os.read(told[0], 16)  # or nothing, when it has ended
        for descriptor in (asked[1], told[0]):
            os.close(descriptor)
        if not begun:
            self._perf.wait()
            raise RivalError(f"perf did not begin: {self._out.with_suffix('.said').read_text(errors='replace')}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._perf is not None:
            self._perf.send_signal(signal.SIGINT)
            self._perf.wait()
            self.count = counted(self._out)


def prefix(out: Path) -> list[str]:
    """A command that counts what the command after it does, into a file; nothing where `missing`."""
    return [] if missing() else ["perf", "stat", "-x,", "-o", str(out), "-e", EVENTS]


def counted(out: Path) -> int | None:
    """What was counted into a file; None if nothing was."""
    if not out.exists():
        return None
    rows = [line.split(",") for line in out.read_text().splitlines() if "sys_enter_" in line]
    if {row[2].removeprefix("syscalls:sys_enter_") for row in rows} != set(CALLS):
        raise RivalError(f"{out} holds other counts than those of {', '.join(CALLS)}")
    return sum(int(row[0]) for row in rows)
