"""Answers from the store: what is listed, how far streams are covered, and the packets themselves.

Lists come from indexes alone. Packets are read in file order, a few MiB at a time beside the loop, and each is verified
again: a copy that went bad on the disk is counted and reported missing, never sent. Whatever would not fit an answer is
cut to a lower bound, and the answer says `unsure`.
"""

from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import NamedTuple

import trio

from buck.bucket import Part, digest_at
from buck.fitting import CONFLICTS_MAX, CoverageKey, Entry, StreamFacts, fit, fit_coverage
from buck.index import Group, GroupKey, Index, StreamKey
from buck.remnant import Gone, Remains
from buck.store import Store
from protocol import packet as packets
from protocol.errors import FormatError
from protocol.limits import BUCKETS_MAX
from protocol.packet import Key
from protocol.ranges import Ranges
from service.log import get_log
from service.machine import File

log = get_log("buck.reading")

BATCH_BYTES = 4 << 20
BATCH_PACKETS = 256
# A list goes through so many packets in one piece: some milliseconds, for which everybody else waits.
TURN_PACKETS = 20_000


class BucketFacts(NamedTuple):
    """What `buckets` says of one."""

    bucket: int
    bytes: int
    packets: int
    last_arrival_ns: int
    unsure: bool
    archived: bool  # some of it was here, and is in the archive


class Listed(NamedTuple):
    """What `list` says of a bucket."""

    entries: list[Entry]
    unsure: bool
    conflicts: list[Key]
    archived: list[Entry]  # was here, and is in the archive


class Coverage(NamedTuple):
    """What is here of a tailer."""

    epochs: dict[int, Ranges]
    streams: dict[CoverageKey, Ranges]
    unsure: bool


def buckets(store: Store, start: int, end: int) -> list[BucketFacts]:
    """The buckets in [start, end) that hold anything, or did before it was archived: the first BUCKETS_MAX."""
    found: list[BucketFacts] = []
    marked = store.unsure()
    here = {bucket for volume in store.volumes for bucket in volume.parts if start <= bucket < end}
    gone = {bucket for volume in store.volumes for bucket in islice(volume.remnants.buckets(start, end), BUCKETS_MAX)}
    for bucket in sorted(here | gone):
        if len(found) == BUCKETS_MAX:
            break
        parts = [part for part in store.parts(bucket) if part.size] if bucket in here else []
        unsure, archived = bucket in marked, bucket in gone
        if parts or unsure or archived:
            size, count = sum(part.size for part in parts), sum(part.packets for part in parts)
            arrival = max((part.last_arrival_ns for part in parts), default=0)
            found.append(BucketFacts(bucket, size, count, arrival, unsure, archived))
    return found


async def listing(store: Store, bucket: int, host: bytes, path: bytes) -> Listed:
    """The packets of a bucket; with host or path only those that hold a stream of theirs."""
    indexes = await store.indexes(bucket)
    found = await _numbers(indexes.values(), host, path)
    gone = await _numbers(await store.remnants.of(bucket), host, path)
    entries, cut = fit((*key, numbers) for key, numbers in sorted(found.items()))
    archived, cut_too = fit((*key, numbers) for key, numbers in sorted(gone.items()))
    conflicts = [key for key in _conflicts(indexes) if key.number in found.get(key[:2], Ranges())]
    unsure = cut or cut_too or len(conflicts) > CONFLICTS_MAX or store.is_unsure(bucket)
    return Listed(entries, unsure, conflicts[:CONFLICTS_MAX], archived)


async def _numbers(indexes: Iterable[Index | Remains], host: bytes, path: bytes) -> dict[GroupKey, Ranges]:
    """The packets in these, or those with a stream of a host and path."""
    found: dict[GroupKey, Ranges] = {}
    for index in indexes:
        async for key, group in _in_turns(index):
            numbers = _matching(group, host, path) if host or path else group.ranges()
            if numbers:
                found[key] = found[key] | numbers if key in found else numbers
    return found


async def streams(store: Store, bucket: int) -> list[StreamFacts]:
    """The streams that have events in a bucket."""
    found: dict[tuple[StreamKey, bytes], Ranges] = {}
    known: list[Index | Remains] = [*(await store.indexes(bucket)).values(), *(await store.remnants.of(bucket))]
    for index in known:
        async for (tailer, _), group in _in_turns(index):
            for key, note in group.streams.items():
                found[key, tailer] = found.get((key, tailer), Ranges()) | note.intervals
    return [StreamFacts(key, tailer, intervals) for (key, tailer), intervals in sorted(found.items(), key=_by_path)]


