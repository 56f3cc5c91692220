"""The tailer, wired.

    files --> Watching/Reader --> Blocks --> Journal --> Sender --> bucks
              (which, what)      (columns)   (number,      |          |
                                              disk)      Members    Mender: seals, third copies, receipts

It learns the width of buckets from its first buck, and reads nothing before. What bucks hold already after an unclean
stop is asked first. Then one task reads; each draft gets its number and its place in the journal before anything else
is done with it, and the sender takes it from there. When the journal is full, or bucks take packets more slowly than
files give them, reading waits.

`--once` and `--goodbye` read everything to its end, wait for the promised level and say goodbye; otherwise the tailer
runs until it is told to stop: then open builders are closed, journaled, and the last checkpoint says that it was a
clean stop. Nothing of this is needed for safety: after SIGKILL the journal knows what was read, and the rest is read
again.
"""

import contextlib
import pathlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from protocol.identity import NodeKey, epoch
from protocol.limits import HEADER_MAX
from protocol.packet import Packet
from protocol.ranges import Ranges
from service.authorized import use_again, use_files
from service.beat import until_beat
from service.config import ConfigError
from service.keys import load_key
from service.log import get_log
from service.machine import Machine
from service.run import DONE, NOT_DONE
from service.units import Address
from tailer.blocks import Blocks, Draft
from tailer.checkpoint import Checkpoint
from tailer.former import find_former
from tailer.inputs.files import Glob, Scanner
from tailer.inputs.known import Known
from tailer.inputs.naming import Former, Naming
from tailer.inputs.reader import Reader
from tailer.inputs.watching import Watching
from tailer.journal import Journal, JournalError, JournalFull
from tailer.kinds import Kinds
from tailer.members import Members
from tailer.mend import Mender, Outcome
from tailer.recover import recover
from tailer.send import Sender
from tailer.settings import TailerSettings

if TYPE_CHECKING:
    from protocol.secure import Security

# Bucks are looked at so often while reading waits for them.
CROWDED_POLL_S = 0.2
# Counters are said in the log so often, where they changed.
REPORT_EVERY_S, ONCE_REPORT_EVERY_S = 300.0, 5.0
# Checkpoints between segments: a stream in one is some 2.5 KiB, so they are 250 KiB/s at most.
SAVE_EVERY_S, SAVE_STREAM_S = 2.0, 0.01
# All bucks are asked for at most so long what they hold.
RECOVER_S = 60.0
# A stop waits for so long until what was read is in the journal.
STOP_FLUSH_S = 4.0

log = get_log("tailer.agent")


async def run_tailer(machine: Machine, settings: TailerSettings, stop: trio.Event) -> int:
    """Run until told to stop (or, with `--once`, until done). The exit code."""
    folder = bytes(pathlib.Path.cwd())
    host = (settings.host or machine.host).encode()
    parts = Parts(settings.globs(folder), settings.excluded(folder), settings.kinds(folder, host))
    if not settings.to:
        raise ConfigError("no buck to send to was given: --to HOST:PORT")
    found = await load_key(machine, settings.key_path)
    key = NodeKey.from_seed(found.seed)
    security = _security(machine, settings, key)
    log.info("a tailer starts", node=key.node.hex(), key=settings.key_path, fresh=found.fresh, moved=found.moved)
    journal = await Journal.open(
        machine,
        settings.journal,
        env=settings.env,
        key=key,
        host=host,
        epoch=epoch(found.boots, machine.entropy(4)),
        size_max=settings.journal_size,
    )
    try:
        return await Agent(machine, settings, parts, key, host, journal, security).run(stop)
    finally:
        journal.release()


def _security(machine: Machine, settings: TailerSettings, key: NodeKey) -> "Security | None":
    """What encrypted links need, read from the files that the settings name; None for clear text."""
    if not settings.is_encrypted:
        return None
    from protocol.secure import Security  # not before: it is 9 MB of ciphers

    security = Security(key, settings.env, machine.entropy, machine.time_ns)
    use_files(machine, settings, security.take)
    return security


@dataclass
class Parts:
    """What the settings say of files, in the form that is used."""

    globs: list[Glob]
    excluded: list[Glob]
    kinds: Kinds


