"""The store against a dictionary: any sequence of puts, syncs, ticks, closes, kills and power cuts.

What was acknowledged as stored survives a kill, what was acknowledged as synced a power cut; nothing is ever held that
was not put; what a receipt calls synced stays; and all that is listed reads back byte for byte.
"""

from typing import Any

import trio
from hypothesis import given, note
from hypothesis import strategies as st

from buck.errors import Declined
from buck.reading import listing
from buck.store import Store
from protocol.ranges import Ranges
from tests.buck.making import BUCKET, KEY, WIDTH, get, made, make, open_store, read
from tests.simulation.machine import Host, SimMachine, World, simulate

BUCKETS = [BUCKET, BUCKET - WIDTH]
ROOTS = ["/d1", "/d2"]
SMALL = [b"", b"x" * 50, b"y" * 9000]

operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 1), st.integers(0, 9), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("receipt"), st.integers(0, 1), st.booleans()),
        st.tuples(st.just("tick"), st.sampled_from([1, 40, 700])),
        st.tuples(st.just("stop")),
        st.tuples(st.just("kill")),
        st.tuples(st.just("power")),
        st.tuples(st.just("fsync fails")),
        st.tuples(st.just("full"), st.integers(0, 9000)),
        st.tuples(st.just("read")),
    ),
    max_size=25,
)


class Model:
    """What must be there, and what may be."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.machine: SimMachine = host.process()
        self.store: Store | None = None
        self.put_ever: dict[tuple[int, int], set[bytes]] = {}
        self.stored: set[tuple[int, bytes]] = set()  # acknowledged at level 1 or 2
        self.synced: set[tuple[int, bytes]] = set()  # acknowledged at level 2
        self.receipts: set[tuple[int, int]] = set()  # numbers that a receipt called synced
        self.fails = False

    async def apply(self, name: str, *args: Any) -> None:
        if self.store is None:
            self.store = await open_store(self.machine, ROOTS)
        await getattr(self, name.replace(" ", "_"))(self.store, *args)

    async def put(self, store: Store, which: int, number: int, body: int, sync: bool) -> None:
        bucket = BUCKETS[which]
        data = make(number, SMALL[body], bucket=bucket, sync=sync)
        self.put_ever.setdefault((bucket, number), set()).add(data)
        packet = made(number, SMALL[body], bucket=bucket, sync=sync)
        try:
            stored = await store.put(packet)
            self.stored.add((bucket, data))
            if sync and await store.synced(packet, stored) == 2:
                self.synced.add((bucket, data))
        except Declined:
            pass

    async def receipt(self, store: Store, which: int, sync: bool) -> None:
        bucket = BUCKETS[which]
        found = await store.receipt(KEY.node, 7, bucket, sync)
        assert not found.synced - found.held
        for number in found.held.numbers():
            assert (bucket, number) in self.put_ever, "nothing is held that was not put"
        self.receipts |= {(bucket, number) for number in found.synced.numbers()}
        if sync and not self.fails:
            assert found.held == found.synced

    async def tick(self, store: Store, seconds: int) -> None:
        await trio.sleep(seconds)
        await store.tick()

    async def stop(self, store: Store) -> None:
        await store.close()
        await self._again(kill=True)

    async def kill(self, store: Store) -> None:
        await self._again(kill=True)

    async def power(self, store: Store) -> None:
        self.host.power_cut()
        self.host.power_on()
        self.stored = set(self.synced)
        await self._again(kill=False)

    async def _again(self, kill: bool) -> None:
        if kill:
            self.machine.kill()
        self.host.platter.capacity = 1 << 40
        self.host.platter.fsync_failures = 0
        self.machine = self.host.process()
        self.store = None

    async def fsync_fails(self, store: Store) -> None:
        self.host.platter.fsync_failures = 1
        self.fails = True  # what lay on that disk may be gone: from here on only what is held is checked

    async def full(self, store: Store, room: int) -> None:
        self.host.platter.capacity = self.host.platter.used + room

    async def read(self, store: Store) -> None:
        store.check()
        for bucket in BUCKETS:
            listed = (await listing(store, bucket, b"", b"")).entries
            numbers = next((ranges for _, _, ranges in listed), Ranges())
            found = await get(store, numbers, bucket)
            for data in found:
                number = made_number(data)
                assert data in self.put_ever[bucket, number], "every byte is as it was put"
            assert {made_number(data) for data in found} == set(numbers.numbers()), "what is listed is read"
            if not self.fails:
                assert {data for at, data in self.stored if at == bucket} <= set(found)
                assert {number for at, number in self.receipts if at == bucket} <= set(numbers.numbers())


def made_number(data: bytes) -> int:
    return read(data).header.number


@given(st.integers(0, 2**32), operations)
def test_a_store_keeps_what_it_promised(seed: int, steps: list) -> None:
    async def scenario(world: World) -> None:
        model = Model(world.host("a"))
        for step in [*steps, ("read",), ("kill",), ("read",), ("power",), ("read",)]:
            await model.apply(*step)

    note(f"seed {seed}")
    simulate(seed, scenario)
