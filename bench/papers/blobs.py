"""Kafka as a carrier of blobs: pieces of a file that its client has packed itself, a message a piece, and their reader.

    python -m bench.papers.blobs --to HOST:PORT... --settings JSON FILE

Nothing is parsed and no line has an identity: what such a pipeline costs is the least that Kafka can cost. Pieces are
256 KiB of whole lines, each a zstd frame of level 1; the batches that carry them are not compressed again.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from bench.rivals.kafka_client import TOPIC, producer_settings
from bench.rivals.rival import Settings

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE = 256 << 10
LEVEL = 1
ASK_S, END_S = 10.0, 60.0


def pieces(path: Path, size: int = PIECE) -> Iterator[bytes]:
    """A file in pieces of whole lines, each as long as it may be; a line that is longer is a piece of its own."""
    rest = b""
    with path.open("rb") as file:
        while data := file.read(size - len(rest) if len(rest) < size else size):
            rest += data
            if len(rest) >= size and (end := rest.rfind(b"\n") + 1):
                yield rest[:end]
                rest = rest[end:]
    if rest:
        yield rest


def send(servers: str, settings: Settings, path: Path) -> None:
    """All pieces, packed. RuntimeError if one isn't acknowledged."""
    producer = Producer(producer_settings(servers, settings) | {"compression.codec": "none"})
    failed: list[KafkaError] = []

    def told(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    for piece in pieces(path):
        packed = zstd.compress(piece, LEVEL)
        while True:
            try:
                producer.produce(TOPIC, packed, on_delivery=told)
                break
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
    if producer.flush(END_S) or failed:
        raise RuntimeError(f"not all pieces were acknowledged within {END_S:.0f} s; failed: {failed[:1]}")


def ends(servers: str, partitions: int) -> dict[int, int]:
    """Where each partition ends now."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": uuid.uuid4().hex})
    try:
        return {i: consumer.get_watermark_offsets(TopicPartition(TOPIC, i), ASK_S)[1] for i in range(partitions)}
    finally:
        consumer.close()


def lines(servers: str, since: Mapping[int, int], until: Mapping[int, int]) -> int:
    """How many lines that aren't empty the pieces hold that lie between: each is read and unpacked."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": uuid.uuid4().hex, "enable.auto.commit": False})
    consumer.assign([TopicPartition(TOPIC, place, offset) for place, offset in since.items()])
    left = sum(until.values()) - sum(since.values())
    found = 0
    try:
        while left > 0:
            messages = consumer.consume(min(left, 100), END_S)
            if not messages:
                raise RuntimeError(f"{left} pieces did not come within {END_S:.0f} s")
            for message in messages:
                if message.error() is None:
                    found += count_lines(zstd.decompress(message.value() or b""))
                    left -= 1
    finally:
        consumer.close()
    return found


def count_lines(data: bytes) -> int:
    """Lines that aren't empty, the last of them ended or not."""
    return sum(line not in (b"", b"\r") for line in data.split(b"\n"))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", action="append", required=True, metavar="HOST:PORT")
    parser.add_argument("--settings", default="{}")
    parser.add_argument("file", type=Path)
    given = parser.parse_args(words)
    send(",".join(given.to), Settings(**json.loads(given.settings)), given.file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
