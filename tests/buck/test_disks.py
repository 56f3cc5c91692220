"""Disks that fail, hang, vanish, are swapped or lie: the node leaves them at once, names them, and goes on."""

import errno

import pytest
import trio
import trio.testing

from buck.store import Store
from protocol.ranges import Ranges
from service.config import ConfigError
from tests.buck.making import BUCKET, KEY, get, in_world, made, make, numbers, open_store
from tests.simulation.machine import Host, World, simulate

TWO = ["/d1", "/d2"]


def failing(host: Host, disk: bytes, *operations: str, code: int = errno.EIO) -> None:
    """From now on these operations (or all) fail there."""

    def before(operation: str, path: bytes) -> None:
        if path.startswith(disk) and (not operations or operation in operations):
            raise OSError(code, "Input/output error")

    host.platter.before = before


def well(store: Store) -> list[bool]:
    return [volume.healthy for volume in store.volumes]


def counter(store: Store, name: str) -> float:
    return float(store.counts.metrics.values().get(name, 0))


async def filled(host: Host, count: int = 20) -> Store:
    store = await open_store(host.process(), TWO)
    for n in range(count):
        await store.put(made(n))
    return store


@in_world
async def test_C11_a_disk_that_can_not_be_taken_at_the_start_is_left_and_named(world: World) -> None:
    host = world.host("a")
    await (await filled(host)).close()
    failing(host, b"/d2", "open", "mkdirs", "lock", "listdir")
    store = await open_store(host.process(), TWO)
    assert well(store) == [True, False]
    assert "Input/output error" in store.volumes[1].error
    assert store.is_unsure(BUCKET), "the other disk held some of it"
    for n in range(100, 110):
        await store.put(made(n))
    held = await numbers(store)
    assert held.covers(100, 110)
    assert 10 < held.count < 30
    assert counter(store, "disks_missing") == 1


@in_world
async def test_C12_without_any_disk_the_start_ends_in_one_line(world: World) -> None:
    host = world.host("a")
    await (await filled(host)).close()
    failing(host, b"/d", "open", "mkdirs", "lock", code=errno.EROFS)
    with pytest.raises(ConfigError, match="/d1: the disk can't be used"):
        await open_store(host.process(), TWO)


@in_world
async def test_C13_a_disk_replaced_by_an_empty_one_is_noticed_once_and_its_buckets_are_marked(world: World) -> None:
    host = world.host("a")
    await (await filled(host)).close()
    host.platter.root.names[b"d2"].names.clear()
    for alarms in (1, 0):
        store = await open_store(host.process(), TWO)
        assert counter(store, "disks_missing") == alarms
        assert well(store) == [True, True], "the new disk is used"
        assert store.is_unsure(BUCKET), "and what the old one held may be lacking, also after a restart"
        await store.close()


@in_world
async def test_C13_disks_that_changed_places_are_all_the_same(world: World) -> None:
    host = world.host("a")
    await (await filled(host)).close()
    root = host.platter.root.names
    root[b"d1"], root[b"d2"] = root[b"d2"], root[b"d1"]
    store = await open_store(host.process(), TWO)
    assert await numbers(store) == Ranges([(0, 20)])
    assert not store.is_unsure(BUCKET)
    assert counter(store, "disks_missing") == 0


@in_world
async def test_C13_a_disk_swapped_while_the_buck_runs_is_left(world: World) -> None:
    host = world.host("a")
    store = await filled(host)
    await store.tick()
    other = host.process().disk
    await other.replace("/d2/id", b"00" * 16)
    await trio.sleep(11)
    await store.tick()
    assert well(store) == [True, False]
    assert "another disk" in store.volumes[1].error
    assert store.is_unsure(BUCKET)


@in_world
async def test_C11_a_disk_that_can_not_be_read_is_left_and_the_others_serve(world: World) -> None:
    host = world.host("a")
    store = await filled(host)
    failing(host, b"/d1", "read")
    found = await get(store, Ranges([(0, 20)]))
    assert 5 < len(found) < 15
    assert well(store) == [False, True]
    held = await numbers(store)
    assert held.count == len(found), "what can't be read is claimed no more"
    for n in range(20):
        await store.put(made(n))
    assert await numbers(store) == Ranges([(0, 20)]), "copies that come again go to the disk that is well"


@in_world
async def test_C11_the_marks_of_a_failed_disk_outlive_a_restart_without_it(world: World) -> None:
    host = world.host("a")
    store = await filled(host)
    failing(host, b"/d1")
    store.volumes[0].fail(OSError(errno.EIO, "Input/output error"))
    await store.tick()
    store.release()
    store = await open_store(host.process(), ["/d2"])
    assert store.is_unsure(BUCKET)
    await store.settle(BUCKET)
    store.release()
    assert not (await open_store(host.process(), ["/d2"])).is_unsure(BUCKET)


def test_a_failed_fsync_is_final_even_if_nothing_could_be_written_down_about_it() -> None:
    """The kernel drops pages that could not be written and calls them clean: a later fsync says nothing of them."""

    async def scenario(world: World, renamed: bool) -> None:
        host = world.host("a")
        machine = host.process()
        store = await open_store(machine)
        for n in range(5):
            await store.put(made(n))
        host.platter.fsync_failures = 1
        if not renamed:
            failing(host, b"/d1", "rename", "open")
        assert (await store.receipt(KEY.node, 7, BUCKET, True)).synced == Ranges()
        assert (await store.receipt(KEY.node, 7, BUCKET, True)).synced == Ranges(), "not by asking again either"
        machine.kill()
        host.platter.before = lambda operation, path: None
        store = await open_store(host.process())
        claimed = (await store.receipt(KEY.node, 7, BUCKET, True)).synced
        store.release()
        host.power_cut()
        host.power_on()
        store = await open_store(host.process())
        assert not claimed - await numbers(store), "a receipt was a promise"
        assert claimed == (Ranges() if renamed else Ranges([(0, 5)]))
        good = await get(store, Ranges([(0, 5)]))
        assert sorted(good) == ([] if renamed else [make(n) for n in range(5)])

    for seed in range(8):
        for renamed in (True, False):
            simulate(seed, scenario, renamed)


@in_world
async def test_a_renewal_that_a_crash_cut_short_is_begun_again(world: World) -> None:
    host = world.host("a")
    machine = host.process()
    store = await open_store(machine)
    for n in range(5):
        await store.put(made(n))
    machine.kill()
    disk = host.process().disk
    disk.open_new("/d1/prod/20231114/221500.0.open.new").write(make(0)[:50])
    store = await open_store(host.process())
    assert await numbers(store) == Ranges([(0, 5)])
    assert sorted(disk.listdir("/d1/prod/20231114")) == ["221500.0.closed"]
