"""After an unclean restart or the loss of a disk: bring back what is lacking, and end the mark.

A marked bucket may lack packets that were acknowledged. What it should hold nobody knows, since a packet goes to two or
three of many bucks; but the seals name all there are. So, when a marked window is over:

    seals of all tailers, ours and the others' ──> what exists      ┐  held by fewer than three others, and not here:
    listings of the bucks that answer          ──> who holds what   ┘  pulled from one of them

The mark goes once that was done for every tailer on the roster: each has stated the window to its end, or closed, or is
retired. A tailer that fell silent keeps the mark; `porter repair` ends it. All steps can be cut short and done again.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from buck import reading
from buck.counts import Counts
from buck.errors import Declined
from buck.members import Members
from buck.pulling import GONE, Entries, Puller
from buck.roster import RosterStore
from buck.seals import SealStore
from buck.store import Store
from protocol.copies import Group, alike_held
from protocol.errors import FormatError
from protocol.link import Asker
from protocol.messages import List, Listing, Peer, Seals, SealsAre
from protocol.ranges import Ranges
from protocol.roster import Retirement
from protocol.seal import Seal
from service.log import get_log
from service.machine import Machine

log = get_log("buck.healing")

FIRST_S, EVERY_S = 5.0, 30.0
COPIES = 3
# A closed tailer that had started again would have sealed so long after a window's end.
LAG_S = 120
PULL_PACKETS = 256

Having = dict[bytes, dict[Group, Ranges]]  # buck -> what it holds of a bucket


class Last(NamedTuple):
    """How far a tailer's seals go."""

    number: int
    until: int
    closed: bool


@dataclass
class Stated:
    """What seals say of some buckets. Pure."""

    buckets: frozenset[int]
    named: dict[int, dict[Group, Ranges]] = field(default_factory=dict)
    last: dict[bytes, Last] = field(default_factory=dict)

    def add(self, seal: Seal) -> None:
        """Take in one seal."""
        known = self.last.get(seal.tailer)
        if known is None or seal.number > known.number:
            self.last[seal.tailer] = Last(seal.number, seal.until, seal.closing)
        for section in seal.sections:
            if section.bucket in self.buckets:
                numbers = section.numbers - section.given_up
                groups = self.named.setdefault(section.bucket, {})
                group = seal.tailer, section.epoch
                groups[group] = groups.get(group, Ranges()) | numbers

    def is_over(self, tailer: bytes, end: int, now_s: int, retired: Iterable[Retirement] = ()) -> bool:
        """Has it stated everything before `end`, or will it never?"""
        last = self.last.get(tailer)
        count = 0 if last is None else last.number + 1
        if any(one.node == tailer and one.seals >= count for one in retired):
            return True
        return last is not None and (last.until >= end or (last.closed and now_s > end + LAG_S))


