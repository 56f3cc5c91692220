"""The talking to `members.py`'s thinking: dial who is to be told, exchange views, remember who was met.

Whom we met is kept in the file `peers` on the first disk that is well, so that a buck that restarts alone still knows
how many it belongs to. A peer of another env, width or version is left alone and counted; if it is the one that the
operator named in --join, and nobody else was met yet, the start ends with what is wrong.
"""

from collections.abc import Callable, Sequence

import trio

from buck.counts import Counts
from buck.files import join
from buck.members import Members
from buck.volume import Volume
from protocol import record
from protocol.connection import Check
from protocol.errors import FormatError, LinkLost, Refused, RemoteProtocolError
from protocol.link import open_asker
from protocol.messages import Gossip, Hello, No, Peer
from service.config import ConfigError
from service.log import get_log
from service.machine import Machine
from service.units import read_address

log = get_log("buck.gossip")

EVERY_S = 1.0
EXCHANGE_S = 5.0
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
    ) -> None:
        self._machine = machine
        self._members = members
        self._volumes = volumes
        self._hello = hello
        self._check = check
        self._counts = counts

    async def run(self) -> None:
        """For ever. ConfigError if the peer of --join is not of ours."""
        while True:
            self._members.beat(sum(volume.room.space.free for volume in self._volumes if volume.healthy))
            address = self._members.tick()
            if address is not None and await self._exchange(address):
                await self._remember()
            await trio.sleep(EVERY_S)

    async def _exchange(self, address: str) -> bool:
        """Push and pull views; did we meet somebody new?"""
        news = False
        try:
            with trio.fail_after(EXCHANGE_S):
                stream = await self._machine.connect(*read_address(address))
                async with open_asker(stream, self._hello(), timeout_s=EXCHANGE_S, check=self._check) as asker:
                    peer = asker.peer
                    news = self._members.shown(peer.node, peer.public, address, self._machine.now())
                    view = await asker.ask(Gossip(0, self._members.view()))
                    if not isinstance(view, No):
                        self._members.step(view.peers, self._machine.now())
        except Refused as refused:
            self._refused(address, refused)
        except (LinkLost, RemoteProtocolError, trio.TooSlowError, OSError, ValueError) as error:
            log.debug("a peer doesn't answer", address=address, why=str(error) or type(error).__name__)
        return news

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
            if volume.healthy:
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
