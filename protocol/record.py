"""One small record by itself: what a node writes between or beside packets, in an envelope like theirs.

    magic 4 "BUKR" | payload length u32 | payload (msgpack) | BLAKE3-256 of all before

A tailer's journal keeps its checkpoints, seals and notes so. The payload is any value msgpack knows (maps have string,
integer or bytes keys); what it means is its reader's business. A reader trusts nothing: the magic, the length and the
digest are checked before the payload is looked at, and whatever is wrong is one FormatError.
"""

import struct

import msgpack
from blake3 import blake3

from protocol.errors import FormatError

MAGIC = b"BUKR"
PREFIX_SIZE = 8
DIGEST_SIZE = 32
# A checkpoint of 20,000 streams at 3 KiB each; what claims to be longer is no record of ours.
PAYLOAD_MAX = 64 << 20

_PREFIX = struct.Struct(">4sI")


def encode_record(value: object) -> bytes:
    """The whole record that holds `value`."""
    payload = msgpack.packb(value, use_bin_type=True)
    if len(payload) > PAYLOAD_MAX:
        raise FormatError(f"a record of {len(payload)} bytes is over the limit of {PAYLOAD_MAX}")
    data: bytes = _PREFIX.pack(MAGIC, len(payload)) + payload
    return data + blake3(data).digest()


def record_size(prefix: bytes) -> int:
    """How long the record is that starts with these bytes (at least PREFIX_SIZE of them)."""
    if len(prefix) < PREFIX_SIZE:
        raise FormatError("a record's first bytes are cut off")
    magic, length = _PREFIX.unpack_from(prefix)
    if magic != MAGIC:
        raise FormatError("no record starts here")
    if length > PAYLOAD_MAX:
        raise FormatError(f"a record claims {length} bytes, over the limit of {PAYLOAD_MAX}")
    return PREFIX_SIZE + int(length) + DIGEST_SIZE


def read_record(data: bytes) -> object:
    """The value in a whole record."""
    if record_size(data) != len(data):
        raise FormatError("a record's length is not what it says")
    if blake3(data[:-DIGEST_SIZE]).digest() != data[-DIGEST_SIZE:]:
        raise FormatError("a record's digest does not match its bytes")
    try:
        return msgpack.unpackb(data[PREFIX_SIZE:-DIGEST_SIZE], raw=False, use_list=True, strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise FormatError(f"a record's payload can't be read: {error}") from error
