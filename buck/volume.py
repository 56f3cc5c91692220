"""One disk of a buck: whose it is, what lies on it, and whether it may be written.

A disk belongs to one node (`node`), is used by one process (`lock`) and holds each env with one width (`width`); any
other claim ends the start with one line. A clean stop closes all parts and leaves the mark `clean`. Where the mark is
missing at a start and a part is open, that bucket may lack packets that were acknowledged: it is written to `unsure`
before anything is repaired, because a repaired bucket looks like any other.

After an error a disk is left until the next start: no packet is written to it, and what it holds counts for nothing but
reading. Only "no space left" and its kin are not held against it.
"""

import contextlib
import errno
from collections.abc import Iterator, Sequence

from buck.bucket import Part
from buck.counts import Counts
from buck.durable import Durable
from buck.errors import SpoiltError, UnusableError
from buck.files import ARCHIVED, BAD, CLOSED, LEFT, OPEN, PartName, is_day, is_renewed, join, parse_part
from buck.hands import Hands
from buck.index import Index
from buck.remnant import Remnant, is_good
from buck.remnants import Names
from buck.retention import REST_S, Room
from service.config import ConfigError
from service.disk import folder_of
from service.faults import faultpoint
from service.log import get_log
from service.machine import Lock, Machine, Space

log = get_log("buck.volume")

# Errors that say "not now" rather than "this disk is broken".
PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})
NS = 1_000_000_000


