"""One connection: a table says for each message what is done about it.

Puts are answered in order and at once; what waits for a disk for longer (a packet that must be fsynced, a seal, a
receipt with sync, packets and lists for a porter) goes on beside, at most BESIDE_MAX at a time, so that it holds up
nobody. A peer that doesn't read its answers holds up only itself: sending waits, and then nothing more is read from it.

What a peer may ask is decided by its role before it gets here (protocol/conversation.py); what is checked here is that
a tailer puts packets and seals of its own only.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol, TypeVarTuple

import trio

from buck import reading
from buck.budget import Metered
from buck.counts import Counts
from buck.errors import Declined
from buck.fitting import clip, portions
from buck.live import Fanout
from buck.pruning import Pruner
from buck.pulling import Puller
from buck.reading import Reading
from buck.roster import RosterStore
from buck.seals import SealStore
from buck.store import Store, Stored
from protocol import messages as m
from protocol import packet as packets
from protocol.errors import FormatError, TooLargeError, VersionError
from protocol.limits import BUCKETS_MAX, LIVE_AGE_MS, LIVE_LINK_MAX, RANGES_MAX, TEXT_MAX
from protocol.link import Link
from protocol.messages import STORED, SYNCED
from protocol.packet import Packet
from protocol.roster import Retirement
from protocol.seal import Seal
from protocol.statement import Statement
from service.log import get_log
from service.machine import Machine

log = get_log("buck.session")

BESIDE_MAX = 32

Ts = TypeVarTuple("Ts")
Answer = Callable[[*Ts], Awaitable[None]]


class Home(Protocol):
    """What a session needs of its node."""

    machine: Machine
    store: Store
    seals: SealStore
    roster: RosterStore
    counts: Counts
    puller: Puller
    pruner: Pruner
    live: Fanout

    def view(self) -> m.View: ...

    def heard(self, peers: tuple[m.Peer, ...]) -> None: ...


class Session:
    """The answering side of one link, after its handshake."""

    def __init__(self, home: Home, link: Link, stream: Metered, nursery: trio.Nursery) -> None:
        self.home = home
        self.link = link
        self.stream = stream
        self._nursery = nursery
        self._beside = trio.Semaphore(BESIDE_MAX)
        self._reading = trio.CancelScope()
        self._idle = True  # nothing but reading is under way here
        self._stopping = False
        self._standing: list[Callable[[], None]] = []  # what ends each question that has no end of its own

    async def serve(self) -> None:
        """Answer until the peer closes, or `stop`. RemoteProtocolError or LinkLost otherwise."""
        with self._reading:
            async for message in self.link:
                self._idle = False
                handler = HANDLERS[type(message)]
                if type(message) in BESIDE:
                    await self._go_beside(message, handler, self, message)
                else:
                    await self._answer(message, handler, self, message)
                self.stream.give_back(self.stream.take())
                self._idle = True
                if self._stopping:
                    break
        self._stopping = True
        for end in self._standing:
            end()

    def stop(self) -> None:
        """Take no more questions; those that were taken are answered."""
        self._stopping = True
        if self._idle:
            self._reading.cancel()

    @contextmanager
    def _stands(self, end: Callable[[], None]) -> Iterator[None]:
        """A question that stands until the link's end, which calls `end`."""
        if len(self._standing) >= LIVE_LINK_MAX:
            raise Declined("slow", f"{LIVE_LINK_MAX} questions stand on this link already")
        self._standing.append(end)
        if self._stopping:
            end()
        try:
            yield
        finally:
            self._standing.remove(end)

    async def _go_beside(self, message: Any, function: "Answer[*Ts]", *args: *Ts) -> None:
        """Let an answer take its time; the memory reserved for its question stays reserved so long."""
        await self._beside.acquire()
        self._nursery.start_soon(self._run_beside, self.stream.take(), message, function, args)

    async def _run_beside(self, reserved: int, message: Any, function: "Answer[*Ts]", args: tuple[*Ts]) -> None:
        try:
            await self._answer(message, function, *args)
        finally:
            self.stream.give_back(reserved)
            self._beside.release()

    async def _answer(self, message: Any, function: "Answer[*Ts]", *args: *Ts) -> None:
        try:
            await function(*args)
        except Declined as no:
            self.home.counts.refused[no.reason].inc()
            await self.link.send(m.No(message.ask, no.reason, no.text))
        except TooLargeError as error:
            # Our bug, brought to light by what one peer put here, or asks: no reason to leave all the others.
            self.home.counts.refused["size"].inc()
            log.error("ALARM: an answer is too large to be sent", peer=self.link.peer.node.hex(), why=str(error))
            await self.link.send(m.No(message.ask, "size", str(error)))

    # --- from tailers ---------------------------------------------------------------------------------------------

    async def put(self, message: m.Put) -> None:
        packet = _read_packet(message.packet)
        if packet.header.tailer != self.link.peer.node:
            raise self._foreign("packet", packet.header.tailer)
        self._check_host(packet.header.host)
        self.home.counts.costs.moved(packet.header.kind.label, len(packet.data))
        stored = await self.home.store.put(packet)
        self.home.roster.meet(packet.header.tailer, packet.header.host)
        if self.home.live.wanted and not (message.again or stored.is_repeat) and message.age_ms < LIVE_AGE_MS:
            self.home.live.offer(packet)
        if packet.header.kind.sync and stored.level < SYNCED:
            await self._go_beside(message, self._sync, message, packet, stored)
        else:
            await self.link.send(m.Ok(message.ask, stored.level, self.home.live.wanted))

    async def _sync(self, message: m.Put, packet: Packet, stored: Stored) -> None:
        level = await self.home.store.synced(packet, stored)
        await self.link.send(m.Ok(message.ask, level, self.home.live.wanted))

    async def seal(self, message: m.SealPut) -> None:
        seal = _read_seal(message.seal)
        if seal.tailer != self.link.peer.node:
            raise self._foreign("seal", seal.tailer)
        self._check_host(seal.host)
        await self.home.seals.put(seal, message.seal)
        self.home.roster.meet(seal.tailer, seal.host)
        await self.link.send(m.Ok(message.ask, SYNCED, self.home.live.wanted))

    async def have(self, message: m.Have) -> None:
        held = await self.home.store.receipt(message.tailer, message.epoch, message.bucket, message.sync)
        unsure = held.unsure or len(held.held) > RANGES_MAX  # what is clipped is no less here
        await self.link.send(m.Receipt(message.ask, clip(held.held), clip(held.synced), unsure))

    async def covered(self, message: m.Covered) -> None:
        found = await reading.covered(self.home.store, message.tailer, message.streams, message.heads)
        streams = tuple((*key, intervals) for key, intervals in sorted(found.streams.items()))
        await self.link.send(m.Intervals(message.ask, tuple(sorted(found.epochs.items())), streams, (), found.unsure))

    async def peers(self, message: m.Peers) -> None:
        await self.link.send(replace(self.home.view(), ask=message.ask))

    async def clock(self, message: m.Clock) -> None:
        await self.link.send(m.ClockIs(message.ask, self.home.machine.time_ns()))

    async def watch(self, message: m.Watch) -> None:
        live = self.home.live
        with live.watching(message.live) as news, self._stands(news.set):
            await news.wait()
        await self.link.send(m.Ok(message.ask, STORED, live.wanted))

    # --- from bucks -------------------------------------------------------------------------------------------------

    async def gossip(self, message: m.Gossip) -> None:
        self.home.heard(message.peers)
        await self.link.send(replace(self.home.view(), ask=message.ask))

    async def pull(self, message: m.Pull) -> None:
        missing = await self.home.puller.pull(message.source, message.bucket, message.keys)
        await self.link.send(m.Done(message.ask, missing))

    async def settle(self, message: m.Settle) -> None:
        await self.home.store.settle(message.bucket)
        await self.link.send(m.Ok(message.ask, SYNCED, self.home.live.wanted))

    # --- from porters -----------------------------------------------------------------------------------------------

    async def buckets(self, message: m.Buckets) -> None:
        found = reading.buckets(self.home.store, message.start, message.end)
        await self.link.send(m.BucketsAre(message.ask, tuple(found[:BUCKETS_MAX])))

    async def list(self, message: m.List) -> None:
        found = await reading.listing(self.home.store, message.bucket, message.host, message.path)
        conflicts = tuple(found.conflicts)
        numbers = tuple(found.entries), found.unsure, conflicts, tuple(found.archived)
        await self.link.send(m.Listing(message.ask, message.bucket, *numbers))

    async def get(self, message: m.Get) -> None:
        under_way = Reading(self.home.store, message.bucket, message.keys)
        try:
            while batch := await under_way.batch():
                for data in batch:
                    await self.link.send(m.PacketIs(message.ask, data))
            await self.link.send(m.Done(message.ask, tuple(await under_way.missing())))
        finally:
            under_way.close()

    async def list_seals(self, message: m.Seals) -> None:
        batches = await self.home.seals.batches(message.tailer, message.since)
        while batch := await batches.next():
            await self.link.send(m.SealsAre(message.ask, batch))
        await self.link.send(m.Done(message.ask, ()))

    async def streams(self, message: m.Streams) -> None:
        for some in portions(await reading.streams(self.home.store, message.bucket)):
            rows = [(key.host, key.path, key.id, tailer, intervals) for key, tailer, intervals in some]
            await self.link.send(m.StreamsAre(message.ask, tuple(rows)))
        await self.link.send(m.Done(message.ask, ()))

    async def list_roster(self, message: m.Roster) -> None:
        await self.link.send(self.home.roster.answer(message))

    async def show(self, message: m.Live) -> None:
        with self.home.live.viewing(message.query) as viewer, self._stands(viewer.close):
            await self.link.send(m.Missed(message.ask, 0))
            while taken := await viewer.take():
                missed, frame = taken
                if missed:
                    await self.link.send(m.Missed(message.ask, missed))
                if frame:
                    await self.link.send(replace(frame.rows, ask=message.ask))
        await self.link.send(m.Done(message.ask, ()))

    async def archived(self, message: m.Archived) -> None:
        statement = await self.home.machine.slow(_read_statement, message.statement)
        if statement.public != self.link.peer.public:
            raise Declined("role", "what is archived is stated by the porter whose key signed it")
        done = await self.home.pruner.prune(statement)
        why = "; ".join(done.reasons)[:TEXT_MAX]
        await self.link.send(m.Pruned(message.ask, done.parts, done.packets, done.bytes, done.kept, why))

    # --- from admins ------------------------------------------------------------------------------------------------

    async def retire(self, message: m.RetirePut) -> None:
        retirement = _read_retirement(message.retirement)
        if retirement.public != self.link.peer.public:
            raise Declined("role", "a retirement comes from the admin whose key signed it")
        await self.home.roster.retire(retirement)
        await self.link.send(m.Ok(message.ask, SYNCED, self.home.live.wanted))

    def _check_host(self, host: bytes) -> None:
        """A key that was lent for some hosts can't speak for others, whatever its Hello said."""
        grant = self.link.connection.grant
        if grant is not None and host != self.link.peer.host and not grant.fits_host(host):
            name = host.decode("utf-8", "backslashreplace")
            log.error("ALARM: a packet names a host that is not its tailer's", peer=grant.public.hex(), host=name)
            raise Declined("role", f"a packet of the host {name} can't come with this key")

    def _foreign(self, what: str, owner: bytes) -> Declined:
        peer = self.link.peer
        log.error(f"ALARM: a peer brings a {what} of another tailer", peer=peer.node.hex(), owner=owner.hex())
        return Declined("role", f"a {what} of {owner.hex()} can't come from {peer.node.hex()}")


