"""The only file here that awaits: a Connection over a trio stream, and the asking side of one.

A Link reads in large pieces, and writes a message at a time whoever sends, so frames never mix. A peer that takes
nothing for SEND_STALL_S, or says nothing for IDLE_S, ends the link. Sending waits while the peer's window is full:
that is all the back-pressure there is, and enough.

An Asker keeps many questions under way on one link: a reader task gives each answer to whoever waits for its number.
Each question has its own deadline. When the link dies, all that wait get LinkLost, for what became of their
questions is not known. Answers in parts (packets, seals) queue up for their reader; when `waiting_max` bytes of them
wait, the link is not read on, other answers included: so read parts promptly, or over a link of their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import trio

from protocol import limits
from protocol.connection import Check, Connection, slices
from protocol.conversation import ANSWERS
from protocol.errors import LinkLost, RemoteProtocolError, Unanswered
from protocol.messages import Clock, Done, Hello, Message, No, Question
from protocol.packed import Buffer
from protocol.payload import weight

if TYPE_CHECKING:
    from protocol.secure import Security

Taken = Callable[[], None]
GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Link:
    """A conversation over `stream`: `handshake`, then `send` and iterate, then `aclose`."""

    def __init__(self, stream: trio.abc.Stream, connection: Connection, idle_s: float = limits.IDLE_S) -> None:
        self._stream = stream
        self.connection = connection
        self._idle_s = idle_s
        self._sending = trio.StrictFIFOLock()
        self._broken = False  # a frame was cut off on its way out: nothing can be sent behind it
        self._ready: Iterator[Message] = connection.messages()
        self._read_size = limits.READ_MIN
        self._reader: trio.lowlevel.Task | None = None
        self._corked: list[Buffer] = []

    @property
    def peer(self) -> Hello:
        """Who is at the other end; only after the handshake."""
        peer = self.connection.peer
        assert peer is not None
        return peer

    async def handshake(self, timeout_s: float = limits.HANDSHAKE_S) -> None:
        """Exchange prefaces and Hellos. Refused, RemoteProtocolError or LinkLost if that fails; then close."""
        connection = self.connection
        with trio.move_on_after(timeout_s) as scope:
            await self._write_all([connection.start()])
            while connection.peer is None and connection.refusal is None:
                connection.receive(await self._receive())
                if reply := connection.reply():
                    await self._write_all([reply])
            if not connection.dialing:
                await self._write_all([connection.greet()])
            if connection.refusal:
                raise connection.refusal
        if scope.cancelled_caught:
            raise LinkLost(f"no handshake within {timeout_s:g} s")

    async def send(self, message: Message, taken: Taken | None = None) -> None:
        """Send one message whole; waits while others are sent, and while the peer does not read.

        `taken` is called when its turn has come, and then each time that the stream has taken SLICE bytes more.

        A short one from the task that iterates over this link may stay until that task has dealt with what is already
        here, CORK_MAX at most: so answers to questions that came together go together.
        """
        buffers = self.connection.send(message)
        if trio.lowlevel.current_task() is self._reader and self.connection.more and len(buffers) == 1:
            self._corked += buffers
            if len(self._corked) < limits.CORK_MAX:
                return
            buffers = []
        await self._write(buffers, taken)

    async def send_all(self, messages: Iterable[Message]) -> None:
        """Send these short ones together."""
        await self._write([buffer for message in messages for buffer in self.connection.send(message)])

    def __aiter__(self) -> Link:
        return self

    async def __anext__(self) -> Message:
        """The next message; ends when the peer closed cleanly. RemoteProtocolError or LinkLost otherwise."""
        if self._reader is None:
            self._reader = trio.lowlevel.current_task()
        while True:
            for message in self._ready:
                return message
            if self._corked:
                await self._write([])
            data = await self._receive()
            if not data:
                self.connection.end()
                raise StopAsyncIteration
            self.connection.receive(data)
            self._ready = self.connection.messages()

    async def cut(self) -> None:
        """End the link now, whatever is under way."""
        self._broken = True
        await trio.aclose_forcefully(self._stream)

    async def aclose(self) -> None:
        """Send what was kept back, and close the stream; safe to call twice."""
        with suppress(LinkLost), trio.move_on_after(1.0):
            if self._corked and not self._broken:
                await self._write([])
            if not self._broken and (last := self.connection.close()):
                await self._write_all([last])
        await self._stream.aclose()

    async def _receive(self) -> bytes:
        try:
            with trio.move_on_after(self._idle_s) as scope:
                data = bytes(await self._stream.receive_some(self._read_size))
        except GONE as error:
            raise LinkLost(f"the link broke: {error}") from error
        if scope.cancelled_caught:
            raise LinkLost(f"the peer said nothing for {self._idle_s:g} s")
        if not data and self.connection.peer is None:
            self.connection.end()
        if len(data) == self._read_size:
            self._read_size = min(2 * self._read_size, limits.READ_MAX)
        elif len(data) < self._read_size // 4:
            self._read_size = max(self._read_size // 2, limits.READ_MIN)
        return data

    async def _write(self, buffers: list[Buffer], taken: Taken | None = None) -> None:
        try:
            self._sending.acquire_nowait()
        except trio.WouldBlock:
            await self._sending.acquire()
        try:
            if self._broken:
                raise LinkLost("the link broke while something was sent")
            await trio.lowlevel.checkpoint_if_cancelled()  # before what others kept back is taken along
            buffers, self._corked = self._corked + buffers, []
            pieces = self.connection.wire(buffers)
            await self._write_all(slices(pieces, limits.SLICE, taken) if taken else pieces)
        finally:
            self._sending.release()

    async def _write_all(self, pieces: Iterable[Buffer]) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()  # the last moment at which nothing has been sealed or sent yet
        self._broken = True
        try:
            for piece in pieces:
                with trio.move_on_after(limits.SEND_STALL_S) as scope:
                    await self._stream.send_all(piece)
                if scope.cancelled_caught:
                    raise LinkLost(f"the peer took nothing for {limits.SEND_STALL_S:g} s")
            self._broken = False
        except GONE as error:
            raise LinkLost(f"the link broke: {error}") from error
        finally:
            if self._broken:
                await trio.aclose_forcefully(self._stream)


class _Question:
    """One question under way: its answers, as far as they came and nobody took them."""

    def __init__(self, kind: type[Message]) -> None:
        self.kind = kind
        self.answers: deque[Message] = deque()
        self.error: LinkLost | None = None
        self.news = trio.Event()  # something was put into `answers` or `error`

    @property
    def is_answered(self) -> bool:
        """Is there an answer, or will there be none?"""
        return bool(self.answers) or self.error is not None

    async def wait(self) -> None:
        """Returns when `is_answered`."""
        while not self.is_answered:
            self.news = trio.Event()
            await self.news.wait()

    async def answer(self) -> Message:
        """The next answer; LinkLost when there will be none."""
        await self.wait()
        if not self.answers:
            assert self.error
            raise self.error
        return self.answers.popleft()


class Asker:
    """The asking side of a link. Made by open_asker; `lost` is set when the link died."""

    def __init__(self, link: Link, timeout_s: float, waiting_max: int = limits.PARTS_BYTES_MAX) -> None:
        self.lost = trio.Event()
        self.queued = 0  # bytes of answers that nobody took yet
        self.strays = 0  # answers that came when nobody waited for them any more
        self._link = link
        self._timeout_s = timeout_s
        self._waiting_max = waiting_max
        self._room = trio.Semaphore(limits.ASKS_MAX)
        self._questions: dict[int, _Question] = {}
        self.answered_at: dict[type[Message], float] = {}  # when a question of this kind was answered last
        self._last = 0
        self._taken = trio.Event()
        self._error: LinkLost | None = None

    @property
    def peer(self) -> Hello:
        """Who answers."""
        return self._link.peer

    async def ask(self, question: Question, timeout_s: float | None = None) -> Any:
        """The one answer to `question`, whose `ask` is filled in here; No is an answer too (see conversation.ANSWERS).

        Unanswered after `timeout_s`, LinkLost when the link broke: either way it may have been done.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        with trio.move_on_after(timeout_s):
            number = await self.begin(question)
            try:
                return await self.take(number)
            finally:
                self.forget(number)
        raise Unanswered(f"no answer to {type(question).__name__} within {timeout_s:g} s")

    def ask_many(self, question: Question, timeout_s: float | None = None) -> closing[Parts]:
        """`with` the answers in parts to `question`: iterate over them. `timeout_s` is from one part to the next."""
        return closing(Parts(self, question, self._timeout_s if timeout_s is None else timeout_s))

    async def begin(self, question: Question, taken: Taken | None = None) -> int:
        """Send a question (as `Link.send`) and return its number, which must be given to `forget` in the end."""
        try:
            self._room.acquire_nowait()
        except trio.WouldBlock:
            await self._room.acquire()
        self._last = self._last % 0xFFFF_FFFF + 1  # never 0; and never in use, with 1,024 under way at most
        number = self._last
        entry = self._questions[number] = _Question(type(question))
        entry.error = self._error
        try:
            if self._error is None:
                await self._link.send(replace(question, ask=number), taken)
        except BaseException:
            self.forget(number)
            raise
        return number

    def is_answered(self, number: int) -> bool:
        """Can `take` tell at once, be it LinkLost?"""
        return self._questions[number].is_answered

    async def wait(self, number: int) -> None:
        """Returns when `is_answered`."""
        await self._questions[number].wait()

    async def take(self, number: int) -> Message:
        """The next answer to question `number`."""
        message = await self._questions[number].answer()
        self._drain(weight(message))
        return message

    def forget(self, number: int) -> None:
        """Nobody waits for `number` any more: its queue goes, and what still comes is dropped."""
        question = self._questions.pop(number, None)
        if question:
            self._drain(sum(map(weight, question.answers)))
            self._room.release()

    async def run_reader(self) -> None:
        """Give each answer to who waits for it, until the link ends; then tell all that wait."""
        error = LinkLost("the peer closed the link")
        try:
            async for message in self._link:
                self._give(message)
                while self.queued > self._waiting_max:
                    self._taken = trio.Event()
                    await self._taken.wait()
        except LinkLost as caught:
            error = caught
        except RemoteProtocolError as caught:
            (error := LinkLost(f"the peer broke the rules: {caught}")).__cause__ = caught
        finally:
            self._fail(error)

    async def run_pings(self) -> None:
        """Ask for the time whenever PING_S passed: the reader ends the link if nothing at all comes back."""
        while not self.lost.is_set():
            with trio.move_on_after(limits.PING_S):
                await self.lost.wait()
            if not self._link.connection.welcome:
                await self._link.cut()
            with suppress(LinkLost):  # unanswered is no verdict: a slow answer to something large may be on its way
                await self.ask(Clock(0), limits.PING_S)

    def _give(self, message: Message) -> None:
        number: int = message.ask  # type: ignore[attr-defined]  # every answer has it
        question = self._questions.get(number)
        if question is None:
            self.strays += 1
            return
        if type(message) not in ANSWERS[question.kind]:
            raise RemoteProtocolError(f"{type(message).__name__} is no answer to {question.kind.__name__}")
        question.answers.append(message)
        self.answered_at[question.kind] = trio.current_time()
        self.queued += weight(message)
        question.news.set()

    def _fail(self, error: LinkLost) -> None:
        self._error = error
        for question in self._questions.values():
            question.error = error
            question.news.set()
        self.lost.set()

    def _drain(self, weight: int) -> None:
        self.queued -= weight
        if self.queued <= self._waiting_max:
            self._taken.set()


