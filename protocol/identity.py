"""Who is who: one Ed25519 key pair a node, and the ids of streams.

A node's id is the first 16 bytes of BLAKE3 of its public key, whatever its role, so nobody hands out ids and none
can be claimed without the key. A stream's id is 16 bytes too: its kind in the first, then 15 bytes of a hash of what
makes the stream itself. An event is named by (tailer, stream, offset), so a stream's id must be the same after every
restart, rotation and re-read, and differ for what is really another file.

    stream id:  kind u8 | BLAKE3(what | its parts, each with its length)[:15]

Each hash begins with a word that says what is hashed, so that no input of one kind can give the id of another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from blake3 import blake3
from nacl.bindings import crypto_sign_ed25519_pk_to_curve25519, crypto_sign_ed25519_sk_to_curve25519
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from protocol.errors import FormatError, SealError
from protocol.limits import HEAD_MAX

SEED_SIZE: Final = 32
PUBLIC_SIZE: Final = 32
NODE_SIZE: Final = 16
STREAM_SIZE: Final = 16
HEAD_HASH_SIZE: Final = 8
SIGNATURE_SIZE: Final = 64
DIGEST_SIZE: Final = 32

# Bits of a stream id's first byte. The others are 0 and stay so until a version says more.
STREAM_BYTES: Final = 0x01  # offsets count bytes of a source; without it they count messages
STREAM_SHARED: Final = 0x02  # several writers may carry it (PUT, batches), so its tailer is 0


@dataclass(frozen=True)
class NodeKey:
    """A node's secret. Everything about it follows from 32 bytes."""

    seed: bytes

    @classmethod
    def from_seed(cls, seed: bytes) -> NodeKey:
        """The key that `seed` (32 random bytes) makes."""
        if len(seed) != SEED_SIZE:
            raise FormatError(f"a key's seed has {SEED_SIZE} bytes, not {len(seed)}")
        return cls(bytes(seed))

    def __repr__(self) -> str:
        return f"NodeKey({self.node.hex()})"  # the seed must never reach a log

    @cached_property
    def _signing(self) -> SigningKey:
        return SigningKey(self.seed)

    @cached_property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return bytes(self._signing.verify_key)

    @cached_property
    def node(self) -> bytes:
        """The node id, 16 bytes."""
        return node_id(self.public)

    @cached_property
    def exchange(self) -> bytes:
        """The secret X25519 key of the same identity, for the wire (RFC 7748; what libsodium derives)."""
        return bytes(crypto_sign_ed25519_sk_to_curve25519(self.seed + self.public))

    def sign(self, data: bytes) -> bytes:
        """An Ed25519 signature of `data`, 64 bytes; the same each time."""
        return self._signing.sign(data).signature


def node_id(public: bytes) -> bytes:
    """The id of the node with this public key."""
    if len(public) != PUBLIC_SIZE:
        raise FormatError(f"a public key has {PUBLIC_SIZE} bytes, not {len(public)}")
    return blake3(public).digest()[:NODE_SIZE]


def exchange_of(public: bytes) -> bytes:
    """The X25519 public key that belongs to an Ed25519 one; FormatError for what is no key, or one of low order."""
    try:
        return bytes(crypto_sign_ed25519_pk_to_curve25519(public))
    except (RuntimeError, ValueError, TypeError) as error:
        raise FormatError("not an Ed25519 public key") from error


def verify(public: bytes, data: bytes, signature: bytes) -> None:
    """Do nothing if `signature` is that of `data` by `public`; SealError otherwise."""
    try:
        VerifyKey(public).verify(data, signature)
    except (BadSignatureError, ValueError, TypeError) as error:
        raise SealError("the signature does not fit") from error


def file_stream(inode: int, birth_ns: int, head: bytes, generation: int) -> bytes:
    """The id of one generation of one file. `head` is its first line, or 1 KiB of it; longer heads are cut."""
    return _stream(STREAM_BYTES, b"file", _u64(inode), _u64(birth_ns), head[:HEAD_MAX], _u64(generation))


def connection_stream(epoch: int, counter: int, kind: int = STREAM_BYTES) -> bytes:
    """The id of one connection's bytes (or, with kind 0, messages): the tailer's epoch and its own count."""
    return _stream(kind, b"connection", _u64(epoch), _u64(counter))


def head_hash(head: bytes) -> bytes:
    """8 bytes that tell whether two files begin alike: of the first KiB, or of what there is."""
    return blake3(head[:HEAD_MAX]).digest()[:HEAD_HASH_SIZE]


def epoch(boot_counter: int, entropy: bytes) -> int:
    """The u64 that names one start of a tailer: a restored host repeats its counter, but not 4 random bytes."""
    if len(entropy) != 4 or not 0 <= boot_counter < 1 << 32:
        raise FormatError("an epoch is a boot counter below 2**32 and 4 random bytes")
    return boot_counter << 32 | int.from_bytes(entropy, "big")


def _stream(kind: int, what: bytes, *parts: bytes) -> bytes:
    hasher = blake3(b"buck stream " + what)
    for part in parts:
        hasher.update(len(part).to_bytes(4, "big"))
        hasher.update(part)
    return bytes([kind]) + hasher.digest()[: STREAM_SIZE - 1]


def _u64(value: int) -> bytes:
    return (value & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "big")  # file systems give inodes as unsigned, some as signed
