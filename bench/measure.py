"""How long and how much: CPU of whole process trees, medians of runs, and what machine and commit they are of."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
LOOK_S = 0.02


class FailedError(Exception):
    """A command that is measured has failed: its figures would be worth nothing."""


class Spent(NamedTuple):
    """Seconds on the clock, CPU seconds (user and system) of a command with its children and threads, its peak RSS."""

    wall_s: float
    cpu_s: float
    rss: int = 0


class Spread(NamedTuple):
    """Minimum, median and maximum of repeated runs."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g}-{self.high:.3g})"


def spread(values: Sequence[float]) -> Spread:
    return Spread(min(values), statistics.median(values), max(values))


def run(command: Sequence[str | Path], *, stdout: Path | None = None, codes: Collection[int] = (0,)) -> Spent:
    """Run a command to its end and count its whole tree (what it waited for). Another exit code: FailedError."""
    begin = time.perf_counter()
    with (stdout or Path(os.devnull)).open("wb") as out, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=said, cwd=ROOT)
        try:
            return ended(process, begin, codes)
        except FailedError as error:
            said.seek(0)
            raise FailedError(f"{error}\n{said.read()[-2000:].decode(errors='replace')}") from None


def ended(process: subprocess.Popen[bytes], begin: float, codes: Collection[int] = (0,)) -> Spent:
    """Wait for a process that was started at `begin`; what it used.

    Its peak memory is looked at while it runs: the one that `wait4` tells counts what our own process had at its birth.
    """
    rss = pid = 0
    while not pid:
        rss = max(rss, _peak(process.pid))
        time.sleep(LOOK_S)
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in codes:
        words = process.args if isinstance(process.args, list) else [process.args]
        raise FailedError(f"exit {process.returncode}: {' '.join(map(str, words[:8]))} ... ({len(words)} words)")
    return Spent(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, rss)


def _peak(pid: int) -> int:
    """The most memory that a process ever had; 0 if it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def here(work: Callable[[], object]) -> Spent:
    """The same for a call in this process."""
    before, begin = time.process_time(), time.perf_counter()
    work()
    return Spent(time.perf_counter() - begin, time.process_time() - before)


def machine() -> str:
    """One line that says where and of which commit figures are."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].split(":")[1].strip() if models else "unknown processor"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = f"Python {platform.python_version()}"
    return f"{os.cpu_count()} x {model}, {memory:.0f} GiB, Linux {platform.release()}, {python}, commit {commit()}"


def commit() -> str:
    """Of what is run here; results, and pages made of them, may be there before they are committed."""
    try:
        run = partial(subprocess.run, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
        tracked = ["git", "status", "--porcelain", "--untracked-files=no"]
        changed = run([*tracked, ":!bench/results", ":!docs/papers"]).stdout
        return run(["git", "rev-parse", "--short", "HEAD"]).stdout.strip() + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "no git"


def command_line() -> str:
    return f"{Path(sys.executable).name} -m bench {' '.join(sys.argv[1:])}".strip()
