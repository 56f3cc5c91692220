"""One connection to a buck in a simulated world: what is answered, and what a peer may not do."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from buck.node import run_node
from buck.settings import BuckSettings
from protocol import messages as m
from protocol import packet as packets
from protocol.connection import Connection
from protocol.errors import LinkLost, Refused, RemoteProtocolError
from protocol.identity import NodeKey
from protocol.limits import PATH_MAX, POINT_HZ
from protocol.link import Asker, Link, open_asker
from protocol.packet import Run, StreamRef
from protocol.ranges import Ranges
from service.config import ConfigError
from service.units import Address
from tests.buck.making import BUCKET, KEY, OTHER, WIDTH, in_world, made, make, seal
from tests.simulation.machine import Host, SimMachine, World

PORT = 7411
KEYS = (KEY.node, 7, Ranges([(0, 100)]))


def settings(host: str, **more: object) -> BuckSettings:
    fixed = {"listen": Address(host, PORT), "http": Address(host, 80), "disk": ("/d1",), "insecure": True}
    return BuckSettings.model_validate(fixed | more)


def start(host: Host, nursery: trio.Nursery, **more: object) -> SimMachine:
    async def main(machine: SimMachine) -> None:
        await run_node(machine, settings(host.name, **more), trio.Event(), lambda *_: None)

    return host.start(nursery, main)


def hello(key: NodeKey = KEY, role: str = "tailer", env: str = "prod", width: int = 0) -> m.Hello:
    return m.Hello(role, key.public, env, width, b"web1", (1, 1), "", 0)


@asynccontextmanager
async def asking(world: World, who: m.Hello | None = None, to: str = "a") -> AsyncIterator[Asker]:
    machine = world.machine("client")
    for _ in range(50):
        try:
            stream = await machine.connect(to, PORT)
            break
        except OSError:
            await trio.sleep(0.1)
    async with open_asker(stream, who or hello()) as asker:
        yield asker


def with_a_buck(**more: object) -> Callable:
    """A scenario with one buck that runs on host a."""

    def decorate(scenario: Callable) -> Callable[[], None]:
        async def whole(world: World) -> None:
            async with trio.open_nursery() as nursery:
                start(world.host("a"), nursery, **more)
                await scenario(world)
                nursery.cancel_scope.cancel()

        whole.__name__, whole.__doc__ = scenario.__name__, scenario.__doc__
        return in_world(whole)

    return decorate


def put(data: bytes) -> m.Put:
    return m.Put(0, 0, False, data)


@with_a_buck()
async def test_a_packet_goes_in_and_comes_out(world: World) -> None:
    async with asking(world) as asker:
        for n in range(3):
            answer = await asker.ask(put(make(n)))
            assert (answer.level, answer.live) == (1, False)
        receipt = await asker.ask(m.Have(0, KEY.node, 7, BUCKET, True))
        assert receipt.held == receipt.synced == Ranges([(0, 3)])
        assert not receipt.unsure
    async with asking(world, hello(OTHER, "porter")) as asker:
        found = await asker.ask(m.Buckets(0, 0, (1 << 32) - 1))
        assert [row[0] for row in found.buckets] == [BUCKET]
        listing = await asker.ask(m.List(0, BUCKET))
        assert listing.entries == ((KEY.node, 7, Ranges([(0, 3)])),)
        with asker.ask_many(m.Get(0, BUCKET, (KEYS,))) as coming:
            parts = [part async for part in coming]
        assert [bytes(part.packet) for part in parts[:-1]] == [make(n) for n in range(3)]
        assert parts[-1].missing == ((KEY.node, 7, Ranges([(3, 100)])),)
        with asker.ask_many(m.Streams(0, BUCKET)) as parts:
            streams = [part async for part in parts]
        assert streams == [
            m.StreamsAre(streams[0].ask, ((b"web1", b"/var/log/syslog", b"\1" * 16, KEY.node, Ranges([(0, 30)])),)),
            m.Done(streams[0].ask, ()),
        ]


@with_a_buck()
async def test_seals_go_in_and_come_out(world: World) -> None:
    async with asking(world) as asker:
        for n in range(3):
            assert (await asker.ask(m.SealPut(0, seal(n)))).level == 2
        with asker.ask_many(m.Seals(0, b"", 1)) as coming:
            parts = [part async for part in coming]
    assert parts[0].seals == (seal(1), seal(2))
    assert isinstance(parts[-1], m.Done)


@with_a_buck()
async def test_coverage_peers_and_clock(world: World) -> None:
    async with asking(world) as asker:
        await asker.ask(put(make(0)))
        found = await asker.ask(m.Covered(0, KEY.node, (b"\1" * 16,), ()))
        assert found.streams == ((b"\1" * 16, b"/var/log/syslog", b"headhash", Ranges([(0, 10)])),)
        assert found.epochs == ((7, Ranges([(0, 1)])),)
        view = await asker.ask(m.Peers(0))
        assert (view.width, [peer.address for peer in view.peers]) == (WIDTH, ["a:7411"])
        clock = await asker.ask(m.Clock(0))
        assert abs(clock.time_ns - world.machine("a").time_ns()) < 1e9


@with_a_buck()
async def test_a_tailer_that_put_more_than_an_answer_holds_ends_no_buck(world: World) -> None:
    async with asking(world) as asker:
        for n in range(43):
            assert isinstance(await asker.ask(put(crowded(n))), m.Ok)
        streams = tuple(n.to_bytes(16, "big") for n in range(4096))
        found = await asker.ask(m.Covered(0, KEY.node, streams, ()))
        assert found.unsure
        assert 3_900 < len(found.streams) < 4_096
        assert found.epochs == ((7, Ranges([(0, 43)])),)
    async with asking(world, hello(OTHER, "porter")) as asker:
        with asker.ask_many(m.Streams(0, BUCKET)) as coming:
            parts = [part async for part in coming]
        assert isinstance(parts.pop(), m.Done)
        rows = [row for part in parts for row in part.streams]
        assert len(parts) > 10
        assert (len(rows), len(set(row[2] for row in rows))) == (4_300, 4_300)


@with_a_buck()
async def test_buckets_beyond_an_answer_come_with_the_next_question(world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("buck.reading.BUCKETS_MAX", 2)
        async with asking(world) as asker:
            for n in range(3):
                await asker.ask(put(make(n, bucket=BUCKET - n * WIDTH)))
        async with asking(world, hello(OTHER, "porter")) as asker:
            found = await asker.ask(m.Buckets(0, 0, (1 << 32) - 1))
            assert [row[0] for row in found.buckets] == [BUCKET - 2 * WIDTH, BUCKET - WIDTH]
            found = await asker.ask(m.Buckets(0, BUCKET - WIDTH + 1, (1 << 32) - 1))
            assert [row[0] for row in found.buckets] == [BUCKET]


def crowded(number: int) -> bytes:
    """A packet with a hundred streams whose paths are as long as they may be."""
    streams = tuple(
        StreamRef((100 * number + n).to_bytes(16, "big"), b"/%06d/" % n + b"x" * (PATH_MAX - 8), b"headhash")
        for n in range(100)
    )
    runs = tuple(Run(n, 0, 10, 1, BUCKET * POINT_HZ) for n in range(100))
    header = replace(made(number).header, count=100, streams=streams, runs=runs)
    return packets.build(header, b"body")


@with_a_buck()
async def test_an_answer_too_large_to_be_sent_costs_only_who_asked(world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        async with asking(world) as asker:
            patch.setattr(m.View, "size_max", 10)
            answer = await asker.ask(m.Peers(0))
            assert (answer.reason, answer.text.startswith("a View of")) == ("size", True)
            patch.undo()
            assert isinstance(await asker.ask(m.Peers(0)), m.View)  # the same link


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (put(make(0, tailer=OTHER.node)), "role"),
        (put(make(0, env="staging")), "env"),
        (put(make(0, width=60)), "width"),
        (put(make(0)[:-1] + b"\0"), "sum"),
        (put(make(0)[:-9]), "sum"),
        (put(make(0) + b"x"), "sum"),
        (put(b"BUK2" + make(0)[4:]), "version"),
        (put(b"garbage"), "sum"),
        (m.SealPut(0, seal(0, OTHER)), "role"),
        (m.SealPut(0, seal(0)[:-1] + b"\0"), "sum"),
        (m.SealPut(0, seal(0, env="staging")), "env"),
        (m.SealPut(0, seal(0, width=60)), "width"),
    ],
)
def test_A32_what_is_not_good_is_refused_and_the_link_stays(question: m.Message, reason: str) -> None:
    @with_a_buck()
    async def scenario(world: World) -> None:
        async with asking(world) as asker:
            answer = await asker.ask(question)
            assert isinstance(answer, m.No)
            assert answer.reason == reason
            assert isinstance(await asker.ask(put(make(0))), m.Ok)

    scenario()


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        (hello(env="staging"), "env"),
        (hello(width=60), "width"),
        (m.Hello("tailer", KEY.public, "prod", 0, b"h", (2, 3), "", 0), "version"),
    ],
)
def test_a_peer_of_another_env_width_or_version_is_refused_at_the_door(who: m.Hello, reason: str) -> None:
    @with_a_buck()
    async def scenario(world: World) -> None:
        with pytest.raises(Refused) as caught:
            async with asking(world, who):
                pass
        assert caught.value.reason == reason

    scenario()


@with_a_buck()
async def test_a_full_buck_says_so_and_takes_packets_again_later(world: World) -> None:
    platter = world.host("a").platter
    async with asking(world) as asker:
        await asker.ask(put(make(0)))
        platter.capacity = platter.used + 10
        answer = await asker.ask(put(make(1)))
        assert (type(answer), answer.reason) == (m.No, "full")
        platter.capacity = 1 << 40
        await trio.sleep(7)
        assert isinstance(await asker.ask(put(make(1))), m.Ok)


async def garble(stream: trio.abc.Stream, garbage: bytes) -> None:
    """Send it, and wait until the other side has had enough."""
    with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(10):
        await stream.send_all(garbage)
        while await stream.receive_some():
            pass


@with_a_buck()
async def test_A11_garbage_costs_only_its_own_connection(world: World) -> None:
    machine = world.machine("client")
    async with asking(world) as asker:
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", bytes(100_000), b"BUCK\x09\x00", b"BUCK"):
            await garble(await machine.connect("a", PORT), garbage)
        assert isinstance(await asker.ask(put(make(0))), m.Ok)


@with_a_buck()
async def test_a_packet_with_class_sync_is_acknowledged_when_synced_and_holds_up_nobody(world: World) -> None:
    order = []
    async with asking(world) as asker, trio.open_nursery() as nursery:
        await asker.ask(put(make(99)))

        async def one(number: int, sync: bool) -> None:
            answer = await asker.ask(put(make(number, sync=sync)))
            order.append((number, answer.level))

        nursery.start_soon(one, 0, True)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(one, 1, False)
    assert sorted(order) == [(0, 2), (1, 1)]


@with_a_buck()
async def test_a_reader_who_stops_reading_holds_up_only_itself(world: World) -> None:
    async with asking(world) as asker:
        for n in range(40):
            await asker.ask(put(make(n, bytes(100_000))))
        stream = await world.machine("client").connect("a", PORT)
        slow = Link(stream, Connection(hello(OTHER, "porter"), dialing=True))
        await slow.handshake()
        await slow.send(m.Get(1, BUCKET, (KEYS,)))
        await trio.sleep(5)
        assert isinstance(await asker.ask(put(make(50))), m.Ok)
        got = []
        async for part in slow:
            got.append(type(part))
            if isinstance(part, m.Done):
                break
        assert got == [m.PacketIs] * 40 + [m.Done]
        await slow.aclose()


@with_a_buck(connections=2)
async def test_more_connections_than_allowed_are_turned_away(world: World) -> None:
    async with asking(world), asking(world):
        with pytest.raises((LinkLost, RemoteProtocolError)):
            async with asking(world):
                pass


@in_world
async def test_a_stop_answers_what_was_asked_and_ends_idle_links_at_once(world: World) -> None:
    stop, machine = trio.Event(), world.host("a").process()
    async with trio.open_nursery() as nursery:
        ended = trio.Event()

        async def main() -> None:
            await run_node(machine, settings("a"), stop, lambda *_: None)
            ended.set()

        nursery.start_soon(main)
        async with asking(world) as idle, asking(world) as asker:
            await asker.ask(put(make(0)))
            nursery.start_soon(_expect_synced, asker)
            await trio.sleep(0.002)
            before = trio.current_time()
            stop.set()
            await ended.wait()
            assert trio.current_time() - before < 1
            await idle.lost.wait()
    assert machine.disk.listdir("/d1/prod/20231114") == ["221500.0.closed"]


async def _expect_synced(asker: Asker) -> None:
    assert (await asker.ask(put(make(1, sync=True)))).level == 2


@in_world
async def test_three_bucks_find_each_other_from_one_address_and_remember(world: World) -> None:
    async with trio.open_nursery() as nursery:
        start(world.host("a"), nursery)
        for name in ("b", "c"):
            start(world.host(name), nursery, join=(Address("a", PORT),))
        await trio.sleep(20)
        for name in "abc":
            assert await peers_of(world, name) == {"a:7411", "b:7411", "c:7411"}
        world.host("a").power_cut()
        world.host("b").processes[0].kill()
        await trio.sleep(5)
        start(world.host("b"), nursery)
        await trio.sleep(20)
        for name in "bc":
            assert await peers_of(world, name) == {"a:7411", "b:7411", "c:7411"}, "a dead member is still a member"
        nursery.cancel_scope.cancel()


async def peers_of(world: World, name: str) -> set[str]:
    async with asking(world, to=name) as asker:
        return {peer.address for peer in (await asker.ask(m.Peers(0))).peers}


@pytest.mark.parametrize("wrong", [{"env": "staging"}, {"width": 60}])
def test_joining_a_cluster_of_another_env_or_width_ends_the_start_in_one_line(wrong: dict) -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            start(world.host("a"), nursery)
            await trio.sleep(1)
            with pytest.RaisesGroup(pytest.RaisesExc(ConfigError, match="--join a:7411"), flatten_subgroups=True):
                machine = world.machine("b")
                wanted = settings("b", join=(Address("a", PORT),), **wrong)
                await run_node(machine, wanted, trio.Event(), lambda *_: None)
            nursery.cancel_scope.cancel()

    in_world(scenario)()
