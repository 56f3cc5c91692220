"""A packet that rots in the journal while the tailer runs: bucks give it back, or it is stated as lost."""

from dataclasses import replace

import pytest
import trio

from protocol.messages import Get, Have, Message
from protocol.packet import build
from protocol.ranges import Ranges
from protocol.roster import Retirement
from protocol.seal import Seal, chain
from tailer import room
from tailer.fetch import packet_of
from tailer.ledger import Entry
from tailer.recover import recover
from tests.simulation.machine import World
from tests.tailer.fake_bucks import FakeBuck, Sending, begun, cluster, run, start_sending, until
from tests.tailer.journals import EPOCH, OTHER_KEY, WIDTH, numbers, open_journal, segment_files


def rot(world: World, entry: Entry) -> None:
    """A bit of the packet's body falls over, where its journal lies."""
    inode = list(segment_files(world.host("tailer")).values())[entry.segment - 1]
    inode.data[entry.offset + entry.size - 40] ^= 1
    inode.fsync()


def copies(bucks: list[FakeBuck]) -> list[int]:
    return [sum((EPOCH, number) in buck.packets for buck in bucks) for number in range(3)]


def seals(bucks: list[FakeBuck]) -> list[Seal]:
    ordered, holes, forks = chain(Seal.read(data) for buck in bucks for data in buck.seals.values())
    assert not holes
    assert not forks
    return list(ordered)


async def rotten(world: World, nursery: trio.Nursery) -> tuple[list[FakeBuck], Sending, Entry]:
    """Three packets, each on two of four bucks; the second can't be read in the journal any more."""
    bucks, tailer = await begun(world, nursery, 4)
    await tailer.send(3)
    await tailer.until_placed()
    await tailer.journal.sync()
    entry = tailer.journal.ledger.entries[EPOCH, 1]
    rot(world, entry)
    assert copies(bucks) == [2, 2, 2]
    return bucks, tailer, entry


def test_a_packet_that_rotted_is_fetched_back_and_gets_its_third_copy() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer, _ = await rotten(world, nursery)
        nursery.start_soon(tailer.mender.run)
        await until(lambda: not tailer.journal.ledger.entries, 2 * WIDTH)
        assert copies(bucks) == [3, 3, 3]
        assert (tailer.journal.counters["unreadable"], tailer.journal.counters["restored"]) == (1, 1)
        assert not any(section.given_up for seal in seals(bucks) for section in seal.sections)

    run(scenario)


def test_what_was_fetched_back_is_in_the_journal_again_also_after_a_kill() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        _, tailer, entry = await rotten(world, nursery)
        packet = await packet_of(tailer.journal, tailer.members, entry)
        assert packet is not None
        assert tailer.journal.load(entry) is not None
        tailer.journal.check()
        await tailer.journal.sync()
        tailer.machine.kill()
        tailer.scope.cancel()
        journal = await open_journal(world.machine("tailer"), 2 << 32)
        assert sorted(numbers(journal)) == [0, 1, 2]
        found = journal.load(journal.ledger.entries[EPOCH, 1])
        assert found is not None
        assert found.header == packet.header
        assert not journal.recovered.holes

    run(scenario)


def test_a_packet_that_rotted_before_its_second_copy_is_fetched_from_the_first_buck() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 2)
        bucks[1].refuse = "full"
        await tailer.send(3)
        await until(lambda: copies(bucks) == [1, 1, 1])
        await tailer.journal.sync()
        rot(world, tailer.journal.ledger.entries[EPOCH, 1])
        bucks[1].refuse = ""
        await tailer.until_placed(120)
        assert copies(bucks) == [2, 2, 2]

    run(scenario)


@pytest.mark.parametrize("synced", [False, True])
def test_a_packet_that_rotted_and_that_no_buck_has_is_stated_as_lost_with_its_number(synced: bool) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer, entry = await rotten(world, nursery)
        for node in entry.stored:
            tailer.journal.ledger.note_stored(entry, node, synced)
        for buck in bucks:
            buck.packets.pop((EPOCH, 1), None)
        nursery.start_soon(tailer.mender.run)
        await trio.sleep(3 * WIDTH)
        given_up = [section.given_up for seal in seals(bucks) for section in seal.sections if section.given_up]
        assert given_up == [Ranges([(1, 2)])]
        assert copies(bucks) == [3, 0, 3]
        assert not tailer.journal.ledger.entries

    run(scenario)


def lose(bucks: list[FakeBuck], number: int = 1) -> None:
    for buck in bucks:
        buck.packets.pop((EPOCH, number), None)


def given_up(bucks: list[FakeBuck]) -> list[Ranges]:
    return [section.given_up for seal in seals(bucks) for section in seal.sections if section.given_up]


def test_a_packet_that_rotted_is_not_given_up_while_a_buck_that_held_it_is_unsure() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer, entry = await rotten(world, nursery)
        kept = next(buck.packets[EPOCH, 1] for buck in bucks if buck.node == entry.stored[0])
        holder = next(buck for buck in bucks if buck.node == entry.stored[0])
        lose(bucks)
        holder.unsure = True
        nursery.start_soon(tailer.mender.run)
        await trio.sleep(3 * WIDTH)
        assert (given_up(bucks), list(tailer.journal.ledger.entries)) == ([], [(EPOCH, 1)])
        holder.packets[EPOCH, 1], holder.unsure = kept, False  # it has found it again
        await until(lambda: not tailer.journal.ledger.entries, 2 * WIDTH)
        assert copies(bucks) == [3, 3, 3]
        assert given_up(bucks) == []

    run(scenario)


