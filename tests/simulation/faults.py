"""What goes wrong in a simulated cluster: kinds of faults, a schedule of them drawn from a seed, and doing it.

A fault has a kind, the hosts it befalls, a moment and a length; when its time is over it is undone, but for what can't
be (a bit that flipped, a host that is gone). `draw` takes care that a schedule stays within what the promises cover:
bits rot on one buck only, and one other buck at most has a disk that fails. `str(fault)` is its line in a schedule that
somebody reads.
"""

import errno
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple

import trio

from service import faults as points
from tests.simulation.cluster import Fleet
from tests.simulation.machine import kill_who_runs
from tests.simulation.platter import CAPACITY, FSYNC_S, Folder, Inode

NS = 1_000_000_000
HOUR_NS, DAY_NS = 3600 * NS, 86_400 * NS
SECTOR = 512


class Fault(NamedTuple):
    """One thing that goes wrong at `at` for `length` seconds.

    `does` names one of DOES, `value` is whatever that needs to know, `kind` is what a schedule calls it.
    """

    at: float
    does: str
    names: tuple[str, ...]
    length: float
    value: str | float | None = None
    kind: str = ""

    def __str__(self) -> str:
        value = "" if self.value is None else f" {self.value}"
        names = "".join(f" {name}" for name in self.names)
        return f"{self.at:7.2f} s  {self.kind or self.does}{names}{value}, for {self.length:.2f} s"


