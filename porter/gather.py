"""One bucket's packets, each once, from whoever has a good copy.

    survey   every live buck is asked which packet numbers it holds; who is silent or unsure is noted
    fetch    each buck fetches in a task of its own: it takes a batch of numbers that it holds and nobody has taken
             yet, so the load spreads by itself and a slow buck takes less; batches are small, so little is in flight
    verify   each packet's digest, and that it is what was asked for: a buck may be broken, or lie
    fall back  what was missing, damaged, or not answered in time goes back to be taken by another holder; what no
             holder has left is `missing`, and never silent

Two packets with the same key and other bytes are a conflict. Where a buck knows of one, every holder is asked, and
every version is given out, in order of digest, so that nobody's luck decides which one is seen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from porter.cluster import Cluster
from porter.member import Member
from porter.pool import Epoch, Numbers, Pool, raise_levels, unite
from protocol.errors import FormatError
from protocol.messages import Get, List, Listing, PacketIs
from protocol.packet import Key, Packet, read
from protocol.ranges import Ranges

__all__ = [
    "AT_ONCE",
    "Bad",
    "Epoch",
    "Harvest",
    "Numbers",
    "Survey",
    "Want",
    "everything",
    "fetch",
    "survey",
    "survey_all",
]

BATCH_BYTES = 4 << 20  # of packets in one question: enough to hide the round trip, little enough to be lost
BATCH_FIRST, BATCH_MAX = 16, 1024
LISTED_MAX = (
    1 << 24
)  # packets of a bucket that one buck may list: 50,000 a second; who lists more keeps us busy for ever
AT_ONCE = 16  # buckets that are surveyed together


Want = Callable[[Epoch, Ranges], Ranges]
NOTHING_SIGNED: Mapping[Key, bytes] = {}


def everything(_epoch: Epoch, numbers: Ranges) -> Ranges:
    """The `want` that wants all."""
    return numbers


@dataclass
class Survey:
    """What each buck says it holds of a bucket."""

    bucket: int
    held: dict[Member, Numbers] = field(default_factory=dict)
    conflicts: set[Key] = field(default_factory=set)
    unsure: list[Member] = field(default_factory=list)
    silent: list[Member] = field(default_factory=list)
    archived: Numbers = field(default_factory=dict)  # what bucks have let go of, because it is in the archive

    @property
    def sure(self) -> bool:
        """Is what nobody holds really not there?"""
        return not self.unsure and not self.silent

    def union(self) -> Numbers:
        """What anybody holds."""
        return unite(self.held.values())

    def copies(self) -> list[Numbers]:
        """At [k]: what at least k + 1 bucks hold."""
        levels: list[Numbers] = []
        for numbers in self.held.values():
            for epoch, more in numbers.items():
                raise_levels(levels, epoch, more)
        return levels


class Bad(NamedTuple):
    """A copy that could not be used, whose it was, and why."""

    member: Member
    bucket: int
    key: Key | None  # None: what came does not even say what it is
    why: str


class Harvest:
    """Packets as they come in (`async for packet in harvest`), and, after the last one, what could not be had."""

    def __init__(self, bucket: int, packets: trio.MemoryReceiveChannel[Packet]) -> None:
        self.bucket = bucket
        self.missing: Numbers = {}
        self.bad: list[Bad] = []
        self._packets = packets

    def __aiter__(self) -> AsyncIterator[Packet]:
        return self._packets.__aiter__()


async def survey(cluster: Cluster, bucket: int, host: bytes = b"", path: bytes = b"") -> Survey:
    """Ask every member what it holds of a bucket; of a host's path, if these are given."""
    return (await survey_all(cluster, [bucket], host, path))[0]


async def survey_all(cluster: Cluster, buckets: Sequence[int], host: bytes = b"", path: bytes = b"") -> list[Survey]:
    """`survey` of some buckets, all at once: a round trip each would make days of small buckets slow."""
    found = [Survey(bucket) for bucket in buckets]
    listed = await cluster.ask_each([List(0, bucket, host, path) for bucket in buckets])
    for one, answers in zip(found, listed, strict=True):
        for member, listing in answers:
            assert isinstance(listing, Listing)
            held, gone = _listed(listing.entries), _listed(listing.archived)
            if max(_count(held), _count(gone)) > LISTED_MAX:
                member.trouble = (
                    member.trouble or f"it lists {_count(held) + _count(gone)} packets of one bucket: it lies"
                )
                continue
            one.held[member] = held
            one.conflicts.update(Key(*key) for key in listing.conflicts)
            one.archived = unite([one.archived, gone])
            if listing.unsure:
                one.unsure.append(member)
        one.silent = cluster.silent
    return found


def _listed(entries: Iterable[tuple[bytes, int, Ranges]]) -> Numbers:
    """What a listing names; an epoch with very many holes comes in several entries."""
    return unite({Epoch(tailer, epoch): numbers} for tailer, epoch, numbers in entries)


def _count(numbers: Numbers) -> int:
    return sum(one.count for one in numbers.values())


