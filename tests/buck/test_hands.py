"""Several disks, each with hands of its own: one that hangs is passed over, what comes together goes together."""

import errno
from collections.abc import Callable

import pytest
import trio
import trio.testing

from buck.errors import Declined
from buck.hands import HUNG_S, Hands
from buck.retention import REST_S
from protocol.ranges import Ranges
from tests.buck.making import BUCKET, KEY, WIDTH, get, in_world, made, make, numbers, open_store
from tests.buck.test_disks import TWO, counter, well
from tests.simulation.machine import World, simulate


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
async def test_a_part_that_two_tasks_close_while_its_disk_is_busy_is_closed_once(world: World) -> None:
    """A prune run and the end of the window; the one that waited for less has it, the other finds it closed."""
    store = await open_store(world.host("a").process(), TWO)
    async with trio.open_nursery() as nursery:
        for volume in store.volumes:
            nursery.start_soon(volume.hands.run)
        await trio.testing.wait_all_tasks_blocked()
        for n in range(4):
            await store.put(made(n))
        for volume in store.volumes:
            await volume.begin_part(BUCKET + WIDTH, WIDTH)  # empty: such ones are dropped
        rest = type(store.volumes[0].hands).rest
        for late in (0.0, 0.5):
            for part in store.open_parts():
                hands = store.volume_of(part).hands

                async def waited(hands: Hands = hands, late: float = late) -> None:
                    await rest(hands)
                    await trio.sleep(late)

                hands.rest = waited  # type: ignore[method-assign]  # one task waits for longer than the other
                nursery.start_soon(store.close_part, part)
                await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert not store.open_parts()
    assert counter(store, "parts_closed") == 2
    assert await numbers(store) == Ranges([(0, 4)])
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
