"""Archived, verified, let go of: simulated clusters whose bucks drop what is in the archive, and miss nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
import trio

from porter.archive import Archiver
from porter.archive_audit import look_at_archive
from porter.archived import Archive
from porter.audit import Audit, Found, audit, look_at_bucks
from porter.bucks import Bucks
from porter.cluster import Cluster
from porter.objects import MemoryObjects
from porter.prune import Let, prune
from porter.reader import Reader
from porter.repair import repair
from porter.source import Scope
from porter.transfer import UnknownFileError, cat, generations
from porter.verdict import COMPLETE, INCOMPLETE
from service.run import DONE
from tests.simulation.fleet import WIDTH, Fleet, lines
from tests.simulation.machine import World, simulate
from tests.simulation.test_leaving import is_drained, leave

PATH = b"/var/log/app.log"


def quiet(count: int, text: str) -> None:
    """Nobody watches the progress."""


async def archive(cluster: Cluster, objects: MemoryObjects) -> None:
    await Archiver(cluster.machine, cluster, objects).run(0, quiet)


async def let_go(cluster: Cluster, objects: MemoryObjects, dry_run: bool = False) -> Let:
    """A run of `porter prune`, its hours in one sum."""
    total = Let(0)
    for one in await prune(cluster, objects, 0, quiet, dry_run=dry_run):
        for name in ("named", "parts", "packets", "bytes", "kept"):
            setattr(total, name, getattr(total, name) + getattr(one, name))
        total.troubles |= one.troubles
    return total


async def audited(cluster: Cluster, objects: MemoryObjects | None, deep: bool = False) -> Audit:
    found = Found()
    await look_at_bucks(cluster, found, 0, 0, deep, quiet)
    if objects is not None:
        with Archive(cluster.machine, objects, "prod") as held:
            await look_at_archive(held, found, deep)
    return audit("prod", found, deep=deep)


async def copied(cluster: Cluster, objects: MemoryObjects | None, host: str) -> tuple[bytes, list[str]]:
    """The file as bucks and archive have it together, and what was short."""
    held = Archive(cluster.machine, objects, "prod") if objects is not None else None
    reader = Reader(Bucks(cluster, cluster.settings.memory), held)
    await reader.prepare()
    written = bytearray()

    async def write(data: bytes) -> None:
        written.extend(data)

    found = await generations(reader, host.encode(), PATH)
    await cat(reader, list(enumerate(found, 1)), write)
    if held is not None:
        held.__exit__(None, None, None)
    return bytes(written), reader.shortfalls()


async def scanned(cluster: Cluster, objects: MemoryObjects | None) -> tuple[int, bool]:
    """How many lines a search comes by, and whether it says that it lacks some."""
    async with AsyncExitStack() as stack:
        held = stack.enter_context(Archive(cluster.machine, objects, "prod")) if objects is not None else None
        reader = Reader(Bucks(cluster, cluster.settings.memory), held)
        await reader.prepare()
        parts = await stack.enter_async_context(reader.scan(Scope()))
        return sum([piece.last - piece.row async for _, pieces in parts for piece in pieces]), bool(reader.shortfalls())


async def stored(fleet: Fleet, names: Sequence[str] = ()) -> int:
    """Packets on these bucks, or on all, by their own pages."""
    return sum([(await fleet.status(name))["packets"] for name in names or fleet.names])


def test_what_is_archived_is_let_go_of_and_every_answer_stays_as_it_was() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 4)
            await fleet.start()
            for number in range(3):
                assert await fleet.send(lines(500, number), f"web-{number}") == DONE
            before = await stored(fleet)
            objects = MemoryObjects()
            async with fleet.porter() as cluster:
                unready = await let_go(cluster, objects)
                assert (unready.packets, await stored(fleet)) == (0, before), "nothing goes before it is archived"
                await archive(cluster, objects)
                would = await let_go(cluster, objects, dry_run=True)
                assert (would.packets, await stored(fleet)) == (before, before)
                done = await let_go(cluster, objects)
                assert (done.packets, done.kept, done.troubles) == (before, 0, {})
                assert await stored(fleet) == 0
                again = await let_go(cluster, objects)
                assert (again.packets, again.kept, again.troubles) == (0, 0, {}), "a second run has nothing to do"
                for number in range(3):
                    assert await copied(cluster, objects, f"web-{number}") == (lines(500, number), [])
                both = await audited(cluster, objects, deep=True)
                assert (both.verdict.state, both.troubles, both.below) == (COMPLETE, (), {})
                bucks = await audited(cluster, None)
                assert (bucks.verdict.state, bucks.troubles) == (COMPLETE, ())
                assert "--archive" in bucks.notes[0]
                assert sum(bucks.archived.values()) == sum(both.archived.values()) == done.named
                assert (await audited(cluster, None, deep=True)).troubles, "what was not looked at is said"
                mended = await repair(cluster, quiet)
                assert (mended.below, mended.copied, await stored(fleet)) == (0, 0, 0)
                with pytest.raises(UnknownFileError, match="--archive"):
                    await copied(cluster, None, "web-1")
                with pytest.raises(UnknownFileError, match="not in this one"):
                    await copied(cluster, MemoryObjects(), "web-1")
                assert await scanned(cluster, objects) == (1_500, False)
                assert await scanned(cluster, None) == (0, True)
                emptied = await audited(cluster, MemoryObjects())
                assert emptied.verdict.state == INCOMPLETE, "bucks' word is not believed where the archive can be seen"
            nursery.cancel_scope.cancel()

    simulate(61, scenario)


def test_a_straggler_is_kept_until_it_is_archived_too_and_an_absent_buck_learns_it_next_time() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 3)
            await fleet.start()
            objects = MemoryObjects()
            assert await fleet.send(lines(500, 1)) == DONE
            async with fleet.porter() as cluster:
                await archive(cluster, objects)
            fleet.kill("b3")
            await trio.sleep(1)
            async with fleet.porter() as cluster:
                done = await let_go(cluster, objects)
                assert [line.startswith("not told: b3") for line in done.troubles] == [True]
            await fleet.start("b3")
            await trio.sleep(WIDTH + 150)
            left = await stored(fleet)
            assert left == await stored(fleet, ["b3"]) > 0
            async with fleet.porter() as cluster:
                assert (await audited(cluster, None)).below == {}, "what is archived needs no copies"
                mended = await repair(cluster, quiet)
                assert (mended.below, mended.copied, await stored(fleet)) == (0, 0, left)
            assert await fleet.send(lines(100, 2)) == DONE  # more of the same file, by arrival now
            late = await stored(fleet, ["b1", "b2"])
            assert late > 0
            async with fleet.porter() as cluster:
                await let_go(cluster, objects)
                assert await stored(fleet, ["b1", "b2"]) == late, "what no part holds stays"
                await archive(cluster, objects)
                done = await let_go(cluster, objects)
                assert (done.kept, done.troubles) == (0, {})
                assert await stored(fleet) == 0
                await trio.sleep(WIDTH + 130)  # b3 was killed: until the windows are over it is not sure of them
                assert await copied(cluster, objects, "web-1") == (lines(500, 1) + lines(100, 2), [])
            nursery.cancel_scope.cancel()

    simulate(62, scenario)


def test_a_buck_that_pruned_goes_on_after_a_power_cut_and_nothing_is_pulled_back() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 4)
            await fleet.start()
            objects = MemoryObjects()
            assert await fleet.send(lines(800, 1)) == DONE
            async with fleet.porter() as cluster:
                await archive(cluster, objects)
                await let_go(cluster, objects)
            fleet.kill("b2")
            world.host("b2").power_cut()
            world.host("b2").power_on()
            await fleet.start("b2")
            await trio.sleep(WIDTH + 130)
            assert await stored(fleet) == 0
            async with fleet.porter() as cluster:
                assert (await audited(cluster, objects)).verdict.state == COMPLETE
                assert (await audited(cluster, None)).verdict.state == COMPLETE
            nursery.cancel_scope.cancel()

    simulate(63, scenario)


def test_C24_readers_racing_archive_and_prune_get_all_or_are_told() -> None:
    outcomes: set[str] = set()

    async def read(fleet: Fleet, objects: MemoryObjects, named: bool) -> None:
        await trio.sleep(fleet.world.rng.uniform(0, 0.4))
        async with fleet.porter() as cluster:
            try:
                data, short = await copied(cluster, objects if named else None, "web-1")
            except UnknownFileError as error:
                outcomes.add("told" if "in the archive" in str(error) else str(error))
                return
        assert data == lines(3_000, 1) or short, "it lacks something, and nobody says so"
        outcomes.add("told" if short else "whole")

    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 3)
            await fleet.start()
            assert await fleet.send(lines(3_000, 1)) == DONE
            objects = MemoryObjects()
            async with fleet.porter() as cluster, trio.open_nursery() as readers:
                for number in range(16):
                    readers.start_soon(read, fleet, objects, number % 2 > 0)
                await trio.sleep(0.1)
                await archive(cluster, objects)
                await let_go(cluster, objects)
            assert await stored(fleet) == 0
            async with fleet.porter() as cluster:
                assert await copied(cluster, objects, "web-1") == (lines(3_000, 1), [])
            nursery.cancel_scope.cancel()

    for seed in range(70, 74):
        simulate(seed, scenario)
    assert outcomes == {"told", "whole"}


def test_a_tailer_that_lost_its_journal_reads_nothing_again_of_what_was_let_go() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 3)
            await fleet.start()
            objects = MemoryObjects()
            assert await fleet.send(lines(500, 1)) == DONE
            async with fleet.porter() as cluster:
                await archive(cluster, objects)
                await let_go(cluster, objects)
            assert await fleet.send(b"", journal="/another", key="/journal.key") == DONE
            async with fleet.porter() as cluster:
                await archive(cluster, objects)
                await let_go(cluster, objects)
                assert await copied(cluster, objects, "web-1") == (lines(500, 1), [])
                rows = (await audited(cluster, objects)).verdict.accounts[0].raw
                assert rows == len(lines(500, 1)), "it was sent again, though the bucks knew how far it was read"
            nursery.cancel_scope.cancel()

    simulate(75, scenario)


def test_a_leaving_buck_is_done_when_what_it_has_is_archived_though_another_is_dead() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 4)
            await fleet.start()
            objects = MemoryObjects()
            assert await fleet.send(lines(800, 1)) == DONE
            fleet.kill("b4")
            await leave(fleet, "b1")
            await trio.sleep(30)
            assert not await is_drained(fleet, "b1"), "b4 might be the only other that has a copy"
            async with fleet.porter() as cluster:
                await archive(cluster, objects)
                await let_go(cluster, objects)
            await fleet.until(lambda: is_drained(fleet, "b1"))
            nursery.cancel_scope.cancel()

    simulate(76, scenario)