class Agent:
    """One run of a tailer over an open journal."""

    def __init__(
        self,
        machine: Machine,
        settings: TailerSettings,
        parts: Parts,
        key: NodeKey,
        host: bytes,
        journal: Journal,
        security: "Security | None" = None,
    ) -> None:
        self.machine = machine
        self.settings = settings
        self.journal = journal
        self.members = Members(machine, key, settings.env, host, settings.to, journal, security)
        self.sender = Sender(machine, journal, self.members)
        self.mender = Mender(machine, key, journal, self.members, self.sender, self._flush)
        self._parts = parts
        self._host = host
        self._inputs: Inputs | None = None
        self._asking = False  # bucks are asked what they have: to be cut short in that is a crash like any other
        self._drafts: deque[Draft] = deque()  # closed, and not in the journal yet
        self._shipping = trio.Lock()
        self._syncing = trio.CancelScope()
        self._journaled_at = float("-inf")  # what was in files at this time is in the journal
        self._saved_at, self._saved_changes = float("-inf"), 0

    async def run(self, stop: trio.Event) -> int:
        """The exit code."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.members.run)
            nursery.start_soon(self._sync)
            nursery.start_soon(self.journal.costs.run)
            if self.settings.http is not None:
                await self._show(nursery, self.settings.http)
            if self.members.security is not None:
                nursery.start_soon(use_again, self.machine, self.settings, self.members.security.take)
            code = await self._run(stop, nursery)
            nursery.cancel_scope.cancel()
        return code

    async def _show(self, nursery: trio.Nursery, where: Address) -> None:
        """Serve the pages."""
        from service.web import serve_web  # not before: most tailers show none, and what speaks HTTP is 3 MB
        from tailer.web import routes

        there = await nursery.start(serve_web, self.machine, *where, routes(self.journal, self.members, self.sender))
        log.info("what this tailer says of itself is here", http=str(Address(*there)))

    async def _run(self, stop: trio.Event, nursery: trio.Nursery) -> int:
        ends = self.settings.ends
        prepared = await unless(stop, self._prepare)
        if not self._asking:
            await self._close()  # nobody was asked for anything, so all is as it was: this was no crash
        if not prepared:
            return NOT_DONE if ends else DONE
        if self._inputs is None:
            return NOT_DONE
        nursery.start_soon(self.sender.run)
        nursery.start_soon(self.mender.run)
        nursery.start_soon(self._save_again_and_again)
        nursery.start_soon(self._report, self._inputs)
        try:
            return await (self._once(self._inputs, stop) if ends else self._follow(self._inputs, stop))
        finally:
            self._inputs.watching.close()

    # --- beginning --------------------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        """The width, and what bucks have already; then the inputs can be made. Without a buck, `--once` gives up."""
        patience = self.settings.patience if self.settings.ends else float("inf")
        with trio.move_on_after(patience):
            await self.members.wait_width()
        if not self.journal.width:
            names = ", ".join(str(address) for address in self.settings.to)
            log.error("no buck answered: nothing was read; start one, or correct --to", to=names)
            return
        self._asking = True
        patience = min(patience, RECOVER_S)
        recovered = await recover(self.journal, self.members, patience)
        former = Former()
        if recovered.behind:
            sweep = await self._scanner().sweep()
            former = await find_former(self.journal, self.members, self.machine.disk, sweep, patience)
        self._inputs = self._make_inputs(recovered.coverage, former)
        self.mender.sealer.behind_s = self._behind_s
        self.journal.state = self._checkpoint

    def _scanner(self) -> Scanner:
        return Scanner(self.machine.disk, self._parts.globs, self._parts.excluded)

    def _make_inputs(self, coverage: dict[bytes, Ranges], former: Former) -> "Inputs":
        settings, machine = self.settings, self.machine
        checkpoint = self.journal.recovered.checkpoint or Checkpoint()
        naming = Naming(
            self._parts.kinds,
            begin=settings.begin,
            now_ns=machine.time_ns(),
            patient=not settings.ends,
            same_boot=checkpoint.boot_id in (b"", machine.boot_id),
            states=checkpoint.streams,
            coverage=coverage,
            former=former,
        )
        gather = settings.ends or settings.backfill
        blocks = Blocks(self.journal.width, self._host, gather=gather, linger=settings.linger)
        known = Known(machine.disk, naming, settings.rotate_wait)
        known.note_unread, self.journal.chain.found_again = self.journal.chain.note_unread, known.found_again
        reader = Reader(machine, known, blocks, self._ship, open_files=settings.open_files)
        watching = Watching(machine, self._scanner(), known, reader)
        return Inputs(blocks, known, reader, watching)

    def _checkpoint(self) -> Checkpoint:
        assert self._inputs is not None
        known = self._inputs.known
        return Checkpoint(known.states(), self.machine.boot_id, bool(known.naming.missed))

    # --- working ----------------------------------------------------------------------------------------------------

    async def _ship(self, drafts: list[Draft]) -> None:
        """Number drafts, write them down, hand them to the sender. Waits while the journal or the bucks are full."""
        if self._inputs is not None:
            self._inputs.blocks.live = self.members.live_wanted
        if not drafts and not self._drafts:
            await trio.lowlevel.checkpoint()
            return
        self._drafts.extend(drafts)
        async with self._shipping:
            while self._drafts:
                packet = await self._append(self._drafts[0])
                self._drafts.popleft()
                await self.sender.deliver(packet)
        while self.sender.crowded:
            with trio.move_on_after(CROWDED_POLL_S):
                await self.sender.placed.wait()

    def _behind_s(self) -> float:
        """How long ago all lines were in the journal that were in files then, as far as is known."""
        return self.machine.now() - self._journaled_at

    async def _append(self, draft: Draft) -> Packet:
        self._save_streams()
        while True:
            try:
                return self.journal.append(draft)
            except JournalFull as error:
                log.warning("the journal has no room; reading waits", why=str(error))
                await self.journal.wait_for_room(len(draft.body) + HEADER_MAX)

    async def _flush(self) -> None:
        if self._inputs is None:
            return
        clean_at = self._inputs.reader.clean_at  # what is read from here on may be in a builder when this ends
        try:
            await self._ship(self._inputs.blocks.flush())
        finally:
            if not self._drafts:
                self._journaled_at = clean_at

    async def _follow(self, inputs: "Inputs", stop: trio.Event) -> int:
        await unless(stop, inputs.watching.run)
        await self._leave(inputs)
        return DONE

    async def _once(self, inputs: "Inputs", stop: trio.Event) -> int:
        outcome: list[Outcome] = []

        async def work() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._give_up, inputs, nursery.cancel_scope)
                await inputs.watching.once()
                nursery.cancel_scope.cancel()
            outcome.append(await self.mender.finish(self.settings.level, self.settings.patience))

        if not await unless(stop, work):
            await self._leave(inputs)
            return NOT_DONE
        await self._close()
        unread = inputs.known.waiting()
        if unread:
            log.error("files could not be read", count=len(unread), first=unread[0].where)
        if inputs.known.left_out:
            log.error("files were left out: they are too many", count=inputs.known.left_out)
        if outcome[0].code:
            log.error("not everything is done", why=outcome[0].text)
        return NOT_DONE if unread or inputs.known.left_out else outcome[0].code

    async def _give_up(self, inputs: "Inputs", reading: trio.CancelScope) -> None:
        """End reading when nothing has moved for as long as `--patience`: the journal is full and no buck takes any."""
        before, moved_at = -1, self.machine.now()
        while self.machine.now() < moved_at + self.settings.patience:
            await trio.sleep(CROWDED_POLL_S)
            now = inputs.reader.bytes_read + self.sender.counters["acked"]
            if now != before:
                before, moved_at = now, self.machine.now()
        reading.cancel()

    async def _sync(self) -> None:
        with self._syncing:
            await self.journal.run()

    async def _close(self) -> None:
        self._syncing.cancel()  # nothing syncs a journal that is closed
        await trio.lowlevel.checkpoint()
        await self.journal.close()

    def _save_streams(self) -> None:
        """Before the first packet of a stream a checkpoint knows it, so that after SIGKILL a file renamed or copied
        meanwhile is told by it. Where streams are many and change all the time, some seconds later."""
        if self._inputs is None or self._inputs.known.naming.changes == self._saved_changes:
            return
        known, now = self._inputs.known, self.machine.now()
        if now < self._saved_at + known.count * SAVE_STREAM_S:
            return
        self._saved_at, self._saved_changes = now, known.naming.changes
        with contextlib.suppress(JournalError):  # no room: the next one says it all
            self.journal.save()

    async def _save_again_and_again(self) -> None:
        """A file that ended, or has no line yet, brings no packet."""
        while True:
            await trio.sleep(until_beat(self.machine.now(), SAVE_EVERY_S))
            self._save_streams()

    async def _leave(self, inputs: "Inputs") -> None:
        """A stop in order. What can't be journaled now is read again by the next start."""
        with trio.move_on_after(STOP_FLUSH_S):
            await inputs.reader.stop()
        outcome = await self.mender.finish(None)
        await self._close()
        log.info("a tailer stops", why=outcome.text, **inputs.known.counts)

    async def _report(self, inputs: "Inputs") -> None:
        """Say now and then what was done, if anything was."""
        before: dict[str, int] = {}
        while True:
            await trio.sleep(ONCE_REPORT_EVERY_S if self.settings.ends else REPORT_EVERY_S)
            done = {"read": inputs.reader.bytes_read, "packets": self.journal.counters["packets"]}
            done |= {"waiting": self.sender.waiting, **inputs.known.counts}
            if done != before:
                log.info("so far", **done)
                before = done


@dataclass
class Inputs:
    """What reads files."""

    blocks: Blocks
    known: Known
    reader: Reader
    watching: Watching


async def unless(stop: trio.Event, work: Callable[[], Awaitable[None]]) -> bool:
    """Do the work, but not beyond `stop`; was it done?"""
    done = False
    async with trio.open_nursery() as nursery:

        async def end() -> None:
            await stop.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(end)
        await work()
        done = True
        nursery.cancel_scope.cancel()
    return done
