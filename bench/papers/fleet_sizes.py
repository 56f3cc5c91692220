"""What goes over the wire in a fleet of any size: the product's own messages, encoded by its own codec."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from protocol.frames import frame
from protocol.limits import LIST_FRAME_MAX, PEERS_FRAME_MAX, PEERS_MAX, ROSTER_MAX, WIDTH_S
from protocol.messages import Gossip, List, Listing, Peer, View
from protocol.payload import dump
from protocol.ranges import Ranges

SAMPLE = 500  # tailers encoded, where there are more
GOSSIP_S = 1.0  # an exchange begun by each buck: buck/gossip.py
BUCKET = 1_790_000_100 // WIDTH_S * WIDTH_S


class Limit(NamedTuple):
    """What the formats bound: how many there may be."""

    what: str
    most: int


def limits() -> list[Limit]:
    """Where a fleet of one env ends by the product's own bounds."""
    return [
        Limit("bucks in a view", PEERS_MAX),
        Limit("tailers in a roster", ROSTER_MAX),
        Limit("tailers in one answer to a porter, by its size", LIST_FRAME_MAX // (listing(SAMPLE, 60) // SAMPLE)),
        Limit("peers in one frame of gossip, by its size", PEERS_FRAME_MAX // (gossip(PEERS_MAX) // PEERS_MAX)),
    ]


def _name(kind: str, number: int) -> bytes:
    return blake2b(f"{kind}{number}".encode(), digest_size=32).digest()


def peers(count: int) -> tuple[Peer, ...]:
    """As a cluster of so many has them after some weeks."""
    return tuple(
        Peer(_name("node", i)[:16], _name("key", i), f"10.20.{i // 256}.{i % 256}:7411", b"buck-%04d" % i,
             f"zone{i % 3}", 2_000_000 + i, 3 * 10**12, False, 1_790_000_000)
        for i in range(count)
    )  # fmt: skip


def _size(message: Gossip | View | List | Listing) -> int:
    return sum(map(len, frame(message.tag, dump(message))))


def gossip(count: int) -> int:
    """Bytes of one view on its way."""
    return _size(Gossip(1, peers(count)))


def gossip_rate(count: int) -> float:
    """Bytes a second that a buck sends and is sent: it begins an exchange, and in the mean is asked for one."""
    return 2 * (gossip(count) + _size(View(1, WIDTH_S, peers(count)))) / GOSSIP_S


def listing(tailers: int, packets: int) -> int:
    """Bytes of a buck's answer to what it holds of a bucket: of each tailer every other one of so many packets."""
    numbers = [Ranges((first, first + 1) for first in range(7, 7 + packets, 2)) for _ in range(tailers)]
    entries = tuple((_name("tailer", i)[:16], 3 << 32 | i, one) for i, one in enumerate(numbers))
    return _size(Listing(1, BUCKET, entries, False, ()))


def listing_of(tailers: int, packets: int) -> float:
    """The same for any number of tailers, of which each adds as many bytes as the others."""
    few = min(tailers, SAMPLE)
    return listing(few, packets) / few * tailers


def question() -> int:
    """Bytes of that question."""
    return _size(List(1, BUCKET))
