"""A whole cluster of the product's own processes on simulated hosts: started, killed, and started again by an init.

Each host runs one thing: `b1`… a buck, `t1`… a tailer with logs that grow, `p1` and `p2` a porter's jobs. What ends by
itself (a disk that failed at the start, say) is started again after a pause, as an init would; what a fault holds down
stays down until that fault, and every other one that holds it, is over.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import trio

import tailer.agent
from buck.node import run_node
from buck.settings import BuckSettings
from service.config import ConfigError
from service.run import leaves
from service.units import Address
from tailer.agent import Agent, run_tailer
from tailer.settings import TailerSettings
from tests.simulation.keys import give_fleet
from tests.simulation.machine import Host, SimMachine, World

BUCK_PORT, HTTP_PORT = 7000, 7001
Main = Callable[[SimMachine], Awaitable[object]]


@dataclass(frozen=True)
class Shape:
    """How large a cluster, and how it is set up."""

    bucks: int
    tailers: int
    disks: int = 1  # a buck
    width: int = 20
    zones: int = 1
    copies: int = 2
    sync: str = "none"
    secure: bool = False


@dataclass
class Started:
    """One host's process, and what keeps it from running."""

    host: Host
    main: Main
    process: SimMachine | None = None
    held: int = 0
    spoilt: bool = False  # a fault of its disk may end it: then it is started again, and nobody wonders
    changed: trio.Event = field(default_factory=trio.Event)
    stop: trio.Event = field(default_factory=trio.Event)
    ends: Counter[str] = field(default_factory=Counter)

    def touch(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class Fleet:
    """All hosts, by name."""

    def __init__(self, world: World, shape: Shape, nursery: trio.Nursery) -> None:
        self.world, self.shape, self.nursery = world, shape, nursery
        self.began = trio.current_time()
        self.bucks = [f"b{number}" for number in range(1, shape.bucks + 1)]
        self.tailers = [f"t{number}" for number in range(1, shape.tailers + 1)]
        self.porters = ["p1", "p2"]
        self.started: dict[str, Started] = {}
        self.agents: dict[str, Agent] = {}  # the running tailers' insides: only to see whether they are done
        self.once: set[str] = set()  # tailers that next read to the end, finish and stop
        self.codes: dict[str, int] = {}
        self.dark: Counter[str] = Counter()  # faults that keep a host without power
        self.gone: set[str] = set()  # bucks that never come back, nor what they held
        self.damaged: set[str] = set()  # bucks on whose disk a fault has changed what was stored
        self.files: dict[str, str] = {}  # settings that name the list of keys and the secret, if links are encrypted
        for name in (*self.bucks, *self.tailers, *self.porters):
            world.host(name)

    # --- processes ------------------------------------------------------------------------------------------------

    async def start_all(self, meet_s: float) -> None:
        """All are started, and kept running: bucks, then tailers; 0 s later no buck has met another yet."""
        if self.shape.secure:
            roles = {"buck": ("/disk0.key", self.bucks), "tailer": ("/journal.key", self.tailers)}
            roles |= {"porter": ("/porter.key", [*self.porters, "judge"]), "admin": ("/porter.key", ["admin"])}
            self.files = await give_fleet(self.world, roles)
        for name in self.bucks:
            self.keep(name, partial(self._buck, name))
        await trio.sleep(meet_s)
        self.began = trio.current_time()
        for name in self.tailers:
            self.keep(name, partial(self._tailer, name))

    def keep(self, name: str, main: Main) -> None:
        """Run this on a host, again whenever it ends."""
        self.started[name] = Started(self.world.host(name), main)
        self.nursery.start_soon(self._run_again_and_again, self.started[name])

    async def _run_again_and_again(self, one: Started) -> None:
        while True:
            while one.held:
                await one.changed.wait()
            one.stop = trio.Event()
            one.process = one.host.start(self.nursery, partial(self._guarded, one))
            await one.process.ended.wait()
            one.process = None
            await trio.sleep(one.host.rng.uniform(0.2, 2.0))

    async def _guarded(self, one: Started, machine: SimMachine) -> None:
        """A process: what it foresees ends it with a line, anything else is a bug and ends the simulation."""
        try:
            await one.main(machine)
        except* (ConfigError, OSError) as group:
            why = "; ".join(str(error) for error in leaves(group))
            if machine.alive and not one.spoilt:
                raise
            one.ends[why] += 1

    async def _buck(self, name: str, machine: SimMachine) -> None:
        shape = self.shape
        others = [Address(other, BUCK_PORT) for other in self.bucks if other != name]
        settings = BuckSettings(
            listen=Address("0.0.0.0", BUCK_PORT),
            http=Address("0.0.0.0", HTTP_PORT),
            disk=tuple(f"/disk{number}" for number in range(shape.disks)),
            join=tuple(others[:2]),
            width=shape.width,
            zone=f"z{self.bucks.index(name) % shape.zones}" if shape.zones > 1 else "",
            insecure=not shape.secure,
            **self.files,
        )
        await run_node(machine, settings, self.started[name].stop, lambda here, there: None)

    async def _tailer(self, name: str, machine: SimMachine) -> None:
        once, number = name in self.once, self.tailers.index(name)
        settings = TailerSettings(
            files=("/var/log/*",),
            to=tuple(Address(self.bucks[(number + step) % len(self.bucks)], BUCK_PORT) for step in range(2)),
            journal="/journal",
            once=once,
            insecure=not self.shape.secure,
            classes=({"path": "/var/log/*", "copies": self.shape.copies, "sync": self.shape.sync},),
            **{"from": "head", **self.files},
        )
        code = await run_tailer(machine, settings, self.started[name].stop)
        if once and machine.alive:
            self.codes[name] = code
            self.hold(name)

    # --- what faults do ---------------------------------------------------------------------------------------------

    def hold(self, name: str) -> None:
        """Keep it from being started, until `release`."""
        self.started[name].held += 1

    def release(self, name: str) -> None:
        """One fault less that holds it down."""
        one = self.started[name]
        one.held -= 1
        one.touch()

    def kill(self, name: str) -> None:
        """SIGKILL; its init starts it again soon, if nobody holds it."""
        process = self.started[name].process
        if process is not None:
            process.kill()

    def cut_power(self, name: str) -> None:
        """The host goes down; it stays down while it is held."""
        self.hold(name)
        self.dark[name] += 1
        self.started[name].host.power_cut()

    def restore_power(self, name: str) -> None:
        """The last fault that cut its power brings it up again."""
        self.dark[name] -= 1
        if not self.dark[name]:
            self.started[name].host.power_on()
        self.release(name)

    def destroy(self, name: str) -> None:
        """The host goes down for ever."""
        self.cut_power(name)
        self.gone.add(name)

    @property
    def left_bucks(self) -> list[str]:
        """Those that are not gone."""
        return [name for name in self.bucks if name not in self.gone]

    def restart(self, name: str) -> None:
        """A stop in order; its init starts it again."""
        self.started[name].stop.set()

    def process(self, name: str) -> SimMachine | None:
        return self.started[name].process if name in self.started else None

    # --- looking ------------------------------------------------------------------------------------------------------

    def watch_agents(self) -> None:
        """From now on each tailer's agent can be looked at by its host's name."""
        fleet = self

        class Seen(Agent):
            async def run(self, stop: trio.Event) -> int:
                fleet.agents[self.machine.host] = self
                return await super().run(stop)

        tailer.agent.Agent = Seen  # type: ignore[misc]  # put back by `stop_watching`

    @staticmethod
    def stop_watching() -> None:
        tailer.agent.Agent = Agent  # type: ignore[misc]  # as it was

    def left(self, name: str) -> str:
        """What a tailer still has to do, in words."""
        agent = self.agents.get(name)
        if agent is None or self.process(name) is None:
            return "it doesn't run"
        waiting = sum(1 for _ in agent.journal.ledger.waiting())
        return f"{agent.sender.waiting} to send, {waiting} not done, seals {sorted(agent.journal.chain.undelivered)}"

    def reads(self, name: str) -> bool:
        """Has this tailer asked the bucks whatever it must after a crash, and begun to read?"""
        agent, process = self.agents.get(name), self.process(name)
        return agent is not None and agent.machine is process and agent._inputs is not None

    def drained(self, name: str) -> bool:
        """Has this tailer nothing left that is not done, and no seal that is not delivered?"""
        agent, process = self.agents.get(name), self.process(name)
        if agent is None or agent.machine is not process:
            return False
        journal = agent.journal
        idle = not agent.sender.waiting and next(journal.ledger.waiting(), None) is None
        return idle and not journal.chain.undelivered
