"""The journal in bad days: torn, damaged, missing and stale files, and disks that fail (RELIABILITY D1-D20)."""

import contextlib
import errno
import random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.ranges import Ranges
from tailer.journal import Journal, JournalError, JournalFull
from tailer.segment import segment_name
from tests.simulation.disk import Killed
from tests.simulation.machine import Host, World
from tests.simulation.platter import Folder
from tests.tailer.journals import (
    EPOCH,
    FOLDER,
    STREAM,
    draft,
    fill,
    finish,
    keep,
    last_segment,
    numbers,
    open_journal,
    readable,
    run,
    seal_all,
    segment_files,
    small_segments,
)


async def written(host: Host, count: int, size: int = 100) -> tuple[Journal, list[tuple[int, int]]]:
    """A journal of so many synced packets whose process was killed, and where each begins and ends in its segment."""
    journal = await open_journal(host.process())
    entries = fill(journal, count, size=size)
    await journal.sync()
    host.processes[-1].kill()
    return journal, [(entry.offset, entry.offset + entry.size) for entry in entries]


def test_D1_a_last_record_torn_at_any_byte_is_cut_and_the_others_stay() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        _, places = await written(host, 2)
        inode = last_segment(host)
        whole = bytes(inode.data)
        start, end = places[1]
        for cut in range(start, end):
            keep(inode, whole[:cut])
            journal = await open_journal(host.process(), 2 << 32)
            assert numbers(journal) == [0]
            assert (journal.recovered.cut, len(inode.data)) == (cut - start, start)
            assert journal.coverage == {STREAM: Ranges([(0, 10)])}
            _forget_newest(host)

    run(scenario)


def _forget_newest(host: Host) -> None:
    """As if that start had never been: only the first segment stays."""
    host.processes[-1].kill()
    folder = host.platter.find(FOLDER)
    assert isinstance(folder, Folder)
    for name in list(segment_files(host))[1:]:
        del folder.names[name.encode()]


@pytest.mark.parametrize(
    "tail",
    [
        bytes(5000),
        b"BUK1" + bytes(60),
        b"BUKR" + bytes(60),
        b"BUK1\x00\x00\x00\x10\x00\x00\x00\x10" + b"x" * 64,
        b"BUK1\xff\xff\xff\xff\xff\xff\xff\xff",
        b"BUKR\xff\xff\xff\xff" + b"BUK1" * 50,
        random.Random(3).randbytes(3000) + b"BUK1",
    ],
)
def test_D2_D3_D5_zeros_magics_and_huge_lengths_at_the_end_are_cut(tail: bytes) -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        await written(host, 2)
        inode = last_segment(host)
        size = len(inode.data)
        keep(inode, bytes(inode.data) + tail)
        journal = await open_journal(host.process(), 2 << 32)
        assert numbers(journal) == [0, 1]
        assert (len(inode.data), journal.recovered.cut, journal.recovered.skipped) == (size, len(tail), 0)

    run(scenario)


def test_D4_D5_any_flipped_bit_in_the_middle_costs_that_record_alone() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        _, places = await written(host, 3)
        inode = last_segment(host)
        whole = bytes(inode.data)
        for at in range(*places[1]):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << at % 8
            keep(inode, bytes(damaged))
            journal = await open_journal(host.process(), 2 << 32)
            assert numbers(journal) == [0, 2]
            assert (journal.recovered.skipped, journal.recovered.cut) == (1, 0)
            assert journal.recovered.holes == {EPOCH: Ranges([(1, 2)])}
            assert journal.coverage == {STREAM: Ranges([(0, 10), (20, 30)])}
            assert journal.recovered.unsure
            _forget_newest(host)

    run(scenario)


def test_a_checkpoint_does_not_vouch_for_a_packet_that_is_damaged() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        entry, *_ = fill(journal, 3)
        await journal.close()  # its checkpoint says that all of the stream is in packets
        next(iter(segment_files(host).values())).data[entry.offset + 50] ^= 1
        journal = await open_journal(host.process(), 2 << 32)
        assert journal.coverage == {STREAM: Ranges([(10, 30)])}
        assert (journal.recovered.clean, journal.recovered.unsure) == (False, True)

    run(scenario)


