"""A cluster whose processes reach each other through proxies, and a tailer that follows and says how far it is."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.cluster import Buck, Cluster, Process
from tests.scenarios.arena import FOLLOWED, PATIENCE_S, Arena
from tests.scenarios.checker import copies
from tests.scenarios.proxy import Net
from tests.scenarios.writing import Writer


class Netted(Cluster):
    """Bucks that are reached at their proxies: by each other, by tailers, by whoever is told `addresses()`."""

    def __enter__(self) -> Netted:
        self.net = Net(lambda: [(process.name, process.pid) for process in self.processes if process.running()])
        self.fronts: dict[int, str] = {}
        self.net.__enter__()
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.net.heal()
        super().__exit__(kind, error, trace)
        self.net.__exit__(kind, error, trace)

    def start(self, i: int, env: dict[str, str] | None = None, prefix: Sequence[str] = ()) -> Buck:
        if i not in self.fronts:
            self.fronts[i] = self.net.front(f"buck{i}")
        buck = super().start(i, {**(env or {}), "BUCK_ADVERTISE": self.fronts[i]}, prefix)
        host, _, port = buck.address.rpartition(":")
        self.net.behind[f"buck{i}"] = host, int(port)
        buck.address = self.fronts[i]
        return buck


class Following:
    """A tailer that follows the arena's files, in one process after another, with a page that says how far it is."""

    def __init__(
        self,
        arena: Arena,
        *more: str,
        name: str = "tailer",
        env: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
        files: Path | None = None,
    ) -> None:
        self.arena, self.name, self.more, self.env, self.prefix = arena, name, more, env, prefix
        self.files = files or self.arena.folder / FOLLOWED
        self._starts = len(self._pages())
        self.start()

    def start(self) -> None:
        self.tailer = self._run("--from", "head", "--http", "127.0.0.1:0")
        self._starts += 1
        until(lambda: len(self._pages()) == self._starts, self.tailer.log_end)
        self.http = self._pages()[-1]

    def _run(self, *words: str) -> Process:
        words = *words, *self.more, str(self.files)
        return self.arena.cluster.tailer(*words, name=self.name, env=self.env, prefix=self.prefix)

    def goodbye(self) -> None:
        """Everything is delivered and at A2, and nobody waits for this tailer any more."""
        assert self.tailer.stop() == 0, self.tailer.log_end()
        leaving = self._run("--goodbye", "--from", "head")
        assert leaving.wait(PATIENCE_S) == 0, leaving.log_end()

    def placed(self, *writers: Writer) -> bool:
        """These are read, all that this process has read so far, and everything is at A1."""
        return self.lines() >= sum(writer.events for writer in writers) and not self.packets("A0")

    def _pages(self) -> list[str]:
        log = self.arena.cluster.logs / f"{self.name}.log"
        lines = [json.loads(line) for line in log.read_text().splitlines() if '"http"' in line] if log.exists() else []
        return [line["http"] for line in lines if "http" in line]

    def says(self) -> dict[str, Any]:
        """Its page."""
        return page(self.http)

    def value(self, metric: str) -> float:
        """One of its metrics."""
        return float(self.says()["metrics"].get(metric, 0.0))

    def count(self, counter: str) -> int:
        return int(self.says()["counters"].get(counter, 0))

    def packets(self, level: str) -> int:
        """How many packets are at this level and no higher."""
        return int(self.says()["packets"][level])

    def lines(self) -> int:
        """How many lines this process has read and written down."""
        return int(self.value("class_lines{class=2+resend}"))


def page(http: str) -> dict[str, Any]:
    """What a process says at /status."""
    with urllib.request.urlopen(f"http://{http}/status", timeout=PATIENCE_S) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def until(what: Callable[[], object], said: Callable[[], object] = str, patience_s: float = PATIENCE_S) -> float:
    """Wait until it is so; how long it took. `said` is shown if it takes too long."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() < began + patience_s, said()
        time.sleep(0.05)
    return time.monotonic() - began


def is_complete(cluster: Cluster, *more: str) -> None:
    """The audit says so."""
    done = cluster.porter("audit", *more, check=False)
    assert (done.returncode, done.stdout.decode().split()[-1]) == (0, "complete"), done.stdout.decode()


def copies_of(cluster: Cluster) -> list[int]:
    """On how many bucks each packet lies, in their files; as many numbers as packets."""
    nodes = [[part for disk in cluster.disk_folders(i) for part in parts(disk)] for i in range(len(cluster.bucks))]
    return list(copies(nodes).values())


def parts(disk: Path) -> list[Path]:
    """The bucket files on a disk."""
    return [path for path in disk.rglob("*") if path.suffix in (".open", ".closed")]
