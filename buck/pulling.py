"""Fetching packets from another buck and keeping them: how copies are brought back, and handed on.

    source ──get──> packets ──digest, and is it what was asked?──> store.put ──> fsync ──> done, or what is missing

A copy that doesn't verify is counted and dropped, so rot does not spread: the source will not send it, and we would not
take it. All pulls of a node together go at a capped pace, so that repair never crowds out what tailers bring. A pull
that was cut short is simply asked for again: what is here already is not fetched twice.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from buck.counts import Counts
from buck.errors import Declined
from buck.members import Members
from buck.store import Store
from protocol import packet as packets
from protocol.connection import Check
from protocol.copies import Group
from protocol.errors import FormatError, ProtocolError, Refused
from protocol.link import Asker, open_asker
from protocol.messages import Get, Hello, PacketIs, Peer
from protocol.packet import Packet
from protocol.ranges import Ranges
from service.faults import faultpoint
from service.log import get_log
from service.machine import Machine
from service.units import read_address

if TYPE_CHECKING:
    from protocol.secure import Security

log = get_log("buck.pulling")

CONNECT_S = 5.0
PART_S = 20.0
# Pulls under way, which share one pace; and what each may have received and not stored yet.
PULLS_MAX = 4
WAITING_BYTES = 4 << 20
# What may be fetched at once after a pause, in seconds of the capped pace.
BURST_S = 0.5

Entries = tuple[tuple[bytes, int, Ranges], ...]
GONE = (ProtocolError, OSError, ValueError, trio.TooSlowError)


class Pace:
    """A capped rate. Pure: who asks is told how long to wait before it goes on."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._free_at = float("-inf")  # when all that was taken is paid for

    def take(self, size: int, now: float) -> float:
        """Seconds to wait after taking `size` bytes."""
        self._free_at = max(self._free_at, now - BURST_S) + size / self.rate
        return max(0.0, self._free_at - now)


class Puller:
    """The pulls of a node."""

    def __init__(
        self,
        machine: Machine,
        store: Store,
        members: Callable[[], Members],
        hello: Callable[[], Hello],
        check: Check,
        counts: Counts,
        rate: float,
        security: "Security | None" = None,
    ) -> None:
        self._machine = machine
        self._store = store
        self._members = members
        self._hello = hello
        self._check = check
        self._counts = counts
        self._security = security
        self._pace = Pace(rate)
        self._turns = trio.Semaphore(PULLS_MAX)

    async def pull(self, source: bytes, bucket: int, keys: Entries) -> Entries:
        """Have these packets, fsynced; what can't be had. Declined if we take none, or don't know the source."""
        peer = next((one for one in self._members().view()[1:] if one.node == source), None)
        if peer is None:
            raise Declined("unknown", f"no buck {source.hex()} is known here")
        wanted = _united(keys)
        lacking = await self._not_here(bucket, wanted)
        if lacking:
            try:
                async with self._turns, self.reach(peer) as asker:
                    await self._fetch(asker, bucket, lacking)
            except GONE as error:
                why = str(error) or type(error).__name__
                log.warning("a pull was cut short", source=peer.address, bucket=bucket, why=why)
        left = await self._not_here(bucket, wanted, sync=True)
        return tuple((*group, numbers) for group, numbers in sorted(left.items(), key=lambda item: item[0]))

    @asynccontextmanager
    async def reach(self, peer: Peer) -> AsyncIterator[Asker]:
        """A short link to a member, and to no other. GONE if it can't be reached."""
        with trio.fail_after(CONNECT_S):
            stream = await self._machine.connect(*read_address(peer.address))
        hello, check, security = self._hello(), self._check, self._security
        async with open_asker(
            stream, hello, timeout_s=PART_S, check=check, security=security, waiting_max=WAITING_BYTES
        ) as asker:
            if asker.peer.node != peer.node:
                raise Refused("role", f"{peer.address} is another buck by now")
            yield asker

    async def _fetch(self, asker: Asker, bucket: int, lacking: Mapping[Group, Ranges]) -> None:
        question = Get(0, bucket, tuple((*group, numbers) for group, numbers in lacking.items()))
        with asker.ask_many(question) as parts:
            async for part in parts:
                if isinstance(part, PacketIs):
                    packet = self._verified(part.packet, bucket, lacking)
                    if packet is not None:
                        await self._store.put(packet)
                        self._counts.pulled.inc()
                        self._counts.pulled_bytes.inc(len(packet.data))
                        faultpoint("buck.pulling.stored")
                    await trio.sleep(self._pace.take(len(part.packet), self._machine.now()))

    def _verified(self, data: bytes | memoryview, bucket: int, wanted: Mapping[Group, Ranges]) -> Packet | None:
        try:
            packet = packets.read(data)
        except FormatError as error:
            why = str(error)
        else:
            header = packet.header
            if header.bucket == bucket and header.number in wanted.get((header.tailer, header.epoch), ()):
                return packet
            why = "not what was asked for"
        self._counts.bad_pulls.inc()
        log.error("ALARM: another buck gave a packet that is no good; it is not kept", bucket=bucket, why=why)
        return None

    async def _not_here(self, bucket: int, wanted: Mapping[Group, Ranges], sync: bool = False) -> dict[Group, Ranges]:
        left: dict[Group, Ranges] = {}
        for group, numbers in wanted.items():
            held = await self._store.receipt(*group, bucket, sync)
            rest = numbers - (held.synced if sync else held.held)
            if rest:
                left[group] = rest
        return left


def _united(keys: Iterable[tuple[bytes, int, Ranges]]) -> dict[Group, Ranges]:
    wanted: dict[Group, Ranges] = {}
    for tailer, epoch, numbers in keys:
        known = wanted.get((tailer, epoch))
        wanted[tailer, epoch] = numbers if known is None else known | numbers
    return wanted
