"""The journal in good days: order, group commit, space, seals, and who may open it."""

import pytest
import trio

from protocol.packet import Class
from protocol.ranges import Ranges
from service.config import ConfigError
from tailer.checkpoint import Checkpoint, StreamState
from tailer.journal import Journal, JournalFull
from tests.simulation.machine import World
from tests.tailer.journals import (
    BUCKET,
    EPOCH,
    OTHER_KEY,
    STREAM,
    draft,
    fill,
    finish,
    next_epoch,
    numbers,
    open_journal,
    readable,
    run,
    seal_all,
    segment_files,
    small_segments,
)

STATE = StreamState(STREAM, b"/var/log/a.log", 1, 2, 3, b"head\n", b"tail", 30, b"kernel", 0, False, start=5)


def test_packets_are_numbered_without_a_gap_and_read_back_as_they_were() -> None:
    async def scenario(world: World) -> None:
        journal = await open_journal(world.machine("a"))
        packets = [journal.append(draft(at, at + 10)) for at in range(0, 50, 10)]
        assert [packet.header.key for packet in packets] == [(journal.node, EPOCH, n) for n in range(5)]
        assert readable(journal) == {(EPOCH, n): packets[n].data for n in range(5)}
        journal.check()

    run(scenario)


def test_a_clean_stop_leaves_everything_to_the_next_start() -> None:
    async def scenario(world: World) -> None:
        machine = world.machine("a")
        journal = await open_journal(machine)
        assert not journal.recovered.found
        entries = fill(journal, 3)
        journal.ledger.note_stored(entries[1], b"n" * 16, synced=True)
        journal.state = lambda: Checkpoint((STATE,), b"boot")
        await journal.close()
        again = await open_journal(machine, next_epoch(journal))
        found = again.recovered
        assert (found.found, found.clean, found.unsure) == (True, True, False)
        assert found.checkpoint == Checkpoint((STATE,), b"boot")
        assert (found.epoch, again.width, again.crashes, again.chain.lost) == (EPOCH, 300, 0, {})
        assert again.coverage == {STREAM: Ranges([(0, 30)])}
        assert again.ledger.entries[EPOCH, 1].synced == (b"n" * 16,)
        assert list(readable(again)) == [(EPOCH, 0), (EPOCH, 1), (EPOCH, 2)]
        assert again.append(draft(30, 40)).header.key == (again.node, next_epoch(journal), 0)

    run(scenario)


def test_coverage_of_streams_that_the_agent_forgot_is_forgotten() -> None:
    async def scenario(world: World) -> None:
        machine = world.machine("a")
        journal = await open_journal(machine)
        finish(journal, fill(journal, 1))
        journal.append(draft(0, 10, stream=b"\x01" + b"g" * 15))
        journal.state = lambda: Checkpoint((STATE,))
        await journal.close()
        assert journal.coverage == {STREAM: Ranges([(0, 10)])}

    run(scenario)


def test_waiters_share_an_fsync() -> None:
    async def scenario(world: World) -> None:
        machine = world.machine("a")
        journal = await open_journal(machine)
        fsyncs: list[bytes] = []
        world.host("a").platter.before = lambda operation, path: fsyncs.append(path) if operation == "fsync" else None
        async with trio.open_nursery() as nursery:
            for at in range(0, 200, 10):
                journal.append(draft(at, at + 10))
                nursery.start_soon(journal.sync)
        assert len(fsyncs) <= 2
        await journal.sync()
        assert len(fsyncs) <= 2  # nothing new: no fsync

    run(scenario)


def test_what_was_synced_survives_a_power_cut_and_what_was_appended_a_kill() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        fill(journal, 2)
        await journal.sync()
        fill(journal, 2)
        host.processes[-1].kill()
        journal = await open_journal(host.process(), 2 << 32)
        assert numbers(journal) == [0, 1, 2, 3]
        assert (journal.recovered.clean, journal.crashes) == (False, 1)
        assert journal.chain.lost == {EPOCH: 3}
        host.power_cut()
        host.power_on()
        journal = await open_journal(host.process(), 3 << 32)
        assert numbers(journal) == [0, 1, 2, 3]
        assert journal.crashes == 2
        assert journal.chain.lost == {EPOCH: 3, 2 << 32: -1}

    run(scenario)


