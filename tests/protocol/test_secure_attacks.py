"""Attacks on encrypted links, by their numbers: each ends the link, and gives nothing wrong."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import limits
from protocol.connection import PREFACE, PREFACE_NOISE, Connection, State
from protocol.errors import LinkLost, Refused, RemoteProtocolError
from protocol.messages import Clock, ClockIs, Message
from protocol.noise import TAG_SIZE
from protocol.secure import LENGTH
from tests.protocol.secure_pairs import BUCK, LINES, OTHER, TAILER, Between, ends, linked, sealed, security
from tests.protocol.wire_samples import hello

BAD = (RemoteProtocolError, Refused)


def recorded() -> list[tuple[bool, bytes]]:
    """A whole session: handshake, two questions, two answers, both ends."""
    between = linked()
    for number in (1, 2):
        between.give(True, sealed(between.dialler, Clock(number)))
        between.give(False, sealed(between.listener, ClockIs(number, 5)))
    between.give(True, between.dialler.close())
    between.give(False, between.listener.close())
    return between.script


def refused(between: Between) -> tuple[Refused | None, Refused | None]:
    """Why the listener, and why the dialler, ends it."""
    told = None
    try:
        between.shake()
    except Refused as caught:
        told = caught
    return between.listener.refusal, told


@pytest.mark.parametrize(
    ("lines", "role", "why"),
    [
        ((LINES["buck"],), "tailer", "in no line"),
        ((LINES["buck"], LINES["tailer"].replace("=tailer", "=porter")), "tailer", "may not be a tailer"),
        ((LINES["buck"], LINES["tailer"].replace("web-", "db-")), "tailer", "on host web-17"),
        ((LINES["buck"], LINES["tailer"]), "admin", "may not be a admin"),
        ((LINES["buck"], LINES["tailer"]), "buck", "may not be a buck"),
    ],
)
def test_A1_who_is_not_let_in_is_told_so_and_not_why(lines: tuple[str, ...], role: str, why: str) -> None:
    between = Between(*ends(listener=security(BUCK, *lines), role=role))
    ours, told = refused(between)
    assert ours
    assert why in ours.text
    assert told
    assert (told.reason, told.text) == ("security", "the peer refuses: this key is not let in there")
    assert between.listener.peer is None


def test_A1_a_dialler_shows_itself_to_nobody_that_is_no_buck() -> None:
    between = Between(*ends(dialler=security(TAILER, LINES["tailer"])))
    with pytest.raises(Refused, match="in no line"):
        between.shake()
    assert [mine for mine, _ in between.script] == [True, False]  # its key travels in the third message


def test_A1_a_listener_that_may_not_be_a_buck_is_left() -> None:
    between = Between(*ends(dialler=security(TAILER, LINES["tailer"], LINES["buck"].replace("=buck", "=porter"))))
    with pytest.raises(Refused, match="may not be a buck"):
        between.shake()


@pytest.mark.parametrize(("ours", "theirs"), [(b"", b"s" * 32), (b"s" * 32, b""), (b"s" * 31 + b"t", b"s" * 32)])
def test_A2_A35_another_secret_is_refused_at_the_third_message_whatever_differs(ours: bytes, theirs: bytes) -> None:
    between = Between(*ends(security(TAILER, secret=ours), security(BUCK, secret=theirs)))
    with pytest.raises(Refused, match="another secret") as caught:
        between.shake()
    assert caught.value.reason == "security"
    assert len(between.script) == 3
    assert between.listener.us is State.HANDSHAKE  # nothing was said but the handshake
    with pytest.raises(RemoteProtocolError, match="another secret"):
        between.dialler.end()


@pytest.mark.parametrize("bit", range(8 * len(PREFACE_NOISE)))
@pytest.mark.parametrize("from_dialler", [True, False])
def test_A3_A4_no_bit_of_a_preface_can_be_changed(bit: int, from_dialler: bool) -> None:
    dialler, listener = ends()
    first = bytearray(dialler.start() if from_dialler else listener.start())
    first[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BAD):
        (listener if from_dialler else dialler).receive(bytes(first))


def test_A3_a_listener_with_another_preface_in_mind_gets_no_further() -> None:
    """As if both prefaces had been changed on the way, each for the other side: the prologue tells."""
    dialler, listener = ends()
    listener._channel = security(BUCK).channel(False, PREFACE + PREFACE_NOISE)
    with pytest.raises(BAD):
        Between(dialler, listener).shake()


def test_A4_neither_side_ever_goes_on_in_clear() -> None:
    plain_dialler = Connection(hello("tailer", TAILER), dialing=True)
    plain_listener = Connection(hello("buck", BUCK), dialing=False)
    dialler, listener = ends()
    with pytest.raises(Refused, match="in clear text"):
        listener.receive(plain_dialler.start())
    with pytest.raises(Refused, match="in clear text"):
        dialler.receive(plain_listener.start())
    with pytest.raises(Refused, match="wants an encrypted link"):
        plain_listener.receive(dialler.start())
    with pytest.raises(Refused, match="wants an encrypted link"):
        plain_dialler.receive(listener.start())
    assert dialler.us is State.HANDSHAKE


def test_A5_a_replayed_session_opens_nothing() -> None:
    script = recorded()
    for start in (100, 200):
        _, listener = ends(listener=security(BUCK, start=start))
        listener.start()
        with pytest.raises(Refused):  # noqa: PT012  # the third message is the one that fails
            for mine, data in script:
                if mine:
                    listener.receive(data)
        assert listener.peer is None
        assert not list(listener.messages())
    dialler, _ = ends(security(TAILER, start=300))
    dialler.start()
    with pytest.raises(Refused):
        dialler.receive(next(data for mine, data in script if not mine))


def test_A6_a_node_does_not_speak_with_itself_nor_with_its_own_bytes() -> None:
    between = Between(*ends(security(BUCK), security(BUCK, start=50), role="buck"))
    with pytest.raises(Refused, match="this node itself"):
        between.shake()
    assert len(between.script) == 2  # before the dialler has shown anything
    dialler, listener = ends()
    first = dialler.start()
    with pytest.raises(BAD):
        dialler.receive(first)
    listener.start()
    listener.receive(first)
    with pytest.raises(BAD):
        listener.receive(listener.reply())


def test_A6_nobody_can_answer_with_our_own_key() -> None:
    between = Between(*ends(security(TAILER), security(TAILER, start=70)))
    with pytest.raises(Refused, match="this node itself"):
        between.shake()


def replay(script: list[tuple[bool, bytes]]) -> tuple[list[Message], list[Message]]:
    """Both ends get what they got in `recorded`, with the same ephemeral keys, but for what was changed in it."""
    dialler, listener = ends()
    got: tuple[list[Message], list[Message]] = ([], [])
    dialler.start()
    listener.start()
    for mine, data in script:
        side = listener if mine else dialler
        side.receive(data)
        side.reply()
        if side is listener and side.us is State.HELLO and side.peer:
            side.greet()
        got[0 if mine else 1].extend(side.messages())
    dialler.end()
    listener.end()
    return got


def test_A7_every_changed_byte_of_a_session_ends_it_and_gives_nothing_wrong() -> None:
    script = recorded()
    good = replay(script)
    assert good == ([Clock(1), Clock(2)], [ClockIs(1, 5), ClockIs(2, 5)])
    changed = 0
    for number, (mine, data) in enumerate(script):
        for at in range(len(data)):
            bad = bytearray(data)
            bad[at] ^= 1 << (at % 8)
            with pytest.raises(BAD):
                replay([*script[:number], (mine, bytes(bad)), *script[number + 1 :]])
            changed += 1
    assert changed > 600


@pytest.mark.parametrize("what", ["drop", "twice", "swap"])
def test_A8_dropped_repeated_and_reordered_records_end_the_link(what: str) -> None:
    between = linked()
    wires = [sealed(between.dialler, Clock(number)) for number in range(3)]
    order = {"drop": [0, 2], "twice": [0, 0], "swap": [1, 0]}[what]
    with pytest.raises(RemoteProtocolError, match="does not open"):  # noqa: PT012  # some of it is good
        for place in order:
            between.listener.receive(wires[place])
    assert list(between.listener.messages()) == ([Clock(0)] if what != "swap" else [])


def test_A9_an_end_that_nobody_said_is_called_a_cut() -> None:
    """After each byte: within a record, between two, and between two frames."""
    wire = sealed(linked().dialler, Clock(1), Clock(2))
    for at in range(len(wire)):
        between = linked()
        between.listener.receive(wire[:at])
        list(between.listener.messages())
        with pytest.raises(RemoteProtocolError, match=r"cut off|middle of a frame"):
            between.listener.end()


def test_A9_a_said_end_is_one_and_nothing_follows_it() -> None:
    between = linked()
    end = between.dialler.close()
    assert between.dialler.close() == b""
    between.listener.receive(end)
    between.listener.end()
    with pytest.raises(LinkLost):
        sealed(between.dialler, Clock(1))


def test_A9_what_follows_an_end_is_against_the_rules() -> None:
    between = linked()
    assert between.dialler._channel
    end = between.dialler.close()
    between.dialler._channel.ended = False
    with pytest.raises(RemoteProtocolError, match="after its end"):
        between.listener.receive(end + sealed(between.dialler, Clock(1)))


@pytest.mark.parametrize(
    "first",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", bytes(100_000)],
)
def test_A11_other_protocols_are_left_at_their_first_bytes(first: bytes) -> None:
    _, listener = ends()
    with pytest.raises(RemoteProtocolError, match="does not speak this protocol"):
        listener.receive(first)


@pytest.mark.parametrize("size", [0, 15, limits.FIRST_MESSAGE_MAX + 1, 0xFFFF])
def test_A12_a_first_message_of_another_length_is_refused_by_its_length_alone(size: int) -> None:
    _, listener = ends()
    with pytest.raises(RemoteProtocolError, match="bytes"):
        listener.receive(PREFACE_NOISE + LENGTH.pack(size))


def test_A12_later_handshake_messages_and_records_are_bounded_too() -> None:
    dialler, _ = ends()
    dialler.start()
    with pytest.raises(RemoteProtocolError, match=f"at most {limits.HANDSHAKE_MESSAGE_MAX}"):
        dialler.receive(PREFACE_NOISE + LENGTH.pack(limits.HANDSHAKE_MESSAGE_MAX + 1))
    with pytest.raises(RemoteProtocolError, match="tag alone"):
        linked().listener.receive(LENGTH.pack(TAG_SIZE - 1))


@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_garbage_is_an_error_of_the_peer_and_nothing_else(garbage: bytes, dialing: bool, greeted: bool) -> None:
    dialler, listener = ends()
    dialler.start()
    listener.start()
    side = dialler if dialing else listener
    if greeted:
        side = linked().listener
    try:
        side.receive(garbage if greeted else PREFACE_NOISE + garbage)
        side.reply()
        side.end()
    except BAD:
        assert greeted or side.peer is None
    else:
        pytest.fail("it was taken for a link")


def test_A32_a_peer_cannot_say_that_it_is_another() -> None:
    between = Between(*ends())
    between.dialler.hello = hello("tailer", OTHER)
    ours, told = refused(between)
    assert ours
    assert "and is not" in ours.text
    assert told


def test_A32_a_key_shown_must_be_the_key_used() -> None:
    stranger = security(TAILER)
    stranger.key = _Liar(OTHER.seed)
    between = Between(*ends(stranger))
    ours, told = refused(between)
    assert ours
    assert "and uses another" in ours.text
    assert told


class _Liar(type(TAILER)):  # type: ignore[misc]  # NodeKey
    """Shows the tailer's key, and owns another."""

    public = TAILER.public


