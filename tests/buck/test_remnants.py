"""Remnants: which there are, what they cost a buck, and reading all of them."""

from __future__ import annotations

import gc
import os
import pathlib
import tracemalloc
from itertools import pairwise

import trio
from hypothesis import given
from hypothesis import strategies as st

from buck.counts import Counts
from buck.pruning import Pruner
from buck.reading import covered, listing
from buck.remnants import AT_ONCE, Names
from buck.store import Store
from protocol.ranges import Ranges
from service.disk import File, Path, RealDisk
from service.machine import RealMachine
from tests.buck.making import BUCKET, KEY, NODE, STREAM, WIDTH, in_world, made, open_store, stating
from tests.simulation.machine import World

buckets = st.integers(0, 12)
OURS = ("buck", "protocol", "service")
FEW, MANY = 20, 60  # buckets that are let go of before memory is looked at, and meanwhile


@given(st.lists(st.tuples(buckets, st.integers(0, 3))), buckets, buckets)
def test_the_names_are_a_set_in_order(added: list[tuple[int, int]], start: int, end: int) -> None:
    names, model = Names("/d1/prod"), set(added)
    for bucket, part in added:
        names.add(bucket, part)
    names.check()
    assert len(names) == len(model)
    assert names.newest == max((bucket for bucket, _ in model), default=-1)
    for bucket in range(13):
        parts = sorted(part for one, part in model if one == bucket)
        assert names.parts(bucket) == [one.name.part for one in names.of(bucket)] == parts
        assert all(names.has(bucket, part) == (part in parts) for part in range(4))
    assert list(names.buckets(start, end)) == sorted({bucket for bucket, _ in model if start <= bucket < end})
    assert [(one.name.bucket, one.name.part) for one in names.all()] == sorted(model)


def test_the_last_bucket_and_part_of_all_fit() -> None:
    names = Names("/d1/prod")
    for bucket, part in (((1 << 32) - 1, 999_999_999), (0, 999_999_999), ((1 << 32) - 1, 0)):
        names.add(bucket, part)
    assert names.newest == (1 << 32) - 1
    assert names.parts(names.newest) == [0, 999_999_999]
    assert list(names.buckets(0, 1 << 32)) == [0, names.newest]


class NoWaits(RealDisk):
    """Files of this host; what they hold need not outlive a power cut."""

    async def fsync(self, file: File) -> None:
        await trio.lowlevel.checkpoint()

    async def fsync_folder(self, path: Path) -> None:
        await trio.lowlevel.checkpoint()

    async def replace(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        await trio.to_thread.run_sync(pathlib.Path(os.fsdecode(path)).write_bytes, data)


class Hasty(RealMachine):
    """This host, without waiting for its devices."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = NoWaits()


async def let_go_of_one(store: Store, bucket: int) -> None:
    """Three packets of a bucket come and are let go of; then what a tailer and a porter ask is answered."""
    packets = [made(bucket + number, bucket=bucket, offset=10 * (bucket + number)) for number in range(3)]
    for packet in packets:
        await store.put(packet)
    assert (await Pruner(store, store.counts).prune(stating(packets, bucket))).parts == 1
    assert (await store.receipt(KEY.node, 7, bucket, False)).held.count == 3
    assert (await listing(store, bucket, b"", b"")).archived


async def test_what_was_let_go_of_leaves_eight_bytes_in_memory(tmp_path: pathlib.Path) -> None:
    store = Store(Hasty(), [str(tmp_path / "d1")], "prod", WIDTH, Counts())
    await store.open(NODE.node)
    start = BUCKET // WIDTH
    tracemalloc.start()
    try:
        for number in range(FEW):
            await let_go_of_one(store, (start + number) * WIDTH)
        await covered(store, KEY.node, [STREAM], [])
        found = [in_memory()]
        for half in (1, 2):  # a table that is grown once, or something that is cached, is in one of them only
            for number in range(FEW + (half - 1) * MANY, FEW + half * MANY):
                await let_go_of_one(store, (start + number) * WIDTH)
            assert (await covered(store, KEY.node, [STREAM], [])).epochs[7].count == 3 * (FEW + half * MANY)
            found.append(in_memory())
    finally:
        tracemalloc.stop()
    await store.close()
    objects, size = (min(later[at] - before[at] for before, later in pairwise(found)) / MANY for at in (0, 1))
    assert objects < 0.1, f"{objects} objects a bucket"
    assert size < 100, f"{size} bytes a bucket"


def in_memory() -> tuple[int, int]:
    """Objects of our types, and bytes that code of ours has asked for since tracing began."""
    gc.collect()
    objects = sum(str(type(one).__module__).split(".")[0] in OURS for one in gc.get_objects())
    ours = [tracemalloc.Filter(True, f"*/{name}/*") for name in OURS]
    return objects, sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(ours).traces)


@in_world
async def test_all_of_them_are_read_some_at_a_time_and_bad_ones_are_counted(world: World) -> None:
    store = await open_store(world.machine("a"), ["/d1", "/d2"])
    count = 2 * AT_ONCE + 3
    packets = [made(number, bucket=BUCKET + number * WIDTH) for number in range(count)]
    for packet in packets:
        await store.put(packet)
        bucket = packet.header.bucket
        await Pruner(store, store.counts).prune(stating([packet], bucket))
    assert (await covered(store, KEY.node, [STREAM], [])).epochs == {7: Ranges([(0, count)])}
    assert [len(volume.remnants) for volume in store.volumes] == [count // 2 + 1, count // 2]
    bad = next(store.volumes[0].remnants.all())
    await world.machine("a").disk.replace(bad.path, b"spoilt")
    found = await covered(store, KEY.node, [STREAM], [])
    assert found.epochs[7].count == count - 1
    assert store.counts.metrics.values()["bad_remnants"] == 1