def test_D6_a_damaged_checkpoint_is_made_up_for_by_an_older_one_or_by_the_packets() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        fill(journal, 20)
        await journal.sync()
        host.processes[-1].kill()
        files = list(segment_files(host).values())
        for inode in reversed(files):  # first the newest checkpoint, in the end all of them
            inode.data[30] ^= 4
            journal = await open_journal(host.process(), 2 << 32)
            assert numbers(journal) == list(range(20))
            assert journal.coverage == {STREAM: Ranges([(0, 200)])}
            assert journal.recovered.epoch == EPOCH
            assert not journal.recovered.clean
            host.processes[-1].kill()
            folder = host.platter.find(FOLDER)
            assert isinstance(folder, Folder)
            for name in list(segment_files(host))[len(files) :]:
                del folder.names[name.encode()]

    with small_segments():
        run(scenario)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_D7_a_missing_segment_is_noticed_by_its_numbers(which: int) -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        entries = fill(journal, 12)
        await journal.close()
        name = list(segment_files(host))[which]
        gone = {entry.number for entry in entries if segment_name(entry.segment) == name}
        assert gone
        folder = host.platter.find(FOLDER)
        assert isinstance(folder, Folder)
        del folder.names[name.encode()]
        journal = await open_journal(host.process(), 2 << 32)
        assert numbers(journal) == [number for number in range(12) if number not in gone]
        assert set(journal.recovered.holes[EPOCH].numbers()) == gone
        assert not journal.recovered.clean

    with small_segments():
        run(scenario)


def test_D7_strange_names_and_empty_segments_do_not_matter() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        await written(host, 2)
        machine = host.process()
        for name in ("1.segment", "0000000001.segment.bak", "x.segment", "٣.segment", "0000000009.segment"):
            machine.disk.open_new(f"{FOLDER}/{name}").close()
        journal = await open_journal(machine, 2 << 32)
        assert numbers(journal) == [0, 1]
        fill(journal, 1)
        await journal.close()
        assert "0000000010.segment" in segment_files(host)
        assert "1.segment" in segment_files(host)  # not ours: left alone

    run(scenario)


def test_D7_a_missing_folder_is_an_empty_journal() -> None:
    async def scenario(world: World) -> None:
        journal = await open_journal(world.machine("a"), 7 << 32)
        assert not journal.recovered.found
        assert not journal.chain.lost

    run(scenario)


def test_D9_a_segment_that_was_dropped_and_came_back_is_not_believed() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        machine = host.process()
        journal = await open_journal(machine)
        finish(journal, fill(journal, 2))
        seal_all(journal)
        journal.chain.delivered(0)
        old_name, old = next(iter(segment_files(host).items()))
        saved = bytes(old.data)
        await journal.close()
        for start in (2, 3):
            journal = await open_journal(machine, start << 32)
            fill(journal, 1)
            await journal.close()
        assert old_name not in segment_files(host)
        keep_in = machine.disk.open_new(f"{FOLDER}/{old_name}")
        keep_in.write(saved)
        journal = await open_journal(machine, 4 << 32)
        assert sorted(journal.ledger.entries) == [(2 << 32, 0), (3 << 32, 0)]
        assert journal.recovered.stale == 1
        assert old_name not in segment_files(host)

    run(scenario)


def test_D10_a_control_record_of_another_segment_is_not_taken() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        machine = host.process()
        journal = await open_journal(machine)
        fill(journal, 1)
        await journal.close()
        first = last_segment(host)
        head = bytes(first.data)
        journal = await open_journal(machine, 2 << 32)
        fill(journal, 1)
        await journal.sync()
        machine.kill()
        second = last_segment(host)
        keep(second, bytes(second.data) + head[: journal._segments.all[1].head_size or 200])
        keep(second, bytes(second.data) + head)
        journal = await open_journal(host.process(), 3 << 32)
        assert journal.recovered.foreign > 0
        assert journal.recovered.epoch == 2 << 32  # not what the older checkpoint says
        assert sorted(journal.ledger.entries) == [(EPOCH, 0), (2 << 32, 0)]

    run(scenario)


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


def test_a_packet_that_can_not_be_read_back_is_given_up_only_if_no_buck_has_it() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        journal = await open_journal(host.process())
        first, second = fill(journal, 2)
        journal.ledger.note_stored(second, b"n" * 16)
        for entry in (first, second):
            last_segment(host).data[entry.offset + 60] ^= 1
            assert journal.load(entry) is None
        assert journal.counters["unreadable"] == 2
        assert journal.chain.given_up == {EPOCH: Ranges([(0, 1)])}
        assert numbers(journal) == [1]
        assert seal_all(journal).sections[-1].given_up == Ranges([(0, 1)])

    run(scenario)


