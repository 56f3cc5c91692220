"""A handful of bucks in a simulated world, and what one asks about them: for scenarios of members and copies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from buck.node import run_node
from buck.settings import BuckSettings
from porter.audit import Audit, Found, audit, look_at_bucks
from porter.cluster import Cluster, open_cluster
from porter.settings import PorterSettings
from protocol.identity import NodeKey
from service.units import Address
from service.web import fetch
from tailer.agent import run_tailer
from tailer.settings import TailerSettings
from tests.simulation.machine import SimMachine, World

LISTEN, HTTP = 7000, 7001
PATIENCE_S = 400.0
WIDTH = 20


def lines(count: int, seed: int = 0) -> bytes:
    return b"".join(b"2023-11-14T22:13:%02dZ web-1 app[%d]: request %d.%d done\n" % (i % 60, i % 7, seed, i)
                    for i in range(count))  # fmt: skip


class Fleet:
    """Bucks b1, b2, ... on hosts of their names; the first is who the others join."""

    def __init__(self, world: World, nursery: trio.Nursery, count: int, zones: str = "", **more: object) -> None:
        self.world = world
        self.nursery = nursery
        self.names = [f"b{number}" for number in range(1, count + 1)]
        self.zones = zones
        self.more = more
        self.processes: dict[str, SimMachine] = {}

    async def start(self, *names: str) -> None:
        """Start these, or all."""
        for name in names or self.names:
            self.processes[name] = self.world.host(name).start(self.nursery, self._main)
        await trio.sleep(3)

    async def _main(self, machine: SimMachine) -> None:
        number = self.names.index(machine.host)
        settings = BuckSettings.model_validate(
            {"listen": Address("0.0.0.0", LISTEN), "http": Address("0.0.0.0", HTTP), "disk": ("/disk",),
             "join": [Address(name, LISTEN) for name in self.names[:1] if name != machine.host],
             "zone": self.zones[number : number + 1], "width": WIDTH, "insecure": True, **self.more}
        )  # fmt: skip
        await run_node(machine, settings, trio.Event(), lambda here, there: None)

    def add(self, name: str) -> None:
        self.names.append(name)

    def kill(self, name: str) -> None:
        self.processes[name].kill()

    async def status(self, name: str) -> dict[str, Any]:
        """Its own page."""
        found: dict[str, Any] = json.loads(await fetch(self.world.machine("looker"), name, HTTP, "/status"))
        return found

    async def until(self, what: Callable[[], Awaitable[bool]]) -> float:
        """Wait until it is so; how long that took, in virtual seconds."""
        begin = trio.current_time()
        with trio.fail_after(PATIENCE_S):
            while not await what():  # noqa: ASYNC110  # what it waits for is in another process
                await trio.sleep(1)
        return trio.current_time() - begin

    async def send(self, data: bytes, name: str = "web-1", **more: object) -> int:
        """A tailer that reads a file to its end; its exit code."""
        codes: list[int] = []
        logs = self.world.machine(name).disk
        logs.mkdirs("/var/log")
        logs.open_append("/var/log/app.log").write(data)

        async def main(machine: SimMachine) -> None:
            codes.append(await run_tailer(machine, self.tailing(once=True, **more), trio.Event()))

        await self.world.host(name).start(self.nursery, main).ended.wait()
        return codes[0]

    def follow(self, name: str = "web-1", **more: object) -> SimMachine:
        """A tailer that goes on."""

        async def main(machine: SimMachine) -> None:
            await run_tailer(machine, self.tailing(**({"from": "head"} | more)), trio.Event())

        return self.world.host(name).start(self.nursery, main)

    def tailing(self, **more: object) -> TailerSettings:
        fixed = {"files": ("/var/log/*.log",), "to": [Address(self.names[0], LISTEN)], "journal": "/journal",
                 "insecure": True}  # fmt: skip
        return TailerSettings.model_validate(fixed | more)

    @asynccontextmanager
    async def porter(self) -> AsyncIterator[Cluster]:
        """A job's view of the cluster as it is now."""
        live = next(name for name in self.names if self.processes[name].alive)
        settings = PorterSettings(peer=(Address(live, LISTEN),), insecure=True, key="/porter.key")
        async with open_cluster(self.world.machine("porter"), settings, NodeKey.from_seed(bytes(32))) as cluster:
            yield cluster

    async def audit(self, deep: bool = False) -> Audit:
        async with self.porter() as cluster:
            found = Found()
            await look_at_bucks(cluster, found, 0, 0, deep, lambda count, text: None)
            return audit("prod", found)

    async def copies(self) -> dict[int, int]:
        """How many packets have so many copies, of all tailers together."""
        found: dict[int, int] = {}
        for counts in (await self.audit()).copies.values():
            for copies, packets in counts.items():
                if packets:
                    found[copies] = found.get(copies, 0) + packets
        return found
