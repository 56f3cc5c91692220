"""Seals: what the next one says, signing it, and bringing it to the bucks.

A seal adds each packet once, so stragglers need no revision of an older seal. It may also close an account:
`lost_after` says up to where an epoch is known that a crash ended (and `read_again` that its files were all found
again), `unread` what of files went before it was read, `given_up` which of its packets can be had nowhere any more;
each by class, and with the first bucket that it may be of. When there is more to say than a seal may hold, the rest is
for the next one at once.

It is journaled and synced before anybody sees it, for a seal that a crash makes us forget would fork the chain. Then
it goes to every linked buck, and is kept until three of them (or all members) have it on their devices.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from math import isinf

import trio

from protocol.errors import ProtocolError
from protocol.identity import NodeKey
from protocol.messages import No, SealPut
from protocol.packet import Class
from protocol.ranges import Ranges
from protocol.seal import Seal, Section
from service.faults import faultpoint
from service.log import get_log
from service.machine import Machine
from tailer.chain import Chain, Place
from tailer.journal import Journal, JournalError
from tailer.ledger import Entry, Ledger
from tailer.members import Buck, Members

NS = 1_000_000_000
SEAL_PACKETS = 50_000  # 800 KB of contents: far below what a seal may hold, and a frame that nobody waits for
SEAL_ACCOUNTS = 8_192  # half of what a seal may hold; the other half is for what is missing
SEAL_TIMEOUT_S = 15.0
HOLDERS = 3
SEALS_KEPT_MAX = 288  # a day of windows: older ones that some buck has aren't kept for those that stay away

Account = tuple[int, int, Class, bool]  # epoch, bucket, class, late

log = get_log("tailer.seal")


class Sealer:
    """Makes the chain longer, and delivers it."""

    def __init__(self, machine: Machine, key: NodeKey, journal: Journal, members: Members) -> None:
        self.machine = machine
        self.key = key
        self.journal = journal
        self.members = members
        self.until = 0  # everything before this second is stated
        self.behind_s: Callable[[], float] = lambda: 0.0  # how long ago all lines of then were in the journal
        self._holders: dict[int, set[bytes]] = {}
        self._refusals: dict[bytes, str] = {}  # why a buck took none the last time, if that was its answer

    async def seal(self, closing: bool = False, goodbye: bool = False) -> None:
        """State everything journaled so far, in several seals if it is very much, and deliver it."""
        while self.journal.width:  # without it no buck was ever met, and nothing was journaled
            if not await self._add(closing, goodbye):
                return
            if not self.journal.ledger.unsealed:
                break
        await self.deliver()

    @property
    def untold(self) -> int:
        """Seals that no buck has said it has."""
        return self.on_fewer_than(1)

    def on_fewer_than(self, copies: int) -> int:
        """Seals that fewer than so many bucks have said they have, or not all members where those are fewer."""
        enough = min(copies, max(1, self.members.count))
        return sum(len(self._holders_of(number)) < enough for number in self.journal.chain.undelivered)

    def _holders_of(self, number: int) -> set[bytes]:
        """Members that have said they have it; one that was retired since counts no more."""
        return {node for node in self._holders.get(number, ()) if node in self.members.nodes}

    def time_ns(self) -> int:
        """The bucks' clock."""
        return self.machine.time_ns() + self.members.offset_ns

    async def _add(self, closing: bool, goodbye: bool) -> bool:
        following = self._next(closing, goodbye)
        if not (following.number or following.until or following.sections or goodbye):
            return False  # the very first would say nothing: of no window, and of no packet
        seal = following.signed(self.key)
        faultpoint("tailer.sealing.signed")
        try:
            self.journal.add_seal(seal)
            await self.journal.sync()
        except JournalError as error:
            log.error("a seal could not be journaled", number=seal.number, why=str(error))
            return False
        self.until = seal.until
        faultpoint("tailer.sealing.synced")
        return True

    def _stated(self, now: int) -> int:
        """The end of the last window that is all in the journal, in seconds: not that of now, if files were not looked
        at since it ended, or lines wait."""
        before, behind_s = min(self.journal.chain.until, self._window(now)), self.behind_s()
        return before if isinf(behind_s) else max(self._window(now - round(behind_s * NS)), before)

    def _window(self, time_ns: int) -> int:
        """The second at which the window of this time began."""
        width = self.journal.width or 1
        return time_ns // NS // width * width

    def _next(self, closing: bool, goodbye: bool) -> Seal:
        journal = self.journal
        number, previous = journal.chain.head
        now = self.time_ns()
        width = journal.width
        until = self._stated(now)
        # what was lost is filed where that is noticed, however far behind the rest of the seal speaks
        found = sections(journal.ledger, journal.chain, self._window(now), journal.epoch)
        last = len(journal.ledger.unsealed) <= sum(section.numbers.count for section in found)
        return Seal(
            env=journal.env,
            width=width,
            tailer=self.key.node,
            public=self.key.public,
            host=journal.host,
            number=number + 1,
            previous=previous,
            time_ns=now,
            until=until if last else journal.chain.until,  # the windows are stated once all of the seals are there
            offset_ns=self.members.offset_ns,
            crashes=journal.crashes,
            closing=closing and last,
            sections=found,
            goodbye=goodbye and last,
        )

    async def deliver(self) -> None:
        """Seals that too few bucks have go to every linked one that hasn't said it has them, once they are synced."""
        if not self.journal.chain.undelivered:
            return
        try:
            await self.journal.sync()
        except JournalError:
            return  # told by then; what might be forgotten must not be seen by anybody
        async with trio.open_nursery() as nursery:
            for buck in self.members.linked():
                nursery.start_soon(self._give, buck)
        for number in sorted(self.journal.chain.undelivered):
            holders = self._holders_of(number)
            old = number <= max(self.journal.chain.seals) - SEALS_KEPT_MAX
            if len(holders) >= min(HOLDERS, self.members.count) or (old and holders):
                self.journal.chain.delivered(number)
                self._holders.pop(number, None)

    async def _give(self, buck: Buck) -> None:
        for number in sorted(self.journal.chain.undelivered):
            holders = self._holders.setdefault(number, set())
            if buck.node in holders or buck.asker is None:
                continue
            faultpoint("tailer.sealing.put")
            try:
                answer = await buck.asker.ask(SealPut(0, self.journal.chain.seals[number]), SEAL_TIMEOUT_S)
            except ProtocolError as error:
                log.warning("a seal was not taken", node=buck.node.hex(), number=number, why=str(error))
                return
            if isinstance(answer, No):
                self._note_refusal(buck, number, answer)
                return
            self._refusals.pop(buck.node, None)
            holders.add(buck.node)

    def _note_refusal(self, buck: Buck, number: int, answer: No) -> None:
        """Say it once: a full disk is asked again and again, and answers the same."""
        if self._refusals.get(buck.node) != answer.reason:
            log.warning("a seal is refused", node=buck.node.hex(), number=number, reason=answer.reason, why=answer.text)
        self._refusals[buck.node] = answer.reason


