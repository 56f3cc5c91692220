"""An encrypted link without its socket: the handshake's messages, and then records, each sealed for itself.

    handshake message   length u16 | Noise message                 (three of them; the first has 48 bytes)
    record              length u16 | sealed bytes and their tag    (at most 65,535; an empty one says: that was all)

The payload of the second and third handshake message is what the noise of it can't say: the Ed25519 key that the X25519
one is derived from (it is checked that it is), and behind it a certificate, if there is one. So each side knows who the
other is, and what it may be, before a word of the conversation; the dialler before it has shown itself.

Records are a stream: frames are cut where it suits, not marked. After REKEY_RECORDS of them a direction's key is
replaced by one made from it. A link that ends without an empty record was cut off by somebody, and is told so.
What is sealed is sent, in that order, or the link is over: the counter of a record can't be given back.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from protocol.errors import FormatError, LinkLost, Refused, RemoteProtocolError
from protocol.identity import PUBLIC_SIZE, NodeKey, exchange_of
from protocol.limits import FIRST_MESSAGE_MAX, HANDSHAKE_MESSAGE_MAX, REKEY_RECORDS
from protocol.noise import KEY_SIZE, MESSAGE_MAX, NO_PSK, TAG_SIZE, Cipher, Handshake
from protocol.packed import Buffer
from protocol.trust import Grant, Trust, read_certificate, read_certificate_text

LENGTH: Final = struct.Struct(">H")
PLAIN_MAX: Final = MESSAGE_MAX - TAG_SIZE
SMALL: Final = 4_096  # pieces that are together no longer are sealed together: a record costs what copying this does


@dataclass
class Security:
    """What a node brings to each encrypted link. The last three are replaced when the operator's files change."""

    key: NodeKey
    env: str
    entropy: Callable[[int], bytes] = field(repr=False)
    time_ns: Callable[[], int] = field(repr=False)
    trust: Trust = field(default_factory=Trust)
    certificate: bytes = field(default=b"", repr=False)
    psk: bytes = field(default=NO_PSK, repr=False)

    def take(self, authorized: str, secret: bytes, certificate: str) -> None:
        """Use what these files hold from now on. ValueError says what is wrong with them; then nothing has changed."""
        try:
            trust = Trust.parse(authorized)
        except FormatError as error:
            raise ValueError(f"authorized_keys, {error}") from None
        try:
            shown = read_certificate_text(certificate) if certificate else b""
        except FormatError as error:
            raise ValueError(f"the certificate: {error}") from None
        if shown and read_certificate(shown).public != self.key.public:
            raise ValueError(
                f"the certificate is for the key {read_certificate(shown).public.hex()}, not for this node"
            )
        self.trust, self.certificate, self.psk = trust, shown, psk_of(secret)

    def grant(self, public: bytes, certificate: bytes) -> Grant:
        """What the owner of a key may be now; Refused if nothing."""
        return self.trust.grant(public, certificate, self.env, self.time_ns() / 1e9)

    def channel(self, dialing: bool, prologue: bytes) -> Channel:
        """One link's encryption, with an ephemeral key of its own."""
        return Channel(self, dialing, prologue)


def psk_of(secret: bytes) -> bytes:
    """The pre-shared key that a cluster's secret makes; without a secret it is zeros."""
    return blake2b(secret, digest_size=KEY_SIZE).digest() if secret else NO_PSK


