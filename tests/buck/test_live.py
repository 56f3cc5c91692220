"""Live fan-out: what is shown of which packets, to whom, and what it costs when viewers are slow, or there are none."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest
import trio
import trio.lowlevel
from hypothesis import example, given
from hypothesis import strategies as st

from buck import live as live_module
from buck.counts import Counts
from buck.errors import Declined
from buck.live import Fanout, frames, rows_of
from protocol import messages as m
from protocol import terms
from protocol.errors import LocalProtocolError
from protocol.event import decode
from protocol.limits import LIVE_AGE_MS, LIVE_LINK_MAX, LIVE_ROWS_BYTES
from protocol.link import Parts
from protocol.packet import Packet
from protocol.query import parse
from service.backlog import Backlog
from tests.buck.making import BUCKET, KEY, OTHER, WIDTH, make
from tests.buck.test_session import asking, hello, with_a_buck
from tests.porter.making import packets_of
from tests.simulation.machine import World

PATH = b"/var/log/app.log"
PORTER = hello(OTHER, "porter")


def lines(count: int, first: int = 0) -> bytes:
    return b"".join(
        b"2023-11-14T22:13:%02dZ web-1 app[%d]: request %d done\n" % (i % 60, i % 7, i)
        for i in range(first, first + count)
    )


def packets(data: bytes = lines(100), number: int = 0, path: bytes = PATH, at: int = 0) -> list[Packet]:
    where = {"bucket": BUCKET, "width": WIDTH, "host": b"web1", "tailer": KEY.node, "epoch": 7}
    return packets_of({path: data}, number=number, start={path: at}, **where)


def shown(query: str, packet: Packet) -> list[m.LiveRows]:
    found = frames(parse(query), packet.header, rows_of(packet))
    return [frame for frame in found if frame is not None]


def texts(rows: list[m.LiveRows]) -> list[bytes]:
    return [decode(row).line for frame in rows for row in frame.rows]


def test_a_row_is_event_v1_at_its_offset() -> None:
    [packet] = packets(lines(3))
    [frame] = shown("request", packet)
    assert (frame.tailer, frame.host, frame.path) == (KEY.node, b"web1", PATH)
    assert (frame.first, frame.end) == (0, len(lines(3)))
    assert [frame.first + offset for offset in frame.offsets] == [0, len(lines(1)), len(lines(2))]
    event = decode(frame.rows[2])
    assert (event.shn, event.app, event.line) == (b"web-1", b"app", b"request 2 done")
    assert event.point == 1_700_000_000_000_000_00 - 20 * 10**8 + 2 * 10**8


@pytest.mark.parametrize(
    ("query", "count"),
    [("", 100), ("*", 100), ('"request 7 done"', 1), ("host:web1", 100), ("host:db*", 0), ("path:*.txt", 0),
     ("app:app -request", 0), ("*22:13:07Z", 2), ("from:2030-01-01", 0), ("/request 1[12]/", 2), ("i:DONE", 100)],
)  # fmt: skip
def test_the_query_is_answered_as_grep_answers_it(query: str, count: int) -> None:
    """Even where it asks for what is taken out of the line."""
    assert len(texts([frame for packet in packets() for frame in shown(query, packet)])) == count


@given(st.lists(st.integers(0, 3), max_size=60), st.sampled_from([200, 2000, LIVE_ROWS_BYTES]))
def test_frames_hold_each_match_once_and_speak_for_the_whole_run(kinds: list[int], size: int) -> None:
    data = b"".join(
        (b"wanted ", b"other ", b"wanted\r\n wanted ", b"")[kind] + b"x" * 30 * kind + b"\n" for kind in kinds
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_module, "LIVE_ROWS_BYTES", size)
        for packet in packets(data) if data else ():
            rows = shown("wanted", packet)
            starts = [frame.first + offset for frame in rows for offset in frame.offsets]
            all_lines = data.split(b"\n")[:-1]
            wanted = [sum(len(one) + 1 for one in all_lines[:i]) for i, one in enumerate(all_lines) if b"wanted" in one]
            assert starts == wanted
            if rows:
                assert (rows[0].first, rows[-1].end) == (0, len(data))
                assert all(a.end == b.first for a, b in itertools.pairwise(rows))


@given(st.lists(st.tuples(st.sampled_from(["put", "miss", "take"]), st.integers(1, 60) | st.just(150)), min_size=5))
@example([("put", 40)] * 3)
def test_a_backlog_loses_the_oldest_first_and_counts_each(steps: list[tuple[str, int]]) -> None:
    backlog: Backlog[int] = Backlog(100)
    model: list[tuple[int, int]] = []
    missed = 0

    async def take() -> None:
        nonlocal missed
        item = model.pop(0)[0] if model else None
        assert await backlog.take() == (missed, item)
        missed = 0

    async def run() -> None:
        nonlocal missed
        for number, (what, size) in enumerate(steps):
            if what == "put":
                model.append((number, size))
                backlog.put(number, size, number)
                while sum(size for _, size in model) > 100 and len(model) > 1:
                    missed += model.pop(0)[0]
            elif what == "miss":
                missed += size
                backlog.miss(size)
            elif model or missed:
                await take()
            backlog.check()
        while model or missed:
            await take()
        backlog.close()
        assert await backlog.take() is None

    trio.run(run)


class Viewing:
    """A viewer over the wire, and what it was shown."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.texts: list[bytes] = []
        self.missed = 0

    async def next(self) -> object:
        part = await anext(self.parts)
        if isinstance(part, m.LiveRows):
            self.texts += texts([part])
        elif isinstance(part, m.Missed):
            self.missed += part.events
        return part


