"""Packets to one buck over a real socket, as a tailer sends them: a window of puts under way, each until its ok."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import trio

from protocol.identity import NodeKey
from protocol.limits import PACKET_VERSION
from protocol.link import Asker, open_asker
from protocol.messages import Hello, Ok, Put

WINDOW = 16
ACK_S = 120.0  # a disk that is behind holds writers up for long


def key_of(name: str) -> NodeKey:
    """Everybody's key follows from the name."""
    return NodeKey.from_seed(name.encode().ljust(32, b".")[:32])


def hello(key: NodeKey, role: str = "tailer") -> Hello:
    """Who asks."""
    return Hello(role, key.public, "prod", 0, b"bench", (PACKET_VERSION, PACKET_VERSION), "", time.time_ns())


def put_all(address: str, key: NodeKey, packets: Iterable[bytes]) -> int:
    """Store all packets on the buck at an address; the sum of their sizes. Blocks until the last is acked."""
    return trio.run(_put_all, address, key, packets)


async def _put_all(address: str, key: NodeKey, packets: Iterable[bytes]) -> int:
    host, port = address.rsplit(":", 1)
    stream = await trio.open_tcp_stream(host, int(port))
    waiting, sizes = iter(packets), [0]
    async with open_asker(stream, hello(key), timeout_s=ACK_S) as asker, trio.open_nursery() as nursery:
        for _ in range(WINDOW):
            nursery.start_soon(_work, asker, waiting, sizes)
    return sizes[0]


async def _work(asker: Asker, waiting: Iterator[bytes], sizes: list[int]) -> None:
    for packet in waiting:
        answer = await asker.ask(Put(0, 0, False, packet))
        assert isinstance(answer, Ok), answer
        sizes[0] += len(packet)
