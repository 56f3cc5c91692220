"""JetStream's sender and reader: nats-py, many events under way at once.

An event whose acknowledgement doesn't come in time is published again, as JetStream's documents ask; where `idempotent`
is set each bears a message id, by which the servers drop the second one. The reader is told every event by its place in
the stream: after a gap or silence it begins anew behind the last that it was given.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import nats
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, PubAck

from bench.rivals.client import END_S, LOOK_S, Asked, main, ready
from bench.rivals.lines import Event, Log, Pacer

STREAM = "events"
PENDING_MAX = 4000  # the client's own default
ACK_S = {"default": 5.0, "tuned": 1.0}
# With tuned time-outs: a server that keeps silent is left; by default it is noticed after two minutes.
PINGS: dict[str, dict[str, int]] = {"default": {}, "tuned": {"ping_interval": 1, "max_outstanding_pings": 2}}
AGAIN_S, SILENT_S = 0.1, 1.0
PENDING_BYTES = 256 << 20


async def _connect(asked: Asked) -> Connection:
    servers = [f"nats://{address}" for address in asked.to]

    async def quiet(_: Exception) -> None:
        pass  # it dials again by itself; who waits for an acknowledgement notices

    more = PINGS[asked.settings.timeouts]
    return await nats.connect(servers, max_reconnect_attempts=-1, reconnect_time_wait=AGAIN_S, error_cb=quiet, **more)


def pace(asked: Asked, pacer: Pacer, log: Log) -> None:
    asyncio.run(_pace(asked, pacer, log))


async def _pace(asked: Asked, pacer: Pacer, log: Log) -> None:
    """A task an event, until it is acknowledged."""
    connection = await _connect(asked)
    stream = connection.jetstream()
    room = asyncio.Semaphore(PENDING_MAX)
    tasks: set[asyncio.Task[None]] = set()
    ready()
    pacer.begin()
    while not asked.ended.is_set():
        for event in pacer.due():
            log.sent(event)
            task = asyncio.create_task(_place(asked, stream, room, event, log))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        log.flush()
        await asyncio.sleep(LOOK_S)
    if tasks:
        await asyncio.wait(tasks, timeout=END_S)
    await connection.close()


async def _place(asked: Asked, stream: JetStreamContext, room: asyncio.Semaphore, event: Event, log: Log) -> None:
    """By a request of its own: of those that `publish_async` is never answered the client keeps a place each, and after
    some faults it has none left."""
    name = f"{event.sender}/{event.number}"
    headers = {"Nats-Msg-Id": name} if asked.settings.idempotent else None
    while True:
        try:
            async with room:
                await stream.publish(STREAM, event.line, ACK_S[asked.settings.timeouts], headers=headers)
            log.acked(event.sender, event.number)
            return
        except (TimeoutError, NatsError):
            await asyncio.sleep(AGAIN_S)


def load(asked: Asked, files: Sequence[Path]) -> None:
    asyncio.run(_load(asked, files))


async def _load(asked: Asked, files: Sequence[Path]) -> None:
    """Every line that isn't empty; the first that isn't acknowledged ends it with an error."""
    connection = await _connect(asked)
    stream = connection.jetstream(publish_async_max_pending=PENDING_MAX)
    failed: list[BaseException] = []

    def told(future: asyncio.Future[PubAck]) -> None:
        if error := future.exception():
            failed.append(error)

    for path in files:
        with path.open("rb") as file:
            for line in file:
                if text := line.removesuffix(b"\n"):
                    (await stream.publish_async(STREAM, text)).add_done_callback(told)
                if failed:
                    raise failed[0]
    await asyncio.wait_for(stream.publish_async_completed(), END_S)
    if failed:
        raise failed[0]
    await connection.close()


def consume(asked: Asked, log: Log) -> None:
    asyncio.run(Reader(asked, log).run())


class Reader:
    """`due`: the place of the event that comes next. One of a dead subscription is known by its `turn`."""

    def __init__(self, asked: Asked, log: Log) -> None:
        self.asked, self.log = asked, log
        self.due, self.turn, self.gap = 1, 0, False
        self.heard = 0.0
        self._subscription: JetStreamContext.PushSubscription | None = None

    async def run(self) -> None:
        connection = await _connect(self.asked)
        stream = connection.jetstream()
        end = (await stream.stream_info(STREAM)).state.last_seq if self.asked.past else 0
        await self._subscribe(stream)
        ready()
        while self.due <= end or not (self.asked.past or self.asked.ended.is_set()):
            self.log.flush()
            await asyncio.sleep(LOOK_S)
            now = asyncio.get_running_loop().time()
            if self.gap or (now > self.heard + SILENT_S and await self._behind(stream)):
                await self._subscribe(stream)
        await connection.close()

    async def _behind(self, stream: JetStreamContext) -> bool:
        """After silence: is there something that it was not given?"""
        self.heard = asyncio.get_running_loop().time()
        try:
            return (await stream.stream_info(STREAM)).state.last_seq >= self.due
        except (TimeoutError, NatsError):
            return False  # nobody answers: it is asked again after the next silence

    async def _subscribe(self, stream: JetStreamContext) -> None:
        self.turn += 1
        turn, self.gap, self.heard = self.turn, False, asyncio.get_running_loop().time()

        async def given(message: Msg) -> None:
            place = message.metadata.sequence.stream
            if turn != self.turn or place < self.due:
                return
            if place > self.due:
                self.gap = True
                return
            self.due += 1
            self.heard = asyncio.get_running_loop().time()
            self.log.read([message.data])

        begin = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.due,
            mem_storage=True,
            num_replicas=1,
        )
        try:
            if self._subscription is not None:
                await self._subscription.unsubscribe()
            self._subscription = await stream.subscribe(
                STREAM, cb=given, config=begin, pending_bytes_limit=PENDING_BYTES
            )
        except (TimeoutError, NatsError):
            self.heard = asyncio.get_running_loop().time() - SILENT_S  # tried again at once


if __name__ == "__main__":
    sys.exit(main(pace, consume, load))
