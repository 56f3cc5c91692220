"""The journal on disks that are full or fail (D11 to D15): what was synced is there, whatever happens after."""

import errno

import pytest
import trio

from protocol.packet import Class
from protocol.ranges import Ranges
from tailer.chain import Place
from tailer.journal import Journal, JournalError, JournalFull
from tailer.ledger import Entry
from tests.simulation.machine import Host, World
from tests.tailer.journals import (
    BUCKET,
    EPOCH,
    FOLDER,
    STREAM,
    draft,
    fill,
    last_segment,
    numbers,
    open_journal,
    readable,
    run,
    seal_all,
    segment_files,
    small_segments,
)


def test_D11_a_full_disk_at_any_byte_leaves_no_half_record_and_the_same_draft_goes_in_later() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        fill(journal, 1)
        used = host.platter.used
        for extra in range(0, 400, 7):
            host.platter.capacity = used + extra
            journal._room.left = lambda: 1 << 40  # type: ignore[method-assign]  # somebody else was faster
            try:
                journal.append(draft(10, 20))
            except JournalFull:
                assert host.platter.used == used
            else:
                break
        assert extra > 100
        host.platter.capacity = 1 << 40
        await journal.sync()
        host.processes[-1].kill()
        journal = await open_journal(host.process(), 2 << 32)
        assert numbers(journal) == [0, 1]
        assert (journal.recovered.skipped, journal.recovered.cut) == (0, 0)

    run(scenario)


def test_D11_a_write_that_can_not_be_undone_ends_its_segment() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        fill(journal, 1)
        host.platter.capacity = host.platter.used + 50
        journal._room.left = lambda: 1 << 40  # type: ignore[method-assign]  # somebody else was faster
        fail_on(host, "truncate")
        with pytest.raises(JournalFull):
            journal.append(draft(10, 20))
        host.platter.capacity = 1 << 40
        host.platter.before = lambda operation, path: None
        journal.append(draft(10, 20))
        await journal.sync()
        assert len(segment_files(host)) == 2
        host.power_cut()
        host.power_on()
        journal = await open_journal(host.process(), 2 << 32)
        assert sorted(numbers(journal)) == [0, 1]

    run(scenario)


def fail_on(host: Host, *operations: str, nth: int = 1, code: int = errno.EIO) -> None:
    """The nth of these operations fails, and all after it if `nth` is 0."""
    seen = 0

    def before(operation: str, path: bytes) -> None:
        nonlocal seen
        if operation in operations and b"journal" in path:
            seen += 1
            if nth in (0, seen):
                raise OSError(code, "Input/output error", path.decode())

    host.platter.before = before


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_D12_after_a_failed_fsync_nothing_is_trusted_and_nothing_is_lost(failures: int) -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        fill(journal, 2)
        await journal.sync()
        fill(journal, 2)
        host.platter.fsync_failures = failures
        for _ in range(failures // 2):
            with pytest.raises(JournalError, match="can't be synced"):
                await journal.sync()
        await journal.sync()
        assert journal.counters["rewritten"] >= 2
        journal.check()
        host.power_cut()  # what the failed fsync pretended to write is zeros now
        host.power_on()
        journal = await open_journal(host.process(), 2 << 32)
        assert numbers(journal) == [0, 1, 2, 3]
        assert len(readable(journal)) == 4

    run(scenario)


def test_D12_a_segment_that_got_packets_again_while_it_was_to_go_stays() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        fill(journal, 1)
        fill(journal, 1, size=2000)
        host.platter.fsync_failures = 2
        with pytest.raises(JournalError):
            await journal.sync()
        seal_all(journal)  # begins a segment, which has no packet when the next sync looks for those that may go
        await journal.sync()
        journal.check()
        assert len(readable(journal)) == 2

    with small_segments():
        run(scenario)


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ENOSPC, errno.EMFILE])
@pytest.mark.parametrize(
    "operation", ["write", "open", "fsync", "fsync_folder", "unlink", "truncate", "space", "listdir"]
)
def test_D12_D13_D15_whatever_fails_once_what_was_synced_is_there(operation: str, code: int) -> None:
    async def scenario(world: World) -> None:
        for nth in range(1, 6):
            host = world.host(f"a{nth}")
            journal = await open_journal(host.process())
            fail_on(host, operation, nth=nth, code=code)
            synced: list[int] = []
            for _ in range(12):
                try:
                    fill(journal, 1)
                    await journal.sync()
                    synced = numbers(journal)
                except JournalError:
                    pass
            assert len(synced) >= 10
            host.platter.before = lambda operation, path: None
            host.power_cut()
            host.power_on()
            journal = await open_journal(host.process(), 2 << 32)
            assert set(synced) <= set(readable_numbers(journal))

    with small_segments():
        run(scenario)


