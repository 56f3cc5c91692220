"""The footer of a closed bucket file: its index as bytes. Pure.

A footer is a cache. The packets are the truth, and a scan of them builds the same footer again.

```
packets …
body      u32 groups, then for each group, ascending by (tailer, epoch)
            tailer 16 · epoch u64 · packets u32 · point min u64 · point max u64 · root 32 · streams u32 (bytes)
            numbers u64 each · offsets u64 each · sizes u32 each          in order of number
            streams: u32 count, then for each, ascending
              id 16 · head 8 · path u16+ · host u16+ · intervals u32+ · numbers u32+
              (sets of integers: u32 count of ranges, for each first u64 and end u64)
trailer   the last 88 bytes: "BUKF" · version u16 · 0 u16 · body length u64 · packets u64 · packet bytes u64 ·
          last arrival u64 (ns) · data length u64 · BLAKE2b-256 of the body 32 · CRC-32 of all that u32 · "FKUB"
```

Integers are big-endian. `root` is the BLAKE2b-256 of the packets' digests in order of number. `data length` is where
the packets end and the body begins. The trailer is small and has a sum of its own, so that a start-up reads 88 bytes
a file.
"""

import hashlib
import struct
import sys
import zlib
from array import array
from typing import NamedTuple

from buck.errors import SpoiltError
from buck.index import GROUP_COST, Group, Index, StreamKey, StreamNote, Streams
from protocol.errors import FormatError
from protocol.ranges import Ranges

VERSION = 1
MAGIC, END = b"BUKF", b"FKUB"

_TRAILER = struct.Struct(">4sHHQQQQQ32s")
_GROUP = struct.Struct(">16sQIQQ32sI")
_STREAM = struct.Struct(">16s8sH")
TRAILER_SIZE = _TRAILER.size + 8


class Trailer(NamedTuple):
    """The end of a closed file: what is said of it without its index."""

    body_size: int
    packets: int
    packet_bytes: int
    last_arrival_ns: int
    data_size: int
    hash: bytes


def encode(index: Index, data_size: int, last_arrival_ns: int) -> bytes:
    """Body and trailer for a part whose packets end at `data_size`."""
    body = b"".join([struct.pack(">I", len(index.groups)), *(_group(index, key) for key in sorted(index.groups))])
    packet_bytes = sum(sum(group.sizes) for group in index.groups.values())
    hashed = hashlib.blake2b(body, digest_size=32).digest()
    trailer = _TRAILER.pack(
        MAGIC, VERSION, 0, len(body), index.packets, packet_bytes, max(last_arrival_ns, 0), data_size, hashed
    )
    return body + trailer + struct.pack(">I", zlib.crc32(trailer)) + END


def read_trailer(data: bytes, file_size: int) -> Trailer:
    """The trailer, from the last bytes of a file."""
    if len(data) != TRAILER_SIZE or data[-4:] != END or data[:4] != MAGIC:
        raise SpoiltError("there is no footer")
    fixed = data[: _TRAILER.size]
    if struct.unpack_from(">I", data, _TRAILER.size)[0] != zlib.crc32(fixed):
        raise SpoiltError("the footer's trailer has another sum")
    _, version, _, body_size, packets, packet_bytes, arrival, data_size, hashed = _TRAILER.unpack(fixed)
    if version != VERSION:
        raise SpoiltError(f"the footer has version {version}, this buck reads {VERSION}")
    if data_size > file_size or body_size > file_size - TRAILER_SIZE:
        raise SpoiltError("the footer is longer than its file")
    return Trailer(body_size, packets, packet_bytes, arrival, data_size, hashed)


def decode_whole(data: bytes) -> Index:
    """The index from body and trailer together."""
    trailer = read_trailer(data[-TRAILER_SIZE:], 1 << 63)
    return decode(data[: trailer.body_size], trailer)


