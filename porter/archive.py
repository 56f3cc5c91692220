"""`porter archive`: hours of buckets become parts of the archive, written once, read back, verified, and judged.

    due       hours whose buckets are all older than 48 h (`--older`) and quiet for one; the oldest first
    gather    every packet of the hour but those that an earlier part of it holds
    write     one part (`hour.py`), put if nobody was faster; whoever was slower reads the new footer and starts again
    judge     a verdict beside it: complete, incomplete or unknown, as of which seals, over which objects

Run it twice, or on two hosts at once: the second finds nothing to do. A crash leaves a temporary file, or a part whose
verdict the next run writes: a part that no verdict names is proved from itself first.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from porter.archived import Archive
from porter.catalog import HOUR_S, Footer, PartName, covered, of_hour
from porter.cluster import Bucket, Cluster
from porter.coverage import Coverage
from porter.gather import Epoch, survey
from porter.hour import Hour, UnsteadyError
from porter.objects import ExistsError, Objects, digest
from porter.proof import unproved
from porter.shelf import Shelf
from porter.verdict import Evidence, judge
from protocol.errors import FormatError
from protocol.packet import Key
from protocol.ranges import Ranges
from protocol.seal import Seal
from service.faults import faultpoint
from service.machine import Machine

pa.set_memory_pool(pa.system_memory_pool())  # one heap for Arrow, Python and numpy: two would keep twice what is free
TRIES = 8  # other porters may be faster so often before we leave the hour to them
SPARE = 48 << 20  # of memory: peaks were so much nearer to the limit (--memory + 150 MB) than they may be
QUIET_S = 3600  # a bucket where something arrived within this is left for the next run

Tell = Callable[[int, str], None]  # hours done, what is being done


@dataclass
class Archived:
    """What became of one hour."""

    hour: int
    part: PartName | None = None
    packets: int = 0
    rows: int = 0
    raw: int = 0
    stored: int = 0
    clashes: int = 0
    missing: int = 0
    state: str = ""
    quarantined: dict[Key, str] = field(default_factory=dict)

    @property
    def short(self) -> bool:
        """Is something not in it that should be?"""
        return bool(self.missing or self.quarantined)


@dataclass
class _Asked:
    """What came to light while an hour was gathered: it goes into the verdict."""

    silent: bool = False  # some member didn't answer
    sure: bool = True
    conflicts: set[Key] = field(default_factory=set)
    quarantined: dict[Key, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)  # of objects that were verified just now


def due(buckets: Sequence[Bucket], width: int, now: int, older_s: int) -> dict[int, list[Bucket]]:
    """The hours to archive, oldest first: over for so long, and all their buckets quiet. 0: whatever there is."""
    hours: defaultdict[int, list[Bucket]] = defaultdict(list)
    for bucket in buckets:
        hours[_hour_of(bucket.bucket)].append(bucket)
    quiet_s = min(QUIET_S, older_s)

    def ready(bucket: Bucket) -> bool:
        end = max(_hour_of(bucket.bucket) + HOUR_S, bucket.bucket + width)
        return end + older_s <= now and bucket.last_arrival_ns // 10**9 + quiet_s <= now

    return {hour: hours[hour] for hour in sorted(hours) if not older_s or all(map(ready, hours[hour]))}


def room(memory: int) -> int:
    """What of `--memory` is for packets and rows; from it come what allocators keep, and the compressor's tables."""
    return max(memory - SPARE, memory // 2)


class Archiver:
    """Archives hours from one cluster into one store."""

    def __init__(self, machine: Machine, cluster: Cluster, objects: Objects) -> None:
        self._machine, self._cluster, self._objects = machine, cluster, objects
        self._env, self._memory = cluster.settings.env, room(cluster.settings.memory)
        self._archive = Archive(machine, objects, self._env)
        self._healed: frozenset[bytes] = frozenset()

    async def run(self, older_s: int, tell: Tell) -> list[Archived]:
        """Every hour that is due, and a verdict for each, empty ones between them too."""
        buckets = await self._cluster.buckets()
        seals = (await self._cluster.seals()).seals
        hours = due(buckets, self._cluster.width, await self._cluster.time_s(), older_s)
        left = {_hour_of(bucket.bucket) for bucket in buckets} - set(hours)  # not yet: nor is it empty
        done: list[Archived] = []
        with self._archive:
            self._healed = await self._files_without_hole(seals)
            for hour in range(await self._first(min(hours)), max(hours) + 1, HOUR_S) if hours else ():
                if hour not in left:
                    tell(len(done), PartName(self._env, hour, "p", 0).text)
                    done.append(await self._hour(hour, hours.get(hour, []), seals))
        return done

    async def _files_without_hole(self, seals: Sequence[Seal]) -> frozenset[bytes]:
        """Tailers whose files are whole, if a crash makes that matter."""
        coverage = Coverage()
        if any(section.lost_after is not None for seal in seals for section in seal.sections):
            await coverage.add_bucks(self._cluster)
            for name in await self._archive.parts():
                coverage.add_footer(await self._archive.footer(name))
        return coverage.whole()

    async def _first(self, hour: int) -> int:
        """The hour to begin with: the first one after what is in the archive, if that is earlier."""
        before = [name.hour for name in await self._archive.parts() if name.hour < hour]
        return max(before) + HOUR_S if before else hour

    async def _hour(self, hour: int, buckets: Sequence[Bucket], seals: Sequence[Seal]) -> Archived:
        for _ in range(TRIES):
            self._archive.refresh()
            since = max((name.hour + HOUR_S for name in await self._archive.parts() if name.hour < hour), default=0)
            mine = _of_hours(seals, since, hour + HOUR_S)
            asked = _Asked()
            try:
                report = await self._part(hour, buckets, [seal.data for seal in mine], asked)
                report.state = await self._judge(hour, seals, asked)
            except (ExistsError, UnsteadyError):
                continue  # another porter was faster, or a packet has gone: see what is there now
            return report
        raise ExistsError(f"the hour {hour} keeps changing, other porters may be at it: leave it to them, or try again")

    async def _part(self, hour: int, buckets: Sequence[Bucket], seals: Sequence[bytes], asked: _Asked) -> Archived:
        """The hour's next part, if there is anything that no part of it holds."""
        known = await self._archive.parts()
        names = [name for name in known if name.hour == hour]
        footers = [await self._archive.footer(name) for name in names]
        held, told = covered(footers), {seal for footer in footers for seal in footer.seals}
        shelf = Shelf(self._cluster, self._memory // 2)
        for bucket in buckets:
            found = await survey(self._cluster, bucket.bucket)
            asked.silent = asked.silent or bool(found.silent)
            asked.sure = asked.sure and not found.unsure
            asked.conflicts |= found.conflicts
            await shelf.fill(found, _without(held))
        report = Archived(hour, missing=sum(n.count for numbers in shelf.missing.values() for n in numbers.values()))
        if shelf.headers:
            fresh = [seal for seal in seals if seal not in told]  # an hour's parts are read, and pruned, together
            footer = Footer(self._env, self._cluster.width, hour, seals=fresh)
            job = Hour(self._machine, self._archive, shelf, footer, self._memory // 2)
            await self._write(job, PartName(self._env, hour, "p", len(names)), report, asked, known)
        return report

    async def _write(
        self, job: Hour, name: PartName, report: Archived, asked: _Asked, known: Sequence[PartName]
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="buck-archive-") as folder:
            written = await job.write(Path(folder, "part"))
            report.quarantined, report.clashes = dict(job.quarantined), job.clashes
            asked.quarantined = report.quarantined
            if not written.footer.packets:
                return  # all of them quarantined: there is nothing to put
            await job.still_alone(known)
            faultpoint("porter.archive.before_put")
            asked.digests[str(name)] = await self._machine.slow(written.put, self._objects, name)
            faultpoint("porter.archive.after_put")
            report.stored = written.path.stat().st_size
        self._archive.refresh()
        report.part, report.packets = name, len(written.footer.packets)
        report.rows, report.raw = written.rows, written.raw

    async def _names(self, hour: int) -> list[PartName]:
        return [name for name in await self._archive.parts() if name.hour == hour]

    # ------------------------------------------------------------------------------------------------------- verdicts

    async def _judge(self, hour: int, seals: Sequence[Seal], asked: _Asked) -> str:
        """Write the hour's verdict, if it says something new."""
        names = await self._names(hour)
        held = _held([await self._archive.footer(name) for name in names])
        facts = asked.conflicts, not asked.silent, hour + HOUR_S, self._healed, asked.sure
        evidence = Evidence(seals, held, *facts)
        verdict = judge(self._env, evidence, hour, hour + HOUR_S)
        before = await self._machine.slow(of_hour, self._objects, self._env, hour, "v")
        last = await self._machine.slow(self._objects.get, str(before[-1])) if before else b"{}"
        parts = await self._vouched(names, last, asked)
        text = _document(verdict.document(parts=parts, quarantined=_quarantined(asked)))
        if last != text:
            await self._put(PartName(self._env, hour, "v", len(before)), text)
        return verdict.state

    async def _vouched(self, names: Sequence[PartName], last: bytes, asked: _Asked) -> list[dict[str, str]]:
        """The hour's objects by digest. What no verdict names yet, and isn't ours, is proved from itself first."""
        known = _named(last) | asked.digests
        for name in names:
            if str(name) not in known:
                if wrong := await unproved(self._archive, name):
                    numbers = ", ".join(str(key.number) for key in wrong[:5])
                    raise FormatError(
                        f"{name}: {len(wrong)} of its packets ({numbers}) can't be proved: was it changed?"
                    )
                known[str(name)] = await self._machine.slow(digest, self._objects, str(name))
        return [{"name": str(name), "digest": known[str(name)]} for name in names]

    async def _put(self, name: PartName, text: bytes) -> None:
        with tempfile.NamedTemporaryFile(prefix="buck-verdict-") as file:
            file.write(text)
            file.flush()
            await self._machine.slow(self._objects.put, str(name), Path(file.name))


def _hour_of(bucket: int) -> int:
    return bucket - bucket % HOUR_S


def _without(held: set[Key]) -> Callable[[Epoch, Ranges], Ranges]:
    """Wants what no part holds."""
    numbers: defaultdict[Epoch, Ranges] = defaultdict(Ranges)
    for key in held:
        numbers[Epoch(key.tailer, key.epoch)].add(key.number, key.number + 1)
    return lambda epoch, found: found - numbers[epoch] if epoch in numbers else found


def _of_hours(seals: Sequence[Seal], start: int, end: int) -> list[Seal]:
    """The seals that say something of the time since the last part, and those between: hours hold whole chains.

    An hour without any packet has no part, so the next part has its seals too.
    """
    chains: defaultdict[bytes, list[Seal]] = defaultdict(list)
    for seal in sorted(seals, key=lambda seal: seal.number):
        chains[seal.tailer].append(seal)
    found: list[Seal] = []
    for chain in chains.values():
        before = 0
        for seal in chain:
            states = any(start <= section.bucket < end for section in seal.sections)
            if states or (seal.until > start and before < end):
                found.append(seal)
            before = seal.until
    return found


def _held(footers: Sequence[Footer]) -> Mapping[tuple[bytes, int], Mapping[int, Ranges]]:
    held: defaultdict[tuple[bytes, int], defaultdict[int, Ranges]] = defaultdict(lambda: defaultdict(Ranges))
    for footer in footers:
        for packet in footer.packets:
            numbers = held[packet.key.tailer, packet.key.epoch][packet.bucket]
            numbers.add(packet.key.number, packet.key.number + 1)
    return held


def _named(verdict: bytes) -> dict[str, str]:
    """The objects that a verdict names, and their digests; none if it can't be read."""
    try:
        return {str(part["name"]): str(part["digest"]) for part in json.loads(verdict).get("parts", ())}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _quarantined(asked: _Asked) -> list[dict[str, object]]:
    return [
        {"tailer": key.tailer.hex(), "epoch": f"{key.epoch:x}", "number": key.number, "reason": why}
        for key, why in sorted(asked.quarantined.items())
    ]


def _document(verdict: Mapping[str, object]) -> bytes:
    return json.dumps(verdict, indent=1, sort_keys=True).encode() + b"\n"
