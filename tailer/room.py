"""How much the journal may take, and what goes first when that is little.

The sources ask before they read; 0 makes them wait. The size is what was settled at the start, or what the disk has
left for it now, whichever is less. Above 80 % of it, packets that two bucks have on their devices are given up
before their third copy, oldest segments first: they are short, and counted, but not lost.
"""

from collections import Counter

from service.machine import Machine
from tailer.ledger import Ledger
from tailer.segments import SEGMENTS_MIN, Segments

SIZE_MAX = 4 << 30
SIZE_MIN = 32 << 20  # four of the largest packets: below that it could wait for itself
DISK_SHARE = 10  # at most one part in so many of the file system
DISK_FREE_MIN = 16 << 20  # left to others on a disk that is nearly full
FULL_SHARE = 0.8  # above this part of the size, packets are given up early
PRESSED_SHARE = 0.4  # above this, packets are finished now rather than after their window
SHORT_NODES = 2
ENTRIES_MAX = 262_144  # packets in the index: about 130 MB of memory; reached after weeks without any buck
UNSYNCED_MAX = 32 << 20  # held in memory in case an fsync fails; then reading waits


class Room:
    """Watches over a journal's size."""

    def __init__(self, machine: Machine, segments: Segments, ledger: Ledger, counters: Counter[str]) -> None:
        self._disk = machine.disk
        self._segments = segments
        self._ledger = ledger
        self._counters = counters
        self.size_max = SIZE_MAX

    def measure(self, size_max: int | None) -> None:
        """Settle the size: what is asked for, but never more than a tenth of the file system."""
        share = self._disk.space(self._segments.folder).total // DISK_SHARE
        self.size_max = self._segments.size_max = max(SIZE_MIN, min(size_max or SIZE_MAX, SIZE_MAX, share))

    def left(self) -> int:
        """Bytes that may be appended now."""
        if self._segments.unsynced_size >= UNSYNCED_MAX or len(self._ledger.entries) >= ENTRIES_MAX:
            return 0
        return max(0, self._most() - self._segments.used)

    def _most(self) -> int:
        """How large it may get: as was settled, or what the disk can hold of it now."""
        try:
            free = self._disk.space(self._segments.folder).free - DISK_FREE_MIN
        except OSError:
            return self.size_max  # a disk that can't say: writing will
        return min(self.size_max, self._segments.used + max(0, free))

    @property
    def pressed(self) -> bool:
        return self._segments.used > self._most() * PRESSED_SHARE

    def reclaim(self) -> None:
        """Make segments droppable; they go at the next sync."""
        current, most = self._segments.current, self._most()
        rolls = min(self._segments.segment_size, most // SEGMENTS_MIN) // 2
        if self.pressed and not self._ledger.live[current.index] and current.size > rolls:
            self._segments.roll()  # so that the one that is all done can go
        excess = self._segments.used - int(most * FULL_SHARE)
        for index, segment in list(self._segments.all.items())[:-1]:
            if excess <= 0:
                return
            entries = self._ledger.of_segment(index)
            if all(entry.done or (entry.sealed and len(entry.synced) >= SHORT_NODES) for entry in entries):
                excess -= segment.size
                for entry in entries:
                    self._counters["short"] += not entry.done
                    self._ledger.note_done(entry)
