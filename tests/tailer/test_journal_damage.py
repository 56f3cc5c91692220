"""The journal in bad days: torn, damaged, missing and stale files (D1 to D10)."""

import random

import pytest

from protocol.ranges import Ranges
from protocol.record import encode_record
from service.config import ConfigError
from tailer.journal import Journal
from tailer.segment import segment_name
from tests.simulation.machine import Host, World
from tests.simulation.platter import Folder
from tests.tailer.journals import (
    EPOCH,
    FOLDER,
    STREAM,
    fill,
    finish,
    keep,
    last_segment,
    numbers,
    open_journal,
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


def test_a_journal_of_a_later_version_is_refused_and_left_as_it_is() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")
        await written(host, 2)
        inode = last_segment(host)
        later = encode_record({"k": "checkpoint", "v": 2, "segment": 1})
        keep(inode, later + b"a packet as it will be")
        with pytest.raises(ConfigError, match="version 2; this program knows 1"):
            await open_journal(host.process(), 2 << 32)
        assert list(segment_files(host)) == ["0000000001.segment"]
        assert bytes(inode.data) == later + b"a packet as it will be"

    run(scenario)