async def covered(store: Store, tailer: bytes, ids: Iterable[bytes], heads: Iterable[bytes]) -> Coverage:
    """How far a tailer's streams are covered, over all buckets that are here, or were before they were archived."""
    ids, heads = frozenset(ids), frozenset(heads)
    epochs: dict[int, Ranges] = {}
    covered: dict[CoverageKey, Ranges] = {}
    unsure = _is_unsure(store)
    async for index in _each_index(store):
        for (group_tailer, epoch), group in _groups(index):
            if group_tailer == tailer:
                epochs[epoch] = epochs.get(epoch, Ranges()) | group.ranges()
                _cover(covered, group, ids, heads)
    fitting, streams, cut = fit_coverage(epochs, covered)
    return Coverage(fitting, streams, cut or unsure or _is_unsure(store))


def _is_unsure(store: Store) -> bool:
    """May anything lack what was acknowledged, of all that is here, or was?"""
    gone = (volume.remnants.parts(bucket) for bucket in store.unsure() for volume in store.volumes)
    return any(map(store.parts, store.unsure())) or any(gone)


async def _each_index(store: Store) -> AsyncIterator[Index | Remains]:
    """What is here, then what was: a part that is archived meanwhile is seen once at least."""
    for bucket in sorted({bucket for volume in store.volumes for bucket in volume.parts}):
        for part in store.parts(bucket):
            await trio.lowlevel.checkpoint()  # an index in memory is no wait
            yield await store.cache.load(part, keep=False)
    async for remains in store.remnants.all():
        yield remains


def _groups(index: Index | Remains) -> list[tuple[GroupKey, Group | Gone]]:
    return [*index.groups.items()]


async def _in_turns(index: Index | Remains) -> AsyncIterator[tuple[GroupKey, Group | Gone]]:
    """The groups of a part as they are now, with a turn for others after every so many packets."""
    packets = 0
    for key, group in _groups(index):
        packets += group.count
        if packets > TURN_PACKETS:
            packets = 0
            await trio.lowlevel.checkpoint()
        yield key, group


def _cover(
    covered: dict[CoverageKey, Ranges], group: Group | Gone, ids: frozenset[bytes], heads: frozenset[bytes]
) -> None:
    if not ids and not heads:
        return
    for key, note in group.streams.items():
        if key.id in ids or note.head in heads:
            name = (key.id, key.path, note.head)
            covered[name] = covered.get(name, Ranges()) | note.intervals


class Reading:
    """One `get` under way: batches of packets in file order, then what is missing. Close it when done."""

    def __init__(self, store: Store, bucket: int, keys: Iterable[Entry]) -> None:
        self._store = store
        self._bucket = bucket
        self._wanted: dict[GroupKey, Ranges] = {}
        for tailer, epoch, numbers in keys:
            known = self._wanted.get((tailer, epoch))
            self._wanted[tailer, epoch] = numbers if known is None else known | numbers
        self._sent = {key: Ranges() for key in self._wanted}
        self._seen: set[bytes] | None = None
        self._rows: list[_Row] = []
        self._taken: list[_Row] = []
        self._parts: list[tuple[Part, Index]] | None = None
        self._file: File | None = None
        self._part: Part | None = None
        self._rotten: list[Part] = []

    async def look(self) -> int:
        """How many bytes the next batch has, so that there may be room for it before it is read; 0 at the end."""
        if not self._taken and (self._rows or await self._next_part()):
            self._taken = self._take()
        return sum(row.size for row in self._taken)

    async def batch(self) -> list[bytes]:
        """The packets that were looked for, verified; fewer where some are no longer good."""
        taken, self._taken = self._taken, []
        assert self._file is not None
        read, error = await self._store.machine.slow(_read_rows, self._file, taken)
        if error is not None and self._part is not None:
            self._store.failed(self._part, error)
        return [data for row, data in zip(taken, read, strict=True) if self._is_good(row, data) and data is not None]

    async def missing(self) -> list[Entry]:
        """What was asked for and not sent. Copies that went bad are not claimed any more when this returns."""
        for part in self._rotten:
            await self._store.look_again(part)
        self._rotten = []
        left = [(*key, numbers - self._sent[key]) for key, numbers in self._wanted.items()]
        return fit(entry for entry in left if entry[2])[0]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    async def _next_part(self) -> bool:
        if self._parts is None:
            indexes = await self._store.indexes(self._bucket)
            self._parts = list(reversed(indexes.items()))
            if any(not part.trusted for part in indexes):
                self._seen = set()  # a packet was stored anew if its first copy could not be trusted
        while self._parts and not self._rows:
            part, index = self._parts.pop()
            self._rows = _rows(index, self._wanted)
            self.close()
            if self._rows and self._store.is_hung(part):
                self._rows = []  # others have copies, and answer sooner
            if self._rows:
                self._open(part)
        return bool(self._rows)

    def _open(self, part: Part) -> None:
        self._part = part
        try:
            self._file = part.disk.open_read(part.path)
        except OSError as error:
            self._rows = []
            if part.dropped:
                return  # archived since we looked; what isn't sent is said to be missing
            log.error("a part can't be opened", path=part.path, why=error.strerror or str(error))
            self._store.failed(part, error)

    def _take(self) -> "list[_Row]":
        """Rows for one batch; the list is kept in reverse, so that taking is popping."""
        taken = [self._rows.pop()]
        size = taken[0].size
        while self._rows and len(taken) < BATCH_PACKETS and size + self._rows[-1].size <= BATCH_BYTES:
            taken.append(self._rows.pop())
            size += taken[-1].size
        return taken

    def _is_good(self, row: "_Row", data: bytes | None) -> bool:
        if data is None:
            self._store.counts.bad_reads.inc()
            if self._part is not None and self._part.trusted and self._part not in self._rotten:
                self._rotten.append(self._part)
            log.error(
                "ALARM: a stored packet is no longer good; it is not sent", bucket=self._bucket, number=row.number
            )
            return False
        if self._seen is not None:
            if data[-16:] in self._seen:
                return False
            self._seen.add(data[-16:])
        self._sent[row.group].add(row.number, row.number + 1)
        self._store.counts.sent.inc()
        return True


