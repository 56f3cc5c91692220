"""A fleet without processes: a tailer that makes real packets of bytes, and bucks that hold them, in memory.

The bucks speak the real protocol over memory streams; `FakeBuck` has a switch for each way in which a buck may be
broken, slow, or a liar.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio
import trio.testing

from porter.cluster import Cluster, open_cluster
from porter.settings import PorterSettings
from protocol.connection import Connection
from protocol.errors import ProtocolError
from protocol.identity import DIGEST_SIZE, NodeKey, connection_stream, file_stream, head_hash
from protocol.kernel import Stream
from protocol.limits import BUCKETS_MAX, PACKET_VERSION, POINT_HZ
from protocol.link import Link
from protocol.messages import (
    Archived,
    Buckets,
    BucketsAre,
    Clock,
    ClockIs,
    Covered,
    Done,
    Get,
    Hello,
    Intervals,
    List,
    Listing,
    Message,
    Ok,
    PacketIs,
    Peer,
    Peers,
    Pruned,
    RetirePut,
    Roster,
    RosterIs,
    Seals,
    SealsAre,
    Streams,
    StreamsAre,
    View,
)
from protocol.packet import Class, Header, Key, Packet, build, read
from protocol.ranges import Ranges
from protocol.roster import Expected
from protocol.statement import Statement
from service.machine import RealMachine
from tailer.blocks import Blocks, Source

WIDTH = 300
BUCKET = 1_700_000_100 // WIDTH * WIDTH
ENV = "test"


def node_key(name: str) -> NodeKey:
    """Everybody's key follows from the name."""
    return NodeKey.from_seed(name.encode().ljust(32, b"."))


def stream_of(name: str) -> bytes:
    """A file's stream id."""
    return file_stream(len(name), 0, name.encode(), 0)


class FakeTailer:
    """Makes packets of what it is told to have read."""

    def __init__(self, name: str = "web1", epoch: int = 1, host: bytes | None = None) -> None:
        self.key = node_key(name)
        self.host = host if host is not None else name.encode()
        self.epoch = epoch
        self.number = 0
        self.packets: list[Packet] = []

    def read(
        self,
        path: bytes,
        raw: bytes,
        *,
        first: int = 0,
        bucket: int = BUCKET,
        stream: bytes | None = None,
        final: bool = True,
        kind: Class | None = None,
    ) -> list[Packet]:
        """One reading of some bytes of a file, as the packets that come of it (one, unless there is much)."""
        return self.read_many([(path, raw, first, stream)], bucket=bucket, final=final, kind=kind)

    def read_many(
        self,
        parts: Sequence[tuple[bytes, bytes, int, bytes | None]],
        *,
        bucket: int = BUCKET,
        final: bool = True,
        kind: Class | None = None,
    ) -> list[Packet]:
        """Several files in the same packets: (path, bytes, offset, stream) each."""
        blocks = Blocks(WIDTH, self.host, gather=True)
        arrival = bucket * POINT_HZ + 1000
        for handle, (path, raw, first, stream) in enumerate(parts):
            chosen = stream or stream_of(path.decode("latin-1"))
            source = Source(handle, chosen, path, head_hash(raw), kind or Class(), Stream())
            if raw:
                used = blocks.add(source, memoryview(raw), 0, first, arrival, final, 0.0)
                assert used == len(raw) or not final
            else:
                blocks.leave_empty(source, arrival, 0.0)
        return [self.number_it(draft) for draft in blocks.flush()]

    def number_it(self, draft: object, **changes: object) -> Packet:
        """A draft as a packet; `changes` replace members of its header."""
        facts = {name: getattr(draft, name) for name in DRAFT}
        header = Header(
            env=ENV, width=WIDTH, tailer=self.key.node, host=self.host, epoch=self.epoch, number=self.number, **facts
        )
        self.number += 1
        packet = read(build(replace(header, **changes), draft.body))
        self.packets.append(packet)
        return packet

    def number_it_again(self, packet: Packet, **changes: object) -> Packet:
        """A packet with other words in its header, and a digest that fits: what a liar sends."""
        end = len(packet.data) - DIGEST_SIZE
        return read(build(replace(packet.header, **changes), bytes(packet.data[end - len(packet.body) : end])))


