"""What a porter is told and given."""

import pytest
import trio

from buck import reading
from buck.reading import BucketFacts, Reading, StreamFacts, buckets, covered, listing, streams
from buck.store import Store
from protocol.ranges import Ranges
from tests.buck.making import BUCKET, KEY, OTHER, STREAM, WIDTH, get, in_world, made, make, open_store
from tests.simulation.machine import World


async def close_all(store: Store) -> None:
    for part in store.open_parts():
        await store.close_part(part)


@in_world
async def test_buckets_are_told_with_size_packets_and_arrival(world: World) -> None:
    store = await open_store(world.machine("a"))
    await store.put(made(0))
    await store.put(made(1))
    await store.put(made(0, bucket=BUCKET - WIDTH))
    arrival = store.machine.time_ns()
    one = BucketFacts(BUCKET, len(make(0)) * 2, 2, arrival, False, False)
    two = BucketFacts(BUCKET - WIDTH, len(make(0)), 1, arrival, False, False)
    for _ in range(2):
        found = buckets(store, 0, 1 << 32)
        assert [fact._replace(last_arrival_ns=arrival) for fact in found] == [two, one]
        assert all(0 <= arrival - fact.last_arrival_ns < 1e9 for fact in found)
        assert buckets(store, BUCKET, BUCKET + 1)[0].bucket == BUCKET
        assert buckets(store, BUCKET + 1, BUCKET + 2) == []
        await store.close()
        store = await open_store(world.machine("a"))


@in_world
async def test_a_list_by_path_or_host_names_only_packets_with_such_a_stream(world: World) -> None:
    store = await open_store(world.machine("a"))
    await store.put(made(0, path=b"/a"))
    await store.put(made(1, path=b"/b", stream=b"\2" * 16))
    await store.put(made(2, path=b"/a", host=b"web2"))
    await store.put(made(3, path=b"/a", tailer=OTHER.node))
    for _ in range(2):
        mine, other = (KEY.node, 7), (OTHER.node, 7)
        assert await entries(store) == {mine: Ranges([(0, 3)]), other: Ranges([(3, 4)])}
        assert await entries(store, path=b"/a") == {mine: Ranges([(0, 1), (2, 3)]), other: Ranges([(3, 4)])}
        assert await entries(store, path=b"/b") == {mine: Ranges([(1, 2)])}
        assert await entries(store, host=b"web2") == {mine: Ranges([(2, 3)])}
        assert await entries(store, host=b"web2", path=b"/b") == {}
        await close_all(store)
        for part in store.parts(BUCKET):
            store.cache.forget(part)  # the second time from the footer


async def entries(store: Store, host: bytes = b"", path: bytes = b"") -> dict:
    return {(t, e): numbers for t, e, numbers in (await listing(store, BUCKET, host, path)).entries}


@in_world
async def test_streams_are_told_with_their_intervals(world: World) -> None:
    store = await open_store(world.machine("a"))
    for n in (0, 1, 3):
        await store.put(made(n))
    await close_all(store)
    await store.put(made(2))
    (only,) = await streams(store, BUCKET)
    assert isinstance(only, StreamFacts)
    assert (only.key.host, only.key.path, only.key.id, only.tailer) == (b"web1", b"/var/log/syslog", STREAM, KEY.node)
    assert only.intervals == Ranges([(0, 40)])


@in_world
async def test_coverage_of_a_tailer_spans_buckets_open_and_closed(world: World) -> None:
    store = await open_store(world.machine("a"))
    await store.put(made(0, bucket=BUCKET - WIDTH))
    await store.put(made(1, bucket=BUCKET - WIDTH, tailer=OTHER.node))
    await close_all(store)
    await store.put(made(1))
    await store.put(made(0, epoch=8, offset=500))
    key = (STREAM, b"/var/log/syslog", b"headhash")
    for ids, heads in (((STREAM,), ()), ((), (b"headhash",))):
        found = await covered(store, KEY.node, ids, heads)
        assert found.epochs == {7: Ranges([(0, 2)]), 8: Ranges([(0, 1)])}
        assert found.streams == {key: Ranges([(0, 20), (500, 510)])}
        assert not found.unsure
    assert (await covered(store, KEY.node, (), ())).streams == {}
    assert (await covered(store, KEY.node, (b"\x09" * 16,), ())).streams == {}


@in_world
async def test_coverage_after_a_crash_is_a_lower_bound(world: World) -> None:
    host = world.host("a")
    machine = host.process()
    await (await open_store(machine)).put(made(0))
    machine.kill()
    assert (await covered(await open_store(host.process()), KEY.node, (), ())).unsure