class Channel:
    """One side of one encrypted link: `start`, then `receive` and `reply` until `established`; then `seal` too."""

    def __init__(self, security: Security, dialing: bool, prologue: bytes) -> None:
        self.established = False
        self.closed = False  # the peer has said that nothing more comes
        self.ended = False  # we have
        self.grant: Grant | None = None  # what the peer may be
        self._security = security
        self._dialing = dialing
        self._handshake = Handshake(
            dialing=dialing,
            prologue=prologue,
            static=security.key.exchange,
            ephemeral=security.entropy(KEY_SIZE),
            psks=(security.psk,),
        )
        self._certificate = b""
        self._first = not dialing  # is the next message the first of a stranger?
        self._rest = bytearray()  # a message or record of which only the beginning is here
        self._reply: list[bytes] = []
        self._send: Cipher
        self._receive: Cipher

    def start(self) -> bytes:
        """What the dialler sends first."""
        return _message(self._handshake.write())

    def reply(self) -> bytes:
        """What the handshake wants sent by now."""
        reply, self._reply = b"".join(self._reply), []
        return reply

    def grant_again(self) -> Grant:
        """What the peer may be by now; Refused if nothing any more."""
        assert self.grant is not None
        self.grant = self._security.grant(self.grant.public, self._certificate)
        return self.grant

    def receive(self, data: Buffer) -> memoryview:
        """Take what arrived; gives what it says, as far as the handshake is done and records are whole.

        RemoteProtocolError, and nothing of `data`, if anything in it is not as it was sent. Refused if the peer is not
        let in: a listener is `established` then, and can say so, unless the secrets differ.
        """
        records = []
        for record in self._cut(data):
            if self.established:
                records.append(record)
            else:
                self._shake(bytes(record))
        return self._open(records)

    def seal(self, buffers: Iterable[Buffer]) -> bytearray:
        """The records that carry these buffers; to be sent at once and whole. LinkLost after `close`."""
        pieces = [memoryview(buffer) for buffer in buffers]
        if len(pieces) > 1 and sum(map(len, pieces)) <= SMALL:
            pieces = [memoryview(b"".join(pieces))]
        return self._seal([piece[at : at + PLAIN_MAX] for piece in pieces for at in range(0, len(piece), PLAIN_MAX)])

    def close(self) -> bytearray:
        """The record that says that nothing more comes."""
        record = self._seal([memoryview(b"")])
        self.ended = True
        return record

    def _seal(self, pieces: list[memoryview]) -> bytearray:
        if self.ended:
            raise LinkLost("the link is closed on this side")
        out = bytearray(sum(map(len, pieces)) + len(pieces) * (LENGTH.size + TAG_SIZE))
        view, at = memoryview(out), 0
        for piece in pieces:
            size = len(piece) + TAG_SIZE
            LENGTH.pack_into(out, at, size)
            at += LENGTH.size
            self._send.seal_into(piece, view[at : at + size])
            at += size
            _rekey_if_due(self._send)
        return out

    def _open(self, records: list[memoryview]) -> memoryview:
        view, at = memoryview(bytearray(sum(map(len, records)) - len(records) * TAG_SIZE)), 0
        for record in records:
            if self.closed:
                raise RemoteProtocolError("the peer says more after its end")
            end = at + len(record) - TAG_SIZE
            self._receive.open_into(record, view[at:end])
            _rekey_if_due(self._receive)
            self.closed = end == at
            at = end
        return view.toreadonly()

    def _cut(self, data: Buffer) -> Iterator[memoryview]:
        """The messages and records that are whole by now; what has only begun is kept."""
        view = memoryview(data)
        if self._rest:
            begun, self._rest = self._rest, bytearray()
            view = _move(begun, view, LENGTH.size)
            view = _move(begun, view, LENGTH.size + self._size(begun)) if len(begun) >= LENGTH.size else view
            if len(begun) < LENGTH.size or len(begun) < LENGTH.size + self._size(begun):
                self._rest = begun
                return
            yield memoryview(begun)[LENGTH.size :]
        while len(view) >= LENGTH.size and len(view) >= (end := LENGTH.size + self._size(view)):
            yield view[LENGTH.size : end]
            view = view[end:]
        self._rest = bytearray(view)

    def _size(self, begun: Buffer) -> int:
        """The length that a message or record gives of itself, judged before more of it is awaited."""
        size: int = LENGTH.unpack_from(begun)[0]
        if not self.established:
            most = FIRST_MESSAGE_MAX if self._first else HANDSHAKE_MESSAGE_MAX
            if size > most:
                raise RemoteProtocolError(f"a handshake message of {size} bytes: at most {most}")
        if size < TAG_SIZE:
            raise RemoteProtocolError(f"a record of {size} bytes: its tag alone has {TAG_SIZE}")
        return size

    def _shake(self, message: bytes) -> None:
        own = self._security.key.public + self._security.certificate
        if self._first:
            self._first = False
            self._handshake.read(message)
            self._reply.append(_message(self._handshake.write(own)))
            return
        try:
            payload = self._handshake.read(message)
        except RemoteProtocolError as error:
            why = f"the handshake does not hold: the peer has another secret, or somebody meddles ({error})"
            raise Refused("security", why) from error
        if self._dialing:
            self._identify(payload)
            self._reply.append(_message(self._handshake.write(own)))
        self._send, self._receive = self._handshake.split()
        self.established = True
        if not self._dialing:
            self._identify(payload)

    def _identify(self, payload: bytes) -> None:
        """Who the peer is, and what it may be. Refused if nothing."""
        public, self._certificate = payload[:PUBLIC_SIZE], payload[PUBLIC_SIZE:]
        try:
            is_same = exchange_of(public) == self._handshake.remote_static
        except FormatError as error:
            raise Refused("security", f"the peer shows no key: {error}") from error
        if not is_same:
            raise Refused("security", f"the peer shows the key {public.hex()} and uses another")
        if public == self._security.key.public:
            raise Refused("role", "that is this node itself")
        self.grant = self._security.grant(public, self._certificate)


def _message(noise: bytes) -> bytes:
    return LENGTH.pack(len(noise)) + noise


def _rekey_if_due(cipher: Cipher) -> None:
    if not cipher.count % REKEY_RECORDS:
        cipher.rekey()


def _move(begun: bytearray, view: memoryview, size: int) -> memoryview:
    """Move bytes until `begun` has `size`; the view of what is left."""
    missing = max(0, size - len(begun))
    begun += view[:missing]
    return view[missing:]