class Parts:
    """Answers as they come: iterate until Done or No, which is the last one. Errors as for Asker.ask."""

    def __init__(self, asker: Asker, question: Question, timeout_s: float) -> None:
        self._asker = asker
        self._question = question
        self._timeout_s = timeout_s
        self._number: int | None = None
        self._ended = False

    def __aiter__(self) -> Parts:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        with trio.move_on_after(self._timeout_s):
            if self._number is None:
                self._number = await self._asker.begin(self._question)
            message = await self._asker.take(self._number)
            if isinstance(message, Done | No):
                self.close()
            return message
        raise Unanswered(f"no part of an answer to {type(self._question).__name__} within {self._timeout_s:g} s")

    def close(self) -> None:
        """Nobody iterates any more: who leaves early keeps no queue and no place among the questions. Safe twice."""
        self._ended = True
        if self._number is not None:
            self._asker.forget(self._number)


@asynccontextmanager
async def open_asker(
    stream: trio.abc.Stream,
    hello: Hello,
    *,
    timeout_s: float = 10.0,
    check: Check | None = None,
    security: Security | None = None,
    waiting_max: int = limits.PARTS_BYTES_MAX,
) -> AsyncIterator[Asker]:
    """Shake hands over `stream` and ask on it. Closes the stream in the end, whatever happens.

    What the body raises comes out as it is, not in a group: the tasks in here raise nothing of their own.
    """
    link = Link(stream, Connection(hello, dialing=True, check=check, security=security))
    failure: Exception | None = None
    try:
        await link.handshake()
        async with trio.open_nursery() as nursery:
            asker = Asker(link, timeout_s, waiting_max)
            nursery.start_soon(asker.run_reader)
            nursery.start_soon(asker.run_pings)
            try:
                yield asker
            except Exception as error:  # carried out of the nursery by hand, see above
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(1.0) as scope:
            scope.shield = True  # closing a socket is short; a cancelled caller must not leak it
            await link.aclose()
    if failure:
        raise failure
