"""How complete is what we hold? Seals say what was written, listings what is there; the rest is arithmetic.

For each tailer, over the buckets asked for:

    conflicting  its chain of seals forks, or two different packets are under one of its keys
    incomplete   packets that its seals name are nowhere to be had, or it says itself that something was dropped
    unknown      what can't be proved: a seal is missing in the chain, a host of the roster is silent, its last
                 seconds before a crash are lost, a buck that may hold the missing packets did not answer or is not
                 sure; numbers that no seal has ever stated
    complete     none of these, as of the last seal

The worst of these is the tailer's state; the worst tailer's is the whole's, but without every member's answer that is
never "complete": a tailer that only the silent one has met would be missing. A buck that answers and is not sure what
it holds changes nothing as long as the others hold all that is stated. "Complete" never means more than the seals can
say: the seal's number is part of the verdict. A missing packet whose class allowed that (one copy, or none of the
resending) is incomplete too, but `allowed`: no promise was broken. Seals count by class, so the same is told of what
was given up, dropped at the source, or not read.

Who is expected says the roster (protocol/roster.py): a tailer that ever was met must state every window, until its own
goodbye or an admin's word ends that. A tailer that merely stopped is still expected.

Pure: what is held comes as sets of numbers, from bucks or from an archive's footers; the answer is one JSON document.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from porter.account import COMPLETE, CONFLICTING, INCOMPLETE, UNKNOWN, WORSE, Account, Gap, Unknown
from protocol.packet import Class, Key
from protocol.ranges import Ranges
from protocol.roster import EXPECTED, RETIRED, Entry, Expected, Retirement, roster
from protocol.seal import Chain, Seal, Section, chain

__all__ = [
    "COMPLETE",
    "CONFLICTING",
    "INCOMPLETE",
    "UNKNOWN",
    "Account",
    "Evidence",
    "Gap",
    "Unknown",
    "Verdict",
    "judge",
]

VERSION = 1


@dataclass
class Evidence:
    """What there is to judge by. `held`: epoch of a tailer -> bucket -> packet numbers, over all sources.

    `asked`: did all members answer? `unsure`: the buckets of which one of these may hold more than it says; in all
    others what nobody holds is nowhere. `due`: tailers of the roster must have stated everything before this bucket.
    `healed`: tailers of which no file has a hole: what a crash lost is here, if its seal says that the files were
    read again.
    """

    seals: Sequence[Seal]
    held: Mapping[tuple[bytes, int], Mapping[int, Ranges]]
    conflicts: Mapping[Key, Iterable[bytes]] = field(default_factory=dict)  # and the contents of the packets, if known
    asked: bool = True
    due: int = 0
    healed: frozenset[bytes] = frozenset()
    unsure: Collection[int] = ()
    expected: Iterable[Expected] = ()
    retired: Iterable[Retirement] = ()


@dataclass(frozen=True)
class Verdict:
    """All accounts over the buckets [start, end); 0 is open."""

    env: str
    start: int
    end: int
    accounts: tuple[Account, ...]
    asked: bool = True  # otherwise a tailer that only a silent buck has met may be missing among the accounts

    @property
    def state(self) -> str:
        """The worst of its accounts. Nothing at all is unknown: a mistyped archive must not look complete."""
        states = [account.state for account in self.accounts] or [UNKNOWN]
        return max(*states, COMPLETE if self.asked else UNKNOWN, key=WORSE.index)

    def document(self, **more: object) -> dict[str, object]:
        """The verdict as a JSON document; `more` are members of its own for who writes it (objects, roster)."""
        return {
            "version": VERSION,
            "env": self.env,
            "from": self.start,
            "to": self.end,
            "state": self.state,
            "asked": self.asked,
            "tailers": [account.document() for account in self.accounts],
            **more,
        }


def judge(env: str, evidence: Evidence, start: int = 0, end: int = 0, hosts: Iterable[bytes] = ()) -> Verdict:
    """The verdict over buckets [start, end), of all tailers or of those on `hosts`."""
    window = _Window(start, end or 1 << 32)
    seals: defaultdict[bytes, list[Seal]] = defaultdict(list)
    for seal in evidence.seals:
        seals[seal.tailer].append(seal)
    chains = {tailer: chain(mine) for tailer, mine in seals.items()}
    entries = roster({tailer: one.ordered for tailer, one in chains.items()}, evidence.expected, evidence.retired)
    tailers = {*entries, *(tailer for tailer, _ in evidence.held)}
    found = [
        _account(tailer, chains.get(tailer, chain([])), entries.get(tailer), evidence, window) for tailer in tailers
    ]
    wanted = set(hosts)
    kept = [one for one in found if (not wanted or one.host in wanted) and _concerns(one)]
    accounts = tuple(sorted(kept, key=lambda one: (one.host, one.tailer)))
    return Verdict(env, start, end, accounts, evidence.asked)


class _Window(NamedTuple):
    start: int
    end: int

    def holds(self, bucket: int) -> bool:
        return self.start <= bucket < self.end

    def meets(self, start: int, end: int) -> bool:
        return start < self.end and self.start < end


def _concerns(account: Account) -> bool:
    """A tailer that had nothing to do with the range, and is known to have had nothing, needs no line."""
    return bool(account.packets or account.unstated or account.state != COMPLETE or account.seal >= 0)


def _account(tailer: bytes, seals: Chain, entry: Entry | None, evidence: Evidence, window: _Window) -> Account:
    account = Account(tailer, entry.host if entry else b"")
    held = {epoch: buckets for (one, epoch), buckets in evidence.held.items() if one == tailer}
    ordered = seals.ordered
    if ordered:
        _follow_chain(account, seals, window)
    stated, given_up = _stated(ordered)
    for seal in ordered:
        for section in seal.sections:
            mine = held.get(section.epoch, {})
            if window.holds(section.bucket):
                _weigh(account, section, mine.get(section.bucket, Ranges()), given_up[section.epoch], evidence)
            gone = section.given_up  # those that a seal states are weighed in their own bucket
            gone = gone - Ranges.union((stated[section.epoch], *mine.values())) if gone else gone
            _note_losses(account, section, gone, seal, evidence, window)
    unstated = _unstated(held, stated, window)
    account.unstated = sum(unstated.values())
    _note_unstated(account, ordered, stated, given_up, window)
    if entry is not None:
        account.end = entry.state
        _note_silence(account, entry, ordered, min(unstated, default=None), evidence.due, window)
    if account.unstated and not ordered:
        account.unknown.append(
            Unknown(window.start, 0, "no seal of this tailer was seen (the first comes a minute after a bucket's end)")
        )
    for key, contents in sorted(evidence.conflicts.items()):
        if key.tailer == tailer:
            text = f"two packets are numbered {key.number} in epoch {key.epoch:x}"
            names = ", ".join(sorted(content.hex()[:16] for content in contents))
            account.conflicts.append(f"{text}: {names}" if names else text)
    return account


def _stated(seals: Iterable[Seal]) -> tuple[dict[int, Ranges], dict[int, Ranges]]:
    """Epoch -> all numbers that these seals state, and all that they give up."""
    stated: defaultdict[int, list[Ranges]] = defaultdict(list)
    given_up: defaultdict[int, list[Ranges]] = defaultdict(list)
    for seal in seals:
        for section in seal.sections:
            stated[section.epoch].append(section.numbers)
            given_up[section.epoch].append(section.given_up)
    first, second = ({epoch: Ranges.union(some) for epoch, some in found.items()} for found in (stated, given_up))
    return first, second


def _unstated(held: Mapping[int, Mapping[int, Ranges]], stated: Mapping[int, Ranges], window: _Window) -> Counter[int]:
    """Bucket -> packets held that no seal names."""
    found: Counter[int] = Counter()
    for epoch, buckets in held.items():
        for bucket, numbers in buckets.items():
            if window.holds(bucket):
                found[bucket] += (numbers - stated.get(epoch, Ranges())).count
    return +found


def _follow_chain(account: Account, seals: Chain, window: _Window) -> None:
    """What is wrong with the chain itself goes to the account."""
    ordered, holes, forks = seals
    last = ordered[-1]
    account.host, account.seal, account.digest, account.until = last.host, last.number, last.digest, last.until
    account.closed = last.closing
    for number in forks.numbers():
        account.conflicts.append(f"its chain of seals forks at seal {number}")
    for first, end in holes:
        before = max((seal.until for seal in ordered if seal.number < first), default=0)
        after = min((seal.until for seal in ordered if seal.number >= end), default=0)
        if before < window.end and (not after or after > window.start):
            name = f"seal {first}" if end - first == 1 else f"seals {first}-{end - 1}"
            account.unknown.append(Unknown(before, after, f"{name} of its chain can't be found"))


def _weigh(account: Account, section: Section, held: Ranges, given_up: Ranges, evidence: Evidence) -> None:
    """What a seal says of one bucket, against what is there; `given_up`: by any seal, of that epoch."""
    account.packets += section.numbers.count
    account.events += section.events
    account.raw += section.raw
    sums = account.classes.setdefault(section.kind, Counter())
    sums.update(packets=section.numbers.count, events=section.events, raw=section.raw)
    missing = section.numbers - held
    width = 1  # a bucket is named by its start; the reader knows how wide it is
    gone = missing & given_up if missing else missing
    if gone:  # its tailer could not read it back, and no buck had it
        reason = "sealed, and given up by its tailer"
        account.gaps.append(Gap(section.epoch, section.bucket, gone, _allowed(section.kind), reason))
        missing -= gone
    if missing and evidence.asked and section.bucket not in evidence.unsure:
        reason = "sealed, and nobody has it"
        account.gaps.append(Gap(section.epoch, section.bucket, missing, _allowed(section.kind), reason))
    elif missing:
        reason = f"packets {missing!r} may be on a buck that was not asked, or is not sure"
        account.unknown.append(Unknown(section.bucket, section.bucket + width, reason))


def _note_losses(
    account: Account, section: Section, gone: Ranges, seal: Seal, evidence: Evidence, window: _Window
) -> None:
    """What a seal says is missing. It is filed where the tailer noticed; `since` says from when on it may have been."""
    known = section.since == section.bucket  # the packet was given up, but its bucket is known
    since, until = section.since, section.bucket + 1 if known else max(seal.until, section.bucket + 1)
    if not window.meets(since, until):
        return
    allowed = _allowed(section.kind)
    if gone:
        text = "" if known else f", which wrote them after {since}"
        reason = f"given up by its tailer{text}"
        account.gaps.append(Gap(section.epoch, section.bucket, gone, allowed, reason))
    account.dropped += section.dropped
    account.unread += section.unread
    account.dropped_allowed += section.dropped * allowed
    account.unread_allowed += section.unread * allowed
    lost = Counter(given_up=section.given_up.count, dropped=section.dropped, unread=section.unread)
    if +lost:
        account.classes.setdefault(section.kind, Counter()).update(lost)
    if section.lost_after is not None and not (section.read_again and account.tailer in evidence.healed):
        reason = f"what epoch {section.epoch:x} wrote after packet {section.lost_after} was lost in a crash"
        account.unknown.append(Unknown(since, until, reason))


def _note_unstated(
    account: Account,
    ordered: Sequence[Seal],
    stated: Mapping[int, Ranges],
    given_up: Mapping[int, Ranges],
    window: _Window,
) -> None:
    """Numbers below the highest that a seal states, and that none does: a tailer gives them out without a hole.

    Where a seal is missing that was said; an epoch that a crash ended may have lost any.
    """
    if len(ordered) != (ordered[-1].number + 1 if ordered else 0):
        return
    sections = [section for seal in ordered for section in seal.sections]
    lost = {section.epoch for section in sections if section.lost_after is not None}
    for epoch, numbers in stated.items():
        if epoch in lost or not numbers:
            continue
        for first, end in numbers.holes(0, numbers.last + 1) - given_up[epoch]:
            start, until = _around(ordered, epoch, first)
            if window.meets(start, until):
                reason = f"packets {first}-{end - 1} of epoch {epoch:x} were never stated"
                account.unknown.append(Unknown(start, until, reason))


def _around(ordered: Sequence[Seal], epoch: int, number: int) -> tuple[int, int]:
    """The buckets in which a packet of this number must lie: it was due in the first seal that goes beyond it."""
    since = 0
    for seal in ordered:
        mine = [section for section in seal.sections if section.epoch == epoch and section.numbers]
        if any(section.numbers.last > number for section in mine):
            buckets = [section.bucket for section in mine]
            return min(since, *buckets), max(seal.until, *(bucket + 1 for bucket in buckets))
        since = seal.until
    return 0, 0


def _allowed(kind: Class) -> bool:
    return kind.copies < 2 or not kind.resend


def _note_silence(
    account: Account, entry: Entry, ordered: Sequence[Seal], after: int | None, due: int, window: _Window
) -> None:
    """Who is on the roster must have stated all that is due. What ended its entry has a date, and no window before it.

    A goodbye is taken back by packets that no seal states (the first is of the bucket `after`): it has run again.
    """
    end = min(due, window.end)
    last = ordered[-1] if ordered else None
    until = last.until if last else entry.since
    if entry.seals > (last.number + 1 if last else 0) and window.meets(until, entry.until):
        count = f"its chain had {entry.seals} seals when it was retired: the last can't be found"
        account.unknown.append(Unknown(until, entry.until, count))
    if entry.state == RETIRED:
        width = last.width if last else 1
        if window.meets(entry.until, entry.until + width):
            reason = "it fell silent here, and was retired"
            account.unknown.append(Unknown(entry.until, entry.until + width, reason))
    elif entry.state == EXPECTED and until < end:
        silent = "it has been silent since" if last else "it was met, and no seal of it can be found"
        reason = "it was stopped, and neither runs again nor has said goodbye" if last and last.closing else silent
        account.unknown.append(Unknown(max(until, window.start), 0, reason))
    elif entry.state != EXPECTED and after is not None and after < end:
        account.unknown.append(Unknown(after, 0, "it went on after its goodbye, and has sealed nothing of that"))
