"""What a proof costs: an audit of a day of a large fleet, and the bytes that make it possible.

a day      50 tailers, 288 buckets, two packets a second each: 8.64 million packets, every tenth of another class, so
           that sets of numbers have holes; three bucks with a copy of each, over real sockets (another process answers
           from memory); and the same day as an archive of 24 parts, their footers alone. CPU is that of the porter
bytes      one tailer's packets of real lines: at 1 MB/s (two packets a second) and at ten lines a second (a packet each
           five seconds). Proof is seals and receipts in bucks; in the archive what the footer has of packets and seals.
           16 bytes a packet are the floor: the digest in the seal, without which one lost packet would spoil the proof
           of all that were sealed with it
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import random
import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import cycle, islice
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import NamedTuple

import numpy as np
import trio

from bench import corpus
from bench.measure import Spent, here, spread
from bench.options import Options
from bench.packing import Sender, packets
from bench.report import Row
from bench.sending import key_of
from porter.archive_audit import look_at_archive
from porter.archived import Archive
from porter.audit import Audit, Found, audit, look_at_bucks
from porter.catalog import PartName
from porter.cluster import open_cluster
from porter.footer import Batch, Footer
from porter.hour import batches
from porter.objects import FolderObjects
from porter.parquet import GROUP_ROWS_MAX, Part, columns
from porter.part import PartWriter
from porter.settings import PorterSettings
from porter.shelf import block_of, spans_of
from porter.signed import Signed
from porter.source import Piece
from protocol.connection import Connection
from protocol.errors import ProtocolError
from protocol.identity import NodeKey
from protocol.limits import PACKET_VERSION
from protocol.link import Link
from protocol.messages import (
    Buckets,
    BucketsAre,
    Clock,
    ClockIs,
    Done,
    Have,
    Hello,
    List,
    Listing,
    Message,
    Peer,
    Peers,
    Receipt,
    Roster,
    RosterIs,
    Seals,
    SealsAre,
    View,
)  # fmt: skip
from protocol.packet import Class, Packet, read
from protocol.payload import dump
from protocol.ranges import Ranges
from protocol.seal import CONTENT_SIZE, FIRST, Seal, Section
from service.machine import RealMachine

TAILERS, BUCKETS, EACH, WIDTH = 50, 288, 600, 300
START = 1_790_000_400 // 86_400 * 86_400
END = START + BUCKETS * WIDTH
EPOCH = 1 << 32
KINDS = Class(), Class(3, True, True)
SEALS_AT_ONCE = 256
FAST_RAW, FAST_PACKETS = 500_000, 60
SLOW_LINES, SLOW_PACKETS, SLOW_BUCKETS = 50, 60, 12


def run(options: Options) -> list[Row]:
    """All of it."""
    folder = options.folder / "audit"
    shutil.rmtree(folder, ignore_errors=True)
    fleet = day(TAILERS)
    size = sum(len(seal.data) for chain in fleet for seal in chain)
    print(f"   {TAILERS * BUCKETS * EACH:,} packets, {size / 1e6:.0f} MB of seals")
    folder.mkdir(parents=True)
    return [*_of_bucks(fleet, options.runs), *_of_archive(fleet, folder, options.runs), *_bytes(folder)]


# --- a day ------------------------------------------------------------------------------------------------------------


def day(tailers: int) -> list[list[Seal]]:
    """The seals of so many tailers."""
    return [list(_chain(key_of(f"audit{i}"), i)) for i in range(tailers)]


def _chain(key: NodeKey, seed: int) -> Iterator[Seal]:
    """A day of one tailer: a seal a bucket, every second packet of the other class."""
    chance, previous = random.Random(seed), FIRST
    for at in range(BUCKETS):
        bucket, first = START + at * WIDTH, at * EACH
        sections = []
        other = Ranges((number, number + 1) for number in range(first, first + EACH, 10))
        for numbers, kind in zip((Ranges([(first, first + EACH)]) - other, other), KINDS, strict=True):
            contents = chance.randbytes(CONTENT_SIZE * numbers.count)
            sections.append(Section(EPOCH, bucket, kind, False, numbers, 500 * numbers.count, 0, contents))
        facts = "prod", WIDTH, key.node, key.public, b"host%02d" % seed, at, previous
        seal = Seal(*facts, bucket * 10**9, bucket + WIDTH, 0, 0, at + 1 == BUCKETS, tuple(sections), at + 1 == BUCKETS)
        seal = seal.signed(key)
        previous = seal.digest
        yield seal


class Bucks:
    """Three bucks that hold all of it, on ports of their own, in a process of their own."""

    def __init__(self, fleet: list[list[Seal]]) -> None:
        seals = [seal.data for chain in fleet for seal in chain]
        self.seals = [tuple(seals[at : at + SEALS_AT_ONCE]) for at in range(0, len(seals), SEALS_AT_ONCE)]
        self.tailers = [chain[0].tailer for chain in fleet]
        self.peers: list[Peer] = []

    def start(self) -> tuple[multiprocessing.process.BaseProcess, list[str]]:
        """Run them; their addresses."""
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=lambda: trio.run(self._serve, there), daemon=True)
        process.start()
        return process, here.recv()

    async def _serve(self, pipe: Pipe) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                key, (listener,) = key_of(f"buck{number}"), await trio.open_tcp_listeners(0, host="127.0.0.1")
                address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
                self.peers.append(Peer(key.node, key.public, address, b"buck%d" % number, "", 1, 1 << 30, False))
                versions = (PACKET_VERSION, PACKET_VERSION)
                hello = Hello("buck", key.public, "prod", WIDTH, b"buck%d" % number, versions, address, 1)
                nursery.start_soon(trio.serve_listeners, partial(self._talk, hello), [listener])
            pipe.send([peer.address for peer in self.peers])

    async def _talk(self, hello: Hello, stream: trio.SocketStream) -> None:
        link = Link(stream, Connection(hello, dialing=False))
        try:
            await link.handshake()
            async for message in link:
                for answer in self._answers(message):
                    await link.send(answer)
        except (ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the porter has what it wants
        finally:
            await link.aclose()

    def _answers(self, message: Message) -> Iterable[Message]:
        match message:
            case Peers(ask):
                return [View(ask, WIDTH, tuple(self.peers))]
            case Clock(ask):
                return [ClockIs(ask, END * 10**9)]
            case Roster(ask, _):
                return [RosterIs(ask, (), ())]
            case Buckets(ask, start, end):
                days = (START + at * WIDTH for at in range(BUCKETS))
                return [BucketsAre(ask, tuple((day, 1, 1, 1, False, False) for day in days if start <= day < end))]
            case List(ask, bucket, _, _):
                first = (bucket - START) // WIDTH * EACH
                held = tuple((tailer, EPOCH, Ranges([(first, first + EACH)])) for tailer in self.tailers)
                return [Listing(ask, bucket, held, False, ())]
            case Seals(ask, _, _):
                return [*(SealsAre(ask, some) for some in self.seals), Done(ask, ())]
        raise AssertionError(message)


def of_bucks(fleet: list[list[Seal]], runs: int) -> list[Spent]:
    """What the porter uses to audit this day from bucks, each time."""
    process, addresses = Bucks(fleet).start()
    done: list[Audit] = []

    async def look() -> None:
        settings = PorterSettings.model_validate({"peer": addresses[:1], "patience": 60.0})
        async with open_cluster(RealMachine(), settings, key_of("porter")) as cluster:
            found = Found()
            await look_at_bucks(cluster, found, START, END, False, lambda done, what: None)
            done.append(audit("prod", found, START, END))

    try:
        spent = [here(lambda: trio.run(look)) for _ in range(runs)]
    finally:
        process.kill()
    assert {one.verdict.state for one in done} == {"complete"}, done[0].troubles
    return spent


def _of_bucks(fleet: list[list[Seal]], runs: int) -> list[Row]:
    spent = of_bucks(fleet, runs)
    cpu = spread([one.cpu_s for one in spent])
    return [
        Row("audit", "a day of 50 tailers, from bucks: CPU", cpu, "s", most=15.0),
        Row("audit", "the same: time", spread([one.wall_s for one in spent]), "s"),
    ]


def _of_archive(fleet: list[list[Seal]], folder: Path, runs: int) -> list[Row]:
    """24 parts that have footers and no rows: what an audit without `--deep` reads."""
    objects = FolderObjects(folder / "day")
    for hour in range(24):
        footer = Footer("prod", WIDTH, START + hour * 3600)
        for chain in fleet:
            for seal in chain[12 * hour : 12 * hour + 12]:
                footer.seals.append(seal.data)
                for section in seal.sections:
                    facts = seal.tailer, EPOCH, seal.host, section.bucket, False, section.kind.code()
                    footer.packets.append(Batch(*facts, section.numbers, (500,) * section.numbers.count))
        out = PartWriter(folder / "part", footer, 0)
        out.close(())
        out.put(objects, PartName("prod", footer.hour, "p", 0))
    size = sum(info.size for info in objects.list())

    async def look() -> None:
        found = Found()
        with Archive(RealMachine(), objects, "prod") as archive:
            await look_at_archive(archive, found)
        state = audit("prod", found, START, END).verdict.state
        assert state == "complete", state

    spent = [here(lambda: trio.run(look)) for _ in range(runs)]
    count = TAILERS * BUCKETS * EACH
    return [
        Row("audit", "the same day, from an archive: CPU", spread([one.cpu_s for one in spent]), "s", most=15.0),
        Row("audit", "footers, a packet", spread([size / count]), "B", note="16 are the digest in the seal"),
    ]


# --- bytes ------------------------------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """What a proof takes, as a share of what is stored."""

    bucks: float
    with_digests: float  # those in packets too: whole digest, and content
    archive: float
    floor: float  # of that the digests in seals alone


def rates(folder: Path) -> dict[str, Cost]:
    """One tailer's proof against what is stored, at two rates."""
    lines = corpus.SHARED / "loghub_full/Linux.log"
    data = lines.read_bytes()
    fast = b"".join(islice(cycle([data]), FAST_RAW * FAST_PACKETS // len(data) + 1))[: FAST_RAW * FAST_PACKETS]
    few = b"".join(islice(cycle(data.splitlines(keepends=True)), SLOW_LINES * SLOW_PACKETS * SLOW_BUCKETS))
    at_speed = _cost(folder, fast, FAST_RAW, 600)
    slow = _cost(folder, few, len(few) // (SLOW_PACKETS * SLOW_BUCKETS), SLOW_PACKETS)
    return {"1 MB/s": at_speed, "10 lines/s": slow}


def _bytes(folder: Path) -> list[Row]:
    rows: list[Row] = []
    for (what, cost), most in zip(rates(folder).items(), (0.5, 5.0), strict=True):
        rows += [
            Row("audit", f"seals and receipts of what bucks store, {what}", spread([100 * cost.bucks]), "%", most=most),
            Row("audit", f"the same and digests in packets, {what}", spread([100 * cost.with_digests]), "%"),
            Row(
                "audit",
                f"proof of what the archive stores, {what}",
                spread([100 * cost.archive]),
                "%",
                most=most,
                note=f"16 bytes a packet are {100 * cost.floor:.2g} %",
            ),
        ]
    return rows


def _cost(folder: Path, data: bytes, piece: int, bucket_packets: int) -> Cost:
    """`bucket_packets`: so many share a seal."""
    key = key_of("bytes")
    made = [read(one) for one in packets({b"/var/log/syslog": data}, Sender(key.node, b"host1"), piece)]
    seals: list[Seal] = []
    for at in range(0, len(made), bucket_packets):
        seals.append(_sealed(key, made[at : at + bucket_packets], seals))
    stored = sum(len(packet.data) for packet in made)
    numbers = Ranges([(0, bucket_packets)])
    asked = Have(1, key.node, EPOCH, START, True), Receipt(1, numbers, numbers, False)
    receipts = sum(5 + sum(map(len, dump(one))) for one in asked)  # 5: a frame's length and type
    share = len(made) / (len(seals) * bucket_packets)  # of the last bucket only a part may be here
    proof = share * sum(len(seal.data) + receipts for seal in seals)
    digests = proof + 64 * len(made)
    whole, bare = _part(folder, made, seals)
    return Cost(proof / stored, digests / stored, (whole - bare) / whole, CONTENT_SIZE * len(made) / whole)


def _sealed(key: NodeKey, some: list[Packet], before: list[Seal]) -> Seal:
    header, numbers = some[0].header, Ranges((one.header.number, one.header.number + 1) for one in some)
    contents = b"".join(one.header.content[:CONTENT_SIZE] for one in some)
    counts = sum(one.header.count for one in some), sum(one.header.raw for one in some), contents
    section = Section(header.epoch, header.bucket, header.kind, header.late, numbers, *counts)
    previous = before[-1].digest if before else FIRST
    facts = "prod", WIDTH, key.node, key.public, header.host, len(before), previous, START * 10**9
    return Seal(*facts, START, 0, 0, False, (section,)).signed(key)


def _part(folder: Path, made: list[Packet], seals: list[Seal]) -> tuple[int, int]:
    """The size of these packets as a part of the archive, and of the same without packets and seals in its footer."""
    sizes: list[int] = []
    for proved in (True, False):
        footer = Footer("prod", WIDTH, START)
        out = PartWriter(folder / "rows", footer, sum(packet.header.raw for packet in made))
        waiting: list[Part] = []
        for packet in made:
            block = block_of(packet)
            row = 0
            batch = columns(block)
            for span in spans_of(packet.header):
                waiting.append(Part(Piece(span, block, row, row + span.count), batch, np.arange(row, row + span.count)))
                row += span.count
            if sum(len(part.rows) for part in waiting) > GROUP_ROWS_MAX * 3 // 4:
                out.write(waiting)
        if waiting:
            out.write(waiting)
        if proved:
            footer.seals = [seal.data for seal in seals]
            footer.packets = batches([packet.header for packet in made], Signed(seals))
        out.close(())
        sizes.append(os.path.getsize(folder / "rows"))
    return sizes[0], sizes[1]
