"""A disk at start-up: whose it is, who uses it, and what a crash has left."""

import pytest
import trio

from buck.counts import Counts
from buck.files import CLOSED, OPEN
from buck.store import Store
from buck.volume import Volume
from protocol.ranges import Ranges
from service.config import ConfigError
from service.faults import armed
from service.machine import BusyError, RealMachine
from tests.buck.making import BUCKET, KEY, NODE, OTHER, WIDTH, get, in_world, made, make, numbers, open_store
from tests.simulation.machine import World


def states(store: Store) -> list[str]:
    return sorted(part.name.state for part in store.parts(BUCKET))


@in_world
async def test_after_a_clean_stop_nothing_is_unsure_and_all_is_there(world: World) -> None:
    host = world.host("a")
    store = await open_store(host.process())
    for n in range(5):
        await store.put(made(n))
    await store.close()
    assert host.process().disk.listdir("/d1/prod/20231114") == ["221500.0.closed"]
    store = await open_store(host.process())
    assert not store.is_unsure(BUCKET)
    assert await numbers(store) == Ranges([(0, 5)])
    assert await get(store, Ranges([(0, 9)])) == [make(n) for n in range(5)]


@in_world
async def test_after_a_kill_an_open_bucket_is_unsure_and_stays_so(world: World) -> None:
    host = world.host("a")
    machine = host.process()
    store = await open_store(machine)
    await store.put(made(0))
    machine.kill()
    for _ in range(2):  # the second start finds nothing open, and must still know
        machine = host.process()
        store = await open_store(machine)
        assert store.is_unsure(BUCKET)
        assert not store.is_unsure(BUCKET + WIDTH)
        receipt = await store.receipt(KEY.node, 7, BUCKET, False)
        assert receipt.held == receipt.synced == Ranges([(0, 1)])
        assert receipt.unsure
        assert states(store) == [CLOSED]
        machine.kill()


@in_world
async def test_D23_a_crash_during_recovery_is_recovered_from(world: World) -> None:
    host = world.host("a")
    machine = host.process()
    store = await open_store(machine)
    for n in range(3):
        await store.put(made(n))
    machine.kill()
    for moment in (
        "buck.volume.after_unsure", "buck.bucket.before_cut", "buck.bucket.after_cut", "buck.bucket.before_footer",
        "buck.bucket.after_footer", "buck.durable.before_fsync", "buck.bucket.before_rename",
        "buck.bucket.after_rename", "buck.volume.recovered",
    ):  # fmt: skip
        machine = host.process()
        with armed(moment, action=_stop), pytest.raises(_Stopped):
            await open_store(machine)
        machine.kill()
    store = await open_store(host.process())
    assert await numbers(store) == Ranges([(0, 3)])
    assert store.is_unsure(BUCKET)
    store.check()


class _Stopped(Exception):
    pass


def _stop() -> None:
    raise _Stopped


@in_world
async def test_D20_a_disk_is_used_by_one_process(world: World) -> None:
    host = world.host("a")
    await open_store(host.process())
    with pytest.raises(BusyError):
        await open_store(host.process())


async def test_D20_a_disk_given_twice_is_refused(tmp_path) -> None:
    with pytest.raises(BusyError):
        await open_store(RealMachine(), [str(tmp_path), str(tmp_path)])


@in_world
async def test_the_disk_of_another_node_is_refused_and_both_are_named(world: World) -> None:
    host = world.host("a")
    await (await open_store(host.process())).close()
    with pytest.raises(ConfigError, match=f"{NODE.node.hex()}.*{OTHER.node.hex()}"):
        await Volume(host.process(), "/d1", "prod", Counts()).open(OTHER.node, WIDTH)


@in_world
async def test_another_width_than_the_disk_has_is_refused(world: World) -> None:
    host = world.host("a")
    await (await open_store(host.process())).close()
    with pytest.raises(ConfigError, match="windows of 300 s, and --width says 60 s"):
        await Volume(host.process(), "/d1", "prod", Counts()).open(NODE.node, 60)


@in_world
async def test_a_disk_may_hold_several_envs(world: World) -> None:
    host = world.host("a")
    await (await open_store(host.process(), env="prod")).close()
    store = await open_store(host.process(), env="staging")
    await store.put(made(0, env="staging"))
    await store.close()
    assert await numbers(await open_store(host.process(), env="prod")) == Ranges()


@in_world
async def test_a_folder_that_can_not_be_written_ends_the_start_in_one_line(world: World) -> None:
    host = world.host("a")

    def readonly(operation: str, path: bytes) -> None:
        if operation in ("open", "mkdirs", "lock") and path.startswith(b"/d1"):
            raise OSError(30, "Read-only file system")

    host.platter.before = readonly
    with pytest.raises(
        ConfigError,
        match=r"/d1: .*Read-only file system; see who may write there \(ls -ld\), or name another by --disk",
    ):
        await open_store(host.process())


@in_world
async def test_files_that_are_none_of_ours_are_left_alone(world: World) -> None:
    host = world.host("a")
    disk = host.process().disk
    disk.mkdirs("/d1/prod/20231114")
    disk.mkdirs("/d1/lost+found")
    for name in ("/d1/prod/20231114/notes.txt", "/d1/prod/20231114/221500.0.open.bak", "/d1/prod/20239999"):
        disk.open_new(name).write(b"hands off")
    store = await open_store(host.process())
    await store.put(made(0))
    await store.close()
    assert disk.read_bytes("/d1/prod/20231114/221500.0.open.bak") == b"hands off"


@in_world
async def test_D31_files_are_not_for_everybody(world: World) -> None:
    machine = world.host("a").process()
    store = await open_store(machine)
    await store.put(made(0))
    assert machine.disk.stat(store.parts(BUCKET)[0].path).mode & 0o777 == 0o640


@in_world
async def test_an_open_part_in_which_nothing_is_good_is_dropped(world: World) -> None:
    host = world.host("a")
    disk = host.process().disk
    disk.mkdirs("/d1/prod/20231114")
    disk.open_new("/d1/prod/20231114/221500.0.open").write(b"torn from the start")
    store = await open_store(host.process())
    assert store.parts(BUCKET) == []
    assert store.is_unsure(BUCKET)
    await store.put(made(0))
    assert states(store) == [OPEN]


@in_world
async def test_who_leaves_while_a_part_is_begun_is_in_nobodys_way(world: World) -> None:
    """A link that is reset ends the put that was to begin a window; the next one must find the name free."""
    host = world.host("a")
    store = await open_store(host.process())
    host.platter.fsync_s = (5.0, 5.0)
    with trio.move_on_after(1.0) as leaving:
        await store.put(made(0))
    assert leaving.cancelled_caught
    assert store.parts(BUCKET) == []
    await store.put(made(0))
    assert store.volumes[0].healthy
    assert await numbers(store) == Ranges([(0, 1)])
    store.check()


@in_world
async def test_a_disk_that_vanishes_at_a_tick_is_left(world: World) -> None:
    host = world.host("a")
    store = await open_store(host.process(), ["/d1", "/d2"])
    await store.put(made(0))

    def gone(operation: str, path: bytes) -> None:
        if path.startswith(b"/d1"):
            raise OSError(5, "Input/output error")

    host.platter.before = gone
    await store.tick()
    assert [volume.healthy for volume in store.volumes] == [False, True]
    await trio.sleep(1)
    await store.tick()
    for n in range(1, 9):
        await store.put(made(n))
    assert (await numbers(store)).covers(1, 9)
