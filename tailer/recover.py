"""After an unclean stop, or with a journal that is gone or behind: ask the bucks what they hold of this tailer.

All members are asked, for at most a minute (or some seconds after the first answer, if only the process was killed),
for three things: the numbers they hold of each epoch, how far the streams are covered, and the seals. Then

* the chain of seals goes on after the last seal that anybody has, so that it never forks;
* starts that the journal has lost are written down, with what seals state of them: that is on its way, or done;
* packets that bucks hold and the journal lost (a damaged record, a torn tail, the whole folder) are fetched and
  appended again under their old keys: from there on they are sealed, copied and finished like all others;
* numbers that nobody holds are given up, but only if all members answered and none was unsure;
* an epoch that a crash ended is sealed as lost after its last known number;
* the agent gets each stream's coverage, journal and bucks together, and reads on at the first uncovered offset.

A member that stays silent makes the answer a lower bound: more is read again than must be, and readers remove it by
its identity. Nothing here decodes a line.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import trio

from protocol.errors import FormatError, ProtocolError
from protocol.limits import EARLY_S, LATE_S
from protocol.link import Asker
from protocol.messages import List, Listing
from protocol.packet import Packet
from protocol.ranges import Ranges
from service.faults import faultpoint
from service.log import get_log
from tailer.asking import ANSWER_S, Account, ask_all, ask_covered, ask_seals
from tailer.fetch import ask_packets
from tailer.journal import BOOT_SHIFT, Journal, JournalError, JournalFull
from tailer.members import Members
from tailer.replay import FIRST_NUMBER

PATIENCE_S = 60.0
OTHERS_S = 5.0  # after the first answer, where the journal has all that it ever knew: then bucks can hardly add to it
HEAD_S = 5.0  # one buck is asked for the last seal at each start
NS = 1_000_000_000

log = get_log("tailer.recover")


@dataclass
class Recovered:
    """What the agent needs to know. Without `needed` nobody was asked, and `coverage` is the journal's."""

    needed: bool
    coverage: dict[bytes, Ranges]
    silent: frozenset[bytes] = frozenset()  # members that did not answer
    unsure: bool = False
    fetched: int = 0
    given_up: int = 0
    behind: bool = (
        False  # the journal is gone, damaged or older than what the bucks have: it may have forgotten streams
    )


def is_needed(journal: Journal) -> bool:
    """Was a stop unclean, or is this not the journal of the last start?"""
    return journal.recovered.unsure or journal.settled < journal.boots - 1


async def recover(journal: Journal, members: Members, patience_s: float = PATIENCE_S) -> Recovered:
    """Once, before anything is read. JournalError if the journal can't be written."""
    restored = not is_needed(journal) and await _is_restored(journal, members, min(patience_s, HEAD_S))
    if not restored and not is_needed(journal):
        return Recovered(False, journal.recovered.coverage)
    streams = sorted({*journal.recovered.coverage, *journal.recovered.streams})
    account = Account(known=set(journal.recovered.ends))
    since = journal.chain.head[0] + 1

    async def ask(node: bytes, asker: Asker) -> None:
        await ask_covered(account, node, asker, journal.node, streams, ())
        await ask_seals(account, asker, journal.node, since)

    others_s = OTHERS_S if _is_whole(journal, members.machine.boot_id) else float("inf")
    await ask_all(members, patience_s, account, ask, others_s)
    recovered = Recovered(True, journal.recovered.coverage, members.nodes - account.answered, account.unsure)
    sure = members.heard and not recovered.silent and not account.unsure
    await _go_on_from(journal, account)
    whole = False
    with trio.move_on_after(ANSWER_S):
        whole = await _fetch(journal, members, account)
    recovered.fetched = journal.counters["adopted"]
    recovered.given_up = _close_epochs(journal, account, sure and whole)
    recovered.behind = restored or not _is_ordinary(journal)
    if not restored:  # a file restored with its journal may have other bytes by now where bucks have the old ones
        journal.cover(account.streams)
        recovered.coverage = journal.coverage
    if whole and (sure or _is_ordinary(journal)):
        journal.settle()
    await journal.sync()
    faultpoint("tailer.recover.done")
    silent = ", ".join(sorted(node.hex() for node in recovered.silent))
    log.info("the bucks were asked", fetched=recovered.fetched, given_up=recovered.given_up, silent=silent)
    return recovered


async def _is_restored(journal: Journal, members: Members, patience_s: float) -> bool:
    """Do the bucks have a later seal than a journal that was closed in order? Then it is an old copy. One is asked."""
    if journal.chain.head[0] < 0 and not journal.recovered.found:
        return False  # the very first start
    account = Account()
    with trio.move_on_after(patience_s):
        for buck in members.linked():
            try:
                async with members.reach(buck) as asker:
                    await ask_seals(account, asker, journal.node, journal.chain.head[0] + 1)
                break
            except (ProtocolError, OSError) as error:
                log.debug("a member did not answer", node=buck.node.hex(), why=str(error))
    restored = account.head is not None
    if restored:
        log.warning("the journal is older than the seals that bucks have", folder=journal.folder)
    return restored


def _is_ordinary(journal: Journal) -> bool:
    """A killed process, whose journal has all that it ever knew: a member that is dead needn't be asked each time."""
    found = journal.recovered
    return found.epoch is not None and found.epoch >> BOOT_SHIFT == journal.boots - 1 and not found.holes


def _is_whole(journal: Journal, boot_id: bytes) -> bool:
    """A process that was killed while its host went on: what it wrote is in the page cache, fsynced or not."""
    checkpoint = journal.recovered.checkpoint
    return _is_ordinary(journal) and checkpoint is not None and checkpoint.boot_id == boot_id