@asynccontextmanager
async def fetch(
    cluster: Cluster, found: Survey, want: Want = everything, signed: Mapping[Key, bytes] = NOTHING_SIGNED
) -> AsyncIterator[Harvest]:
    """Fetch what `want` wants of a bucket. Leaving the block early stops the fetching.

    `signed`: how a packet's content must begin, where its tailer has stated it; a copy of which it doesn't is no good.
    """
    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[Packet](0)
        harvest = Harvest(found.bucket, receive)
        nursery.start_soon(_Fetch(cluster, found, want, harvest, send, signed).run)
        async with receive:
            yield harvest
        nursery.cancel_scope.cancel()


class _Fetch:
    """One bucket's fetching: a pool of wanted numbers, and a task a member that takes from it."""

    def __init__(
        self,
        cluster: Cluster,
        found: Survey,
        want: Want,
        harvest: Harvest,
        send: trio.MemorySendChannel[Packet],
        signed: Mapping[Key, bytes],
    ) -> None:
        self.cluster = cluster
        self.signed = signed
        self.harvest = harvest
        self.send = send
        wanted = {epoch: want(epoch, numbers) for epoch, numbers in found.union().items()}
        contested = {key for key in found.conflicts if key.number in wanted.get(Epoch(*key[:2]), Ranges())}
        for key in contested:
            wanted[Epoch(*key[:2])].discard(key.number, key.number + 1)
        self.contested = sorted(contested)
        self.pool = Pool(found.held, wanted)
        self.batch = BATCH_FIRST
        self.seen = self.size = 0
        self.changed = trio.Event()

    async def run(self) -> None:
        async with self.send:
            members = self.cluster.live
            wanted = sum(numbers.count for numbers in self.pool.left.values())
            few = -(-wanted // BATCH_FIRST)  # so many can be of use: a small bucket is one member's, each another's
            if few < len(members):
                first = self.harvest.bucket // self.cluster.width % len(members) if self.cluster.width else 0
                await self._share([*members[first:], *members[:first]][:few])
            if any(self.pool.left.values()):
                await self._share(members)
            for key in self.contested:
                await self._contest(key)
        self.harvest.missing = unite([self.harvest.missing, self.pool.rest()])

    async def _share(self, members: Sequence[Member]) -> None:
        """Let these members fetch what they can."""
        async with trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(self._work, member)

    async def _work(self, member: Member) -> None:
        """Take, fetch, until nothing is left that this member could still be asked for."""
        while member.live:
            taken = self.pool.take(member, self.batch)
            if taken:
                had = await self._get(member, taken)
                self.pool.done(member, taken, had)
                self.changed.set()
                self.changed = trio.Event()
            elif self.pool.flying:
                await self.changed.wait()  # another member may yet fail, and leave its numbers to us
            else:
                return

    async def _get(self, member: Member, taken: Numbers) -> Numbers:
        """Fetch a batch; what came, and is good. A packet that was not asked for is not taken."""
        had: Numbers = {}
        keys = tuple((*epoch, numbers) for epoch, numbers in taken.items())
        with self.cluster.ask_many(member, Get(0, self.harvest.bucket, keys)) as parts:
            async for part in parts:
                packet = self._verified(member, part, taken, had)
                if packet is not None:
                    number = packet.header.number
                    had.setdefault(Epoch(*packet.header.key[:2]), Ranges()).add(number, number + 1)
                    self._measure(packet)
                    await self.send.send(packet)
        return had

    def _measure(self, packet: Packet) -> None:
        self.seen += 1
        self.size += len(packet.data)
        self.batch = max(1, min(BATCH_MAX, BATCH_BYTES * self.seen // self.size))

    def _verified(self, member: Member, part: object, taken: Numbers, had: Numbers) -> Packet | None:
        """The packet of one part, if it is one, is whole, and was asked for and not given yet."""
        if not isinstance(part, PacketIs):
            return None
        try:
            packet = read(part.packet)
        except FormatError as error:
            self.harvest.bad.append(Bad(member, self.harvest.bucket, None, str(error)))
            return None
        header = packet.header
        epoch = Epoch(header.tailer, header.epoch)
        asked = header.number in taken.get(epoch, Ranges()) and header.number not in had.get(epoch, Ranges())
        if not asked or header.bucket != self.harvest.bucket or header.env != self.cluster.settings.env:
            self.harvest.bad.append(Bad(member, self.harvest.bucket, header.key, "not what was asked for"))
            return None
        if not header.content.startswith(self.signed.get(header.key, b"")) and header.key not in self.contested:
            self.harvest.bad.append(Bad(member, self.harvest.bucket, header.key, "not what its tailer has signed"))
            return None
        return packet

    async def _contest(self, key: Key) -> None:
        """A key with several packets: every version that any member gives."""
        versions: dict[bytes, Packet] = {}
        epoch, numbers = Epoch(*key[:2]), Ranges([(key.number, key.number + 1)])
        taken = {epoch: numbers}
        question = Get(0, self.harvest.bucket, ((*epoch, numbers),))
        for member in self.cluster.live:
            with self.cluster.ask_many(member, question) as parts:
                async for part in parts:
                    packet = self._verified(member, part, taken, {})
                    if packet is not None:
                        versions.setdefault(packet.digest, packet)
        if not versions:
            self.harvest.missing.setdefault(epoch, Ranges()).add(key.number, key.number + 1)
        for digest in sorted(versions):
            await self.send.send(versions[digest])
