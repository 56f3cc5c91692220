"""What runs in the soak, and what is known of it from outside: counters, memory, disk space, and what was written.

Three bucks, the last behind a proxy, one on a small file system where root allows; two tailers, each with files of
three classes; the porter's timetable of `jobs.py`.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
import urllib.request

from bench.cluster import Cluster, Process
from bench.soak.checker import Objects
from bench.soak.faults import Faults
from bench.soak.jobs import Porter
from bench.soak.load import SHARES, Load

ARCHIVE_EVERY_S = 30.0
SAMPLE_S, DISK_S = 1.0, 10.0
DELETE_S = 60.0  # a tailer can be killed in the half of it that is calm
SMALL_DISK = 2 << 30
LOGS_MAX = 3 << 30
BACKLOG = 60_000  # lines that are written ahead of the tailers while full is measured
FULL_WARM_S, FULL_S, STEP_S = 15.0, 10.0, 0.1
CLASSES = """
[[classes]]
path = "**/precious.log*"
copies = 3
sync = "packet"

[[classes]]
path = "**/cheap.log*"
copies = 1
resend = false
"""


class Soak:
    """A cluster under load; what was written, what befell it, and what it used."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster, self.root = cluster, cluster.root
        self.archive = self.root / "archive"
        self.config = self.root / "tailer.toml"
        self.config.write_text(CLASSES)
        self.load = Load(self.root / "logs", seed, lambda: self.load.kept() < LOGS_MAX)
        self.http = {name: _free_port() for name in SHARES}
        self.tailers = {name: self.follow(name) for name in SHARES}
        self.objects = Objects(self.archive)
        self.porter = Porter(cluster, self.archive, ARCHIVE_EVERY_S)
        self.faults = Faults(cluster, self.tailers, self.follow, self.porter, seed)
        self.memory: dict[str, list[tuple[float, int]]] = {}
        self.disk_max = 0
        self._sample_at = self._disk_at = self._delete_at = 0.0
        self._archived = False  # since files were deleted last

    def follow(self, name: str, *flags: str) -> Process:
        """A tailer on its folder; each is a host of its own name."""
        address, files = f"127.0.0.1:{self.http[name]}", str(self.root / "logs" / name / "*.log*")
        words = ["--from", "head", "--host", f"host-{name}", "--http", address, "--config", str(self.config)]
        return self.cluster.tailer(*words, *flags, files, name=f"tailer-{name}")

    def full(self) -> tuple[float, float]:
        """Lines a second that tailers bring to the bucks, and that an archive run carries on, both at once."""
        self.load.target = lambda: self._target
        self._target = float(BACKLOG)
        self._pump(FULL_WARM_S)
        begin, before = time.monotonic(), self._delivered()
        porter = Porter(self.cluster, self.archive, float("inf"))
        while not porter.poll(time.monotonic()):
            self._pump(STEP_S)
        archived = sum(self.objects.look().values()) / (time.monotonic() - begin)
        self._pump(begin + FULL_S - time.monotonic())
        tailers = (self._delivered() - before) / (time.monotonic() - begin)
        porter.finish(60.0)
        return tailers, archived

    def steady(self, rate: float) -> None:
        """From now on so many lines a second."""
        begin, written = time.monotonic(), self.load.lines
        self.load.target = lambda: written + rate * (time.monotonic() - begin)

    def look(self, now: float) -> None:
        """Poll the porter; memory and disk space, when it is time."""
        if self.porter.poll(now):
            self._archived = True
        if self._archived and now >= self._delete_at:
            self._archived, self._delete_at = False, now + DELETE_S
            up = {name: self.faults.up_since_us[name] for name, one in self.tailers.items() if one.running()}
            for name in self.load.delete(self.objects.look(), up):
                self.faults.deleted_at[name] = time.monotonic()
        if now >= self._sample_at:
            self._sample_at = now + SAMPLE_S
            named = {f"buck{i}": buck for i, buck in enumerate(self.cluster.bucks)}
            for name, process in [*named.items(), *((f"tailer {name}", one) for name, one in self.tailers.items())]:
                if process is not None and process.running():
                    with contextlib.suppress(OSError, KeyError):  # it has just ended
                        self.memory.setdefault(f"{name} {process.pid}", []).append((now, process.usage().rss))
        if now >= self._disk_at:
            self._disk_at = now + DISK_S
            self.disk_max = max(self.disk_max, self.disk())

    def disk(self) -> int:
        """Bytes of all files of it, logs too."""
        total = 0
        for path in self.root.rglob("*"):
            with contextlib.suppress(OSError):  # removed meanwhile
                total += path.stat().st_blocks * 512 if path.is_file() else 0
        return total

    def _pump(self, seconds: float) -> None:
        """For so long, keep a bit more written than is delivered."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._target = self._delivered() + BACKLOG
            time.sleep(STEP_S)

    def _delivered(self) -> float:
        """Lines that the tailers have brought to A1 in this run."""
        return sum(_delivered(port) for port in self.http.values())


def _delivered(port: int) -> float:
    """Of one tailer: the lines of its journal, but for those of packets that are in the journal only."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5.0) as page:
            text = page.read().decode()
    except OSError:
        return 0.0  # it is just starting
    lines, packets, waiting = (
        sum(float(n) for n in re.findall(rf"^tailer_{name}(?:_total)?(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))
        for name in ("class_lines", "class_packets", "packets_a0")
    )
    return lines * (1 - waiting / packets) if packets else 0.0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])
