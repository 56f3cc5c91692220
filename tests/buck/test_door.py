"""The door of a buck: strangers can't keep others out, and who is on the list no more has to leave."""

from collections.abc import Callable

import pytest
import trio

from buck.counts import Counts
from buck.door import ADDRESSES_MAX, Door, network_of
from protocol import messages as m
from protocol.connection import PREFACE, Connection
from protocol.errors import LinkLost, Refused
from protocol.limits import HANDSHAKE_FAILURES, HANDSHAKE_FAILURES_HZ, HANDSHAKE_S, HANDSHAKES_MAX
from protocol.link import Link, open_asker
from service.authorized import use_files
from tests.buck.making import KEY, OTHER, in_world, make
from tests.buck.test_session import PORT, asking, hello, put, settings, start, with_a_buck
from tests.simulation.keys import LISTED, give_key, give_lists, key_of, write
from tests.simulation.machine import World


def door(world: World) -> Door:
    return Door(world.machine("a"), settings("a"), KEY, Counts())


async def failing(door: Door, address: str = "evil") -> str:
    """A handshake with somebody who says nothing; why it ended."""
    ours, theirs = trio.testing.memory_stream_pair()
    link = Link(ours, Connection(hello(OTHER, "buck"), dialing=False))
    try:
        await theirs.send_all(b"GET /")
        await theirs.aclose()
        await door.shake(link, address)
    except Exception as error:
        return str(error)
    raise AssertionError("it was let in")


@in_world
async def test_an_address_that_fails_too_often_has_to_wait_and_others_have_not(world: World) -> None:
    one = door(world)
    for _ in range(HANDSHAKE_FAILURES):
        assert "have failed" not in await failing(one)
    assert "have failed" in await failing(one)
    assert "have failed" not in await failing(one, "honest")
    await trio.sleep(1.001 / HANDSHAKE_FAILURES_HZ)
    assert "have failed" not in await failing(one)
    assert "have failed" in await failing(one)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_who_has_one_IPv6_address_has_them_all(address: str, network: str) -> None:
    assert network_of(address) == network


@in_world
async def test_memory_for_addresses_is_bounded(world: World) -> None:
    one = door(world)
    for number in range(ADDRESSES_MAX + 50):
        one._take(f"2001:db8::{number:x}")
    assert len(one._tokens) == ADDRESSES_MAX


