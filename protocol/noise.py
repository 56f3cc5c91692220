"""Noise handshakes over 25519, ChaChaPoly and BLAKE2b: who is there, and keys that only the two of them have.

The Noise Protocol Framework, revision 34; section numbers below are its own. A pattern is a tuple of messages, a
message a tuple of tokens (§7); links use XXpsk3 (§9.4), in which both sides show their long-term key encrypted, and
the third message opens only for who knows the pre-shared key too:

    dialler -> listener    e
    dialler <- listener    e, ee, s, es
    dialler -> listener    s, se, psk

This is a state machine without any I/O: `write` and `read` take turns, and `split` gives the two ciphers. Randomness is
given to it, so each Handshake must get an ephemeral key that nobody used before. Patterns with keys known beforehand
(the K of KK) are not among what it can do. X25519 comes from libsodium, which refuses points of low order; ChaCha20
Poly1305 from OpenSSL, which is 2.6 times as fast at 64 KiB.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base

from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.packed import Buffer

KEY_SIZE: Final = 32
HASH_SIZE: Final = 64
TAG_SIZE: Final = 16
MESSAGE_MAX: Final = 65_535  # §3
NO_PSK: Final = bytes(KEY_SIZE)  # a cluster without a secret mixes zeros in, so that there is one way only

Pattern = Sequence[Sequence[str]]
XXPSK3: Final[Pattern] = (("e",), ("e", "ee", "s", "es"), ("s", "se", "psk"))
XXPSK3_NAME: Final = b"Noise_XXpsk3_25519_ChaChaPoly_BLAKE2b"

_NONCE: Final = struct.Struct("<4xQ")  # §12.3: 32 zero bits, then the counter, little-endian
_REKEY_NONCE: Final = _NONCE.pack((1 << 64) - 1)  # §4.2
_PRIME: Final = (1 << 255) - 19


def public_of(secret: bytes) -> bytes:
    """The X25519 public key of a secret one."""
    return bytes(crypto_scalarmult_base(secret))


def dh(secret: bytes, public: bytes) -> bytes:
    """What both sides can compute; RemoteProtocolError for a point of low order, where everybody could."""
    try:
        return bytes(crypto_scalarmult(secret, public))
    except RuntimeError as error:
        raise RemoteProtocolError("the peer's key is a point of low order") from error


class Cipher:
    """A key and the number of its next message (§5.1). Sealing the same number twice can't happen: nobody sets it."""

    __slots__ = ("_aead", "count")

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self.count = 0  # messages so far; 2**64 of them take longer than there is

    def seal(self, plain: Buffer, data: bytes = b"") -> bytes:
        """Encrypt one message and its tag; `data` is vouched for, not sent."""
        sealed = self._aead.encrypt(_NONCE.pack(self.count), plain, data)
        self.count += 1
        return sealed

    def open(self, sealed: Buffer, data: bytes = b"") -> bytes:
        """The message in `sealed`; RemoteProtocolError if one bit of it, or its place in the order, is not right."""
        try:
            plain = self._aead.decrypt(_NONCE.pack(self.count), sealed, data)
        except InvalidTag:
            raise RemoteProtocolError(_NOT_OPEN) from None
        self.count += 1
        return plain

    def seal_into(self, plain: Buffer, out: Buffer) -> None:
        """The same without a copy: `out` has TAG_SIZE bytes more than `plain`."""
        self._aead.encrypt_into(_NONCE.pack(self.count), plain, None, out)
        self.count += 1

    def open_into(self, sealed: Buffer, out: Buffer) -> None:
        """The same without a copy: `out` has TAG_SIZE bytes less than `sealed`."""
        try:
            self._aead.decrypt_into(_NONCE.pack(self.count), sealed, None, out)
        except InvalidTag:
            raise RemoteProtocolError(_NOT_OPEN) from None
        self.count += 1

    def rekey(self) -> None:
        """Replace the key by one made from it (§11.3): who learns it later can't read what was sent before."""
        self._aead = ChaCha20Poly1305(self._aead.encrypt(_REKEY_NONCE, bytes(KEY_SIZE), None)[:KEY_SIZE])


_NOT_OPEN: Final = "what came does not open: changed on the way, out of order, or sealed with another key"


