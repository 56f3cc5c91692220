"""`porter archive`: hours of buckets become parts of the archive, written once, read back, verified, and judged.

    due       hours whose buckets are all older than 48 h (`--older`) and quiet for one; the oldest first. And what is
              archived already, when a seal of it comes that no verdict names: bucks may hold nothing of it any more
    gather    every packet of the hour but those that an earlier part of it holds
    write     one part (`hour.py`), put if nobody was faster; whoever was slower reads the new footer and starts again
    judge     a verdict beside it (`judgement.py`): complete, incomplete, unknown, as of which seals, over which objects

Run it twice, or on two hosts at once: the second finds nothing to do, and two at different hours see each other
(`claims.py`). A crash leaves a temporary file, a claim, or a part whose verdict the next run writes.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa

from porter.archived import Archive
from porter.carried import carried, reopened
from porter.catalog import HOUR_S, PartName, hour_of
from porter.claims import Claims
from porter.cluster import Bucket, Cluster
from porter.coverage import Coverage
from porter.document import opened
from porter.footer import Footer, held_in
from porter.gather import Epoch, survey
from porter.hour import Hour, UnsteadyError
from porter.judgement import Asked, Judge, put_small
from porter.objects import ExistsError, Objects
from porter.part import PartWriter
from porter.roster import ask_roster, look_at_verdicts
from porter.shelf import Shelf
from porter.signed import Signed
from protocol.errors import FormatError
from protocol.limits import LATE_S
from protocol.packet import Key
from protocol.ranges import Ranges
from protocol.seal import Seal
from service.faults import faultpoint
from service.machine import Machine

pa.set_memory_pool(pa.system_memory_pool())  # one heap for Arrow, Python and numpy: two would keep twice what is free
TRIES = 8  # other porters may be faster so often before we leave the hour to them
SPARE = 64 << 20  # of memory: peaks were so much nearer to the limit (--memory + 150 MB) than they may be
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
    """The hours to archive, oldest first: over for so long, and all their buckets quiet. 0: whatever there is."""
    hours: defaultdict[int, list[Bucket]] = defaultdict(list)
    for bucket in buckets:
        hours[hour_of(bucket.bucket)].append(bucket)
    quiet_s = min(QUIET_S, older_s)

    def ready(bucket: Bucket) -> bool:
        end = max(hour_of(bucket.bucket) + HOUR_S, bucket.bucket + width)
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
        self._signed = Signed(())
        self._judge = Judge(machine, objects, self._archive, self._env, cluster.key)
        self._claims = Claims(machine, objects, self._env, partial(put_small, machine, objects), self._stop)

    @property
    def troubles(self) -> Sequence[str]:
        """What of the roster could not be believed, in words."""
        return tuple(dict.fromkeys(self._judge.seen.troubles))

    async def run(self, older_s: int, tell: Tell) -> list[Archived]:
        """Every hour that is due, and a verdict for each, empty ones between them too."""
        buckets = [bucket for bucket in await self._cluster.buckets() if bucket.held]
        seals = (await self._cluster.seals()).seals
        self._signed = Signed(seals)
        hours = due(buckets, self._cluster.width, await self._cluster.time_s(), older_s)
        left = {hour_of(bucket.bucket) for bucket in buckets} - set(hours)  # not yet: nor is it empty
        done: list[Archived] = []
        with self._archive:
            self._judge.healed = await self._files_without_hole(seals)
            self._judge.seen = await ask_roster(self._cluster)
            verdicts = await self._archive.verdicts()
            look_at_verdicts(verdicts, self._judge.seen)
            between = range(await self._first(min(hours)), max(hours) + 1, HOUR_S) if hours else ()
            for hour in sorted(reopened(seals, *_named(verdicts)).union(between)):
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
            asked = Asked(silent=bool(self._cluster.silent))  # of an hour without buckets nobody is asked
            try:
                report = await self._part(hour, buckets, seals, asked)
                report.state = await self._judge.judge(hour, seals, asked)
            except (ExistsError, UnsteadyError):
                continue  # another porter was faster, or a packet has gone: see what is there now
            return report
        raise ExistsError(f"the hour {hour} keeps changing, other porters may be at it: leave it to them, or try again")

    async def _untold(self, hour: int, seals: Sequence[Seal], there: bool) -> tuple[list[bytes], bool]:
        """The seals for the hour's next part, and whether they are worth one (`carried.py`)."""
        parts = await self._archive.parts()
        since = max((name.hour + HOUR_S for name in parts if name.hour < hour), default=0)
        recent = [await self._archive.footer(name) for name in parts if name.hour + HOUR_S > since - LATE_S]
        told = {data for footer in recent for data in footer.seals}
        return carried(seals, told, (max(0, since - LATE_S), hour + HOUR_S), there)

    async def _part(self, hour: int, buckets: Sequence[Bucket], seals: Sequence[Seal], asked: Asked) -> Archived:
        """The hour's next part, if there is anything that no part of it holds: packets, or what was sealed late."""
        known = await self._archive.parts()
        names = [name for name in known if name.hour == hour]
        held = held_in([await self._archive.footer(name) for name in names])
        shelf = Shelf(self._cluster, self._memory // 2, self._signed)
        for bucket in buckets:
            found = await survey(self._cluster, bucket.bucket)
            asked.silent = asked.silent or bool(found.silent)
            if found.unsure:
                asked.unsure.add(bucket.bucket)
            asked.conflicts |= found.conflicts
            await shelf.fill(found, _without(held))
        report = Archived(hour, missing=sum(n.count for numbers in shelf.missing.values() for n in numbers.values()))
        untold, needed = await self._untold(hour, seals, bool(names or shelf.headers))
        if shelf.headers or needed:
            footer = Footer(self._env, self._cluster.width, hour, seals=untold)
            job = Hour(self._machine, self._archive, shelf, footer, self._memory // 2)
            await self._write(job, PartName(self._env, hour, "p", len(names)), report, asked, known, needed)
        return report

    async def _write(
        self, job: Hour, name: PartName, report: Archived, asked: Asked, known: Sequence[PartName], needed: bool
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="buck-archive-") as folder:
            written = await job.write(Path(folder, "part"))
            report.quarantined, report.clashes = dict(job.quarantined), job.clashes
            asked.quarantined = report.quarantined
            if not (written.footer.packets or needed):
                return  # all of them quarantined: there is nothing to put
            await self._claims.alone(name, written.path.stat().st_size)
            await job.still_alone(known)
            faultpoint("porter.archive.before_put")
            asked.digests[str(name)] = await self._machine.slow(written.put, self._objects, name)
            faultpoint("porter.archive.after_put")
            report.stored = written.path.stat().st_size
        self._archive.refresh()
        report.part, report.packets = name, written.footer.count
        report.rows, report.raw = written.rows, written.raw

    async def _stop(self, name: PartName) -> None:
        """Take the name of a part whose writer has died, or is slow: it must begin again."""
        with tempfile.TemporaryDirectory(prefix="buck-archive-") as folder:
            empty = PartWriter(Path(folder, "part"), Footer(self._env, self._cluster.width, name.hour), 0)
            await self._machine.slow(empty.close, ())
            await self._machine.slow(empty.put, self._objects, name)


def _named(verdicts: Iterable[tuple[PartName, bytes]]) -> tuple[Mapping[bytes, Ranges], Collection[int]]:
    """The seals that verdicts name, and the hours that have one. What can't be believed names nothing."""
    named: defaultdict[bytes, Ranges] = defaultdict(Ranges)
    hours = set()
    for name, data in verdicts:
        hours.add(name.hour)
        with suppress(FormatError):  # an audit says so; its hour is judged anew
            for tailer, (numbers, _) in opened(str(name), data).seals.items():
                named[tailer] |= numbers
    return named, hours


def _without(held: Mapping[tuple[bytes, int], Ranges]) -> Callable[[Epoch, Ranges], Ranges]:
    """Wants what no part holds."""
    return lambda epoch, found: found - held[epoch] if epoch in held else found
