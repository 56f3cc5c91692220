"""Messages: each reads back as it was sent, and a payload is a message or a RemoteProtocolError."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import limits
from protocol.conversation import ANSWERS, MAY_ASK, PARTS
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.messages import MESSAGES, RESERVED, ROLES, Hello, Listing, Message, No, Ok, PacketIs, Peer, Put, View
from protocol.packed import pack, unpack_array
from protocol.packet import Key
from protocol.payload import SCHEMAS, dump, load
from protocol.ranges import Ranges
from protocol.schema import Blob, Field, Flag, Group, Many, Number, Set, Text, Word
from tests.protocol.wire_samples import KEY, anything, hello

numbers = st.lists(st.integers(0, 2**64 - 2), unique=True, max_size=5)


def values_of(field: Field) -> st.SearchStrategy[Any]:
    """What a field may be."""
    if isinstance(field, Number):
        return st.integers(field.low, field.high)
    if isinstance(field, Flag):
        return st.booleans()
    if isinstance(field, Blob):
        return st.binary(min_size=field.low, max_size=min(field.high, field.low + 40))
    if isinstance(field, Text):
        return st.text(st.characters(codec="utf-8"), max_size=field.high // 4)
    if isinstance(field, Word):
        return st.sampled_from(sorted(field.words))
    if isinstance(field, Set):
        return numbers.map(lambda found: Ranges((number, number + 1) for number in found))
    if isinstance(field, Many):
        return st.lists(values_of(field.field), max_size=3).map(tuple)
    assert isinstance(field, Group)
    members = st.tuples(*[values_of(member) for member in field.fields])
    return members if field.make is None else members.map(lambda found: field.make(*found))


def messages_of(kind: type[Message]) -> st.SearchStrategy[Message]:
    return st.builds(kind, **{name: values_of(field) for name, field in SCHEMAS[kind]})


messages = st.sampled_from(sorted(MESSAGES.values(), key=lambda kind: kind.tag)).flatmap(messages_of)


@given(messages)
def test_a_message_reads_back_as_it_was_sent(message: Message) -> None:
    payload = b"".join(dump(message))
    assert load(type(message), payload) == message
    assert len(payload) <= type(message).size_max
    assert len(unpack_array(payload)) == len(SCHEMAS[type(message)]), "every payload is plain msgpack"


@given(messages, st.integers(0, 8), anything)
def test_with_any_field_replaced_it_is_a_message_or_the_peers_fault(message: Message, at: int, value: object) -> None:
    row = list(unpack_array(b"".join(dump(message))))
    row[at % len(row)] = value
    try:
        found = load(type(message), pack(row))
    except RemoteProtocolError:
        return
    assert unpack_array(b"".join(dump(found))) == unpack_array(pack(row))


@given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=80))
def test_garbage_is_a_message_or_the_peers_fault(tag: int, garbage: bytes) -> None:
    try:
        found = load(MESSAGES[tag], garbage)
    except RemoteProtocolError:
        return
    assert load(MESSAGES[tag], b"".join(dump(found))) == found


ODD = {
    "nested 1,000 deep": b"\x91" * 1000 + b"\xc0",
    "nested 100,000 deep": b"\x91" * 100_000 + b"\xc0",
    "an array of four thousand million": b"\xdd\xff\xff\xff\xff",
    "a map of as many": b"\x91\xdf\xff\xff\xff\xff",
    "bytes of four gigabytes": b"\x91\xc6\xff\xff\xff\xff",
    "a string of as many": b"\x91\xdb\xff\xff\xff\xff",
    "an extension of as many": b"\x91\xc9\xff\xff\xff\xff\1",
    "a map with the same key twice": b"\x91\x82\xa1a\1\xa1a\2",
    "no number": b"\x91\xcb\x7f\xf8\0\0\0\0\0\0",
    "infinity": b"\x91\xcb\x7f\xf0\0\0\0\0\0\0",
    "less than zero": b"\x91\xd3\x80\0\0\0\0\0\0\0",
    "text that is not UTF-8": b"\x91\xa2\xff\xfe",
    "a time out of range": b"\x91\xc7\x0c\xff" + b"\xff" * 12,
    "a time": b"\x91\xd6\xff\0\0\0\0",
    "a byte that msgpack never uses": b"\x91\xc1",
}


@pytest.mark.parametrize("payload", ODD.values(), ids=ODD)
def test_A16_odd_msgpack_is_the_peers_fault_and_takes_no_memory(payload: bytes) -> None:
    whole = [payload, *(bytes([0x90 | count]) + b"\1" * (count - 1) + payload[1:] for count in (2, 4, 15))]
    tracemalloc.start()
    try:
        for kind in MESSAGES.values():
            for data in whole:
                with pytest.raises(RemoteProtocolError):
                    load(kind, data)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@given(messages, st.data())
def test_a_field_too_many_or_too_few_is_the_peers_fault(message: Message, data: st.DataObject) -> None:
    row = list(unpack_array(b"".join(dump(message))))
    for wrong in ([*row, data.draw(anything)], row[:-1], []):
        with pytest.raises(RemoteProtocolError):
            load(type(message), pack(wrong))


def test_a_packet_is_neither_copied_on_the_way_out_nor_on_the_way_in() -> None:
    packet = bytes(100_000)
    pieces = dump(Put(1, 2, False, packet))
    assert pieces[1] is packet
    frame = b"".join(pieces)
    found = load(Put, frame)
    assert isinstance(found.packet, memoryview)
    assert found.packet.obj is frame
    assert found == Put(1, 2, False, packet)


@pytest.mark.parametrize("size", [1, 255, 256, 65_535, 65_536])
def test_a_packet_may_come_in_any_form_that_msgpack_has(size: int) -> None:
    packet = bytes(size)
    for payload in (pack([7, packet]), b"".join(dump(PacketIs(7, packet)))):
        assert load(PacketIs, payload) == PacketIs(7, packet)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\x92", b"\x92\x07", b"\x92\x07\xc4", b"\x92\x07\xc4\x05abc", b"\x92\x07\xc4\x02abc", b"\x92\x07\xa3abc",
        b"\x92\x07\xc4\x00", b"\x92\x07\xc6\xff\xff\xff\xffabc", b"\x93\x07\xc4\x03abc", b"\x92\xc4\x03abc\xc4\x03abc",
        b"\x92\xc6\xff\xff\xff\xff", b"\x81\x07\xc4\x03abc",
    ],
)  # fmt: skip
def test_a_packet_that_is_not_as_long_as_it_says_is_the_peers_fault(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        load(PacketIs, payload)


def test_what_no_peer_would_take_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError, match="at most"):
        dump(Put(1, 2, False, bytes(limits.PACKET_SIZE_MAX + 64)))
    with pytest.raises(LocalProtocolError, match="at most"):
        dump(No(1, "full", "x" * limits.SMALL_FRAME_MAX))


def test_a_set_in_a_message_has_one_form_and_stays_within_u64() -> None:
    for edges in ([3, 2], [1], [1, 2, 2, 3], [0, 2**64 + 1], [-1, 3], "12"):
        try:
            payload = pack([1, 300, [[KEY.node, 5, edges]], False, [], []])
        except OverflowError:
            continue
        with pytest.raises(RemoteProtocolError, match=r"Listing\.entries"):
            load(Listing, payload)


def test_members_become_what_they_are_called() -> None:
    peer = Peer(KEY.node, KEY.public, "127.0.0.1:7311", b"web", "zone-a", 5, 10**12, False)
    assert load(View, dump(View(1, 300, (peer,)))[0]).peers[0].address == "127.0.0.1:7311"
    listing = Listing(1, 300, (), False, (Key(KEY.node, 1, 2),))
    assert load(Listing, dump(listing)[0]).conflicts[0].number == 2


def test_hello_tells_the_node_id() -> None:
    assert hello().node == KEY.node


@pytest.mark.parametrize("wrong", [{"role": "king"}, {"env": "e" * 65}, {"width": 86_401}, {"public": bytes(31)},
                                   {"versions": (1,)}, {"versions": (1, "2")}, {"time_ns": -1}])  # fmt: skip
def test_a_hello_out_of_bounds_is_refused(wrong: dict[str, Any]) -> None:
    row = [getattr(hello(), name) for name, _ in SCHEMAS[Hello]]
    names = [name for name, _ in SCHEMAS[Hello]]
    for name, value in wrong.items():
        row[names.index(name)] = value
    with pytest.raises(RemoteProtocolError, match=next(iter(wrong))):
        load(Hello, pack(row))


def test_tags_are_given_once_and_the_tables_are_whole() -> None:
    kinds = set(MESSAGES.values())
    assert len(kinds) == len(MESSAGES) == len({kind.tag for kind in kinds})
    assert not set(RESERVED) & set(MESSAGES)
    assert set(MAY_ASK) == set(ROLES)
    assert frozenset().union(*MAY_ASK.values()) == set(ANSWERS)
    answers = {answer for some in ANSWERS.values() for answer in some}
    assert kinds == answers | set(ANSWERS) | {Hello}
    assert set(PARTS) < answers
    assert all(kind.size_max <= limits.FRAME_SIZE_MAX for kind in kinds)
    assert all(SCHEMAS[kind][0][0] == "ask" for kind in kinds - {Hello}), "questions and answers are matched by it"


def test_an_ack_is_small() -> None:
    assert len(dump(Ok(1, 1, False))[0]) == 4