def _read_packet(data: bytes | memoryview) -> Packet:
    try:
        return packets.read(data)
    except VersionError as error:
        raise Declined("version", str(error)) from error
    except FormatError as error:
        raise Declined("sum", f"not a good packet: {error}") from error


def _read_seal(data: bytes) -> Seal:
    try:
        return Seal.read(data)
    except VersionError as error:
        raise Declined("version", str(error)) from error
    except FormatError as error:
        raise Declined("sum", f"not a good seal: {error}") from error


def _read_retirement(data: bytes) -> Retirement:
    try:
        return Retirement.read(data)
    except VersionError as error:
        raise Declined("version", str(error)) from error
    except FormatError as error:
        raise Declined("sum", f"not a good retirement: {error}") from error


def _read_statement(data: bytes) -> Statement:
    try:
        return Statement.read(data)
    except VersionError as error:
        raise Declined("version", str(error)) from error
    except FormatError as error:
        raise Declined("sum", f"not a good statement: {error}") from error


# What is done about each message.
HANDLERS: Mapping[type[m.Message], Callable[[Session, Any], Awaitable[None]]] = {
    m.Put: Session.put,
    m.SealPut: Session.seal,
    m.Have: Session.have,
    m.Covered: Session.covered,
    m.Peers: Session.peers,
    m.Gossip: Session.gossip,
    m.Clock: Session.clock,
    m.Buckets: Session.buckets,
    m.List: Session.list,
    m.Get: Session.get,
    m.Seals: Session.list_seals,
    m.Streams: Session.streams,
    m.RetirePut: Session.retire,
    m.Roster: Session.list_roster,
    m.Archived: Session.archived,
    m.Pull: Session.pull,
    m.Settle: Session.settle,
    m.Live: Session.show,
    m.Watch: Session.watch,
}
# What may wait for a disk for long, or has no end: answered beside the reading of the next message.
BESIDE = frozenset({
    m.SealPut, m.Have, m.Covered, m.List, m.Get, m.Seals, m.Streams, m.RetirePut, m.Archived, m.Pull, m.Settle, m.Live,
    m.Watch,
})  # fmt: skip