def sections(ledger: Ledger, chain: Chain, bucket: int, epoch: int) -> tuple[Section, ...]:
    """The sections of the next seal. What belongs to no known bucket (lost, unread) is filed under `bucket`."""
    accounts: dict[Account, list[Entry]] = {}
    for entry in islice(ledger.unsealed.values(), SEAL_PACKETS):
        account = entry.epoch, entry.bucket, entry.kind, entry.late
        if account in accounts or len(accounts) < SEAL_ACCOUNTS:
            accounts.setdefault(account, []).append(entry)
    return (
        *[_section(account, entries) for account, entries in sorted(accounts.items())],
        *_missing(chain, bucket, epoch),
    )


def _section(account: Account, entries: list[Entry]) -> Section:
    epoch, bucket, kind, late = account
    entries = sorted(entries, key=lambda entry: entry.number)
    return Section(
        epoch=epoch,
        bucket=bucket,
        kind=kind,
        late=late,
        numbers=Ranges((entry.number, entry.number + 1) for entry in entries),
        events=sum(entry.count for entry in entries),
        raw=sum(entry.raw for entry in entries),
        contents=b"".join(entry.content for entry in entries),
    )


def _missing(chain: Chain, bucket: int, epoch: int) -> list[Section]:
    """Sections of their own for what is not there. Unread bytes are those of this epoch."""
    reach = chain.reach
    given_up = dict(chain.given_up)
    found = []
    for one, last in sorted(chain.lost.items()):
        numbers = given_up.pop(Place(one), Ranges())
        again = chain.is_read_again(one)
        empty = _empty(Place(one, bucket))
        found.append(replace(empty, given_up=numbers, lost_after=last, read_again=again, since=reach))
    for place, numbers in sorted(given_up.items(), key=lambda item: (item[0].epoch, item[0].bucket or 0, item[0].kind)):
        filed = place if place.bucket is not None else place._replace(bucket=bucket)
        since = reach if place.bucket is None else place.bucket
        found.append(replace(_empty(filed), given_up=numbers, since=since))
    for kind, size in sorted(chain.unread.items()):
        found.append(replace(_empty(Place(epoch, bucket, kind)), unread=size, since=reach))
    return found


def _empty(place: Place) -> Section:
    return Section(place.epoch, place.bucket or 0, place.kind, place.late, Ranges(), events=0, raw=0, contents=b"")
