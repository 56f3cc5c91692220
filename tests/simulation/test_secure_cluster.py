"""A whole cluster with keys in a simulated world: a file comes out as it went in, and only for those on the list."""

import pytest
import trio

from buck.node import run_node
from buck.settings import BuckSettings
from porter.bucks import Bucks
from porter.cluster import open_cluster
from porter.reader import Reader
from porter.settings import PorterSettings
from porter.transfer import UnknownFileError
from protocol.secure import Security
from service.authorized import use_files
from service.config import ConfigError
from service.run import DONE, leaves
from service.units import Address
from tailer.agent import run_tailer
from tailer.settings import TailerSettings
from tests.simulation.keys import LISTED, give_key, give_lists, key_of, write
from tests.simulation.machine import SimMachine, World, simulate
from tests.simulation.test_whole_cluster import LINES, PATH, copy

BUCKS = tuple(Address(f"b{number}", 7000) for number in (1, 2, 3))
HOSTS = ("b1", "b2", "b3", "web-1", "porter")
LIST = [f"key {key_of(name).public.hex()} roles=buck" for name in HOSTS[:3]]
LIST += [
    f"key {key_of('web-1').public.hex()} roles=tailer hosts=web-*",
    f"key {key_of('porter').public.hex()} roles=porter",
]


def buck(files: dict[str, str]):
    async def run(machine: SimMachine) -> None:
        join = tuple(address for address in BUCKS if address.host != machine.host)
        fixed = {"listen": Address("0.0.0.0", 7000), "http": Address("127.0.0.1", 7001), "disk": ("/disk",)}
        settings = BuckSettings.model_validate({**fixed, "join": join, **files})
        await run_node(machine, settings, trio.Event(), lambda here, there: None)

    return run


async def start(
    world: World, nursery: trio.Nursery, lines: list[str] = LIST
) -> tuple[dict[str, str], list[SimMachine]]:
    """Three bucks with keys; the settings of all, and the bucks' processes."""
    files = await give_lists(world, HOSTS, lines)
    for name in HOSTS[:3]:
        await give_key(world, name, "/disk.key")
    processes = [world.host(address.host).start(nursery, buck(files)) for address in BUCKS]
    await give_key(world, "web-1", "/journal.key")
    disk = world.machine("web-1").disk
    disk.mkdirs("/var/log")
    disk.open_new(PATH).write(LINES)
    await trio.sleep(3)
    return files, processes


async def tail(world: World, files: dict[str, str], **more: object) -> int | str:
    """`tailer run --once`: its exit code, or why its settings are wrong."""
    ends: list[int | str] = []
    fixed = {"files": ("/var/log/*.log",), "to": BUCKS[:1], "journal": "/journal", "once": True, "patience": 20.0}

    async def once(machine: SimMachine) -> None:
        try:
            settings = TailerSettings.model_validate({**fixed, **files, **more})
            ends.append(await run_tailer(machine, settings, trio.Event()))
        except* ConfigError as group:
            ends.append(str(next(leaves(group))))

    async with trio.open_nursery() as nursery:
        await world.host("web-1").start(nursery, once).ended.wait()
    return ends[0]


async def read(world: World, files: dict[str, str]) -> bytes:
    """The file as a porter reads it back."""
    machine = world.machine("porter")
    settings = PorterSettings.model_validate({"peer": BUCKS[:1], "key": "/porter.key", **files})
    security = Security(key_of("porter"), "prod", machine.entropy, machine.time_ns)
    use_files(machine, settings, security.take)
    async with open_cluster(machine, settings, key_of("porter"), security=security) as cluster:
        assert len(cluster.live) == 3
        try:
            return await copy(Reader(Bucks(cluster, settings.memory), None))
        except UnknownFileError:
            return b""


def test_a_file_comes_back_byte_for_byte_through_encrypted_links() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            files, _ = await start(world, nursery)
            assert await tail(world, files) == DONE
            assert await read(world, files) == LINES
            nursery.cancel_scope.cancel()

    simulate(11, scenario)


def test_A1_a_tailer_whose_key_is_not_listed_is_told_and_delivers_nothing() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            files, _ = await start(world, nursery, [*LIST[:3], LIST[4]])
            why = await tail(world, files)
            assert isinstance(why, str)
            assert "this key is not let in there" in why
            assert await read(world, files) == b""
            nursery.cancel_scope.cancel()

    simulate(12, scenario)


def test_A4_a_peer_in_clear_text_is_refused_and_told_why() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            files, _ = await start(world, nursery)
            why = await tail(world, {}, insecure=True)
            assert isinstance(why, str)
            assert "wants an encrypted link" in why
            settings = PorterSettings(peer=BUCKS[:1], insecure=True, key="/k")
            with pytest.raises(ExceptionGroup) as caught:
                async with open_cluster(world.machine("porter"), settings, key_of("porter")):
                    pass
            assert "wants an encrypted link" in str(next(leaves(caught.value)))
            assert await read(world, files) == b""
            nursery.cancel_scope.cancel()

    simulate(13, scenario)


def test_a_list_read_again_lets_a_new_key_in_and_a_revoked_one_out() -> None:
    """A porter's link is cut at once at SIGHUP; a list with a mistake in it changes nothing."""

    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            files, processes = await start(world, nursery)
            machine = world.machine("porter")
            settings = PorterSettings.model_validate({"peer": BUCKS[:1], "key": "/porter.key", **files})
            security = Security(key_of("porter"), "prod", machine.entropy, machine.time_ns)
            use_files(machine, settings, security.take)
            async with open_cluster(machine, settings, key_of("porter"), security=security) as cluster:
                for text, left in ((["key nonsense"], 3), (LIST[:4], 0)):
                    for process in processes:
                        await write(world, process.host, LISTED, "\n".join(text), 0o644)
                        process.hang_up()
                    await trio.sleep(1)
                    assert len(cluster.live) == left
            for process in processes:
                await write(world, process.host, LISTED, "\n".join(LIST), 0o644)
                process.hang_up()
            await trio.sleep(1)
            assert await read(world, files) == b""  # nothing is there, and nobody is silent
            nursery.cancel_scope.cancel()

    simulate(14, scenario)