# --- drawing conclusions ------------------------------------------------------------------------------------------


async def _go_on_from(journal: Journal, account: Account) -> None:
    """The chain goes on after the last seal that anybody has; what those seals state is sealed.

    Starts that the journal has lost are written down before anything of them is fetched: else the next start, if this
    one is killed, would take them for ended in order; or, while bucks are asked again, for unheard of once more.
    """
    epochs = _lost_epochs(journal, account)
    for epoch in account.stated_lost:
        journal.chain.lost.pop(epoch, None)
    for epoch in sorted(epochs):
        sealed = account.sealed.get(epoch, Ranges())
        if epoch not in account.known:
            journal.hear_of(epoch, sealed)
        journal.ledger.note_sealed(epoch, sealed)
        if epoch in journal.chain.lost or not (epoch in account.known or _is_finished(account, epoch)):
            journal.chain.lost[epoch] = _last(journal, account, epoch)
    if epochs - account.known:
        journal.save()
        await journal.sync()
    if account.head is not None and account.head.number > journal.chain.head[0]:
        journal.adopt_seal(account.head)


def _is_finished(account: Account, epoch: int) -> bool:
    """Did a start end in order, or has a seal said that it did not?"""
    closed = account.head is not None and account.head.closing
    newest = max(account.epochs(), default=-1)
    stated = not account.epoch(epoch) - account.sealed.get(epoch, Ranges())
    return epoch in account.stated_lost or (stated and (closed or epoch != newest))


def _last(journal: Journal, account: Account, epoch: int) -> int:
    """The last number that anybody knows of."""
    heard = account.epoch(epoch), account.sealed.get(epoch, Ranges())
    return max([journal.recovered.ends.get(epoch, FIRST_NUMBER) - 1, *(ranges.last for ranges in heard if ranges)])


def _lost_epochs(journal: Journal, account: Account) -> set[int]:
    """Epochs that are not over and done with: those the journal still knows, and starts it has never heard of."""
    newer = {epoch for epoch in account.epochs() if epoch >> BOOT_SHIFT > journal.settled}
    return (account.known | newer) - {journal.epoch}


def _missing(journal: Journal, account: Account, epoch: int) -> Ranges:
    """Numbers of an epoch that should be somewhere and are neither here nor done."""
    known = journal.recovered.holes.get(epoch, Ranges()).copy()
    known.add(journal.recovered.ends.get(epoch, FIRST_NUMBER), _last(journal, account, epoch) + 1)
    if epoch not in account.known:
        known -= account.sealed.get(epoch, Ranges())  # a start that was lost here: that is on its way or done
    return known - Ranges((n, n + 1) for one, n in journal.ledger.entries if one == epoch)


async def _fetch(journal: Journal, members: Members, account: Account) -> bool:
    """Get what bucks hold and the journal lost, newest buckets first. Was there room for all of it?"""
    epochs = _lost_epochs(journal, account)
    wanted = {epoch: _missing(journal, account, epoch) & account.epoch(epoch) for epoch in epochs}
    wanted = {epoch: numbers for epoch, numbers in wanted.items() if numbers}
    now_s, width = (members.machine.time_ns() + members.offset_ns) // NS, journal.width
    for index in range((now_s + 2 * EARLY_S) // width, (now_s - LATE_S) // width - 1, -1):
        for node in sorted(account.held):
            if any(wanted.values()) and index >= 0:
                try:
                    await _fetch_bucket(journal, members, account, node, index * width, wanted)
                except JournalFull as error:
                    log.warning("not all that bucks hold has room: the next start goes on", why=str(error))
                    return False
    return True


async def _fetch_bucket(
    journal: Journal, members: Members, account: Account, node: bytes, bucket: int, wanted: dict[int, Ranges]
) -> None:
    """From one buck, one bucket."""
    try:
        async with (
            members.reach(members.bucks[node]) as asker,
            aclosing(_packets(asker, journal.node, bucket, wanted)) as packets,
        ):
            async for packet in packets:
                epoch, number = packet.header.epoch, packet.header.number
                if number in wanted.get(epoch, ()):
                    holders = [one for one, held in account.held.items() if number in held.get(epoch, ())]
                    if len(packet.data) > journal.room():
                        await journal.sync()  # what isn't synced is held in memory, and takes room
                    journal.adopt(packet, holders)
                    wanted[epoch].discard(number, number + 1)
    except JournalError:
        raise
    except (ProtocolError, FormatError, OSError) as error:
        log.warning("packets could not be fetched", node=node.hex(), bucket=bucket, why=str(error))


async def _packets(asker: Asker, tailer: bytes, bucket: int, wanted: dict[int, Ranges]) -> AsyncGenerator[Packet, None]:
    listing = await asker.ask(List(0, bucket), ANSWER_S)
    entries = listing.entries if isinstance(listing, Listing) else ()
    keys = tuple(
        (tailer, epoch, numbers & wanted[epoch])
        for owner, epoch, numbers in entries
        if owner == tailer and epoch in wanted and numbers & wanted[epoch]
    )
    if keys:
        async with aclosing(ask_packets(asker, bucket, keys)) as parts:
            async for part in parts:
                if isinstance(part, Packet) and part.header.tailer == tailer:
                    yield part


def _close_epochs(journal: Journal, account: Account, sure: bool) -> int:
    """Give up what is nowhere, if that is sure. Returns how many numbers were."""
    given_up = 0
    for epoch in sorted(_lost_epochs(journal, account)) if sure else ():
        missing = _missing(journal, account, epoch) - account.epoch(epoch)
        journal.recovered.holes.pop(epoch, None)
        if missing:
            journal.give_up(epoch, missing)
            given_up += missing.count
    return given_up
