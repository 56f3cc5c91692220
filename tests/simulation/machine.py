"""Simulated hosts in one trio run: virtual time, a seeded order of everything, a network and disks that fail.

    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            host = world.host("a")
            process = host.start(nursery, main)         # main(machine) runs until it ends, or:
            process.kill()                              # SIGKILL: the page cache stays, peers see a reset
            host.power_cut()                            # what wasn't fsynced is gone, peers see nothing
            host.power_on(); host.start(nursery, main)

    simulate(7, scenario)

The same seed gives the same run, to the byte, in one Python process. A killed process can't do anything any more: its
tasks are cancelled, and whatever their `finally` still tries on its disk is `Killed`.
"""

import hashlib
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, TypeVarTuple

import trio
import trio._core._run as trio_run  # the two names below are what trio's own Hypothesis plug-in uses
from trio.testing import MockClock

from service.machine import Listener, Watch
from service.run import leaves
from tests.simulation.disk import Killed, SimDisk
from tests.simulation.network import Network, SimListener, SimStream
from tests.simulation.platter import Platter
from tests.simulation.trace import Trace
from tests.simulation.watch import SimWatch

__all__ = ["Host", "Killed", "SimMachine", "World", "kill_who_runs", "simulate"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

NS = 1_000_000_000
START_NS = 1_700_000_123 * NS
# Virtual time after which a scenario hangs: when nobody waits for a time any more, the clock jumps here at once.
PATIENCE_S = 365 * 86_400

# Whose code runs now: each process's tasks inherit it.
RUNNING: ContextVar["SimMachine"] = ContextVar("RUNNING")


class SimMachine:
    """The machine as one simulated process sees it."""

    def __init__(self, host: "Host") -> None:
        self.on = host
        self.host = host.name
        self.machine_id = hashlib.sha256(host.name.encode()).digest()[:16]
        self.boot_id = host.boot_id
        self.disk = SimDisk(host.platter)
        self.random = random.Random(host.rng.random())
        self.scope = trio.CancelScope()
        self.ended = trio.Event()

    @property
    def alive(self) -> bool:
        return self.disk.alive

    def entropy(self, n: int) -> bytes:
        return self.random.randbytes(n)

    def time_ns(self) -> int:
        return self.on.time_ns()

    def now(self) -> float:
        return trio.current_time()

    def cpu_s(self) -> float:
        return trio.current_time() / 100  # a hundredth of each second

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        return await self.on.world.network.connect(self, host, port)

    async def listen(self, host: str, port: int) -> Sequence[Listener]:
        await trio.lowlevel.checkpoint()
        return [self.on.world.network.listen(self, host, port)]

    def address_of(self, listener: Listener) -> tuple[str, int]:
        assert isinstance(listener, SimListener)
        return self.host, listener.port

    def near(self, stream: trio.abc.Stream) -> str:
        return self.host

    def peer_of(self, stream: trio.abc.Stream) -> str:
        assert isinstance(stream, SimStream)
        return stream.outgoing.target

    def files_max(self) -> int:
        return 65_536

    @contextmanager
    def hangups(self) -> Iterator[trio.MemoryReceiveChannel[int]]:
        self._hang_up, hangups = trio.open_memory_channel[int](8)
        yield hangups

    def hang_up(self) -> None:
        """SIGHUP, from outside."""
        self._hang_up.send_nowait(1)

    async def slow(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        await trio.lowlevel.checkpoint()
        return function(*args)

    def watch(self) -> Watch | None:
        return SimWatch(self.disk)

    def freeze(self) -> None:
        """SIGSTOP: it reads, sends and waits for nothing any more, and the kernel keeps its connections."""
        if self.disk.thaw is None:
            self.disk.thaw = trio.Event()

    def thaw(self) -> None:
        """SIGCONT."""
        if self.disk.thaw is not None:
            self.disk.thaw.set()
            self.disk.thaw = None

    def kill(self) -> None:
        """SIGKILL, from outside."""
        self._die()
        for stream in self.on.world.network.streams_of(self):
            stream.reset()

    def kill_here(self) -> None:
        """SIGKILL at this very line of the process itself: for a fault point's action."""
        self.kill()
        raise Killed

    def _die(self) -> None:
        self.disk.kill()
        self.scope.cancel()
        network = self.on.world.network
        for listener in [one for one in network.listeners.values() if one.process is self]:
            listener.close()


class Host:
    """A host: a disk, a clock, and the processes that run on it now."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name = world, name
        self.rng = random.Random(world.rng.random())
        self.clock_offset_ns = 0
        self.platter = Platter(self.rng, self.time_ns, world.trace)
        self.boot_id = self.rng.randbytes(16)
        self.processes: list[SimMachine] = []

    def time_ns(self) -> int:
        return self.world.start_ns + round(trio.current_time() * NS) + self.clock_offset_ns

    def process(self) -> SimMachine:
        """A process's machine, for a test that drives it by hand."""
        machine = SimMachine(self)
        self.processes.append(machine)
        return machine

    def start(self, nursery: trio.Nursery, main: Callable[[SimMachine], Awaitable[object]]) -> SimMachine:
        """Run `main(machine)` as a process of this host."""
        machine = self.process()
        nursery.start_soon(_run_process, machine, main)
        return machine

    def power_cut(self) -> None:
        """Everything on this host ends at once; the network and its peers are told nothing."""
        self.world.network.down[self.name] = trio.current_time()
        for process in self.processes:
            process._die()
            for stream in self.world.network.streams_of(process):
                stream.vanish()
        self.platter.power_cut()

    def power_on(self) -> None:
        """Up again, with what the disk kept; its old connections are unknown to it, and reset when a peer uses them."""
        network = self.world.network
        for process in self.processes:
            for stream in network.streams_of(process):
                stream.reset()
        self.processes = []
        self.boot_id = self.rng.randbytes(16)
        network.down.pop(self.name, None)
        network.touch()


class World:
    """All hosts of one scenario, and the network between them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.trace = Trace()
        self.start_ns = START_NS
        self.network = Network(random.Random(self.rng.random()), self.trace)
        self.hosts: dict[str, Host] = {}
        trio.lowlevel.spawn_system_task(self.network.run)

    def host(self, name: str) -> Host:
        if name not in self.hosts:
            self.hosts[name] = Host(self, name)
            self.network.hosts.add(name)
        return self.hosts[name]

    def machine(self, name: str) -> SimMachine:
        """A new process on a host, driven by the test itself."""
        return self.host(name).process()


def kill_who_runs() -> None:
    """SIGKILL the process whose code this is, at this very line: what an armed fault point does in a simulation."""
    RUNNING.get().kill_here()


def simulate(
    seed: int,
    scenario: Callable[..., Awaitable[T]],
    *args: Any,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> T:
    """Run `scenario(world, *args)` to its end in virtual time. A failure names its seed; a deadlock is a failure."""

    async def main() -> T:
        with trio.fail_after(PATIENCE_S):
            return await scenario(World(seed), *args)

    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # Final there, but set by trio's own plug-in
    trio_run._r.seed(seed)
    try:
        return trio.run(main, clock=MockClock(autojump_threshold=0), instruments=instruments)
    except BaseException as error:
        error.add_note(f"simulated with seed {seed}")
        raise
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]  # as above


async def _run_process(machine: SimMachine, main: Callable[[SimMachine], Awaitable[object]]) -> None:
    RUNNING.set(machine)
    try:
        with machine.scope:
            await main(machine)
    except BaseException as error:
        rest = [one for one in leaves(error) if not isinstance(one, Killed)]
        if machine.alive or any(isinstance(one, (AssertionError, trio.Cancelled)) for one in rest):
            raise
        # What a dying process's finally blocks met on the way out: nobody is left to hear of it.
    finally:
        if machine.alive:
            machine.kill()  # a process that ended by itself holds nothing open either
        machine.ended.set()
