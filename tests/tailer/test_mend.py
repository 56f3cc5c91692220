"""Seals, third copies, receipts, and when the journal may forget."""

from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
import trio

from protocol.messages import Have, Put, SealPut
from protocol.packet import Class
from protocol.seal import Seal, chain
from tests.simulation.machine import World, simulate
from tests.tailer.fake_bucks import FakeBuck, Sending, cluster, start_sending, until
from tests.tailer.journals import BUCKET, EPOCH, KEY, WIDTH, draft

Scenario = Callable[[World, trio.Nursery], Awaitable[None]]


def run(scenario: Scenario, seed: int = 1) -> None:
    async def main(world: World) -> None:
        async with trio.open_nursery() as nursery:
            await scenario(world, nursery)
            nursery.cancel_scope.cancel()

    simulate(seed, main)


async def begun(
    world: World, nursery: trio.Nursery, count: int, *, mend: bool = False, epoch: int = EPOCH
) -> tuple[list[FakeBuck], Sending]:
    bucks = cluster(world, nursery, count)
    tailer = await start_sending(world, nursery, bucks, mend=mend, epoch=epoch)
    await until(lambda: len(tailer.members.linked()) == count and tailer.members.heard)
    return bucks, tailer


def holders(bucks: list[FakeBuck]) -> Counter[tuple[int, int]]:
    return Counter(slot for buck in bucks for slot in buck.packets)


def seals_of(*bucks: FakeBuck) -> list[Seal]:
    """All their seals, in order; a chain without a hole or a fork."""
    ordered, holes, forks = chain(Seal.read(data) for buck in bucks for data in buck.seals.values())
    assert not holes
    assert not forks
    return list(ordered)


def stated(seals: list[Seal], epoch: int = EPOCH) -> list[int]:
    return [
        number
        for seal in seals
        for section in seal.sections
        if section.epoch == epoch
        for number in section.numbers.numbers()
    ]


# --- a window -------------------------------------------------------------------------------------------------------


def test_after_its_window_a_packet_has_three_fsynced_copies_a_seal_and_is_forgotten() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 5, mend=True)
        await tailer.send(30)
        await tailer.until_placed()
        await trio.sleep(100)  # still in the window
        assert set(holders(bucks).values()) == {2}
        assert not any(buck.seals or buck.synced for buck in bucks)
        await trio.sleep(WIDTH)
        assert set(holders(bucks).values()) == {3}
        assert all(buck.synced == set(buck.packets) for buck in bucks)
        seals = seals_of(*bucks)
        assert stated(seals) == list(range(30))
        assert all(set(buck.seals) == set(bucks[0].seals) for buck in bucks)  # every linked one has it
        assert not tailer.journal.ledger.entries
        assert not tailer.journal.chain.undelivered

    run(scenario)


def test_what_a_wrong_clock_filed_far_ahead_is_finished_with_the_window_of_its_writing() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 4, mend=True)
        for number, bucket in enumerate((BUCKET + 10 * WIDTH, BUCKET + 2 * WIDTH)):
            packet = tailer.journal.append(draft(10 * number, 10 * number + 10, bucket=bucket))
            await tailer.sender.deliver(packet)
        await tailer.until_placed()
        await trio.sleep(WIDTH + 100)
        assert holders(bucks) == {(EPOCH, 0): 3, (EPOCH, 1): 2}, "a line may be ten minutes early: that is its window"
        assert [number for _, number in tailer.journal.ledger.entries] == [1]

    run(scenario)


def test_a_seal_says_what_was_added_to_each_bucket_and_class() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        packets = [
            tailer.journal.append(made)
            for made in (
                draft(0, 10),
                draft(10, 30),
                draft(30, 40, bucket=BUCKET - WIDTH),
                draft(40, 50, kind=Class(copies=1)),
                draft(50, 60),
            )
        ]
        for packet in packets:
            await tailer.sender.deliver(packet)
        assert (await tailer.mender.finish()).code == 0
        (seal,) = seals_of(*bucks)
        assert (seal.tailer, seal.env, seal.width, seal.host) == (KEY.node, "test", WIDTH, b"web-1")
        assert (seal.number, seal.crashes, seal.closing) == (0, 0, True)
        rows = [(s.bucket, s.kind, list(s.numbers.numbers()), s.events, s.raw) for s in seal.sections]
        assert rows == [
            (BUCKET - WIDTH, Class(), [2], 1, 10),
            (BUCKET, Class(copies=1), [3], 1, 10),
            (BUCKET, Class(), [0, 1, 4], 3, 40),
        ]
        assert seal.sections[2].contents == b"".join(packets[n].header.content[:16] for n in (0, 1, 4))

    run(scenario)


