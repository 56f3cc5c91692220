"""The bucks as a porter sees them: who there is, who answers, and how to ask all of them at once.

One address is enough. Whoever answers is asked for its peers, these are dialled too, and so on until nobody new turns
up. A peer that can't be reached stays on the list as a *silent* member with the reason beside it: what it holds is not
known, and a job must say so rather than call anything complete.

A link lives in a task of its own until the job ends. A member that doesn't answer a question in time is silent from
then on: jobs are short, and each packet has other copies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from porter.member import Answer, Member, Parts, ask_each, said
from porter.settings import PorterSettings
from protocol.errors import FormatError, ProtocolError, Refused, VersionError
from protocol.identity import NodeKey
from protocol.limits import BUCKETS_MAX, PACKET_VERSION
from protocol.link import open_asker
from protocol.messages import (
    Buckets,
    BucketsAre,
    Clock,
    ClockIs,
    Hello,
    Peer,
    Peers,
    Question,
    Seals,
    SealsAre,
    Streams,
    StreamsAre,
    View,
)
from protocol.ranges import Ranges
from protocol.seal import Seal
from service.config import ConfigError
from service.machine import Machine
from service.run import leaves
from service.units import Address, read_address

if TYPE_CHECKING:
    from protocol.secure import Security
    from protocol.trust import Trust

__all__ = ["Answer", "Bucket", "Cluster", "Member", "NobodyError", "Sealed", "open_cluster"]

CONNECT_S = 5.0
OURS = ("env", "width", "version", "role", "security")  # another peer would refuse the same


StreamRow = tuple[bytes, bytes, bytes, bytes, Ranges]  # host, path, stream, tailer, offsets


class NobodyError(Exception):
    """No buck can be asked: one line, exit code 1."""


@dataclass(frozen=True)
class Bucket:
    """One bucket, over all bucks: the largest figures that any of them gave."""

    bucket: int
    size: int
    packets: int
    last_arrival_ns: int
    unsure: bool
    archived: bool = False  # some of it was let go of by a buck, because it is in the archive

    @property
    def held(self) -> bool:
        """Is there anything of it on any buck, as far as these know?"""
        return self.packets > 0 or self.unsure


@dataclass(frozen=True)
class Sealed:
    """All seals that can be had, each once; `forged` names who showed one that doesn't hold, or can't be read."""

    seals: tuple[Seal, ...]
    forged: tuple[str, ...]


@asynccontextmanager
async def open_cluster(
    machine: Machine,
    settings: PorterSettings,
    key: NodeKey,
    role: str = "porter",
    security: Security | None = None,
) -> AsyncIterator[Cluster]:
    """Links to every buck that can be reached, until the block ends. NobodyError if there is none."""
    async with trio.open_nursery() as nursery:
        cluster = Cluster(machine, settings, key, nursery, role, security)
        await cluster.join(settings.peers)
        try:
            yield cluster
        finally:
            nursery.cancel_scope.cancel()


class Cluster:
    """The members, in the order they were met."""

    def __init__(
        self,
        machine: Machine,
        settings: PorterSettings,
        key: NodeKey,
        nursery: trio.Nursery,
        role: str = "porter",
        security: Security | None = None,
    ) -> None:
        self.machine = machine
        self.settings = settings
        self.key = key
        self.role = role
        self.width = 0
        self.members: list[Member] = []
        self._nursery = nursery
        self._security = security

    @property
    def trust(self) -> Trust | None:
        """The list of keys, where there are some."""
        return self._security.trust if self._security else None

    @property
    def live(self) -> list[Member]:
        """Those that answer."""
        return [member for member in self.members if member.live]

    @property
    def silent(self) -> list[Member]:
        """Those whose packets we can't know of. One that leaves is no member: others have its copies."""
        return [member for member in self.members if not member.live and not member.leaving]

    async def join(self, addresses: Sequence[Address]) -> None:
        """Connect to these, and to everybody they know."""
        met = {str(address) for address in addresses}
        fresh = [Member(address) for address in dict.fromkeys(map(str, addresses))]
        while fresh:
            async with trio.open_nursery() as nursery:
                for member in fresh:
                    nursery.start_soon(self._nursery.start, self._hold, member)
            self.members += fresh
            self._drop_twins()
            learnt = await self._learn()
            fresh = [Member(peer.address, peer.node, peer.host, peer) for peer in learnt if peer.address not in met]
            met |= {member.address for member in fresh}
        if not self.live:
            raise NobodyError(_nobody(self.members))

    def _drop_twins(self) -> None:
        """One buck by two names (localhost, its advertised address) is one member: the one that answers."""
        first: dict[bytes, Member] = {}
        for member in sorted(self.members, key=lambda one: not one.live):
            first.setdefault(member.node or member.address.encode(), member)
        self.members = [member for member in self.members if member in first.values()]

    async def _learn(self) -> list[Peer]:
        """The peers that members know and we don't; what is said of known ones is noted."""
        known = {member.node: member for member in self.members if member.node}
        fresh: dict[bytes, Peer] = {}
        for answer in await self.ask_all(Peers(0)):
            assert isinstance(answer.message, View)
            self.width = self.width or answer.message.width
            for peer in answer.message.peers:
                if peer.node not in known:
                    fresh.setdefault(peer.node, peer)
                else:
                    known[peer.node].peer = peer
        return list(fresh.values())

    async def _hold(self, member: Member, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep one link until the job ends, or the link does."""
        try:
            address = read_address(member.address)
            with trio.fail_after(CONNECT_S):
                stream = await self.machine.connect(address.host, address.port)
            patience, check, security = self.settings.patience, partial(self._check, member), self._security
            async with open_asker(stream, self._hello(), timeout_s=patience, check=check, security=security) as asker:
                hello = asker.peer
                member.node, member.host, member.asker = hello.node, hello.host, asker
                task_status.started()
                await asker.lost.wait()
                member.trouble = member.trouble or "the link broke"
        except* (OSError, ValueError, ProtocolError, trio.TooSlowError, trio.BrokenResourceError) as group:
            self._fail(member, group)
        if member.asker is None:
            task_status.started()

    def _hello(self) -> Hello:
        versions = (PACKET_VERSION, PACKET_VERSION)
        host = self.machine.host.encode()
        return Hello(
            self.role, self.key.public, self.settings.env, self.width, host, versions, "", self.machine.time_ns()
        )

    def _check(self, member: Member, hello: Hello) -> str | None:
        """Buckets of two widths can't be read as one; the first member's is that of the cluster."""
        if hello.env != self.settings.env:
            member.trouble = f"it belongs to env {hello.env}, not {self.settings.env} (see --env)"
            return "env"
        self.width = self.width or hello.width
        if hello.width and hello.width != self.width:
            member.trouble = f"its buckets are {hello.width} s wide, those of another buck {self.width} s"
            return "width"
        return None

    def _fail(self, member: Member, group: BaseExceptionGroup[BaseException]) -> None:
        """Named in the settings, and it refuses what we are: a mistake in them. Anything else is its own trouble."""
        errors = list(leaves(group))
        for error in errors:
            if isinstance(error, Refused) and error.reason in OURS and member.peer is None:
                hint = " (see --env)" if error.reason == "env" else ""
                raise ConfigError(f"{member.address}: {member.trouble or error.text + hint}") from None
        member.trouble = member.trouble or "; ".join(dict.fromkeys(said(error) for error in errors))

    async def ask(self, member: Member, question: Question) -> Answer | None:
        """One question to one member; None if it doesn't answer, and then it is silent from now on."""
        return next(iter(await ask_each(member, [question], self.settings.patience)), None)

    async def ask_all(self, question: Question) -> list[Answer]:
        """The same question to all live members at once; the answers, in the order of members."""
        return (await self.ask_each([question]))[0]

    async def ask_each(self, questions: Sequence[Question]) -> list[list[Answer]]:
        """Some questions to all live members, all at once; the answers to each, in the order of members."""
        found: dict[Member, list[Answer]] = {}

        async def one(member: Member) -> None:
            found[member] = await ask_each(member, questions, self.settings.patience)

        async with trio.open_nursery() as nursery:
            for member in self.live:
                nursery.start_soon(one, member)
        had = [found[member] for member in self.members if member in found]
        return [[answers[at] for answers in had if at < len(answers)] for at in range(len(questions))]

    async def buckets(self, start: int = 0, end: int = 0) -> list[Bucket]:
        """Every bucket that any member has something of, or had before it was archived; seconds, 0 is open."""
        found: dict[int, Bucket] = {}
        for buckets in (await self.buckets_of_each(start, end)).values():
            for one in buckets:
                found[one.bucket] = _larger(found.get(one.bucket, one), one)
        return [found[bucket] for bucket in sorted(found)]

    async def buckets_of_each(self, start: int = 0, end: int = 0) -> dict[Member, list[Bucket]]:
        """What each member that answers has of every bucket, in order of time; seconds, 0 is open."""
        last = end or (1 << 32) - 1
        found: dict[Member, list[Bucket]] = {}

        async def one(member: Member) -> None:
            mine: list[Bucket] = []
            since = start
            while answer := await self.ask(member, Buckets(0, since, last)):
                assert isinstance(answer.message, BucketsAre)
                mine += [Bucket(*row) for row in answer.message.buckets]
                if len(answer.message.buckets) < BUCKETS_MAX:
                    found[member] = mine
                    return
                since = mine[-1].bucket + 1

        async with trio.open_nursery() as nursery:
            for member in self.live:
                nursery.start_soon(one, member)
        return found

    async def streams(self, bucket: int) -> list[StreamRow]:
        """The streams of a bucket: what each member tells of them, so one may stand there several times."""
        rows: list[StreamRow] = []

        async def one(member: Member) -> None:
            with self.ask_many(member, Streams(0, bucket)) as parts:
                async for part in parts:
                    if isinstance(part, StreamsAre):
                        rows.extend(part.streams)

        async with trio.open_nursery() as nursery:
            for member in self.live:
                nursery.start_soon(one, member)
        return rows

    async def seals(self, tailer: bytes = b"") -> Sealed:
        """The seals of one tailer, or of all: the union over members, each verified."""
        texts: dict[bytes, Member] = {}

        async def one(member: Member) -> None:
            with self.ask_many(member, Seals(0, tailer, 0)) as parts:
                async for part in parts:
                    if isinstance(part, SealsAre):
                        texts.update((bytes(text), member) for text in part.seals if bytes(text) not in texts)

        async with trio.open_nursery() as nursery:
            for member in self.live:
                nursery.start_soon(one, member)
        return _read_seals(texts.items(), self.settings.env)

    async def time_s(self) -> int:
        """The median of the bucks' clocks, so that one wrong clock moves nothing; seconds."""
        clocks = [answer.message for answer in await self.ask_all(Clock(0))]
        times = sorted(clock.time_ns for clock in clocks if isinstance(clock, ClockIs))
        return times[(len(times) - 1) // 2] // 10**9 if times else self.machine.time_ns() // 10**9

    @contextmanager
    def ask_many(self, member: Member, question: Question) -> Iterator[Parts]:
        """An answer in parts; it ends early, and the member is silent, if the link does."""
        if member.asker is None or not member.live:
            yield Parts(member, None)
            return
        with member.asker.ask_many(question) as parts:
            yield Parts(member, parts)


def _read_seals(texts: Iterable[tuple[bytes, Member]], env: str) -> Sealed:
    seals: list[Seal] = []
    forged: Counter[str] = Counter()
    for text, member in texts:
        try:
            seal = Seal.read(text)
        except VersionError as error:
            forged[f"{member}: {error}: update this porter"] += 1
            continue
        except FormatError as error:
            forged[f"{member}: a seal that doesn't hold: {error}"] += 1
            continue
        if seal.env == env:
            seals.append(seal)
        else:
            forged[f"{member}: a seal of env {seal.env!r}"] += 1
    return Sealed(tuple(seals), tuple(forged))


def _larger(one: Bucket, other: Bucket) -> Bucket:
    sizes = max(one.size, other.size), max(one.packets, other.packets)
    marks = one.unsure or other.unsure, one.archived or other.archived
    return Bucket(one.bucket, *sizes, max(one.last_arrival_ns, other.last_arrival_ns), *marks)


def _nobody(members: Sequence[Member]) -> str:
    each = "; ".join(f"{member.address}: {member.trouble}" for member in members)
    return f"no live buck: {each} (name others with --peer HOST:PORT)"
