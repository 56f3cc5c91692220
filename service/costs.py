"""What each class of packets costs a process, so that "cheap" and "dear" are figures and not words.

    packets, lines, bytes    counted as they pass over the network and to files, each for its class
    fsyncs                   divided by bytes among the classes whose packets it made durable. Where some of these ask
                             for one before each ack (sync), they caused it: it is divided among them alone
    CPU seconds              the process's own, each second's divided by bytes: what came in, and each copy that went
                             out. So it is apportioned, not measured, and has all that the process does besides

A class is a word here (`2+resend`); what it stands for is protocol/header.py's business.
"""

from collections import Counter
from collections.abc import Callable

import trio

from service.metrics import Metrics

TICK_S = 1.0


class Unsynced:
    """Bytes by class that were written to one file since its last fsync."""

    def __init__(self) -> None:
        self._all: Counter[str] = Counter()
        self._urgent: Counter[str] = Counter()

    def add(self, kind: str, size: int, urgent: bool) -> None:
        """Written."""
        self._all[kind] += size
        if urgent:
            self._urgent[kind] += size

    def take(self) -> dict[str, float]:
        """Class -> its part of the fsync that made all of it durable; they sum up to 1, or there are none."""
        sizes = self._urgent or self._all
        total = sum(sizes.values())
        parts = {kind: size / total for kind, size in sizes.items()} if total else {}
        self._all, self._urgent = Counter(), Counter()
        return parts


class Costs:
    """Counters by class in a process's metrics. `cpu_s` tells how long the process has computed so far."""

    def __init__(self, metrics: Metrics, cpu_s: Callable[[], float]) -> None:
        self.metrics = metrics
        self._cpu_s = cpu_s
        self._cpu_before = cpu_s()
        self._moved: Counter[str] = Counter()  # bytes since the last tick
        self._packets = metrics.counters("class_packets", "Packets, by class.", "class")
        self._lines = metrics.counters("class_lines", "Lines (events) in these packets, by class.", "class")
        self._network = metrics.counters("class_network_bytes", "Bytes of packets sent or received, by class.", "class")
        self._disk = metrics.counters("class_disk_bytes", "Bytes of packets written to files, by class.", "class")
        self._fsyncs = metrics.counters("class_fsyncs", "Fsyncs of these files, divided by bytes, by class.", "class")
        self._cpu = metrics.counters("class_cpu_seconds", "CPU of this process, divided by bytes, by class.", "class")

    def written(self, kind: str, lines: int, size: int, file: Unsynced, urgent: bool) -> None:
        """A packet of so many bytes went to a file; `urgent`: its class asks for an fsync before the ack."""
        file.add(kind, size, urgent)
        self._packets[kind].inc()
        self._lines[kind].inc(lines)
        self._disk[kind].inc(size)
        self._moved[kind] += size

    def moved(self, kind: str, size: int) -> None:
        """A packet of so many bytes went over the network, in or out."""
        self._network[kind].inc(size)
        self._moved[kind] += size

    def synced(self, parts: dict[str, float]) -> None:
        """An fsync, divided (`Unsynced.take`)."""
        for kind, part in parts.items():
            self._fsyncs[kind].inc(part)

    def tick(self) -> None:
        """Divide the CPU time since the last tick. Where nothing moved it waits for who moves something."""
        total = sum(self._moved.values())
        if not total:
            return
        now = self._cpu_s()
        for kind, size in self._moved.items():
            self._cpu[kind].inc(max(0.0, now - self._cpu_before) * size / total)
        self._cpu_before = now
        self._moved = Counter()

    async def run(self) -> None:
        """Tick for ever."""
        while True:
            await trio.sleep(TICK_S)
            self.tick()
