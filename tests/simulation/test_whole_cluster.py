"""Everything at once in a simulated world: a file goes in, and comes out of bucks and archive, judged."""

from collections.abc import Awaitable, Callable

import trio

from buck.node import run_node
from buck.settings import BuckSettings
from porter.archive import Archived, Archiver
from porter.archived import Archive
from porter.audit import Found, audit, look_at_bucks
from porter.bucks import Bucks
from porter.cluster import Cluster, open_cluster
from porter.objects import MemoryObjects
from porter.reader import Reader
from porter.settings import PorterSettings
from porter.transfer import cat, generations
from porter.verdict import COMPLETE
from protocol.identity import NodeKey
from service.run import DONE
from service.units import Address
from tailer.agent import run_tailer
from tailer.settings import TailerSettings
from tests.simulation.machine import SimMachine, World, simulate

BUCKS = tuple(Address(f"b{number}", 7000) for number in (1, 2, 3))
LINES = b"".join(b"2023-11-14T22:13:%02dZ web-1 app[%d]: request %d done\n" % (i % 60, i % 7, i) for i in range(2_000))
PATH = "/var/log/app.log"


async def buck(machine: SimMachine) -> None:
    join = tuple(address for address in BUCKS if address.host != machine.host)
    listen, http = Address("0.0.0.0", 7000), Address("0.0.0.0", 7001)
    settings = BuckSettings(listen=listen, http=http, disk=("/disk",), join=join, insecure=True)
    await run_node(machine, settings, trio.Event(), lambda here, there: None)


async def send(world: World, lines: bytes) -> int:
    """A tailer that reads a file to its end; its exit code."""
    codes: list[int] = []
    logs = world.machine("web-1").disk
    logs.mkdirs("/var/log")
    logs.open_new(PATH).write(lines)
    settings = TailerSettings(files=("/var/log/*.log",), to=BUCKS[:1], journal="/journal", once=True, insecure=True)

    async def once(machine: SimMachine) -> None:
        codes.append(await run_tailer(machine, settings, trio.Event()))

    async with trio.open_nursery() as nursery:
        await world.host("web-1").start(nursery, once).ended.wait()
    return codes[0]


async def copy(reader: Reader) -> bytes:
    found = bytearray()

    async def write(data: bytes) -> None:
        found.extend(data)

    streams = await generations(reader, b"web-1", PATH.encode())
    await cat(reader, list(enumerate(streams, 1)), write)
    return bytes(found)


async def look(machine: SimMachine, cluster: Cluster) -> tuple[bytes, bytes, list[Archived], str]:
    """The file from the bucks, from the archive alone, what was archived, and the audit's verdict."""
    objects = MemoryObjects()
    done = await Archiver(machine, cluster, objects).run(0, lambda count, text: None)
    from_bucks = await copy(Reader(Bucks(cluster, cluster.settings.memory), None))
    with Archive(machine, objects, cluster.settings.env) as archive:
        from_archive = await copy(Reader(None, archive))
    found = Found()
    await look_at_bucks(cluster, found, 0, 0, True, lambda count, text: None)
    return from_bucks, from_archive, done, audit(cluster.settings.env, found).verdict.state


def clustered(work: Callable[[World, SimMachine, Cluster], Awaitable[None]]) -> Callable[[World], Awaitable[None]]:
    """A scenario with three bucks and a porter that is connected to them."""

    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            for address in BUCKS:
                world.host(address.host).start(nursery, buck)
            await trio.sleep(3)
            machine = world.machine("porter")
            settings = PorterSettings(peer=BUCKS[:1], insecure=True, key="/porter.key")
            assert await send(world, LINES) == DONE
            async with open_cluster(machine, settings, NodeKey.from_seed(bytes(32))) as cluster:
                await work(world, machine, cluster)
            nursery.cancel_scope.cancel()

    return scenario


def test_a_file_comes_out_of_bucks_and_archive_byte_for_byte_and_is_called_complete() -> None:
    async def work(world: World, machine: SimMachine, cluster: Cluster) -> None:
        from_bucks, from_archive, done, state = await look(machine, cluster)
        assert from_bucks == from_archive == LINES
        assert [(one.rows, one.state, one.short) for one in done if one.rows] == [(2_000, COMPLETE, False)]
        assert state == COMPLETE

    simulate(3, clustered(work))
