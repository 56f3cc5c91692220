"""Which bucks there are: learnt from one address, told on by gossip. Pure: no clock, no socket, no task.

Once a second `tick` names one address, chosen at random, to exchange views with; the node dials it and steps what came
back. So news reaches n bucks in about log2 n seconds.

```
join address ──dial──> its handshake shows node and key ──shown()──> met: in our view, for good
gossip entry ──step()──> claimed: not in our view until a dial of its address shows that very node
dial ──nobody there──> failed(): the address rests, longer each time, and takes no other's turn
```

Only what a handshake showed is passed on, so a lie travels no further than who believed it. A peer that was met stays
at its address until its own handshake shows it elsewhere, and it stays a *member* however long it is silent: what was
promised of its copies still counts. Only three kinds are forgotten: a claim that nobody answers for, a peer that
drained and has been silent for a day, and one that was retired. Memory is bounded by PEERS_MAX, claims included.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from random import Random

from protocol.identity import node_id
from protocol.limits import PEERS_MAX
from protocol.messages import Peer

# Every other exchange is with somebody new, if there is any: so all meet soon, and the old ones are not kept waiting.
UNMET_SHARE = 0.5
# An address at which nobody answers rests so long, doubling.
REST_FIRST_S, REST_MAX_S = 0.1, 60.0
FORGET_CLAIM_S = 600.0
FORGET_DRAINED_S = 86_400.0


@dataclass(slots=True)
class Known:
    """What is known of one buck."""

    peer: Peer
    confirmed: bool = False  # its own handshake has shown it
    claimed: str = ""  # another address that gossip gives it, not shown yet
    heard: float = 0.0  # when its heartbeat last grew, or its handshake was seen


@dataclass(slots=True)
class Rest:
    """An address that is left alone for a while."""

    until: float
    pause: float


class Members:
    """This node's view."""

    def __init__(
        self, me: Peer, joins: Sequence[str], random: Random, remembered: Iterable[Peer] = (), now: float = 0.0
    ) -> None:
        self.me = me
        self.known: dict[bytes, Known] = {}
        self.retired: set[bytes] = set()
        self._joins = {address for address in joins if address != me.address}
        self._resting: dict[str, Rest] = {}
        self._random = random
        for peer in remembered:  # met in an earlier life: members, wherever they are now
            if self._learn(peer, now):
                self.known[peer.node].confirmed = True

    def view(self) -> tuple[Peer, ...]:
        """What others are told: this node, and whom it met."""
        return (self.me, *(known.peer for known in self.known.values() if known.confirmed))

    def others(self) -> list[Peer]:
        """The other members: met, and not leaving. Dead ones are among them."""
        return [known.peer for known in self.known.values() if known.confirmed and not known.peer.draining]

    def beat(self, free: int, draining: bool = False, archived: int = 0) -> None:
        """One more second lived."""
        beat = self.me.heartbeat + 1
        self.me = self.me._replace(heartbeat=beat, free=free, draining=draining, archived=archived)

    def tick(self, now: float) -> str | None:
        """Forget who is to be forgotten; the address to exchange views with now, None while there is none."""
        self._forget(now)
        unmet = sorted(self._awake(self._unmet(), now))
        if unmet and self._random.random() < UNMET_SHARE:
            return self._random.choice(unmet)
        targets = sorted(self._awake(self._targets(), now))
        return self._random.choice(targets) if targets else None

    def step(self, peers: Iterable[Peer], now: float) -> bool:
        """Take in a view; did we learn of anybody new?"""
        return any([self._learn(peer, now) for peer in peers])

    def shown(self, node: bytes, public: bytes, address: str, now: float) -> bool:
        """A handshake at `address` has shown this buck. Is that news?"""
        self._joins.discard(address)
        self._resting.pop(address, None)
        if node == self.me.node or node in self.retired:
            return False  # ourselves under another name, or one that is no member any more
        known = self.known.get(node)
        if known is None:
            if len(self.known) >= PEERS_MAX - 1 and not self._drop_a_claim():
                return False
            known = self.known[node] = Known(Peer(node, public, address, b"", "", 0, 0, False))
        news = not known.confirmed or known.peer.address != address
        known.peer = known.peer._replace(address=address)
        known.confirmed, known.claimed, known.heard = True, "", now
        return news

    def failed(self, address: str, now: float) -> None:
        """Nobody of ours answers at this address now."""
        rest = self._resting.get(address)
        pause = REST_FIRST_S if rest is None else min(2 * rest.pause, REST_MAX_S)
        self._resting[address] = Rest(now + pause, pause)

    def retire(self, node: bytes) -> None:
        """An admin has said that this buck is gone for ever: it is no member, whatever gossip says."""
        self.retired.add(node)
        self.known.pop(node, None)

    def unmet_at(self) -> float:
        """When somebody is to be met, the past if now; infinite if there is nobody."""
        return min((self._resting[one].until if one in self._resting else 0.0 for one in self._unmet()), default=inf)

    def is_join(self, address: str) -> bool:
        """Was this address given by the operator, and never answered yet?"""
        return address in self._joins

    def drop_join(self, address: str) -> None:
        """What answers at an address that the operator gave is no other buck."""
        self._joins.discard(address)

    def check(self) -> None:
        """Invariants."""
        assert len(self.known) < PEERS_MAX
        assert self.me.node not in self.known
        assert not self.retired & self.known.keys()
        assert len(self._resting) <= 2 * PEERS_MAX + len(self._joins)
        assert all(node == known.peer.node == node_id(known.peer.public) for node, known in self.known.items())

    def _targets(self) -> set[str]:
        addresses = {known.peer.address for known in self.known.values()}
        return self._unmet() | addresses - {self.me.address}

    def _unmet(self) -> set[str]:
        """Addresses at which nobody was met yet."""
        claims = {known.claimed for known in self.known.values() if known.claimed}
        heard_of = {known.peer.address for known in self.known.values() if not known.confirmed}
        return (self._joins | claims | heard_of) - {self.me.address}

    def _awake(self, addresses: set[str], now: float) -> list[str]:
        return [address for address in addresses if not (rest := self._resting.get(address)) or rest.until <= now]

    def _learn(self, peer: Peer, now: float) -> bool:
        if peer.node in self.retired or peer.node == self.me.node:
            return False
        if node_id(peer.public) != peer.node or not peer.address:
            return False
        known = self.known.get(peer.node)
        if known is None:
            if len(self.known) >= PEERS_MAX - 1:
                return False
            self.known[peer.node] = Known(peer, heard=now)
            return True
        if peer.heartbeat > known.peer.heartbeat:
            if peer.address != known.peer.address:
                known.claimed = peer.address
            known.peer = peer._replace(address=known.peer.address)
            known.heard = now
        return False

    def _forget(self, now: float) -> None:
        for node, known in list(self.known.items()):
            silent = now - known.heard
            drained = known.confirmed and known.peer.draining and silent > FORGET_DRAINED_S
            if drained or (not known.confirmed and silent > FORGET_CLAIM_S):
                del self.known[node]
        if len(self._resting) > len(self.known):
            targets = self._targets()
            self._resting = {address: rest for address, rest in self._resting.items() if address in targets}

    def _drop_a_claim(self) -> bool:
        """Make room for one that was met, at the cost of one that was only heard of."""
        for node, known in self.known.items():
            if not known.confirmed:
                del self.known[node]
                return True
        return False
