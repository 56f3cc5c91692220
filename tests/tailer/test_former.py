"""A lost journal, or an old copy of it: what bucks hold of the files is not read twice, and nothing is skipped."""

from copy import deepcopy

import trio

from protocol.kernel import Rows
from protocol.packet import unpack
from protocol.seal import Seal, chain
from tests.simulation.machine import World
from tests.simulation.platter import Folder, Inode
from tests.tailer.fake_bucks import FakeBuck, cluster
from tests.tailer.test_agent import Tailer, run

HEAD = b"#Fields: a b c\n"


def append(world: World, data: bytes, *, name: str = "a.log", cut: bool = False) -> None:
    disk = world.machine("tailer").disk
    disk.mkdirs("/log")
    file = disk.open_append(f"/log/{name}")
    if cut:
        file.truncate(0)
    file.write(data)
    file.close()


def journal_of(world: World) -> Folder:
    folder = world.host("tailer").platter.find("/journal")
    assert isinstance(folder, Folder)
    return folder


def key_of(world: World) -> Inode:
    found = world.host("tailer").platter.find("/journal.key")
    assert isinstance(found, Inode)
    return found


def held(bucks: list[FakeBuck]) -> list[bytes]:
    """The text of each stream, in order of appearance; no byte may be held in two versions."""
    pieces: dict[bytes, dict[int, bytes]] = {}
    for _, packet in sorted({slot: packet for buck in bucks for slot, packet in buck.packets.items()}.items()):
        head = packet.header
        rows = Rows.decode(unpack(packet), head.count, head.sizes, head.formats, head.shn, head.app, head.runs)
        row = 0
        for run_ in head.runs:
            text, row = rows.render(row, row + run_.count), row + run_.count
            for at in range(run_.first, run_.end):
                byte = text[at - run_.first : at - run_.first + 1]
                assert pieces.setdefault(head.streams[run_.stream].id, {}).setdefault(at, byte) == byte
    return [b"".join(bytes_[at] for at in sorted(bytes_)) for bytes_ in pieces.values()]


def lost_journal(**settings: str) -> list[bytes]:
    """A file is cut once; later its tailer is killed and loses its journal, and the file grows meanwhile."""
    found: list[bytes] = []

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        append(world, HEAD + b"same\n")
        tailer = Tailer(world, nursery, **settings)
        tailer.start()
        await trio.sleep(10)
        append(world, b"same\nold\n")
        await trio.sleep(20)
        append(world, HEAD + b"same\n" + b"newer\n" * 2, cut=True)
        await trio.sleep(20)
        tailer.kill()
        journal_of(world).names.clear()
        append(world, b"newest\n" * 20)
        tailer.start()
        await trio.sleep(20)
        append(world, b"last\n")
        await trio.sleep(20)
        found.extend(held(bucks))
        await tailer.end()

    run(scenario)
    return found


NEW = HEAD + b"same\n" + b"newer\n" * 2 + b"newest\n" * 20 + b"last\n"


def test_a_file_that_was_cut_goes_on_in_its_last_generation_when_the_journal_is_lost() -> None:
    assert lost_journal() == [HEAD + b"same\nsame\nold\n", NEW]


def test_with_begin_at_the_end_a_file_that_bucks_know_goes_on_where_they_end() -> None:
    assert lost_journal(**{"from": "end"}) == [b"same\nold\n", NEW]


def test_a_file_written_anew_while_the_journal_was_lost_is_another_generation_and_read_whole() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        append(world, b"")
        tailer = Tailer(world, nursery, **{"from": "end"})
        tailer.start()
        await trio.sleep(10)
        append(world, HEAD + b"old\n" * 3)
        await trio.sleep(10)
        tailer.kill()
        journal_of(world).names.clear()
        append(world, HEAD + b"new\n" * 30, cut=True)
        tailer.start()
        await trio.sleep(20)
        assert held(bucks)[-2:] == [HEAD + b"old\n" * 3, HEAD + b"new\n" * 30]
        await tailer.end()

    run(scenario)


def test_a_copy_is_known_when_the_journal_is_lost() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        append(world, HEAD + b"old\n" * 3)
        tailer = Tailer(world, nursery, **{"from": "head"})
        tailer.start()
        await trio.sleep(10)
        tailer.kill()
        journal_of(world).names.clear()
        append(world, HEAD + b"old\n" * 3 + b"rest\n", name="a.log.1")
        append(world, HEAD + b"new\n", cut=True)
        tailer.start()
        await trio.sleep(30)
        assert sorted(held(bucks)) == [HEAD + b"new\n", HEAD + b"old\n" * 3 + b"rest\n"]
        await tailer.end()

    run(scenario)


def test_an_old_copy_of_a_journal_does_not_fork_the_chain() -> None:
    """A virtual machine is restored: key and journal of one moment look like a clean stop."""

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        append(world, b"one\n")
        tailer = Tailer(world, nursery)
        tailer.start()
        await trio.sleep(400)
        await tailer.end()
        before = deepcopy(journal_of(world).names), deepcopy(key_of(world).data)
        tailer.start()
        await trio.sleep(1200)
        append(world, b"two\n")
        await trio.sleep(10)
        await tailer.end()
        journal_of(world).names, key_of(world).data = before
        tailer.start()
        await trio.sleep(400)
        append(world, b"three\n")
        await trio.sleep(10)
        await tailer.end()
        _, holes, forks = chain(Seal.read(data) for buck in bucks for data in buck.seals.values())
        assert not holes
        assert not forks
        assert held(bucks) == [b"one\ntwo\nthree\n"]

    run(scenario)