def decode(body: bytes, trailer: Trailer) -> Index:
    """The index, streams still as bytes."""
    if len(body) != trailer.body_size or hashlib.blake2b(body, digest_size=32).digest() != trailer.hash:
        raise SpoiltError("the footer has another hash")
    try:
        index = _decode(memoryview(body))
    except (struct.error, ValueError, IndexError, FormatError) as error:
        raise SpoiltError(f"the footer can't be read: {error}") from error
    index.cost = 2 * len(body) + GROUP_COST * len(index.groups)
    return index


def _group(index: Index, key: tuple[bytes, int]) -> bytes:
    group = index.groups[key]
    streams = write_streams(group.streams)
    fixed = _GROUP.pack(*key, len(group.numbers), group.point_min, group.point_max, group.root(), len(streams))
    return b"".join([fixed, *map(_big_endian, (group.numbers, group.offsets, group.sizes)), streams])


def write_streams(streams: Streams) -> bytes:
    """A group's streams as bytes."""
    parts = [struct.pack(">I", len(streams))]
    for key in sorted(streams):
        note = streams[key]
        parts += [_STREAM.pack(key.id, note.head, len(key.path)), key.path]
        parts += [struct.pack(">H", len(key.host)), key.host, _ranges(note.intervals), _ranges(note.numbers)]
    return b"".join(parts)


def _ranges(ranges: Ranges) -> bytes:
    flat = ranges.flat()
    return struct.pack(f">I{len(flat)}Q", len(flat) // 2, *flat)


def _decode(body: memoryview) -> Index:
    index = Index()
    (groups,) = struct.unpack_from(">I", body)
    at = 4
    for _ in range(groups):
        tailer, epoch, count, point_min, point_max, _, streams_size = _GROUP.unpack_from(body, at)
        at += _GROUP.size
        ends = (at + 8 * count, at + 16 * count, at + 20 * count)
        streams = bytes(body[ends[2] : ends[2] + streams_size])
        group = Group(lambda data=streams: read_streams(data))  # type: ignore[misc]  # mypy: a lambda's default
        group.numbers = _column("Q", body[at : ends[0]], count)
        group.offsets = _column("Q", body[ends[0] : ends[1]], count)
        group.sizes = _column("I", body[ends[1] : ends[2]], count)
        group.point_min, group.point_max = point_min, point_max
        index.groups[tailer, epoch] = group
        at = ends[2] + streams_size
    if at != len(body):
        raise SpoiltError("the footer doesn't end where its groups do")
    return index


def read_streams(data: bytes) -> Streams:
    """What `write_streams` wrote."""
    streams: Streams = {}
    (count,) = struct.unpack_from(">I", data)
    at = 4
    for _ in range(count):
        stream, head, path_size = _STREAM.unpack_from(data, at)
        at += _STREAM.size
        path, at = data[at : at + path_size], at + path_size
        (host_size,) = struct.unpack_from(">H", data, at)
        host, at = data[at + 2 : at + 2 + host_size], at + 2 + host_size
        intervals, at = _read_ranges(data, at)
        numbers, at = _read_ranges(data, at)
        streams[StreamKey(stream, path, host)] = StreamNote(head, intervals, numbers)
    return streams


def _read_ranges(data: bytes, at: int) -> tuple[Ranges, int]:
    (count,) = struct.unpack_from(">I", data, at)
    flat = struct.unpack_from(f">{2 * count}Q", data, at + 4)
    return Ranges(zip(flat[::2], flat[1::2], strict=True)), at + 4 + 16 * count


def _column(kind: str, data: memoryview, count: int) -> "array[int]":
    column = array(kind)
    if len(data) != count * column.itemsize:
        raise SpoiltError("a column of the footer ends early")
    column.frombytes(data)
    if sys.byteorder == "little":
        column.byteswap()
    return column


def _big_endian(column: "array[int]") -> bytes:
    if sys.byteorder == "little":
        column = column[:]
        column.byteswap()
    return column.tobytes()
