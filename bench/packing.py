"""Files as packets, made here by the tailer's own code: for benchmarks that don't need a tailer around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from protocol.identity import file_stream, head_hash
from protocol.kernel import Stream
from protocol.limits import POINT_HZ, WIDTH_S
from protocol.packet import Class, Header, build
from tailer.blocks import Blocks, Draft, Source

ARRIVAL_S = 1_790_000_100  # when all is read: the logs are older than a day, and filed by this
HINT = 1_700_000_000 * POINT_HZ  # when they were written last


@dataclass(frozen=True)
class Sender:
    """Whose packets they are."""

    tailer: bytes = bytes(16)
    host: bytes = b"bench"
    epoch: int = 1 << 32
    arrival_s: int = ARRIVAL_S


def packets(files: Mapping[bytes, bytes], sender: Sender = Sender(), piece: int = 0) -> Iterator[bytes]:
    """Files (path -> bytes) as packets closed by size alone, as `--once` makes them. `piece`: by so many bytes of a
    file at the latest, as a tailer does that follows."""
    blocks, numbers = Blocks(WIDTH_S, sender.host, gather=True), count()
    for handle, (path, data) in enumerate(files.items()):
        stream = file_stream(handle, len(data), path + data[:1000], 0)
        source = Source(handle, stream, path, head_hash(data[:1024]), Class(), Stream(HINT))
        at = 0
        while at < len(data):
            end = min(at + (piece or 1 << 20), len(data))
            at = blocks.add(source, memoryview(data)[:end], at, at, sender.arrival_s * POINT_HZ, end == len(data), 0.0)
            for draft in blocks.flush() if piece else blocks.take():
                yield _packet(draft, sender, next(numbers))
    for draft in blocks.flush():
        yield _packet(draft, sender, next(numbers))


def _packet(draft: Draft, sender: Sender, number: int) -> bytes:
    header = Header(
        "prod", draft.bucket, WIDTH_S, sender.tailer, sender.host, sender.epoch, number, draft.kind, draft.count,
        draft.point_min, draft.point_max, draft.late, draft.streams, draft.runs, draft.content,
        draft.formats, draft.shn, draft.app, draft.sizes,
    )  # fmt: skip
    return build(header, draft.body)
