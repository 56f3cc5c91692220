"""Packets go to two random live bucks, whatever the bucks do."""

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.lowlevel

from protocol.messages import Put
from protocol.packet import Class
from tailer.window import PACKETS as WINDOW_PACKETS
from tests.simulation.machine import World, simulate
from tests.simulation.platter import Folder
from tests.tailer.fake_bucks import FakeBuck, Sending, cluster, start_sending, until
from tests.tailer.journals import EPOCH, FOLDER, draft, open_journal

Scenario = Callable[[World, trio.Nursery], Awaitable[None]]


def run(scenario: Scenario, seed: int = 1) -> None:
    async def main(world: World) -> None:
        async with trio.open_nursery() as nursery:
            await scenario(world, nursery)
            nursery.cancel_scope.cancel()

    simulate(seed, main)


def holders(bucks: list[FakeBuck]) -> Counter[tuple[int, int]]:
    """How many bucks hold each packet."""
    return Counter(slot for buck in bucks for slot in buck.packets)


async def begun(world: World, nursery: trio.Nursery, count: int) -> tuple[list[FakeBuck], Sending]:
    bucks = cluster(world, nursery, count)
    tailer = await start_sending(world, nursery, bucks)
    await until(lambda: len(tailer.members.linked()) == count and tailer.members.heard)
    return bucks, tailer


def test_each_packet_is_on_two_bucks_and_the_pairs_are_random() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 4)
        await tailer.send(300)
        await tailer.until_placed()
        assert set(holders(bucks).values()) == {2}
        assert all(110 < len(buck.packets) < 190 for buck in bucks)
        assert tailer.sender.counters["acked"] == tailer.sender.counters["sent"] == 600
        for entry in tailer.journal.ledger.waiting():
            assert set(entry.stored) == {buck.node for buck in bucks if entry.slot in buck.packets}

    run(scenario)


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_a_class_says_how_many_copies(copies: int) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 4)
        await tailer.send(10, kind=Class(copies=copies))
        await tailer.until_placed()
        await trio.sleep(1)
        assert set(holders(bucks).values()) == {copies}

    run(scenario)


def test_one_buck_is_enough_to_work_and_status_says_so() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 1)
        await tailer.send(50)
        await tailer.until_placed()
        assert tailer.sender.level_text() == "A1 of 1"
        assert set(holders(bucks).values()) == {1}

    run(scenario)


def test_a_second_buck_gets_what_waited_for_it() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 2)
        assert tailer.sender.level_text() == "A1 of 2"
        bucks[1].kill()
        await until(lambda: len(tailer.members.linked()) == 1)
        await tailer.send(100)
        await trio.sleep(60)
        assert len(bucks[0].packets) == 100  # all of them, though the window is smaller: they wait outside of it
        assert tailer.sender.waiting == 100
        bucks[1].start(nursery)
        await tailer.until_placed()
        assert set(holders(bucks).values()) == {2}

    run(scenario)


@pytest.mark.parametrize("reason", ["full", "slow", "draining", "sum", "size", "version"])
def test_what_one_buck_refuses_goes_to_another(reason: str) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        bucks[0].refuse = reason
        await tailer.send(100)
        await tailer.until_placed(10)
        assert not bucks[0].packets
        assert set(holders(bucks).values()) == {2}
        assert tailer.sender.counters[f"refused_{reason}"] > 0
        if reason in ("full", "slow", "draining"):
            assert tailer.sender.counters[f"refused_{reason}"] < 40  # it isn't asked for each packet

    run(scenario)


def test_a_full_buck_is_asked_again_later() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 2)
        bucks[0].refuse = "full"
        await tailer.send(5)
        await trio.sleep(30)
        assert tailer.sender.waiting == 5
        bucks[0].refuse = ""
        await tailer.until_placed(60)

    run(scenario)


