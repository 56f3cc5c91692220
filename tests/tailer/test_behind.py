"""What a seal says of windows whose lines wait: nothing yet, for they may hold more than was journaled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from protocol.seal import Seal
from tailer.agent import Agent
from tailer.blocks import Draft
from tailer.room import DISK_FREE_MIN
from tailer.send import Sender
from tests.simulation.machine import World
from tests.tailer.fake_bucks import FakeBuck, cluster
from tests.tailer.test_agent import Tailer, Writer, lines, run

Hosts = Callable[..., Any]
WIDTH = 20


async def begun(world: World, nursery: trio.Nursery, **changes: Any) -> tuple[list[FakeBuck], Writer, Tailer]:
    """Three bucks, and a tailer that has read and sealed what there was."""
    world.start_ns += 10**9 // 2
    bucks, writer = cluster(world, nursery, 3, width=WIDTH), Writer(world)
    writer.write("a", 100)
    tailer = Tailer(world, nursery, **changes)
    tailer.start()
    await trio.sleep(3 * WIDTH)
    return bucks, writer, tailer


def stated(bucks: list[FakeBuck]) -> list[Seal]:
    return [Seal.read(data) for data in {data for buck in bucks for data in buck.seals.values()}]


def newest(bucks: list[FakeBuck]) -> Seal:
    return max((Seal.read(data) for buck in bucks for data in buck.seals.values()), key=lambda seal: seal.number)


def test_while_the_journal_has_no_room_no_seal_says_that_windows_are_whole() -> None:
    """Else an audit would call a window complete whose lines are in their files, and nowhere else."""

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer, _ = await begun(world, nursery)
        host = world.host("tailer")
        assert newest(bucks).until >= host.time_ns() // 10**9 - 2 * WIDTH, "who has read everything says so"
        before, capacity = host.time_ns() // 10**9, host.platter.capacity
        host.platter.capacity = host.platter.used + DISK_FREE_MIN
        writer.write("a", 100)
        await trio.sleep(4 * WIDTH)
        stuck = newest(bucks)
        assert stuck.until <= before
        host.platter.capacity = capacity
        await trio.sleep(3 * WIDTH)
        assert newest(bucks).until > before + 4 * WIDTH
        assert newest(bucks).number > stuck.number
        assert lines(bucks) == writer.all

    run(scenario)


def test_what_was_written_while_a_tailer_was_away_is_stated_by_nobody_before_it_is_read() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer, tailer = await begun(world, nursery)
        tailer.kill()
        await trio.sleep(WIDTH)
        host = world.host("tailer")
        before, capacity = host.time_ns() // 10**9, host.platter.capacity
        writer.write("a", 100)
        await trio.sleep(4 * WIDTH)
        host.platter.capacity = host.platter.used + DISK_FREE_MIN
        tailer.start()
        await trio.sleep(4 * WIDTH)
        assert newest(bucks).until <= before
        host.platter.capacity = capacity
        await trio.sleep(3 * WIDTH)
        assert newest(bucks).until > before + 8 * WIDTH
        assert lines(bucks) == writer.all

    run(scenario)


def test_what_is_lost_while_a_tailer_is_behind_is_filed_in_the_window_in_which_that_is_noticed() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer, _ = await begun(world, nursery, rotate_wait=1.0)
        host = world.host("tailer")
        capacity = host.platter.capacity
        host.platter.capacity = host.platter.used + DISK_FREE_MIN
        writer.write("a", 100)
        await trio.sleep(3 * WIDTH)
        noticed = host.time_ns() // 10**9
        writer.write("b", 30_000)
        await trio.sleep(2)
        writer.disk.unlink("/log/b")
        await trio.sleep(3 * WIDTH)
        host.platter.capacity = capacity
        await trio.sleep(4 * WIDTH)
        losses = [one for seal in stated(bucks) for one in seal.sections if one.unread]
        assert losses
        assert all(one.bucket + WIDTH > noticed for one in losses), "audits would call the windows after it complete"

    run(scenario)


@pytest.fixture
def agents(monkeypatch: pytest.MonkeyPatch) -> list[Agent]:
    """Those that were started."""
    found: list[Agent] = []
    go = Agent.run

    async def spied(self: Agent, stop: trio.Event) -> int:
        found.append(self)
        return await go(self, stop)

    monkeypatch.setattr(Agent, "run", spied)
    return found


def test_what_is_read_while_a_seal_waits_for_bucks_is_not_taken_for_journaled(
    agents: list[Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer, _ = await begun(world, nursery)
        now = world.host("tailer").time_ns() / 10**9
        end = int((now + 4) // WIDTH + 1) * WIDTH
        await trio.sleep(end - 4 - now)
        writer.write("a")
        await trio.sleep(2)
        monkeypatch.setattr(Sender, "crowded", True)
        nursery.start_soon(agents[0].mender._seal)
        await trio.sleep(1.2)
        writer.write("a")
        await trio.sleep(0.8 + 3.1)  # until what the seal waits for is given up, and it is made
        assert agents[0]._inputs is not None
        assert agents[0]._inputs.blocks.raw, "it was read by then, and is not in the journal"
        stated_lines = sum(section.events for seal in stated(bucks) for section in seal.sections)
        assert stated_lines < writer.lines
        assert newest(bucks).until < end

    run(scenario)


async def test_what_a_reader_knows_to_be_read_is_what_the_last_sweep_has_found(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"a line\n" * 10)
    h = host("*.log")
    h.machine.clock += 5
    await h.reader.round()
    assert h.reader.clean_at == float("-inf"), "nobody has looked yet"
    await h.look()
    first = h.machine.now()
    assert h.reader.clean_at == first
    h.machine.clock += 60
    await h.reader.round()
    h.reader.mark(h.known.follows.values())  # by an event
    await h.reader.round()
    assert h.reader.clean_at == first, "others may have grown, and their events not be fetched yet"
    log.write_bytes(b"a line\n" * 1000)
    await h.sweep()
    second = h.machine.now()
    go_on = trio.Event()

    async def full(drafts: list[Draft]) -> None:
        await go_on.wait()

    h.reader._ship = full
    async with trio.open_nursery() as nursery:
        nursery.start_soon(h.reader.round)
        await trio.testing.wait_all_tasks_blocked()
        h.machine.clock += 60
        assert h.reader.clean_at == first
        await h.sweep()  # it finds what this round may be past already
        go_on.set()
    assert h.reader.clean_at == second
    await h.reader.round()
    assert h.reader.clean_at == second + 60


async def test_what_was_renamed_before_it_was_read_is_not_known_to_be_read_until_it_is(
    host: Hosts, tmp_path: Path
) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"a line\n" * 10)
    h = host("*.log")
    await h.look()
    first = h.machine.now()
    h.reader.close()
    h.machine.clock += 5
    with log.open("ab") as file:
        file.write(b"a line\n" * 5)
    await h.sweep()
    log.rename(tmp_path / "b.log")
    h.machine.clock += 1
    for _ in range(2):
        await h.reader.round()
    assert h.reader.clean_at == first
    h.machine.clock += 1
    await h.look()
    await h.reader.round()
    assert h.reader.clean_at == h.machine.now()
    await h.settle()
    assert sum(len(data) for some in h.pieces.values() for data in some.values()) == 15 * len(b"a line\n")


async def test_a_file_that_can_not_be_read_holds_up_nothing(host: Hosts, tmp_path: Path) -> None:
    """It is told as an error; all the others of its host would be unknown for ever."""
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_bytes(b"a line\n" * 10)
    h = host("*.log")
    real = h.known.disk.open_read

    def refused(path: bytes) -> Any:
        if path.endswith(b"b.log"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    h.known.disk.open_read = refused
    await h.settle()
    assert h.known.counts["unreadable"]
    await h.reader.round()
    assert h.reader.clean_at == h.machine.now()