def test_A37_every_link_has_keys_of_its_own() -> None:
    """A forked or restored process has the same key and secret, and asks the system for each ephemeral key."""
    asked: list[int] = []

    def entropy(size: int) -> bytes:
        asked.append(size)
        return os.urandom(size)

    mine, theirs = security(TAILER), security(BUCK)
    mine.entropy = theirs.entropy = entropy
    wires = set()
    for _ in range(3):
        between = linked(mine, theirs)
        wires.add(sealed(between.dialler, Clock(1)))
        wires.add(b"".join(data for _, data in between.script))
    assert len(wires) == 6
    assert asked == [32] * 6


def test_A38_the_handshake_asks_no_clock() -> None:
    between = linked(security(TAILER, now_s=0), security(BUCK, now_s=4_000_000_000))
    assert between.listener.peer


def test_A36_nothing_secret_is_in_a_repr_or_an_error() -> None:
    mine = security(TAILER)
    between = linked(mine)
    texts = [repr(mine), repr(between.dialler), repr(between.dialler._channel), repr(mine.key)]
    with pytest.raises(Refused) as caught:
        Between(*ends(security(TAILER, secret=b"x" * 32))).shake()
    texts.append(str(caught.value) + repr(caught.value))
    for secret in (mine.psk, mine.key.seed, mine.key.exchange):
        for text in texts:
            assert secret.hex() not in text
            assert repr(secret) not in text
