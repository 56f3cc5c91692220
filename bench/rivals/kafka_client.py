"""Kafka's sender and reader in Python: confluent-kafka, which is librdkafka (C) underneath."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from bench.rivals import mix
from bench.rivals.client import END_S, LOOK_S, Asked, main, ready
from bench.rivals.lines import Log, Pacer
from bench.rivals.rival import Settings

TOPIC = "events"
READ_AT_ONCE, READ_S = 1000, 0.005
# With tuned time-outs: a broker that keeps silent is left, and asked again, early.
TUNED = {
    "socket.timeout.ms": 2000,
    "socket.connection.setup.timeout.ms": 1000,
    "reconnect.backoff.max.ms": 250,
    "retry.backoff.ms": 50,
}


def producer_settings(servers: str, settings: Settings) -> dict[str, Any]:
    """librdkafka's, as its configuration and kcat's -X name them."""
    given: dict[str, Any] = {
        "bootstrap.servers": servers,
        "acks": "all",
        "enable.idempotence": settings.idempotent,
        "linger.ms": settings.linger_ms,
        "batch.size": settings.batch_bytes,
        "batch.num.messages": 100_000,
        "queue.buffering.max.messages": 1_000_000,
        "compression.codec": settings.compression,
    }
    if settings.level is not None:
        given["compression.level"] = settings.level
    if settings.timeouts == "tuned":
        given |= {**TUNED, "request.timeout.ms": 1500}
    return given


def topics(settings: Settings) -> list[str]:
    """What is sent to and read."""
    return [kind.name for kind in mix.CLASSES] if settings.mix else [TOPIC]


def pace(asked: Asked, pacer: Pacer, log: Log) -> None:
    """Send what is due; an acknowledgement is noted when librdkafka reports it, looked for every millisecond."""
    producer = Producer(producer_settings(asked.servers, asked.settings))

    def told(sender: int, number: int, error: object, _: Message) -> None:
        if error is None:
            log.acked(sender, number)
        else:
            log.failed(sender, number, str(error))

    for topic in topics(asked.settings):
        producer.list_topics(topic, timeout=10)  # connected, and it knows who leads
    ready()
    pacer.begin()
    while not asked.ended.is_set():
        for event in pacer.due():
            log.sent(event)
            key = str(event.sender) if asked.settings.keyed else None
            topic = mix.of(asked.settings.mix, event.sender).name if asked.settings.mix else TOPIC
            _produce(producer, topic, event.line, key, partial(told, event.sender, event.number))
        producer.poll(LOOK_S)
        log.flush()
    producer.flush(END_S)


def load(asked: Asked, files: Sequence[Path]) -> None:
    """Every line of these files that isn't empty. Ends when all are acknowledged; RuntimeError if one is not."""
    producer = Producer(producer_settings(asked.servers, asked.settings))
    failed: list[object] = []

    def told(error: object, _: Message) -> None:
        if error is not None:
            failed.append(error)

    for path in files:
        with path.open("rb") as file:
            for number, line in enumerate(file):
                if text := line.removesuffix(b"\n"):
                    _produce(producer, TOPIC, text, None, told)
                if number % 1000 == 0:
                    producer.poll(0)
    left = producer.flush(END_S)
    if left or failed:
        raise RuntimeError(
            f"{left} events were not acknowledged within {END_S:.0f} s, {len(failed)} failed {failed[:1]}"
        )


def _produce(
    producer: Producer, topic: str, line: bytes, key: str | None, told: Callable[[Any, Message], None]
) -> None:
    while True:
        try:
            producer.produce(topic, line, key, on_delivery=told)
            return
        except BufferError:  # its queue is full: the events are held up here, and their time is running
            producer.poll(LOOK_S)


def consume(asked: Asked, log: Log) -> None:
    """All partitions from their beginnings, without a group: nobody has to be asked, and nothing is committed."""
    given = {"bootstrap.servers": asked.servers, "group.id": uuid.uuid4().hex, "enable.auto.commit": False}
    if asked.settings.timeouts == "tuned":
        given |= TUNED
    consumer = Consumer(given)
    places = [(topic, i) for topic in topics(asked.settings) for i in range(asked.settings.partitions)]
    consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in places])
    ends = _ends(consumer, places) if asked.past else {}
    ready()
    while ends or not (asked.past or asked.ended.is_set()):
        messages = [one for one in consumer.consume(READ_AT_ONCE, READ_S) if one.error() is None]
        log.read(message.value() or b"" for message in messages)
        log.flush()
        for message in messages:
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            if topic is None or partition is None or offset is None:
                continue
            if offset + 1 >= ends.get((topic, partition), sys.maxsize):
                del ends[topic, partition]
    consumer.close()


def _ends(consumer: Consumer, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Where each partition that holds anything ends now."""
    found = {place: consumer.get_watermark_offsets(TopicPartition(*place), 10)[1] for place in places}
    return {place: end for place, end in found.items() if end}


if __name__ == "__main__":
    sys.exit(main(pace, consume, load))
