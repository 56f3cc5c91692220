"""`porter prune`: bucks let go of what is archived, once it was read back, and of nothing else.

    due       hours of which bucks still hold packets, as `archive.py` says it: older than `--older`, and quiet
    verify    the hour's last verdict, its signature, and every part that it names, read whole: is it that very object?
              Where the verdict is another porter's, and none of `--keys`, the parts' rows are proved too
    state     a bucket at a time: which packets are in those parts, by key and content, signed with this porter's key.
              Only those that a seal states or renounces, or whose tailer is retired: nobody can say yet that the others
              are all. Renounced is what a tailer gave up, or wrote when a crash ended its epoch: it may turn up on a
              disk that comes back, and is archived then as a straggler like any other
    let go    every buck drops the bucket files of which all packets are named, and keeps the others (buck/pruning.py)

Run it twice, or on two hosts at once: what is gone is gone. Killed anywhere, it has at most done less. A buck that was
away is told by the next run. Two packets of one key are never named: whoever holds one of them keeps it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from porter.archive import due
from porter.archived import Archive
from porter.catalog import HOUR_S, PartName
from porter.cluster import Cluster
from porter.document import opened
from porter.footer import Footer
from porter.gather import survey
from porter.member import Member, said
from porter.objects import Objects, ObjectsError
from porter.proof import damage_of
from porter.roster import ask_roster
from porter.signed import Signed
from protocol.errors import FormatError, ProtocolError
from protocol.limits import STATEMENT_PACKETS_MAX
from protocol.messages import Archived, No, Pruned
from protocol.ranges import Ranges
from protocol.seal import CONTENT_SIZE, Seal
from protocol.statement import Named, Statement
from service.faults import faultpoint

__all__ = ["Let", "named_in", "prune"]

# A buck reads the header of each packet before it lets go of it.
ANSWER_S = 300.0

Tell = Callable[[int, str], None]
Contents = dict[tuple[bytes, int], dict[int, bytes]]  # of a bucket: (tailer, epoch) -> number -> content's first bytes


@dataclass
class Let:
    """What became of one hour."""

    hour: int
    verdict: str = ""
    named: int = 0  # packets that are in the archive, verified
    parts: int = 0  # bucket files let go of, over all bucks; with `dry_run`: none
    packets: int = 0  # in them; with `dry_run`: copies that could be let go of
    bytes: int = 0
    kept: int = 0
    troubles: dict[str, None] = field(default_factory=dict)

    @property
    def short(self) -> bool:
        """Does anything stay that is old enough to go?"""
        return bool(self.kept or self.troubles)

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {**self.__dict__, "troubles": list(self.troubles)}


class _Proven:
    """A verdict that holds, and the parts of its hour that were read back just now."""

    def __init__(self, name: PartName, data: bytes, footers: Sequence[Footer]) -> None:
        self.name = str(name)
        self.digest = hashlib.sha256(data).digest()
        self.footers = footers


async def prune(
    cluster: Cluster,
    objects: Objects,
    older_s: int,
    tell: Tell,
    keys: Iterable[bytes] = (),
    dry_run: bool = False,
) -> list[Let]:
    """Every hour of which there is something on the bucks that is old enough, the oldest first.

    `keys`: public keys of porters whose verdicts are believed as our own are.
    """
    trusted = frozenset(keys) | {cluster.key.public}
    sealed = Signed((await cluster.seals()).seals)
    retired = {one.node for one in (await ask_roster(cluster)).retired.values()}
    held = [bucket for bucket in await cluster.buckets() if bucket.packets]
    hours = due(held, cluster.width, await cluster.time_s(), older_s)
    done: list[Let] = []
    for hour, buckets in hours.items():
        let = Let(hour)
        done.append(let)
        tell(len(done), PartName(cluster.settings.env, hour, "p", 0).text)
        with Archive(cluster.machine, objects, cluster.settings.env, hour, hour + HOUR_S) as archive:
            try:
                proven = await _verify(archive, trusted, let)
            except (FormatError, ObjectsError) as error:
                let.troubles[str(error)] = None
                continue
        if proven is not None:
            named = await cluster.machine.slow(named_in, proven.footers, sealed, retired)
            _note_unsealed(named.unsealed, let)
            await _let_go(cluster, proven, named.contents, [one.bucket for one in buckets], let, dry_run)
    return done


def _note_unsealed(unsealed: Mapping[bytes, int], let: Let) -> None:
    for tailer, count in sorted(unsealed.items()):
        let.troubles[
            f"{count} packets of tailer {tailer.hex()} are archived, and no seal states them yet: they stay until it "
            "comes back, or `porter retire` takes it off the roster"
        ] = None


async def _verify(archive: Archive, trusted: frozenset[bytes], let: Let) -> _Proven | None:
    """The hour's last verdict, and the footers of the parts that are what it says. FormatError if it is no verdict."""
    verdicts = await archive.verdicts()
    if not verdicts:
        let.troubles["it is not archived, or no verdict was written: run `porter archive`"] = None
        return None
    name, data = verdicts[-1]
    document = opened(str(name), data)
    if (document.said["env"], document.said["from"]) != (name.env, name.hour):
        raise FormatError(f"{name}: it speaks of another hour, or env: was it copied?")
    let.verdict = str(name)
    footers = []
    for part in await archive.parts():
        wanted = document.parts.get(str(part))
        if wanted is None:
            let.troubles[f"{part}: no verdict names it: run `porter archive` again"] = None
        elif await archive.digest(str(part)) != wanted:
            let.troubles[f"{part}: not the object that {name} names: run `porter audit --deep`"] = None
        elif document.porter in trusted or await _proved(archive, part, let):
            footers.append(await archive.footer(part))
    for missing in sorted(set(document.parts) - {str(part) for part in await archive.parts()}):
        let.troubles[f"{missing}: it is not there, and {name} names it"] = None
    return _Proven(name, data, footers)