@asynccontextmanager
async def viewing(world: World, query: str = "", who: m.Hello = PORTER) -> AsyncIterator[Viewing]:
    async with asking(world, who) as asker:
        with asker.ask_many(m.Live(0, query), float("inf")) as parts:
            viewer = Viewing(parts)
            assert await viewer.next() == m.Missed(1, 0)
            yield viewer


def put(packet: Packet, age_ms: int = 0, again: bool = False) -> m.Put:
    return m.Put(0, age_ms, again, packet.data)


@with_a_buck()
async def test_a_put_is_shown_and_again_old_and_repeated_ones_are_not(world: World) -> None:
    async with asking(world) as tailer, viewing(world, "request") as viewer:
        first, second, third, fourth = (packets(lines(10, i), i, at=i * 1000)[0] for i in range(4))
        assert (await tailer.ask(put(first))).live
        await tailer.ask(put(first))
        await tailer.ask(put(second, again=True))
        await tailer.ask(put(third, age_ms=LIVE_AGE_MS))
        await tailer.ask(put(fourth, age_ms=LIVE_AGE_MS - 1))
        while len(viewer.texts) < 20:
            await viewer.next()
        assert viewer.texts == [b"request %d done" % i for i in (*range(10), *range(3, 13))]
        assert not viewer.missed


@with_a_buck()
async def test_nothing_is_decoded_while_nobody_listens(world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fanout, "offer", lambda *_: pytest.fail("nobody listens"))
        async with asking(world) as tailer:
            async with viewing(world):
                pass
            await trio.sleep(1)
            assert not (await tailer.ask(put(packets()[0]))).live


@with_a_buck()
async def test_tailers_hear_at_once_that_somebody_watches_and_that_nobody_does(world: World) -> None:
    async with asking(world) as tailer:
        heard: list[tuple[float, bool]] = []

        async def listen() -> None:
            live = False
            while True:
                live = (await tailer.ask(m.Watch(0, live), float("inf"))).live
                heard.append((trio.current_time(), live))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.sleep(5)
            assert not heard
            begin = trio.current_time()
            async with viewing(world):
                async with viewing(world):
                    await trio.sleep(5)
                assert (await tailer.ask(m.Watch(0, False), 1.0)).live
                await trio.sleep(5)
            end = trio.current_time()
            await trio.sleep(5)
            nursery.cancel_scope.cancel()
        (on, live), (off, dead) = heard
        assert (live, dead) == (True, False)
        assert on - begin < 0.1
        assert off - end < 0.1


