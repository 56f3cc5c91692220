"""One buck fetches from another, in a simulated world."""

import json
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from buck import reading
from buck.pulling import BURST_S, Pace
from protocol import messages as m
from protocol.errors import LinkLost
from protocol.identity import NodeKey
from protocol.link import Asker
from protocol.ranges import Ranges
from service.faults import armed
from service.machine import File
from service.units import Address
from service.web import fetch
from tests.buck.making import BUCKET, KEY, OTHER, WIDTH, in_world, make, put_question
from tests.buck.test_session import PORT, asking, hello, start
from tests.simulation.machine import World

TEN = ((KEY.node, 7, Ranges([(0, 10)])),)


async def node_of(world: World, name: str) -> bytes:
    async with asking(world, to=name) as asker:
        return asker.peer.node


async def held(world: World, name: str) -> Ranges:
    async with asking(world, to=name) as asker:
        return (await asker.ask(m.Have(0, KEY.node, 7, BUCKET, False))).synced


async def pull(world: World, source: bytes, keys: tuple = TEN, to: str = "b", role: str = "porter") -> object:
    async with asking(world, hello(OTHER, role), to) as asker:
        return await asker.ask(m.Pull(0, BUCKET, source, keys), 60)


async def put_all(asker: Asker, count: int, size: int = 10) -> None:
    for n in range(count):
        assert isinstance(await asker.ask(put_question(make(n, bytes(size)))), m.Ok)


def two_bucks(**more: object):
    def decorate(scenario):
        async def whole(world: World) -> None:
            async with trio.open_nursery() as nursery:
                start(world.host("a"), nursery)
                start(world.host("b"), nursery, join=(Address("a", PORT),), **more)
                await trio.sleep(5)
                await scenario(world)
                nursery.cancel_scope.cancel()

        whole.__name__, whole.__doc__ = scenario.__name__, scenario.__doc__
        return in_world(whole)

    return decorate


@two_bucks()
async def test_packets_are_fetched_kept_fsynced_and_what_is_missing_is_named(world: World) -> None:
    async with asking(world) as asker:
        await put_all(asker, 8)
    done = await pull(world, await node_of(world, "a"))
    assert done == m.Done(done.ask, ((KEY.node, 7, Ranges([(8, 10)])),))
    assert await held(world, "b") == Ranges([(0, 8)])


@two_bucks()
async def test_what_is_here_is_not_fetched_again(world: World) -> None:
    for name, count in (("a", 10), ("b", 6)):
        async with asking(world, to=name) as asker:
            await put_all(asker, count)
    a = await node_of(world, "a")
    assert (await pull(world, a)).missing == ()
    async with asking(world) as asker:
        await put_all(asker, 0)
    world.host("a").power_cut()
    assert (await pull(world, a)).missing == (), "nobody need be asked"


@two_bucks()
async def test_C15_a_rotten_copy_is_not_spread(world: World) -> None:
    async with asking(world) as asker:
        await put_all(asker, 10)
    a = await node_of(world, "a")
    for size in range(len(make(0, bytes(10))) * 3 + 30, len(make(0, bytes(10))) * 3 + 60):
        world.host("a").platter.corrupt("/d1/prod/20231114/221500.0.open", size)
    done = await pull(world, a)
    assert done.missing == ((KEY.node, 7, Ranges([(3, 4)])),)
    assert await held(world, "b") == Ranges([(0, 3), (4, 10)])


@two_bucks()
async def test_who_is_no_member_is_not_dialled(world: World) -> None:
    no = await pull(world, NodeKey.from_seed(b"\x09" * 32).node)
    assert (no.reason, "no buck" in no.text) == ("unknown", True)


@two_bucks()
async def test_a_source_that_is_dead_leaves_everything_missing(world: World) -> None:
    a = await node_of(world, "a")
    world.host("a").power_cut()
    assert (await pull(world, a)).missing == TEN


@two_bucks()
async def test_a_pull_that_a_kill_cut_short_is_asked_for_again(world: World) -> None:
    async with asking(world) as asker:
        await put_all(asker, 10)
    a = await node_of(world, "a")
    async with trio.open_nursery() as nursery:
        dying = world.host("b").processes[0]
        with armed("buck.pulling.stored", nth=4, action=dying.kill_here), pytest.raises(LinkLost):
            await pull(world, a)
        start(world.host("b"), nursery, join=(Address("a", PORT),))
        await trio.sleep(3)
        assert await held(world, "b") == Ranges([(0, 4)])
        assert (await pull(world, a)).missing == ()
        nursery.cancel_scope.cancel()


@two_bucks(pull_rate=65_536)
async def test_pulls_go_at_their_pace(world: World) -> None:
    async with asking(world) as asker:
        await put_all(asker, 10, 65_536)
    before = trio.current_time()
    assert (await pull(world, await node_of(world, "a"))).missing == ()
    assert 10 - 2 * BURST_S <= trio.current_time() - before < 12


@two_bucks()
async def test_a_mark_is_ended_by_who_repairs_and_by_no_tailer(world: World) -> None:
    async with asking(world, to="b") as asker:
        await put_all(asker, 3)
    world.host("b").processes[0].kill()
    async with trio.open_nursery() as nursery:
        start(world.host("b"), nursery, join=(Address("a", PORT),))
        await trio.sleep(3)
        async with asking(world, hello(OTHER, "porter"), "b") as asker:
            assert (await asker.ask(m.List(0, BUCKET))).unsure
            assert isinstance(await asker.ask(m.Settle(0, BUCKET)), m.Ok)
            assert isinstance(await asker.ask(m.Settle(0, BUCKET + WIDTH)), m.Ok)
            assert not (await asker.ask(m.List(0, BUCKET))).unsure
        nursery.cancel_scope.cancel()


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 5)), min_size=1, max_size=50))
def test_a_pace_is_kept_over_any_stretch(takes: list[tuple[int, float]]) -> None:
    pace, now, total = Pace(1000.0), 100.0, 0
    for size, idle in takes:
        total += size
        now += pace.take(size, now)
        assert now - 100.0 + BURST_S >= total / 1000.0 - 1e-6
        now += idle
    assert pace.take(1, now + 10**6) == pytest.approx(0, abs=1e-9)


def test_C15_a_source_that_sends_rot_or_something_else_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_it_lies(file: File, row: Any) -> bytes:
        """No digest is checked, and of number 5 comes number 6."""
        return make(6, bytes(10)) if row.number == 5 else file.pread(row.size, row.offset)

    monkeypatch.setattr(reading, "_read_row", as_it_lies)

    @two_bucks()
    async def scenario(world: World) -> None:
        async with asking(world) as asker:
            await put_all(asker, 8)
        for byte in range(30, 60):
            world.host("a").platter.corrupt("/d1/prod/20231114/221500.0.open", len(make(0, bytes(10))) * 3 + byte)
        keys = ((KEY.node, 7, Ranges([(0, 6)])),)
        assert (await pull(world, await node_of(world, "a"), keys)).missing == (
            (KEY.node, 7, Ranges([(3, 4), (5, 6)])),
        )
        page = json.loads(await fetch(world.machine("looker"), "b", 80, "/status"))
        assert page["counters"]["bad_pulls"] == 2

    scenario()