@in_world
async def test_packets_come_in_file_order_in_batches(world: World) -> None:
    store = await open_store(world.machine("a"))
    order = [4, 0, 3, 1, 2]
    for n in order:
        await store.put(made(n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BATCH_BYTES", 2 * len(make(0)))
        under_way = Reading(store, BUCKET, [(KEY.node, 7, Ranges([(0, 4)])), (KEY.node, 7, Ranges([(4, 6)]))])
        batches = []
        while size := await under_way.look():
            batches.append(await under_way.batch())
            assert sum(map(len, batches[-1])) == size
        under_way.close()
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert [data for batch in batches for data in batch] == [make(n) for n in order]
    assert await under_way.missing() == [(KEY.node, 7, Ranges([(5, 6)]))]


@in_world
async def test_a_copy_that_went_bad_is_missing_and_counted_never_sent(world: World) -> None:
    host = world.host("a")
    store = await open_store(host.process())
    for n in range(3):
        await store.put(made(n))
    await close_all(store)
    host.platter.corrupt(store.parts(BUCKET)[0].path, len(make(0)) + 30)
    under_way = Reading(store, BUCKET, [(KEY.node, 7, Ranges([(0, 3)]))])
    assert await under_way.look() == 3 * len(make(0))
    assert await under_way.batch() == [make(0), make(2)]
    assert await under_way.look() == 0
    assert await under_way.missing() == [(KEY.node, 7, Ranges([(1, 2)]))]
    assert store.counts.metrics.values()["bad_reads"] == 1


@in_world
async def test_D10_a_packet_at_the_place_of_another_is_not_sent_in_its_name(world: World) -> None:
    host = world.host("a")
    store = await open_store(host.process())
    await store.put(made(0))
    await store.put(made(1))
    path = store.parts(BUCKET)[0].path
    inode = host.platter.find(path)
    inode.data[:] = make(1) + make(0)
    under_way = Reading(store, BUCKET, [(KEY.node, 7, Ranges([(0, 2)]))])
    assert await under_way.look()
    assert await under_way.batch() == []
    assert await under_way.look() == 0
    assert await under_way.missing() == [(KEY.node, 7, Ranges([(0, 2)]))]


@in_world
async def test_a_part_that_is_closed_while_it_is_read_is_read_to_its_end(world: World) -> None:
    store = await open_store(world.machine("a"))
    for n in range(4):
        await store.put(made(n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BATCH_PACKETS", 1)
        under_way = Reading(store, BUCKET, [(KEY.node, 7, Ranges([(0, 4)]))])
        await under_way.look()
        found = await under_way.batch()
        await store.put(made(4))
        await close_all(store)
        while await under_way.look():
            found += await under_way.batch()
    assert found == [make(n) for n in range(4)]


@in_world
async def test_a_bucket_whose_footer_is_gone_is_listed_from_its_packets(world: World) -> None:
    host = world.host("a")
    store = await open_store(host.process())
    for n in range(3):
        await store.put(made(n))
    await store.close()
    path = store.parts(BUCKET)[0].path
    size = host.process().disk.stat(path).size
    for back in (1, 60, 100):  # the end, the trailer, the body
        host.platter.corrupt(path, size - back)
        store = await open_store(host.process())
        assert (await listing(store, BUCKET, b"", b"")).entries == [(KEY.node, 7, Ranges([(0, 3)]))]
        assert await get(store, Ranges([(0, 3)])) == [make(n) for n in range(3)]
        assert store.counts.metrics.values()["footers_rebuilt"] == 1
        await store.close()
        store = await open_store(host.process())
        await store.indexes(BUCKET)
        assert store.counts.metrics.values()["footers_rebuilt"] == 0, "a scan has made a good one"
        await store.close()
        size = host.process().disk.stat(path).size


@in_world
async def test_the_cache_of_footers_stays_within_its_budget(world: World) -> None:
    store = await open_store(world.machine("a"))
    for step in range(20):
        for n in range(30):
            await store.put(made(n, bucket=BUCKET - step * WIDTH))
    await store.close()
    store = await open_store(world.machine("a"))
    store.cache._budget = 6 * 5000
    for step in range(20):
        assert (await listing(store, BUCKET - step * WIDTH, b"", b"")).entries == [(KEY.node, 7, Ranges([(0, 30)]))]
        store.check()
    assert 0 < store.cache.cost <= 30_000


@in_world
async def test_long_answers_give_others_their_turns(world: World) -> None:
    store = await open_store(world.machine("a"))
    for epoch in range(40):
        await store.put(made(0, epoch=epoch, bucket=BUCKET - WIDTH * (epoch % 4)))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "TURN_PACKETS", 2)
        for ask in (
            lambda: listing(store, BUCKET, b"", b""),
            lambda: streams(store, BUCKET),
            lambda: covered(store, KEY.node, (STREAM,), ()),
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(others)
                await trio.lowlevel.checkpoint()
                before = turns
                await ask()
                assert turns >= before + 2
                nursery.cancel_scope.cancel()