@with_a_buck()
async def test_A26_a_slow_viewer_is_told_what_it_missed_and_slows_no_put(world: World) -> None:
    """It takes nothing for a while, as a terminal that was stopped; another one beside it sees everything."""
    each, count = 200, 120
    patch = pytest.MonkeyPatch()
    patch.setattr(live_module, "VIEWER_BYTES_MAX", 64 << 10)
    async with asking(world) as tailer, viewing(world) as slow, viewing(world) as quick:
        slow_link = slow.parts._asker  # type: ignore[attr-defined]  # its reader has to stop, as that of a real viewer would
        slow_link.queued = 1 << 40
        async with trio.open_nursery() as nursery:

            async def look() -> None:
                while len(quick.texts) < each * count:
                    await quick.next()

            nursery.start_soon(look)
            with trio.fail_after(15):
                for i in range(count):
                    for packet in packets(lines(each, i * each), i, at=i * 100_000):
                        await tailer.ask(put(packet))
        patch.undo()
        assert not quick.missed
        slow_link.queued = 0
        slow_link._taken.set()
        with trio.fail_after(30):
            while len(slow.texts) + slow.missed < each * count:
                await slow.next()
        assert len(slow.texts) + slow.missed == each * count
        assert slow.missed
        assert slow.texts[-1] == b"request %d done" % (each * count - 1)


@with_a_buck()
async def test_a_packet_that_can_not_be_decoded_is_stored_counted_and_missed(world: World) -> None:
    async with asking(world) as tailer, viewing(world) as viewer:
        assert (await tailer.ask(m.Put(0, 0, False, make(0)))).level == 1
        assert await viewer.next() == m.Missed(1, 1)


@with_a_buck()
async def test_a_query_that_is_none_is_refused(world: World) -> None:
    async with asking(world, PORTER) as asker:
        with asker.ask_many(m.Live(0, "(a")) as parts:
            [no] = [part async for part in parts]
        assert (no.reason, no.text) == ("query", "this bracket is never closed (at character 1)")


@with_a_buck()
async def test_a_regex_needs_an_engine_that_ends(world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terms, "LINEAR", False)
        async with asking(world, PORTER) as asker:
            with asker.ask_many(m.Live(0, "/(a+)+$/")) as parts:
                [no] = [part async for part in parts]
            assert (no.reason, "RE2" in no.text) == ("query", True)


@with_a_buck()
async def test_standing_questions_and_viewers_are_bounded(world: World) -> None:
    async with asking(world, PORTER) as asker:
        with ExitStack() as stack:
            standing = [stack.enter_context(asker.ask_many(m.Live(0, ""))) for _ in range(LIVE_LINK_MAX + 1)]
            first = [await anext(parts) for parts in standing]
        assert [type(one) for one in first] == [m.Missed] * LIVE_LINK_MAX + [m.No]
    fanout = Fanout(world.machine("x"), Counts())
    await trio.lowlevel.checkpoint()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_module, "VIEWERS_MAX", 1)
        with fanout.viewing("a"), pytest.raises(Declined), fanout.viewing("b"):
            pass
    assert not fanout.wanted


@with_a_buck()
async def test_archie_may_watch_and_a_tailer_may_not(world: World) -> None:
    async with viewing(world, who=hello(OTHER, "archie")):
        pass
    async with asking(world) as asker:
        with (
            pytest.raises(LocalProtocolError, match="a tailer can't send Live"),
            asker.ask_many(m.Live(0, "")) as parts,
        ):
            await anext(parts)
