"""The talking to `members.py`'s thinking: dial who is to be told, exchange views, remember who was met.

Whom we met is kept in the file `peers` on the first disk that is well, so that a buck that restarts alone still knows
how many it belongs to. A peer of another env, width or version is left alone and counted; if it is the one that the
operator named in --join, and nobody else was met yet, the start ends with what is wrong.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from buck.counts import Counts
from buck.files import join
from buck.members import Members
from buck.volume import Volume, archived_until
from protocol import record
from protocol.connection import Check
from protocol.errors import FormatError, LinkLost, MessageError, Refused, RemoteProtocolError
from protocol.link import open_asker
from protocol.messages import Gossip, Hello, No, Peer
from service.config import ConfigError
from service.log import get_log
from service.machine import Machine
from service.units import Address, read_address

if TYPE_CHECKING:
    from protocol.secure import Security

log = get_log("buck.gossip")

EVERY_S = 1.0
HURRY_S = 0.1  # while somebody is to be met: a buck that joins is a member within a second, and counts
EXCHANGE_S = 5.0
# Peers had so long to find this node where it says it is; then the operator is told.
REACHED_S = 60.0
# Reasons that waiting doesn't cure: what the operator said is wrong, on one of the two sides.
MISMATCH = frozenset({"env", "width", "version", "security"})


class Gossiper:
    """One exchange a second with a random peer."""

    def __init__(
        self,
        machine: Machine,
        members: Members,
        volumes: Sequence[Volume],
        hello: Callable[[], Hello],
        check: Check,
        counts: Counts,
        draining: Callable[[], bool] = lambda: False,
        guessed: bool = False,
        security: "Security | None" = None,
    ) -> None:
        """`guessed`: our address was made of this host's name; the first connection tells a better one."""
        self._machine = machine
        self._members = members
        self._volumes = volumes
        self._hello = hello
        self._check = check
        self._counts = counts
        self._draining = draining
        self._guessed = guessed
        self._unreached: dict[bytes, float] = {}  # peers that don't list us, since when; inf: the operator was told
        self._security = security
        self._news = trio.Event()

    async def run(self) -> None:
        """For ever. ConfigError if the peer of --join is not of ours."""
        while True:
            free = sum(volume.room.space.free for volume in self._volumes if volume.healthy)
            self._members.beat(free, self._draining(), archived_until(self._volumes))
            self._counts.archived_until.set(self._members.me.archived)
            address = self._members.tick(self._machine.now())
            if address is not None and await self._exchange(address):
                await self._remember()
            await trio.sleep(HURRY_S)
            unmet_s = self._members.unmet_at() - self._machine.now()
            with trio.move_on_after(max(0.0, min(EVERY_S - HURRY_S, unmet_s))):
                await self._news.wait()
            self._news = trio.Event()

    def heard(self, peers: Sequence[Peer]) -> None:
        """Take in the view of somebody who dialled; whoever is new there is met soon."""
        if self._members.step(peers, self._machine.now()):
            self._news.set()

    async def _exchange(self, address: str) -> bool:
        """Push and pull views; did we meet somebody new?"""
        news = False
        try:
            with trio.fail_after(EXCHANGE_S):
                stream = await self._machine.connect(*read_address(address))
                self._derive(stream)
                hello, check, security = self._hello(), self._check, self._security
                async with open_asker(stream, hello, timeout_s=EXCHANGE_S, check=check, security=security) as asker:
                    peer = asker.peer
                    news = self._members.shown(peer.node, peer.public, address, self._machine.now())
                    view = await asker.ask(Gossip(0, self._members.view()))
                    if not isinstance(view, No):
                        self._members.step(view.peers, self._machine.now())
                        self._look_for_us(peer.node, address, view.peers)
        except Refused as refused:
            self._members.failed(address, self._machine.now())
            self._refused(address, refused)
        except (LinkLost, RemoteProtocolError, trio.TooSlowError, OSError, ValueError) as error:
            self._members.failed(address, self._machine.now())
            if MessageError in (type(error), type(error.__cause__)):
                self._counts.links_refused["message"].inc()
                log.warning("a peer says what this version can't read", address=address, why=str(error))
                return news
            log.debug("a peer doesn't answer", address=address, why=str(error) or type(error).__name__)
        return news

    def _derive(self, stream: trio.abc.Stream) -> None:
        """Who listens everywhere is reached where its connections come from; peers call back before they believe it."""
        near = self._machine.near(stream) if self._guessed else ""
        if near and not near.startswith("127.") and near != "::1":
            port = read_address(self._members.me.address).port
            self._members.me = self._members.me._replace(address=str(Address(near, port)))
            self._guessed = False

    def _look_for_us(self, node: bytes, address: str, peers: Sequence[Peer]) -> None:
        """A peer lists whom it has reached at the address they give. Are we among them?"""
        now, me = self._machine.now(), self._members.me
        if any(peer.node == me.node for peer in peers):
            self._unreached.pop(node, None)
        elif now > self._unreached.setdefault(node, now) + REACHED_S:
            self._unreached[node] = float("inf")
            self._counts.unreached.inc()
            text = "nobody is sent there; give the right one with --advertise"
            log.error("ALARM: a peer can't reach this node at its address", peer=address, ours=me.address, what=text)

    def _refused(self, address: str, refused: Refused) -> None:
        if refused.reason == "role":
            self._members.drop_join(address)  # it is ourselves, or no buck
        if refused.reason in MISMATCH and self._members.is_join(address) and len(self._members.view()) == 1:
            text = f"{refused.text}; a cluster has one --env, one --width and one version"
            raise ConfigError(f"--join {address}: {text}")
        self._counts.links_refused[refused.reason].inc()
        log.warning("a peer is refused", address=address, reason=refused.reason, why=refused.text)

    async def _remember(self) -> None:
        met = [list(peer) for peer in self._members.view()[1:]]
        for volume in self._volumes:
            if volume.able:
                try:
                    await self._machine.disk.replace(
                        join(volume.folder, "peers"), record.encode_record(met), mode=0o640
                    )
                except OSError as error:
                    volume.trouble(error)
                return


def remembered(machine: Machine, volumes: Sequence[Volume]) -> list[Peer]:
    """Who was met before the last stop."""
    for volume in volumes:
        try:
            rows = record.read_record(machine.disk.read_bytes(join(volume.folder, "peers")))
            if isinstance(rows, list):
                return [Peer(*row) for row in rows]
        except (OSError, FormatError, TypeError) as error:
            if not isinstance(error, FileNotFoundError):
                log.warning("the file of peers is not good; they are learnt anew", disk=volume.root, why=str(error))
    return []
