"""Bucks that lost something bring it back by themselves, in simulated clusters; and what a returning one costs."""

import trio

from buck.healing import LAG_S
from porter.verdict import COMPLETE
from service.run import DONE
from tests.simulation.fleet import WIDTH, Fleet, lines
from tests.simulation.machine import World, simulate
from tests.simulation.platter import Folder, Inode


def files(folder: Folder, end: bytes) -> list[Inode]:
    found = []
    for name, node in sorted(folder.names.items()):
        found += files(node, end) if isinstance(node, Folder) else [node] if name.endswith(end) else []
    return found


async def unsure(fleet: Fleet, name: str) -> int:
    return int((await fleet.status(name))["buckets"]["unsure"])


def test_after_a_kill_the_mark_goes_once_all_tailers_were_compared() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 3)
            await fleet.start()
            assert await fleet.send(lines(500)) == DONE
            fleet.kill("b2")
            await fleet.start("b2")
            assert await unsure(fleet, "b2") > 0

            async def is_sure() -> bool:
                return await unsure(fleet, "b2") == 0

            assert await fleet.until(is_sure) < 2 * WIDTH + LAG_S + 40, "the window, the lag of seals, and a round"
            assert (await fleet.status("b2"))["counters"]["packets_pulled"] == 0
            fleet.kill("b2")
            await fleet.start("b2")
            assert await unsure(fleet, "b2") == 0, "it is written down"
            nursery.cancel_scope.cancel()

    simulate(21, scenario)


def test_what_a_crash_took_is_pulled_back_from_the_others() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 3)
            await fleet.start()
            for number in range(3):
                assert await fleet.send(lines(500, number), f"web-{number}") == DONE
            before = await fleet.copies()
            fleet.kill("b2")
            for part in files(world.host("b2").platter.folder("/disk"), b".open"):
                del part.data[len(part.data) // 3 :]
            await fleet.start("b2")
            assert await fleet.copies() != before

            async def is_whole() -> bool:
                return await unsure(fleet, "b2") == 0

            await fleet.until(is_whole)
            assert await fleet.copies() == before == {3: sum(before.values())}
            counters = (await fleet.status("b2"))["counters"]
            assert 0 < counters["packets_pulled"] < sum(before.values())
            nursery.cancel_scope.cancel()

    simulate(22, scenario)


def test_a_silent_tailer_keeps_the_mark() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 2)
            await fleet.start()
            logs = world.machine("web-1").disk
            logs.mkdirs("/var/log")
            logs.open_append("/var/log/app.log").write(lines(300))
            tailer = fleet.follow()

            async def is_stored() -> bool:
                return bool((await fleet.status("b2"))["packets"] and (await fleet.status("b1"))["packets"])

            await fleet.until(is_stored)
            tailer.kill()  # before its first seal
            fleet.kill("b2")
            await fleet.start("b2")
            await trio.sleep(2 * LAG_S)
            assert await unsure(fleet, "b2") > 0
            fleet.follow()

            async def is_sure() -> bool:
                return await unsure(fleet, "b2") == 0

            await fleet.until(is_sure)
            nursery.cancel_scope.cancel()

    simulate(23, scenario)


def test_a_buck_that_returns_has_nothing_to_catch_up() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 4)
            await fleet.start()
            assert await fleet.send(lines(200), "web-1") == DONE
            fleet.kill("b4")
            assert await fleet.send(lines(3_000), "web-2") == DONE, "three of four are enough"
            await fleet.start("b4")
            await trio.sleep(4 * WIDTH)
            counters = (await fleet.status("b4"))["counters"]
            sent = [(await fleet.status(name))["counters"]["packets_sent"] for name in ("b1", "b2", "b3")]
            assert (counters["packets_pulled"], sum(sent)) == (0, 0), "others hold three copies of all it missed"
            assert (await fleet.audit()).verdict.state == COMPLETE
            assert await fleet.send(lines(100), "web-3") == DONE, "and it takes its share again"
            nursery.cancel_scope.cancel()

    simulate(24, scenario)


def test_first_copies_are_in_different_zones() -> None:
    """From `--zone` over gossip and peers to the tailer's choice."""

    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 4, zones="xxyy", width=300)
            await fleet.start()
            logs = world.machine("web-1").disk
            logs.mkdirs("/var/log")
            log = logs.open_append("/var/log/app.log")
            fleet.follow()
            await trio.sleep(10)  # all are linked, and have told of themselves
            stored = {name: (await fleet.status(name))["packets"] for name in fleet.names}
            for number in range(24):
                log.write(lines(20, number))
                await trio.sleep(1)
            more = {name: (await fleet.status(name))["packets"] - stored[name] for name in fleet.names}
            assert more["b1"] + more["b2"] == more["b3"] + more["b4"] >= 3, more
            nursery.cancel_scope.cancel()

    simulate(25, scenario)
