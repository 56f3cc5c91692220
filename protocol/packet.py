"""A packet: a batch of events as one immutable piece of bytes, the same on the wire, in the journal and on disk.

    magic "BUK1" | header length u32 | body length u32 | header (header.py) | body | BLAKE3-256 of all before

The body is columns (columns.py), compressed: one zstd frame; where there is much two, the lines in the first. Whoever
stores a packet needs none of it: it checks the digest, reads the envelope and appends the bytes as they came. Whoever
decodes it gets at most as many bytes as the header says, for a small frame may claim to hold gigabytes.

A torn packet (TornError) and a damaged one (PacketError) are told apart, because at a file's end the first is a
power cut and in its middle both are damage.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from protocol import limits
from protocol.errors import PacketError, TornError, VersionError
from protocol.header import Class, Header, Key, Run, StreamRef
from protocol.identity import DIGEST_SIZE
from protocol.packed import Buffer

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = [
    "MAGIC", "OVERHEAD", "PREFIX_SIZE", "Buffer", "Class", "Header", "Key", "Packer", "Packet", "Run", "StreamRef",
    "build", "header_end", "peek", "read", "unpack",
]  # fmt: skip

MAGIC: Final = b"BUK1"
PREFIX: Final = struct.Struct(">4sII")
PREFIX_SIZE: Final = PREFIX.size
OVERHEAD: Final = PREFIX_SIZE + DIGEST_SIZE  # what a packet has besides header and body
FRAMES_MAX: Final = 2
# From here on, one of zstd's blocks, lines get a frame of their own. A frame that is given whole is compressed from
# where it lies; one in pieces is copied first, which takes 4 to 10 % more CPU. Below, 6 bytes more would be dearer.
LARGE: Final = 128 << 10


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet as read. `data` and `body` may be views into a larger buffer, which lives as long."""

    header: Header
    data: bytes | memoryview
    body: memoryview
    digest: bytes


def build(header: Header, body: Buffer) -> bytes:
    """The packet of `header` and a compressed `body`; PacketError if a reader would refuse it."""
    head = header.encode()
    if len(body) > limits.PACKET_BODY_MAX or OVERHEAD + len(head) + len(body) > limits.PACKET_SIZE_MAX:
        raise PacketError(f"a body of {len(body)} bytes: a packet has at most {limits.PACKET_SIZE_MAX}")
    opening = PREFIX.pack(MAGIC, len(head), len(body)) + head
    hasher = blake3(opening)
    hasher.update(body)
    return b"".join((opening, body, hasher.digest()))


def peek(buffer: Buffer, at: int = 0) -> int:
    """The size of the packet that starts at `at`, from its first 12 bytes.

    TornError if they are not all there, VersionError for another envelope, PacketError for anything else.
    """
    if len(buffer) - at < PREFIX_SIZE:
        raise TornError(f"{max(len(buffer) - at, 0)} bytes are less than a packet's prefix")
    magic, head, body = PREFIX.unpack_from(buffer, at)
    if magic != MAGIC:
        if magic[:3] == MAGIC[:3]:
            raise VersionError(f"a packet with the magic {magic!r}: written by a later version")
        raise PacketError(f"no packet begins with {magic!r}")
    size: int = OVERHEAD + head + body
    if head > limits.HEADER_MAX or body > limits.PACKET_BODY_MAX or size > limits.PACKET_SIZE_MAX:
        raise PacketError(f"a packet that claims {head} + {body} bytes")
    return size


def header_end(buffer: Buffer) -> int:
    """Where the header of the packet ends that begins with these bytes (12 or more); errors as those of `peek`."""
    peek(buffer)
    head: int = PREFIX.unpack_from(buffer)[1]
    return PREFIX_SIZE + head


def read(data: bytes | memoryview, *, verify: bool = True) -> Packet:
    """The packet that `data` is, no byte more or less. `verify=False` trusts a digest that was checked before."""
    size = peek(data)
    if len(data) != size:
        if len(data) < size:
            raise TornError(f"{len(data)} bytes of a packet of {size}")
        raise PacketError(f"{len(data) - size} bytes after the packet")
    view = memoryview(data)
    digest = bytes(view[-DIGEST_SIZE:])
    if verify and blake3(view[:-DIGEST_SIZE]).digest() != digest:
        raise PacketError("the digest does not fit")
    start = PREFIX_SIZE + PREFIX.unpack_from(data)[1]
    header = Header.decode(view[PREFIX_SIZE:start])
    return Packet(header, data, view[start:-DIGEST_SIZE], digest)


class Packer:
    """Compresses bodies with one zstd context, which costs more to make than to use on a small packet."""

    def __init__(self, level: int = 1) -> None:
        parameter = zstd.CompressionParameter
        options: dict[int, int] = {parameter.compression_level: level, parameter.window_log: limits.ZSTD_WINDOW_LOG}
        self._zstd = zstd.ZstdCompressor(options=options)

    def compress(self, lines: Buffer, small: Buffer) -> bytes:
        """The lines, then the small columns in a frame or block of their own, so each gets its own statistics."""
        if len(lines) >= LARGE:
            first = self._zstd.compress(lines, mode=zstd.ZstdCompressor.FLUSH_FRAME)
        else:
            first = self._zstd.compress(lines, mode=zstd.ZstdCompressor.FLUSH_BLOCK)
        return first + self._zstd.compress(small, mode=zstd.ZstdCompressor.FLUSH_FRAME)


def unpack(packet: Packet) -> bytes:
    """The columns of `packet`: exactly as many bytes as its header says, or PacketError."""
    if not packet.header.decodable:
        raise VersionError(f"a packet's body of version {packet.header.version}: we read {limits.PACKET_VERSION}")
    size = sum(packet.header.sizes)
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: limits.ZSTD_WINDOW_LOG_MAX}
    found: list[bytes] = []
    held, rest = 0, packet.body
    while rest and len(found) < FRAMES_MAX:
        decompressor = zstd.ZstdDecompressor(options=options)
        try:
            found.append(decompressor.decompress(rest, max_length=size - held + 1))
        except zstd.ZstdError as error:
            raise PacketError(f"the body is no zstd frame: {error}") from error
        held += len(found[-1])
        if held > size or not decompressor.eof:
            break
        rest = memoryview(decompressor.unused_data)
    if held != size or rest or not found:
        raise PacketError(f"the body does not hold {size} bytes in {FRAMES_MAX} frames at most")
    return found[0] if len(found) == 1 else b"".join(found)
