"""Seals are kept for ever, and are on the device before their ok."""

import pytest

from buck.counts import Counts
from buck.errors import Declined
from buck.seals import MARK_EVERY, SealStore
from buck.volume import Volume
from protocol.seal import Seal
from service.faults import armed
from tests.buck.making import KEY, NODE, OTHER, WIDTH, in_world, seal
from tests.simulation.machine import SimMachine, World

PATH = f"/d1/prod/seals/{KEY.node.hex()}.seals"


async def opened(machine: SimMachine, roots: tuple[str, ...] = ("/d1",)) -> SealStore:
    counts = Counts()
    volumes = [Volume(machine, root, "prod", counts) for root in roots]
    for volume in volumes:
        await volume.open(NODE.node, WIDTH)
    return SealStore(machine, volumes, "prod", WIDTH, counts)


async def put(store: SealStore, data: bytes) -> None:
    await store.put(Seal.read(data), data)


async def read(store: SealStore, tailer: bytes = b"", since: int = 0) -> list[bytes]:
    batches = await store.batches(tailer, since)
    found: list[bytes] = []
    while batch := await batches.next():
        found += batch
    return found


@in_world
async def test_a_seal_survives_a_power_cut_right_after_its_ok(world: World) -> None:
    for seed in range(20):
        host = world.host(f"host{seed}")
        await put(await opened(host.process()), seal(0))
        host.power_cut()
        host.power_on()
        assert await read(await opened(host.process())) == [seal(0)]


@in_world
async def test_a_seal_is_written_once_and_a_fork_is_kept_and_counted(world: World) -> None:
    store = await opened(world.machine("a"))
    fork = seal(1, time_ns=5)
    for data in (seal(0), seal(1), seal(1), fork, seal(0), fork):
        await put(store, data)
    assert await read(store) == [seal(0), seal(1), fork]
    assert store._counts.metrics.values()["seal_forks"] == 1


@in_world
async def test_seals_are_asked_for_by_tailer_and_number(world: World) -> None:
    host = world.host("a")
    store = await opened(host.process(), ("/d1", "/d2"))
    mine = [seal(n) for n in range(2 * MARK_EVERY + 5)]
    theirs = [seal(n, OTHER) for n in range(3)]
    for data in [*mine, *theirs]:
        await put(store, data)
    for _ in range(2):
        assert await read(store, KEY.node) == mine
        assert await read(store, OTHER.node, 2) == theirs[2:]
        assert await read(store, KEY.node, MARK_EVERY + 1) == mine[MARK_EVERY + 1 :]
        assert await read(store, KEY.node, 9999) == []
        assert sorted(await read(store)) == sorted(mine + theirs)
        assert await read(store, NODE.node) == []
        host.processes[-1].kill()
        store = await opened(host.process(), ("/d1", "/d2"))


@in_world
async def test_seals_that_come_late_are_found_too(world: World) -> None:
    store = await opened(world.machine("a"))
    for n in (5, 6, 0, 7, 1):
        await put(store, seal(n))
    await put(store, seal(6))
    await put(store, seal(0))
    assert await read(store, KEY.node, 6) == [seal(6), seal(7)]
    assert len(await read(store)) == 5


@in_world
async def test_D1_a_torn_seal_is_cut_and_a_damaged_one_costs_only_itself(world: World) -> None:
    host = world.host("a")
    machine = host.process()
    store = await opened(machine)
    for n in range(3):
        await put(store, seal(n))
    whole = machine.disk.read_bytes(PATH)
    machine.kill()
    host.platter.corrupt(PATH, len(whole) // 2)
    host.platter.find(PATH).data += b"BUKR\0\0"
    store = await opened(host.process())
    assert await read(store) == [seal(0), seal(2)]
    await put(store, seal(1))
    assert await read(store) == [seal(0), seal(2), seal(1)]
    assert host.process().disk.stat(PATH).size > len(whole)


@in_world
async def test_a_failed_fsync_of_a_seal_is_no_ok_and_another_disk_takes_it(world: World) -> None:
    host = world.host("a")
    store = await opened(host.process(), ("/d1", "/d2"))
    host.platter.fsync_failures = 1
    await put(store, seal(0))
    assert sum(volume.healthy for volume in store._volumes) == 1
    assert seal(0) in await read(store)
    host.platter.fsync_failures = 1
    with pytest.raises(Declined, match="no disk takes a seal"):
        await put(store, seal(1))


@in_world
async def test_seals_of_another_env_or_width_are_declined(world: World) -> None:
    store = await opened(world.machine("a"))
    for data, reason in ((seal(0, env="staging"), "env"), (seal(0, width=60), "width")):
        with pytest.raises(Declined) as caught:
            await put(store, data)
        assert caught.value.reason == reason
    assert await read(store) == []


@in_world
async def test_D21_a_seal_cut_short_by_a_kill_is_there_whole_or_not_at_all(world: World) -> None:
    for moment in ("buck.seals.before_append", "buck.seals.before_fsync", "buck.seals.after_fsync"):
        host = world.host(moment)
        machine = host.process()
        store = await opened(machine)
        await put(store, seal(0))
        with armed(moment, action=_die), pytest.raises(_Died):
            await put(store, seal(1))
        machine.kill()
        found = await read(await opened(host.process()))
        assert found[0] == seal(0)
        assert found[1:] in ([], [seal(1)])


class _Died(Exception):
    pass


def _die() -> None:
    raise _Died