def test_an_idle_tailer_seals_each_window_once() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, _tailer = await begun(world, nursery, 3, mend=True)
        await trio.sleep(6 * WIDTH + 60)
        seals = seals_of(*bucks)
        assert len(seals) == 6
        assert [later.until - seal.until for seal, later in pairwise(seals)] == [WIDTH] * 5
        for seal in seals:
            assert 0 <= seal.time_ns / 1e9 - seal.until <= 61  # soon after the window, at a random moment
        assert len({int(seal.time_ns / 1e9 - seal.until) for seal in seals}) > 3
        assert not any(seal.closing or seal.sections for seal in seals)

    run(scenario)


def test_one_seal_covers_the_windows_in_which_no_buck_was_there() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3, mend=True)
        for buck in bucks:
            buck.kill()
        await until(lambda: not tailer.members.linked())
        await tailer.send(5)
        await trio.sleep(20 * WIDTH)
        for buck in bucks:
            buck.start(nursery)
        await trio.sleep(2 * WIDTH)
        seals = seals_of(*bucks)
        assert len(seals) <= 3, "one for all the time without bucks, and one for each window since"
        assert stated(seals) == list(range(5))
        assert not tailer.journal.ledger.entries

    run(scenario)


def test_a_seal_is_synced_in_the_journal_before_anybody_sees_it() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        await tailer.send(3)
        await tailer.until_placed()
        world.host("tailer").platter.before = _no_fsync
        outcome = await tailer.mender.finish(patience_s=1)
        assert outcome.code == 1
        assert "can't be synced" in outcome.text
        async with tailer.mender._busy:
            await tailer.mender._seal()
        assert tailer.journal.chain.undelivered
        assert not any(isinstance(message, SealPut) for buck in bucks for message in buck.asked)

    run(scenario)


def _no_fsync(operation: str, path: bytes) -> None:
    if operation == "fsync":
        raise OSError(5, "Input/output error")


def test_the_chain_goes_on_over_clean_and_unclean_restarts() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        for start in range(1, 7):
            tailer = await start_sending(world, nursery, bucks, epoch=start << 32)
            await until(lambda: len(tailer.members.linked()) == 3)  # noqa: B023  # called before the next turn
            await tailer.send(3)
            if start % 3 == 0:
                await tailer.until_placed()
                tailer.machine.kill()
            else:
                assert (await tailer.mender.finish(level="A2")).code == 0
                await tailer.journal.close()
            tailer.stop()
        seals = seals_of(*bucks)
        assert [seal.number for seal in seals] == [0, 1, 2, 3]
        assert [seal.crashes for seal in seals] == [0, 0, 1, 1]
        for start in range(1, 6):
            assert stated(seals, start << 32) == [0, 1, 2]
        lost = {section.epoch: section.lost_after for seal in seals for section in seal.sections}
        assert {epoch for epoch, after in lost.items() if after is not None} == {3 << 32}
        assert lost[3 << 32] == 2

    run(scenario)


# --- receipts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "receipts"), [(1, 1), (2, 2), (3, 3), (6, 3)])
def test_done_is_three_receipts_or_those_of_all_members(count: int, receipts: int) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, count)
        await tailer.send(20)
        entries = list(tailer.journal.ledger.waiting())
        assert (await tailer.mender.finish()).code == 0
        assert {len(entry.synced) for entry in entries} == {receipts}
        assert set(holders(bucks).values()) == {receipts}
        assert tailer.sender.level_text() == f"A1 of {min(2, count)}"

    run(scenario)


def test_copies_that_were_acknowledged_and_not_fsynced_are_not_enough_to_forget() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3, mend=True)
        for buck in bucks:
            buck.lazy = True
        await tailer.send(20)
        await tailer.until_placed()
        await trio.sleep(3 * WIDTH)
        assert set(holders(bucks).values()) == {3}
        assert len(list(tailer.journal.ledger.waiting())) == 20
        for buck in bucks:
            buck.lazy = False
        await until(lambda: not tailer.journal.ledger.entries, 100)

    run(scenario)


