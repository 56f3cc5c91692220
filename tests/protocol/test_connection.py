"""Connections: the tables hold, both ways; nothing a peer sends is more than its own link's end."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import limits
from protocol.connection import ANSWERER, ASKER, PREFACE, STRANGER, Connection, Preface, PrefaceNoise, State
from protocol.errors import LinkLost, LocalProtocolError, Refused, RemoteProtocolError
from protocol.frames import HEAD, frame
from protocol.messages import (
    Buckets,
    Clock,
    ClockIs,
    Done,
    Get,
    Gossip,
    Have,
    Hello,
    List,
    Message,
    No,
    Ok,
    PacketIs,
    Peers,
    Pull,
    Put,
    RetirePut,
    SealPut,
    Settle,
    Streams,
)
from protocol.packed import Buffer
from protocol.payload import dump
from tests.protocol.test_messages import messages
from tests.protocol.wire_samples import BUCK, KEY, hello


def joined(buffers: Iterable[Buffer]) -> bytes:
    return b"".join(buffers)


def raw(message: Message) -> bytes:
    """A message as a frame, legal or not."""
    return joined(frame(message.tag, dump(message)))


def pair(role: str = "tailer") -> tuple[Connection, Connection]:
    """An asker and an answerer who have greeted each other."""
    asker = Connection(hello(role), dialing=True)
    answerer = Connection(hello("buck", BUCK), dialing=False)
    answerer.receive(asker.start())
    asker.receive(answerer.start() + answerer.greet())
    return asker, answerer


def test_both_know_each_other_after_the_greeting() -> None:
    asker, answerer = pair()
    assert asker.peer == answerer.hello
    assert answerer.peer == asker.hello
    assert {asker.us, asker.them, answerer.us, answerer.them} == {State.OPEN}


def test_the_first_bytes_are_the_preface() -> None:
    assert Connection(hello(), dialing=True).start().startswith(b"BUCK\x01\x00")
    assert Connection(hello("buck", BUCK), dialing=False).start() == b"BUCK\x01\x00" == PREFACE


def test_questions_and_answers_go_through() -> None:
    asker, answerer = pair()
    answerer.receive(joined(asker.send(Put(1, 2, False, b"packet"))) + joined(asker.send(Clock(2))))
    assert list(answerer.messages()) == [Put(1, 2, False, b"packet"), Clock(2)]
    asker.receive(joined(answerer.send(Ok(1, 1, True))) + joined(answerer.send(ClockIs(2, 99))))
    assert list(asker.messages()) == [Ok(1, 1, True), ClockIs(2, 99)]


@given(st.lists(st.integers(1, 60), max_size=30))
def test_however_a_whole_conversation_is_cut_it_is_the_same(cuts: list[int]) -> None:
    asker, answerer = Connection(hello(), dialing=True), Connection(hello("buck", BUCK), dialing=False)
    answerer.start()
    asker_says = asker.start()
    asker.receive(PREFACE + raw(answerer.hello))
    sent: list[Message] = [Put(1, 2, False, bytes(200)), Clock(2), Have(3, KEY.node, 1, 300, True)]
    data = asker_says + b"".join(joined(asker.send(message)) for message in sent)
    found: list[Message] = []
    for size in [*cuts, len(data)]:
        answerer.receive(data[:size])
        data = data[size:]
        found += answerer.messages()
    assert found == sent
    assert answerer.peer == asker.hello


@given(st.sampled_from(sorted(ASKER)), messages)
def test_a_role_may_ask_what_the_table_says_and_nothing_else(role: str, message: Message) -> None:
    asker, answerer = pair(role)
    kind = type(message)
    if kind in ASKER[role][State.OPEN]:
        answerer.receive(joined(asker.send(message)))
        assert list(answerer.messages()) == [message]
        return
    with pytest.raises(LocalProtocolError, match=f"a {role} can't send {kind.__name__} in state open"):
        asker.send(message)
    answerer.receive(raw(message))
    with pytest.raises(RemoteProtocolError, match=f"tag {kind.tag} is not expected"):
        list(answerer.messages())


def test_nobody_may_ask_for_more_than_its_work_needs() -> None:
    """Named here and not taken from the table, which is what a mistake would be made in."""
    beyond = {
        "tailer": {Buckets, Gossip, Pull, RetirePut, Settle, Streams},
        "buck": {Put, RetirePut, SealPut, Settle},
        "porter": {Gossip, Put, RetirePut, SealPut},
        "archie": {Get, Gossip, Have, List, Pull, Put, RetirePut, SealPut, Settle},
        "admin": {Gossip, Put, SealPut},
    }
    assert ASKER.keys() == beyond.keys()
    too_much = {role: kinds & ASKER[role][State.OPEN].keys() for role, kinds in beyond.items()}
    assert not any(too_much.values()), too_much


@given(messages)
def test_who_listens_may_answer_and_nothing_else(message: Message) -> None:
    asker, answerer = pair()
    kind = type(message)
    if kind in ANSWERER[State.OPEN]:
        asker.receive(joined(answerer.send(message)))
        assert list(asker.messages()) == [message]
        return
    with pytest.raises(LocalProtocolError):
        answerer.send(message)
    asker.receive(raw(message))
    with pytest.raises(RemoteProtocolError):
        list(asker.messages())


@given(messages)
def test_before_hello_only_hello_or_no_is_taken(message: Message) -> None:
    answerer = Connection(hello("buck", BUCK), dialing=False)
    data = PREFACE + raw(message)
    if isinstance(message, Hello):
        answerer.receive(data)
        assert answerer.peer or answerer.refusal
    elif isinstance(message, No):
        with pytest.raises(Refused, match="the peer refuses"):
            answerer.receive(data)
    else:
        with pytest.raises(RemoteProtocolError):
            answerer.receive(data)
    for early in (Connection(hello(), dialing=True), Connection(hello("buck", BUCK), dialing=False)):
        with pytest.raises(LocalProtocolError, match="in state preface"):
            early.send(message)


def test_nothing_is_asked_before_the_peer_said_hello() -> None:
    asker = Connection(hello(), dialing=True)
    asker.start()
    with pytest.raises(LocalProtocolError, match="before the peer's Hello"):
        asker.send(Clock(1))


def test_a_hello_is_said_once() -> None:
    asker, answerer = pair()
    with pytest.raises(LocalProtocolError):
        asker.send(asker.hello)
    answerer.receive(raw(asker.hello))
    with pytest.raises(RemoteProtocolError):
        list(answerer.messages())


def test_the_tables_lead_from_preface_to_closed_and_nowhere_else() -> None:
    for table in (STRANGER, ANSWERER, *ASKER.values()):
        assert set(table) == set(State)
        assert table[State.PREFACE] == {Preface: State.HELLO, PrefaceNoise: State.HANDSHAKE}
        assert table[State.HELLO] == {Hello: State.OPEN, No: State.CLOSED}
        assert set(table[State.OPEN].values()) <= {State.OPEN}
        assert table[State.CLOSED] == {}
        assert Hello not in table[State.OPEN]
    assert Gossip in ASKER["buck"][State.OPEN]
    assert not {Gossip, Put} & set(ASKER["porter"][State.OPEN])
    assert {Get, Peers} <= set(ASKER["porter"][State.OPEN])
    assert {PacketIs, Done, Ok} <= set(ANSWERER[State.OPEN])


@given(st.binary(min_size=1, max_size=120))
def test_garbage_is_the_peers_fault_wherever_it_comes(garbage: bytes) -> None:
    fresh = Connection(hello("buck", BUCK), dialing=False)
    greeted = Connection(hello("buck", BUCK), dialing=False)
    greeted.receive(PREFACE)
    for connection in (fresh, greeted, *pair()):
        try:
            connection.receive(garbage)
            list(connection.messages())
            connection.end()
        except (RemoteProtocolError, Refused):
            pass


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1", b"SSH-2.0-x", b"BUCKS!", b"\x16\x03\x01\x00\xa5\x01"])
def test_another_protocol_is_told_apart_at_once(first: bytes) -> None:
    with pytest.raises((RemoteProtocolError, Refused)):
        Connection(hello("buck", BUCK), dialing=False).receive(first)


def test_another_wire_version_is_refused_with_both_numbers() -> None:
    with pytest.raises(Refused, match="wire version 9, this is 1") as caught:
        Connection(hello(), dialing=True).receive(b"BUCK\x09\x00")
    assert caught.value.reason == "version"


def test_encryption_that_is_not_there_is_not_silently_left_out() -> None:
    with pytest.raises(Refused) as caught:
        Connection(hello(), dialing=True).receive(b"BUCK\x01\x01")
    assert caught.value.reason == "security"


def test_a_huge_hello_is_refused_before_it_arrives() -> None:
    with pytest.raises(RemoteProtocolError, match="at most"):
        Connection(hello(), dialing=True).receive(PREFACE + HEAD.pack(limits.SMALL_FRAME_MAX + 1, Hello.tag))


@pytest.mark.parametrize(
    ("reason", "changes", "text"),
    [
        ("env", {"env": "staging"}, "env 'staging' is not 'prod'"),
        ("width", {"width": 60}, "buckets of 60 s are not 300 s"),
        ("version", {"versions": (5, 6)}, r"packet versions \(5, 6\) do not meet \(1, 1\)"),
        ("role", {"role": "porter"}, "a porter is not let in"),
        ("full", {}, ""),
    ],
)
def test_who_is_refused_is_told_why(reason: str, changes: dict[str, object], text: str) -> None:
    asker = Connection(hello(**changes), dialing=True)
    answerer = Connection(hello("buck", BUCK), dialing=False, check=lambda peer: reason)
    answerer.receive(asker.start())
    assert answerer.peer is None
    with pytest.raises(Refused, match=f"the peer refuses: {text}") as caught:
        asker.receive(answerer.start() + answerer.greet())
    assert caught.value.reason == reason
    assert answerer.us is State.CLOSED
    with pytest.raises(LocalProtocolError, match="in state closed"):
        answerer.send(Ok(1, 1, False))


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (hello("porter", BUCK), "role"),  # whoever answers must be a buck
        (hello("buck", KEY), "role"),  # and not oneself
        (hello("buck", BUCK, versions=(3, 2)), "version"),
    ],
)
def test_who_dials_looks_whom_it_reached(peer: Hello, reason: str) -> None:
    asker = Connection(hello(), dialing=True)
    with pytest.raises(Refused) as caught:
        asker.receive(PREFACE + raw(peer))
    assert caught.value.reason == reason
    assert asker.peer is None


def test_an_end_between_two_frames_is_clean_and_any_other_is_not() -> None:
    asker, answerer = pair()
    data = joined(asker.send(Clock(1)))
    for size in range(1, len(data)):
        _, cut = pair()
        cut.receive(data[:size])
        assert list(cut.messages()) == []
        with pytest.raises(RemoteProtocolError, match="middle of a frame"):
            cut.end()
    answerer.receive(data)
    assert list(answerer.messages()) == [Clock(1)]
    answerer.end()
    with pytest.raises(RemoteProtocolError, match="state preface"):
        Connection(hello(), dialing=True).end()


def test_an_answer_to_a_peer_that_left_costs_the_link_and_is_no_mistake_of_ours() -> None:
    asker, answerer = pair()
    answerer.receive(joined(asker.send(Clock(1))))
    assert list(answerer.messages()) == [Clock(1)]
    answerer.end()
    with pytest.raises(LinkLost, match="left"):
        answerer.send(ClockIs(1, 2))


def test_a_large_packet_is_sent_from_where_it_lies() -> None:
    asker, _ = pair()
    packet = bytes(100_000)
    buffers = asker.send(Put(1, 0, False, packet))
    assert buffers[-1] is packet
    assert len(buffers) == 2