def test_D20_a_second_process_is_refused() -> None:
    async def scenario(world: World) -> None:
        await open_journal(world.machine("a"))
        with pytest.raises(ConfigError, match="in use by another tailer; stop it, or give --journal another folder"):
            await open_journal(world.machine("a"))

    run(scenario)


@pytest.mark.parametrize("other", [{"env": "prod"}, {"key": OTHER_KEY}])
def test_a_journal_of_another_node_or_env_is_refused_and_left_as_it_is(other: dict[str, object]) -> None:
    async def scenario(world: World) -> None:
        machine = world.machine("a")
        journal = await open_journal(machine)
        fill(journal, 1)
        await journal.close()
        before = {name: bytes(inode.data) for name, inode in segment_files(world.host("a")).items()}
        with pytest.raises(ConfigError, match=r"belongs to node .* give back its key"):
            await open_journal(machine, 2 << 32, **other)
        assert {name: bytes(inode.data) for name, inode in segment_files(world.host("a")).items()} == before
        assert numbers(await open_journal(machine, 2 << 32)) == [0]  # and it was given back

    run(scenario)


def test_another_width_is_refused() -> None:
    async def scenario(world: World) -> None:
        journal = await open_journal(world.machine("a"))
        journal.set_width(300)
        with pytest.raises(ConfigError, match="300 s, the bucks have 60 s"):
            journal.set_width(60)

    run(scenario)


def test_a_segment_goes_when_all_its_packets_are_done_and_sealed_and_not_before() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        entries = fill(journal, 12)
        await journal.sync()
        first, *rest = segment_files(host)
        assert len(rest) >= 2
        inside = [entry for entry in entries if entry.segment == 1]
        finish(journal, inside)
        await journal.sync()
        assert first in segment_files(host)  # not stated by any seal
        seal_all(journal)
        await journal.sync()
        assert first not in segment_files(host)
        assert journal.counters["segments_dropped"] == 1
        journal.check()
        journal = await _killed_and_opened(world, 2)
        assert numbers(journal) == [entry.number for entry in entries if entry not in inside]
        assert journal.recovered.coverage == {STREAM: Ranges([(0, 120)])}
        assert not journal.recovered.holes

    with small_segments():
        run(scenario)


async def _killed_and_opened(world: World, epoch: int) -> Journal:
    host = world.host("a")
    host.processes[-1].kill()
    return await open_journal(host.process(), epoch << 32)


def test_a_stuck_packet_does_not_keep_later_segments() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        entries = fill(journal, 40)
        seal_all(journal)
        finish(journal, entries[1:])
        await journal.sync()
        names = list(segment_files(host))
        assert len(names) == 2
        assert names[0] == "0000000001.segment"

    with small_segments():
        run(scenario)


def test_a_full_journal_says_so_changes_nothing_and_goes_on_when_there_is_room() -> None:
    async def scenario(world: World) -> None:
        journal = await open_journal(world.machine("a"), size_max=32 << 20)
        entries = []
        while journal.room() >= 8_100_000:
            entries += fill(journal, 1, size=4 << 20)
            await journal.sync()
        number = len(entries)
        with pytest.raises(JournalFull):
            journal.append(draft(0, 10, size=8_000_000))
        seal_all(journal)
        finish(journal, entries[:-1])
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(journal.run)
                await journal.wait_for_room(8_100_000)
                nursery.cancel_scope.cancel()
        assert journal.append(draft(0, 10, size=8_000_000)).header.number == number

    run(scenario)