def readable_numbers(journal: Journal) -> list[int]:
    return [number for _, number in readable(journal)]


@pytest.mark.parametrize("operation", ["mkdirs", "open", "write", "fsync", "listdir", "lock"])
def test_D12_a_journal_that_can_not_be_opened_says_why(operation: str) -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        fail_on(host, operation, nth=0, code=errno.EACCES)
        with pytest.raises(Exception, match="journal can't be") as caught:
            await open_journal(host.process())
        assert FOLDER in str(caught.value)
        host.platter.before = lambda operation, path: None
        await open_journal(host.process())  # and the folder isn't held

    run(scenario)


def test_D12_a_disk_that_stays_broken_stops_reading_and_loses_nothing() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        fail_on(host, "fsync", nth=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.run)
            while journal.room():
                fill(journal, 1, size=4 << 20)
                await trio.sleep(0.1)
            count = len(numbers(journal))
            await trio.sleep(300)
            assert len(segment_files(host)) < 60  # it doesn't make files as fast as it can
            host.platter.before = lambda operation, path: None
            await journal.wait_for_room(1 << 20)
            nursery.cancel_scope.cancel()
        host.power_cut()
        host.power_on()
        journal = await open_journal(host.process(), 2 << 32)
        assert len(readable(journal)) == count

    run(scenario)


def test_a_packet_that_can_not_be_read_back_is_counted_and_a_seal_says_that_it_was_given_up() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        first, second = fill(journal, 2)
        for entry in (first, second):
            last_segment(host).data[entry.offset + 60] ^= 1
            assert journal.load(entry) is None
        assert journal.counters["unreadable"] == 2
        assert not journal.chain.given_up, "bucks may hold them"
        give_up(journal, first)
        assert journal.chain.given_up == {Place(EPOCH, BUCKET, Class()): Ranges([(0, 1)])}
        assert numbers(journal) == [1]
        section = seal_all(journal).sections[-1]
        assert (section.given_up, section.since, section.bucket) == (Ranges([(0, 1)]), BUCKET, BUCKET)

    run(scenario)


def give_up(journal: Journal, entry: Entry) -> None:
    journal.give_up(entry.epoch, Ranges([(entry.number, entry.number + 1)]), entry)


def test_what_was_given_up_and_stated_is_read_again_after_a_clean_stop() -> None:
    """The file may still be there: what the journal claims to have covered is not true any more."""

    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        entry, other = fill(journal, 2)
        journal.ledger.note_stored(other, b"n" * 16)
        last_segment(host).data[entry.offset + 60] ^= 1
        assert journal.load(entry) is None
        give_up(journal, entry)
        seal_all(journal)
        await journal.close()
        journal = await open_journal(host.process(), 2 << 32)
        assert journal.recovered.unsure, "so the bucks are asked what they have"
        assert journal.coverage == {STREAM: Ranges([(10, 20)])}

    run(scenario)


def test_what_was_given_up_and_not_yet_stated_is_a_hole_again_after_a_restart() -> None:
    """Otherwise no seal would ever say so: the number would be missing, and nobody would miss it."""

    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        entry, _ = fill(journal, 2)
        last_segment(host).data[entry.offset + 60] ^= 1
        assert journal.load(entry) is None
        give_up(journal, entry)
        await journal.close()
        journal = await open_journal(host.process(), 2 << 32)
        assert journal.recovered.holes == {EPOCH: Ranges([(0, 1)])}
        assert journal.recovered.unsure
        assert journal.coverage == {STREAM: Ranges([(10, 20)])}  # so it is read again

    run(scenario)
