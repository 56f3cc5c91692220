"""What the segments of a journal say when they are read together, at a start.

Each segment opens with a checkpoint; the newest valid one is the base. Packets are taken from all segments, whatever
else is damaged: a packet proves itself. Notes only ever grow (done, sealed), so all that can be read are united. Then:

* coverage, what of each stream is in packets: the base's word, and the runs of all packets found. If numbers are
  missing that should be here, or were given up, the base's word isn't taken (it counts what is now lost): only what
  was found counts.
* a segment older than the base, which the base doesn't list, was dropped before and came back (a restored backup):
  stale, not read.
* clean: the last thing in the last segment is a checkpoint that says so, and nothing was damaged.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol.errors import FormatError, SealError, VersionError
from protocol.packet import Class, Header
from protocol.ranges import Ranges
from protocol.seal import Seal
from service.config import ConfigError
from service.machine import Disk
from tailer.checkpoint import Checkpoint, EpochNotes, State, notes_from_plain
from tailer.ledger import Entry, Ledger, Slot
from tailer.segment import Damage, Found, Segment, scan, segment_index

CONTENT_SIZE = 16  # of a packet's `content`, as seals state it
FIRST_NUMBER = 0  # of an epoch's packets; one that left nothing at all is "lost after -1"


@dataclass
class Recovery:
    """What a journal knew when it was opened."""

    found: bool = False  # there was a journal with something in it
    clean: bool = False  # and it was closed in order
    checkpoint: Checkpoint | None = None
    epoch: int | None = None  # the last one written here
    coverage: dict[bytes, Ranges] = field(default_factory=dict)
    holes: dict[int, Ranges] = field(default_factory=dict)  # epoch -> numbers that should be here and are not
    ends: dict[int, int] = field(default_factory=dict)  # epoch -> the number after its last known one
    skipped: int = 0  # damaged places in the middle
    cut: int = 0  # bytes of torn tails
    foreign: int = 0  # records of another node, env or segment
    stale: int = 0  # segments that had been dropped before
    unsure: bool = False  # coverage may claim too little: bucks should be asked

    @property
    def streams(self) -> set[bytes]:
        """Those of the last checkpoint."""
        return {stream.id for stream in self.checkpoint.streams} if self.checkpoint is not None else set()


class Replay:
    """Gathers records, then draws the conclusions."""

    def __init__(self, env: str, tailer: bytes) -> None:
        self.env = env
        self.tailer = tailer
        self.base: State | None = None  # the newest checkpoint that can be read
        self.segments: dict[int, Segment] = {}
        self.lost: dict[int, int] = {}
        self.unread: Counter[Class] = Counter()
        self.notes: dict[int, EpochNotes] = {}
        self.seals: dict[int, bytes] = {}
        self.undelivered: set[int] = set()  # numbers of seals that too few bucks have
        self.owners: Counter[tuple[str, bytes]] = Counter()
        self.recovery = Recovery()
        self._entries: dict[Slot, Entry] = {}
        self._coverage: dict[bytes, Ranges] = {}
        self._with_packets: set[int] = set()
        self._last_is_clean = False

    def refuse_foreign(self, folder: str) -> None:
        """ConfigError for a folder in which nothing is of this node and env."""
        if self.owners and (self.env, self.tailer) not in self.owners:
            env, node = self.owners.most_common(1)[0][0]
            raise ConfigError(
                f"{folder}: the journal belongs to node {node.hex()} in env {env!r}, this is {self.tailer.hex()} in "
                f"{self.env!r}; on the host that wrote it: give back its key (--key) and --env; on a copy of that "
                "host, which has a key of its own: empty the folder, or give --journal another"
            )

    def stale(self) -> list[int]:
        """Segments that the base says were dropped; their packets are forgotten here."""
        if self.base is None:
            return []
        known, before = self.base.segments, self.base.segment
        stale = [index for index in self.segments if index < before and index not in known]
        self._entries = {slot: entry for slot, entry in self._entries.items() if entry.segment not in stale}
        # a segment whose packets were all done may also just not have been removed yet: that is nothing to be counted
        self.recovery.stale = len({*stale} & self._with_packets)
        return stale

    def take(self, segment: int, item: Found | Damage) -> None:
        """One thing that a scan found, in order."""
        if isinstance(item, Damage):
            self._last_is_clean = False
            if item.torn:
                self.recovery.cut += item.end - item.offset
            else:
                self.recovery.skipped += 1
        elif item.header is not None:
            self._last_is_clean = False
            self._take_packet(segment, item, item.header)
        else:
            self._take_control(segment, item.value)

    def _take_packet(self, segment: int, item: Found, header: Header) -> None:
        self.owners[header.env, header.tailer] += 1
        if (header.env, header.tailer) != (self.env, self.tailer):
            self.recovery.foreign += 1
            return
        self._cover(header)
        self._with_packets.add(segment)
        entry = entry_of(header, segment, item.offset, item.size)
        entry.again = True
        self._entries[entry.slot] = entry  # written twice: the later copy is the one that was synced

    def _cover(self, header: Header) -> None:
        for stream, first, end, _, _ in header.runs:
            self._coverage.setdefault(header.streams[stream].id, Ranges()).add(first, end)

    def _take_control(self, segment: int, value: object) -> None:
        self._last_is_clean = False
        try:
            if not isinstance(value, dict) or value.get("segment") != segment:
                raise FormatError("a record of another segment")
            self._take_value(value)
        except VersionError as error:  # before anything of it is cut or written
            raise ConfigError(f"the journal was written by a later program: {error}; start that one") from error
        except FormatError:
            self.recovery.foreign += 1

    def _take_value(self, value: Mapping[str, object]) -> None:
        kind = value.get("k")
        if kind == "checkpoint":
            state = State.from_plain(value)
            self.owners[state.env, state.tailer] += 1
            self.base, self.lost, self.unread = state, dict(state.lost), Counter(state.unread)
            self._last_is_clean = state.clean
            self.seals.update(_seals(state.seals))
            self.undelivered = set(state.undelivered)
            self._merge(state.epochs)
        elif kind == "notes":
            self._merge(notes_from_plain(_mapping(value.get("epochs"))))
            self.undelivered.difference_update(_numbers(value.get("delivered")))
        elif kind == "seal":
            self._take_seal(value.get("seal"))
        else:
            raise FormatError(f"a record of an unknown kind: {kind!r}")

    def _take_seal(self, data: object) -> None:
        """What a seal states is sealed, even where the note that says so was torn off."""
        for number, seal in _seals((data,)):
            self.seals[number] = seal
            self.undelivered.add(number)
            for section in Seal.read(seal).sections:
                self._merge({section.epoch: EpochNotes(sealed=section.numbers | section.given_up)})
                self.unread[section.kind] -= section.unread
                self.unread = +self.unread
                if section.lost_after is not None:
                    self.lost.pop(section.epoch, None)

    def _merge(self, epochs: Mapping[int, EpochNotes]) -> None:
        for epoch, notes in epochs.items():
            self.notes.setdefault(epoch, EpochNotes()).merge(notes)

    def finish(self, ledger: Ledger) -> Recovery:
        """Fill the index with what is left to do, and say what was found."""
        recovery, base = self.recovery, self.base
        recovery.found = bool(self.base or self._entries)
        recovery.ends = self._ends()
        recovery.holes = self._holes(recovery.ends)
        recovery.clean = self._last_is_clean and not (recovery.skipped or recovery.holes or recovery.foreign)
        claims_too_much = base is not None and base.gone
        recovery.unsure = recovery.found and (claims_too_much or not recovery.clean)
        if base is not None:
            recovery.checkpoint, recovery.epoch = base.agent, base.epoch
        elif self._entries:
            recovery.epoch = next(reversed(self._entries))[0]
        recovery.coverage = self._coverage
        if base is not None and not (recovery.holes or base.gone):
            for stream, ranges in base.coverage.items():
                self._coverage[stream] = self._coverage.get(stream, Ranges()) | ranges
        for entry in sorted(self._entries.values(), key=lambda one: (one.segment, one.offset)):
            ledger.add(entry)
        ledger.apply(self.notes)
        return recovery

    def _ends(self) -> dict[int, int]:
        """The number after the last that is known, for each epoch that isn't over and done with."""
        ends = {self.base.epoch: self.base.next, **self.base.ends} if self.base is not None else {}
        for epoch, number in self._entries:
            ends[epoch] = max(ends.get(epoch, FIRST_NUMBER), number + 1)
        return ends

    def _holes(self, ends: Mapping[int, int]) -> dict[int, Ranges]:
        known: dict[int, Ranges] = {}
        for epoch, number in self._entries:
            known.setdefault(epoch, Ranges()).add(number, number + 1)
        holes = {}
        for epoch, end in ends.items():
            have = known.get(epoch, Ranges())
            notes = self.notes.get(epoch, EpochNotes())
            first = FIRST_NUMBER if self.base is not None else have.first
            holes[epoch] = (have | notes.done & notes.sealed).holes(first, end)  # done by itself is nobody's knowledge
        return {epoch: missing for epoch, missing in holes.items() if missing}