def test_a_packet_that_rotted_is_given_up_when_an_unsure_buck_is_sure_again() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer, _ = await rotten(world, nursery)
        lose(bucks)
        bucks[0].unsure = True
        nursery.start_soon(tailer.mender.run)
        await trio.sleep(2 * WIDTH)
        assert given_up(bucks) == []
        bucks[0].unsure = False
        await trio.sleep(2 * WIDTH)
        assert given_up(bucks) == [Ranges([(1, 2)])]

    run(scenario)


@pytest.mark.parametrize("question", [Get, Have])
def test_a_packet_that_rotted_is_not_given_up_while_a_buck_that_may_hold_it_keeps_silent(
    question: type[Message],
) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer, entry = await rotten(world, nursery)
        lose(bucks)
        silent = next(buck for buck in bucks if buck.node not in entry.stored)  # its word may be what was lost
        silent.mute = (question,)
        for _ in range(2):
            assert await packet_of(tailer.journal, tailer.members, entry) is None
        assert not tailer.journal.chain.given_up
        assert entry.stored == (), "the others have said that they have it not"
        silent.mute = ()
        assert await packet_of(tailer.journal, tailer.members, entry) is None
        assert tailer.journal.chain.given_up

    run(scenario)


def test_a_packet_that_rotted_is_fetched_from_a_buck_whose_word_that_it_holds_it_was_lost() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        _, tailer, entry = await rotten(world, nursery)
        for node in entry.stored:
            tailer.journal.ledger.note_lost(entry, node)
        assert await packet_of(tailer.journal, tailer.members, entry) is not None

    run(scenario)


def test_a_packet_that_rotted_waits_for_a_dead_member_until_that_is_retired() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer, entry = await rotten(world, nursery)
        lose(bucks)
        bucks[3].kill()
        await until(lambda: len(tailer.members.linked()) == 3)
        before = tailer.machine.now()
        for _ in range(2):
            assert await packet_of(tailer.journal, tailer.members, entry) is None
        assert tailer.machine.now() - before < 1, "nobody dials whom the links' tasks dial"
        assert not tailer.journal.chain.given_up
        word = Retirement("test", bucks[3].node, "buck", b"b3", OTHER_KEY.public, 1, 0, 0).signed(OTHER_KEY)
        for buck in bucks[:3]:
            buck.retired = (word.data,)
        await until(lambda: bucks[3].node not in tailer.members.nodes, 2 * WIDTH)
        assert await packet_of(tailer.journal, tailer.members, entry) is None
        assert tailer.journal.chain.given_up

    run(scenario)


def test_another_packet_under_the_same_key_is_not_taken_for_it() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer, entry = await rotten(world, nursery)
        liar, honest = (next(buck for buck in bucks if buck.node == node) for node in entry.stored)
        true = liar.packets[EPOCH, 1]
        other = replace(true.header, content=bytes(32))
        liar.packets[EPOCH, 1] = type(true)(other, build(other, bytes(true.body)), true.body, true.digest)
        packet = await packet_of(tailer.journal, tailer.members, entry)
        assert packet is not None
        assert packet.header == true.header
        assert [sum(isinstance(one, Get) for one in buck.asked) for buck in (liar, honest)] == [1, 1]

    run(scenario)


def test_a_buck_that_does_not_answer_loses_nothing() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer, entry = await rotten(world, nursery)
        for buck in bucks:
            buck.mute = (Get,)
        assert await packet_of(tailer.journal, tailer.members, entry) is None
        assert len(entry.stored) == 2, "silence is no word that it is gone"
        for buck in bucks:
            buck.mute = ()
        assert await packet_of(tailer.journal, tailer.members, entry) is not None

    run(scenario)


def test_where_the_journal_is_full_a_packet_that_rotted_still_gets_its_copy() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer, _ = await rotten(world, nursery)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tailer.journal, "room", lambda: 0)
            nursery.start_soon(tailer.mender.run)
            await until(lambda: copies(bucks) == [3, 3, 3], 2 * WIDTH)
            assert tailer.journal.counters["restored"] == 0

    run(scenario)


def test_what_bucks_hold_is_fetched_only_as_far_as_there_is_room_and_the_next_start_goes_on() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await start_sending(world, nursery, bucks)
        await tailer.send(6, size=1 << 20)
        await tailer.until_placed()
        for entry in tailer.journal.ledger.entries.values():
            rot(world, entry)
        for boot, size in ((2, 7 << 19), (3, 32 << 20)):
            tailer.machine.kill()
            tailer.scope.cancel()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(room, "SIZE_MIN", size)
                tailer = await start_sending(world, nursery, bucks, epoch=boot << 32, size_max=1)
                await until(lambda tailer=tailer: len(tailer.members.linked()) == 3)  # type: ignore[misc]  # bound now
                found = await recover(tailer.journal, tailer.members)
                if boot == 2:
                    assert found.fetched == 3
                    assert tailer.journal.used <= size
                    assert tailer.journal.settled == 0, "it asks again"
                assert found.given_up == 0
        assert sorted(numbers(tailer.journal)) == list(range(6))
        assert tailer.journal.settled == 2

    run(scenario)