class _Row(NamedTuple):
    offset: int
    size: int
    number: int
    group: GroupKey


def _rows(index: Index, wanted: dict[GroupKey, Ranges]) -> list[_Row]:
    """The wanted rows of a part, last first."""
    rows = []
    for key, numbers in wanted.items():
        group = index.groups.get(key)
        if group is not None:
            rows += [_Row(place.offset, place.size, place.number, key) for place in group.places(numbers)]
    rows.sort(reverse=True)
    return rows


def _read_rows(file: File, rows: list[_Row]) -> tuple[list[bytes | None], OSError | None]:
    """Runs beside the loop. None where the packet isn't what the index says; the last error of the disk, if any."""
    found: list[bytes | None] = []
    failure: OSError | None = None
    for row in rows:
        try:
            found.append(_read_row(file, row))
        except OSError as error:
            failure = error
            found.append(None)
    return found, failure


def _read_row(file: File, row: _Row) -> bytes | None:
    data = file.pread(row.size, row.offset)
    try:
        key = packets.read(data).header.key
    except FormatError:
        return None
    return data if key == (*row.group, row.number) else None


def _matching(group: Group | Gone, host: bytes, path: bytes) -> Ranges:
    numbers = Ranges()
    for key, note in group.streams.items():
        if (not host or key.host == host) and (not path or key.path == path):
            numbers |= note.numbers
    return numbers


def _conflicts(indexes: dict[Part, Index]) -> list[Key]:
    """Keys with more than one packet, within a part or across parts; equal ones are repeats."""
    found: set[Key] = set()
    before: dict[GroupKey, list[tuple[Part, Group]]] = {}
    for part, index in indexes.items():
        for key, group in index.groups.items():
            twice = (number for number in group.conflicts() if len(_digests(part, group, number)) > 1)
            found.update(Key(*key, number) for number in twice)
            for other_part, other in before.get(key, ()):
                for number in (group.ranges() & other.ranges()).numbers():
                    ours, theirs = _digests(part, group, number), _digests(other_part, other, number)
                    if ours != theirs and ours and theirs:
                        found.add(Key(*key, number))
            before.setdefault(key, []).append((part, group))
    return sorted(found)


def _digests(part: Part, group: Group, number: int) -> set[bytes]:
    try:
        return {digest_at(part, group, row) for row in group.rows(number)}
    except OSError:
        return set()  # a disk that can't be read is left as soon as packets are wanted from it


def _by_path(item: tuple[tuple[StreamKey, bytes], Ranges]) -> tuple[bytes, bytes, bytes]:
    (key, _), _ = item
    return key.host, key.path, key.id
