"""What a simulated cluster's porters do: archive into one store, prune and audit, again and again, whatever happens.

Both porters work on the same archive, at times at the same time; each run is a process that can be killed. What a job
foresees (nobody answers, another porter is faster) ends that run with a line; everything else is a bug.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

import trio

from porter.archive import Archived, Archiver
from porter.archive_audit import look_at_archive
from porter.archived import Archive
from porter.audit import Audit, Found, audit, look_at_bucks
from porter.bucks import Bucks
from porter.cluster import Cluster, open_cluster
from porter.commands import FORESEEN
from porter.objects import MemoryObjects
from porter.prune import prune
from porter.reader import Reader
from porter.repair import repair
from porter.retire import retire
from porter.settings import PorterSettings
from porter.transfer import UnknownFileError, cat, generations
from porter.verdict import CONFLICTING
from protocol.errors import ProtocolError
from protocol.ranges import Ranges
from protocol.secure import Security
from service.authorized import use_files
from service.run import leaves
from service.units import Address
from tests.simulation.cluster import BUCK_PORT, Fleet
from tests.simulation.keys import key_of
from tests.simulation.machine import SimMachine
from tests.simulation.oracle import Copy, let_go

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
        self.pruned = 0
        self.refused: Counter[str] = Counter()

    def start(self) -> None:
        for name in self.fleet.porters:
            self.fleet.keep(name, self._work)

    async def _work(self, machine: SimMachine) -> None:
        jobs = ["archive", "audit"] + ["prune"] * (self.fleet.world.seed % 4 > 0)  # some seeds read from bucks alone
        machine.random.shuffle(jobs)
        while True:
            jobs.append(jobs.pop(0))
            await trio.sleep(machine.random.uniform(*PAUSE_S))
            try:
                async with self.cluster(machine) as cluster:
                    await self._do(jobs[0], machine, cluster)
                    self.done[jobs[0]] += 1
            except* EXPECTED as group:
                self.refused.update(type(error).__name__ for error in leaves(group))

    async def _do(self, job: str, machine: SimMachine, cluster: Cluster) -> None:
        if job == "archive":
            await self.archive(machine, cluster)
        elif job == "prune":
            await self.prune(cluster)
        else:
            found = await self.audit(machine, cluster)
            assert found.verdict.state != CONFLICTING, found.document()

    def cluster(self, machine: SimMachine, role: str = "porter") -> AbstractAsyncContextManager[Cluster]:
        """Links to all bucks, from this machine."""
        peer, files = (Address(machine.random.choice(self.fleet.left_bucks), BUCK_PORT),), self.fleet.files
        fixed = {"key": "/porter.key", "patience": 10.0, "memory": 32_000_000, "insecure": not files}
        settings, key = PorterSettings.model_validate({"peer": peer, **fixed, **files}), key_of(machine.host)
        security = Security(key, settings.env, machine.entropy, machine.time_ns) if files else None
        if security is not None:
            use_files(machine, settings, security.take)
        return open_cluster(machine, settings, key, role, security)

    async def archive(self, machine: SimMachine, cluster: Cluster) -> list[Archived]:
        """All that is there goes into the archive."""
        return await Archiver(machine, cluster, self.objects).run(0, _quiet)

    async def prune(self, cluster: Cluster) -> None:
        """The bucks let go of what is in the archive, whichever of our porters wrote it; `pruned` counts copies."""
        trusted = [key_of(name).public for name in (*self.fleet.porters, "judge")]
        for hour in await prune(cluster, self.objects, 0, _quiet, trusted):
            self.pruned += hour.packets

    async def audit(self, machine: SimMachine, cluster: Cluster) -> Audit:
        """What bucks and archive together can prove."""
        found = Found()
        await look_at_bucks(cluster, found, 0, 0, False, _quiet)  # first: what they let go of meanwhile is seen below
        with Archive(machine, self.objects, cluster.settings.env) as archive:
            await look_at_archive(archive, found)
        return audit(cluster.settings.env, found)

    async def audit_archive(self, machine: SimMachine, deep: bool = False) -> Audit:
        """What the archive can prove, alone."""
        found = Found()
        with Archive(machine, self.objects, "prod") as archive:
            await look_at_archive(archive, found, deep)
        return audit("prod", found)

    async def retire(self, machine: SimMachine, host: str) -> None:
        """An admin says that a buck is gone for good, if anybody ever met it."""
        async with self.cluster(machine, "admin") as cluster:
            if any(member.host == host.encode() for member in cluster.members):
                await retire(cluster, host)

    async def repair(self, cluster: Cluster) -> None:
        """All copies are brought back."""
        done = await repair(cluster, _quiet)
        assert done.whole, done.document()

    async def files_of_bucks(self, machine: SimMachine, cluster: Cluster, host: str, paths: list[str]) -> list[Copy]:
        """Every file that was ever under one of these paths, as the bucks have it; what they let go of: the archive."""
        bucks = Bucks(cluster, cluster.settings.memory)
        if not let_go(map(self.fleet.world.host, self.fleet.bucks)):
            return await _files(Reader(bucks, None), host, paths)
        with Archive(machine, self.objects, "prod") as archive:
            reader = Reader(bucks, archive)
            await reader.prepare()
            return await _files(reader, host, paths)

    async def covered(self, machine: SimMachine) -> Mapping[tuple[bytes, int], Ranges]:
        """The packets that are in the archive."""
        with Archive(machine, self.objects, "prod") as archive:
            return await archive.covers()

    async def rows(self, machine: SimMachine) -> Mapping[tuple[str, bytes], Ranges]:
        """The offsets of each (host, stream) that are in the archive."""
        found: defaultdict[tuple[str, bytes], Ranges] = defaultdict(Ranges)
        with Archive(machine, self.objects, "prod") as archive:
            for name in await archive.parts():
                for row in (await archive.footer(name)).streams:
                    found[row.host.decode(), row.stream] |= row.covered
        return found

    async def files_of_archive(self, machine: SimMachine, host: str, paths: list[str]) -> list[Copy]:
        """The same, as the archive alone has it."""
        with Archive(machine, self.objects, "prod") as archive:
            return await _files(Reader(None, archive), host, paths)


async def _files(reader: Reader, host: str, paths: list[str]) -> list[Copy]:
    found: list[Copy] = []
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
            begins = tuple((0, first) for _, first in copied.begins)
            found.append(Copy(bytes(data), begins + tuple(gap[1:] for gap in copied.gaps)))
    return found
