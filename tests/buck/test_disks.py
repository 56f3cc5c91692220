"""Disks that fail, hang, vanish, are swapped or lie: the node leaves them at once, names them, and goes on."""

import errno
from collections.abc import Callable

import pytest
import trio
import trio.testing

from buck.errors import Declined
from buck.hands import HUNG_S
from buck.retention import REST_S
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


@in_world
async def test_C33_a_disk_that_hangs_is_passed_over_until_it_answers(world: World) -> None:
    store = await open_store(world.host("a").process(), TWO)
    thawed = trio.Event()

    async def frozen(function: Callable[[], object]) -> object:
        await thawed.wait()
        return function()

    async with trio.open_nursery() as nursery:
        for volume in store.volumes:
            nursery.start_soon(volume.hands.run)
        await trio.testing.wait_all_tasks_blocked()
        for n in range(6):
            await store.put(made(n))
        before = {volume.root: sum(part.packets for part in volume.named(BUCKET)) for volume in store.volumes}
        store.volumes[0].hands.call = frozen  # type: ignore[method-assign, assignment]  # as fsfreeze does it
        started = trio.current_time()
        for n in range(6, 40):
            await store.put(made(n))
        assert trio.current_time() - started < 2 * HUNG_S, "one packet waited, and the others didn't"
        assert [volume.able for volume in store.volumes] == [False, True]
        assert counter(store, "disks_hung") == 1
        assert (await numbers(store)) == Ranges([(0, 40)])
        await store.tick()
        found = await get(store, Ranges([(0, 40)]))
        assert len(found) == 40 - before["/d1"], "what lies there is asked of others"
        thawed.set()
        await trio.sleep(1)
        assert [volume.able for volume in store.volumes] == [True, True]
        for n in range(40, 50):
            await store.put(made(n))
        store.check()
        assert sorted(await get(store, Ranges([(0, 50)]))) != []
        synced = await store.receipt(KEY.node, 7, BUCKET, True)
        assert synced.synced == Ranges([(0, 50)])
        nursery.cancel_scope.cancel()
    assert all(volume.healthy for volume in store.volumes)


@in_world
async def test_a_packet_that_two_bring_at_once_is_stored_once(world: World) -> None:
    """A tailer again over another link while its first put waits for the disk; or a buck that hands it on."""
    store = await open_store(world.host("a").process(), TWO)
    async with trio.open_nursery() as nursery:
        for volume in store.volumes:
            nursery.start_soon(volume.hands.run)
        await trio.testing.wait_all_tasks_blocked()
        await store.put(made(0))
        async with trio.open_nursery() as putting:
            for n in (1, 2, 1, 1, 2):
                putting.start_soon(store.put, made(n))
        nursery.cancel_scope.cancel()
    assert sum(part.packets for part in store.parts(BUCKET)) == 3
    assert counter(store, "packets_repeated") == 3
    assert counter(store, "conflicts") == 0
    store.check()


@pytest.mark.parametrize("left", [True, False])
def test_a_part_that_is_given_up_or_closed_while_packets_are_on_their_way_to_it(left: bool) -> None:
    """Between being chosen and being written: a disk that is left gets no promise, a part that is closed waits."""
    simulate(1, _given_up, left)


async def _given_up(world: World, left: bool) -> None:
    store = await open_store(world.host("a").process(), TWO)
    volume = store.volumes[0]
    async with trio.open_nursery() as nursery:
        for one in store.volumes:
            nursery.start_soon(one.hands.run)
        await trio.testing.wait_all_tasks_blocked()
        for n in range(4):
            await store.put(made(n))
        real, part = volume.hands.call, volume.open_part(BUCKET)
        assert part is not None

        async def meanwhile(function: Callable[[], object]) -> object:
            volume.hands.call = real  # type: ignore[method-assign]  # only the first
            if left:
                volume.fail(OSError(errno.EIO, "the disk"))
            else:
                nursery.start_soon(store.close_part, part)
                await trio.sleep(0.1)
            return await real(function)

        volume.hands.call = meanwhile  # type: ignore[method-assign, assignment]  # something happens before the write
        async with trio.open_nursery() as putting:
            for n in range(4, 20):
                putting.start_soon(store.put, made(n))
        await trio.sleep(1)
        held = (await store.receipt(KEY.node, 7, BUCKET, True)).synced
        nursery.cancel_scope.cancel()
    assert Ranges([(4, 20)]) - held == Ranges(), "what was acknowledged is not vouched for"
    assert part.stopped
    assert volume.healthy is not left
    store.check()


