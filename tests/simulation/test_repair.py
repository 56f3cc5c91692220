"""Bucks die for ever and copies rot, in simulated clusters: what comes back by itself, and what needs `repair`."""

import trio

from porter.repair import repair
from porter.verdict import COMPLETE
from service.run import DONE
from tests.simulation.fleet import WIDTH, Fleet, lines
from tests.simulation.machine import World, simulate
from tests.simulation.test_healing import files


async def lose(fleet: Fleet, name: str) -> None:
    """A buck and its disks are gone for ever, and an admin says so."""
    fleet.kill(name)
    fleet.world.host(name).power_cut()
    await trio.sleep(2)


def test_C23_after_a_bucks_death_for_ever_repair_brings_sealed_packets_back_to_three() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 5)
            await fleet.start()
            for number in range(4):
                assert await fleet.send(lines(400, number), f"web-{number}") == DONE
            packets = sum((await fleet.copies()).values())
            await trio.sleep(WIDTH + 130)  # the windows are over, and so is what tailers do about them
            await lose(fleet, "b2")
            found = await fleet.audit()
            below = sum(found.below.values())
            assert below == (await fleet.copies()).get(2, 0) > 0, "status counts those that are below theirs"
            async with fleet.porter() as cluster:
                done = await repair(cluster, lambda count, text: None)
            assert (done.below, done.copied, done.left, done.bad) == (below, below, 0, 0)
            assert [line.startswith("not asked: b2") for line in done.troubles] == [True]
            assert await fleet.copies() == {3: packets}
            assert sum((await fleet.audit()).below.values()) == 0
            async with fleet.porter() as cluster:
                again = await repair(cluster, lambda count, text: None)
            assert (again.below, again.copied) == (0, 0), "a second run has nothing to do"
            nursery.cancel_scope.cancel()

    simulate(31, scenario)


def test_C23_what_is_in_a_journal_is_back_to_its_copies_within_a_bucket_and_a_minute() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 4, width=60)
            await fleet.start()
            logs = world.machine("web-1").disk
            logs.mkdirs("/var/log")
            await trio.sleep(63 - world.host("web-1").time_ns() // 10**9 % 60)  # a window has just begun
            log = logs.open_append("/var/log/app.log")
            fleet.follow()
            for number in range(4):
                log.write(b"".join(b"an event of now: %d.%d\n" % (number, i) for i in range(50)))
                await trio.sleep(6)
            first = (await fleet.copies()).get(2, 0)
            assert first > 0, "two copies, not sealed yet"
            stored = {name: (await fleet.status(name))["packets"] for name in fleet.names}
            await lose(fleet, max(stored, key=lambda name: stored[name]))
            assert (await fleet.copies()).get(1, 0) > 0, "some are on one buck only"

            async def is_back() -> bool:
                return min(await fleet.copies()) >= 3

            assert await fleet.until(is_back) <= 60 + 60
            assert sum((await fleet.audit()).below.values()) == 0
            nursery.cancel_scope.cancel()

    for seed in (32, 35, 36):
        simulate(seed, scenario)


def test_C15_a_rotten_copy_is_named_replaced_from_a_good_one_and_never_spreads() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 3)
            await fleet.start()
            assert await fleet.send(lines(400)) == DONE
            await trio.sleep(WIDTH + 130)
            parts = files(world.host("b2").platter.folder("/disk"), b".open")
            part = max(parts, key=lambda one: len(one.data))
            part.data[len(part.data) // 4] ^= 1
            deep = await fleet.audit(deep=True)
            assert deep.verdict.state == COMPLETE
            assert len([line for line in deep.troubles if "a bad copy" in line]) == 1
            counters = (await fleet.status("b2"))["counters"]
            assert counters["bad_reads"] >= 1
            async with fleet.porter() as cluster:
                done = await repair(cluster, lambda count, text: None)
            assert (done.below, done.copied, done.left) == (1, 1, 0)
            again = await fleet.audit(deep=True)
            assert (again.verdict.state, again.troubles) == (COMPLETE, ())
            assert set(await fleet.copies()) == {3}
            nursery.cancel_scope.cancel()

    simulate(33, scenario)


def test_repair_goes_on_after_kills_of_bucks_and_of_itself() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 5, pull_rate=65_536)
            await fleet.start()
            for number in range(3):
                assert await fleet.send(lines(3_000, number), f"web-{number}") == DONE
            packets = sum((await fleet.copies()).values())
            await trio.sleep(WIDTH + 130)
            await lose(fleet, "b5")
            copied = 0
            for _ in range(8):
                with trio.move_on_after(1.0):
                    async with fleet.porter() as cluster:
                        await repair(cluster, lambda count, text: None)
                victim = world.rng.choice(["b2", "b3", "b4"])
                fleet.kill(victim)
                await fleet.start(victim)
            for _ in range(3):
                async with fleet.porter() as cluster:
                    done = await repair(cluster, lambda count, text: None)
                    copied += done.copied
            assert done.left == 0
            found = await fleet.copies()
            assert min(found) == 3
            assert sum(found.values()) == packets
            nursery.cancel_scope.cancel()

    simulate(34, scenario)
