"""Packets over ways of 100 kB/s: as long as bytes are taken nothing is cut off, and little is sent more than once."""

from collections import Counter

import pytest
import trio

from tests.simulation.machine import World
from tests.tailer.fake_bucks import FakeBuck, begun, run

RATE = 100_000  # bytes a second, from the tailer to each buck
COPIES = 2


class Way:
    """What a tailer gave to its links."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes: Counter[str] = Counter()
        note = world.network.trace.note

        def counted(*what: object) -> None:
            match what:
                case "tailer", str(target), int(size), *_:
                    self.bytes[target] += size
            note(*what)

        monkeypatch.setattr(world.network.trace, "note", counted)


def slow_down(world: World, bucks: list[FakeBuck]) -> None:
    for buck in bucks:
        world.network.rates["tailer", buck.name] = RATE


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("bucks_count", "size", "count"), [(2, 256 << 10, 40), (3, 256 << 10, 60), (4, 512 << 10, 30)])
def test_full_packets_get_through_and_no_link_is_ended_by_us(
    bucks_count: int, size: int, count: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, bucks_count)
        links = [buck.asker for buck in tailer.members.linked()]
        slow_down(world, bucks)
        way = Way(world, monkeypatch)
        await tailer.send(count, size=size)
        needed = COPIES * count * size
        await tailer.until_placed(3 * needed / RATE / bucks_count + 60)
        assert [buck.asker for buck in tailer.members.linked()] == links, "the links of before"
        assert tailer.sender.counters["link_lost"] == 0
        assert way.bytes.total() <= 1.5 * needed, (way.bytes, tailer.sender.counters)

    run(scenario, seed)


def test_a_slow_way_beside_fast_ones_is_no_reason_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 4)
        slow_down(world, bucks[:1])
        way = Way(world, monkeypatch)
        await tailer.send(100, size=256 << 10)
        await tailer.until_placed(20)
        assert tailer.sender.counters["link_lost"] == 0
        assert way.bytes.total() <= 1.5 * COPIES * 100 * (256 << 10), (way.bytes, tailer.sender.counters)

    run(scenario, 1)
