"""What can befall a cluster of real processes, and its undoing: each fault by its name, drawn by somebody else.

Every fault is a function of a `Cluster` and of whom it hits; it returns what heals it. Healing twice, or what another
fault has healed already, does nothing: faults overlap.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.cluster import Buck, Cluster, Process

SLOW_RATE = 100_000  # bytes a second

Heal = Callable[[], object]


def nothing() -> None:
    """Healed by itself."""


def buck(cluster: Cluster, i: int) -> Buck:
    found = cluster.bucks[i]
    assert found is not None
    return found


def kill(cluster: Cluster, i: int) -> Heal:
    buck(cluster, i).kill()
    return lambda: buck(cluster, i).running() or cluster.start(i)


def kill_all(cluster: Cluster) -> Heal:
    """All at once; healed in turn."""
    heals = [kill(cluster, i) for i in range(len(cluster.bucks))]
    return lambda: [heal() for heal in heals]


def stop(process: Process) -> Heal:
    """SIGSTOP."""
    _signal(process, signal.SIGSTOP)
    return lambda: _signal(process, signal.SIGCONT)


def _signal(process: Process, number: int) -> None:
    if process.running():
        os.kill(process.pid, number)


def cut(cluster: Cluster, i: int, *, to: bool = True, back: bool = True) -> Heal:
    """A black hole, or half of one: connections stay, nothing passes."""
    cluster.proxies[i].hold(to=to, back=back)
    return cluster.proxies[i].go_on


def slow(cluster: Cluster, i: int, rate: int = SLOW_RATE) -> Heal:
    """A way that carries so many bytes a second, each way of each connection."""
    cluster.proxies[i].rate = rate
    return lambda: setattr(cluster.proxies[i], "rate", 0)


def reset(cluster: Cluster, i: int) -> Heal:
    cluster.proxies[i].reset()
    return nothing


def fill(folder: Path) -> Heal:
    """Leave no byte on a small file system."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(b"x")
    return lambda: filler.unlink(missing_ok=True)


def can_mount() -> bool:
    """Small file systems are for root alone."""
    return os.getuid() == 0


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system in memory of so many bytes, at this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
