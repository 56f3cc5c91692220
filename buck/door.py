"""Who is let in, and who may begin a handshake now: strangers cost little, and can't keep others out.

A handshake costs a millisecond of CPU and a connection, before anybody is known. So at most HANDSHAKES_MAX are under
way: when one more comes, the oldest of them makes room, for an honest peer needs milliseconds and an idle attacker
takes all the time there is. And each address has a bucket of tokens: a handshake takes one, and gives it back if it
succeeds, so that a fleet behind one address that comes back at once is no attack, and somebody who tries keys is.

Whoever is in stays only while its key is let in: when the list was read again (SIGHUP), and each minute, for
certificates expire without anybody saying so, all links are looked at, and those that would not be let in now are cut.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING

import trio

from buck.counts import Counts
from buck.settings import BuckSettings
from protocol.errors import Refused
from protocol.identity import NodeKey
from protocol.limits import HANDSHAKE_FAILURES, HANDSHAKE_FAILURES_HZ, HANDSHAKES_MAX
from protocol.link import Link
from service.authorized import use_again, use_files
from service.log import get_log
from service.machine import Machine

if TYPE_CHECKING:
    from protocol.secure import Security

log = get_log("buck.door")

ADDRESSES_MAX = 4_096
LOOK_EVERY_S = 60.0


class Door:
    """All links of others to one node."""

    def __init__(self, machine: Machine, settings: BuckSettings, key: NodeKey, counts: Counts) -> None:
        self.security = _security(machine, settings, key)
        self._machine = machine
        self._settings = settings
        self._counts = counts
        self._links: set[Link] = set()
        self._look = trio.Event()  # replaced by another each time it is set
        self._places = trio.Semaphore(HANDSHAKES_MAX)
        self._under_way: dict[trio.CancelScope, None] = {}  # the oldest first, without those that make room
        self._tokens: dict[str, tuple[float, float]] = {}  # address -> how many there were, and when

    async def run(self) -> None:
        """Read the list again when told to, and cut who is on it no more. Never ends."""
        async with trio.open_nursery() as nursery:
            if self.security is not None:
                nursery.start_soon(use_again, self._machine, self._settings, self.security.take, self._changed)
            while True:
                with trio.move_on_after(LOOK_EVERY_S):
                    await self._look.wait()
                self._look = trio.Event()
                for link in [one for one in self._links if not one.connection.welcome]:
                    self._counts.links_refused["security"].inc()
                    log.warning("a link is cut: its key is not let in any more", node=link.peer.node.hex())
                    await link.cut()

    def _changed(self) -> None:
        self._look.set()

    @contextmanager
    def holding(self, link: Link) -> Iterator[None]:
        """A link that is in, while the block lasts."""
        self._links.add(link)
        try:
            yield
        finally:
            self._links.discard(link)

    async def shake(self, link: Link, address: str) -> None:
        """A link's handshake. Refused (`slow`) if there is no room for it, or what the handshake itself raises."""
        address = network_of(address)
        self._take(address)
        if not self._places.value:
            self._make_room()
        async with self._places:
            scope = trio.CancelScope()
            self._under_way[scope] = None
            try:
                with scope:
                    await link.handshake()
                    self._give_back(address)
            finally:
                self._under_way.pop(scope, None)
        if scope.cancelled_caught:
            raise Refused("slow", "its handshake made room for younger ones")

    def _make_room(self) -> None:
        """The oldest ends: its place is the newcomer's once it has left. Each makes room for one."""
        oldest = next(iter(self._under_way), None)
        if oldest is None:
            raise Refused("slow", "all handshakes under way make room for others already")
        del self._under_way[oldest]
        oldest.cancel()

    def _take(self, address: str) -> None:
        tokens = self._tokens_of(address)
        if tokens < 1:
            raise Refused("slow", f"too many handshakes of {address} have failed")
        if len(self._tokens) >= ADDRESSES_MAX:
            del self._tokens[next(iter(self._tokens))]
        self._set(address, tokens - 1)

    def _give_back(self, address: str) -> None:
        self._set(address, self._tokens_of(address) + 1)

    def _set(self, address: str, tokens: float) -> None:
        self._tokens.pop(address, None)
        if tokens < HANDSHAKE_FAILURES:
            self._tokens[address] = tokens, self._machine.now()

    def _tokens_of(self, address: str) -> float:
        tokens, since = self._tokens.get(address, (HANDSHAKE_FAILURES, 0.0))
        return min(HANDSHAKE_FAILURES, tokens + (self._machine.now() - since) * HANDSHAKE_FAILURES_HZ)


def network_of(address: str) -> str:
    """What counts as one address: of IPv6 the first 64 bits, for whoever has one has 2**64."""
    try:
        ip = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ip.ipv4_mapped or IPv6Network((int(ip) >> 64 << 64, 64)))


def _security(machine: Machine, settings: BuckSettings, key: NodeKey) -> "Security | None":
    """What encrypted links need, read from the files that the settings name; None for clear text."""
    if not settings.is_encrypted:
        return None
    from protocol.secure import Security  # not before: it is 9 MB of ciphers

    security = Security(key, settings.env, machine.entropy, machine.time_ns)
    use_files(machine, settings, security.take)
    return security
