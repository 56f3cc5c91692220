"""What a crash took is there again only if the files are; the seal says which, and what went before it was read."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from protocol.packet import Class
from protocol.seal import Seal, Section
from tests.simulation.machine import World, simulate
from tests.tailer.conftest import Host
from tests.tailer.fake_bucks import FakeBuck, cluster
from tests.tailer.journals import BUCKET, open_journal, seal_all
from tests.tailer.test_agent import Tailer, Writer, run


def lost_sections(bucks: list[FakeBuck]) -> list[Section]:
    seals = {number: Seal.read(data) for buck in bucks for number, data in buck.seals.items()}
    return [section for _, seal in sorted(seals.items()) for section in seal.sections if section.lost_after is not None]


def crashes(*meanwhile: Callable[[Writer], None]) -> list[bool]:
    """Of a tailer that was killed so many times before it could seal: is what it lost said to be read again?"""
    found: list[bool] = []

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer = cluster(world, nursery, 3), Writer(world)
        writer.write("a", 50)
        writer.write("b", 50)
        tailer = Tailer(world, nursery, **{"from": "head"})
        tailer.start()
        await trio.sleep(10)
        for change in meanwhile:
            writer.write("a", 50)
            await trio.sleep(0.3)
            tailer.kill()
            change(writer)
            await trio.sleep(1)
            tailer.start()
            await trio.sleep(8)
        await trio.sleep(400)
        found.extend(section.read_again for section in lost_sections(bucks))
        await tailer.end()

    run(scenario)
    return found


def nothing(writer: Writer) -> None:
    pass


def delete(writer: Writer) -> None:
    writer.disk.unlink("/log/a")


def cut(writer: Writer) -> None:
    file = writer.disk.open_append("/log/a")
    file.truncate(0)
    file.write(b"something else\n")
    file.close()


def copy_and_cut(writer: Writer) -> None:
    file = writer.disk.open_read("/log/a")
    copy = writer.disk.open_append("/log/a.1")
    copy.write(file.pread(1 << 20, 0))
    cut(writer)


def rename(writer: Writer) -> None:
    writer.disk.rename("/log/a", "/log/a.1")
    writer.write("a", 3)


@pytest.mark.parametrize(
    ("meanwhile", "read_again"),
    [
        ([nothing], [True]),
        ([rename], [True]),
        ([copy_and_cut], [True]),
        ([delete], [False]),
        ([cut], [False]),
        ([nothing, nothing], [True, True]),
        ([delete, nothing], [False, False]),
    ],
)
def test_a_seal_says_whether_the_files_of_a_lost_epoch_were_found_again(
    meanwhile: list[Callable[[Writer], None]], read_again: list[bool]
) -> None:
    assert crashes(*meanwhile) == read_again


LAST = b"no line end"


def deleted_and_killed(after_s: float) -> tuple[bool, list[bool]]:
    """A file goes under a tailer that runs, its last line just written; then the tailer is killed, twice. Do bucks have
    all of it? And are the files of both epochs said to be read again?"""
    found: list[bool] = []
    whole = False

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        nonlocal whole
        bucks, writer = cluster(world, nursery, 3), Writer(world)
        writer.write("a", 50)
        writer.write("b", 50)
        tailer = Tailer(world, nursery, **{"from": "head"})
        tailer.start()
        await trio.sleep(20)
        file = writer.disk.open_append("/log/a")
        file.write(LAST)
        size = file.size()
        file.close()
        await trio.sleep(1.5)  # it is seen
        writer.disk.unlink("/log/a")
        await trio.sleep(after_s)
        for _ in range(2):  # what the first crash took is stated before the second one
            tailer.kill()
            await trio.sleep(1)
            tailer.start()
            await trio.sleep(310)
        found.extend(section.read_again for section in lost_sections(bucks))
        headers = [packet.header for buck in bucks for packet in buck.packets.values()]
        whole = size in {run.end for one in headers for run in one.runs if one.streams[run.stream].path == b"/log/a"}
        await tailer.end()

    run(scenario)
    return whole, found


def test_a_file_deleted_a_moment_before_a_crash_is_missed_and_that_is_said_once() -> None:
    """Until the tailer has let go of it, somebody may still write to it."""
    assert deleted_and_killed(2.0) == (False, [False, True])


def test_the_last_line_of_a_file_that_was_let_go_of_may_be_lost_in_a_crash_too() -> None:
    """It was in no packet yet, while a checkpoint said already that the file had been read to its end."""
    assert deleted_and_killed(8.0) == (False, [False, True])


def test_a_file_that_was_let_go_of_is_missed_by_no_crash() -> None:
    assert deleted_and_killed(15.0) == (True, [True, True])


async def test_a_file_that_went_before_it_was_read_is_told(host: Callable[..., Host], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\n")
    h = host("*", open_files=1)
    lost: list[int] = []
    h.known.note_unread = lambda size, kind: lost.append(size)
    await h.look()
    (tmp_path / "b").write_bytes(b"two\n")
    await h.look(1)
    with (tmp_path / "a").open("ab") as file:
        file.write(b"three\n")
    await h.scanner.sweep()
    h.known.follows[next(iter(h.known.follows))].seen = h.machine.disk.stat(bytes(tmp_path / "a"))
    (tmp_path / "a").unlink()
    await h.settle()
    assert lost == [6]


def test_unread_bytes_are_stated_once_over_a_restart_too() -> None:
    async def scenario(world: World) -> None:
        journal = await open_journal(world.machine("tailer"), 1 << 32)
        journal.set_width(300)
        journal.chain.note_unread(6, Class())
        journal.chain.note_unread(7, Class(1, False, False))
        journal.save()
        await journal.sync()
        journal.release()
        journal = await open_journal(world.machine("tailer"), 2 << 32)
        assert journal.chain.unread == {Class(): 6, Class(1, False, False): 7}
        stated = {section.kind: (section.unread, section.since) for section in seal_all(journal).sections}
        assert stated == {Class(): (6, 0), Class(1, False, False): (7, 0)}
        await journal.sync()
        journal.release()
        journal = await open_journal(world.machine("tailer"), 3 << 32)
        assert not journal.chain.unread
        assert not any(section.unread for section in seal_all(journal).sections)
        journal.chain.note_unread(6, Class())
        (section,) = [section for section in seal_all(journal).sections if section.unread]
        assert section.since == BUCKET - 86_400  # a day before the end of the last seal: so old a line is timely

    simulate(1, scenario)