def test_a_silent_buck_costs_its_timeout_and_then_nothing_for_a_while() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        bucks[0].silent = True
        start = tailer.machine.now()
        await tailer.send(200)
        await tailer.until_placed(30)
        assert tailer.machine.now() - start < 12
        assert set(holders(bucks).values()) == {2}
        assert tailer.sender.counters["unanswered"] <= 2 * WINDOW_PACKETS
        assert tailer.sender.counters["acked"] == sum(holders(bucks).values())  # its silence hides no other's answer

    run(scenario)


def test_a_slow_buck_is_waited_for() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 2)
        bucks[0].slow_s = 2.0
        await tailer.send(WINDOW_PACKETS)
        await tailer.until_placed(5)
        assert tailer.sender.counters["unanswered"] == 0

    run(scenario)


def test_a_partitioned_buck_is_left_and_comes_back() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        world.network.cut("tailer", "b1")
        await tailer.send(50)
        await tailer.until_placed(60)
        assert set(holders([bucks[0], bucks[2]]).values()) == {2}
        world.network.heal("tailer", "b1")
        await trio.sleep(120)
        await tailer.send(50)
        await tailer.until_placed(30)
        assert bucks[1].packets

    run(scenario)


def test_a_buck_that_dies_under_way_loses_nothing() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        for buck in bucks:
            buck.slow_s = 0.05
        nursery.start_soon(tailer.send, 200)
        await trio.sleep(0.2)
        bucks[0].kill()
        await trio.lowlevel.checkpoint()
        await tailer.until_placed(60)
        alive = holders(bucks[1:])
        for entry in tailer.journal.ledger.waiting():
            assert len(entry.stored) >= 2 or alive[entry.slot] == 2

    run(scenario)


def test_without_any_buck_everything_waits_in_the_journal_and_little_in_memory() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 2)
        for buck in bucks:
            buck.kill()
        await until(lambda: not tailer.members.linked())
        for _ in range(40):
            await tailer.send(1, size=2 << 20)
            await tailer.journal.sync()
        assert tailer.sender._hot_bytes <= 32 << 20
        for buck in bucks:
            buck.start(nursery)
        await tailer.until_placed(120)
        assert set(holders(bucks).values()) == {2}
        assert tailer.sender._hot_bytes == 0

    run(scenario)


