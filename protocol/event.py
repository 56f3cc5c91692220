r"""One event by itself: Event v1, as the live feed, exports and `*.events` files carry it.

    version u8 = 1 | point u64 | crc u32 | shn u8 + bytes | app u8 + bytes
    marks u16 + bytes | tokens u16 + bytes | line u16 + bytes                       all integers big-endian

The line (time, host, application, pid and priority already taken out) is split in two: `tokens` are its word-like
runs, `[A-Za-z0-9_]` and bytes from 0x80 on, each with a length byte (a longer run is cut at 255), and `line` is the
skeleton that remains, with one placeholder 0x2A (`*`) for each token. `marks` says which bytes of `line` are
placeholders: bit i of byte j, least significant first, marks byte 8j + i. So a `*` of the text itself stays a `*`:

    "a*b c"    tokens 01 61 01 62 01 63    line "*** *"    marks 15 (bits 0, 2 and 4)

Empty marks mean that `line` is the text itself: a line without a word, or one whose tokens would make the event longer
than the 65,535 bytes that a u16 can say. With LINE_MAX = 65,000 an event without tokens always fits. `crc` is the crc32
of the text joined again; it tells a damaged event, and keys those that have no identity. It proves nothing more.
"""

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from protocol.errors import EventError
from protocol.limits import EVENT_VERSION, LINE_MAX, NAME_MAX

EVENT_SIZE_MAX: Final = 65_535
_HEAD: Final = struct.Struct(">BQI")
_PLACEHOLDER: Final = 0x2A
_WORD: Final = re.compile(rb"[A-Za-z0-9_\x80-\xff]{1,255}")


class Event(NamedTuple):
    """What one event says: its point, the host and the application that its line names, and the rest of the line."""

    point: int
    shn: bytes
    app: bytes
    line: bytes


def encode(event: Event) -> bytes:
    """The event's bytes. EventError where a part is too long: a line is cut into fragments long before this."""
    if len(event.line) > LINE_MAX or len(event.shn) > NAME_MAX or len(event.app) > NAME_MAX:
        raise EventError(f"an event's line has at most {LINE_MAX} bytes, its names {NAME_MAX}")
    if not 0 <= event.point < 1 << 64:
        raise EventError(f"not a point: {event.point}")
    head = _HEAD.pack(EVENT_VERSION, event.point, zlib.crc32(event.line))
    head += b"".join(bytes((len(name),)) + name for name in (event.shn, event.app))
    tail = b"".join(struct.pack(">H", len(part)) + part for part in split(event.line, EVENT_SIZE_MAX - len(head) - 6))
    return head + tail


def split(line: bytes, room: int = EVENT_SIZE_MAX) -> tuple[bytes, bytes, bytes]:
    """Marks, tokens and skeleton of a line; without marks and tokens if the three don't fit `room` bytes."""
    tokens, places, taken = [], [], 0
    for word in _WORD.finditer(line):
        text = word.group()
        tokens.append(bytes((len(text),)) + text)
        places.append(word.start() - taken)
        taken += len(text) - 1
    size = len(line) - taken
    marks = bytearray((size + 7) // 8)
    if not places or len(marks) + size + sum(map(len, tokens)) > room:
        return b"", b"", line
    for place in places:
        marks[place >> 3] |= 1 << (place & 7)
    return bytes(marks), b"".join(tokens), _WORD.sub(b"*", line)


def _places(marks: bytes) -> Iterator[int]:
    for index, byte in enumerate(marks):
        for bit in range(8):
            if byte >> bit & 1:
                yield 8 * index + bit


def join(marks: bytes, tokens: bytes, line: bytes) -> bytes:
    """The text again. EventError where the three don't agree."""
    if not marks and not tokens:
        return line
    if len(marks) != (len(line) + 7) // 8:
        raise EventError(f"{len(marks)} bytes of marks for a line of {len(line)}")
    out, at, done = [], 0, 0
    for place in _places(marks):
        if place >= len(line) or line[place] != _PLACEHOLDER:
            raise EventError(f"a mark at byte {place}, where no placeholder stands")
        if at >= len(tokens) or at + 1 + tokens[at] > len(tokens) or not tokens[at]:
            raise EventError("fewer tokens than marks")
        out += [line[done:place], tokens[at + 1 : at + 1 + tokens[at]]]
        at += 1 + tokens[at]
        done = place + 1
    if at != len(tokens):
        raise EventError("more tokens than marks")
    return b"".join(out) + line[done:]


def _field(data: bytes, at: int, width: int) -> tuple[bytes, int]:
    start = at + width
    end = start + int.from_bytes(data[at:start], "big")
    if start > len(data) or end > len(data):
        raise EventError("an event that ends early")
    return data[start:end], end


def decode(data: bytes) -> Event:
    """The event that these bytes are, whole. EventError for anything else."""
    if not data or data[0] != EVENT_VERSION:
        raise EventError(f"event version {data[0]}, this reads {EVENT_VERSION}" if data else "an empty event")
    if not _HEAD.size <= len(data) <= EVENT_SIZE_MAX:
        raise EventError(f"an event of {len(data)} bytes")
    _, point, crc = _HEAD.unpack_from(data)
    shn, at = _field(data, _HEAD.size, 1)
    app, at = _field(data, at, 1)
    marks, at = _field(data, at, 2)
    tokens, at = _field(data, at, 2)
    skeleton, at = _field(data, at, 2)
    if at != len(data):
        raise EventError(f"{len(data) - at} bytes after the event's end")
    line = join(marks, tokens, skeleton)
    if len(line) > LINE_MAX or zlib.crc32(line) != crc:
        raise EventError("the line is not what its crc says" if len(line) <= LINE_MAX else "a line beyond LINE_MAX")
    return Event(point, shn, app, line)


def write_events(events: Iterable[Event]) -> bytes:
    """A flat `*.events` file: each event after its length as u16."""
    return b"".join(struct.pack(">H", len(data)) + data for data in map(encode, events))


def read_events(data: bytes) -> Iterator[Event]:
    """The events of a flat file, in order. EventError at the first byte that isn't one's."""
    at = 0
    while at < len(data):
        event, at = _field(data, at, 2)
        yield decode(event)