@in_world
async def test_C33_when_all_disks_hang_the_buck_says_that_it_is_slow(world: World) -> None:
    store = await open_store(world.host("a").process(), TWO)

    async def frozen(function: Callable[[], object]) -> object:
        await trio.sleep_forever()
        return function()

    async with trio.open_nursery() as nursery:
        for volume in store.volumes:
            volume.hands.call = frozen  # type: ignore[method-assign, assignment]  # as fsfreeze does it
            nursery.start_soon(volume.hands.run)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Declined, match="slow: no disk of this buck answers"), trio.fail_after(3 * HUNG_S):
            await store.put(made(0))
        nursery.cancel_scope.cancel()


@in_world
async def test_packets_that_come_while_a_disk_is_busy_go_to_it_together(world: World) -> None:
    store = await open_store(world.host("a").process(), TWO)
    hops: list[str] = []
    async with trio.open_nursery() as nursery:
        for volume in store.volumes:
            real = volume.hands.call

            async def counted(function: Callable[[], object], real=real, root: str = volume.root) -> object:
                hops.append(root)
                if hops == ["ready", root]:  # they all come again, while the first are on their way
                    for n in range(2, 62):
                        nursery.start_soon(store.put, made(n))
                    await trio.sleep(0.1)
                return await real(function)

            volume.hands.call = counted  # type: ignore[method-assign, assignment]  # to count the hops
            nursery.start_soon(volume.hands.run)
        await trio.testing.wait_all_tasks_blocked()
        for n in range(2):
            await store.put(made(n))  # each disk has its part
        hops[:] = ["ready"]
        async with trio.open_nursery() as putting:
            for n in (*range(2, 62), 5, 6):
                putting.start_soon(store.put, made(n))
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert 3 <= len(hops) <= 8, "60 packets, all of them twice, two of them three times"
    assert await numbers(store) == Ranges([(0, 62)])
    assert sum(part.packets for part in store.parts(BUCKET)) == 62
    store.check()
    assert sorted(await get(store, Ranges([(0, 62)]))) == sorted(make(n) for n in range(62))


@in_world
async def test_of_packets_that_go_to_a_disk_together_all_are_cut_off_if_one_does_not_fit(world: World) -> None:
    host = world.host("a")
    store = await open_store(host.process(), TWO)
    async with trio.open_nursery() as nursery:
        for volume in store.volumes:
            nursery.start_soon(volume.hands.run)
        await trio.testing.wait_all_tasks_blocked()
        for n in range(2):
            await store.put(made(n))
        writes = 0

        def before(operation: str, path: bytes) -> None:
            nonlocal writes
            if operation == "write" and path.startswith(b"/d1"):
                writes += 1
                if writes == 4:
                    raise OSError(errno.ENOSPC, "No space left on device")

        host.platter.before = before
        async with trio.open_nursery() as putting:
            for n in range(2, 40):
                putting.start_soon(store.put, made(n))
        assert writes == 4, "and the disk rests"
        assert well(store) == [True, True]
        await trio.sleep(REST_S + 1)
        for n in range(40, 60):
            await store.put(made(n))
        assert writes > 4
        nursery.cancel_scope.cancel()
    store.check()
    assert sorted(await get(store, Ranges([(0, 60)]))) == sorted(make(n) for n in range(60))
    store.release()
    again = await open_store(host.process(), TWO)
    assert await numbers(again) == Ranges([(0, 60)])
    assert counter(again, "bytes_skipped") == 0
