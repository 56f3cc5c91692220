"""The packets of this node over its disks: put, receipt, and the rhythm in which files are synced and closed.

    put ── here already, same digest? ── yes: where it is
        └─ else its disk, by key, of those that are well and have room ─ its bucket's open part ─ append

All is done by one task at a time between awaits, so there are no locks around files; what was looked at before an await
is looked at again after it. Nothing is decoded: a packet's envelope says all that is needed here. Reading is in
`reading.py`.
"""

import errno
from collections.abc import Sequence
from typing import NamedTuple

import trio

from buck.begins import Begins
from buck.bucket import Part, digest_at
from buck.cache import Cache
from buck.counts import Counts
from buck.errors import Declined, UnusableError
from buck.files import BUCKET_MAX
from buck.hands import HungError
from buck.index import Index
from buck.remnant import Remnant
from buck.remnants import Remnants
from buck.volume import Volume
from protocol.packet import Header, Packet
from protocol.ranges import Ranges
from service.faults import faultpoint
from service.log import get_log
from service.machine import Machine

log = get_log("buck.store")
OPEN_PARTS_MAX = 320  # a day of windows of five minutes, which files that are loaded may mix as they like
OPEN_COST_MAX = 128 << 20  # memory of their indexes together: two million packets
NUMBER_MAX = (1 << 64) - 1  # the end of a range of numbers must fit 64 bits too
# A window's packets are mostly there when it ends; seals and third copies come within the minute after.
SYNC_AFTER_S = 30.0
SYNC_EVERY_S = 10.0
CLOSE_AFTER_S = 600.0
IDENTIFY_EVERY_S = 10.0


class Stored(NamedTuple):
    """Where a packet is."""

    part: Part
    offset: int
    is_repeat: bool = False  # it was here already

    @property
    def level(self) -> int:
        """1: in the page cache, 2: on the device."""
        return 2 if self.offset < self.part.synced and self.part.trusted else 1


class Held(NamedTuple):
    """A receipt: numbers held, numbers fsynced, and whether a crash may have taken some."""

    held: Ranges
    synced: Ranges
    unsure: bool