class Volume:
    """A disk, its parts by bucket, and its health."""

    def __init__(self, machine: Machine, root: str, env: str, counts: Counts) -> None:
        self.machine = machine
        self.root = root
        self.env = env
        self.parts: dict[int, list[Part]] = {}
        self._begun: list[Part] = []  # of them those that this process has had open; a closed one never opens again
        self.remnants = Names(self.folder)  # what stays of parts whose packets are in the archive
        self.unsure: set[int] = set()
        self._days: set[str] = set()  # folders whose names are durable: none is ever removed
        self.healthy = True
        self.error = ""
        self.hands = Hands(machine, root)
        self.id = ""  # the disk's own name
        self.siblings: frozenset[str] = frozenset()  # the disks that the node had at its last start, by what this says
        self.room = Room(Space(1, 1))
        self.durable = Durable(machine, counts, self.fail)
        self._counts = counts
        self._lock: Lock | None = None

    @property
    def folder(self) -> str:
        return join(self.root, self.env)

    async def open(self, node: bytes, width: int) -> None:
        """Take the disk: ConfigError or BusyError if it can't be ours."""
        disk = self.machine.disk
        try:
            disk.mkdirs(self.folder)
            await disk.fsync_folder(folder_of(self.root))
            self._lock = disk.lock(join(self.root, "lock"))
            await self._name()
            await self._claim(join(self.root, "node"), node.hex(), "is the disk of node {}, and this node is {}")
            await self._claim(join(self.folder, "width"), str(width), "has windows of {} s, and --width says {} s")
            await disk.fsync_folder(self.root)
            self.room = Room(disk.space(self.root))
            await self._recover()
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise
            raise UnusableError(self.root, error) from error

    async def _claim(self, path: str, mine: str, clash: str) -> None:
        """Write a fact on first use; refuse another one later."""
        try:
            theirs = self.machine.disk.read_bytes(path).decode("ascii", "replace").strip()
        except FileNotFoundError:
            await self.machine.disk.replace(path, mine.encode() + b"\n", mode=0o640)
            return
        if theirs != mine:
            raise ConfigError(f"{self.root} {clash.format(theirs, mine)}: give the right --disk, --key or --width")

    async def _name(self) -> None:
        """Read the disk's id, or give it one."""
        disk = self.machine.disk
        if not self._reads("id", self.root):
            await disk.replace(join(self.root, "id"), self.machine.entropy(16).hex().encode() + b"\n", mode=0o640)
        self.id = self._reads("id", self.root)
        self.siblings = frozenset(self._reads("disks", self.folder).split())

    async def meet(self, siblings: frozenset[str]) -> None:
        """Write down which disks the node has now."""
        if siblings != self.siblings:
            text = "".join(f"{one}\n" for one in sorted(siblings))
            await self.machine.disk.replace(join(self.folder, "disks"), text.encode(), mode=0o640)
            self.siblings = siblings

    def is_itself(self) -> bool:
        """Is the disk still the one that was taken? Another one may be mounted there by now. OSError if it is gone."""
        return self._reads("id", self.root) == self.id

    def _reads(self, name: str, folder: str) -> str:
        try:
            return self.machine.disk.read_bytes(join(folder, name)).decode("ascii", "replace").strip()
        except FileNotFoundError:
            return ""

    async def _recover(self) -> None:
        """List what is there, mark what is unsure, close what was left open. Safe to be cut short and done again."""
        disk = self.machine.disk
        self._read_unsure()
        names = list(self._listed_parts())
        boot = self.machine.boot_id.hex()
        same_boot = self._reads("boot", self.folder) in (boot, "")
        left_open = {name.bucket for name in names if name.state == OPEN and not self._exists("clean")}
        await self.doubt(left_open | {name.bucket for name in names if name.state == BAD})
        faultpoint("buck.volume.after_unsure")
        gone = await self._unlink_archived(names)
        for name in names:
            if name in gone:
                continue
            part = Part(disk, self.folder, name)
            self.parts.setdefault(name.bucket, []).append(part)
            if name.state == OPEN:
                self._begun.append(part)
                await self._take_over(part, same_boot)
            elif name.state == CLOSED:
                self._look_at(part)
        if not same_boot or not self._exists("boot"):
            await disk.replace(join(self.folder, "boot"), boot.encode() + b"\n", mode=0o640)
        if self._exists("clean"):
            disk.unlink(join(self.folder, "clean"))
            await disk.fsync_folder(self.folder)
        faultpoint("buck.volume.recovered")

    def _listed_parts(self) -> Iterator[PartName]:
        """The parts that are there; of remnants, which are very many, only a note is taken."""
        for name in self._listed():
            if name.state == ARCHIVED:
                self.remnants.add(name.bucket, name.part)
            else:
                yield name

    async def _unlink_archived(self, names: Sequence[PartName]) -> set[PartName]:
        """Unlink what a crash left of parts whose remnant is good. The names that are done with."""
        disk = self.machine.disk
        gone = set()
        for name in names:
            remnant = Remnant(self.folder, name._replace(state=ARCHIVED))
            if self.remnants.has(name.bucket, name.part) and is_good(disk, remnant):
                disk.unlink(join(self.folder, name.day, name.file))
                await disk.fsync_folder(join(self.folder, name.day))
                gone.add(name)
        return gone

    def let_go(self, part: Part) -> None:
        """From now on a part's packets are archived, and not here: its remnant is."""
        part.dropped = part.stopped = True
        self.parts[part.bucket].remove(part)
        if not self.parts[part.bucket]:
            del self.parts[part.bucket]
        self.remnants.add(part.bucket, part.name.part)

    def _listed(self) -> Iterator[PartName]:
        disk = self.machine.disk
        for day in sorted(filter(is_day, disk.listdir(self.folder))):
            try:
                names = sorted(disk.listdir(join(self.folder, day)))
            except NotADirectoryError:
                names = []
            for name in names:
                found = parse_part(day, name)
                if found is None and is_renewed(name):
                    disk.unlink(join(self.folder, day, name))
                elif found is None:
                    log.warning("a file that is none of ours is left alone", path=join(self.folder, day, name))
                else:
                    yield found

    async def _take_over(self, part: Part, same_boot: bool) -> None:
        """A part that a process left open: keep its good packets, cut its tail, close it."""
        index, end, skipped = await self.machine.slow(part.scan_index, self.env)
        torn = part.reopen(index, end)
        self._counts.torn.inc(torn)
        self._counts.skipped.inc(skipped)
        if same_boot and part.size:
            copy = await self.machine.slow(part.renew)
            await self.machine.disk.fsync(copy)
            part.take(copy)
        log.info("a part left open is recovered", path=part.path, packets=part.packets, torn=torn, skipped=skipped)
        await self.close_part(part)

    def _look_at(self, part: Part) -> None:
        try:
            part.read_trailer()
        except SpoiltError as error:
            log.warning("a footer is not good; the packets are scanned when asked for", path=part.path, why=str(error))

    def named(self, bucket: int) -> list[Part]:
        return self.parts.get(bucket, [])

    def open_part(self, bucket: int) -> Part | None:
        """The part of a bucket that takes packets now."""
        parts = self.parts.get(bucket)
        if parts and not parts[-1].stopped and parts[-1].is_open:
            return parts[-1]
        return None

    async def begin_part(self, bucket: int, width: int) -> Part:
        """Make a part, its name durable. OSError if the disk doesn't want to; no part if who asked leaves."""
        taken = [*(part.name.part for part in self.named(bucket)), *self.remnants.parts(bucket)]
        number = 1 + max(taken, default=-1)
        part = Part(self.machine.disk, self.folder, PartName(bucket, number, OPEN))
        now = self.machine.now()
        left = bucket + width - self.machine.time_ns() / NS
        part.arrived, part.window_end = now, now + min(max(left, 0.0), width)
        await self.hands.call(part.create)
        try:
            faultpoint("buck.volume.before_name")
            await self.machine.disk.fsync_folder(part.folder)
            if part.name.day not in self._days:
                await self.machine.disk.fsync_folder(self.folder)
        except BaseException:  # a name that nobody knows of would be in the next one's way
            part.release()
            with contextlib.suppress(OSError):
                self.machine.disk.unlink(part.path)
            raise
        self._days.add(part.name.day)
        self.parts.setdefault(bucket, []).append(part)
        self._begun.append(part)
        faultpoint("buck.volume.after_name")
        return part

    async def close_part(self, part: Part) -> Index | None:
        """Close a part for good, or drop it where nothing came into it."""
        if part.size:
            return await self.durable.close(part)
        if part not in self.parts.get(part.bucket, ()):
            return None  # another task has dropped it while this one waited for the disk
        part.stopped = True
        self.parts[part.bucket].remove(part)
        part.release()
        try:
            self.machine.disk.unlink(part.path)
        except OSError as error:
            self.fail(error)
        return None

    @property
    def able(self) -> bool:
        """Can it be given anything now?"""
        return self.healthy and not self.hands.hung

    def trouble(self, error: OSError) -> None:
        """A write didn't work: let the disk rest, or leave it."""
        if error.errno in PASSING:
            self.room = self.room._replace(rests_until=self.machine.now() + REST_S)
            log.warning("a disk rests", disk=self.root, why=error.strerror or str(error))
        else:
            self.fail(error)

    def fail(self, error: OSError) -> None:
        """Leave the disk. What lies on it is still read, but counts in no receipt."""
        self._counts.disk_errors.inc()
        if self.healthy:
            self.healthy, self.error = False, error.strerror or str(error)
            log.error("a disk is left until the next start", disk=self.root, why=self.error)
            self.unsure |= self.parts.keys()
        for parts in self.parts.values():
            for part in parts:
                part.failed = part.stopped = True

    async def doubt(self, buckets: set[int]) -> None:
        """These may lack what was acknowledged; kept on the disk, so that it is known after a restart too."""
        if buckets - self.unsure:
            self.unsure |= buckets
            await self._write_unsure()

    async def settle(self, bucket: int) -> None:
        """What this bucket may have lost was looked for and brought back: it is vouched for again."""
        if bucket not in self.unsure:
            return
        self.unsure.discard(bucket)
        if not self.healthy:
            return
        try:
            for part in self.named(bucket):
                if part.name.state == BAD:
                    part.rename(LEFT)
            await self._write_unsure()
        except OSError as error:
            self.trouble(error)  # the mark stays on the disk: the next start compares once more

    def look_at_room(self) -> None:
        """Ask for free space; an answer that can't be had is an error of the disk."""
        try:
            self.room = self.room._replace(space=self.machine.disk.space(self.root))
        except OSError as error:
            self.fail(error)

    async def close(self) -> None:
        """A clean stop: all parts closed, then the mark that says so."""
        for part in self.open_parts():
            await self.close_part(part)
        if self.healthy and not self.open_parts():
            try:
                await self.machine.disk.replace(join(self.folder, "clean"), b"", mode=0o640)
            except OSError as error:
                self.trouble(error)  # no mark: the next start looks closer, which costs time and nothing else
        self.release()

    def release(self) -> None:
        """Let go of files and lock, as a dying process does."""
        for parts in self.parts.values():
            for part in parts:
                part.release()
        if self._lock is not None:
            self._lock.close()

    def open_parts(self) -> list[Part]:
        self._begun = [part for part in self._begun if part.is_open and part.file is not None]
        return self._begun.copy()

    def is_unsure(self, bucket: int) -> bool:
        """May this bucket lack what was acknowledged?"""
        return bucket in self.unsure

    def _exists(self, name: str) -> bool:
        try:
            self.machine.disk.stat(join(self.folder, name))
        except FileNotFoundError:
            return False
        return True

    def _read_unsure(self) -> None:
        try:
            text = self.machine.disk.read_bytes(join(self.folder, "unsure")).decode("ascii", "replace")
        except FileNotFoundError:
            return
        self.unsure = {int(word) for word in text.split() if word.isdigit()}

    async def _write_unsure(self) -> None:
        text = "".join(f"{bucket}\n" for bucket in sorted(self.unsure))
        await self.machine.disk.replace(join(self.folder, "unsure"), text.encode(), mode=0o640)


def archived_until(volumes: Sequence[Volume]) -> int:
    """The second before which all that was on these disks is archived and gone from them; 0: nothing is, as yet."""
    newest = max(volume.remnants.newest for volume in volumes)
    held = [bucket for volume in volumes for bucket, parts in volume.parts.items() if parts]
    return 0 if newest < 0 else min([newest + 1, *held])