@with_a_buck()
async def test_a_fleet_behind_one_address_that_comes_back_at_once_is_let_in(world: World) -> None:
    """More than may fail; each succeeds, so none is refused, though no token comes back with time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("buck.door.HANDSHAKE_FAILURES_HZ", 0.0)
        for _ in range(HANDSHAKE_FAILURES + 20):
            async with asking(world):
                pass


@with_a_buck()
async def test_A13_peers_that_never_finish_a_handshake_are_left_and_hold_up_nobody(world: World) -> None:
    """All places are taken by peers that say a byte each second; an honest one gets in at once."""
    machine = world.machine("evil")
    await trio.sleep(1)
    async with trio.open_nursery() as nursery:
        ends: list[float] = []

        async def drip() -> None:
            stream, begin = await machine.connect("a", PORT), trio.current_time()
            try:
                for byte in PREFACE * 10:
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(1)
            except trio.BrokenResourceError:
                ends.append(trio.current_time() - begin)

        for _ in range(HANDSHAKES_MAX + 10):
            nursery.start_soon(drip)
        await trio.sleep(2.5)
        begin = trio.current_time()
        async with asking(world) as asker:
            assert isinstance(await asker.ask(put(make(0))), m.Ok)
        assert trio.current_time() - begin < 0.5
    assert len(ends) == HANDSHAKES_MAX + 10
    assert max(ends) < HANDSHAKE_S + 2.1
    assert len([end for end in ends if end < HANDSHAKE_S - 1]) == 10 + 1  # those made room


class Slow:
    """Handshakes that take for ever; how many are under way, and were at most."""

    now = most = 0

    async def handshake(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await trio.sleep_forever()
        finally:
            self.now -= 1


@in_world
async def test_never_more_handshakes_are_under_way_than_may_be_however_many_come_at_once(world: World) -> None:
    one, slow, refused = door(world), Slow(), []

    async def come(number: int) -> None:
        try:
            await one.shake(slow, f"host-{number}")  # type: ignore[arg-type]  # all of a link that is asked for
        except Refused as error:
            refused.append((number, error.reason))

    async with trio.open_nursery() as nursery:
        for number in range(3 * HANDSHAKES_MAX):
            nursery.start_soon(come, number)
        await trio.testing.wait_all_tasks_blocked()
        assert (slow.now, slow.most) == (HANDSHAKES_MAX, HANDSHAKES_MAX)
        assert len(refused) == 2 * HANDSHAKES_MAX
        for number in range(5):
            nursery.start_soon(come, 1000 + number)
            await trio.testing.wait_all_tasks_blocked()
        assert (slow.now, slow.most) == (HANDSHAKES_MAX, HANDSHAKES_MAX)
        assert len(refused) == 2 * HANDSHAKES_MAX + 5
        assert {reason for _, reason in refused} == {"slow"}
        assert all(number < 1000 for number, _ in refused), "the oldest make room"
        nursery.cancel_scope.cancel()


def secured(*lines: str) -> Callable:
    """A scenario with a buck on host a that lets these keys in; it gets these two and the client's keys."""

    def decorate(scenario: Callable) -> Callable[[], None]:
        async def whole(world: World) -> None:
            from protocol.secure import Security

            listed = f"key {key_of('a').public.hex()} roles=buck", *lines
            files = await give_lists(world, ("a", "client"), listed)
            await give_key(world, "a", "/d1.key")
            machine = world.machine("client")
            client = Security(key_of("client"), "prod", machine.entropy, machine.time_ns)
            use_files(machine, settings("client", **files), client.take)
            async with trio.open_nursery() as nursery:
                buck = start(world.host("a"), nursery, **{**files, "insecure": False})
                await trio.sleep(1)
                await scenario(world, buck, client)
                nursery.cancel_scope.cancel()

        whole.__name__, whole.__doc__ = scenario.__name__, scenario.__doc__
        return in_world(whole)

    return decorate


CLIENT = f"key {key_of('client').public.hex()} roles=tailer hosts=web*"


@secured(CLIENT)
async def test_a_link_is_cut_when_its_key_is_taken_off_the_list(world: World, buck, client) -> None:
    stream = await world.machine("client").connect("a", PORT)
    async with open_asker(stream, hello(key_of("client")), security=client) as asker:
        assert await asker.ask(m.Clock(0))
        await write(world, "a", LISTED, f"key {key_of('a').public.hex()} roles=buck", 0o644)
        await trio.sleep(30)
        assert await asker.ask(m.Clock(0))  # nobody said SIGHUP yet
        buck.hang_up()
        with trio.fail_after(1):
            await asker.lost.wait()
        with pytest.raises(LinkLost):
            await asker.ask(m.Clock(0))
    with pytest.raises(Refused, match="not let in"):
        async with open_asker(
            await world.machine("client").connect("a", PORT), hello(key_of("client")), security=client
        ):
            pass


@secured(CLIENT)
async def test_a_dialler_leaves_a_buck_that_is_on_its_list_no_more(world: World, buck, client) -> None:
    stream = await world.machine("client").connect("a", PORT)
    async with open_asker(stream, hello(key_of("client")), security=client) as asker:
        client.take(CLIENT, b"the secret of a simulated cluster", "")
        with trio.fail_after(25):
            await asker.lost.wait()


@secured(CLIENT)
async def test_A32_a_key_lent_for_some_hosts_puts_packets_of_these_only(world: World, buck, client) -> None:
    """A tailer's Hello names a host that fits; its packets name another."""
    for host, answer in ((b"web1", m.Ok), (b"db1", m.No)):
        stream = await world.machine("client").connect("a", PORT)
        async with open_asker(stream, hello(key_of("client")), security=client) as asker:
            got = await asker.ask(put(make(1, tailer=key_of("client").node, host=host)))
            assert type(got) is answer
            assert answer is m.Ok or got.reason == "role"


@secured(CLIENT)
async def test_A32_a_tailer_puts_packets_of_its_own_id_only(world: World, buck, client) -> None:
    stream = await world.machine("client").connect("a", PORT)
    async with open_asker(stream, hello(key_of("client")), security=client) as asker:
        assert (await asker.ask(put(make(1)))).reason == "role"