DRAFT = (
    "bucket", "late", "kind", "count", "point_min", "point_max", "streams", "runs", "content", "formats", "shn",
    "app", "sizes",
)  # fmt: skip


@dataclass(eq=False)
class FakeBuck:
    """One buck's packets and seals, and what is wrong with it."""

    name: str
    address: str
    packets: dict[int, list[Packet]] = field(default_factory=lambda: defaultdict(list))
    seals: list[bytes] = field(default_factory=list)
    peers: list[FakeBuck] = field(default_factory=list)
    env: str = ENV
    width: int = WIDTH
    time_s: int = BUCKET + 3 * WIDTH
    dead: bool = False  # no connection
    unsure: bool = False
    conflicts: set[Key] = field(default_factory=set)
    spoil: Callable[[Packet], bytes | None] | None = None  # what Get sends instead; None: nothing
    arrivals: dict[int, int] = field(default_factory=dict)  # bucket -> second of its last arrival, if it matters
    expected: tuple[Expected, ...] = ()
    retired: list[bytes] = field(default_factory=list)
    mute: tuple[type[Message], ...] = ()  # questions that are never answered
    asked: list[Message] = field(default_factory=list)
    given: int = 0
    stated: list[Statement] = field(default_factory=list)  # what porters said is archived; nothing goes
    buckets_max: int = BUCKETS_MAX  # in one answer
    claimed: tuple[tuple[bytes, int, Ranges], ...] = ()  # what it lists besides, and has not

    def put(self, packets: Iterable[Packet]) -> None:
        """Hold these."""
        for packet in packets:
            self.packets[packet.header.bucket].append(packet)

    def hello(self) -> Hello:
        """Who it is."""
        versions = (PACKET_VERSION, PACKET_VERSION)
        return Hello(
            "buck", node_key(self.name).public, self.env, self.width, self.name.encode(), versions, self.address, 1
        )

    def peer(self) -> Peer:
        """What others say of it."""
        public = node_key(self.name)
        return Peer(public.node, public.public, self.address, self.name.encode(), "", 1, 1 << 30, False)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer until the peer leaves."""
        link = Link(stream, Connection(self.hello(), dialing=False))
        try:
            await link.handshake()
            async for message in link:
                self.asked.append(message)
                if not isinstance(message, self.mute):
                    for answer in self.answer(message):
                        await link.send(answer)
        except (ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the porter has gone, as it does
        finally:
            await link.aclose()

    def answer(self, message: Message) -> Iterable[Message]:
        """The answers to one question."""
        match message:
            case Peers(ask):
                return [View(ask, self.width, tuple(buck.peer() for buck in [self, *self.peers]))]
            case Covered(ask, tailer):
                return [Intervals(ask, tuple(self._epochs(tailer)), (), (), self.unsure)]
            case Clock(ask):
                return [ClockIs(ask, self.time_s * 10**9)]
            case Buckets(ask, start, end):
                found = [self._bucket(one) for one in sorted(self.packets) if start <= one < end]
                return [BucketsAre(ask, tuple(found[: self.buckets_max]))]
            case List(ask, bucket, host, path):
                held = (*self._numbers(self._matching(bucket, host, path)), *self.claimed)
                return [Listing(ask, bucket, held, self.unsure, tuple(sorted(self.conflicts)))]
            case Get():
                return self._get(message)
            case Seals(ask, _, _):
                return [SealsAre(ask, tuple(self.seals)), Done(ask, ())]
            case Roster(ask, _):
                return [RosterIs(ask, self.expected, tuple(self.retired))]
            case RetirePut(ask, retirement):
                self.retired.append(retirement)
                return [Ok(ask, 2, False)]
            case Archived(ask, statement):
                self.stated.append(Statement.read(statement))
                return [Pruned(ask, 0, 0, 0, 0, "")]
            case Streams(ask, bucket):
                return [StreamsAre(ask, tuple(self._streams(bucket))), Done(ask, ())]
        raise AssertionError(message)

    def _bucket(self, bucket: int) -> tuple[int, int, int, int, bool, bool]:
        packets = self.packets[bucket]
        arrival = self.arrivals.get(bucket, 0) * 10**9 or 1
        return bucket, sum(len(packet.data) for packet in packets), len(packets), arrival, self.unsure, False

    def _matching(self, bucket: int, host: bytes, path: bytes) -> Iterable[Packet]:
        for packet in self.packets.get(bucket, []):
            paths = {stream.path for stream in packet.header.streams}
            if (not host or packet.header.host == host) and (not path or path in paths):
                yield packet

    def _numbers(self, packets: Iterable[Packet]) -> tuple[tuple[bytes, int, Ranges], ...]:
        held: dict[tuple[bytes, int], Ranges] = defaultdict(Ranges)
        for packet in packets:
            tailer, epoch, number = packet.header.key
            held[tailer, epoch].add(number, number + 1)
        return tuple((*epoch, numbers) for epoch, numbers in held.items())

    def _epochs(self, tailer: bytes) -> Iterable[tuple[int, Ranges]]:
        everything = [packet for packets in self.packets.values() for packet in packets]
        for owner, epoch, numbers in self._numbers(everything):
            if owner == tailer:
                yield epoch, numbers

    def _get(self, question: Get) -> Iterable[Message]:
        wanted = {(tailer, epoch): numbers for tailer, epoch, numbers in question.keys}
        missing = {epoch: numbers.copy() for epoch, numbers in wanted.items()}
        for packet in self.packets.get(question.bucket, []):
            tailer, epoch, number = packet.header.key
            if number in wanted.get((tailer, epoch), Ranges()):
                data = self.spoil(packet) if self.spoil else bytes(packet.data)
                missing[tailer, epoch].discard(number, number + 1)
                if data is not None:
                    self.given += 1
                    yield PacketIs(question.ask, data)
        yield Done(question.ask, tuple((*epoch, numbers) for epoch, numbers in missing.items() if numbers))

    def _streams(self, bucket: int) -> Iterable[tuple[bytes, bytes, bytes, bytes, Ranges]]:
        for packet in self.packets.get(bucket, []):
            header = packet.header
            for index, stream in enumerate(header.streams):
                runs = Ranges((run.first, run.end) for run in header.runs if run.stream == index)
                yield header.host, stream.path, stream.id, header.tailer, runs


class FakeMachine(RealMachine):
    """A machine whose network is these bucks."""

    def __init__(self, nursery: trio.Nursery, bucks: Iterable[FakeBuck]) -> None:
        super().__init__(seed=1)
        self.random = random.Random(1)
        self._nursery = nursery
        self._bucks = {buck.address: buck for buck in bucks}

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        buck = self._bucks.get(f"{host}:{port}")
        if buck is None or buck.dead:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(buck.serve, theirs)
        return ours


def bucks_of(count: int) -> list[FakeBuck]:
    """Bucks that know each other."""
    bucks = [FakeBuck(f"buck{i}", f"buck{i}:7000") for i in range(count)]
    for buck in bucks:
        buck.peers = [other for other in bucks if other is not buck]
    return bucks


def settings_of(bucks: Sequence[FakeBuck], **more: object) -> PorterSettings:
    """A porter's settings: it is told the first buck alone."""
    return PorterSettings.model_validate(
        {"peer": [bucks[0].address], "env": ENV, "patience": 0.5, "insecure": True, **more}
    )


@asynccontextmanager
async def cluster_of(bucks: Sequence[FakeBuck], role: str = "porter", **more: object) -> AsyncIterator[Cluster]:
    """A porter's cluster over these bucks."""
    async with trio.open_nursery() as nursery:
        machine = FakeMachine(nursery, bucks)
        async with open_cluster(machine, settings_of(bucks, **more), node_key("porter"), role) as cluster:
            yield cluster
        nursery.cancel_scope.cancel()


def connection_of(counter: int) -> bytes:
    """A connection's stream id."""
    return connection_stream(1, counter)


def lines_of(first: int, count: int, text: str = "line") -> bytes:
    """Numbered lines, 40 bytes each."""
    return b"".join(f"{text} {number:>{38 - len(text)}}\n".encode() for number in range(first, first + count))


def sample_logs(shared: Path, most: int = 6) -> list[Path]:
    """Some real log files, of several formats."""
    found = sorted(path for path in (shared / "logs").rglob("*.log") if 1000 < path.stat().st_size < 3_000_000)
    return found[:: max(1, len(found) // most)][:most]
