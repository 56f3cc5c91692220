"""Event v1: vectors written by hand from the layout, and what must hold for every event."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import EventError
from protocol.event import EVENT_SIZE_MAX, Event, decode, encode, join, read_events, split, write_events

# version, point, crc | shn | app | marks | tokens | line: from the layout alone, digit by digit
VECTORS = [
    (
        "nothing in it",
        Event(1, b"", b"", b""),
        "01 0000000000000001 00000000 00 00 0000 0000 0000",
    ),
    (
        "a placeholder in the text itself",
        Event(0x0123456789ABCDEF, b"h", b"cron", b"a*b c"),
        "01 0123456789abcdef a793edb4 01 68 04 63726f6e 0001 15 0006 0161 0162 0163 0005 2a 2a 2a 20 2a",
    ),
    (
        "a line without a word has empty marks",
        Event(0, b"", b"", b"--- !"),
        "01 0000000000000000 44538a04 00 00 0000 0000 0005 2d2d2d2021",
    ),
    (
        "bytes from 0x80 on are of a word",
        Event(0, b"", b"", "é=1".encode()),
        "01 0000000000000000 a823b09f 00 00 0001 05 0005 02c3a9 0131 0003 2a3d2a",
    ),
    (
        "the ninth byte's mark is the first bit of the second byte",
        Event(0, b"", b"", b"a b c d e"),
        "01 0000000000000000 d6c0cbcf 00 00 0002 5501 000a 0161 0162 0163 0164 0165 0009 2a202a202a202a202a",
    ),
    (
        "a word of 300 is cut at 255",
        Event(0, b"", b"", b"x" * 300),
        f"01 0000000000000000 1b432d13 00 00 0001 03 012e ff{'78' * 255} 2d{'78' * 45} 0002 2a2a",
    ),
]

names = st.binary(max_size=255)
events = st.builds(Event, st.integers(0, 2**64 - 1), names, names, st.binary(max_size=400))


@pytest.mark.parametrize(("event", "data"), [vector[1:] for vector in VECTORS], ids=[vector[0] for vector in VECTORS])
def test_the_vectors_written_by_hand(event: Event, data: str) -> None:
    assert encode(event).hex() == data.replace(" ", "")
    assert decode(bytes.fromhex(data)) == event


@given(events)
def test_an_event_reads_back_as_it_was_written(event: Event) -> None:
    assert decode(encode(event)) == event


@given(st.binary(max_size=3000))
def test_what_is_split_is_joined_again(line: bytes) -> None:
    assert join(*split(line)) == line


@pytest.mark.parametrize("line", [b"a " * 32_500, b"\xff" * 65_000, b"*" * 65_000, b"a*" * 32_500])
def test_the_longest_line_fits_with_the_longest_names(line: bytes) -> None:
    event = Event(2**64 - 1, b"s" * 255, b"a" * 255, line)
    data = encode(event)
    assert len(data) <= EVENT_SIZE_MAX
    assert decode(data) == event


def test_marks_and_tokens_are_left_out_where_they_would_not_fit() -> None:
    line = b"a " * 32_500  # a length byte for each of 32,500 tokens, and 8 kB of marks
    assert split(line, room=65_535) == (b"", b"", line)
    assert split(b"a b", room=3 + 1 + 4) == (b"\x05", b"\x01a\x01b", b"* *")
    assert split(b"a b", room=3 + 1 + 3) == (b"", b"", b"a b")


@pytest.mark.parametrize(
    "event",
    [
        Event(0, b"", b"", b"x" * 65_001),
        Event(0, b"x" * 256, b"", b""),
        Event(0, b"", b"x" * 256, b""),
        Event(-1, b"", b"", b""),
        Event(2**64, b"", b"", b""),
    ],
)
def test_what_no_event_can_say_is_refused(event: Event) -> None:
    with pytest.raises(EventError):
        encode(event)


def whole(marks: bytes, tokens: bytes, line: bytes, text: bytes) -> bytes:
    parts = b"".join(struct.pack(">H", len(part)) + part for part in (marks, tokens, line))
    return struct.pack(">BQI", 1, 0, zlib.crc32(text)) + b"\0\0" + parts


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x02" + encode(Event(0, b"", b"", b"a"))[1:], id="another version"),
        pytest.param(encode(Event(0, b"", b"", b"a"))[:-1], id="cut"),
        pytest.param(encode(Event(0, b"", b"", b"a")) + b"\0", id="more after it"),
        pytest.param(whole(b"\x01", b"\x01a", b"-", b"a"), id="a mark where no placeholder stands"),
        pytest.param(whole(b"\x02", b"\x01a", b"*", b"*a"), id="a mark behind the line"),
        pytest.param(whole(b"\x01", b"", b"*", b"*"), id="a token too few"),
        pytest.param(whole(b"\x01", b"\x01a\x01b", b"*", b"a"), id="a token too many"),
        pytest.param(whole(b"\x01", b"\x05a", b"*", b"a"), id="a token that is cut"),
        pytest.param(whole(b"\x01", b"\0", b"*", b""), id="a token of no bytes"),
        pytest.param(whole(b"\x01\0", b"\x01a", b"*", b"a"), id="more marks than the line has bytes"),
        pytest.param(whole(b"", b"\x01a", b"*", b"*"), id="tokens without marks"),
        pytest.param(whole(b"", b"", b"a", b"b"), id="another crc"),
        pytest.param(whole(b"\x01", b"\xff" + b"a" * 255, b"*" + b"a" * 64_900, b""), id="joined beyond LINE_MAX"),
    ],
)
def test_bytes_that_are_no_event_are_refused(data: bytes) -> None:
    with pytest.raises(EventError):
        decode(data)


@given(st.binary(max_size=80), st.booleans())
def test_garbage_is_an_event_or_an_event_error(data: bytes, versioned: bool) -> None:
    try:
        event = decode(b"\x01" + data if versioned else data)
    except EventError:
        return
    assert decode(encode(event)) == event


@given(events, st.integers(0, 2**31), st.integers(0, 7))
def test_a_flipped_bit_never_shows_another_line(event: Event, place: int, bit: int) -> None:
    data = bytearray(encode(event))
    data[place % len(data)] ^= 1 << bit
    try:
        assert decode(bytes(data)).line == event.line
    except EventError:
        return


@given(st.lists(events, max_size=5))
def test_a_flat_file_holds_events_one_after_another(some: list[Event]) -> None:
    data = write_events(some)
    assert list(read_events(data)) == some
    if some:
        with pytest.raises(EventError):
            list(read_events(data[:-1]))
