"""Which bucks a tailer knows and links."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from service.config import ConfigError
from tailer.checkpoint import MemberState
from tailer.members import LINKS_CHOSEN, Buck
from tests.simulation.machine import World, simulate
from tests.tailer.fake_bucks import FakeBuck, Sending, cluster, start_sending, until
from tests.tailer.journals import open_journal

Scenario = Callable[[World, trio.Nursery], Awaitable[None]]


def run(scenario: Scenario, seed: int = 1) -> None:
    async def main(world: World) -> None:
        async with trio.open_nursery() as nursery:
            await scenario(world, nursery)
            nursery.cancel_scope.cancel()

    simulate(seed, main)


def test_one_address_is_enough_to_learn_all() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 4)
        tailer = await start_sending(world, nursery, bucks)
        await until(lambda: len(tailer.members.linked()) == 4)
        assert tailer.members.heard
        assert tailer.members.nodes == {buck.node for buck in bucks}
        assert {member.node for member in tailer.journal.members} == tailer.members.nodes

    run(scenario)


def test_members_are_remembered_over_a_restart() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await start_sending(world, nursery, bucks)
        await until(lambda: len(tailer.members.linked()) == 3)
        await tailer.journal.close()
        tailer.stop()
        bucks[0].kill()  # the one that is named on the command line
        tailer = await start_sending(world, nursery, bucks, epoch=2 << 32)
        await until(lambda: len(tailer.members.linked()) == 2)
        assert len(tailer.members.nodes) == 3

    run(scenario)


def test_the_width_comes_from_the_first_buck_and_is_waited_for() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        buck = FakeBuck(world, "b0", 1, width=60)
        machine = world.machine("tailer")
        journal = await open_journal(machine)
        journal.width = 0
        tailer = Sending(machine, journal, [buck.address])
        nursery.start_soon(tailer.run)
        widths: list[int] = []

        async def wait() -> None:
            widths.append(await tailer.members.wait_width())

        nursery.start_soon(wait)
        await trio.sleep(100)
        assert not widths
        buck.start(nursery)
        await until(lambda: widths == [60])

    run(scenario)


@pytest.mark.parametrize(("wrong", "why"), [({"env": "prod"}, "env"), ({"width": 60}, "width")])
def test_bucks_of_another_env_or_width_end_the_start(wrong: dict[str, object], why: str) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 1, **wrong)
        with pytest.raises(ConfigError, match=f"the bucks can't be used: .*{why}"):
            await start_sending(world, nursery, bucks)

    run(scenario)


def test_a_buck_of_another_env_that_comes_later_is_not_used_and_hurts_nobody() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 2)
        stranger = FakeBuck(world, "b9", 9, env="prod")
        stranger.start(nursery)
        tailer = await start_sending(world, nursery, bucks)
        bucks[0].peers = [*bucks, stranger]
        await until(lambda: tailer.members.counters["link_failures"])
        await tailer.send(20)
        await tailer.until_placed()
        assert not stranger.packets

    run(scenario)


def test_a_buck_that_comes_back_is_linked_again_and_a_dead_one_stays_a_member() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await start_sending(world, nursery, bucks)
        await until(lambda: len(tailer.members.linked()) == 3)
        bucks[1].kill()
        await until(lambda: len(tailer.members.linked()) == 2)
        assert len(tailer.members.nodes) == 3
        await trio.sleep(300)
        bucks[1].start(nursery)
        await until(lambda: len(tailer.members.linked()) == 3, 60)

    run(scenario)


def test_two_addresses_of_one_buck_are_one_link() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 1)
        tailer = await start_sending(world, nursery, bucks)
        tailer.members._given.add("[b0]:7000")
        tailer.members._keep_all()
        await trio.sleep(100)
        assert len(tailer.members.linked()) == 1
        assert tailer.members.nodes == {bucks[0].node}

    run(scenario)


def test_a_draining_buck_is_no_member() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await start_sending(world, nursery, bucks)
        await until(lambda: len(tailer.members.linked()) == 3)
        bucks[2].draining = True
        await until(lambda: len(tailer.members.nodes) == 2)
        await tailer.send(30)
        await tailer.until_placed()
        assert not bucks[2].packets

    run(scenario)


def test_of_many_members_eight_are_linked_spread_over_zones_and_each_tailer_keeps_its_own() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = [FakeBuck(world, f"b{index}", index + 1, zone=f"z{index % 4}") for index in range(20)]
        for buck in bucks:
            buck.peers = bucks
            buck.start(nursery)
        tailer = await start_sending(world, nursery, bucks)
        await trio.sleep(30)
        linked = {buck.node for buck in tailer.members.linked()}
        chosen = {buck.node for buck in tailer.members._dealt(list(tailer.members.bucks.values()))[:LINKS_CHOSEN]}
        assert linked == chosen | {bucks[0].node}  # the one that was given stays
        zones = [buck.zone for buck in tailer.members.bucks.values() if buck.node in chosen]
        assert sorted(zones) == sorted(["z0", "z1", "z2", "z3"] * 2)
        assert len(tailer.members.nodes) == 20
        for buck in tailer.members.bucks.values():  # as if there were two on each of ten hosts
            buck.host = buck.address[1:].split(":")[0].encode()[-1:]
        dealt = tailer.members._dealt(list(tailer.members.bucks.values()))
        assert len({buck.host for buck in dealt[:10]}) == 10

    run(scenario)


def test_the_clock_is_the_bucks_median_once_two_agree() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        for index, seconds in enumerate((100, 100.2, -5000)):
            world.host(bucks[index].name).clock_offset_ns = int(seconds * 1e9)
        tailer = await start_sending(world, nursery, bucks)
        await until(lambda: len(tailer.members.linked()) == 3)
        await trio.sleep(20)
        assert abs(tailer.members.offset_ns - 100e9) < 1e9
        bucks[0].kill()
        await until(lambda: len(tailer.members.linked()) == 2)
        assert tailer.members.offset_ns == 0  # the two that are left don't agree

    run(scenario)


def test_the_bucks_clock_stays_known_when_our_own_is_set() -> None:
    """Until the clocks are compared again, half a minute later, a seal would be dated by a difference that is over."""

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await start_sending(world, nursery, bucks)
        await until(lambda: len(tailer.members.linked()) == 3)
        await trio.sleep(20)
        host = tailer.machine.on
        for seconds in (3600, -7200, 0):
            host.clock_offset_ns = seconds * 10**9
            assert abs(tailer.members.offset_ns + seconds * 10**9) < 1e9

    run(scenario)


def test_a_member_of_the_checkpoint_is_a_buck_here() -> None:
    state = MemberState(b"n" * 16, "b0:7000", b"b0", "z")
    assert Buck(*state).state() == state
