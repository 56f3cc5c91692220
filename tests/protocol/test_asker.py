"""Askers over streams in memory: each answer finds its question, and no peer holds us up for ever."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from protocol import limits
from protocol.connection import Connection
from protocol.errors import LinkLost, Refused, RemoteProtocolError, Unanswered
from protocol.link import Asker, Link, open_asker
from protocol.messages import (
    Clock,
    ClockIs,
    Done,
    Get,
    Have,
    Message,
    No,
    Ok,
    PacketIs,
    Put,
    Receipt,
    View,
)  # fmt: skip
from protocol.ranges import Ranges
from tests.protocol.wire_samples import BUCK, KEY, hello

Answer = Callable[[Link, Any], Awaitable[None]]
HAVE = Have(0, KEY.node, 1, 300, False)
GET = Get(0, 300, ())


def listener(stream: trio.abc.Stream) -> Link:
    return Link(stream, Connection(hello("buck", BUCK), dialing=False))


@asynccontextmanager
async def served(answer: Answer, **settings: float) -> AsyncIterator[Asker]:
    """An asker whose questions `answer` (link, question) answers in a task of their own."""

    async def serve(link: Link, nursery: trio.Nursery) -> None:
        await link.handshake()
        try:
            async for message in link:
                nursery.start_soon(answer, link, message)
        except LinkLost:
            pass  # the tests break links on purpose

    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener(theirs), nursery)
        async with open_asker(ours, hello(), **settings) as asker:
            yield asker
        nursery.cancel_scope.cancel()


async def test_an_answer_finds_its_question_in_whatever_order_they_come(autojump_clock: MockClock) -> None:
    async def backwards(link: Link, message: Message) -> None:
        assert isinstance(message, Have)
        await trio.sleep(1 - message.epoch / 100)
        await link.send(Receipt(message.ask, Ranges([(message.epoch, message.epoch + 1)]), Ranges(), False))

    async def ask(asker: Asker, epoch: int) -> None:
        answer = await asker.ask(Have(0, KEY.node, epoch, 300, False))
        assert answer.held == Ranges([(epoch, epoch + 1)])

    async with served(backwards) as asker, trio.open_nursery() as nursery:
        assert asker.peer.role == "buck"
        for epoch in range(1, 50):
            nursery.start_soon(ask, asker, epoch)


async def test_a_large_packet_arrives_whole(autojump_clock: MockClock) -> None:
    async def keep(link: Link, message: Message) -> None:
        assert isinstance(message, Put)
        await link.send(Ok(message.ask, 1, bytes(message.packet) == packet))

    packet = bytes(range(256)) * 12_000
    async with served(keep) as asker:
        assert (await asker.ask(Put(0, 1, False, packet))).live


async def test_no_is_an_answer(autojump_clock: MockClock) -> None:
    async with served(lambda link, message: link.send(No(message.ask, "full", "the disk is full"))) as asker:
        assert (await asker.ask(HAVE)).reason == "full"


async def test_a_question_has_its_own_deadline_and_the_link_lives_on(autojump_clock: MockClock) -> None:
    async def slow(link: Link, message: Message) -> None:
        if isinstance(message, Have):
            await trio.sleep(50)
            await link.send(Receipt(message.ask, Ranges(), Ranges(), False))
        elif isinstance(message, Clock):
            await link.send(ClockIs(message.ask, 5))

    async with served(slow) as asker:
        start = trio.current_time()
        with pytest.raises(Unanswered, match="no answer to Have within 3 s"):
            await asker.ask(HAVE, timeout_s=3)
        assert trio.current_time() - start == pytest.approx(3)
        assert (await asker.ask(Clock(0))).time_ns == 5
        await trio.sleep(60)
        assert asker.strays == 1, "the late answer is dropped"


async def test_parts_come_until_done(autojump_clock: MockClock) -> None:
    async def some(link: Link, message: Message) -> None:
        assert isinstance(message, Get)
        for number in range(5):
            await link.send(PacketIs(message.ask, bytes([number]) * 10))
        await link.send(Done(message.ask, ((KEY.node, 1, Ranges([(7, 9)])),)))

    async with served(some) as asker:
        with asker.ask_many(GET) as parts:
            parts = [part async for part in parts]
        assert [bytes(part.packet)[0] for part in parts[:-1]] == [0, 1, 2, 3, 4]
        assert parts[-1].missing[0][2] == Ranges([(7, 9)])


async def test_a_refusal_ends_the_parts(autojump_clock: MockClock) -> None:
    async with served(lambda link, message: link.send(No(message.ask, "unknown", ""))) as asker:
        with asker.ask_many(GET) as parts:
            assert [type(part) async for part in parts] == [No]


async def test_parts_that_stop_coming_are_unanswered(autojump_clock: MockClock) -> None:
    async with served(lambda link, message: link.send(PacketIs(message.ask, b"p")), timeout_s=4) as asker:
        with asker.ask_many(GET) as parts:
            assert isinstance(await anext(parts), PacketIs)
            with pytest.raises(Unanswered):
                await anext(parts)


async def endless(link: Link, message: Message) -> None:
    """Answers Get with more than anyone wants to hold."""
    if isinstance(message, Clock):
        await link.send(ClockIs(message.ask, 1))
    elif isinstance(message, Get):
        for _ in range(200):
            await link.send(PacketIs(message.ask, bytes(1_000_000)))
        await link.send(Done(message.ask, ()))


async def test_parts_that_nobody_takes_stop_the_link_and_not_the_memory(autojump_clock: MockClock) -> None:
    async with served(endless) as asker:
        with asker.ask_many(GET) as parts:
            await anext(parts)
            await trio.sleep(5)
            assert asker.queued <= limits.PARTS_BYTES_MAX + 2_000_000
            rest = [part async for part in parts]
        assert len(rest) == 200
        assert asker.queued == 0


async def test_who_leaves_parts_early_holds_nobody_up(autojump_clock: MockClock) -> None:
    async with served(endless) as asker:
        with asker.ask_many(GET) as parts:
            async for part in parts:
                assert isinstance(part, PacketIs)
                break
        assert (await asker.ask(Clock(0))).time_ns == 1
        assert asker.queued == 0


async def test_parts_end_where_they_are_left_and_not_where_garbage_is_collected(autojump_clock: MockClock) -> None:
    async def one_and_no_end(link: Link, message: Message) -> None:
        await link.send(ClockIs(message.ask, 1) if isinstance(message, Clock) else PacketIs(message.ask, b"p"))

    async with served(one_and_no_end) as asker:
        kept = []  # so that nothing is collected
        for _ in range(limits.ASKS_MAX + 1):  # each would hold a place among the questions
            with suppress(ZeroDivisionError), asker.ask_many(GET) as parts:
                kept.append(parts)
                await anext(parts)
                raise ZeroDivisionError
        assert (await asker.ask(Clock(0))).time_ns == 1
        assert [part async for part in kept[0]] == []


async def test_when_the_link_dies_all_that_wait_are_told(autojump_clock: MockClock) -> None:
    async def die(link: Link, message: Message) -> None:
        await trio.sleep(2)
        await link.aclose()

    errors = []

    async def wait(asker: Asker) -> None:
        try:
            await asker.ask(HAVE)
        except LinkLost as error:
            errors.append(error)

    async def wait_for_parts(asker: Asker) -> None:
        with pytest.raises(LinkLost), asker.ask_many(GET) as parts:
            await anext(parts)

    async with served(die) as asker:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(wait, asker)
            nursery.start_soon(wait_for_parts, asker)
        assert len(errors) == 5
        assert not any(isinstance(error, Unanswered) for error in errors)
        assert asker.lost.is_set()
        with pytest.raises(LinkLost):
            await asker.ask(HAVE)


async def test_a_peer_that_answers_what_was_not_asked_loses_the_link(autojump_clock: MockClock) -> None:
    async with served(lambda link, message: link.send(View(message.ask, 300, ()))) as asker:
        with pytest.raises(LinkLost, match="View is no answer to Have"):
            await asker.ask(HAVE)


async def test_only_so_many_questions_are_under_way(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ASKS_MAX", 3)
    under_way = most = 0

    async def count(link: Link, message: Message) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await trio.sleep(1)
        under_way -= 1
        await link.send(ClockIs(message.ask, 1))

    async with served(count, timeout_s=100) as asker, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(asker.ask, Clock(0))
    assert most == 3


async def test_a_silent_peer_is_given_up(autojump_clock: MockClock) -> None:
    async def say_nothing(link: Link, message: Message) -> None:
        pass

    async with served(say_nothing) as asker:
        with trio.fail_after(limits.IDLE_S + 1):
            await asker.lost.wait()
        with pytest.raises(LinkLost, match="said nothing"):
            await asker.ask(HAVE)


async def test_an_idle_asker_keeps_its_link_alive(autojump_clock: MockClock) -> None:
    async def tell(link: Link, message: Message) -> None:
        assert isinstance(message, Clock)
        await link.send(ClockIs(message.ask, 1))

    async with served(tell) as asker:
        await trio.sleep(10 * limits.IDLE_S)
        assert not asker.lost.is_set()


async def test_what_the_body_raises_comes_out_as_it_is(autojump_clock: MockClock) -> None:
    async def nothing(link: Link, message: Message) -> None:
        pass

    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener(theirs).handshake)
        with pytest.raises(ZeroDivisionError):
            async with open_asker(ours, hello()):
                raise ZeroDivisionError
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"closed")


async def test_a_cancelled_asker_closes_its_stream(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener(theirs).handshake)
        with trio.move_on_after(1) as scope:
            async with open_asker(ours, hello()):
                await trio.sleep_forever()
    assert scope.cancelled_caught
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"closed")


async def test_a_handshake_that_takes_too_long_is_lost(autojump_clock: MockClock) -> None:
    ours, _theirs = trio.testing.memory_stream_pair()
    start = trio.current_time()
    with pytest.raises(LinkLost, match="no handshake within 5 s"):
        async with open_asker(ours, hello()):
            pass
    assert trio.current_time() - start == pytest.approx(limits.HANDSHAKE_S)


async def test_a_refused_peer_hears_why_and_so_do_we(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    link = Link(theirs, Connection(hello("buck", BUCK), dialing=False, check=lambda peer: "env"))

    async def refuse() -> None:
        with pytest.raises(Refused) as caught:
            await link.handshake()
        assert caught.value.reason == "env"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        with pytest.raises(Refused, match="the peer refuses: env 'other' is not 'prod'"):
            async with open_asker(ours, hello(env="other")):
                pass


async def test_a_peer_of_another_kind_is_told_by_its_first_bytes(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(RemoteProtocolError, match="does not speak this protocol"):
        async with open_asker(ours, hello()):
            pass
