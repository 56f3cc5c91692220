"""What a buck says of where it is: derived, called back, and said aloud where it is wrong."""

import json

import trio

from protocol import messages as m
from protocol.connection import PREFACE, Connection
from protocol.fields import Peer
from protocol.frames import frame
from protocol.packed import pack, unpack_array
from protocol.payload import dump
from service.units import Address
from service.web import fetch
from tests.buck.making import OTHER, WIDTH, in_world
from tests.buck.test_session import PORT, asking, garble, hello, start, with_a_buck
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


async def met(world: World, name: str) -> int:
    """How many others a buck knows by their own word."""
    page = json.loads(await fetch(world.machine("looker"), name, 80, "/status"))
    return sum(peer["confirmed"] for peer in page["peers"])


@in_world
async def test_whoever_is_joined_may_start_last_and_is_met_within_a_second(world: World) -> None:
    async with trio.open_nursery() as nursery:
        for name in ("b", "c", "d", "e"):
            start(world.host(name), nursery, join=(Address("a", PORT),))
            await trio.sleep(0.15)
        start(world.host("a"), nursery)
        await trio.sleep(0.7)
        assert await met(world, "a") == 4
        nursery.cancel_scope.cancel()


@in_world
async def test_who_is_told_of_a_newcomer_meets_it_at_once(world: World) -> None:
    async with trio.open_nursery() as nursery:
        start(world.host("a"), nursery)
        for count, name in enumerate("bcdef", 1):
            await trio.sleep(10.17)  # at another moment of its second each time
            start(world.host(name), nursery, join=(Address("a", PORT),))
            await trio.sleep(0.4)
            assert await met(world, "a") == count
        nursery.cancel_scope.cancel()


def later(message: m.Message) -> bytes:
    """Its frame, with a field that only later versions know."""
    row = unpack_array(b"".join(map(bytes, dump(message))))
    return b"".join(map(bytes, frame(message.tag, [pack((*row, 7))])))


async def refused(world: World) -> int:
    page = json.loads(await fetch(world.machine("looker"), "a", 80, "/status"))
    return int(page["counters"].get("links_refused{reason=message}", 0))


@with_a_buck()
async def test_C28_hellos_and_messages_with_a_field_more_are_counted_and_end_their_link_alone(world: World) -> None:
    machine, tailer = world.machine("client"), hello()
    for count, said in enumerate(
        [
            PREFACE + later(tailer),
            Connection(tailer, dialing=True).start() + later(m.Clock(1)),
            Connection(hello(OTHER, "buck"), dialing=True).start() + later(m.Gossip(1, ())),
        ],
        1,
    ):
        await trio.sleep(1)
        await garble(await machine.connect("a", PORT), said)
        assert await refused(world) == count
    async with asking(world) as asker:
        assert isinstance(await asker.ask(m.Clock(0)), m.ClockIs)


@in_world
async def test_C28_a_buck_whose_hello_or_view_has_a_field_more_is_counted(world: World) -> None:
    them = hello(OTHER, "buck", width=WIDTH)
    preface = Connection(them, dialing=False).start()
    greeting = b"".join(map(bytes, frame(them.tag, dump(them))))
    says = [preface + later(them)]
    async with trio.open_nursery() as nursery:

        async def serve(stream: trio.abc.Stream) -> None:
            await garble(stream, says[0])

        listeners = await world.machine("b").listen("b", PORT)
        nursery.start_soon(trio.serve_listeners, serve, list(listeners))
        start(world.host("a"), nursery, join=(Address("b", PORT),))
        await trio.sleep(5)
        first = await refused(world)
        assert first >= 1
        says[0] = preface + greeting + later(m.View(1, WIDTH, ()))
        await trio.sleep(2)
        first = await refused(world)
        await trio.sleep(60)
        assert await refused(world) > first
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


@with_a_buck()
async def test_A34_only_a_buck_gossips_and_nobody_for_another(world: World) -> None:
    """A stranger's rumour: a peer of another role ends its link; a made up peer is shown to nobody."""
    machine, other = world.machine("client"), hello(OTHER, "buck")
    made_up = Peer(OTHER.node, OTHER.public, "elsewhere:9", b"h", "", 1 << 62, 0, False)
    await trio.sleep(1)
    for role in ("tailer", "porter", "archie", "admin"):
        said = Connection(hello(OTHER, role), dialing=True).start()
        stream = await machine.connect("a", PORT)
        await garble(stream, said + b"".join(map(bytes, frame(m.Gossip.tag, dump(m.Gossip(1, (made_up,)))))))
    async with asking(world, other) as asker:
        await asker.ask(m.Gossip(0, (made_up,)))
    await trio.sleep(30)
    async with asking(world) as asker:
        assert [peer.address for peer in (await asker.ask(m.Peers(0))).peers] == [f"a:{PORT}"]
