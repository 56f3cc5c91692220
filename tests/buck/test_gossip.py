"""What a buck says of where it is: derived, called back, and said aloud where it is wrong."""

import json

import trio

from protocol import messages as m
from service.units import Address
from service.web import fetch
from tests.buck.making import in_world
from tests.buck.test_session import PORT, asking, start
from tests.simulation.machine import World


@in_world
async def test_an_address_at_which_nobody_answers_is_not_passed_on_and_an_alarm(world: World) -> None:
    async with trio.open_nursery() as nursery:
        start(world.host("a"), nursery)
        start(world.host("b"), nursery, join=(Address("a", PORT),), advertise=Address("nowhere", 9))
        await trio.sleep(80)
        async with asking(world) as asker:
            assert {peer.address for peer in (await asker.ask(m.Peers(0))).peers} == {f"a:{PORT}"}
        page = json.loads(await fetch(world.machine("looker"), "b", 80, "/status"))
        assert page["counters"]["peers_cannot_reach_us"] == 1
        nursery.cancel_scope.cancel()


@in_world
async def test_who_claims_the_address_of_another_is_not_believed(world: World) -> None:
    """The address must answer with the very key that claims it."""
    async with trio.open_nursery() as nursery:
        start(world.host("a"), nursery)
        start(world.host("c"), nursery, join=(Address("a", PORT),))
        start(world.host("b"), nursery, join=(Address("a", PORT),), advertise=Address("c", PORT))
        await trio.sleep(20)
        async with asking(world) as asker:
            assert {peer.address for peer in (await asker.ask(m.Peers(0))).peers} == {f"a:{PORT}", f"c:{PORT}"}
        nursery.cancel_scope.cancel()
