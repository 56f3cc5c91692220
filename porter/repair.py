"""`porter repair`: packets that are on too few bucks get their copies back, buck from buck.

    seals    ──> how many copies each packet should have      ┐
    listings ──> who has it                                   ┘──> a plan: who pulls what from whom (protocol/copies.py)

No packet passes through the porter: each buck that lacks one is told to pull it, at its own capped pace, checks every
byte of it, and says what it could not get. A copy that its holder could not give counts no more, and another holder is
asked. When a bucket is done and every member has answered, bucks that were unsure of it vouch for it again. Whatever is
cut short is done by the next run; windows that are not over are their tailers' own business.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import trio

from porter.audit import SEAL_LAG_S, Tell
from porter.cluster import Bucket, Cluster
from porter.gather import Survey, survey
from porter.member import Member, said
from porter.pool import Epoch, Numbers
from porter.protection import Lacks, Protection, count_of
from protocol.copies import Move, Place, plan
from protocol.errors import ProtocolError
from protocol.messages import Done, No, Pull, Settle
from protocol.ranges import Ranges

__all__ = ["Repaired", "repair"]

ROUNDS_MAX = 3
PULL_S = 300.0
# Of one question: so much that asking costs nothing, so little that a cut link wastes little.
PULL_BYTES, PULL_PACKETS_MAX = 16 << 20, 4096


@dataclass
class Repaired:
    """What came of it."""

    below: int = 0  # packets that had fewer copies than they should
    copied: int = 0  # copies that were made
    left: int = 0  # packets that have fewer still
    settled: int = 0  # (bucket, buck) that are vouched for again
    bad: int = 0  # copies that were listed, and could not be had
    troubles: dict[str, None] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Does every packet have its copies, as far as anybody can tell?"""
        return not self.left and not self.troubles

    def document(self) -> dict[str, object]:
        """As JSON."""
        counts = {name: getattr(self, name) for name in ("below", "copied", "left", "settled", "bad")}
        return {**counts, "troubles": list(self.troubles)}


async def repair(cluster: Cluster, tell: Tell) -> Repaired:
    """Go through all buckets that are over, the latest first."""
    done = Repaired()
    sealed = await cluster.seals()
    for text in sealed.forged:
        done.troubles[text] = None
    protection = Protection(sealed.seals)
    due = await cluster.time_s() - SEAL_LAG_S
    buckets = [one for one in await cluster.buckets() if one.held and one.bucket + cluster.width <= due]
    for at, bucket in enumerate(reversed(buckets)):
        tell(at, f"of {len(buckets)} buckets")
        await _Bucket(cluster, protection, bucket, done).repair()
    for member in cluster.silent:
        done.troubles[f"not asked: {member}: {member.trouble}"] = None
    return done


class _Bucket:
    """The repair of one bucket."""

    def __init__(self, cluster: Cluster, protection: Protection, bucket: Bucket, done: Repaired) -> None:
        self.cluster = cluster
        self.protection = protection
        self.bucket = bucket.bucket
        self.batch = max(1, min(PULL_PACKETS_MAX, PULL_BYTES * max(1, bucket.packets) // max(1, bucket.size)))
        self.done = done
        self.not_had: dict[bytes, dict[Epoch, Ranges]] = {}  # listed by a buck, and not given

    async def repair(self) -> None:
        """Rounds of looking and moving, while anything can be moved."""
        found, held, lacks = await self._look()
        self.done.below += count_of(lacks)
        for _ in range(ROUNDS_MAX):
            moves = plan(held, lacks, self._places(), self._leaving())
            if not moves:
                break
            await self._move(moves)
            found, held, lacks = await self._look()
        self.done.left += count_of(lacks)
        if found.unsure and not found.silent and not lacks:
            await self._settle(found.unsure)

    async def _look(self) -> tuple[Survey, dict[bytes, Numbers], Lacks]:
        found = await survey(self.cluster, self.bucket)
        held = self._held(found)
        return found, held, self._lacks(held, found.archived)

    def _held(self, found: Survey) -> dict[bytes, Numbers]:
        held: dict[bytes, Numbers] = {}
        for member, numbers in found.held.items():
            bad = self.not_had.get(member.node, {})
            held[member.node] = {epoch: one - bad[epoch] if epoch in bad else one for epoch, one in numbers.items()}
        return held

    def _lacks(self, held: dict[bytes, Numbers], archived: Numbers) -> Lacks:
        leaving = self._leaving()
        staying = [numbers for node, numbers in held.items() if node not in leaving]  # who leaves hands its own on
        members = [member for member in self.cluster.members if not member.leaving]
        return self.protection.lacking(self.bucket, staying, len(members), archived)

    def _places(self) -> dict[bytes, Place]:
        return {
            member.node: Place(member.host, member.peer.zone if member.peer else "")
            for member in self.cluster.live
            if not member.leaving
        }

    def _leaving(self) -> set[bytes]:
        return {member.node for member in self.cluster.live if member.leaving}

    async def _move(self, moves: Iterable[Move]) -> None:
        """All targets at once, each one question after another."""
        by_target: dict[bytes, list[Move]] = {}
        for move in moves:
            by_target.setdefault(move.target, []).append(move)
        async with trio.open_nursery() as nursery:
            for member in self.cluster.live:
                if member.node in by_target:
                    nursery.start_soon(self._move_to, member, by_target[member.node])

    async def _move_to(self, member: Member, moves: Iterable[Move]) -> None:
        for move in moves:
            for numbers in move.numbers.portions(self.batch):
                if not await self._pull(member, move, numbers):
                    return

    async def _pull(self, member: Member, move: Move, numbers: Ranges) -> bool:
        """Have a buck pull some packets. False: it takes none now."""
        assert member.asker is not None
        try:
            answer = await member.asker.ask(Pull(0, self.bucket, move.source, ((*move.group, numbers),)), PULL_S)
        except ProtocolError as error:
            member.trouble = member.trouble or said(error)
            return False
        if isinstance(answer, No):
            self.done.troubles[f"{member} takes no copies: {answer.text}"] = None
            return False
        assert isinstance(answer, Done)
        missing = Ranges()
        for _, _, rest in answer.missing:
            missing |= rest
        self.done.copied += numbers.count - missing.count
        self.done.bad += missing.count
        if missing:
            bad = self.not_had.setdefault(move.source, {})
            epoch = Epoch(*move.group)
            bad[epoch] = bad.get(epoch, Ranges()) | missing
        return True

    async def _settle(self, unsure: Iterable[Member]) -> None:
        for member in unsure:
            self.done.settled += await self.cluster.ask(member, Settle(0, self.bucket)) is not None
