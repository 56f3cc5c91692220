"""Packets made of real bytes by the real kernel, for tests of what porters do with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from protocol.content import ContentHasher
from protocol.kernel import FULL, NEED, Builder, Stream, encode
from protocol.limits import POINT_HZ
from protocol.packet import Class, Header, Packer, Packet, Run, StreamRef, build, read

TAILER = bytes(range(16))
ALWAYS = (0, 1 << 63)


def stream_id(name: bytes) -> bytes:
    """An id of the kind that counts bytes."""
    return b"\x01" + hashlib.blake2b(name, digest_size=15).digest()


def packets_of(
    files: Mapping[bytes, bytes],
    *,
    bucket: int = 0,
    width: int = 300,
    host: bytes = b"web1",
    tailer: bytes = TAILER,
    epoch: int = 1,
    number: int = 0,
    late: bool = True,
    raw_max: int = 1 << 20,
    hint: int = 1_700_000_000 * POINT_HZ,
    start: Mapping[bytes, int] | None = None,
) -> list[Packet]:
    """Packets of whole files (path -> bytes), several streams each, numbered from `number` on."""
    made: list[Packet] = []
    builder = Builder(raw_max)
    builder.open(*ALWAYS, late)
    paths = list(files)
    hasher = ContentHasher(host)

    def close() -> None:
        nonlocal hasher
        if builder.count:
            made.append(_packet(builder, paths, hasher, bucket, width, host, tailer, epoch, number + len(made), late))
        builder.open(*ALWAYS, late)
        hasher = ContentHasher(host)

    for handle, path in enumerate(paths):
        data, base = files[path], (start or {}).get(path, 0)
        stream, at = Stream(hint), 0
        bounds = (0, 0) if late else ALWAYS
        while at < len(data):
            used, why, which = encode(stream, handle, data, at, base + at, hint, True, [builder], *bounds)
            for owner, first, end in builder.fresh():
                hasher.raw(stream_id(paths[owner]), paths[owner], first, data[first - base : end - base])
            at = used
            assert why != NEED, which
            if why == FULL:
                close()
    close()
    return made


def _packet(
    builder: Builder,
    paths: list[bytes],
    hasher: ContentHasher,
    bucket: int,
    width: int,
    host: bytes,
    tailer: bytes,
    epoch: int,
    number: int,
    late: bool,
) -> Packet:
    columns, runs = builder.finish(), builder.runs()
    handles = sorted({run[0] for run in runs})
    row = 0
    for owner, _first, _end, count, _start in runs:
        hasher.points(stream_id(paths[owner]), paths[owner], columns.points[row : row + count])
        row += count
    header = Header(
        env="prod", bucket=bucket, width=width, tailer=tailer, host=host, epoch=epoch, number=number, kind=Class(),
        count=builder.count, point_min=builder.point_min, point_max=builder.point_max, late=late,
        streams=tuple(StreamRef(stream_id(paths[handle]), paths[handle], bytes(8)) for handle in handles),
        runs=tuple(Run(handles.index(run[0]), *run[1:]) for run in runs),
        content=hasher.digest(), formats=columns.formats, shn=columns.shn, app=columns.app, sizes=columns.sizes,
    )  # fmt: skip
    return read(build(header, Packer().compress(columns.lines, columns.small)))


def by_path(rendered: Iterable[tuple[bytes, int, bytes]]) -> dict[bytes, bytes]:
    """(path, offset, bytes) in any order, as files."""
    files: dict[bytes, bytes] = {}
    for path, offset, data in sorted(rendered):
        assert len(files.get(path, b"")) == offset, (path, offset)
        files[path] = files.get(path, b"") + data
    return files
