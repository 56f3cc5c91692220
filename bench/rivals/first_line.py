"""A line that this process brings to bucks by itself, with a seal that states it: what shows that a cluster is ready,
and leaves nothing behind that an audit would call unstated."""

from __future__ import annotations

import time
from collections.abc import Sequence

import trio

from bench.packing import Sender, packets
from bench.sending import ACK_S, hello, key_of
from protocol.link import open_asker
from protocol.messages import Ok, Put, SealPut
from protocol.packet import read
from protocol.ranges import Ranges
from protocol.seal import CONTENT_SIZE, FIRST, Seal, Section

KEY = key_of("ready")
LINE = b"ready\n"


def bring(addresses: Sequence[str]) -> None:
    """Acknowledged by all of these, one after the other."""
    now = time.time_ns()
    [packet] = packets({b"/ready.log": LINE}, Sender(KEY.node, arrival_s=now // 10**9))
    seal = _seal(packet, now)
    for address in addresses:
        trio.run(_bring, address, packet, seal)


async def _bring(address: str, packet: bytes, seal: bytes) -> None:
    host, port = address.rsplit(":", 1)
    async with open_asker(await trio.open_tcp_stream(host, int(port)), hello(KEY), timeout_s=ACK_S) as asker:
        for question in (Put(0, 0, False, packet), SealPut(0, seal)):
            answer = await asker.ask(question)
            assert isinstance(answer, Ok), answer


def _seal(packet: bytes, now: int) -> bytes:
    """A first and last one, with a goodbye: nobody waits for more."""
    header = read(packet).header
    mine = Ranges([(header.number, header.number + 1)])
    facts = (mine, header.count, len(LINE), header.content[:CONTENT_SIZE])
    section = Section(header.epoch, header.bucket, header.kind, header.late, *facts)
    names = (header.env, header.width, KEY.node, KEY.public, header.host)
    return Seal(*names, 0, FIRST, now, now // 10**9, 0, 0, True, (section,), goodbye=True).signed(KEY).data
