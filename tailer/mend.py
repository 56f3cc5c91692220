"""After a window: a seal, the third copies, the receipts; and the packets that may be forgotten.

Each window, and a random while later so that a fleet doesn't seal in one second, the tailer signs what it has
journaled since its last seal. The seal is journaled and synced before anybody sees it, and goes to every linked buck.
Then each packet of a window that is over gets its third copy; whoever acknowledged one is asked for a receipt, with an
fsync. What a buck no longer holds is sent again. A packet is *done* at A2: fsynced receipts of three bucks, or of all
members where there are fewer; at A1 if its class says so. Nothing is done before a member told who the members are.

    unsealed ──seal──> sealed ──third copy──> ──receipts──> A2: done ──> its segment may go
                         ^                        │ a buck lost it, or kept silent
                         └────────────────────────┘ again after a while

An idle tailer seals each window too: its silence is then known to be silence. `finish` does all of this at once, for
`--once` and for a clean end.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

import trio

from protocol.errors import ProtocolError
from protocol.identity import NodeKey
from protocol.limits import EARLY_S
from protocol.messages import Have, No, Receipt
from service.faults import faultpoint
from service.log import get_log
from service.machine import Machine
from tailer.journal import Journal, JournalError
from tailer.ledger import Entry
from tailer.members import Buck, Members
from tailer.sealing import Sealer
from tailer.send import A1_COPIES, Sender

NS = 1_000_000_000
A2_COPIES = 3
GATHER_S = 6.0  # the oldest open packet of a window that just ended: it should be in that window's seal
SPREAD_S = 60.0
FLUSH_S = 5.0
MEND_EVERY_S = 10.0
UNDECIDED_S = 60.0  # the first seal after a crash waits so long for a sweep to find the files of before
RECEIPT_TIMEOUT_S = 30.0  # an fsync of a busy disk
ROUNDS_MAX = 3  # of copies and receipts, before a pause
COPIES_AT_ONCE = 4
FINISH_POLL_S = 0.2
STOP_S = 3.0

log = get_log("tailer.mend")


class Outcome(NamedTuple):
    """How it ended: 0 all done, 1 something is undelivered, 3 delivered, but with fewer copies than promised."""

    code: int
    text: str


class Mender:
    """Seals, and brings packets from A1 to A2."""

    def __init__(
        self,
        machine: Machine,
        key: NodeKey,
        journal: Journal,
        members: Members,
        sender: Sender,
        flush: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.machine = machine
        self.key = key
        self.journal = journal
        self.members = members
        self.sender = sender
        self.sealer = Sealer(machine, key, journal, members)
        self._flush = flush
        self._refusals: dict[bytes, str] = {}  # node -> why it gave no receipt the last time
        self._busy = trio.Lock()
        self._mending = trio.CancelScope()  # what `run` does, until `finish` takes over

    async def run(self) -> None:
        """Seal each window and mend what is over, until `finish`."""
        with self._mending:
            await self._run()

    async def _run(self) -> None:
        seal_at = self._next_seal()
        decided_by = self.machine.now() + UNDECIDED_S
        while True:
            await trio.sleep(min(MEND_EVERY_S, max(0.0, seal_at - self.machine.now())))
            async with self._busy:
                if self.journal.chain.is_undecided and self.machine.now() < decided_by and not self.journal.pressed:
                    seal_at = max(seal_at, self.machine.now() + 1.0)
                elif self.machine.now() >= seal_at or self.journal.pressed:
                    if self.members.linked():  # one seal later covers all windows without anybody to tell
                        await self._seal()
                    seal_at = self._next_seal()
                await self.sealer.deliver()
                await self._mend(self._due())
                self.journal.reclaim()

    def _next_seal(self) -> float:
        """On the monotonic clock: some while after the current window's end."""
        width = self.journal.width or 1
        left = width - self.sealer.time_ns() % (width * NS) / NS
        spread = min(SPREAD_S, width / 2) - GATHER_S
        return self.machine.now() + left + GATHER_S + max(0.0, self.machine.random.uniform(0.0, spread))

    async def _seal(self, closing: bool = False, goodbye: bool = False) -> None:
        if self._flush is not None:
            with trio.move_on_after(FLUSH_S):  # it waits where the journal is full, and then only we can make room
                await self._flush()
        await self.sealer.seal(closing, goodbye)

    def _due(self) -> list[Entry]:
        """Sealed packets of windows that are over (of all, when the journal runs full) that are not done.

        What was filed further ahead than any line may be, was filed by a wrong clock: its window is not waited for.
        """
        everything = self.journal.pressed
        end = self.sealer.until
        last, ahead = end - self.journal.width, end + EARLY_S
        return [
            entry
            for entry in self.journal.ledger.waiting()
            if entry.sealed and (everything or not last < entry.bucket <= ahead)
        ]

    # --- copies and receipts ----------------------------------------------------------------------------------------

    async def _mend(self, entries: list[Entry], copies: int | None = None) -> None:
        """Rounds of copies and receipts, while they get anything done."""
        for _ in range(ROUNDS_MAX):
            await self._add_copies(entries, copies)
            await self._ask_receipts(entries)
            for entry in entries:
                if self.is_done(entry):
                    faultpoint("tailer.mend.done")
                    self.journal.ledger.note_done(entry)
            entries = [entry for entry in entries if not entry.done]
            if not any(self._lacks(entry, copies) for entry in entries):
                return

    def is_done(self, entry: Entry) -> bool:
        """May the journal forget it? A2, or A1 where its class says so."""
        if not self.members.heard:
            return False
        if not entry.kind.resend:
            return self.sender.is_stored(entry)
        return len(entry.synced) >= A2_COPIES or self.members.nodes <= set(entry.synced)

    def _wanted(self, entry: Entry, copies: int | None) -> int:
        return copies or (A2_COPIES if entry.kind.resend else entry.kind.copies)

    def _lacks(self, entry: Entry, copies: int | None) -> int:
        """How many copies it lacks that somebody could take. One on a buck that is gone counts only if it is synced."""
        live = {buck.node for buck in self.members.live()}
        held = set(entry.stored)
        lacking = self._wanted(entry, copies) - len(held & live | set(entry.synced))
        return max(0, min(lacking, len(live - held)))

    async def _add_copies(self, entries: list[Entry], copies: int | None) -> None:
        """Give each packet the copies it lacks, a few packets at a time."""
        lacking = iter([entry for entry in entries if self._lacks(entry, copies)])

        async def work() -> None:
            for entry in lacking:
                await self.sender.mend(entry, partial(self._lacks, entry, copies))

        async with trio.open_nursery() as nursery:
            for _ in range(COPIES_AT_ONCE):
                nursery.start_soon(work)

    async def _ask_receipts(self, entries: list[Entry]) -> None:
        """Ask whoever acknowledged a copy, once for each epoch and bucket; bucks in parallel."""
        async with trio.open_nursery() as nursery:
            for buck in self.members.linked():
                theirs = [entry for entry in entries if buck.node in entry.stored and buck.node not in entry.synced]
                if theirs:
                    nursery.start_soon(self._ask_receipts_of, buck, theirs)

    async def _ask_receipts_of(self, buck: Buck, entries: list[Entry]) -> None:
        groups: dict[tuple[int, int], list[Entry]] = {}
        for entry in entries:
            groups.setdefault((entry.epoch, entry.bucket), []).append(entry)
        for (epoch, bucket), group in groups.items():
            if buck.asker is None:
                return
            try:
                receipt = await buck.asker.ask(Have(0, self.key.node, epoch, bucket, True), RECEIPT_TIMEOUT_S)
            except ProtocolError as error:
                log.warning("no receipt", node=buck.node.hex(), bucket=bucket, why=str(error))
                self.members.avoid(buck, RECEIPT_TIMEOUT_S)
                return
            faultpoint("tailer.mend.receipt")
            if isinstance(receipt, Receipt):
                self._refusals.pop(buck.node, None)
                self._take_receipt(buck, group, receipt)
            elif isinstance(receipt, No):
                self._note_refusal(buck, bucket, receipt)

    def _note_refusal(self, buck: Buck, bucket: int, no: No) -> None:
        """Its packets stay here, and it is asked again: each time is counted, and said once until that changes."""
        self.sender.counters["receipts_refused"] += 1
        if self._refusals.get(buck.node) != no.reason:
            self._refusals[buck.node] = no.reason
            why = {"reason": no.reason, "why": no.text}
            log.warning("a buck gives no receipt", node=buck.node.hex(), bucket=bucket, **why)

    def _take_receipt(self, buck: Buck, entries: list[Entry], receipt: Receipt) -> None:
        for entry in entries:
            if entry.number in receipt.held:
                self.journal.ledger.note_stored(entry, buck.node, entry.number in receipt.synced)
            else:  # an unsure buck may find it again; until then it counts for nothing, and a repeat costs it little
                self.sender.counters["copies_lost"] += 1
                self.journal.ledger.note_lost(entry, buck.node)

    # --- the end ----------------------------------------------------------------------------------------------------

    async def finish(self, level: str | None = "A2", patience_s: float = 60.0) -> Outcome:
        """Finish everything at once, and a goodbye. `level` None: a clean stop, which waits for no copies, and whose
        seal is a closing one only: this host is still expected."""
        self._mending.cancel()  # it may be waiting for a receipt for longer than a stop may take
        async with self._busy:
            if level is None:
                return await self._stop()
            try:
                await self.journal.sync()
                await self._patiently(patience_s, lambda: self.sender.waiting, None)
                await self._seal(closing=True, goodbye=True)
                await self._patiently(patience_s, lambda: self._left(level), lambda: self._mend_for(level))
                await self.journal.sync()
            except JournalError as error:
                return Outcome(1, error.strerror or str(error))
            return self._outcome(level)

    async def _stop(self) -> Outcome:
        with trio.move_on_after(STOP_S):
            await self._seal(closing=True)
        return Outcome(0, f"{self.sender.waiting} packets wait in the journal for the next start")

    async def _patiently(
        self, patience_s: float, left: Callable[[], int], work: Callable[[], Awaitable[None]] | None
    ) -> None:
        """Until nothing is left, or nothing has moved for `patience_s`."""
        before, deadline = left(), self.machine.now() + patience_s
        while before and self.machine.now() < deadline:
            with trio.move_on_at(deadline):
                if work is not None:
                    await work()
                await trio.sleep(FINISH_POLL_S)
            now = left()
            if now < before:
                before, deadline = now, self.machine.now() + patience_s

    async def _mend_for(self, level: str) -> None:
        if level == "A2":
            await self._mend(list(self.journal.ledger.waiting()))
        await self.sealer.deliver()

    def _left(self, level: str) -> int:
        """What is still to be waited for: packets and the closing seal."""
        if level == "A2":
            return sum(1 for _ in self.journal.ledger.waiting()) + len(self.journal.chain.undelivered)
        return self.sender.waiting + self.sealer.on_fewer_than(A1_COPIES)

    def _outcome(self, level: str) -> Outcome:
        waiting = self.sender.waiting
        if waiting:
            return Outcome(1, f"{waiting} packets are on too few bucks; they wait in {self.journal.folder}")
        if self.sealer.untold:
            return Outcome(1, f"{self.sealer.untold} seals reached no buck; they wait in {self.journal.folder}")
        short = sum(1 for _ in self.journal.ledger.waiting())
        if level == "A2" and (short or self.journal.chain.undelivered):
            absent = self.members.nodes - {buck.node for buck in self.members.linked()}
            names = ", ".join(sorted(node.hex() for node in absent)) or "none"
            return Outcome(3, f"{short} packets have fewer copies than promised; members not reached: {names}")
        return Outcome(0, f"everything is {level}")
