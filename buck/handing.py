"""Handing copies on while this node leaves: the others pull them, a bucket at a time.

For each bucket the other members are asked what they hold. A packet that is here and on `n` others should be on `n + 1`
others (three are enough), so that the number of its copies stays what it was; who lacks one is told to pull it, here or
from another holder. When a whole round finds nothing to do, the node may be stopped. What a member holds that doesn't
answer is not known, and counts for nothing: then this node can't be done, and says why.
"""

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack

import trio

from buck import reading
from buck.counts import Counts
from buck.healing import Having, batches
from buck.leaving import Leaving, Progress
from buck.members import Members
from buck.pulling import GONE, Puller
from buck.store import Store
from protocol.copies import Group, Move, Place, plan
from protocol.link import Asker
from protocol.messages import Done, List, Listing, No, Peer, Pull
from protocol.ranges import Ranges
from service.log import get_log
from service.machine import Machine

log = get_log("buck.handing")

Lacks = dict[Group, list[tuple[Ranges, int]]]  # packets, and on how many others they should be

COPIES = 3
EVERY_S = 2.0
PULL_S = 120.0
PULL_BYTES, PULL_PACKETS_MAX = 16 << 20, 4096


class Hander:
    """Brings the copies of a leaving node to the others."""

    def __init__(
        self, machine: Machine, store: Store, members: Members, puller: Puller, leaving: Leaving, counts: Counts
    ) -> None:
        self._machine = machine
        self._store = store
        self._members = members
        self._puller = puller
        self._leaving = leaving
        self._counts = counts
        self._targets: dict[bytes, Asker] = {}
        self._troubles: dict[str, None] = {}
        self._aims: dict[int, Lacks] = {}  # what was to be handed on of a bucket when all others had answered

    async def run(self) -> None:
        """Rounds, as long as the node is leaving."""
        while True:
            await trio.sleep(EVERY_S * self._machine.random.uniform(0.8, 1.2))
            if self._store.draining:
                self._leaving.progress = await self._round()
            else:
                self._aims = {}

    async def _round(self) -> Progress:
        """Look at every bucket once, and hand on what is lacking; what was lacking before."""
        others = self._members.others()
        self._troubles = {} if others else {"there is no other buck that could take them": None}
        packets = buckets = 0
        async with AsyncExitStack() as stack:
            self._targets = {peer.node: asker for peer in others if (asker := await self._link(stack, peer))}
            for fact in reversed(reading.buckets(self._store, 0, 1 << 32)):
                lacking = await self._hand_on(fact.bucket, others, fact.bytes // max(1, fact.packets))
                packets, buckets = packets + lacking, buckets + bool(lacking)
                if lacking:
                    left = Progress(False, packets, buckets, "; ".join(self._troubles))
                    self._leaving.progress = left
        return Progress(not packets, packets, buckets, "; ".join(self._troubles))

    async def _link(self, stack: AsyncExitStack, peer: Peer) -> Asker | None:
        try:
            return await stack.enter_async_context(self._puller.reach(peer))
        except GONE as error:
            self._trouble(peer, error)
        return None

    async def _hand_on(self, bucket: int, others: list[Peer], size: int) -> int:
        """How many packets of a bucket lack a copy elsewhere; they are being handed on."""
        mine: dict[Group, Ranges] = {}
        own = await reading.listing(self._store, bucket, b"", b"")
        _unite(mine, own.entries)
        having, safe = await self._listings(bucket, others)
        _unite(safe, own.archived)
        mine = {group: rest for group, numbers in mine.items() if (rest := numbers - safe.get(group, Ranges()))}
        if len(having) < len(others):
            lacks = wanted(mine, having, len(others))
        else:
            aims = self._aims.setdefault(bucket, wanted(mine, having, len(others)))
            lacks = still_lacking(aims, having, safe)
        me = self._members.me.node
        places = {peer.node: Place(peer.host, peer.zone) for peer in others if peer.node in self._targets}
        for move in plan({**having, me: mine}, lacks, places, leaving=(me,)):
            await self._give(bucket, move, max(1, min(PULL_PACKETS_MAX, PULL_BYTES // max(1, size))))
        return sum(numbers.count for some in lacks.values() for numbers, _ in some)

    async def _listings(self, bucket: int, others: list[Peer]) -> tuple[Having, dict[Group, Ranges]]:
        """What each of the others has, and what any of them has let go of because it is archived."""
        having: Having = {}
        safe: dict[Group, Ranges] = {}
        for peer in others:
            if peer.node in self._targets:
                try:
                    listing = await self._targets[peer.node].ask(List(0, bucket))
                except GONE as error:
                    self._trouble(peer, error)
                    del self._targets[peer.node]
                    continue
                groups = having.setdefault(peer.node, {})
                if isinstance(listing, Listing):
                    _unite(groups, listing.entries)
                    _unite(safe, listing.archived)
        return having, safe

    async def _give(self, bucket: int, move: Move, size: int) -> None:
        """Tell one buck to pull; what it can't do shows in the next round."""
        for keys in batches({move.group: move.numbers}, size):
            asker = self._targets.get(move.target)
            if asker is None:
                return
            try:
                answer = await asker.ask(Pull(0, bucket, move.source, keys), PULL_S)
            except GONE as error:
                log.warning("a buck does not pull", node=move.target.hex(), why=str(error) or type(error).__name__)
                return
            if isinstance(answer, No):
                self._troubles[f"a buck refuses them: {answer.text}"] = None
                return
            if isinstance(answer, Done):
                missing = sum(numbers.count for *_, numbers in answer.missing)
                self._counts.handed.inc(sum(numbers.count for *_, numbers in keys) - missing)

    def _trouble(self, peer: Peer, error: Exception) -> None:
        why = str(error) or type(error).__name__
        self._troubles[f"{peer.address} doesn't answer ({why}): what it holds is not known"] = None


def _unite(into: dict[Group, Ranges], entries: Iterable[tuple[bytes, int, Ranges]]) -> None:
    for tailer, epoch, numbers in entries:
        into[tailer, epoch] = into.get((tailer, epoch), Ranges()) | numbers


def wanted(mine: Mapping[Group, Ranges], having: Having, others: int) -> Lacks:
    """What of mine is on too few others, and on how many it should be: as many as there are copies now, at most three.

    Packets that are on enough are left out.
    """
    found: Lacks = {}
    for group, numbers in mine.items():
        rest, lacks = numbers, []
        for copies, level in enumerate(_levels(group, having), 1):  # `rest`: what at least copies - 1 others hold
            here = rest - level
            if here and copies <= others:
                lacks.append((here, copies))
            rest = rest & level
        if lacks:
            found[group] = lacks
    return found


def still_lacking(aims: Lacks, having: Having, safe: Mapping[Group, Ranges]) -> Lacks:
    """What of these is on fewer others than it should be, and not in the archive."""
    found: Lacks = {}
    for group, some in aims.items():
        levels, gone = _levels(group, having), safe.get(group, Ranges())
        lacks = [(rest, copies) for numbers, copies in some if (rest := numbers - levels[copies - 1] - gone)]
        if lacks:
            found[group] = lacks
    return found


def _levels(group: Group, having: Having) -> list[Ranges]:
    """At [k]: what at least k + 1 of them hold."""
    levels = [Ranges() for _ in range(COPIES)]
    for has in having.values():
        more = has.get(group, Ranges())
        for at, level in enumerate(levels):
            levels[at], more = level | more, level & more
    return levels
