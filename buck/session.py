"""One connection: a table says for each message what is done about it.

Puts are answered in order and at once where there is one disk; what waits for a disk (a put where there are several, a
packet that must be fsynced, a seal, a receipt with sync, packets and lists for a porter) goes on beside, at most
BESIDE_MAX at a time, so that it holds up nobody. A peer that doesn't read its answers holds up only itself: sending
waits, and then nothing more is read from it.
What a question or an answer weighs is reserved before it is there (buck/budget.py), and a question is gone before its
answer is sent.

What a peer may ask is decided by its role before it gets here (protocol/conversation.py); what is checked here is that
a tailer puts packets and seals of its own only.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol, TypeVar, TypeVarTuple

import trio

from buck import reading
from buck.budget import Answers, Memory, Metered
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
from protocol.limits import (
    FRAME_SIZE_MAX,
    LIST_FRAME_MAX,
    LIVE_AGE_MS,
    LIVE_LINK_MAX,
    RANGES_MAX,
    TEXT_MAX,
)
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
INTERVAL_SIZE = 18  # of an answer: two integers of msgpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Bytes = TypeVar("Bytes", bound=bytes | memoryview)
# Gives the last answer; None if it has sent all by itself, or somebody else will.
Handler = Callable[[*Ts], Awaitable[m.Message | None]]


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
    memory: Memory

    def view(self) -> m.View: ...

    def heard(self, peers: tuple[m.Peer, ...]) -> None: ...


class Session:
    """The answering side of one link, after its handshake."""

    def __init__(self, home: Home, link: Link, stream: Metered, nursery: trio.Nursery) -> None:
        self.home = home
        self.link = link
        self.stream = stream
        self._nursery = nursery
        self._acks: list[m.Ok] = []
        self._acking = trio.Lock()
        self._answers = Answers(home.memory, link)
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
                answer = await self._handle(message)
                del message  # sending may wait for long, and nothing is kept so long that isn't accounted for
                self.stream.done()
                if answer is not None:
                    await self._reply(answer)
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

    async def _handle(self, message: Any) -> m.Message | None:
        handler = HANDLERS[type(message)]
        if type(message) in BESIDE or (type(message) is m.Put and self.home.store.waits):
            await self._go_beside(message.ask, handler, self, message)
            return None
        return await self._answer(message.ask, handler, self, message)

    async def _go_beside(self, ask: int, handler: "Handler[*Ts]", *args: *Ts) -> None:
        """Let an answer take its time; the memory of its question stays reserved so long."""
        await self._beside.acquire()
        try:
            size = await self.stream.keep()
        except BaseException:
            self._beside.release()
            raise
        self._nursery.start_soon(self._run_beside, size, ask, handler, args)

    async def _run_beside(self, size: int, ask: int, handler: "Handler[*Ts]", args: tuple[*Ts]) -> None:
        try:
            answer = await self._answer(ask, handler, *args)
            del args
            size = self.stream.let_go(size)
            if answer is not None:
                await self._reply_beside(answer)
        finally:
            self.stream.let_go(size)
            self._beside.release()

    async def _answer(self, ask: int, handler: "Handler[*Ts]", *args: *Ts) -> m.Message | None:
        try:
            return await handler(*args)
        except Declined as no:
            self.home.counts.refused[no.reason].inc()
            return m.No(ask, no.reason, no.text)
        except TooLargeError as error:
            return self._too_large(ask, error)

    async def _reply(self, answer: Any) -> None:
        try:
            await self.link.send(answer)
        except TooLargeError as error:
            await self.link.send(self._too_large(answer.ask, error))

    async def _reply_beside(self, answer: Any) -> None:
        """The same from beside the reader; acks that are ready at the same time go together."""
        if type(answer) is not m.Ok:
            await self._reply(answer)
            return
        self._acks.append(answer)
        async with self._acking:
            acks, self._acks = self._acks, []
            if acks:  # else who had the turn before has sent it too
                await self.link.send_all(acks)

    def _too_large(self, ask: int, error: TooLargeError) -> m.No:
        """Our bug, brought to light by what one peer put here, or asks: no reason to leave all the others."""
        self.home.counts.refused["size"].inc()
        log.error("ALARM: an answer is too large to be sent", peer=self.link.peer.node.hex(), why=str(error))
        return m.No(ask, "size", str(error))

    # --- from tailers ---------------------------------------------------------------------------------------------

    async def put(self, message: m.Put) -> m.Message | None:
        packet = _read(packets.read, message.packet, "packet")
        if packet.header.tailer != self.link.peer.node:
            raise self._foreign("packet", packet.header.tailer)
        self._check_host(packet.header.host)
        self.home.counts.costs.moved(packet.header.kind.label, len(packet.data))
        stored = await self.home.store.put(packet, packet.header.tailer)
        self.home.roster.meet(packet.header.tailer, packet.header.host)
        if self.home.live.wanted and not (message.again or stored.is_repeat) and message.age_ms < LIVE_AGE_MS:
            self.home.live.offer(packet)
        if packet.header.kind.sync and stored.level < SYNCED:
            if self.home.store.waits:
                return await self._sync(message.ask, packet, stored)  # it is beside already
            await self._go_beside(message.ask, self._sync, message.ask, packet, stored)
            return None
        return m.Ok(message.ask, stored.level, self.home.live.wanted)

    async def _sync(self, ask: int, packet: Packet, stored: Stored) -> m.Message | None:
        level = await self.home.store.synced(packet, stored)
        return m.Ok(ask, level, self.home.live.wanted)

    async def seal(self, message: m.SealPut) -> m.Message | None:
        seal = _read(Seal.read, message.seal, "seal")
        if seal.tailer != self.link.peer.node:
            raise self._foreign("seal", seal.tailer)
        self._check_host(seal.host)
        await self.home.seals.put(seal, message.seal)
        self.home.roster.meet(seal.tailer, seal.host)
        return m.Ok(message.ask, SYNCED, self.home.live.wanted)

    async def have(self, message: m.Have) -> m.Message | None:
        held = await self.home.store.receipt(message.tailer, message.epoch, message.bucket, message.sync)
        unsure = held.unsure or len(held.held) > RANGES_MAX  # what is clipped is no less here
        async with self._answers.room(INTERVAL_SIZE * (len(held.held) + len(held.synced))) as room:
            await room.send(m.Receipt(message.ask, clip(held.held), clip(held.synced), unsure))
        return None

    async def covered(self, message: m.Covered) -> m.Message | None:
        async with self._answers.room(FRAME_SIZE_MAX) as room:
            found = await reading.covered(self.home.store, message.tailer, message.streams, message.heads)
            streams = tuple((*key, intervals) for key, intervals in sorted(found.streams.items()))
            epochs = tuple(sorted(found.epochs.items()))
            await room.send(m.Intervals(message.ask, epochs, streams, (), found.unsure))
        return None

    async def peers(self, message: m.Peers) -> m.Message | None:
        return replace(self.home.view(), ask=message.ask)

    async def clock(self, message: m.Clock) -> m.Message | None:
        return m.ClockIs(message.ask, self.home.machine.time_ns())

    async def watch(self, message: m.Watch) -> m.Message | None:
        live = self.home.live
        with live.watching(message.live) as news, self._stands(news.set):
            await news.wait()
        return m.Ok(message.ask, STORED, live.wanted)

    # --- from bucks -------------------------------------------------------------------------------------------------

    async def gossip(self, message: m.Gossip) -> m.Message | None:
        self.home.heard(message.peers)
        return replace(self.home.view(), ask=message.ask)

    async def pull(self, message: m.Pull) -> m.Message | None:
        missing = await self.home.puller.pull(message.source, message.bucket, message.keys)
        return m.Done(message.ask, missing)

    async def settle(self, message: m.Settle) -> m.Message | None:
        await self.home.store.settle(message.bucket)
        return m.Ok(message.ask, SYNCED, self.home.live.wanted)

    # --- from porters -----------------------------------------------------------------------------------------------

    async def buckets(self, message: m.Buckets) -> m.Message | None:
        found = reading.buckets(self.home.store, message.start, message.end)
        return m.BucketsAre(message.ask, tuple(found))

    async def list(self, message: m.List) -> m.Message | None:
        async with self._answers.room(m.Listing.size_max) as room:
            found = await reading.listing(self.home.store, message.bucket, message.host, message.path)
            conflicts = tuple(found.conflicts)
            numbers = tuple(found.entries), found.unsure, conflicts, tuple(found.archived)
            await room.send(m.Listing(message.ask, message.bucket, *numbers))
        return None

    async def get(self, message: m.Get) -> m.Message | None:
        under_way = Reading(self.home.store, message.bucket, message.keys)
        try:
            while size := await under_way.look():
                async with self._answers.room(size) as room:
                    for data in await under_way.batch():
                        await room.send(m.PacketIs(message.ask, data))
            return m.Done(message.ask, tuple(await under_way.missing()))
        finally:
            under_way.close()

    async def list_seals(self, message: m.Seals) -> m.Message | None:
        batches = await self.home.seals.batches(message.tailer, message.since)
        more = True
        while more:
            async with self._answers.room(LIST_FRAME_MAX) as room:
                batch = await batches.next()
                more = bool(batch)
                await room.send(m.SealsAre(message.ask, batch) if batch else m.Done(message.ask, ()))
        return None

    async def streams(self, message: m.Streams) -> m.Message | None:
        async with self._answers.room(FRAME_SIZE_MAX) as room:
            for some in portions(await reading.streams(self.home.store, message.bucket)):
                rows = [(key.host, key.path, key.id, tailer, intervals) for key, tailer, intervals in some]
                await room.send(m.StreamsAre(message.ask, tuple(rows)))
        return m.Done(message.ask, ())

    async def list_roster(self, message: m.Roster) -> m.Message | None:
        async with self._answers.room(self.home.roster.size(message)) as room:
            await room.send(self.home.roster.answer(message))
        return None

    async def show(self, message: m.Live) -> m.Message | None:
        with self.home.live.viewing(message.query) as viewer, self._stands(viewer.close):
            await self.link.send(m.Missed(message.ask, 0))
            while taken := await viewer.take():
                missed, frame = taken
                if missed:
                    await self.link.send(m.Missed(message.ask, missed))
                if frame:
                    await self.link.send(replace(frame.rows, ask=message.ask))
        return m.Done(message.ask, ())

    async def archived(self, message: m.Archived) -> m.Message | None:
        statement = await self.home.machine.slow(_read, Statement.read, message.statement, "statement")
        if statement.public != self.link.peer.public:
            raise Declined("role", "what is archived is stated by the porter whose key signed it")
        done = await self.home.pruner.prune(statement)
        why = "; ".join(done.reasons)[:TEXT_MAX]
        return m.Pruned(message.ask, done.parts, done.packets, done.bytes, done.kept, why)

    # --- from admins ------------------------------------------------------------------------------------------------

    async def retire(self, message: m.RetirePut) -> m.Message | None:
        retirement = _read(Retirement.read, message.retirement, "retirement")
        if retirement.public != self.link.peer.public:
            raise Declined("role", "a retirement comes from the admin whose key signed it")
        await self.home.roster.retire(retirement)
        return m.Ok(message.ask, SYNCED, self.home.live.wanted)

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


def _read(read: Callable[[Bytes], T], data: Bytes, what: str) -> T:
    try:
        return read(data)
    except VersionError as error:
        raise Declined("version", str(error)) from error
    except FormatError as error:
        raise Declined("sum", f"not a good {what}: {error}") from error


# What is done about each message.
HANDLERS: Mapping[type[m.Message], Callable[[Session, Any], Awaitable[m.Message | None]]] = {
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
    m.SealPut, m.Have, m.Covered, m.List, m.Get, m.Seals, m.Streams, m.RetirePut, m.Roster, m.Archived, m.Pull,
    m.Settle, m.Live, m.Watch,
})  # fmt: skip