class Healer:
    """Looks after the marked buckets of a node."""

    def __init__(
        self,
        machine: Machine,
        store: Store,
        seals: SealStore,
        roster: RosterStore,
        members: Members,
        puller: Puller,
        counts: Counts,
    ) -> None:
        self._machine = machine
        self._store = store
        self._seals = seals
        self._roster = roster
        self._members = members
        self._puller = puller
        self._counts = counts

    async def run(self) -> None:
        """For ever."""
        await trio.sleep(FIRST_S)
        while True:
            if self._due() and not self._store.draining:
                await self.heal()
            await trio.sleep(EVERY_S * self._machine.random.uniform(0.8, 1.2))

    def _due(self) -> list[int]:
        """The marked buckets whose windows are over, the latest first."""
        now_s = self._machine.time_ns() // 10**9
        return sorted((one for one in self._store.unsure() if one + self._store.width <= now_s), reverse=True)

    async def heal(self) -> None:
        """Compare all that is due once; pull what is lacking, end the marks that can be ended."""
        buckets = self._due()
        stated = Stated(frozenset(buckets))
        await self._read_seals(stated)
        async with AsyncExitStack() as stack:
            links = await self._links(stack)
            asked = len(links) > 0 or not self._members.others()
            try:
                for bucket in buckets:
                    await self._heal(bucket, stated, links, asked)
            except GONE as error:
                log.info("a comparison was cut short; it goes on later", why=str(error) or type(error).__name__)
            except Declined as no:
                log.warning("no packets can be pulled back now", why=no.text)

    async def _links(self, stack: AsyncExitStack) -> dict[bytes, Asker]:
        """To every member that answers."""
        links: dict[bytes, Asker] = {}
        for peer in self._members.view()[1:]:
            asker = await self._link(stack, peer)
            if asker is not None:
                links[peer.node] = asker
        return links

    async def _link(self, stack: AsyncExitStack, peer: Peer) -> Asker | None:
        try:
            return await stack.enter_async_context(self._puller.reach(peer))
        except GONE:
            return None

    async def _heal(self, bucket: int, stated: Stated, links: Mapping[bytes, Asker], asked: bool) -> None:
        having, safe = await self._listings(bucket, links)
        own = (await reading.listing(self._store, bucket, b"", b"")).entries
        tailers = {tailer for tailer, *_ in own} | {tailer for has in having.values() for tailer, _ in has}
        tailers |= stated.last.keys() | self._roster.expected.keys()
        await self._ask_seals(stated, tailers, links.values())
        end, now_s = bucket + self._store.width, self._machine.time_ns() // 10**9
        retired = [one for one in self._roster.retired.values() if one.role == "tailer"]
        silent = {tailer for tailer in tailers if not stated.is_over(tailer, end, now_s, retired)}
        lacking = await self._lacking(bucket, stated.named.get(bucket, {}), safe)
        back = sources(lacking, having, self._machine.random.random())
        failed = 0
        for source, keys in back.items():
            for batch in batches(keys):
                failed += sum(numbers.count for *_, numbers in await self._puller.pull(source, bucket, batch))
        if asked and not silent and not failed:
            await self._store.settle(bucket)
            self._counts.settled.inc()
            log.info("a bucket is vouched for again", bucket=bucket)
        else:
            log.info("a bucket stays unsure", bucket=bucket, silent_tailers=len(silent), not_pulled=failed, asked=asked)

    async def _listings(self, bucket: int, links: Mapping[bytes, Asker]) -> tuple[Having, dict[Group, Ranges]]:
        """What each of the others has, and what any of them has let go of because it is archived."""
        having: Having = {}
        safe: dict[Group, Ranges] = {}
        for node, asker in links.items():
            listing = await asker.ask(List(0, bucket))
            if isinstance(listing, Listing):
                groups = having.setdefault(node, {})
                for tailer, epoch, numbers in listing.entries:
                    groups[tailer, epoch] = groups.get((tailer, epoch), Ranges()) | numbers
                for tailer, epoch, numbers in listing.archived:
                    safe[tailer, epoch] = safe.get((tailer, epoch), Ranges()) | numbers
        return having, safe

    async def _lacking(
        self, bucket: int, named: Mapping[Group, Ranges], safe: Mapping[Group, Ranges]
    ) -> dict[Group, Ranges]:
        lacking = {}
        for group, numbers in named.items():
            rest = numbers - safe.get(group, Ranges()) - (await self._store.receipt(*group, bucket, False)).held
            if rest:
                lacking[group] = rest
        return lacking

    async def _read_seals(self, stated: Stated) -> None:
        """Those that are here."""
        own = await self._seals.batches(b"", 0)
        while batch := await own.next():
            await self._machine.slow(_add_all, stated, batch)

    async def _ask_seals(self, stated: Stated, tailers: Iterable[bytes], askers: Iterable[Asker]) -> None:
        """Those that others got while this node was away."""
        for asker in askers:
            for tailer in tailers:
                last = stated.last.get(tailer)
                with asker.ask_many(Seals(0, tailer, last.number + 1 if last else 0)) as parts:
                    async for part in parts:
                        if isinstance(part, SealsAre):
                            await self._machine.slow(_add_all, stated, part.seals)


def sources(lacking: Mapping[Group, Ranges], having: Having, dice: float) -> dict[bytes, dict[Group, Ranges]]:
    """Whom to fetch from what fewer than three others hold; `dice` in [0, 1) chooses where there is a choice."""
    back: dict[bytes, dict[Group, Ranges]] = {}
    for group, numbers in lacking.items():
        for holders, alike in alike_held(numbers, {node: has[group] for node, has in having.items() if group in has}):
            if 0 < len(holders) < COPIES:
                groups = back.setdefault(holders[int(dice * len(holders))], {})
                groups[group] = groups.get(group, Ranges()) | alike
    return back


def batches(keys: Mapping[Group, Ranges], size: int = PULL_PACKETS) -> list[Entries]:
    """The keys in portions of at most `size` packets."""
    found: list[Entries] = []
    for group, numbers in keys.items():
        for start, end in numbers:
            for at in range(start, end, size):
                found.append(((*group, Ranges([(at, min(end, at + size))])),))
    return _joined(found, size)


def _joined(portions: Sequence[Entries], size: int) -> list[Entries]:
    """Small portions together, as far as they fit."""
    joined: list[Entries] = []
    count = size
    for portion in portions:
        more = sum(numbers.count for *_, numbers in portion)
        if count + more > size:
            joined.append(())
            count = 0
        joined[-1] += portion
        count += more
    return joined


def _add_all(stated: Stated, seals: Iterable[bytes]) -> None:
    for data in seals:
        try:
            stated.add(Seal.read(data))
        except FormatError as error:
            log.error("ALARM: a seal that doesn't hold; it is passed over", why=str(error))
