"""`porter audit`: is everything there that the tailers say they have written, and can it be proved?

What is held is asked of every buck (sets of packet numbers, no packet is fetched) and read from the archive's footers
(`archive_audit.py`); what must be there is in the seals, which come from both too. `verdict.py` weighs one against the
other; each packet's copies are counted on the way.

`--deep` believes no listing and no footer: `deep.py` fetches every copy from every buck, `proof.py` reads every row of
the archive, and what fails counts as not held, and is named.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from porter.cluster import Cluster
from porter.copies import Copies
from porter.coverage import Coverage
from porter.damage import Damage
from porter.deep import contents_of, good_copies
from porter.gather import AT_ONCE, Epoch, Numbers, Survey, survey_all
from porter.reader import Reader, numbers_text
from porter.roster import Seen, ask_roster
from porter.signed import Signed
from porter.verdict import COMPLETE, UNKNOWN, Evidence, Verdict, judge
from protocol.messages import Covered, Intervals
from protocol.packet import Key
from protocol.ranges import Ranges
from protocol.seal import Seal

__all__ = ["Audit", "Found", "Tell", "audit", "look_at_bucks", "sealed_and_gone"]

SEAL_LAG_S = 120  # a tailer seals a bucket at most a minute after its end; twice that is silence

Tell = Callable[[int, str], None]


@dataclass
class Found:
    """What there is, from all sources: the evidence of an audit before it is judged."""

    keys: frozenset[bytes] = frozenset()  # whose seals and verdicts are believed; none: anybody's
    seals: list[Seal] = field(default_factory=list)
    held: dict[tuple[bytes, int], dict[int, Ranges]] = field(default_factory=dict)
    copies: Copies = field(default_factory=Copies)
    conflicts: dict[Key, set[bytes]] = field(default_factory=dict)  # and the contents of the packets
    damage: list[Damage] = field(default_factory=list)  # what of the archive is not as it was written
    troubles: list[str] = field(default_factory=list)  # what went wrong without making anything incomplete
    notes: list[str] = field(default_factory=list)  # what takes nothing from the verdict
    unsure: dict[str, None] = field(default_factory=dict)  # bucks that may hold more than they say
    doubted: set[int] = field(default_factory=set)  # the buckets of which they may
    asked: bool = True
    due: int = 0
    coverage: Coverage = field(default_factory=Coverage)
    seen: Seen = field(default_factory=Seen)
    archived: dict[tuple[bytes, int], dict[int, Ranges]] = field(default_factory=dict)  # of `held`
    offline: bool = False  # an archive was looked at: what it has is known, whatever bucks say of it
    let_go: dict[tuple[bytes, int], dict[int, Ranges]] = field(default_factory=dict)  # archived, as bucks say

    def hold(self, bucket: int, numbers: Numbers) -> None:
        """These packets of a bucket are there."""
        _hold(self.held, bucket, numbers)

    def hold_all(self, held: Mapping[tuple[bytes, int], Mapping[int, Ranges]]) -> None:
        """These packets of many buckets are there."""
        for epoch, buckets in held.items():
            for bucket, numbers in buckets.items():
                self.hold(bucket, {Epoch(*epoch): numbers})

    def unprove(self, damage: Damage) -> None:
        """What is not as it was sent is not there."""
        for bucket, numbers in self.held.get((damage.tailer, damage.epoch), {}).items():
            if damage.numbers & numbers:
                self.held[damage.tailer, damage.epoch][bucket] = numbers - damage.numbers

    def add(self, listed: Survey) -> None:
        """What the bucks hold of one bucket."""
        self.hold(listed.bucket, listed.union())
        self.copies.add(listed)
        _hold(self.let_go, listed.bucket, listed.archived)
        if listed.unsure:
            self.unsure |= {f"unsure what it holds: {member}": None for member in listed.unsure}
            self.doubted.add(listed.bucket)

    def settle_archived(self, deep: bool) -> None:
        """What bucks have let go of is in the archive, as a porter has stated; where there is one, it must be there."""
        lacking = 0
        for epoch, buckets in self.let_go.items():
            for bucket, numbers in buckets.items():
                rest = numbers - self.held.get(epoch, {}).get(bucket, Ranges())
                lacking += rest.count
                if not self.offline:
                    _hold(self.archived, bucket, {Epoch(*epoch): numbers})
                    _hold(self.held, bucket, {Epoch(*epoch): rest})
        if lacking and self.offline:
            self.troubles.append(f"{lacking} packets were let go of by bucks, and this archive doesn't have them")
        elif lacking:
            note = f"{lacking} packets are in the archive, and were not looked at: name it with --archive"
            (self.troubles if deep else self.notes).append(note)

    def clash(self, key: Key, contents: Iterable[bytes]) -> None:
        """Several packets have this key."""
        self.conflicts.setdefault(key, set()).update(contents)


def _hold(held: dict[tuple[bytes, int], dict[int, Ranges]], bucket: int, numbers: Numbers) -> None:
    for epoch, more in numbers.items():
        buckets = held.setdefault(epoch, {})
        buckets[bucket] = buckets[bucket] | more if bucket in buckets else more.copy()


@dataclass(frozen=True)
class Audit:
    """The verdict, how many copies there are, and what else came to light. `notes` take nothing from the verdict."""

    verdict: Verdict
    copies: dict[bytes, dict[int, int]]
    below: dict[bytes, int]  # tailer -> packets on fewer bucks than their class asks for
    damage: tuple[Damage, ...]
    troubles: tuple[str, ...]
    notes: tuple[str, ...] = ()
    archived: Mapping[bytes, int] = field(default_factory=dict)  # tailer -> packets at A3

    def document(self) -> dict[str, object]:
        """As JSON."""
        return self.verdict.document(
            copies={tailer.hex(): counts for tailer, counts in self.copies.items()},
            archived={tailer.hex(): count for tailer, count in self.archived.items()},
            below={tailer.hex(): count for tailer, count in self.below.items()},
            damage=[one.document() for one in self.damage],
            troubles=list(self.troubles),
            notes=list(self.notes),
        )


def audit(
    env: str, found: Found, start: int = 0, end: int = 0, hosts: Collection[bytes] = (), deep: bool = False
) -> Audit:
    """Judge what was found. `deep`: only what was looked at is believed without a word."""
    found.settle_archived(deep)
    width = max((seal.width for seal in found.seals), default=1)
    start -= start % width  # the bucket that a range begins in belongs to it
    healed = found.coverage.whole()
    facts = found.conflicts, found.asked, found.due, healed, found.doubted
    roster = found.seen.expected.values(), found.seen.retired.values()
    evidence = Evidence(found.seals, found.held, *facts, *roster)
    verdict = judge(env, evidence, start, end, hosts)
    more = [] if verdict.accounts else [f"no tailer of env {env} was found: are host, env, peer and archive right?"]
    if not found.asked and verdict.state == UNKNOWN:
        more.append("unknown: a tailer that only a buck that was not asked has met would be missing here")
    below = found.copies.below(found.seals, found.archived)
    counts = found.copies.counts(), below, tuple(found.damage)
    notes, troubles = _below_text(below, verdict), (*found.troubles, *found.seen.troubles)
    notes += found.notes
    archived = _at_a3(found)
    if verdict.state == COMPLETE:  # all that is stated is held, whatever else an unsure buck may hold
        return Audit(verdict, *counts, (*troubles, *more), (*found.unsure, *notes), archived)
    return Audit(verdict, *counts, (*troubles, *found.unsure, *more), tuple(notes), archived)


def _at_a3(found: Found) -> dict[bytes, int]:
    """Tailer -> how many of its packets are in the archive."""
    counts: Counter[bytes] = Counter()
    for (tailer, _), buckets in found.archived.items():
        counts[tailer] += sum(numbers.count for numbers in buckets.values())
    return dict(+counts)


def _below_text(below: Mapping[bytes, int], verdict: Verdict) -> list[str]:
    """Which tailers have packets on too few bucks."""
    hosts = {account.tailer: account.host.decode("utf-8", "backslashreplace") for account in verdict.accounts}
    return [
        f"{hosts[tailer]} ({tailer.hex()[:12]}): {count} packets are on fewer bucks than their class asks for"
        for tailer, count in sorted(below.items())
        if tailer in hosts
    ]


async def look_at_bucks(cluster: Cluster, found: Found, start: int, end: int, deep: bool, tell: Tell) -> None:
    """Add what the bucks have of the buckets [start, end); 0 is open."""
    sealed = await cluster.seals()
    known = {seal.data for seal in found.seals}
    for seal in sealed.seals:
        if found.keys and seal.public not in found.keys:
            found.troubles.append(f"a seal by {seal.public.hex()}, which is not among the known keys")
        elif seal.data not in known:
            found.seals.append(seal)
    found.troubles += sealed.forged
    found.seen.join(await ask_roster(cluster))
    signed = Signed(found.seals) if deep else None
    found.due = (await cluster.time_s() - SEAL_LAG_S) // cluster.width * cluster.width
    buckets = [bucket.bucket for bucket in await cluster.buckets(start - start % cluster.width, end)]
    for at in range(0, len(buckets), AT_ONCE):
        tell(at, f"of {len(buckets)} buckets")
        for listed in await survey_all(cluster, buckets[at : at + AT_ONCE]):
            await _look_at_bucket(cluster, listed, signed, found)
    found.copies.members = sum(not member.leaving for member in cluster.members)
    found.troubles += [f"not asked: {member}: {member.trouble}" for member in cluster.silent]
    found.troubles = list(dict.fromkeys(found.troubles))
    if any(section.lost_after is not None for seal in found.seals for section in seal.sections):
        await found.coverage.add_bucks(cluster)
    found.asked = not cluster.silent


async def _look_at_bucket(cluster: Cluster, listed: Survey, signed: Signed | None, found: Found) -> None:
    if signed is None:
        clashes = await contents_of(cluster, listed)
    else:
        listed, clashes, troubles = await good_copies(cluster, listed, signed)
        found.troubles += troubles
    for key, contents in clashes.items():
        found.clash(key, contents)
    found.add(listed)


async def sealed_and_gone(reader: Reader, tailers: Collection[bytes]) -> list[str]:
    """Packets of these tailers that nobody has any more: any of their files may lack something, even at its end."""
    seals: list[Seal] = []
    held: defaultdict[tuple[bytes, int], Ranges] = defaultdict(Ranges)
    if reader.archive is not None:
        from porter.archive_audit import look_at_archive  # numpy and pyarrow are loaded where there is an archive

        found = Found()
        await look_at_archive(reader.archive, found)
        seals += found.seals
        for epoch, numbers in (await reader.archive.covers()).items():
            held[epoch] |= numbers
    if reader.bucks is not None:
        cluster = reader.bucks.cluster
        for tailer in tailers:
            seals += (await cluster.seals(tailer)).seals
            for answer in await cluster.ask_all(Covered(0, tailer, (), ())):
                assert isinstance(answer.message, Intervals)
                for number, numbers in answer.message.epochs:
                    held[tailer, number] |= numbers
    gone: dict[tuple[bytes, int, int], Ranges] = {}
    for seal in seals:
        for section in seal.sections if seal.tailer in tailers else ():
            lost = section.numbers - held[seal.tailer, section.epoch]
            if lost:
                place = seal.tailer, section.epoch, section.bucket
                gone[place] = gone.get(place, Ranges()) | lost
    return [
        f"packets {numbers_text(numbers)} of {tailer.hex()}/{epoch:x} in bucket {bucket} are gone: "
        "they may have held more of this file"
        for (tailer, epoch, bucket), numbers in sorted(gone.items(), key=lambda one: one[0])
    ]
