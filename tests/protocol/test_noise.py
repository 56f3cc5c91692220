"""Noise: every published vector of a pattern that needs no keys known beforehand, and what must be refused."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import noise
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.noise import KEY_SIZE, TAG_SIZE, XXPSK3, XXPSK3_NAME, Cipher, Handshake, public_of

# §7.5 and §18.1 of the framework; those with a K of either side, or one-way, need keys that are known beforehand.
PATTERNS = {
    "NN": "e / e ee",
    "NX": "e / e ee s es",
    "NX1": "e / e ee s / es",
    "XN": "e / e ee / s se",
    "X1N": "e / e ee / s / se",
    "XX": "e / e ee s es / s se",
    "XX1": "e / e ee s / es s se",
    "X1X": "e / e ee s es / s / se",
    "X1X1": "e / e ee s / es s / se",
    "IN": "e s / e ee se",
    "I1N": "e s / e ee / se",
    "IX": "e s / e ee se s es",
    "I1X": "e s / e ee s es / se",
    "IX1": "e s / e ee se s / es",
    "I1X1": "e s / e ee s / se es",
}
# Low order, and with them every other way to write them (RFC 7748, section 7; the list is libsodium's).
LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]
NOT_CANONICAL = [
    "f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # 9 + p: the base point, written otherwise
    "0900000000000000000000000000000000000000000000000000000000000080",  # the base point with the top bit set
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]


def tokens_of(protocol_name: str) -> list[list[str]] | None:
    """The messages of a vector's pattern; None if it needs keys known beforehand."""
    found = re.fullmatch(r"Noise_([A-Z1]+)((?:psk\d\+?)*)_25519_ChaChaPoly_BLAKE2b", protocol_name)
    assert found, protocol_name
    if found[1] not in PATTERNS:
        return None
    messages = [part.split() for part in PATTERNS[found[1]].split("/")]
    for place in map(int, re.findall(r"psk(\d)", found[2])):  # §9.3
        if place:
            messages[place - 1].append("psk")
        else:
            messages[0].insert(0, "psk")
    return messages


def pair(vector: dict, messages: list[list[str]]) -> tuple[Handshake, Handshake]:
    sides = []
    for side in ("init", "resp"):
        fields = {
            "prologue": bytes.fromhex(vector[f"{side}_prologue"]),
            "static": bytes.fromhex(vector.get(f"{side}_static", "11" * 32)),
            "ephemeral": bytes.fromhex(vector[f"{side}_ephemeral"]),
            "psks": [bytes.fromhex(psk) for psk in vector.get(f"{side}_psks", [])],
        }
        name = vector["protocol_name"].encode()
        sides.append(Handshake(dialing=side == "init", pattern=messages, name=name, **fields))
    return sides[0], sides[1]


def check_vector(vector: dict, messages: list[list[str]]) -> None:
    sides = pair(vector, messages)
    ciphers: list[tuple[Cipher, Cipher]] = []
    for number, message in enumerate(vector["messages"]):
        sender, receiver = number % 2, 1 - number % 2
        payload, wire = bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"])
        if number < len(messages):
            assert sides[sender].write(payload) == wire
            assert sides[receiver].read(wire) == payload
            continue
        ciphers = ciphers or [side.split() for side in sides]
        assert ciphers[sender][0].seal(payload) == wire
        assert ciphers[receiver][1].open(wire) == payload
    assert sides[0].finished
    assert sides[1].finished
    assert sides[0].hash == sides[1].hash
    if "handshake_hash" in vector:
        assert sides[0].hash.hex() == vector["handshake_hash"]


def test_all_published_vectors(shared_data: Path) -> None:
    vectors = json.loads((shared_data / "vectors/noise.json").read_text())
    done = {}
    for vector in vectors:
        messages = tokens_of(vector["protocol_name"])
        if messages is not None:
            check_vector(vector, messages)
            done[vector["protocol_name"]] = done.get(vector["protocol_name"], 0) + 1
    assert XXPSK3_NAME.decode() in done
    assert done["Noise_XX_25519_ChaChaPoly_BLAKE2b"] == 2
    assert sum(done.values()) >= 45


def test_the_pattern_of_links_is_that_of_the_vectors() -> None:
    assert [list(message) for message in XXPSK3] == tokens_of(XXPSK3_NAME.decode())


def both(**changes: bytes) -> tuple[Handshake, Handshake]:
    """Two sides of a link that fit, but for the listener's `changes`."""
    fields = {"prologue": b"p", "psks": [bytes(32)]}
    dialler = Handshake(dialing=True, static=b"\1" * 32, ephemeral=b"\2" * 32, **fields)
    return dialler, Handshake(dialing=False, **{"static": b"\3" * 32, "ephemeral": b"\4" * 32, **fields, **changes})


def test_both_sides_learn_each_other_and_can_speak() -> None:
    dialler, listener = both()
    assert listener.read(dialler.write()) == b""
    assert dialler.read(listener.write(b"mine")) == b"mine"
    assert listener.read(dialler.write(b"hers")) == b"hers"
    assert dialler.remote_static == public_of(b"\3" * 32)
    assert listener.remote_static == public_of(b"\1" * 32)
    (out, back), (answer, heard) = dialler.split(), listener.split()
    assert heard.open(out.seal(b"question")) == b"question"
    assert back.open(answer.seal(b"answer")) == b"answer"


def test_A2_another_secret_is_refused_at_the_third_message() -> None:
    dialler, listener = both(psks=[b"\5" * 32])
    listener.read(dialler.write())  # with psk3 nobody can tell before
    dialler.read(listener.write())
    with pytest.raises(RemoteProtocolError, match="does not open"):
        listener.read(dialler.write())


