"""A message as the payload of a frame, and back: one msgpack array of its fields, each checked by its schema.

The packet in Put and PacketIs comes last, so that it is sent from where it lies, and received as a view of the
frame it came in. It is plain msgpack all the same, which any library reads:

    array of n | field | ... | bin 8, 16 or 32 with its length | the packet's bytes
"""

from __future__ import annotations

from dataclasses import fields
from typing import Final, TypeVar, get_type_hints

from protocol import limits
from protocol.errors import MessageError, TooLargeError
from protocol.messages import MESSAGES, Message, StreamsAre
from protocol.packed import Buffer, PackedError, pack, unpack_array, unpack_head
from protocol.schema import Bulk, Field, SchemaError


def _schema(kind: type[Message]) -> tuple[tuple[str, Field], ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple((field.name, hints[field.name].__metadata__[0]) for field in fields(kind))


SCHEMAS: Final[dict[type[Message], tuple[tuple[str, Field], ...]]] = {kind: _schema(kind) for kind in MESSAGES.values()}
_BULK: Final = frozenset(kind for kind, schema in SCHEMAS.items() if schema and isinstance(schema[-1][1], Bulk))
_HEAD_MAX: Final = 64  # no message with a bulk field has more before it
M = TypeVar("M", bound=Message)


def dump(message: Message) -> list[Buffer]:
    """The payload of `message`, in one or two pieces; TooLargeError if it is longer than a peer would take."""
    kind = type(message)
    values = [field.dump(getattr(message, name)) for name, field in SCHEMAS[kind]]
    pieces: list[Buffer]
    if kind in _BULK:
        bulk = values[-1]
        assert isinstance(bulk, bytes | bytearray | memoryview)
        values[-1] = b""
        pieces = [pack(values)[:-2] + b"\xc6" + len(bulk).to_bytes(4, "big"), bulk]
    else:
        pieces = [pack(values)]
    size = sum(map(len, pieces))
    if size > kind.size_max:
        raise TooLargeError(f"a {kind.__name__} of {size} bytes: at most {kind.size_max}")
    return pieces


def load(kind: type[M], payload: Buffer) -> M:
    """The message in `payload`; MessageError if it is not exactly what its schema says."""
    schema = SCHEMAS[kind]
    place = kind.__name__
    values = []
    try:
        row = _bulk_row(payload, len(schema)) if kind in _BULK else unpack_array(payload)
        if len(row) != len(schema):
            raise SchemaError(f"{len(row)} fields instead of {len(schema)}")
        for value, (name, field) in zip(row, schema, strict=True):
            place = f"{kind.__name__}.{name}"
            values.append(value if isinstance(value, memoryview) else field.load(value))
    except (PackedError, SchemaError) as error:
        raise MessageError(f"{place}: {error}") from error
    return kind(*values)


def weight(message: Message) -> int:
    """What an answer holds in memory, about."""
    if isinstance(message, StreamsAre):
        return sum(256 + len(path) + 80 * len(offsets) for _, path, _, _, offsets in message.streams)
    packet = getattr(message, "packet", b"")
    parts = getattr(message, "seals", getattr(message, "rows", ()))
    return 256 + len(packet) + sum(map(len, parts))


def _bulk_row(payload: Buffer, count: int) -> tuple[object, ...]:
    """The fields of a message whose last one is bulk: that one as a view of `payload`."""
    view = memoryview(payload)
    head, at = unpack_head(view[:_HEAD_MAX], count - 1)
    width = {0xC4: 1, 0xC5: 2, 0xC6: 4}.get(view[at] if at < len(view) else 0)
    if width is None:
        raise PackedError("the last field is no byte string")
    start = at + 1 + width
    bulk = view[start:]
    if int.from_bytes(view[at + 1 : start], "big") != len(bulk) or not 1 <= len(bulk) <= limits.PACKET_SIZE_MAX:
        raise PackedError("the last field is not as long as it says")
    return (*head, bulk)
