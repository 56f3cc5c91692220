"""The segments of a journal as one log: append a record, make it durable, begin the next file, drop an old one.

Only the last segment is written. Records that may not be on the device yet are remembered with their bytes, because an
fsync that failed says nothing about them and trying it again proves nothing: its segment is *broken*, a new one is
begun, and what was not synced is written there once more. So a record may stand in two segments; equal keys tell.

    append ──> unsynced ──fsync──> durable
                  │ fsync fails: the segment is broken
                  └──> appended again to a new segment ──fsync──> durable
                                                          │ fails too: JournalError, tried again at the next sync
"""

import errno
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

from service.config import ConfigError
from service.faults import faultpoint
from service.log import get_log
from service.machine import BusyError, Lock, Machine
from tailer.segment import SEGMENT_SIZE, Segment

SEGMENT_SIZE_MIN = 1 << 20
SEGMENTS_MIN = 8  # a small journal has smaller segments, so that some can go while others fill

log = get_log("tailer.journal")

Moved = Callable[[Segment, int], None]  # told where a record lies after it had to be written again


class JournalError(OSError):
    """The journal can't be written any more: stop, or wait and try again. What was synced is safe."""


class JournalFull(JournalError):
    """No room. Nothing was changed: give the same draft again, after `wait_for_room`."""


class _Unsynced(NamedTuple):
    order: int
    segment: Segment
    data: bytes
    moved: Moved | None  # None: a control record; a new segment's checkpoint says the same


