"""Links over streams in memory: frames never mix, a stubborn peer is given up, answers travel together."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from protocol import limits
from protocol.connection import PREFACE, Connection
from protocol.errors import LinkLost, RemoteProtocolError
from protocol.link import Link
from protocol.messages import Clock, ClockIs, No, Ok, PacketIs, Peers, Put
from tests.protocol.wire_samples import BUCK, hello


def listener(stream: trio.abc.Stream) -> Link:
    return Link(stream, Connection(hello("buck", BUCK), dialing=False))


class Stubborn(trio.abc.Stream):
    """A stream whose peer stops reading after so many bytes, in the middle of whatever it is."""

    def __init__(self, inner: trio.abc.Stream, room: int) -> None:
        self.inner = inner
        self.room = room
        self.waiting = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        taken, self.room = min(self.room, len(data)), max(self.room - len(data), 0)
        await self.inner.send_all(data[:taken])
        if taken < len(data):
            self.waiting += 1
            await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.inner.aclose()


async def greeted(room: int = 1 << 40) -> tuple[Link, trio.abc.Stream]:
    """A listening link, and the bare stream of an asker who has greeted it."""
    ours, theirs = trio.testing.memory_stream_pair()
    link = listener(Stubborn(theirs, room))
    dialler = Connection(hello(), dialing=True)
    await ours.send_all(dialler.start())
    await link.handshake()
    dialler.receive(bytes(await ours.receive_some()))
    assert dialler.peer
    return link, ours


async def test_a_link_ends_when_the_peer_closes_between_two_frames(autojump_clock: MockClock) -> None:
    link, ours = await greeted()
    dialler = Connection(hello(), dialing=True)
    dialler.start()
    dialler.receive(PREFACE + Connection(hello("buck", BUCK), dialing=True).start()[len(PREFACE) :])
    await ours.send_all(b"".join(dialler.send(Peers(1))) + b"".join(dialler.send(Peers(2))))
    await ours.aclose()
    assert [message async for message in link] == [Peers(1), Peers(2)]


async def test_what_is_kept_back_survives_a_sender_who_is_cancelled(autojump_clock: MockClock) -> None:
    """An answer that waits to travel with the next is everybody's; who takes it along may be stopped before it goes."""
    link, ours = await greeted()
    dialler = Connection(hello(), dialing=True)
    dialler.start()
    dialler.receive(PREFACE + Connection(hello("buck", BUCK), dialing=True).start()[len(PREFACE) :])
    await ours.send_all(b"".join(dialler.send(Clock(1))) + b"".join(dialler.send(Clock(2))))
    async for message in link:
        await link.send(ClockIs(message.ask, 5))
        async with trio.open_nursery() as another:
            another.start_soon(link.send, No(9, "slow", ""))
            another.cancel_scope.cancel()
        if message.ask == 2:
            break
    await link.aclose()
    dialler.receive(bytes(await ours.receive_some()))
    assert [message.ask for message in dialler.messages() if isinstance(message, ClockIs)] == [1, 2]


async def test_a_link_that_ends_within_a_frame_is_the_peers_fault(autojump_clock: MockClock) -> None:
    link, ours = await greeted()
    await ours.send_all(b"\0\0\0\x05")
    await ours.aclose()
    with pytest.raises(RemoteProtocolError, match="middle of a frame"):
        await anext(link)


async def test_a_peer_that_takes_nothing_for_too_long_ends_the_link(autojump_clock: MockClock) -> None:
    link, _ours = await greeted(room=500_000)
    start = trio.current_time()
    with pytest.raises(LinkLost, match="took nothing for 20 s"):
        await link.send(PacketIs(1, bytes(1_000_000)))
    assert trio.current_time() - start == pytest.approx(limits.SEND_STALL_S)
    with pytest.raises(LinkLost, match="broke"):
        await link.send(Ok(1, 1, False))