def test_other_hosts_and_zones_are_preferred() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = [FakeBuck(world, f"b{index}", index + 1, zone="ab"[index // 2]) for index in range(4)]
        for buck in bucks:
            buck.peers = bucks
            buck.start(nursery)
        tailer = await start_sending(world, nursery, bucks)
        await until(lambda: len(tailer.members.linked()) == 4)
        await trio.sleep(10)
        await tailer.send(100)
        await tailer.until_placed()
        for entry in tailer.journal.ledger.waiting():
            assert {buck.zone for buck in bucks if buck.node in entry.stored} == {"a", "b"}

    run(scenario)


@pytest.mark.parametrize("place", ["host", "zone"])
def test_all_three_copies_are_in_different_places_and_nothing_waits_when_they_can_not_be(place: str) -> None:
    """Two bucks on one host count as one place, as two in one zone do."""

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = [FakeBuck(world, f"b{n}", n + 1, **{place: f"p{n // 2}"}) for n in range(6)]  # type: ignore[arg-type]  # one of two names
        for buck in bucks:
            buck.peers = bucks
            buck.start(nursery)
        tailer = await start_sending(world, nursery, bucks)
        await until(lambda: len(tailer.members.linked()) == 6)
        await trio.sleep(10)
        await tailer.send(60)
        await tailer.until_placed()
        assert (await tailer.mender.finish(patience_s=10)).code == 0
        for slot, copies in holders(bucks).items():
            places = {getattr(buck, place) for buck in bucks if slot in buck.packets}
            assert (copies, len(places)) == (3, 3)
        assert tailer.sender.counters["placed_near"] == 0
        for buck in bucks[2:]:
            buck.kill()
        await until(lambda: len(tailer.members.linked()) == 2)
        await tailer.send(10)
        await tailer.until_placed(5)
        assert tailer.sender.counters["placed_near"] == 10, "and it is said"

    run(scenario)


def test_the_window_bounds_what_is_under_way() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 2)
        for buck in bucks:
            buck.silent = True
        await tailer.send(50, size=1000)
        await trio.sleep(1)
        asked = [message for message in bucks[0].asked if isinstance(message, Put)]
        assert len(asked) == WINDOW_PACKETS

    run(scenario)


def test_a_line_is_stored_within_a_fraction_of_a_second() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        _, tailer = await begun(world, nursery, 3)
        worst = 0.0
        for _ in range(50):
            start = tailer.machine.now()
            await tailer.send(1)
            await tailer.until_placed()
            worst = max(worst, tailer.machine.now() - start)
            await trio.sleep(0.5)
        assert worst < 0.2  # the network's delay, twice: no timer lies on the way

    run(scenario)


def test_a_restart_sends_what_the_last_run_could_not_and_only_that() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 2)
        await tailer.send(10)
        await tailer.until_placed()
        await tailer.journal.sync()
        for buck in bucks:
            buck.kill()
        await until(lambda: not tailer.members.linked())
        await tailer.send(5)
        await tailer.journal.sync()
        tailer.stop()
        tailer.machine.kill()
        for buck in bucks:
            buck.start(nursery)
        tailer = await start_sending(world, nursery, bucks, epoch=2 << 32)
        await tailer.until_placed()
        assert holders(bucks) == {(1 << 32, number): 2 for number in range(15)}
        assert tailer.sender.counters["sent"] == 10
        assert tailer.sender.counters["sent_again"] == 10

    run(scenario)


def test_a_packet_that_was_fetched_before_sending_begins_gets_its_copies() -> None:
    """As after a lost journal: one buck alone has it."""

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        await tailer.send(1)
        await tailer.until_placed()
        holder = next(buck for buck in bucks if buck.packets)
        (packet,) = holder.packets.values()
        for buck in bucks:
            if buck is not holder:
                buck.packets.clear()
        tailer.stop()
        folder = world.host("tailer").platter.find(FOLDER)
        assert isinstance(folder, Folder)
        folder.names.clear()
        machine = world.machine("tailer")
        tailer = Sending(machine, await open_journal(machine, 2 << 32), [bucks[0].address])
        tailer.journal.adopt(packet, [holder.node])
        nursery.start_soon(tailer.run)
        await tailer.until_placed()
        assert set(holders(bucks).values()) == {2}

    run(scenario)


def test_a_sync_class_is_on_the_journals_device_before_any_buck_sees_it() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        _, tailer = await begun(world, nursery, 2)
        synced: list[int] = []
        put = FakeBuck._put

        def watched(self: FakeBuck, ask: int, message: Put) -> object:
            synced.append(tailer.journal._segments.unsynced_size)
            return put(self, ask, message)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FakeBuck, "_put", watched)
            await tailer.send(1, kind=Class(sync=True))
            await tailer.until_placed()
        assert synced == [0, 0]
        assert [len(entry.synced) for entry in tailer.journal.ledger.waiting()] == [2]

    run(scenario)


@pytest.mark.parametrize("is_mended_first", [True, False])
def test_a_packet_is_sent_or_mended_and_never_both_at_a_time(is_mended_first: bool) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 4)
        for buck in bucks:
            buck.slow_s = 0.2
        sender = tailer.sender
        if is_mended_first:
            packet = tailer.journal.append(draft(0, 10))
            nursery.start_soon(sender.mend, tailer.journal.ledger.entries[EPOCH, 0], lambda: 1)
            await trio.sleep(0.05)
            await sender.deliver(packet)
            await trio.sleep(0.05)
            assert sender.counters["sent"] == 1, "who mends goes on alone"
        else:
            await tailer.send(1)
            await trio.sleep(0.05)
            await sender.mend(tailer.journal.ledger.entries[EPOCH, 0], lambda: 1)
            assert sender.counters["sent"] == 2, "the first two copies are under way"
        await tailer.until_placed(1.0)
        assert sender.counters["sent"] == 2
        assert set(holders(bucks).values()) == {2}

    run(scenario)
