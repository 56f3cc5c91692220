"""Two ends of an encrypted link in memory, for tests: keys that know each other, and what goes between them."""

from collections.abc import Callable

from protocol.connection import Connection
from protocol.identity import NodeKey
from protocol.noise import NO_PSK
from protocol.secure import Security, psk_of
from protocol.trust import Trust
from tests.protocol.wire_samples import hello

TAILER, BUCK, OTHER = (NodeKey.from_seed(bytes([n]) * 32) for n in (0x31, 0x32, 0x33))
SECRET = b"a cluster's secret, 32 characters"
LINES = {
    "tailer": f"key {TAILER.public.hex()} roles=tailer hosts=web-*  the shop",
    "buck": f"key {BUCK.public.hex()} roles=buck",
}


def entropy(start: int = 0) -> Callable[[int], bytes]:
    """Not random at all: each call gives another, the same in each run."""
    calls = iter(range(start + 1, 1_000_000))
    return lambda size: next(calls).to_bytes(size, "little")


def security(
    key: NodeKey,
    *lines: str,
    secret: bytes = SECRET,
    certificate: bytes = b"",
    now_s: int = 1_800_000_000,
    start: int = 0,
) -> Security:
    """What a node with this key brings, who lets in whom these lines name (all, without any)."""
    trust = Trust.parse("\n".join(lines or LINES.values()))
    psk = psk_of(secret) if secret else NO_PSK
    draw = entropy(key.public[0] * 1000 + start)
    return Security(key, "prod", draw, lambda: now_s * 10**9, trust, certificate, psk)


def ends(
    dialler: Security | None = None, listener: Security | None = None, role: str = "tailer"
) -> tuple[Connection, Connection]:
    """A tailer that dials a buck, both with keys."""
    dialler, listener = dialler or security(TAILER), listener or security(BUCK)
    return (
        Connection(hello(role, dialler.key), dialing=True, security=dialler),
        Connection(hello("buck", listener.key), dialing=False, security=listener),
    )


class Between:
    """What was sent, each piece for itself: `script` is a list of (is it the dialler's, bytes)."""

    def __init__(self, dialler: Connection, listener: Connection) -> None:
        self.dialler, self.listener = dialler, listener
        self.script: list[tuple[bool, bytes]] = []

    def give(self, from_dialler: bool, data: bytes) -> None:
        self.script.append((from_dialler, data))
        (self.listener if from_dialler else self.dialler).receive(data)

    def shake(self) -> None:
        """The whole handshake, both Hellos included."""
        self.give(True, self.dialler.start())
        self.give(False, self.listener.start() + self.listener.reply())
        self.give(True, self.dialler.reply())
        self.give(False, self.listener.reply() + self.listener.greet())


def sealed(connection: Connection, *messages: object) -> bytes:
    """What goes over the wire for these messages."""
    return b"".join(bytes(piece) for one in messages for piece in connection.wire(connection.send(one)))  # type: ignore[arg-type]  # any message


def linked(dialler: Security | None = None, listener: Security | None = None) -> Between:
    """Two ends that have greeted each other."""
    between = Between(*ends(dialler, listener))
    between.shake()
    return between