class Store:
    """All disks of a node, for one env. `open` before use; `close` for a clean stop."""

    def __init__(self, machine: Machine, roots: Sequence[str], env: str, width: int, counts: Counts) -> None:
        self.machine = machine
        self.env = env
        self.width = width
        self.counts = counts
        self.volumes = [Volume(machine, root.rstrip("/") or "/", env, counts) for root in roots]
        self.cache = Cache(machine, env, counts, self.failed)
        self.remnants = Remnants(machine, counts, lambda: [volume.remnants for volume in self.volumes], self.failed)
        self._looking: set[Part] = set()
        self._identified: dict[Volume, float] = {}
        self.begins = Begins(width)
        self.draining = False  # leaving: nothing new is taken
        self._making = {volume: trio.Lock() for volume in self.volumes}

    async def open(self, node: bytes) -> None:
        """Take the disks and repair what a crash left. ConfigError or BusyError, with all disks let go."""
        unusable: list[UnusableError] = []
        try:
            for volume in self.volumes:
                try:
                    await volume.open(node, self.width)
                except UnusableError as error:
                    unusable.append(error)
                    volume.fail(error.error)
            if len(unusable) == len(self.volumes):
                raise unusable[0]
            await self._look_for_missing()
        except BaseException:
            self.release()
            raise

    async def _look_for_missing(self) -> None:
        """A disk that the node had and has no more took packets with it: any bucket may lack some."""
        well = [volume for volume in self.volumes if volume.healthy]
        here = frozenset(volume.id for volume in well)
        missing = frozenset().union(*(volume.siblings for volume in well)) - here
        if missing:
            self.counts.disks_missing.inc(len(missing))
            log.error("ALARM: disks of this node are missing; others may have what they held", ids=sorted(missing))
        buckets = {bucket for volume in well for bucket in volume.parts} if missing else set()
        for volume in well:
            try:
                await volume.doubt(buckets)
                await volume.meet(here)
            except OSError as error:
                volume.trouble(error)

    async def close(self) -> None:
        """A clean stop: everything synced, closed and marked."""
        for volume in self.volumes:
            await volume.close()

    def release(self) -> None:
        """Let go without finishing anything."""
        for volume in self.volumes:
            volume.release()

    @property
    def waits(self) -> bool:
        """Does a put wait for its disk's turn, so that others should go on meanwhile?"""
        return any(volume.hands.beside for volume in self.volumes)

    # --- writing --------------------------------------------------------------------------------------------------

    async def put(self, packet: Packet, asker: bytes | None = None) -> Stored:
        """Store a packet, in the page cache. Declined: not ours, no room, or `asker` begins too many files."""
        self._admit(packet.header)
        stored = None
        while stored is None:
            stored, conflict = await self._find(packet)
            if stored is None:
                stored = await self._append(packet, asker)
                if stored is not None and conflict:
                    self._alarm(packet.header)
        faultpoint("buck.store.before_ack")
        return stored

    async def synced(self, packet: Packet, stored: Stored) -> int:
        """The level of a stored packet once it is on a device, if need be of another disk than before."""
        while not await self.volume_of(stored.part).durable.sync(stored.part):
            stored = await self.put(packet)
        return stored.level

    def _admit(self, header: Header) -> None:
        if self.draining:
            raise Declined("draining", "this buck is leaving the cluster; give it to another")
        if header.env != self.env:
            raise Declined("env", f"this buck keeps {self.env!r}, the packet is of {header.env!r}")
        if header.width != self.width:
            raise Declined("width", f"windows are {self.width} s here, the packet's {header.width} s")
        if header.bucket % self.width or header.bucket > BUCKET_MAX:
            raise Declined("width", f"no window starts at {header.bucket}")
        if header.number >= NUMBER_MAX:
            raise Declined("size", f"packet numbers end before {NUMBER_MAX}")

    async def _find(self, packet: Packet) -> tuple[Stored | None, bool]:
        """Where this very packet is; and is another one of its key here, with other bytes?"""
        header = packet.header
        conflict = False
        for part, index in (await self.indexes(header.bucket)).items():
            group = index.group(header.tailer, header.epoch)
            if group is None or not part.trusted:
                continue
            for row in group.rows(header.number):
                try:
                    digest = digest_at(part, group, row)
                except OSError as error:
                    self.failed(part, error)
                    break
                if digest == packet.digest:
                    self.counts.repeats.inc()
                    return Stored(part, group.offsets[row], True), False
                conflict = True
        return None, conflict

    def _alarm(self, header: Header) -> None:
        self.counts.conflicts.inc()
        key = {"tailer": header.tailer.hex(), "epoch": header.epoch, "number": header.number}
        log.error("ALARM: one key, other bytes; both are kept", bucket=header.bucket, **key)

    async def _append(self, packet: Packet, asker: bytes | None) -> Stored | None:
        """Append to the open part. None: something was waited for, or a disk was left; look again."""
        header = packet.header
        volume = self._choose(header)
        part = volume.open_part(header.bucket)
        if part is None:
            await self._begin(volume, header.bucket, asker)
            return None
        part.arrived, part.last_arrival_ns = self.machine.now(), self.machine.time_ns()
        try:
            if not volume.hands.beside:
                offset: int | None = part.append(packet)
            else:
                offset = await volume.hands.append(part, packet)
        except HungError as hung:
            self._note_hung(volume, hung)
            return None
        except OSError as error:
            if part.failed:
                volume.fail(error)  # half a packet stands at its end, and can't be cut off
            volume.trouble(error)
            return None
        if offset is None:
            return None
        self.counts.packets.inc()
        self.counts.bytes.inc(len(packet.data))
        kind = header.kind
        self.counts.costs.written(kind.label, header.count, len(packet.data), part.unsynced, kind.sync)
        return Stored(part, offset)

    def _note_hung(self, volume: Volume, hung: HungError) -> None:
        self.counts.hung.inc()
        log.error("ALARM: a disk hangs; others are used until it answers", disk=volume.root, why=str(hung))

    def _choose(self, header: Header) -> Volume:
        """By key among the disks that are well, so that copies and repeats of a key meet on one disk."""
        now = self.machine.now()
        well = [volume for volume in self.volumes if volume.healthy]
        able = [volume for volume in well if not volume.room.full(now) and volume.able]
        if not able and any(volume.hands.hung for volume in well):
            raise Declined("slow", "no disk of this buck answers")
        if not able:
            raise Declined("full", "no room on any disk" if well else "all disks of this buck have failed")
        return able[(int.from_bytes(header.tailer[:4], "big") + header.epoch + header.number) % len(able)]

    async def _begin(self, volume: Volume, bucket: int, asker: bytes | None) -> None:
        """Open a part for the bucket, closing the one longest unused if there are too many."""
        async with self._making[volume]:
            if volume.open_part(bucket) is not None or not volume.able:
                return
            if asker is not None:
                self.begins.take(asker, self.machine.now())
            while len(opened := self.open_parts()) >= self._open_max():
                able = [part for part in opened if self.volume_of(part).able]
                if not able:
                    raise Declined("slow", "no disk of this buck answers")
                await self.close_part(min(able, key=lambda part: part.arrived))
            try:
                await volume.hands.do(lambda: self._begin_part(volume, bucket))
            except HungError as hung:
                self._note_hung(volume, hung)
            except OSError as error:
                volume.trouble(error)

    def _open_max(self) -> int:
        return min(OPEN_PARTS_MAX, self.machine.files_max() // 4)  # where files are few, peers need some too

    async def _begin_part(self, volume: Volume, bucket: int) -> None:
        if volume.open_part(bucket) is None:  # one that was asked for while the disk hung may be there by now
            await volume.begin_part(bucket, self.width)

    # --- receipts and indexes ---------------------------------------------------------------------------------------

    async def receipt(self, tailer: bytes, epoch: int, bucket: int, sync: bool) -> Held:
        """What is held of a tailer's epoch in a bucket; with `sync`, after an fsync of what isn't yet."""
        indexes = await self.indexes(bucket)
        if sync:
            for part, index in indexes.items():
                volume = self.volume_of(part)
                if part.trusted and volume.able and index.group(tailer, epoch) is not None:
                    await volume.durable.sync(part)
            indexes = await self.indexes(bucket)
        held = synced = await self.remnants.numbers(bucket, tailer, epoch)  # archived: safer than any copy
        for part, index in indexes.items():
            group = index.group(tailer, epoch)
            if group is not None and part.trusted:
                mine = group.ranges()
                held |= mine
                synced |= mine if part.synced >= part.size else group.ranges(part.synced)
        return Held(held, synced, self.is_unsure(bucket))

    async def indexes(self, bucket: int) -> dict[Part, Index]:
        """The index of each part of a bucket. Doesn't wait if all are in memory; complete at the moment it returns."""
        known: dict[Part, Index] = {}
        while missing := [part for part in self.parts(bucket) if part not in known]:
            for part in missing:
                known[part] = self.cache.get(part) or await self.cache.load(part)
        return known

    def parts(self, bucket: int) -> list[Part]:
        return [part for volume in self.volumes for part in volume.named(bucket)]

    def open_parts(self) -> list[Part]:
        return [part for volume in self.volumes for part in volume.open_parts()]

    def is_unsure(self, bucket: int) -> bool:
        return any(volume.is_unsure(bucket) for volume in self.volumes)

    def unsure(self) -> set[int]:
        """All buckets that may lack what was acknowledged."""
        return {bucket for volume in self.volumes for bucket in volume.unsure}

    async def settle(self, bucket: int) -> None:
        """A bucket was compared with what others hold: vouch for it again."""
        for volume in self.volumes:
            await volume.settle(bucket)

    def is_hung(self, part: Part) -> bool:
        """Would reading it have to wait for a disk that doesn't answer?"""
        return self.volume_of(part).hands.hung

    def failed(self, part: Part | Remnant, error: OSError) -> None:
        """A part can't be read: its disk is to be left, unless it is only busy, or the part was let go of meanwhile."""
        if isinstance(part, Remnant) or not part.dropped:
            self.volume_of(part).trouble(error)

    def volume_of(self, part: Part | Remnant) -> Volume:
        return next(volume for volume in self.volumes if volume.folder == part.env_folder)

    # --- the rhythm ---------------------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """One turn of the rhythm on all disks."""
        async with trio.open_nursery() as nursery:
            for volume in self.volumes:
                nursery.start_soon(self.tend, volume)

    async def tend(self, volume: Volume) -> None:
        """Look at the room of one disk, sync and close what is due there."""
        if not volume.able:
            return
        await self._identify(volume)
        volume.look_at_room()
        await self._lighten(volume)
        for part in volume.open_parts():
            now = self.machine.now()
            if part.stopped or now >= max(part.window_end, part.arrived) + CLOSE_AFTER_S:
                await self.close_part(part)
            elif part.synced < part.size and now >= max(part.window_end + SYNC_AFTER_S, part.last_sync + SYNC_EVERY_S):
                await volume.durable.sync(part)

    async def _lighten(self, volume: Volume) -> None:
        """Close the heaviest parts of a disk while the indexes of all open parts are too heavy together."""
        for part in sorted(volume.open_parts(), key=lambda part: part.cost, reverse=True):
            if sum(one.cost for one in self.open_parts()) <= OPEN_COST_MAX:
                return
            await self.close_part(part)

    async def _identify(self, volume: Volume) -> None:
        """Now and then: is that still our disk, or was it taken away, or swapped?"""
        now = self.machine.now()
        if now < self._identified.get(volume, float("-inf")) + IDENTIFY_EVERY_S:
            return
        self._identified[volume] = now
        try:
            if await self.machine.slow(volume.is_itself):
                return
            error = OSError(errno.ENODEV, "another disk, or none, is mounted there now", volume.root)
        except OSError as caught:
            error = caught
        volume.fail(error)

    async def look_again(self, part: Part) -> None:
        """A packet in this part went bad: read all of it, and claim from now on what is good, and nothing else."""
        if part in self._looking:
            return
        self._looking.add(part)
        try:
            if part.is_open:
                part.stopped = True
                await self.close_part(part)
            index, skipped = await self.machine.slow(part.rebuild, self.env)
        except OSError as error:
            self.failed(part, error)
            return
        finally:
            self._looking.discard(part)
        self.counts.skipped.inc(skipped)
        self.cache.keep(part, index)
        log.warning("a part was read again; what is bad in it counts no more", path=part.path, skipped=skipped)

    async def close_part(self, part: Part) -> None:
        """Close a part and remember its index while it is likely to be asked for."""
        volume = self.volume_of(part)
        part.stopped = True
        await volume.hands.rest()
        index = await volume.close_part(part)
        if index is not None:
            index.settle()
            self.cache.keep(part, index)

    def check(self) -> None:
        """Invariants."""
        self.cache.check()
        assert len(self.open_parts()) < self._open_max() + len(self.volumes)  # each disk may begin one at once
        for volume in self.volumes:
            volume.remnants.check()
            for bucket, parts in volume.parts.items():
                assert sum(part.is_open and not part.stopped for part in parts) <= 1, "one open part a bucket and disk"
                for part in parts:
                    assert part.bucket == bucket
                    part.check()
