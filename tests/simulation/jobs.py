"""What a simulated cluster's porters do: archive into one store and audit, again and again, whatever happens.

Both porters work on the same archive, at times at the same time; each run is a process that can be killed. What a job
foresees (nobody answers, another porter is faster) ends that run with a line; everything else is a bug.
"""

from collections import Counter
from contextlib import AsyncExitStack

import trio

from porter.archive import Archived, Archiver
from porter.archive_audit import look_at_archive
from porter.archived import Archive
from porter.audit import Audit, Found, audit, look_at_bucks
from porter.bucks import Bucks
from porter.cluster import Cluster, open_cluster
from porter.commands import FORESEEN
from porter.objects import MemoryObjects
from porter.prune import Let, prune
from porter.reader import Reader
from porter.settings import PorterSettings
from porter.transfer import UnknownFileError, cat, generations
from porter.verdict import CONFLICTING
from protocol.errors import ProtocolError
from protocol.secure import Security
from service.authorized import use_files
from service.run import leaves
from service.units import Address
from tests.simulation.cluster import BUCK_PORT, Fleet
from tests.simulation.keys import key_of
from tests.simulation.machine import SimMachine

PAUSE_S = (6.0, 30.0)
EXPECTED = (*FORESEEN, ProtocolError)


def _quiet(count: int, text: str) -> None:
    """Nobody watches the progress."""


class Jobs:
    """The archive of a fleet, and the jobs that look after it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.objects = MemoryObjects()
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def start(self) -> None:
        for name in self.fleet.porters:
            self.fleet.keep(name, self._work)

    async def _work(self, machine: SimMachine) -> None:
        archives = machine.random.random() < 0.5
        while True:
            archives = not archives
            await trio.sleep(machine.random.uniform(*PAUSE_S))
            try:
                async with self.cluster(machine) as cluster:
                    if archives:
                        await self.archive(machine, cluster)
                        self.done["archive"] += 1
                    else:
                        found = await self.audit(cluster)
                        assert found.verdict.state != CONFLICTING, found.document()
                        self.done["audit"] += 1
            except* EXPECTED as group:
                self.refused.update(type(error).__name__ for error in leaves(group))

    def cluster(self, machine: SimMachine) -> "AsyncExitStack":
        """Links to all bucks, from this machine."""
        peer, files = (Address(machine.random.choice(self.fleet.bucks), BUCK_PORT),), self.fleet.files
        fixed = {"key": "/porter.key", "patience": 10.0, "memory": 32_000_000, "insecure": not files}
        settings, key = PorterSettings.model_validate({"peer": peer, **fixed, **files}), key_of(machine.host)
        security = Security(key, settings.env, machine.entropy, machine.time_ns) if files else None
        if security is not None:
            use_files(machine, settings, security.take)
        return open_cluster(machine, settings, key, security=security)

    async def archive(self, machine: SimMachine, cluster: Cluster) -> list[Archived]:
        """All that is there goes into the archive."""
        return await Archiver(machine, cluster, self.objects).run(0, _quiet)

    async def prune(self, cluster: Cluster) -> list[Let]:
        """What is archived goes from the bucks."""
        keys = [key_of(name).public for name in self.fleet.porters]
        return await prune(cluster, self.objects, 0, _quiet, keys)

    async def audit(self, cluster: Cluster, deep: bool = False) -> Audit:
        """What the bucks can prove."""
        found = Found()
        await look_at_bucks(cluster, found, 0, 0, deep, _quiet)
        return audit(cluster.settings.env, found)

    async def audit_archive(self, machine: SimMachine, deep: bool = False) -> Audit:
        """What the archive can prove, alone."""
        found = Found()
        with Archive(machine, self.objects, "prod") as archive:
            await look_at_archive(archive, found, deep)
        return audit("prod", found)

    async def files_of_bucks(self, cluster: Cluster, host: str, paths: list[str]) -> list[bytes]:
        """Every file that was ever under one of these paths, as the bucks have it."""
        return await _files(Reader(Bucks(cluster, cluster.settings.memory), None), host, paths)

    async def files_of_archive(self, machine: SimMachine, host: str, paths: list[str]) -> list[bytes]:
        """The same, as the archive alone has it."""
        with Archive(machine, self.objects, "prod") as archive:
            return await _files(Reader(None, archive), host, paths)


async def _files(reader: Reader, host: str, paths: list[str]) -> list[bytes]:
    found: list[bytes] = []
    for path in paths:
        try:
            streams = await generations(reader, host.encode(), path.encode())
        except UnknownFileError:
            continue
        for stream in streams:
            data = bytearray()

            async def write(piece: bytes, data: bytearray = data) -> None:
                data.extend(piece)

            copied = await cat(reader, [(1, stream)], write)
            assert not copied.clashes, f"{host} {path}: two versions of {copied.clashes}"
            found.append(bytes(data))
    return found