async def test_after_a_send_that_was_cut_off_nothing_is_sent_behind_it(autojump_clock: MockClock) -> None:
    link, ours = await greeted(room=500_000)
    with trio.move_on_after(1):
        await link.send(PacketIs(1, bytes(1_000_000)))
    with pytest.raises(LinkLost, match="broke while something was sent"):
        await link.send(Ok(1, 1, False))
    received = bytearray()
    while data := await ours.receive_some():
        received += data
    assert len(received) < 500_000 + 1_000, "and the stream is closed"


async def test_sends_at_once_do_not_mix(autojump_clock: MockClock) -> None:
    link, ours = await greeted()
    asker = Connection(hello(), dialing=True)
    asker.start()
    asker.receive(PREFACE + Connection(hello("buck", BUCK), dialing=True).start()[len(PREFACE) :])
    async with trio.open_nursery() as nursery:
        for number in range(1, 20):
            nursery.start_soon(link.send, PacketIs(number, bytes([number]) * (number * 50_000)))
    await link.aclose()
    found = {}
    while data := await ours.receive_some():
        asker.receive(bytes(data))
        found |= {message.ask: bytes(message.packet) for message in asker.messages()}
    assert found == {number: bytes([number]) * (number * 50_000) for number in range(1, 20)}


class Counting(Stubborn):
    """A stream that counts what is sent and how much is asked for."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        super().__init__(inner, 1 << 40)
        self.sent: list[int] = []
        self.asked: list[int | None] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(len(data))
        await super().send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self.asked.append(max_bytes)
        return await super().receive_some(max_bytes)


async def counted() -> tuple[Link, Counting, trio.abc.Stream, Connection]:
    """A greeted link whose stream counts, and its asker's bare stream and connection."""
    ours, theirs = trio.testing.memory_stream_pair()
    stream = Counting(theirs)
    link = listener(stream)
    dialler = Connection(hello(), dialing=True)
    await ours.send_all(dialler.start())
    await link.handshake()
    dialler.receive(bytes(await ours.receive_some()))
    stream.sent.clear()
    return link, stream, ours, dialler


async def test_answers_to_questions_that_came_together_go_together(autojump_clock: MockClock) -> None:
    link, stream, ours, dialler = await counted()
    await ours.send_all(b"".join(b"".join(dialler.send(Clock(number))) for number in range(1, 41)))

    async def serve() -> None:
        async for message in link:
            await link.send(ClockIs(message.ask, 1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    dialler.receive(bytes(await ours.receive_some()))
    assert [message.ask for message in dialler.messages()] == list(range(1, 41))
    assert len(stream.sent) == 3, "16, 16 and the last 8"


async def test_an_answer_that_was_kept_back_is_sent_before_the_link_closes(autojump_clock: MockClock) -> None:
    link, stream, ours, dialler = await counted()
    await ours.send_all(b"".join(b"".join(dialler.send(Clock(number))) for number in (1, 2)))
    await anext(link)
    await link.send(No(1, "slow", ""))
    assert stream.sent == []
    await link.aclose()
    dialler.receive(bytes(await ours.receive_some()))
    assert list(dialler.messages()) == [No(1, "slow", "")]


async def test_an_answer_from_another_task_is_never_kept_back(autojump_clock: MockClock) -> None:
    link, stream, ours, dialler = await counted()
    await ours.send_all(b"".join(b"".join(dialler.send(Clock(number))) for number in (1, 2)))
    await anext(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.send, ClockIs(1, 1))
    assert len(stream.sent) == 1


async def test_a_link_that_fills_its_reads_gets_more_at_once(autojump_clock: MockClock) -> None:
    link, stream, ours, dialler = await counted()
    for number in range(1, 5):
        await ours.send_all(b"".join(dialler.send(Put(number, 0, False, bytes(2_000_000)))))
    for _ in range(4):
        await anext(link)
    assert max(filter(None, stream.asked)) == limits.READ_MAX
    for number in range(5, 15):
        await ours.send_all(b"".join(dialler.send(Clock(number))))
        await anext(link)
    assert stream.asked[-1] == limits.READ_MIN
