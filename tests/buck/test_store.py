"""Puts, receipts, full and failing disks, and the rhythm of syncing and closing."""

import pytest
import trio

from buck import store as store_module
from buck.errors import Declined
from buck.files import BAD, CLOSED, OPEN
from buck.reading import listing
from buck.store import Store
from protocol.packet import Key
from protocol.ranges import Ranges
from service.faults import armed
from tests.buck.making import BUCKET, KEY, WIDTH, get, in_world, made, make, numbers, open_store
from tests.simulation.machine import START_NS, World


async def receipt(store: Store, sync: bool = False) -> tuple[Ranges, Ranges]:
    found = await store.receipt(KEY.node, 7, BUCKET, sync)
    return found.held, found.synced


def files(world: World, folder: str = "/d1/prod/20231114") -> list[str]:
    return sorted(world.machine("a").disk.listdir(folder))


@in_world
async def test_a_packet_lies_in_the_file_as_it_came(world: World) -> None:
    store = await open_store(world.machine("a"))
    for n in range(3):
        assert (await store.put(made(n))).level == 1
    part = store.parts(BUCKET)[0]
    assert store.machine.disk.read_bytes(part.path) == make(0) + make(1) + make(2)
    assert await get(store, Ranges([(0, 3)])) == [make(0), make(1), make(2)]
    store.check()


@in_world
async def test_the_same_packet_again_is_ok_and_not_written_twice(world: World) -> None:
    store = await open_store(world.machine("a"))
    await store.put(made(0))
    await store.put(made(0))
    assert store.parts(BUCKET)[0].packets == 1
    await store.close_part(store.open_parts()[0])
    again = await store.put(made(0))
    assert again.level == 2, "it is on the device, in a closed part"
    assert len(store.parts(BUCKET)) == 1
    store.cache.forget(store.parts(BUCKET)[0])
    await store.put(made(0))
    assert len(store.parts(BUCKET)) == 1


@in_world
async def test_one_key_with_other_bytes_is_kept_beside_and_counted(world: World) -> None:
    store = await open_store(world.machine("a"))
    await store.put(made(0))
    await store.close_part(store.open_parts()[0])
    await store.put(made(0, b"other"))
    await store.put(made(0, b"third"))
    await store.put(made(0, b"other"))
    assert store.counts.metrics.values()["conflicts"] == 2
    assert sorted(await get(store, Ranges([(0, 1)]))) == sorted([make(0), make(0, b"other"), make(0, b"third")])
    assert (await listing(store, BUCKET, b"", b"")).conflicts == [Key(KEY.node, 7, 0)]


@in_world
async def test_a_late_packet_opens_another_part(world: World) -> None:
    store = await open_store(world.machine("a"))
    await store.put(made(0))
    await store.close_part(store.open_parts()[0])
    await store.put(made(1))
    assert files(world) == ["221500.0.closed", "221500.1.open"]
    assert await numbers(store) == Ranges([(0, 2)])


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({"env": "staging"}, "env"),
        ({"width": 60}, "width"),
        ({"number": (1 << 64) - 1, "offset": 0}, "size"),
    ],
)
def test_what_is_not_of_here_is_declined(what: dict, reason: str) -> None:
    @in_world
    async def scenario(world: World) -> None:
        store = await open_store(world.machine("a"))
        with pytest.raises(Declined) as caught:
            await store.put(made(**what))
        assert caught.value.reason == reason
        assert store.parts(BUCKET) == []

    scenario()


@in_world
async def test_a_packet_with_class_sync_is_on_the_device_before_its_ok(world: World) -> None:
    host = world.host("a")
    store = await open_store(host.process())
    packet = made(0, sync=True)
    assert await store.synced(packet, await store.put(packet)) == 2
    host.power_cut()
    host.power_on()
    assert await numbers(await open_store(host.process())) == Ranges([(0, 1)])


@in_world
async def test_many_who_want_a_sync_share_it(world: World) -> None:
    store = await open_store(world.machine("a"))

    async def put(number: int) -> None:
        packet = made(number, sync=True)
        assert await store.synced(packet, await store.put(packet)) == 2

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(put, number)
    assert store.counts.metrics.values()["syncs"] <= 3


@in_world
async def test_a_receipt_tells_synced_from_held(world: World) -> None:
    store = await open_store(world.machine("a"))
    await store.put(made(0))
    assert await receipt(store) == (Ranges([(0, 1)]), Ranges())
    assert await receipt(store, sync=True) == (Ranges([(0, 1)]), Ranges([(0, 1)]))
    await store.put(made(1))
    assert await receipt(store) == (Ranges([(0, 2)]), Ranges([(0, 1)]))


