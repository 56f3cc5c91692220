"""Files as packets, in this process: what benchmarks of sizes and of the archive need, without a tailer around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from protocol.content import ContentHasher
from protocol.identity import file_stream, head_hash
from protocol.kernel import FULL, Builder, Stream, encode
from protocol.limits import PACKET_RAW_MAX, POINT_HZ
from protocol.packet import Class, Header, Packer, Run, StreamRef, build

EVER = (0, 0, True)  # a builder that takes every point, as late ones
HINT = 1_790_000_000 * POINT_HZ


def packets(
    name: bytes, data: bytes, *, number: int = 0, bucket: int = 0, tailer: bytes = bytes(16)
) -> Iterator[bytes]:
    """One file as packets, closed by size alone, as `--backfill` makes them."""
    builder, stream, packer = Builder(PACKET_RAW_MAX), Stream(HINT), Packer()
    builder.open(*EVER)
    ref = StreamRef(file_stream(number, len(data), data[:1024], 0), name, head_hash(data[:1024]))
    at = 0
    while at < len(data):
        begin = at
        at, why, _ = encode(stream, 0, data, at, at, HINT, True, [builder], 0, 0)
        if builder.count and (why == FULL or at == len(data)):
            runs = builder.runs()
            hasher = ContentHasher(b"bench")
            hasher.raw(ref.id, name, runs[0][1], data[runs[0][1] : runs[-1][2]])
            yield _packet(builder, hasher, ref, packer, number, bucket, tailer)
            number += 1
            builder.open(*EVER)
        elif at == begin:
            raise AssertionError("the kernel took nothing")


def _packet(
    builder: Builder, hasher: ContentHasher, ref: StreamRef, packer: Packer, number: int, bucket: int, tailer: bytes
) -> bytes:
    columns = builder.finish()
    hasher.points(ref.id, ref.path, columns.points)
    header = Header(
        env="prod", bucket=bucket, width=300, tailer=tailer, host=b"bench", epoch=1 << 32, number=number, kind=Class(),
        count=builder.count, point_min=builder.point_min, point_max=builder.point_max, late=True, streams=(ref,),
        runs=tuple(Run(*run) for run in builder.runs()), content=hasher.digest(),
        formats=columns.formats, shn=columns.shn, app=columns.app, sizes=columns.sizes,
    )  # fmt: skip
    return build(header, packer.compress(columns.lines, columns.small))


def pack_all(files: Mapping[bytes, bytes]) -> list[bytes]:
    """All files, numbered through."""
    made: list[bytes] = []
    for name, data in files.items():
        made += packets(name, data, number=len(made))
    return made
