"""How soon a packet is on two bucks when one dies, stops, vanishes or is slow; and how calmly tailers come back."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
import trio

from protocol.messages import Put
from tailer.asked import ACK_TIMEOUT_S, DOUBT_MAX_S
from tailer.window import ASIDE_MAX, SPARE_MAX
from tailer.window import PACKETS as WINDOW_PACKETS
from tests.simulation.machine import World
from tests.tailer.fake_bucks import FakeBuck, Sending, begun, cluster, run, start_sending, until

BACK_S = 1.0  # from a second buck's return to the last packet that waited for it
ACK_S = 1.0  # the time-out that is promised, and what may come on top
SPARE_S = 0.3


class Stopwatch:
    """A packet every so often, and how long each took to A1."""

    def __init__(self, tailer: Sending) -> None:
        self.tailer = tailer
        self.since: dict[tuple[int, int], float] = {}
        self.took: list[float] = []

    async def send(self, count: int, every_s: float, **options: object) -> None:
        for _ in range(count):
            await self.tailer.send(1, **options)
            for slot in self.tailer.journal.ledger.unplaced:
                self.since.setdefault(slot, self.tailer.machine.now())
            await trio.sleep(every_s)

    async def watch(self) -> None:
        while True:
            await self.tailer.sender.placed.wait()
            now = self.tailer.machine.now()
            for slot in [slot for slot in self.since if slot not in self.tailer.journal.ledger.unplaced]:
                self.took.append(now - self.since.pop(slot))


def killed(world: World, buck: FakeBuck) -> None:
    buck.kill()


def stopped(world: World, buck: FakeBuck) -> None:
    buck.silent = True


def vanished(world: World, buck: FakeBuck) -> None:
    world.network.cut("tailer", buck.name)


@pytest.mark.parametrize(
    ("fault", "most"), [(killed, SPARE_S), (stopped, ACK_S + SPARE_S), (vanished, ACK_S + SPARE_S)]
)
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_C16_the_worst_packet_is_stored_soon_whatever_becomes_of_a_buck(
    fault: Callable[[World, FakeBuck], None], most: float, size: int
) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        watch = Stopwatch(tailer)
        nursery.start_soon(watch.watch)
        nursery.start_soon(lambda: watch.send(80, 0.05, size=size))
        await trio.sleep(1)
        fault(world, bucks[1])
        await trio.sleep(4)
        await tailer.until_placed(10)
        assert len(watch.took) == 80
        assert max(watch.took) <= most, sorted(watch.took)[-20:]

    run(scenario)


@pytest.mark.parametrize(
    ("fault", "size", "most"),
    [
        (stopped, 1000, DOUBT_MAX_S + SPARE_S),
        (stopped, 64 << 10, DOUBT_MAX_S + SPARE_S),
        (vanished, 64 << 10, ACK_S + SPARE_S),  # it takes no more bytes: a frame that has begun is not cut off before
    ],
)
def test_C4_who_keeps_silent_under_load_holds_up_no_packet_of_others(
    fault: Callable[[World, FakeBuck], None], size: int, most: float
) -> None:
    """Far more packets come within the time-out than the window has room for."""

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 4)
        watch = Stopwatch(tailer)
        nursery.start_soon(watch.watch)
        nursery.start_soon(lambda: watch.send(1200, 0.0025, size=size))
        await trio.sleep(1)
        fault(world, bucks[1])
        await trio.sleep(3)
        await tailer.until_placed(10)
        assert len(watch.took) == 1200
        took = sorted(watch.took)
        assert took[-1] <= most
        assert sum(one > 0.1 for one in took) < 90, "only packets that were asked of it, before it was doubted"
        assert tailer.sender.counters["passed_over"] <= SPARE_MAX + ASIDE_MAX

    run(scenario)


def test_C18_the_late_answer_of_a_slow_buck_counts_and_others_are_preferred() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        bucks[0].slow_s = 2.5
        await tailer.send(WINDOW_PACKETS)
        await tailer.until_placed(ACK_S + SPARE_S)
        passed_over = tailer.sender.counters["passed_over"]
        assert 0 < passed_over <= WINDOW_PACKETS
        await trio.sleep(1)
        asked = len(bucks[0].asked)
        await tailer.send(100)
        await tailer.until_placed(1)
        assert not [one for one in bucks[0].asked[asked:] if isinstance(one, Put)], "it is given nothing for a while"
        await trio.sleep(3)
        copies = Counter(len(entry.stored) for entry in tailer.journal.ledger.waiting())
        assert copies == {2: 100 + WINDOW_PACKETS - passed_over, 3: passed_over}
        assert tailer.sender.counters["unanswered"] == 0

    run(scenario)


def test_C18_where_all_bucks_are_slow_hardly_more_is_asked_of_them() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 4)
        for buck in bucks:
            buck.slow_s = 3.0
        await tailer.send(200)
        await tailer.until_placed(50)  # sixteen each three seconds: nobody is left aside
        counters = tailer.sender.counters
        assert counters["unanswered"] == 0
        assert 2 * 200 <= counters["sent"] <= 2 * 200 + SPARE_MAX + 0.1 * counters["sent"]

    run(scenario)


def test_C17_two_bucks_of_which_one_is_silent_are_asked_no_more_than_before() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 2)
        bucks[1].silent = True
        await tailer.send(1)
        await trio.sleep(ACK_TIMEOUT_S + 0.5)
        assert tailer.sender.counters["sent"] == 2
        assert tailer.sender.waiting == 1
        bucks[1].silent = False
        await tailer.until_placed(30)

    run(scenario)


@pytest.mark.parametrize("down_s", [3.0, 20.0, 50.0])
def test_C3_all_bucks_killed_and_restarted_take_what_waited_within_a_second(down_s: float) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        for buck in bucks:
            buck.kill()
        await until(lambda: not tailer.members.linked())
        await tailer.send(30)
        await trio.sleep(down_s)
        bucks[0].start(nursery)
        await trio.sleep(2)
        bucks[1].start(nursery)
        await tailer.until_placed(BACK_S)

    run(scenario)


@pytest.mark.parametrize("down_s", [10.0, 300.0])
@pytest.mark.parametrize("later_s", [0.3, 2.0])
def test_C3_where_one_buck_is_back_the_next_is_found_at_once(down_s: float, later_s: float) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        for buck in bucks:
            buck.kill()
        await trio.sleep(down_s)
        bucks[0].start(nursery)
        await until(tailer.members.linked)
        await trio.sleep(later_s)
        assert len(tailer.members.linked()) == 1
        bucks[1].start(nursery)
        back = tailer.machine.now()
        await until(lambda: len(tailer.members.linked()) == 2)
        assert tailer.machine.now() - back <= SPARE_S

    for seed in range(5):
        run(scenario, seed)


@pytest.mark.parametrize(("count", "down_s"), [(200, 2.0), (10, 90.0)])
def test_C19_two_hundred_tailers_come_back_calmly(count: int, down_s: float) -> None:
    """Soon and not all at once; and while nobody is there they knock ever more rarely."""

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, came = cluster(world, nursery, 2), list[int]()
        tailers = await fleet(world, nursery, bucks, count)
        for buck in bucks:
            buck.kill()
        await until(lambda: not any(tailer.members.linked() for tailer in tailers))
        await trio.sleep(down_s)
        failures = knocks(tailers)
        await trio.sleep(3)
        each_s = (knocks(tailers) - failures) / 3 / count
        assert each_s <= (2 / 0.3 if down_s < 60 else 2 / 2.5), "of two bucks"
        for buck in bucks:
            buck.start(nursery)
        start = tailers[0].machine.now()
        while any(len(tailer.members.linked()) < 2 for tailer in tailers):  # virtual time
            came.append(sum(len(tailer.members.linked()) for tailer in tailers))
            await trio.sleep(0.02)
        took = tailers[0].machine.now() - start
        assert took <= (BACK_S if down_s < 60 else 10.0)
        steps = [later - before for before, later in pairwise(came)]
        assert max(steps) <= 64, "no more at a time than a buck's door lets in"

    run(scenario)


async def fleet(world: World, nursery: trio.Nursery, bucks: list[FakeBuck], count: int) -> list[Sending]:
    """Many tailers, each on a host of its own, linked to all bucks."""
    tailers = [await start_sending(world, nursery, bucks, name=f"tailer{n}") for n in range(count)]
    await until(lambda: all(len(tailer.members.linked()) == len(bucks) for tailer in tailers))
    return tailers


def knocks(tailers: list[Sending]) -> int:
    return sum(tailer.members.counters["link_failures"] for tailer in tailers)
