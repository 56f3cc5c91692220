"""The key file: made once, counted at each start, private, and never used on another machine."""

import pytest
import trio

from service.config import ConfigError
from service.keys import load_key
from tests.simulation.machine import World, simulate

PATH = "/etc/buck/node.key"


def test_a_key_is_made_once_and_each_start_counts():
    async def scenario(world: World):
        first = await load_key(world.machine("a"), PATH)
        second = await load_key(world.machine("a"), PATH)
        mode = world.machine("a").disk.stat(PATH).mode
        return first, second, mode

    first, second, mode = simulate(1, scenario)
    assert (len(first.seed), first.boots, first.fresh, first.moved) == (32, 1, True, False)
    assert second == (first.seed, 2, False, False)
    assert mode & 0o777 == 0o600


def test_who_starts_at_once_makes_one_key_and_each_start_counts():
    async def scenario(world: World):
        host, found = world.host("a"), []

        async def start() -> None:
            found.append(await load_key(host.process(), PATH))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(start)
        return found

    for seed in range(20):
        found = simulate(seed, scenario)
        assert len({key.seed for key in found}) == 1
        assert sorted(key.boots for key in found) == [1, 2, 3, 4, 5]


def test_a_key_file_that_another_process_never_lets_go_of_is_named():
    async def scenario(world: World):
        machine = world.machine("a")
        machine.disk.mkdirs("/etc/buck")
        machine.disk.lock(PATH + ".lock")
        began = machine.now()
        with pytest.raises(ConfigError, match=r"node\.key: the key file is in use by another process .*--key"):
            await load_key(machine, PATH)
        assert machine.now() - began < 15

    simulate(1, scenario)


def test_a_boot_that_was_counted_is_never_given_again():
    async def scenario(world: World):
        host = world.host("a")
        seen = []
        for _ in range(5):
            seen.append((await load_key(host.process(), PATH)).boots)
            host.power_cut()
            host.power_on()
        return seen

    for seed in range(20):
        assert simulate(seed, scenario) == [1, 2, 3, 4, 5]


def test_a_key_readable_by_others_is_refused():
    async def scenario(world: World):
        disk = world.machine("a").disk
        disk.mkdirs("/etc/buck")
        await disk.replace(PATH, b"", mode=0o640)
        with pytest.raises(ConfigError, match=r"chmod 600 /etc/buck/node\.key"):
            await load_key(world.machine("a"), PATH)

    simulate(1, scenario)


def test_another_machines_key_is_put_aside():
    async def scenario(world: World):
        here, there = world.machine("a"), world.machine("b")
        old = await load_key(here, PATH)
        there.disk.mkdirs("/etc/buck")
        await there.disk.replace(PATH, here.disk.read_bytes(PATH))
        new = await load_key(there, PATH)
        assert new.seed != old.seed
        assert (new.boots, new.fresh, new.moved) == (1, True, True)
        assert old.seed.hex().encode() in there.disk.read_bytes(PATH + ".moved")
        assert await load_key(there, PATH) == (new.seed, 2, False, False)

    simulate(1, scenario)


def test_a_machine_without_an_id_keeps_its_key():
    async def scenario(world: World):
        machine = world.machine("a")
        old = await load_key(machine, PATH)
        machine.machine_id = b""
        assert (await load_key(machine, PATH)).seed == old.seed

    simulate(1, scenario)


@pytest.mark.parametrize("text", [b"", b"\xff", b"seed = 1", b'seed = "00"\nboots = 1\nmachine = ""', b"not toml"])
def test_a_damaged_key_is_refused_in_one_line(text):
    async def scenario(world: World):
        disk = world.machine("a").disk
        disk.mkdirs("/etc/buck")
        await disk.replace(PATH, text)
        with pytest.raises(ConfigError, match="not a key file") as caught:
            await load_key(world.machine("a"), PATH)
        assert "\n" not in str(caught.value)

    simulate(1, scenario)


def test_a_full_disk_is_a_configuration_error():
    async def scenario(world: World):
        world.host("a").platter.capacity = 10
        with pytest.raises(ConfigError, match="can't be written: No space left"):
            await load_key(world.machine("a"), PATH)

    simulate(1, scenario)