class Handshake:
    """One side of one handshake (§5.3). `static` and `ephemeral` are secret X25519 keys."""

    def __init__(
        self,
        *,
        dialing: bool,
        prologue: bytes,
        static: bytes,
        ephemeral: bytes,
        psks: Sequence[bytes] = (NO_PSK,),
        pattern: Pattern = XXPSK3,
        name: bytes = XXPSK3_NAME,
    ) -> None:
        self.remote_static = b""
        self._dialing = dialing
        self._static, self._ephemeral = static, ephemeral
        self._remote_ephemeral = b""
        self._psks = list(psks)
        self._messages = [list(tokens) for tokens in pattern]
        self._has_psk = any("psk" in tokens for tokens in pattern)
        self._ours = dialing  # is it our turn to write?
        self._hash = name.ljust(HASH_SIZE, b"\0") if len(name) <= HASH_SIZE else blake2b(name).digest()
        self._chain = self._hash
        self._cipher: Cipher | None = None
        self._mix_hash(prologue)

    def __repr__(self) -> str:
        return f"Handshake({len(self._messages)} messages to go)"  # never its keys

    @property
    def finished(self) -> bool:
        """Has every message been written or read?"""
        return not self._messages

    @property
    def hash(self) -> bytes:
        """What names this very session, the same on both sides (§11.2)."""
        return self._hash

    def write(self, payload: bytes = b"") -> bytes:
        """The next message, with `payload` inside, encrypted as soon as there is a key."""
        message = b""
        for token in self._turn(True):
            if token == "e":
                message += self._write_ephemeral()
            elif token == "s":
                message += self._seal(public_of(self._static))
            else:
                self._mix(token)
        return message + self._seal(payload)

    def read(self, message: bytes) -> bytes:
        """The payload of the peer's next message. RemoteProtocolError if anything is wrong with it."""
        at = 0
        for token in self._turn(False):
            if token == "e":
                self._read_ephemeral(message[:KEY_SIZE])
                at = KEY_SIZE
            elif token == "s":
                end = at + KEY_SIZE + (TAG_SIZE if self._cipher else 0)
                self.remote_static = _canonical(self._open(message[at:end]))
                at = end
            else:
                self._mix(token)
        return self._open(message[at:])

    def split(self) -> tuple[Cipher, Cipher]:
        """Once finished: the cipher to send with, and the one to receive with."""
        if not self.finished:
            raise LocalProtocolError("the handshake is not finished")
        first, second = (Cipher(key[:KEY_SIZE]) for key in _derive(self._chain, b"", 2))
        return (first, second) if self._dialing else (second, first)

    def _turn(self, ours: bool) -> list[str]:
        if self.finished or self._ours is not ours:
            raise LocalProtocolError("it is not this side's turn in the handshake")
        self._ours = not ours
        return self._messages.pop(0)

    def _write_ephemeral(self) -> bytes:
        public = public_of(self._ephemeral)
        self._mix_ephemeral(public)
        return public

    def _read_ephemeral(self, public: bytes) -> None:
        self._remote_ephemeral = _canonical(public)
        self._mix_ephemeral(public)

    def _mix_ephemeral(self, public: bytes) -> None:
        self._mix_hash(public)
        if self._has_psk:
            self._mix_key(public)  # §9.2: so that the keys differ each time, whatever is known of the psk

    def _mix(self, token: str) -> None:
        if token == "psk":
            self._mix_key_and_hash(self._psks.pop(0))
            return
        # The first letter is the dialler's key, the second the listener's.
        mine, theirs = (token[0], token[1]) if self._dialing else (token[1], token[0])
        secret = self._ephemeral if mine == "e" else self._static
        self._mix_key(dh(secret, self._remote_ephemeral if theirs == "e" else self.remote_static))

    def _mix_key(self, material: bytes) -> None:
        self._chain, key = _derive(self._chain, material, 2)
        self._cipher = Cipher(key[:KEY_SIZE])

    def _mix_key_and_hash(self, material: bytes) -> None:
        self._chain, more, key = _derive(self._chain, material, 3)
        self._mix_hash(more)
        self._cipher = Cipher(key[:KEY_SIZE])

    def _mix_hash(self, data: bytes) -> None:
        self._hash = blake2b(self._hash + data).digest()

    def _seal(self, plain: bytes) -> bytes:
        sealed = self._cipher.seal(plain, self._hash) if self._cipher else plain
        self._mix_hash(sealed)
        return sealed

    def _open(self, sealed: bytes) -> bytes:
        plain = self._cipher.open(sealed, self._hash) if self._cipher else sealed
        self._mix_hash(sealed)
        return plain


def _derive(chain: bytes, material: bytes, count: int) -> list[bytes]:
    """HKDF (§4.3): `count` outputs of HASH_SIZE bytes."""
    secret = hmac.digest(chain, material, blake2b)
    outputs = [hmac.digest(secret, b"\1", blake2b)]
    while len(outputs) < count:
        outputs.append(hmac.digest(secret, outputs[-1] + bytes([len(outputs) + 1]), blake2b))
    return outputs


def _canonical(public: bytes) -> bytes:
    """A public key as it may come from outside: the one way to write this point, and not zero."""
    if len(public) != KEY_SIZE:
        raise RemoteProtocolError(f"a handshake that ends within a key, after {len(public)} bytes")
    if not 0 < int.from_bytes(public, "little") < _PRIME:
        raise RemoteProtocolError("the peer's key is not a number that a key can be")
    return public