def test_above_80_percent_what_two_bucks_synced_is_given_up_oldest_first_and_counted() -> None:
    async def scenario(world: World) -> None:
        journal = await open_journal(world.machine("a"), size_max=32 << 20)
        while journal.room() >= 4 << 20:
            fill(journal, 1, size=2 << 20)
            await journal.sync()
        entries = list(journal.ledger.waiting())
        seal_all(journal)
        for entry in entries:
            for node in (b"m" * 16, b"n" * 16) if entry.number else (b"m" * 16,):
                journal.ledger.note_stored(entry, node, synced=True)
        journal.reclaim()
        await journal.sync()
        assert 0 in numbers(journal)  # one buck only has it
        assert 0 < journal.counters["short"] < len(entries) // 2
        assert journal.room() >= (32 << 20) * 0.2

    run(scenario)


def test_too_much_that_is_not_synced_stops_reading() -> None:
    async def scenario(world: World) -> None:
        journal = await open_journal(world.machine("a"))
        while journal.room():
            fill(journal, 1, size=4 << 20)
        assert 32 << 20 <= journal.counters["bytes"] < 40 << 20
        await journal.sync()
        assert journal.room()

    run(scenario)


def test_a_seal_is_kept_until_enough_bucks_have_it_and_the_head_for_ever() -> None:
    async def scenario(world: World) -> None:
        machine = world.machine("a")
        journal = await open_journal(machine)
        seals = []
        for _ in range(3):
            fill(journal, 1)
            seals.append(seal_all(journal))
        assert [seal.previous for seal in seals[1:]] == [seal.digest for seal in seals[:-1]]
        journal.chain.delivered(1)
        journal.chain.delivered(2)
        await journal.close()
        journal = await open_journal(machine, 2 << 32)
        assert journal.chain.undelivered == {0}
        assert set(journal.chain.seals) == {0, 2}
        assert journal.chain.head == (2, seals[2].digest)
        assert not journal.ledger.unsealed
        assert len(journal.ledger.entries) == 3

    run(scenario)


def test_a_seal_counts_even_if_the_note_of_it_was_torn_off() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        fill(journal, 3)
        seal_all(journal)  # appended, and then the process is killed before any note is written
        journal = await _killed_and_opened(world, 2)
        assert not journal.ledger.unsealed
        assert journal.chain.undelivered == {0}
        assert seal_all(journal).sections[0].lost_after == 2
        assert not journal.chain.lost

    run(scenario)


def test_a_restart_knows_who_holds_what_and_what_is_done_without_asking() -> None:
    async def scenario(world: World) -> None:
        journal = await open_journal(world.machine("a"))
        entries = fill(journal, 4)
        await journal.sync()
        journal.ledger.note_stored(entries[0], b"m" * 16)
        journal.ledger.note_stored(entries[1], b"n" * 16, synced=True)
        finish(journal, entries[2:3])
        await journal.sync()
        world.host("a").power_cut()
        world.host("a").power_on()
        journal = await open_journal(world.host("a").process(), 2 << 32)
        found = [journal.ledger.entries[EPOCH, number] for number in range(4)]
        assert [entry.stored for entry in found] == [(b"m" * 16,), (b"n" * 16,), (), ()]
        assert [entry.synced for entry in found] == [(), (b"n" * 16,), (), ()]
        assert [entry.done for entry in found] == [False, False, True, False]

    run(scenario)


def test_finished_epochs_leave_nothing_behind() -> None:
    async def scenario(world: World) -> None:
        machine = world.machine("a")
        for start in range(1, 5):
            journal = await open_journal(machine, start << 32)
            finish(journal, fill(journal, 2))
            seal_all(journal)
            journal.chain.delivered(journal.chain.head[0])
            await journal.close()
        journal = await open_journal(machine, 5 << 32)
        assert not journal.ledger.entries
        await journal.sync()
        assert len(segment_files(world.host("a"))) == 1
        assert set(journal.recovered.ends) <= {4 << 32}

    run(scenario)


def test_packets_of_a_former_epoch_keep_their_key() -> None:
    async def scenario(world: World) -> None:
        journal = await open_journal(world.machine("a"))
        fill(journal, 1)
        journal = await _killed_and_opened(world, 2)
        packet = journal.load(journal.ledger.entries[EPOCH, 0])
        assert packet is not None
        assert packet.header.key == (journal.node, EPOCH, 0)
        assert (packet.header.kind, packet.header.bucket) == (Class(), BUCKET)

    run(scenario)