# --- any order of good and bad days ---------------------------------------------------------------------------------

STEPS = ("append", "append", "append", "sync", "sync", "seal", "done", "kill", "power", "close", "fsync fails", "full")


@settings(max_examples=100)
@given(steps=st.lists(st.sampled_from(STEPS), max_size=40), seed=st.integers(0, 1000))
def test_whatever_happens_what_was_synced_and_is_not_done_is_there_after_it(steps: list[str], seed: int) -> None:
    async def scenario(world: World) -> None:
        model = _Model(world)
        for step in ["open", *steps, "power"]:
            await model.step(step)

    with small_segments():
        run(scenario, seed)


class _Model:
    """A journal, and what it must not forget."""

    def __init__(self, world: World) -> None:
        self.host = world.host("a")
        self.random = random.Random(world.seed)
        self.journal: Journal | None = None
        self.epoch = 0
        self.written: dict[tuple[int, int], bytes] = {}  # every packet there ever was
        self.places: dict[tuple[int, int], tuple[int, int]] = {}  # where in the stream
        self.kept: set[tuple[int, int]] = set()  # appended, and its process or its bytes are safe
        self.loose: set[tuple[int, int]] = set()  # appended, not synced
        self.done: set[tuple[int, int]] = set()
        self.doubtful: set[tuple[int, int]] = set()  # their fsync failed, and nobody could write them once more
        self.failed = False
        self.offset = 0

    async def step(self, step: str) -> None:
        journal = self.journal
        if step == "open" or journal is None:
            await self._open()
        elif step == "append":
            self._append(journal)
        elif step == "sync":
            await self._sync(journal)
        elif step == "seal":
            seal_all(journal)
        elif step == "done":
            self._finish(journal)
        elif step == "fsync fails":
            self.host.platter.fsync_failures += 1
        elif step == "full":
            self._fill_disk(journal)
        else:
            await self._end(journal, step)
        if self.journal is not None:
            self.journal.check()

    async def _open(self) -> None:
        self.epoch += 1 << 32
        self.host.platter.fsync_failures = 0
        self.failed = False
        self.journal = journal = await open_journal(self.host.process(), self.epoch)
        found = readable(journal)
        assert all(self.written[slot] == data for slot, data in found.items())
        assert self.kept - self.done <= set(found)
        for slot in set(self.written) - set(found) - self.done:
            start, end = self.places[slot]  # what isn't here must be read again
            assert not journal.coverage.get(STREAM, Ranges()) & Ranges([(start, end)])
        self.kept = set(found) - self.doubtful

    def _append(self, journal: Journal) -> None:
        packet = journal.append(draft(self.offset, self.offset + 10, size=self.random.choice((10, 400, 2000))))
        slot = packet.header.epoch, packet.header.number
        self.written[slot] = bytes(packet.data)
        self.places[slot] = self.offset, self.offset + 10
        self.offset += 10
        self.loose.add(slot)

    async def _sync(self, journal: Journal) -> None:
        try:
            await journal.sync()
        except JournalError:
            self.failed = True
            return
        self.failed = False
        self._keep_loose()

    def _keep_loose(self) -> None:
        """They survive the process. If an fsync failed: the next power cut shows whether they were ever written."""
        self.doubtful |= self.loose if self.failed else set()
        self.kept |= self.loose - self.doubtful
        self.loose = set()

    def _finish(self, journal: Journal) -> None:
        for entry in list(journal.ledger.waiting()):
            if self.random.random() < 0.6:
                journal.ledger.note_done(entry)
                self.done.add(entry.slot)

    def _fill_disk(self, journal: Journal) -> None:
        self.host.platter.capacity = self.host.platter.used + self.random.randrange(300)
        with contextlib.suppress(JournalFull):
            journal._write({"k": "notes", "epochs": {}, "delivered": []})
        self.host.platter.capacity = 1 << 40

    async def _end(self, journal: Journal, how: str) -> None:
        try:
            if how == "close":
                await journal.close()
                self._keep_loose()
            elif how == "kill":
                self.host.processes[-1].kill()
                self._keep_loose()
            else:
                self.host.power_cut()
                self.host.power_on()
        except (JournalError, Killed):
            self.host.power_cut()
            self.host.power_on()
        self.loose = set()
        await self._open()
