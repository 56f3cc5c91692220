"""`porter archive`: hours of buckets become parts of the archive, written once, read back, verified, and judged.

    due       hours whose buckets are all older than 48 h (`--older`) and quiet for one; the oldest first
    gather    every packet of the hour but those that an earlier part of it holds
    write     one part (`hour.py`), put if nobody was faster; whoever was slower reads the new footer and starts again
    judge     a verdict beside it: complete, incomplete or unknown, as of which seals

Run it twice, or on two hosts at once: the second finds nothing to do. A crash leaves a temporary file, or a part whose
verdict the next run writes.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from porter.archived import Archive
from porter.catalog import HOUR_S, Footer, PartName, covered, of_hour
from porter.cluster import Bucket, Cluster
from porter.gather import Epoch, survey
from porter.hour import Hour
from porter.objects import ExistsError, Objects
from porter.shelf import Shelf
from porter.verdict import Evidence, Verdict, judge
from protocol.messages import Clock, ClockIs
from protocol.packet import Key
from protocol.ranges import Ranges
from protocol.seal import Seal
from service.faults import faultpoint
from service.machine import Machine

TRIES = 8  # other porters may be faster so often before we leave the hour to them
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


def due(buckets: Sequence[Bucket], width: int, now: int, older_s: int) -> dict[int, list[Bucket]]:
    """The hours to archive, oldest first: all their buckets are older than that, and quiet. 0: whatever there is."""
    hours: defaultdict[int, list[Bucket]] = defaultdict(list)
    for bucket in buckets:
        hours[bucket.bucket - bucket.bucket % HOUR_S].append(bucket)
    quiet_s = min(QUIET_S, older_s)

    def ready(bucket: Bucket) -> bool:
        return bucket.bucket + width + older_s <= now and bucket.last_arrival_ns // 10**9 + quiet_s <= now

    return {hour: hours[hour] for hour in sorted(hours) if not older_s or all(map(ready, hours[hour]))}


class Archiver:
    """Archives hours from one cluster into one store."""

    def __init__(self, machine: Machine, cluster: Cluster, objects: Objects) -> None:
        self._machine, self._cluster, self._objects = machine, cluster, objects
        self._env, self._memory = cluster.settings.env, cluster.settings.memory

    async def run(self, older_s: int, tell: Tell) -> list[Archived]:
        """Every hour that is due, and a verdict for each, empty ones between them too."""
        buckets = await self._cluster.buckets()
        seals = (await self._cluster.seals()).seals
        hours = due(buckets, self._cluster.width, await self._now(), older_s)
        done: list[Archived] = []
        for hour in range(min(hours), max(hours) + 1, HOUR_S) if hours else ():
            tell(len(done), PartName(self._env, hour, "p", 0).text)
            done.append(await self._hour(hour, hours.get(hour, []), seals))
        return done

    async def _now(self) -> int:
        """The bucks' median clock, so that one wrong clock archives nothing too early. Seconds."""
        clocks = [answer.message for answer in await self._cluster.ask_all(Clock(0))]
        times = sorted(clock.time_ns for clock in clocks if isinstance(clock, ClockIs))
        return times[(len(times) - 1) // 2] // 10**9 if times else self._machine.time_ns() // 10**9

    async def _hour(self, hour: int, buckets: Sequence[Bucket], seals: Sequence[Seal]) -> Archived:
        mine = _of_hour(seals, hour)
        for _ in range(TRIES):
            try:
                with Archive(self._machine, self._objects, self._env) as archive:
                    report = await self._part(archive, hour, buckets, [seal.data for seal in mine])
                with Archive(self._machine, self._objects, self._env, hour, hour + HOUR_S) as archive:
                    report.state = await self._judge(archive, hour, seals)
            except ExistsError:
                continue  # another porter has written this one: read it, and see what is left
            return report
        raise ExistsError(f"other porters keep archiving the hour {hour}: leave it to them")

    async def _part(self, archive: Archive, hour: int, buckets: Sequence[Bucket], seals: Sequence[bytes]) -> Archived:
        """The hour's next part, if there is anything that no part of it holds."""
        names = await self._machine.slow(of_hour, self._objects, self._env, hour)
        held = covered([await archive.footer(name) for name in names])
        shelf = Shelf(self._cluster, self._memory // 2)
        for bucket in buckets:
            await shelf.fill(await survey(self._cluster, bucket.bucket), _without(held))
        report = Archived(hour, missing=sum(n.count for numbers in shelf.missing.values() for n in numbers.values()))
        if shelf.headers:
            job = Hour(self._machine, archive, shelf, Footer(self._env, self._cluster.width, hour, seals=list(seals)))
            await self._write(job, PartName(self._env, hour, "p", len(names)), report)
        return report

    async def _write(self, job: Hour, name: PartName, report: Archived) -> None:
        with tempfile.TemporaryDirectory(prefix="buck-archive-") as folder:
            written = await job.write(Path(folder, "part"))
            report.quarantined, report.clashes = dict(job.quarantined), job.clashes
            if not written.footer.packets:
                return  # all of them quarantined: there is nothing to put
            faultpoint("porter.archive.before_put")
            report.stored = await self._machine.slow(written.put, self._objects, name)
            faultpoint("porter.archive.after_put")
        report.part, report.packets = name, len(written.footer.packets)
        report.rows, report.raw = written.rows, written.raw

    async def _judge(self, archive: Archive, hour: int, seals: Sequence[Seal]) -> str:
        """Write the hour's verdict, if it says something new."""
        names = [name for name in await archive.parts() if name.hour == hour]
        evidence = Evidence(seals, _held([await archive.footer(name) for name in names]), due=hour + HOUR_S)
        verdict = judge(self._env, evidence, hour, hour + HOUR_S)
        before = await self._machine.slow(of_hour, self._objects, self._env, hour, "v")
        text = _document(verdict, [str(name) for name in names])
        if not before or await self._machine.slow(self._objects.get, str(before[-1])) != text:
            await self._put(PartName(self._env, hour, "v", len(before)), text)
        return verdict.state

    async def _put(self, name: PartName, text: bytes) -> None:
        with tempfile.NamedTemporaryFile(prefix="buck-verdict-") as file:
            file.write(text)
            file.flush()
            await self._machine.slow(self._objects.put, str(name), Path(file.name))


def _without(held: set[Key]) -> Callable[[Epoch, Ranges], Ranges]:
    """Wants what no part holds."""
    numbers: defaultdict[Epoch, Ranges] = defaultdict(Ranges)
    for key in held:
        numbers[Epoch(key.tailer, key.epoch)].add(key.number, key.number + 1)
    return lambda epoch, found: found - numbers[epoch] if epoch in numbers else found


def _of_hour(seals: Sequence[Seal], hour: int) -> list[Seal]:
    """The seals that say something of an hour, and those between: together the hours hold whole chains."""
    chains: defaultdict[bytes, list[Seal]] = defaultdict(list)
    for seal in sorted(seals, key=lambda seal: seal.number):
        chains[seal.tailer].append(seal)
    found: list[Seal] = []
    for chain in chains.values():
        before = 0
        for seal in chain:
            states = any(hour <= section.bucket < hour + HOUR_S for section in seal.sections)
            if states or (seal.until > hour and before < hour + HOUR_S):
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


def _document(verdict: Verdict, parts: Sequence[str]) -> bytes:
    return json.dumps(verdict.document(parts=list(parts)), indent=1, sort_keys=True).encode() + b"\n"
