"""One conversation without its socket: bytes in, messages out; messages in, bytes out.

Each side begins with the preface, `BUCK`, its wire version and its flags. The side that dials says Hello at once; the
side that listens reads it, and answers with its own Hello, or with No and the end. From then on the dialler asks and
the listener answers. Both sides walk through the same states, each for itself:

    PREFACE -> (HANDSHAKE) -> HELLO -> OPEN -> CLOSED

HANDSHAKE is Noise_XXpsk3 (secure.py), which flags ask for: both sides the same, or the link ends. Both prefaces are its
prologue, so that nobody can change them on the way; Hello and all that follows travel inside. A key that is not let in
is told so, inside, and not why. With security "none" the state is passed by.
What may be sent in which state is a table (TABLE); no entry, no transition: that is an error, with state and message
in its text. If we break it, it is our bug (LocalProtocolError); if the peer does, the link ends (RemoteProtocolError).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final

from protocol import limits
from protocol.conversation import ANSWERS, MAY_ASK
from protocol.errors import LinkLost, LocalProtocolError, Refused, RemoteProtocolError
from protocol.frames import GATHER, Frame, Frames, frame
from protocol.messages import MESSAGES, Hello, Message, No
from protocol.packed import Buffer
from protocol.payload import dump, load

if TYPE_CHECKING:  # whoever speaks in clear needn't load the ciphers
    from protocol.secure import Security
    from protocol.trust import Grant

MAGIC: Final = b"BUCK"
SECURITY_NONE: Final = 0
SECURITY_NOISE: Final = 1
PREFACE: Final = MAGIC + bytes([limits.WIRE_VERSION, SECURITY_NONE])
PREFACE_NOISE: Final = MAGIC + bytes([limits.WIRE_VERSION, SECURITY_NOISE])
PREFACE_SIZE: Final = len(PREFACE)


class State(Enum):
    """Where one side is."""

    PREFACE = "preface"
    HANDSHAKE = "handshake"
    HELLO = "hello"
    OPEN = "open"
    CLOSED = "closed"


class Preface(Message):
    """Stands for the preface in the tables; it is no frame."""


class PrefaceNoise(Message):
    """The same, where its flags ask for encryption."""


class Handshake(Message):
    """Stands for the messages of the encrypted handshake in the tables; they are no frames either."""


Table = Mapping[State, Mapping[type[Message], State]]


def _table(may_open: Mapping[type[Message], State]) -> Table:
    return {
        State.PREFACE: {Preface: State.HELLO, PrefaceNoise: State.HANDSHAKE},
        State.HANDSHAKE: {Handshake: State.HELLO},
        State.HELLO: {Hello: State.OPEN, No: State.CLOSED},
        State.OPEN: may_open,
        State.CLOSED: {},
    }


ASKER: Final[Mapping[str, Table]] = {
    role: _table({kind: State.OPEN for kind in kinds}) for role, kinds in MAY_ASK.items()
}
ANSWERER: Final[Table] = _table({kind: State.OPEN for kinds in ANSWERS.values() for kind in kinds})
STRANGER: Final[Table] = _table({})  # an asker whose role is not known yet

Check = Callable[[Hello], "str | None"]


def everyone(hello: Hello) -> str | None:
    """The check that refuses nobody."""
    return None


class Connection:
    """One side of one link. `check` says why a peer is refused (one of messages.REASONS), or None."""

    def __init__(
        self, hello: Hello, *, dialing: bool, check: Check | None = None, security: Security | None = None
    ) -> None:
        self.hello = hello
        self.dialing = dialing
        self.peer: Hello | None = None
        self.refusal: Refused | None = None  # why we will not talk to the peer
        self.size = 0  # of the payload of the message that `messages` gave last
        self.us = State.PREFACE
        self.them = State.PREFACE
        self._check = check or everyone
        self._ours = ASKER[hello.role] if dialing else ANSWERER
        self._theirs = ANSWERER if dialing else STRANGER
        self._frames = Frames({})
        self._channel = security.channel(dialing, 2 * PREFACE_NOISE) if security else None

    def start(self) -> bytes:
        """What to send first: the preface, and behind it the Hello, or the first handshake message, of who dials."""
        if self._channel:
            self._step_us(PrefaceNoise)
            return PREFACE_NOISE + self._channel.start() if self.dialing else PREFACE_NOISE
        self._step_us(Preface)
        return PREFACE + self.send_whole(self.hello) if self.dialing else PREFACE

    def reply(self) -> bytes:
        """What the handshake wants sent now, with the dialler's Hello behind it; b"" in clear, and afterwards."""
        if self._channel is None:
            return b""
        reply = self._channel.reply()
        if self._channel.established and self.us is State.HANDSHAKE:
            self._step_us(Handshake)
            if self.dialing:
                reply += self._channel.seal(self.send(self.hello))
        return reply

    def greet(self) -> bytes:
        """The listener's answer to Hello: its own, or No if the peer is refused."""
        answer = self.send_whole(_refuse(self.refusal) if self.refusal else self.hello)
        return bytes(self._channel.seal([answer])) if self._channel else answer

    def wire(self, frames: list[Buffer]) -> Iterator[Buffer]:
        """What goes over the wire for these frames. Each piece must be sent, whole, before the next is asked for."""
        seal = self._channel.seal if self._channel else b"".join
        if sum(map(len, frames)) <= limits.JOIN_MAX:
            yield seal(frames)
            return
        for buffer in frames:
            view = memoryview(buffer)
            for at in range(0, len(view), limits.SEND_MAX):
                piece = view[at : at + limits.SEND_MAX]
                yield seal([piece]) if self._channel else piece

    def close(self) -> bytes:
        """What to send last, if the other side is to know that nothing was cut off."""
        channel = self._channel
        return bytes(channel.close()) if channel and self.us is State.OPEN and not channel.ended else b""

    @property
    def grant(self) -> Grant | None:
        """What the peer may be, as far as anybody asks (see trust.py); None in clear."""
        return self._channel.grant if self._channel else None

    @property
    def welcome(self) -> bool:
        """Is the peer still let in, by what the list of keys says now?"""
        if self._channel is None or self.peer is None:
            return True
        try:
            return self._channel.grant_again().fits(self.peer.role, self.peer.host)
        except Refused:
            return False

    def send(self, message: Message) -> list[Buffer]:
        """The buffers to send for `message`: a large packet is one of them, as it is.

        LocalProtocolError if it is illegal; LinkLost if the peer is gone, which is nobody's mistake.
        """
        kind = type(message)
        if self.them is State.CLOSED and self.us is State.OPEN:
            raise LinkLost(f"{kind.__name__} to a peer that has left")
        if self.us is State.OPEN and self.them is not State.OPEN:
            raise LocalProtocolError(f"{kind.__name__} before the peer's Hello")
        self._step_us(kind)
        return frame(kind.tag, dump(message))

    def send_whole(self, message: Message) -> bytes:
        """The same as one piece, for small messages."""
        return b"".join(self.send(message))

    def receive(self, data: bytes) -> None:
        """Take what arrived, as far as the handshake goes at once; `messages` gives the rest.

        RemoteProtocolError if it breaks the rules; Refused if the peer refuses us, or who dialled must refuse it.
        """
        self._frames.feed(data if self.them is State.PREFACE else self._unseal(data))
        if self.them is State.PREFACE:
            self._read_preface()
        if self.them is State.HELLO:
            received = self._frames.next()
            if received:
                self._read_hello(received)

    def messages(self) -> Iterator[Message]:
        """The messages that are here by now."""
        while self.them is State.OPEN and (found := self._next()):
            yield found.pop()  # nothing of it stays here while nobody asks for the next one

    def _next(self) -> list[Message]:
        received = self._frames.next()
        if received is None:
            return []
        kind = MESSAGES[received.tag]
        self.size = len(received.payload)
        message = load(kind, received.payload)
        self.them = self._theirs[State.OPEN][kind]
        return [message]

    @property
    def awaited(self) -> int:
        """The payload's length of a frame of which only the beginning is here; 0 between two frames."""
        return self._frames.awaited

    @property
    def lacking(self) -> int:
        """How much of that frame is still to come."""
        return max(0, self._frames.awaited - self._frames.held)

    @property
    def more(self) -> bool:
        """Does more wait to be read from `messages`, as far as can be told without reading?"""
        return self._frames.more

    def end(self) -> None:
        """The peer's bytes have ended: RemoteProtocolError unless that was between two frames."""
        state, self.them = self.them, State.CLOSED
        if state is not State.OPEN:
            hint = ", as it does if the peer has another secret" if self._channel and state is State.HELLO else ""
            raise RemoteProtocolError(f"the link ended in the state {state.value}{hint}")
        if not self._frames.whole:
            raise RemoteProtocolError("the link ended in the middle of a frame")
        if self._channel and not self._channel.closed:
            raise RemoteProtocolError("the link was cut off: it ended without its last record")

    def _step_us(self, kind: type[Message]) -> None:
        try:
            self.us = self._ours[self.us][kind]
        except KeyError:
            raise LocalProtocolError(
                f"a {self.hello.role} can't send {kind.__name__} in state {self.us.value}"
            ) from None

    def _expect(self, state: State) -> None:
        """Enter `state` on the peer's side: from now on only frames that are legal there are taken."""
        self.them = state
        self._frames.bounds = {kind.tag: kind.size_max for kind in self._theirs[state]}

    def _read_preface(self) -> None:
        if self._frames.held < PREFACE_SIZE:
            return
        preface = bytes(self._frames.take(PREFACE_SIZE))
        if not preface.startswith(MAGIC):
            raise RemoteProtocolError(f"the peer does not speak this protocol: it began with {preface!r}")
        version, flags = preface[4], preface[5]
        if version != limits.WIRE_VERSION:
            raise Refused("version", f"the peer speaks wire version {version}, this is {limits.WIRE_VERSION}")
        if self._channel is None and flags != SECURITY_NONE:
            raise Refused("security", 'the peer wants an encrypted link, here is only security = "none"')
        if self._channel and flags != SECURITY_NOISE:
            raise Refused("security", "the peer speaks in clear text, here links are encrypted")
        self._expect(self._theirs[State.PREFACE][PrefaceNoise if self._channel else Preface])
        if self._channel:
            self._frames.feed(self._unseal(self._frames.take(self._frames.held)))

    def _unseal(self, data: Buffer) -> Buffer:
        """What arrived as what was said, and the handshake's steps with it."""
        channel = self._channel
        if channel is None:
            return data
        try:
            plain = channel.receive(data)
        except Refused as refused:
            if self.dialing or not channel.established:
                raise
            self.refusal = refused  # the peer has shown its key: it can be told
            self._expect(State.CLOSED)
            return b""
        if self.them is State.HANDSHAKE and channel.established:
            self._expect(self._theirs[State.HANDSHAKE][Handshake])
        return plain if len(plain) >= GATHER else bytes(plain)

    def _read_hello(self, received: Frame) -> None:
        message = load(MESSAGES[received.tag], received.payload)
        if isinstance(message, No):
            self._expect(State.CLOSED)
            raise Refused(message.reason, f"the peer refuses: {message.text or 'this key is not let in there'}")
        assert isinstance(message, Hello)
        self.refusal = self._judge(message)
        if self.refusal:
            self._expect(State.CLOSED)
            if self.dialing:
                raise self.refusal
            return
        self.peer = message
        if not self.dialing:
            self._theirs = ASKER[message.role]
        self._expect(State.OPEN)

    def _judge(self, hello: Hello) -> Refused | None:
        """Why not to talk to who says this hello."""
        if hello.public == self.hello.public:
            return Refused("role", "that is this node itself")
        if self.dialing and hello.role != "buck":
            return Refused("role", f"a {hello.role} answers where a buck was expected")
        if hello.versions[0] > hello.versions[1]:
            return Refused("version", "the peer reads no packet version at all")
        if self._channel and self._channel.grant:
            if hello.public != self._channel.grant.public:
                return Refused("security", f"the peer says that it is {hello.public.hex()}, and is not")
            if not self._channel.grant.fits(hello.role, hello.host):
                host = hello.host.decode("utf-8", "backslashreplace")
                return Refused("security", f"the key {hello.public.hex()} may not be a {hello.role} on host {host}")
        reason = self._check(hello)
        if reason is None:
            return None
        mine = self.hello
        texts = {
            "env": f"env {hello.env!r} is not {mine.env!r}",
            "width": f"buckets of {hello.width} s are not {mine.width} s",
            "version": f"packet versions {hello.versions} do not meet {mine.versions}",
            "role": f"a {hello.role} is not let in",
        }
        return Refused(reason, texts.get(reason, ""))


def _refuse(refusal: Refused) -> No:
    """What a peer is told: what is wrong with its settings, and nothing of our list of keys."""
    return No(0, refusal.reason, "" if refusal.reason == "security" else refusal.text)


def slices(pieces: Iterable[Buffer], size: int, taken: Callable[[], None]) -> Iterator[Buffer]:
    """These in parts of `size` at most, with a word before each: who watches sees that a frame goes on."""
    for piece in pieces:
        view = memoryview(piece)
        for at in range(0, len(view), size):
            taken()
            yield view[at : at + size]