def test_nothing_is_done_before_a_member_told_who_the_members_are() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        _, tailer = await begun(world, nursery, 1)
        tailer.members.heard = False
        tailer.members._learn = lambda view: None  # type: ignore[method-assign]  # as if it never answered
        await tailer.send(1)
        outcome = await tailer.mender.finish(patience_s=5)
        assert outcome.code == 1
        assert tailer.journal.ledger.entries

    run(scenario)


def test_a_class_without_resend_is_done_at_A1_and_gets_no_third_copy() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 4)
        await tailer.send(10, kind=Class(resend=False))
        await tailer.until_placed()
        assert (await tailer.mender.finish()).code == 0
        assert set(holders(bucks).values()) == {2}
        assert not tailer.journal.ledger.entries

    run(scenario)


def test_what_a_buck_lost_is_sent_again_from_the_journal() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 4)
        await tailer.send(20)
        await tailer.until_placed()
        lost = len(bucks[1].packets) + len(bucks[2].packets)
        bucks[1].packets.clear()  # a disk was changed
        bucks[2].packets.clear()
        assert (await tailer.mender.finish()).code == 0
        assert tailer.sender.counters["copies_lost"] == lost
        assert min(holders(bucks).values()) == 3
        assert not tailer.journal.ledger.entries

    run(scenario)


def test_an_unsure_buck_is_sent_again_what_it_does_not_show() -> None:
    """Of three bucks one was cut from power: without that its packets would wait in the journal for ever."""

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        await tailer.send(10)
        await tailer.until_placed()
        lost = len(bucks[0].packets)
        bucks[0].packets.clear()
        bucks[0].unsure = True
        assert (await tailer.mender.finish(patience_s=3)).code == 0
        assert tailer.sender.counters["copies_lost"] == lost
        assert set(holders(bucks).values()) == {3}

    run(scenario)


def test_a_dead_member_keeps_packets_in_the_journal_until_it_is_back() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3, mend=True)
        await tailer.send(20)
        await tailer.until_placed()
        bucks[2].kill()
        await trio.sleep(3 * WIDTH)
        entries = list(tailer.journal.ledger.waiting())
        assert entries
        assert all(set(entry.synced) <= {buck.node for buck in bucks} for entry in entries)
        assert all(holders(bucks)[entry.slot] >= 2 for entry in entries)
        bucks[2].start(nursery)
        await until(lambda: not tailer.journal.ledger.entries, 100)
        assert set(holders(bucks).values()) == {3}

    run(scenario)


def test_a_silent_buck_holds_up_neither_seals_nor_the_other_receipts() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 4, mend=True)
        await tailer.send(20)
        await tailer.until_placed()
        bucks[3].silent = True
        await trio.sleep(2 * WIDTH)
        assert stated(seals_of(*bucks[:3])) == list(range(20))
        assert not tailer.journal.ledger.entries
        assert min(holders(bucks[:3]).values()) == 3

    run(scenario)


def test_receipts_are_asked_of_whoever_acked_once_for_a_bucket() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        await tailer.send(100)
        assert (await tailer.mender.finish()).code == 0
        for buck in bucks:
            assert len([message for message in buck.asked if isinstance(message, Have)]) == 1

    run(scenario)


def test_third_copies_are_not_for_viewers() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        await tailer.send(10)
        await tailer.until_placed()
        assert (await tailer.mender.finish()).code == 0
        puts = [message for buck in bucks for message in buck.asked if isinstance(message, Put)]
        assert Counter(put.again for put in puts) == {False: 20, True: 10}
        assert all(put.age_ms < 60_000 for put in puts)

    run(scenario)


def test_a_journal_that_fills_up_is_finished_before_the_window_ends() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await start_sending(world, nursery, bucks, mend=True, size_max=32 << 20)
        for _ in range(24):
            await tailer.journal.wait_for_room()
            await tailer.send(1, size=4 << 20)
        await tailer.until_placed()
        assert tailer.machine.now() < 100
        assert tailer.journal.counters["segments_dropped"] > 0
        assert len(holders(bucks)) == 24

    run(scenario)


def test_a_journal_whose_disk_has_less_room_than_its_size_is_finished_early_too() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await start_sending(world, nursery, bucks, mend=True)
        tailer.machine.disk.platter.capacity = 24 << 20  # of which 16 MiB are left to others
        with trio.fail_after(100):
            for _ in range(24):
                await tailer.journal.wait_for_room(2 << 20)
                await tailer.send(1, size=1 << 20)
            await tailer.until_placed()
        assert tailer.journal.counters["segments_dropped"] > 0
        assert len(holders(bucks)) == 24

    run(scenario)