@asynccontextmanager
async def kill(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """SIGKILL, and down for a while."""
    for name in fault.names:
        fleet.hold(name)
        fleet.kill(name)
    yield
    for name in fault.names:
        fleet.release(name)


@asynccontextmanager
async def power(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """Without power for a while: what was not fsynced may be gone. With a value all names stay: see `_keep_names`."""
    for name in fault.names:
        if fault.value:
            host = fleet.world.host(name)
            _keep_names(host.platter.root, str(fault.value), host.rng)
        fleet.cut_power(name)
    yield
    for name in fault.names:
        fleet.restore_power(name)


@asynccontextmanager
async def gone(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """Dead for ever, with all that was on its disks."""
    for name in set(fault.names) - fleet.gone:
        fleet.destroy(name)
    yield


@asynccontextmanager
async def restart(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """A stop in order."""
    for name in fault.names:
        fleet.restart(name)
    yield


@asynccontextmanager
async def stop(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """SIGSTOP, then SIGCONT."""
    stopped = [process for name in fault.names if (process := fleet.process(name)) is not None]
    for process in stopped:
        process.freeze()
    yield
    for process in stopped:
        process.thaw()


@asynccontextmanager
async def kill_at(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """SIGKILL of whoever comes first by a named moment."""
    name, nth = str(fault.value).split(":")
    with points.armed(name, int(nth), kill_who_runs):
        yield


@asynccontextmanager
async def cut(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """Ways on which nothing comes through; `value` lists them as `a>b`."""
    ways = [tuple(way.split(">")) for way in str(fault.value).split()]
    network = fleet.world.network
    mine = [way for way in ways if way not in network.cuts]
    for a, b in mine:
        network.cut(a, b, both=False)
    yield
    for way in mine:
        network.cuts.pop(way, None)
    network.touch()


@asynccontextmanager
async def reset(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """Every connection of a host is reset in the middle of what it says."""
    for name in fault.names:
        for other in fleet.world.hosts:
            fleet.world.network.reset(name, other)
    yield


@asynccontextmanager
async def slow(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """So many bytes a second to and from a host, and no more."""
    ways = [way for name in fault.names for way in _ways(fleet, name)]
    fleet.world.network.rates.update(dict.fromkeys(ways, float(str(fault.value))))
    yield
    for way in ways:
        fleet.world.network.rates.pop(way, None)


@asynccontextmanager
async def lag(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """Each piece to and from a host takes up to so many seconds more: a long way, or one that loses much."""
    ways = [way for name in fault.names for way in _ways(fleet, name)]
    fleet.world.network.lags.update(dict.fromkeys(ways, (0.0, float(str(fault.value)))))
    yield
    for way in ways:
        fleet.world.network.lags.pop(way, None)


@asynccontextmanager
async def fsync_fails(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """The next fsync is EIO, its pages are dropped, and the one after that claims to be good."""
    for name in fault.names:
        fleet.started[name].spoilt = True
        fleet.world.host(name).platter.fsync_failures += 1
    yield
    for name in fault.names:
        fleet.world.host(name).platter.fsync_failures = 0


@asynccontextmanager
async def disk_fails(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """Every write, or every read, of one disk is EIO."""
    [name] = fault.names
    operation, prefix = str(fault.value).split()
    fleet.started[name].spoilt = True

    def before(asked: str, path: bytes) -> None:
        if asked == operation and path.startswith(prefix.encode()):
            raise OSError(errno.EIO, "Input/output error", path)

    fleet.world.host(name).platter.before = before
    yield
    fleet.world.host(name).platter.before = lambda operation, path: None
    fleet.kill(name)  # a disk that failed is left until the next start


@asynccontextmanager
async def full(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """So many bytes are left on a host's disk."""
    for name in fault.names:
        fleet.started[name].spoilt = True
        platter = fleet.world.host(name).platter
        platter.capacity = platter.used + int(str(fault.value))
    yield
    for name in fault.names:
        fleet.world.host(name).platter.capacity = CAPACITY


@asynccontextmanager
async def slow_disk(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """Each fsync takes up to so many seconds."""
    for name in fault.names:
        fleet.world.host(name).platter.fsync_s = (0.05, float(str(fault.value)))
    yield
    for name in fault.names:
        fleet.world.host(name).platter.fsync_s = FSYNC_S


@asynccontextmanager
async def rot(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """A stored file changes by itself: a bit flips, or some sectors are what they were before."""
    rng = random.Random(fault.at)
    for name in fault.names:
        platter = fleet.world.host(name).platter
        files = sorted(_files(platter.root, ""))
        stored = [(path, node) for path, node in files if path.endswith((".open", ".closed")) and node.data]
        if stored:
            fleet.damaged.add(name)
            path, node = rng.choice(stored)
            at = rng.randrange(len(node.data))
            if fault.value == "bit":
                platter.corrupt(path, at, 1 << rng.randrange(8))
            else:
                at -= at % SECTOR
                platter.overwrite(path, at, bytes(min(SECTOR * rng.randint(1, 8), len(node.data) - at)))
    yield


@asynccontextmanager
async def skew(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """A wall clock is off by so many seconds."""
    for name in fault.names:
        fleet.world.host(name).clock_offset_ns += int(str(fault.value)) * NS
    yield
    for name in fault.names:
        fleet.world.host(name).clock_offset_ns = 0


@asynccontextmanager
async def jumps(fleet: Fleet, fault: Fault) -> AsyncIterator[None]:
    """A wall clock jumps each second, forward and back."""
    rng = random.Random(fault.at)

    async def jump() -> None:
        while True:
            for name in fault.names:
                fleet.world.host(name).clock_offset_ns = rng.randint(-100 * NS, 100 * NS)
            await trio.sleep(1.0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(jump)
        yield
        nursery.cancel_scope.cancel()
    for name in fault.names:
        fleet.world.host(name).clock_offset_ns = 0


_HOSTS_AND_WAYS = (kill, power, gone, restart, stop, kill_at, cut, reset, slow, lag)
_DISKS = (fsync_fails, disk_fails, full, slow_disk, rot)
_CLOCKS = (skew, jumps)
DOES: dict[str, Callable[[Fleet, Fault], AbstractAsyncContextManager[None]]] = {
    one.__name__: one for one in (*_HOSTS_AND_WAYS, *_DISKS, *_CLOCKS)
}


async def befall(fleet: Fleet, schedule: Sequence[Fault]) -> None:
    """Do all of it, each at its time; returns when all that can be undone is."""
    async with trio.open_nursery() as nursery:
        for fault in schedule:
            nursery.start_soon(_befall_one, fleet, fault)


async def _befall_one(fleet: Fleet, fault: Fault) -> None:
    await trio.sleep_until(fleet.began + fault.at)
    async with DOES[fault.does](fleet, fault):
        await trio.sleep(fault.length)


def _ways(fleet: Fleet, name: str) -> list[tuple[str, str]]:
    others = [other for other in fleet.world.hosts if other != name]
    return [way for other in others for way in ((name, other), (other, name))]


def _keep_names(folder: Folder, how: str, rng: random.Random) -> None:
    """Names are on the device before the data: behind what was synced a file is `empty`, has as many `zeros`, or has
    some of its `sectors`, and zeros in place of the others."""
    folder.fsync()
    for node in folder.names.values():
        if isinstance(node, Folder):
            _keep_names(node, how, rng)
            continue
        if how == "empty":
            del node.data[node.synced :]
        for at in range(node.synced, len(node.data), SECTOR):
            end = min(at + SECTOR, len(node.data))
            if how == "zeros" or rng.random() < 0.5:
                node.data[at:end] = bytes(end - at)
        node.fsync()


def _files(folder: Folder, path: str) -> list[tuple[str, Inode]]:
    found: list[tuple[str, Inode]] = []
    for name, node in folder.names.items():
        where = f"{path}/{name.decode('ascii', 'replace')}"
        found += _files(node, where) if isinstance(node, Folder) else [(where, node)]
    return found