class Segments:
    """All segments of a folder. `head` gives the first record (a checkpoint) of the segment with that index."""

    def __init__(self, machine: Machine, folder: str, head: Callable[[int], bytes], counters: Counter[str]) -> None:
        self.disk = machine.disk
        self._lock: Lock | None = None
        self.folder = folder
        self.size_max = 0
        self.all: dict[int, Segment] = {}  # by index, ascending; the last one is written
        self.durable = 0  # index of the newest segment whose checkpoint is on the device
        self.unsynced_size = 0
        self._head = head
        self._counters = counters
        self._unsynced: deque[_Unsynced] = deque()
        self._names_new = False
        self.order = 0  # of the last record appended

    @property
    def current(self) -> Segment:
        return self.all[max(self.all)]

    @property
    def used(self) -> int:
        return sum(segment.size for segment in self.all.values())

    def append(self, data: bytes, moved: Moved | None = None) -> tuple[Segment, int]:
        """Write a packet to the last segment, or a new one if that is full or broken. JournalFull on any error."""
        try:
            segment = self._fitting(len(data))
            offset = segment.append(data)
        except OSError as error:
            raise self._full(error) from error
        self._remember(segment, data, moved)
        return segment, offset

    def append_control(self, make: Callable[[int], bytes]) -> None:
        """Write a control record; `make` is told which segment it is for, so that it can name it."""
        try:
            index = self.current.index
            data = make(index)
            segment = self._fitting(len(data))
            if segment.index != index:
                data = make(segment.index)
            segment.append(data)
        except OSError as error:
            raise self._full(error) from error
        self._remember(segment, data, None)

    def _fitting(self, size: int) -> Segment:
        segment = self.current
        full = segment.size - segment.head_size + size > self.segment_size
        return self.roll() if segment.broken or (full and segment.size > segment.head_size) else segment

    def _full(self, error: OSError) -> JournalFull:
        self._counters["write_errors"] += 1
        return JournalFull(error.errno, f"the journal can't be written: {error.strerror or error}", self.folder)

    @property
    def segment_size(self) -> int:
        """Where a segment ends and the next begins."""
        return max(SEGMENT_SIZE_MIN, min(SEGMENT_SIZE, self.size_max // SEGMENTS_MIN))

    def roll(self) -> Segment:
        """Begin a new segment with a checkpoint. The one before stays open until it is synced."""
        faultpoint("tailer.journal.roll")
        index = max(self.all, default=0) + 1
        head = self._head(index)
        segment = Segment.create(self.disk, self.folder, index)
        try:
            segment.append(head)
            segment.head_size = len(head)
        except OSError:
            segment.close()
            self._unlink(segment)
            raise
        self.all[index] = segment
        self._names_new = True
        self._remember(segment, head, None)
        faultpoint("tailer.journal.rolled")
        return segment

    def _remember(self, segment: Segment, data: bytes, moved: Moved | None) -> None:
        self.order += 1
        self._unsynced.append(_Unsynced(self.order, segment, data if moved else b"", moved))
        self.unsynced_size += len(data) if moved else 0

    def is_durable(self, order: int) -> bool:
        """Is everything up to this record on the device?"""
        return not self._unsynced or self._unsynced[0].order > order

    async def sync(self) -> None:
        """All that was appended before this call is on the device after it. Never by two tasks at once."""
        for last_try in (False, True):
            try:
                self._rewrite_unsynced()
                await self._sync_once()
                return
            except OSError as error:
                self._counters["sync_errors"] += 1
                log.warning("the journal could not be synced", folder=self.folder, why=str(error), again=not last_try)
                if last_try:
                    raise JournalError(
                        error.errno or errno.EIO, f"the journal can't be synced: {error.strerror or error}", self.folder
                    ) from error

    async def sync_old(self) -> list[int]:
        """Make what an earlier process left durable. Returns the segments for which that failed."""
        failed = []
        for index in list(self.all)[:-1]:
            file = self.disk.open_append(self.all[index].path)
            try:
                await self.disk.fsync(file)
            except OSError as error:
                log.warning("an old segment could not be synced", path=self.all[index].path, why=str(error))
                failed.append(index)
            finally:
                file.close()
        return failed

    async def _sync_once(self) -> None:
        faultpoint("tailer.journal.before_sync")
        order, dirty = self.order, list({item.segment.index: item.segment for item in self._unsynced}.values())
        names, self._names_new = self._names_new, False
        try:
            for segment in dirty:
                assert segment.file is not None
                await self.disk.fsync(segment.file)
            if names:
                await self.disk.fsync_folder(self.folder)
        except BaseException as error:
            self._names_new |= names
            for segment in dirty if isinstance(error, OSError) else ():
                segment.broken = True
            raise
        faultpoint("tailer.journal.after_sync")
        self._settle(order)
        self.durable = max([self.durable, *(segment.index for segment in dirty)])

    def _rewrite_unsynced(self) -> None:
        """What a broken segment may have lost goes into a new one."""
        if self.current.broken:
            self.roll()
        for item in [item for item in self._unsynced if item.segment.broken]:
            if item.moved is not None:
                item.moved(*self.append(item.data, item.moved))
                self.unsynced_size -= len(item.data)
                self._counters["rewritten"] += 1
            self._unsynced.remove(item)
        self._close_idle()

    def _settle(self, order: int) -> None:
        while self._unsynced and self._unsynced[0].order <= order:
            self.unsynced_size -= len(self._unsynced.popleft().data)
        self._close_idle()

    def _close_idle(self) -> None:
        """Segments before the last keep a file open only while something in them isn't synced."""
        busy = {item.segment.index for item in self._unsynced} | {self.current.index}
        for segment in self.all.values():
            if segment.index not in busy and segment.file is not None:
                segment.close()

    def drop(self, index: int) -> bool:
        """Remove a segment; False (and a warning) if that fails: it is tried again later."""
        faultpoint("tailer.journal.drop")
        segment = self.all[index]
        if not self._unlink(segment):
            return False
        segment.close()
        del self.all[index]
        self._counters["segments_dropped"] += 1
        return True

    def _unlink(self, segment: Segment) -> bool:
        try:
            self.disk.unlink(segment.path)
        except FileNotFoundError:
            return True
        except OSError as error:
            log.warning("a segment could not be removed", path=segment.path, why=str(error))
            return False
        return True

    def take(self) -> None:
        """Make the folder, and hold it against other processes. ConfigError if that can't be."""
        try:
            self.disk.mkdirs(self.folder)
            self._lock = self.disk.lock(f"{self.folder}/lock")
        except BusyError as error:
            raise ConfigError(
                f"{self.folder}: the journal is in use by another tailer; stop it, or give --journal another folder"
            ) from error
        except OSError as error:
            raise ConfigError(f"{self.folder}: the journal can't be made: {error.strerror or error}") from error

    def close(self) -> None:
        """Close all, and give the folder back."""
        for segment in self.all.values():
            segment.close()
        if self._lock is not None:
            self._lock.close()