@in_world
async def test_what_comes_during_an_fsync_is_not_covered_by_it(world: World) -> None:
    store = await open_store(world.machine("a"))
    await store.put(made(0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receipt, store, True)
        await trio.testing.wait_all_tasks_blocked()
        await store.put(made(1))
    held, synced = await receipt(store)
    assert (held, synced) == (Ranges([(0, 2)]), Ranges([(0, 1)]))


@in_world
async def test_D12_a_failed_fsync_is_final_for_its_file_and_its_disk(world: World) -> None:
    host = world.host("a")
    store = await open_store(host.process(), ["/d1", "/d2"])
    for n in range(4):
        await store.put(made(n))
    on_first = {p.name.part: None for p in store.volumes[0].named(BUCKET)}
    assert on_first, "the packets are spread over both disks"
    host.platter.fsync_failures = 1
    await receipt(store, sync=True)
    bad = [volume for volume in store.volumes if not volume.healthy]
    assert len(bad) == 1
    assert [part.name.state for part in bad[0].named(BUCKET)] == [BAD]
    held, synced = await receipt(store, sync=True)
    assert held == synced
    assert 0 < held.count < 4, "what lay on the failed disk isn't ours to promise, whatever a second fsync says"
    assert store.is_unsure(BUCKET)
    for n in range(4):
        await store.put(made(n))  # it is stored anew, on the disk that is well
    held, synced = await receipt(store, sync=True)
    assert held == synced == Ranges([(0, 4)])
    assert sorted(await get(store, Ranges([(0, 4)]))) == sorted(make(n) for n in range(4))
    assert (await listing(store, BUCKET, b"", b"")).conflicts == []


@in_world
async def test_D12_a_sync_packet_whose_fsync_failed_is_put_on_another_disk_before_ok(world: World) -> None:
    host = world.host("a")
    store = await open_store(host.process(), ["/d1", "/d2"])
    host.platter.fsync_failures = 0
    packet = made(0, sync=True)
    stored = await store.put(packet)
    host.platter.fsync_failures = 1
    assert await store.synced(packet, stored) == 2
    assert await receipt(store) == (Ranges([(0, 1)]), Ranges([(0, 1)]))


@in_world
async def test_D12_packets_of_a_bad_part_are_read_after_a_restart_but_count_for_nothing(world: World) -> None:
    host = world.host("a")
    machine = host.process()
    store = await open_store(machine)
    await store.put(made(0))
    host.platter.fsync_failures = 1
    await receipt(store, sync=True)
    machine.kill()
    store = await open_store(host.process())
    assert files(world) == ["221500.0.bad"]
    assert await receipt(store, sync=True) == (Ranges(), Ranges())
    assert store.is_unsure(BUCKET)
    assert await get(store, Ranges([(0, 1)])) == [make(0)]
    await store.put(made(0))
    assert await receipt(store, sync=True) == (Ranges([(0, 1)]), Ranges([(0, 1)]))
    assert await get(store, Ranges([(0, 1)])) == [make(0)]


@in_world
async def test_D11_a_full_disk_at_any_write_leaves_no_half_packet(world: World) -> None:
    host = world.host("a")
    store = await open_store(host.process())
    await store.put(made(0))
    size = len(make(1))
    for room in range(0, size, 7):
        host.platter.capacity = host.platter.used + room
        store.volumes[0].room = store.volumes[0].room._replace(rests_until=0.0)
        with pytest.raises(Declined, match="no room"):
            await store.put(made(1))
        part = store.parts(BUCKET)[0]
        assert store.machine.disk.read_bytes(part.path) == make(0)
    assert store.volumes[0].healthy
    assert await numbers(store) == Ranges([(0, 1)])
    host.platter.capacity = 1 << 40
    await trio.sleep(6)
    await store.put(made(1))
    assert await get(store, Ranges([(0, 2)])) == [make(0), make(1)]


@in_world
async def test_below_the_floor_of_free_space_nothing_is_taken_until_there_is_room(world: World) -> None:
    host = world.host("a")
    store = await open_store(host.process())
    await store.put(made(0))
    host.platter.capacity = host.platter.used * 100 // 98
    await store.tick()
    with pytest.raises(Declined) as caught:
        await store.put(made(1))
    assert caught.value.reason == "full"
    await store.put(made(0))  # what is here is here
    host.platter.capacity = 1 << 40
    await store.tick()
    await store.put(made(1))


@in_world
async def test_a_full_disk_leaves_the_other_to_take_all(world: World) -> None:
    store = await open_store(world.machine("a"), ["/d1", "/d2"])
    store.volumes[0].room = store.volumes[0].room._replace(rests_until=1e9)
    for n in range(6):
        await store.put(made(n))
    assert await numbers(store) == Ranges([(0, 6)])
    assert store.volumes[0].named(BUCKET) == []


@in_world
async def test_when_all_disks_have_failed_a_put_is_declined_at_once(world: World) -> None:
    host = world.host("a")
    store = await open_store(host.process(), ["/d1", "/d2"])

    def broken(operation: str, path: bytes) -> None:
        if operation == "write":
            raise OSError(5, "Input/output error")

    host.platter.before = broken
    with pytest.raises(Declined, match="all disks of this buck have failed"):
        await store.put(made(0))


@in_world
async def test_the_rhythm_syncs_after_the_window_and_closes_when_nothing_comes(world: World) -> None:
    store = await open_store(world.machine("a"))
    await store.put(made(0))
    left = BUCKET + WIDTH - START_NS / 1e9
    await _wait(store, left + 28)
    assert store.open_parts()[0].synced == 0
    await _wait(store, 4)
    assert store.open_parts()[0].synced == store.open_parts()[0].size
    await store.put(made(1))
    await _wait(store, 8)
    assert await receipt(store) == (Ranges([(0, 2)]), Ranges([(0, 1)])), "every 10 s, not more often"
    await _wait(store, 4)
    assert await receipt(store) == (Ranges([(0, 2)]), Ranges([(0, 2)]))
    await _wait(store, 580)
    assert files(world) == ["221500.0.open"], "10 minutes after the last arrival, not the first"
    await _wait(store, 20)
    assert files(world) == ["221500.0.closed"]
    assert await receipt(store) == (Ranges([(0, 2)]), Ranges([(0, 2)]))


async def _wait(store: Store, seconds: float) -> None:
    """Let time pass, ticking as the node does."""
    end = trio.current_time() + seconds
    while trio.current_time() < end:
        await store.tick()
        await trio.sleep(1)


@in_world
async def test_a_bucket_far_ahead_is_synced_and_closed_as_if_its_window_were_now(world: World) -> None:
    store = await open_store(world.machine("a"))
    far = BUCKET + 1000 * WIDTH
    await store.put(made(0, bucket=far))
    await _wait(store, WIDTH + 35)
    assert store.parts(far)[0].synced == store.parts(far)[0].size
    await _wait(store, 600)
    assert store.parts(far)[0].name.state == CLOSED


@in_world
async def test_a_part_that_is_large_enough_is_closed_and_another_begun(world: World) -> None:
    store = await open_store(world.machine("a"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("buck.bucket.PART_SIZE_MAX", 3 * len(make(0)))
        for n in range(7):
            await store.put(made(n))
        await store.tick()
    assert files(world) == ["221500.0.closed", "221500.1.closed", "221500.2.open"]
    assert await get(store, Ranges([(0, 7)])) == [make(n) for n in range(7)]


@in_world
async def test_no_more_parts_are_open_than_allowed_and_the_idlest_is_closed(world: World) -> None:
    store = await open_store(world.machine("a"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "OPEN_PARTS_MAX", 3)
        for step in range(5):
            await store.put(made(0, bucket=BUCKET - step * WIDTH))
            await trio.sleep(1)
            await store.put(made(step + 1))
        store.check()
    assert {part.bucket for part in store.open_parts()} == {BUCKET, BUCKET - 3 * WIDTH, BUCKET - 4 * WIDTH}
    for step in range(5):
        assert (await numbers(store, BUCKET - step * WIDTH)).count >= 1


@in_world
async def test_the_name_of_a_part_is_durable_before_the_first_ok(world: World) -> None:
    for seed in range(20):
        host = world.host(f"host{seed}")
        store = await open_store(host.process())
        await store.put(made(0))
        await store.receipt(KEY.node, 7, BUCKET, True)
        host.power_cut()
        host.power_on()
        assert await numbers(await open_store(host.process())) == Ranges([(0, 1)])


@in_world
async def test_a_part_that_was_closed_is_closed_and_sure_after_a_power_cut(world: World) -> None:
    for seed in range(20):
        host = world.host(f"host{seed}")
        store = await open_store(host.process())
        await store.put(made(0))
        await store.close_part(store.open_parts()[0])
        host.power_cut()
        host.power_on()
        assert not (await open_store(host.process())).is_unsure(BUCKET)


@in_world
async def test_a_clean_stop_with_a_failing_disk_leaves_no_mark(world: World) -> None:
    host = world.host("a")
    store = await open_store(host.process())
    await store.put(made(0))
    host.platter.fsync_failures = 1
    await store.close()
    assert "clean" not in world.machine("a").disk.listdir("/d1/prod")


@in_world
async def test_an_error_while_closing_leaves_what_was_acknowledged_readable(world: World) -> None:
    for moment in ("buck.bucket.before_rename", "buck.bucket.after_rename"):
        store = await open_store(world.machine(moment))
        await store.put(made(0))
        with armed(moment):
            await store.close_part(store.open_parts()[0])
        assert await get(store, Ranges([(0, 1)])) == [make(0)]
        assert store.parts(BUCKET)[0].name.state in (OPEN, CLOSED)


@in_world
async def test_concurrent_puts_of_one_packet_write_it_once(world: World) -> None:
    store = await open_store(world.machine("a"))
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(store.put, made(0))
    assert [part.packets for part in store.parts(BUCKET)] == [1]


@in_world
async def test_indexes_of_open_parts_are_bounded_together(world: World) -> None:
    store = await open_store(world.machine("a"))
    for n in range(60):
        await store.put(made(n, bucket=BUCKET + WIDTH * (n % 6)))
    costs = sorted(part.cost for part in store.open_parts())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "OPEN_COST_MAX", sum(costs[:3]))
        await store.tick()
        assert len(store.open_parts()) == 3
    for n in range(6):
        assert (await numbers(store, BUCKET + WIDTH * n)).count == 10
    store.check()
