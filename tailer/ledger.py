"""Where each packet of the journal lies, and who holds it: the journal's index in memory.

One small entry a packet, never its bytes. An entry lives until its packet is done *and* sealed; then its number remains
in two sets per epoch, which cost a few bytes for thousands of packets. Changes are gathered as notes, which the journal
writes before each sync, so a restart knows who holds what without asking. Pure: no disk, no clock.

    add ──> unplaced ──place──> placed ──done──┐
       └──> unsealed ──sealed──────────────────┴──> gone from the index; its segment has one packet less to keep
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeVar

from protocol.packet import Class
from protocol.ranges import Ranges
from tailer.checkpoint import EpochNotes

K = TypeVar("K")
Slot = tuple[int, int]  # (epoch, number); the tailer is always the journal's own


class Entry:
    """One packet. `stored` and `synced` name bucks; synced is a part of stored."""

    __slots__ = (
        "again",
        "bucket",
        "content",
        "count",
        "done",
        "epoch",
        "kind",
        "late",
        "number",
        "offset",
        "opened",
        "raw",
        "sealed",
        "segment",
        "size",
        "stored",
        "synced",
    )

    def __init__(
        self,
        epoch: int,
        number: int,
        *,
        segment: int,
        offset: int,
        size: int,
        bucket: int,
        kind: Class,
        late: bool,
        count: int,
        raw: int,
        content: bytes,
        opened: float = 0.0,
        again: bool = False,
    ) -> None:
        self.epoch = epoch
        self.number = number
        self.segment = segment
        self.offset = offset
        self.size = size
        self.bucket = bucket
        self.kind = kind
        self.late = late
        self.count = count
        self.raw = raw
        self.content = content  # the first 16 bytes, as a seal states them
        self.opened = opened  # on the monotonic clock, when its first line came
        self.again = again  # read back after a restart: no viewer wants it live
        self.stored: tuple[bytes, ...] = ()
        self.synced: tuple[bytes, ...] = ()
        self.sealed = False
        self.done = False

    @property
    def slot(self) -> Slot:
        return self.epoch, self.number


class Ledger:
    """All packets that the journal may not forget yet."""

    def __init__(self) -> None:
        self.entries: dict[Slot, Entry] = {}  # in journal order
        self.unplaced: dict[Slot, Entry] = {}  # not on enough bucks yet for A1
        self.unsealed: dict[Slot, Entry] = {}
        self.done: dict[int, Ranges] = {}
        self.sealed: dict[int, Ranges] = {}
        self.live: Counter[int] = Counter()  # segment -> entries in it
        self._notes: dict[int, EpochNotes] = {}

    def add(self, entry: Entry) -> None:
        self.entries[entry.slot] = entry
        self.unplaced[entry.slot] = entry
        entry.sealed = entry.number in self.sealed.get(entry.epoch, ())  # of a packet that was lost here and came back
        if not entry.sealed:
            self.unsealed[entry.slot] = entry
        self.live[entry.segment] += 1

    def move(self, entry: Entry, segment: int, offset: int) -> None:
        """The packet was written once more, elsewhere."""
        if entry.slot in self.entries:
            self.live[entry.segment] -= 1
            self.live[segment] += 1
        entry.segment, entry.offset = segment, offset

    def note_stored(self, entry: Entry, node: bytes, synced: bool = False) -> None:
        """A buck says it holds the packet; `synced`: on its device."""
        if node not in entry.stored:
            entry.stored = (*entry.stored, node)
            _add(self._epoch_notes(entry.epoch).stored, node, entry.number)
        if synced and node not in entry.synced:
            entry.synced = (*entry.synced, node)
            _add(self._epoch_notes(entry.epoch).synced, node, entry.number)

    def note_lost(self, entry: Entry, node: bytes) -> None:
        """A buck no longer holds it. Not written down: after a restart the buck is asked again anyway."""
        entry.stored = tuple(other for other in entry.stored if other != node)
        entry.synced = tuple(other for other in entry.synced if other != node)

    def forget_node(self, node: bytes) -> None:
        """A buck is gone for good: what it holds, it holds for nobody."""
        for entry in self.entries.values():
            self.note_lost(entry, node)

    def place(self, entry: Entry) -> None:
        """It is on enough bucks; whoever sends first copies may forget it."""
        self.unplaced.pop(entry.slot, None)

    def unplace(self, entry: Entry) -> None:
        """Too few bucks hold it after all: it is to be sent once more."""
        if entry.slot in self.entries:
            self.unplaced[entry.slot] = entry

    def note_sealed(self, epoch: int, numbers: Ranges) -> None:
        """A seal states these numbers."""
        self.sealed[epoch] = self.sealed.get(epoch, Ranges()) | numbers
        self._epoch_notes(epoch).sealed |= numbers
        if numbers.count < len(self.unsealed):  # a seal has many small sections: look only for what each names
            slots = [(epoch, number) for number in numbers.numbers() if (epoch, number) in self.unsealed]
        else:
            slots = [slot for slot in self.unsealed if slot[0] == epoch and slot[1] in numbers]
        for entry in [self.unsealed[slot] for slot in slots]:
            del self.unsealed[entry.slot]
            entry.sealed = True
            self._leave(entry)

    def note_done(self, entry: Entry) -> None:
        """Nobody will need the packet from here again."""
        if not entry.done:
            entry.done = True
            _ranges(self.done, entry.epoch).add(entry.number, entry.number + 1)
            self._epoch_notes(entry.epoch).done.add(entry.number, entry.number + 1)
            self.place(entry)
            self._leave(entry)

    def note_gone(self, epoch: int, numbers: Ranges) -> None:
        """Packets that are not here, and that nothing is to be done for: a seal says why, or will."""
        for entry in self._of(epoch, numbers):
            self.note_done(entry)
            self.unsealed.pop(entry.slot, None)
            entry.sealed = True
            self._leave(entry)
        self.done[epoch] = self.done.get(epoch, Ranges()) | numbers
        self._epoch_notes(epoch).done |= numbers

    def _leave(self, entry: Entry) -> None:
        if entry.done and entry.sealed and self.entries.pop(entry.slot, None) is not None:
            self.live[entry.segment] -= 1

    def apply(self, notes: dict[int, EpochNotes]) -> None:
        """Take over what a former run noted (after all its packets were added)."""
        for epoch, note in notes.items():
            self.done[epoch] = self.done.get(epoch, Ranges()) | note.done
            for which, synced in ((note.stored, False), (note.synced, True)):
                for node, numbers in which.items():
                    for entry in self._of(epoch, numbers):
                        self.note_stored(entry, node, synced)
            for entry in self._of(epoch, note.done):
                self.note_done(entry)
            self.note_sealed(epoch, note.sealed)
        self._notes.clear()

    def _of(self, epoch: int, numbers: Ranges) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.epoch == epoch and entry.number in numbers]

    @property
    def has_notes(self) -> bool:
        return bool(self._notes)

    def take_notes(self) -> dict[int, EpochNotes]:
        """What changed since the last call, to be written down."""
        notes, self._notes = self._notes, {}
        return notes

    def snapshot(self) -> dict[int, EpochNotes]:
        """All of it, for a checkpoint."""
        epochs = {
            epoch: EpochNotes(self.done.get(epoch, Ranges()).copy(), self.sealed.get(epoch, Ranges()).copy())
            for epoch in {*self.done, *self.sealed}
        }
        for entry in self.entries.values():
            notes = epochs.setdefault(entry.epoch, EpochNotes())
            for nodes, which in ((entry.stored, notes.stored), (entry.synced, notes.synced)):
                for node in nodes:
                    _add(which, node, entry.number)
        return epochs

    def forget_epoch(self, epoch: int) -> None:
        """An epoch that ended, whose packets are all gone from here."""
        self.done.pop(epoch, None)
        self.sealed.pop(epoch, None)

    def epochs(self) -> set[int]:
        """Those that still have packets here."""
        return {epoch for epoch, _ in self.entries}

    def waiting(self) -> Iterator[Entry]:
        """Packets that are not done, in journal order."""
        return (entry for entry in list(self.entries.values()) if not entry.done)

    def of_segment(self, index: int) -> Iterable[Entry]:
        return [entry for entry in self.entries.values() if entry.segment == index]

    def check(self) -> None:
        """Assert the invariants, for tests."""
        assert set(self.unplaced) <= set(self.entries)
        assert set(self.unsealed) <= set(self.entries)
        for slot, entry in self.entries.items():
            assert slot == entry.slot
            assert not (entry.done and entry.sealed)
            assert set(entry.synced) <= set(entry.stored)
            assert entry.sealed == (slot not in self.unsealed)
        live = Counter(entry.segment for entry in self.entries.values())
        assert live == +self.live, (live, self.live)

    def _epoch_notes(self, epoch: int) -> EpochNotes:
        notes = self._notes.get(epoch)
        if notes is None:
            notes = self._notes[epoch] = EpochNotes()
        return notes


def _add(which: dict[bytes, Ranges], node: bytes, number: int) -> None:
    _ranges(which, node).add(number, number + 1)


def _ranges(which: dict[K, Ranges], key: K) -> Ranges:
    ranges = which.get(key)
    if ranges is None:
        ranges = which[key] = Ranges()
    return ranges
