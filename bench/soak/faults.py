"""What befalls the soak: one fault every 20 s, each kind in turn, in an order drawn from the seed.

Two processes are measured: the first buck and the first tailer. While their memory is followed they are stopped, cut
off and starved like all others, but not killed, since a process that starts again says nothing about growth; before and
after that they are killed too, and all bucks at once. A tailer is not killed just after files of it were deleted: until
it has noticed and written down that they ended, it can't know after a crash whether it had read all that they held.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from bench import befalling
from bench.befalling import Heal
from bench.cluster import Cluster, Process

MEASURED, FULL, FAR = 0, 1, 2  # the buck that is measured; the one on a small disk; the one behind a slow way
PAUSE_S = (2.0, 8.0)
# After a deletion: a sweep (up to 5 s), the wait for more (5 s), a packet (5 s), a checkpoint (2 s); and the tailer may
# be stopped for as long as a fault lasts.
CALM_S = 30.0


class Jobs(Protocol):
    """The porter's work, which can be killed."""

    def kill(self, name: str) -> bool:
        """Kill that job, in the middle; False if it doesn't run now."""


class Faults:
    """Who is hit next, and what has to be healed when."""

    def __init__(
        self, cluster: Cluster, tailers: dict[str, Process], follow: Callable[[str], Process], jobs: Jobs, seed: int
    ) -> None:
        self.cluster, self.tailers, self.follow, self.jobs = cluster, tailers, follow, jobs
        self.random = random.Random(f"faults {seed}")
        self.count: Counter[str] = Counter()
        self.measuring = False
        self.deleted_at: dict[str, float] = {}  # monotonic; when files of a tailer were deleted last
        self.up_since_us = dict.fromkeys(tailers, time.time_ns() // 1000)
        self._heals: list[tuple[float, Heal]] = []
        self._deck: list[str] = []
        self._kinds: dict[str, Callable[[], Heal | None]] = {
            "kill a buck": lambda: befalling.kill(cluster, self._any(but=MEASURED)),
            "stop a buck": lambda: befalling.stop(befalling.buck(cluster, self._any())),
            "kill a tailer": lambda: self._kill_tailer("b"),
            "stop a tailer": lambda: befalling.stop(self.tailers[self.random.choice(sorted(self.tailers))]),
            "kill an archive run": lambda: befalling.nothing if jobs.kill("archive") else None,
            "kill a prune run": lambda: befalling.nothing if jobs.kill("prune") else None,
            "slow way to a buck": lambda: befalling.slow(cluster, FAR),
            "black hole before a buck": lambda: befalling.cut(cluster, FAR),
            "half-open way to a buck": lambda: befalling.cut(cluster, FAR, back=False),
            "reset a buck's links": lambda: befalling.reset(cluster, FAR),
        }
        if befalling.can_mount():
            self._kinds["full disk of a buck"] = lambda: befalling.fill(cluster.disk_folders(FULL)[0])
        self._hard: dict[str, Callable[[], Heal | None]] = {
            "kill all bucks at once": lambda: befalling.kill_all(cluster),
            "kill the first tailer": lambda: self._kill_tailer("a"),
            "kill the first buck": lambda: befalling.kill(cluster, MEASURED),
        }
        self._hard_deck: list[str] = []

    def strike(self, now: float) -> str:
        """The next fault; '' if there was nobody to hit (it is tried again)."""
        kinds, deck = (self._kinds, self._deck) if self.measuring else (self._hard, self._hard_deck)
        if not deck:
            deck += kinds
            if self.measuring:
                self.random.shuffle(deck)
        for name in list(deck):
            heal = kinds[name]()
            if heal is not None:
                deck.remove(name)
                self.count[name] += 1
                self._heals.append((now + self.random.uniform(*PAUSE_S), heal))
                return name
        return ""

    def heal(self, now: float) -> None:
        """What is due; all of it at the end (`now` infinite)."""
        for one in [one for one in self._heals if one[0] <= now]:
            self._heals.remove(one)
            one[1]()

    def _any(self, but: int | None = None) -> int:
        return self.random.choice([i for i in range(len(self.cluster.bucks)) if i != but])

    def _kill_tailer(self, name: str) -> Heal | None:
        if time.monotonic() < self.deleted_at.get(name, float("-inf")) + CALM_S:
            return None
        self.tailers[name].kill()
        return partial(self._again, name)

    def _again(self, name: str) -> None:
        if not self.tailers[name].running():
            self.tailers[name] = self.follow(name)
            self.up_since_us[name] = time.time_ns() // 1000


def small_disk_folder(root: Path) -> Path:
    """Where the buck that will be full has its disk."""
    return root / f"buck{FULL}" / "disk0"