async def _proved(archive: Archive, part: PartName, let: Let) -> bool:
    """Do a part's rows give what its tailers have signed? For parts that only a stranger vouches for."""
    footer = await archive.footer(part)
    async with aclosing(damage_of(archive, part, Signed(map(Seal.read, footer.seals)))) as found:
        async for damage in found:
            let.troubles[damage.text()] = None
            return False
    return True


class Nameable(NamedTuple):
    """The packets of some parts."""

    contents: dict[int, Contents]  # by bucket
    unsealed: Counter[bytes]  # of each tailer, how many can't be named yet


def named_in(footers: Sequence[Footer], sealed: Signed, retired: Collection[bytes]) -> Nameable:
    """The packets in these parts, each with how its content begins; no key that two packets share.

    A seal must state or renounce it, one of those that bucks have (`sealed`) or parts carry, unless its tailer is
    `retired`. Pure.
    """
    found: defaultdict[int, Contents] = defaultdict(dict)
    twins: set[tuple[int, tuple[bytes, int], int]] = set()
    unsealed: Counter[bytes] = Counter()
    carried = Signed(Seal.read(data) for footer in footers for data in footer.seals)
    for batch in (batch for footer in footers for batch in footer.packets):
        epoch = batch.tailer, batch.epoch
        contents = found[batch.bucket].setdefault(epoch, {})
        stated = {**sealed.contents(*epoch, batch.bucket), **carried.contents(*epoch, batch.bucket)}
        for number in batch.numbers.numbers():
            content = batch.contents.get(number, stated.get(number, b""))[:CONTENT_SIZE]
            if number in contents or len(content) < CONTENT_SIZE:
                twins.add((batch.bucket, epoch, number))
            elif (
                number in stated
                or batch.tailer in retired
                or any(signed.is_renounced(*epoch, number) for signed in (sealed, carried))
            ):
                contents[number] = content
            else:
                unsealed[batch.tailer] += 1
    for bucket, epoch, number in twins:
        found[bucket][epoch].pop(number, None)
    return Nameable(dict(found), unsealed)


async def _let_go(
    cluster: Cluster,
    proven: _Proven,
    named: Mapping[int, Contents],
    buckets: Sequence[int],
    let: Let,
    dry_run: bool,
) -> None:
    """State the hour's buckets, one after another."""
    for bucket in buckets:
        contents = named.get(bucket, {})
        count = sum(map(len, contents.values()))
        let.named += count
        if count > STATEMENT_PACKETS_MAX:
            let.troubles[f"bucket {bucket}: {count} packets are more than one statement can name"] = None
        elif dry_run:
            await _look(cluster, bucket, contents, let)
        elif count:
            statement = await _state(cluster, proven, bucket, contents)
            async with trio.open_nursery() as nursery:
                for member in cluster.live:
                    nursery.start_soon(_tell, member, statement, let)
        elif bucket in named:
            let.kept += 1
            let.troubles[f"bucket {bucket}: no packet may go: no seal states them, or two have one key"] = None
        else:
            let.kept += 1
            let.troubles[f"bucket {bucket}: nothing of it is in the archive: run `porter archive` again"] = None
    for member in cluster.silent:
        let.troubles[f"not told: {member}: {member.trouble}"] = None


async def _state(cluster: Cluster, proven: _Proven, bucket: int, contents: Contents) -> Statement:
    named = tuple(
        Named(*epoch, Ranges((number, number + 1) for number in sorted(some)), b"".join(some[n] for n in sorted(some)))
        for epoch, some in sorted(contents.items())
        if some
    )
    time_ns = await cluster.time_s() * 10**9
    facts = cluster.settings.env, cluster.width, bucket, cluster.key.public, time_ns, proven.name, proven.digest
    return await cluster.machine.slow(Statement(*facts, named).signed, cluster.key)


async def _tell(member: Member, statement: Statement, let: Let) -> None:
    """Let one buck drop what is named."""
    assert member.asker is not None
    try:
        faultpoint("porter.prune.before_statement")
        answer = await member.asker.ask(Archived(0, statement.data), ANSWER_S)
        faultpoint("porter.prune.stated")
    except ProtocolError as error:
        member.trouble = member.trouble or said(error)
        return
    if isinstance(answer, No):
        let.troubles[f"{member} keeps bucket {statement.bucket}: {answer.text}"] = None
        return
    assert isinstance(answer, Pruned)
    let.parts, let.packets, let.bytes = let.parts + answer.parts, let.packets + answer.packets, let.bytes + answer.bytes
    let.kept += answer.kept
    if answer.kept:
        let.troubles[f"{member} keeps {answer.kept} files of bucket {statement.bucket}: {answer.why}"] = None


async def _look(cluster: Cluster, bucket: int, contents: Contents, let: Let) -> None:
    """What of a bucket could go, without a word to anybody."""
    numbers = {epoch: Ranges((number, number + 1) for number in sorted(some)) for epoch, some in contents.items()}
    found = await survey(cluster, bucket)
    for held in found.held.values():
        for epoch, mine in held.items():
            let.packets += (mine & numbers.get((epoch.tailer, epoch.epoch), Ranges())).count
    rest = sum((mine - numbers.get((e.tailer, e.epoch), Ranges())).count for e, mine in found.union().items())
    if rest:
        let.troubles[f"bucket {bucket}: {rest} packets are not in the archive, or may not go yet"] = None