def replay_folder(disk: Disk, folder: str, replay: Replay) -> Replay:
    """Read all segments of a folder in order, and cut what a crash left torn at their ends."""
    for index in sorted(index for name in disk.listdir(folder) if (index := segment_index(name)) is not None):
        segment = replay.segments[index] = Segment.existing(disk, folder, index)
        file = disk.open_append(segment.path)
        try:
            for item in scan(file, segment.size):
                replay.take(index, item)
                if isinstance(item, Damage) and item.torn:
                    file.truncate(item.offset)
                    segment.size = item.offset
        finally:
            file.close()
    return replay


def entry_of(header: Header, segment: int, offset: int, size: int) -> Entry:
    """The index entry of a packet that lies there."""
    return Entry(
        header.epoch,
        header.number,
        segment=segment,
        offset=offset,
        size=size,
        bucket=header.bucket,
        kind=header.kind,
        late=header.late,
        count=header.count,
        raw=header.raw,
        content=header.content[:CONTENT_SIZE],
    )


def _seals(values: tuple[object, ...]) -> list[tuple[int, bytes]]:
    found = []
    for value in values:
        if not isinstance(value, bytes):
            raise SealError("a seal that is no bytes")
        found.append((Seal.read(value).number, value))
    return found


def _numbers(value: object) -> list[int]:
    if not isinstance(value, list) or not all(isinstance(number, int) for number in value):
        raise FormatError("a list of numbers that is none")
    return value


def _mapping(value: object) -> Mapping[int, object]:
    if not isinstance(value, dict):
        raise FormatError("notes that are no map")
    return value