def test_A3_another_prologue_breaks_the_first_encrypted_message() -> None:
    dialler, listener = both(prologue=b"q")
    with pytest.raises(RemoteProtocolError, match="does not open"):
        listener.read(dialler.write())


def test_A6_messages_sent_back_to_who_wrote_them_open_nothing() -> None:
    dialler, listener = both()
    first = dialler.write()
    with pytest.raises(RemoteProtocolError):
        dialler.read(first + bytes(KEY_SIZE + 2 * TAG_SIZE))  # reflected in place of the second
    listener.read(first)
    with pytest.raises(LocalProtocolError, match="turn"):
        listener.read(first)


def why_bad(key: str) -> str:
    return "not a number" if key in NOT_CANONICAL else "low order|not a number"


@pytest.mark.parametrize("key", [*LOW_ORDER, *NOT_CANONICAL])
def test_A10_keys_of_low_order_or_written_otherwise_are_refused(key: str) -> None:
    """As an ephemeral key, by either side; the listener's `e` is used by the dialler before anything is opened."""
    dialler, listener = both()
    wrong, first = bytes.fromhex(key), dialler.write()
    with pytest.raises(RemoteProtocolError, match=why_bad(key)):
        dialler.read(wrong + bytes(2 * TAG_SIZE + KEY_SIZE))
    with pytest.raises(RemoteProtocolError):  # noqa: PT012  # which of the two lines finds it depends on the kind
        listener.read(wrong + first[KEY_SIZE:])
        listener.write()


@pytest.mark.parametrize("key", [*LOW_ORDER, *NOT_CANONICAL])
def test_A10_a_bad_static_key_is_refused_though_its_message_opens(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dialler, listener = both()
    dialler._static = bytes(range(32))
    real = noise.public_of
    monkeypatch.setattr(
        noise, "public_of", lambda secret: bytes.fromhex(key) if secret == bytes(range(32)) else real(secret)
    )
    listener.read(dialler.write())
    dialler.read(listener.write())
    with pytest.raises(RemoteProtocolError, match=why_bad(key)):
        listener.read(dialler.write())


@given(st.integers(0, 2), st.data())
def test_A7_a_changed_bit_anywhere_in_a_handshake_breaks_it(place: int, data: st.DataObject) -> None:
    dialler, listener = both()
    sides = [(dialler, listener), (listener, dialler), (dialler, listener)]
    with pytest.raises(RemoteProtocolError):  # noqa: PT012  # the message after the changed one may be the first to show it
        for number, (writer, reader) in enumerate(sides):
            message = bytearray(writer.write(b"payload"))
            if number == place:
                bit = data.draw(st.integers(0, 8 * len(message) - 1))
                message[bit // 8] ^= 1 << bit % 8
            reader.read(bytes(message))


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else(garbage: bytes) -> None:
    dialler, listener = both()
    with pytest.raises(RemoteProtocolError):
        listener.read(garbage)
    dialler.write()
    with pytest.raises(RemoteProtocolError):
        dialler.read(garbage)


def test_A8_ciphers_refuse_repeats_gaps_and_other_orders() -> None:
    sealer = Cipher(b"\1" * 32)
    sealed = [sealer.seal(text) for text in (b"a", b"b", b"c")]
    for order in ([0, 0], [1], [0, 2], [0, 1, 0]):
        opener = Cipher(b"\1" * 32)
        for number in order[:-1]:
            opener.open(sealed[number])
        with pytest.raises(RemoteProtocolError, match="out of order"):
            opener.open(sealed[order[-1]])


def test_rekeying_keeps_both_sides_together_and_replaces_the_key() -> None:
    here, there, stale = Cipher(b"\1" * 32), Cipher(b"\1" * 32), Cipher(b"\1" * 32)
    here.rekey()
    there.rekey()
    sealed = here.seal(b"after")
    with pytest.raises(RemoteProtocolError):
        stale.open(sealed)
    assert there.open(sealed) == b"after"


def test_a_rekeyed_cipher_has_the_key_that_noise_says() -> None:
    """§4.2: the first 32 bytes of ENCRYPT(k, 2^64-1, empty, 32 zeros); said here with the other library."""
    from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt as encrypt

    key = os.urandom(32)
    cipher = Cipher(key)
    cipher.rekey()
    new = encrypt(bytes(32), b"", bytes(4) + b"\xff" * 8, key)[:32]
    assert cipher.seal(b"text", b"data") == encrypt(b"text", b"data", bytes(12), new)


def test_sealing_in_place_gives_the_same_bytes() -> None:
    plain, out, back = os.urandom(1000), bytearray(1000 + TAG_SIZE), bytearray(1000)
    Cipher(b"\7" * 32).seal_into(memoryview(plain), memoryview(out))
    assert out == Cipher(b"\7" * 32).seal(plain)
    Cipher(b"\7" * 32).open_into(memoryview(out), memoryview(back))
    assert back == plain
    out[-1] ^= 1
    with pytest.raises(RemoteProtocolError):
        Cipher(b"\7" * 32).open_into(out, back)


def test_A36_nothing_secret_is_in_a_repr() -> None:
    secret = b"\1" * 32
    texts = repr(both()[0]) + repr(Cipher(secret)) + repr(both()[1])
    assert secret.hex() not in texts
    assert repr(secret) not in texts


def test_splitting_too_early_is_our_mistake() -> None:
    with pytest.raises(LocalProtocolError, match="not finished"):
        both()[0].split()
