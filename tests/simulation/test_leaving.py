"""A buck leaves, in simulated clusters: its copies are handed on, and then nobody misses it."""

import pytest
import trio

from buck.leaving import follow, mark
from porter.verdict import COMPLETE
from protocol import messages as m
from protocol.link import open_asker
from service.config import ConfigError
from service.run import DONE, SHORTFALL
from service.units import Address
from tests.buck.making import KEY, WIDTH, make, put_question
from tests.simulation.fleet import HTTP, LISTEN, Fleet, lines
from tests.simulation.machine import World, simulate


async def is_drained(fleet: Fleet, name: str) -> bool:
    leaving = (await fleet.status(name))["leaving"]
    return bool(leaving["draining"] and leaving["done"])


async def leave(fleet: Fleet, name: str, leaving: bool = True) -> None:
    await mark(fleet.world.machine(name), ["/disk"], "prod", leaving)


async def refusal(fleet: Fleet, name: str) -> str:
    """What the buck says to a new packet."""
    machine = fleet.world.machine("client")
    hello = m.Hello("tailer", KEY.public, "prod", 0, b"client", (1, 1), "", 0)
    async with open_asker(await machine.connect(name, LISTEN), hello) as asker:
        answer = await asker.ask(put_question(make(machine.random.randrange(1 << 40))))
        return answer.reason if isinstance(answer, m.No) else ""


def test_C29_a_buck_that_leaves_hands_its_copies_on_and_is_not_missed() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 4)
            await fleet.start()
            for number in range(4):
                assert await fleet.send(lines(500, number), f"web-{number}") == DONE
            before = await fleet.copies()
            assert set(before) == {3}
            await leave(fleet, "b1")
            await fleet.until(lambda: is_drained(fleet, "b1"))
            fleet.kill("b1")
            world.host("b1").power_cut()
            fleet.names.remove("b1")
            assert await fleet.copies() == before, "each packet has as many copies as it had, without the one that left"
            found = await fleet.audit(deep=True)
            assert (found.verdict.state, [one for one in found.troubles if "not asked" not in one]) == (COMPLETE, [])
            nursery.cancel_scope.cancel()

    simulate(11, scenario)


def test_a_leaving_buck_refuses_what_is_new_survives_a_restart_and_can_stay_after_all() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 3, width=WIDTH)
            await fleet.start()
            assert await refusal(fleet, "b2") == ""
            await leave(fleet, "b2")
            await trio.sleep(3)
            assert await refusal(fleet, "b2") == "draining"
            fleet.kill("b2")
            await fleet.start("b2")
            assert await refusal(fleet, "b2") == "draining"
            for name in ("b1", "b3"):
                peers = (await fleet.status(name))["peers"]
                assert {peer["address"]: peer["draining"] for peer in peers}[f"b2:{LISTEN}"]
            assert await fleet.send(lines(100)) == DONE, "two are members: they are enough for everything"
            await leave(fleet, "b2", leaving=False)
            await trio.sleep(10)
            assert await refusal(fleet, "b2") == ""
            assert not (await fleet.status("b2"))["leaving"]["draining"]
            nursery.cancel_scope.cancel()

    simulate(12, scenario)


def test_a_buck_can_not_be_done_with_leaving_while_a_member_is_dead() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 3)
            await fleet.start()
            assert await fleet.send(lines(300)) == DONE
            fleet.kill("b3")
            await leave(fleet, "b1")
            await trio.sleep(60)
            leaving = (await fleet.status("b1"))["leaving"]
            assert not leaving["done"]
            assert f"b3:{LISTEN} doesn't answer" in leaving["trouble"]
            await fleet.start("b3")
            await fleet.until(lambda: is_drained(fleet, "b1"))
            nursery.cancel_scope.cancel()

    simulate(13, scenario)


def test_handing_on_goes_on_after_kills_of_both_sides() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 4, pull_rate=65_536)
            await fleet.start()
            for number in range(3):
                assert await fleet.send(lines(3_000, number), f"web-{number}") == DONE
            await leave(fleet, "b1")
            for _ in range(6):
                await trio.sleep(2 + world.rng.random() * 3)
                victim = world.rng.choice(["b1", "b2", "b3", "b4"])
                fleet.kill(victim)
                await fleet.start(victim)
            await fleet.until(lambda: is_drained(fleet, "b1"))
            fleet.kill("b1")
            world.host("b1").power_cut()
            fleet.names.remove("b1")
            assert min(await fleet.copies()) >= 3
            nursery.cancel_scope.cancel()

    for seed in (14, 15):
        simulate(seed, scenario)


def test_the_command_says_how_far_it_is_and_what_is_wrong() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 3)
            machine, said = world.machine("b2"), []
            with pytest.raises(ConfigError, match="/disk/prod: no buck keeps packets there"):
                await leave(fleet, "b2")
            await fleet.start()
            assert await fleet.send(lines(200)) == DONE
            await leave(fleet, "b2")
            assert await follow(machine, Address("b2", HTTP), trio.Event(), said.append) == DONE
            assert said[-1].startswith("drained")
            fleet.kill("b2")
            assert await follow(machine, Address("b2", HTTP), trio.Event(), said.append) == SHORTFALL
            assert "it is marked, and drains when it runs" in said[-1]
            nursery.cancel_scope.cancel()

    simulate(17, scenario)
