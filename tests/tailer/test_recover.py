"""After a crash, or with a journal that is gone or behind: what the bucks know is used."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from protocol.messages import Covered, Get, Put
from protocol.ranges import Ranges
from protocol.seal import Seal, chain
from tailer.checkpoint import Checkpoint
from tailer.recover import Recovered, is_needed, recover
from tests.simulation.machine import World, simulate
from tests.simulation.platter import Folder
from tests.tailer.fake_bucks import FakeBuck, Sending, cluster, start_sending, until
from tests.tailer.journals import EPOCH, FOLDER, STREAM, numbers, readable, segment_files

Scenario = Callable[[World, trio.Nursery], Awaitable[None]]


def run(scenario: Scenario, seed: int = 1) -> None:
    async def main(world: World) -> None:
        async with trio.open_nursery() as nursery:
            await scenario(world, nursery)
            nursery.cancel_scope.cancel()

    simulate(seed, main)


async def start(
    world: World, nursery: trio.Nursery, bucks: list[FakeBuck], boot: int, linked: int | None = None
) -> Sending:
    tailer = await start_sending(world, nursery, bucks, epoch=boot << 32)
    await until(lambda: len(tailer.members.linked()) == (len(bucks) if linked is None else linked))
    return tailer


async def first_run(world: World, nursery: trio.Nursery, bucks: list[FakeBuck], count: int = 10) -> Sending:
    """A tailer that got so many packets to two bucks each, and was killed."""
    tailer = await start(world, nursery, bucks, 1)
    await tailer.send(count)
    await tailer.until_placed()
    await tailer.journal.sync()
    kill(tailer)
    return tailer


def kill(tailer: Sending) -> None:
    tailer.machine.kill()
    tailer.scope.cancel()


def lose_journal(world: World) -> None:
    folder = world.host("tailer").platter.find(FOLDER)
    assert isinstance(folder, Folder)
    folder.names.clear()


async def again(tailer: Sending, patience_s: float = 60.0) -> Recovered:
    return await recover(tailer.journal, tailer.members, patience_s)


def stated(bucks: list[FakeBuck], epoch: int = EPOCH) -> list[int]:
    ordered, holes, forks = chain(Seal.read(data) for buck in bucks for data in buck.seals.values())
    assert not holes
    assert not forks
    sections = [section for seal in ordered for section in seal.sections if section.epoch == epoch]
    return sorted(number for section in sections for number in section.numbers.numbers())


def test_after_a_clean_stop_nobody_is_asked() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await start(world, nursery, bucks, 1)
        assert not (await again(tailer)).needed  # the very first start has nothing to ask for
        await tailer.send(3)
        await tailer.mender.finish()
        await tailer.journal.close()
        tailer.stop()
        tailer = await start(world, nursery, bucks, 2)
        recovered = await again(tailer)
        assert not recovered.needed
        assert recovered.coverage == {STREAM: Ranges([(0, 30)])}
        assert not any(isinstance(message, Covered) for buck in bucks for message in buck.asked)

    run(scenario)


def test_a_kill_loses_nothing_and_ends_its_epoch() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        await first_run(world, nursery, bucks)
        tailer = await start(world, nursery, bucks, 2)
        recovered = await again(tailer)
        assert (recovered.needed, recovered.fetched, recovered.given_up) == (True, 0, 0)
        assert recovered.coverage == {STREAM: Ranges([(0, 100)])}
        assert (await tailer.mender.finish()).code == 0
        assert stated(bucks) == list(range(10))
        (seal,) = {number: Seal.read(data) for number, data in bucks[0].seals.items()}.values()
        assert [section.lost_after for section in seal.sections] == [None, 9]
        assert seal.crashes == 1

    run(scenario)


def test_T76_a_journal_that_is_gone_costs_nothing_that_bucks_hold() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await start(world, nursery, bucks, 1)
        await tailer.send(5)
        assert (await tailer.mender.finish(level="A1")).code == 0  # stated, and then there is more
        await tailer.send(5)
        await tailer.until_placed()
        kill(tailer)
        lose_journal(world)
        tailer = await start(world, nursery, bucks, 2)
        assert is_needed(tailer.journal)
        recovered = await again(tailer)
        assert recovered.needed
        assert recovered.fetched == 5  # what no seal states: it is journaled again, under its old key
        assert recovered.coverage[STREAM] == Ranges([(50, 100)])  # of what no seal states: the rest is asked by head
        assert recovered.behind
        assert (await tailer.mender.finish()).code == 0
        assert stated(bucks) == list(range(10))
        seals = {number: Seal.read(data) for number, data in bucks[0].seals.items()}
        assert sorted(seals) == [0, 1]
        assert [section.lost_after for section in seals[1].sections] == [None, 9]

    run(scenario)


def test_a_journal_that_is_gone_after_a_clean_stop_has_lost_nothing() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await start(world, nursery, bucks, 1)
        await tailer.send(5)
        await tailer.mender.finish()
        await tailer.journal.close()
        tailer.stop()
        lose_journal(world)
        tailer = await start(world, nursery, bucks, 2)
        recovered = await again(tailer)
        assert (recovered.needed, recovered.fetched) == (True, 0)
        assert not tailer.journal.chain.lost
        await tailer.send(1)
        assert (await tailer.mender.finish()).code == 0
        assert stated(bucks) == list(range(5))
        assert stated(bucks, 2 << 32) == [0]

    run(scenario)


def test_a_journal_restored_from_a_backup_catches_up() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await start(world, nursery, bucks, 1)
        await tailer.send(3)
        await tailer.mender.finish()
        await tailer.journal.close()
        tailer.stop()
        folder = world.host("tailer").platter.find(FOLDER)
        assert isinstance(folder, Folder)
        backup = {name: bytes(inode.data) for name, inode in segment_files(world.host("tailer")).items()}
        tailer = await start(world, nursery, bucks, 2)
        tailer.offset = 30
        await tailer.send(4)
        await tailer.mender.finish()
        await tailer.send(2)
        await tailer.until_placed()
        kill(tailer)
        folder.names.clear()
        machine = world.machine("tailer")
        for name, data in backup.items():
            machine.disk.open_new(f"{FOLDER}/{name}").write(data)
        tailer = await start(world, nursery, bucks, 3)
        assert tailer.journal.recovered.clean  # it looks fine, but it is not that of the last start
        recovered = await again(tailer)
        assert (recovered.needed, recovered.fetched) == (True, 2)
        assert recovered.coverage == {STREAM: Ranges([(0, 90)])}
        assert (await tailer.mender.finish()).code == 0
        assert stated(bucks, 2 << 32) == list(range(6))
        assert len(bucks[0].seals) == 3

    run(scenario)


def test_a_damaged_record_is_fetched_from_a_buck() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await first_run(world, nursery, bucks)
        entry = tailer.journal.ledger.entries[EPOCH, 4]
        next(iter(segment_files(world.host("tailer")).values())).data[entry.offset + 40] ^= 1
        tailer = await start(world, nursery, bucks, 2)
        assert numbers(tailer.journal) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
        recovered = await again(tailer)
        assert (recovered.fetched, recovered.given_up) == (1, 0)
        assert recovered.coverage == {STREAM: Ranges([(0, 100)])}
        assert len(readable(tailer.journal)) == 10
        assert len(tailer.journal.ledger.entries[EPOCH, 4].stored) == 2  # who has it is known
        assert (await tailer.mender.finish()).code == 0
        assert stated(bucks) == list(range(10))

    run(scenario)


def test_a_damaged_record_that_no_buck_has_is_given_up_and_read_again() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await first_run(world, nursery, bucks)
        entry = tailer.journal.ledger.entries[EPOCH, 4]
        next(iter(segment_files(world.host("tailer")).values())).data[entry.offset + 40] ^= 1
        for buck in bucks:
            buck.packets.pop((EPOCH, 4), None)
        tailer = await start(world, nursery, bucks, 2)
        recovered = await again(tailer)
        assert (recovered.fetched, recovered.given_up) == (0, 1)
        assert recovered.coverage == {STREAM: Ranges([(0, 40), (50, 100)])}
        assert (await tailer.mender.finish()).code == 0
        sections = Seal.read(bucks[0].seals[0]).sections
        assert [section.given_up for section in sections] == [Ranges(), Ranges([(4, 5)])]
        tailer.stop()
        kill(tailer)
        tailer = await start(world, nursery, bucks, 3)
        assert not tailer.journal.recovered.holes  # it is settled

    run(scenario)


def test_a_tail_that_a_power_cut_took_is_fetched_from_bucks() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await first_run(world, nursery, bucks)
        entry = tailer.journal.ledger.entries[EPOCH, 6]
        inode = next(iter(segment_files(world.host("tailer")).values()))
        del inode.data[entry.offset + 9 :]
        inode.fsync()
        tailer = await start(world, nursery, bucks, 2)
        assert numbers(tailer.journal) == [0, 1, 2, 3, 4, 5]
        recovered = await again(tailer)
        assert recovered.fetched == 4
        assert recovered.coverage == {STREAM: Ranges([(0, 100)])}
        assert tailer.journal.chain.lost == {EPOCH: 9}
        assert (await tailer.mender.finish()).code == 0
        assert stated(bucks) == list(range(10))

    run(scenario)


def test_a_silent_member_is_waited_for_no_longer_than_patience_and_nothing_is_given_up() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await first_run(world, nursery, bucks)
        entry = tailer.journal.ledger.entries[EPOCH, 4]
        next(iter(segment_files(world.host("tailer")).values())).data[entry.offset + 40] ^= 1
        for buck in bucks:
            buck.packets.pop((EPOCH, 4), None)
        bucks[2].kill()
        tailer = await start(world, nursery, bucks, 2, linked=2)
        begun = tailer.machine.now()
        recovered = await again(tailer, patience_s=20)
        assert 20 <= tailer.machine.now() - begun < 30
        assert recovered.silent == {bucks[2].node}
        assert recovered.given_up == 0
        assert tailer.journal.recovered.holes == {EPOCH: Ranges([(4, 5)])}
        assert recovered.coverage == {STREAM: Ranges([(0, 40), (50, 100)])}

    run(scenario)


@pytest.mark.parametrize(("boot", "most_s"), [(b"", 8.0), (b"another boot", 60.0)])
def test_a_process_that_was_killed_waits_for_a_silent_buck_for_seconds_and_a_host_that_lost_power_longer(
    boot: bytes, most_s: float
) -> None:
    """What a killed process wrote is in the page cache: bucks can hardly add to it, and lines wait to be read."""

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await start(world, nursery, bucks, 1)
        boot_id = boot or tailer.machine.boot_id
        tailer.journal.state = lambda: Checkpoint((), boot_id)
        await tailer.send(10)
        await tailer.until_placed()
        tailer.journal.save()
        await tailer.journal.sync()
        kill(tailer)
        bucks[2].kill()
        tailer = await start(world, nursery, bucks, 2, linked=2)
        begun = tailer.machine.now()
        recovered = await again(tailer)
        assert most_s / 2 < tailer.machine.now() - begun <= most_s + 1
        assert (recovered.silent, recovered.behind) == ({bucks[2].node}, False)
        assert recovered.coverage == {STREAM: Ranges([(0, 100)])}

    run(scenario)


def test_an_unsure_buck_makes_nobody_give_up() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await first_run(world, nursery, bucks)
        entry = tailer.journal.ledger.entries[EPOCH, 4]
        next(iter(segment_files(world.host("tailer")).values())).data[entry.offset + 40] ^= 1
        for buck in bucks:
            buck.packets.pop((EPOCH, 4), None)
        bucks[1].unsure = True
        tailer = await start(world, nursery, bucks, 2)
        recovered = await again(tailer)
        assert (recovered.unsure, recovered.given_up) == (True, 0)

    run(scenario)


def test_a_member_that_comes_late_is_still_heard() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await first_run(world, nursery, bucks)
        lose_journal(world)
        for buck in bucks:
            buck.kill()
        bucks[0].start(nursery)
        tailer = await start(world, nursery, bucks, 2, linked=1)

        async def later() -> None:
            await trio.sleep(15)
            bucks[1].start(nursery)
            bucks[2].start(nursery)

        nursery.start_soon(later)
        recovered = await again(tailer)
        assert not recovered.silent
        assert recovered.fetched == 10

    run(scenario)


def test_a_crash_during_recovery_is_recovered_from() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        await first_run(world, nursery, bucks)
        lose_journal(world)
        for boot in range(2, 7):
            tailer = await start(world, nursery, bucks, boot)

            async def until_killed(tailer: Sending = tailer) -> None:
                with trio.move_on_after(0.01 * tailer.journal.epoch / EPOCH):
                    await again(tailer)

            await until_killed()
            kill(tailer)
        tailer = await start(world, nursery, bucks, 7)
        await again(tailer)
        assert (await tailer.mender.finish()).code == 0
        assert stated(bucks) == list(range(10))
        assert not tailer.journal.ledger.entries

    run(scenario)


def test_fetched_packets_are_not_sent_to_those_who_have_them() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        await first_run(world, nursery, bucks)
        lose_journal(world)
        for buck in bucks:
            buck.asked.clear()
        tailer = await start(world, nursery, bucks, 2)
        await again(tailer)
        assert (await tailer.mender.finish()).code == 0
        puts = [message for buck in bucks for message in buck.asked if isinstance(message, Put)]
        assert len(puts) == 10  # the third copies
        gets = [message for buck in bucks for message in buck.asked if isinstance(message, Get)]
        assert len(gets) <= 3

    run(scenario)


def test_a_crash_that_a_seal_has_stated_is_not_stated_again_while_a_buck_is_unsure() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        await first_run(world, nursery, bucks)
        bucks[0].unsure = True
        for boot in (3, 5, 7):  # before each, a start that left nothing: bucks are asked until all are sure
            tailer = await start(world, nursery, bucks, boot)
            recovered = await again(tailer)
            assert (recovered.needed, recovered.fetched, recovered.given_up) == (True, 0, 0)
            assert tailer.journal.chain.lost == ({EPOCH: 9} if boot == 3 else {})
            await tailer.mender.finish()
            await tailer.journal.close()
            tailer.stop()
            tailer.machine.kill()
        assert stated(bucks) == list(range(10)), "each once"
        bucks[0].unsure = False
        tailer = await start(world, nursery, bucks, 9)
        assert not (await again(tailer)).unsure
        assert EPOCH not in tailer.journal.ledger.done, "nobody is asked of that start any more"
        assert not is_needed(tailer.journal)

    run(scenario)
