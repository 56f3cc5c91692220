"""The seals of each tailer: verified, appended, fsynced before ok, never changed.

One file a tailer on one disk, of records `[number, seal]` (protocol/record.py). A seal that is here already is not
written again; one with the same number and other bytes is a fork of the chain: kept too, counted, an alarm. Memory
holds per tailer its last number and a sparse table of offsets, because seals are kept for ever.
"""

from collections.abc import Iterator, Sequence
from typing import cast

import trio

from buck.counts import Counts
from buck.errors import Declined
from buck.files import join, parse_seals, seals_name
from buck.scan import Kind, Record, scan
from buck.volume import Volume
from protocol import record
from protocol.errors import FormatError
from protocol.seal import Seal
from service.faults import faultpoint
from service.log import get_log
from service.machine import File, Machine

log = get_log("buck.seals")

# One entry of the sparse table for so many seals; and how many bytes of seals an answer's part carries.
MARK_EVERY = 64
BATCH_BYTES = 1 << 20

Entry = tuple[int, bytes]


class Book:
    """The file of one tailer on one disk."""

    def __init__(self, volume: Volume, tailer: bytes) -> None:
        self.volume = volume
        self.path = join(volume.folder, "seals", seals_name(tailer))
        self.file: File | None = None
        self.size = 0
        self.last = -1  # highest number here
        self.ordered = True  # numbers ascend in the file
        self.marks: list[tuple[int, int]] = []
        self.writing = trio.Lock()
        self._count = 0

    def load(self) -> None:
        """Read what is there and cut a torn tail. Runs beside the loop."""
        try:
            file = self.volume.machine.disk.open_read(self.path)
        except FileNotFoundError:
            return
        try:
            for found in scan(file, KIND, file.size()):
                self._note(found.value[0], found.offset, found.size)
            torn = file.size() - self.size
        finally:
            file.close()
        if torn:
            self._cut()

    def entries(self, since: int) -> Iterator[Record[Entry]]:
        """The records with at least this number, as they stand in the file."""
        start = max((offset for number, offset in self.marks if number <= since), default=0) if self.ordered else 0
        try:
            file = self.volume.machine.disk.open_read(self.path)
        except FileNotFoundError:
            return
        try:
            for found in scan(file, KIND, self.size, start):
                if found.value[0] >= since:
                    yield found
        finally:
            file.close()

    def with_number(self, number: int) -> list[bytes]:
        """The seals of one number: none, one, or a fork's."""
        if number > self.last:
            return []
        found = []
        for entry in self.entries(number):
            if entry.value[0] == number:
                found.append(entry.value[1])
            elif self.ordered:
                break
        return found

    async def append(self, number: int, seal: bytes) -> None:
        """Write and fsync, the file's name too if it's new. OSError: the file is as it was, as far as one can tell."""
        disk = self.volume.machine.disk
        fresh = not self.size
        if fresh:
            disk.mkdirs(join(self.volume.folder, "seals"))
        data = record.encode_record([number, seal])
        slow = self.volume.machine.slow
        file = await slow(disk.open_append, self.path)
        try:
            faultpoint("buck.seals.before_append")
            await slow(file.write, data)
            faultpoint("buck.seals.before_fsync")
            await disk.fsync(file)
            faultpoint("buck.seals.after_fsync")
        except OSError:
            self._cut()
            raise
        finally:
            file.close()
        if fresh:
            await disk.fsync_folder(join(self.volume.folder, "seals"))
            await disk.fsync_folder(self.volume.folder)
        self._note(number, self.size, len(data))

    def _note(self, number: int, offset: int, size: int) -> None:
        if self._count % MARK_EVERY == 0:
            self.marks.append((number, offset))
        self._count += 1
        self.ordered = self.ordered and number >= self.last
        self.last = max(self.last, number)
        self.size = offset + size

    def _cut(self) -> None:
        try:
            file = self.volume.machine.disk.open_append(self.path)
        except OSError:
            return  # the disk is failing: the next start looks again
        try:
            file.truncate(self.size)
        except OSError as error:
            log.warning("a torn tail can't be cut", path=self.path, why=error.strerror or str(error))
        finally:
            file.close()


class SealStore:
    """All tailers' books, over the disks of the node."""

    def __init__(self, machine: Machine, volumes: Sequence[Volume], env: str, width: int, counts: Counts) -> None:
        self._machine = machine
        self._volumes = volumes
        self._env = env
        self._width = width
        self._counts = counts
        self._books: dict[tuple[str, bytes], Book] = {}

    async def put(self, seal: Seal, data: bytes) -> None:
        """Keep a seal; when this returns it is on the device. Declined if it isn't of here, or there is no room."""
        if seal.env != self._env:
            raise Declined("env", f"this buck keeps {self._env!r}, the seal is of {seal.env!r}")
        if seal.width != self._width:
            raise Declined("width", f"windows are {self._width} s here, the seal's {seal.width} s")
        while True:
            volume = self._choose(seal.tailer)
            book = await self._book(volume, seal.tailer)
            async with book.writing:
                try:
                    return await self._keep(book, seal, data)
                except OSError as error:
                    volume.trouble(error)

    async def batches(self, tailer: bytes, since: int) -> "Batches":
        """The seals of a tailer, or of all, from a number on."""
        books = []
        for volume in self._volumes:
            wanted = [tailer] if tailer else await self._machine.slow(_tailers, volume)
            books += [await self._book(volume, one) for one in wanted]
        return Batches(self._machine, books, since)

    def count(self) -> int:
        """How many tailers have seals here, as far as they were looked at."""
        return sum(book.last >= 0 for book in self._books.values())

    def _choose(self, tailer: bytes) -> Volume:
        now = self._machine.now()
        able = [volume for volume in self._volumes if volume.able and not volume.room.full(now)]
        if not able:
            raise Declined("full", "no disk takes a seal")
        return able[int.from_bytes(tailer[:4], "big") % len(able)]

    async def _book(self, volume: Volume, tailer: bytes) -> Book:
        book = self._books.get((volume.root, tailer))
        if book is None:
            book = Book(volume, tailer)
            try:
                await self._machine.slow(book.load)
            except OSError as error:
                volume.fail(error)
                return book
            book = self._books.setdefault((volume.root, tailer), book)
        return book

    async def _keep(self, book: Book, seal: Seal, data: bytes) -> None:
        known = await self._machine.slow(book.with_number, seal.number)
        if data in known:
            return
        if known:
            self._counts.forks.inc()
            log.error("ALARM: a tailer's seals fork; both are kept", tailer=seal.tailer.hex(), number=seal.number)
        await book.append(seal.number, data)
        self._counts.seals.inc()


class Batches:
    """An answer to `seals` under way."""

    def __init__(self, machine: Machine, books: list[Book], since: int) -> None:
        self._machine = machine
        self._left = _entries(books, since)

    async def next(self) -> tuple[bytes, ...]:
        """Some seals; empty at the end."""
        return await self._machine.slow(self._next)

    def _next(self) -> tuple[bytes, ...]:
        taken: list[bytes] = []
        size = 0
        for found in self._left:
            taken.append(found.value[1])
            size += found.size
            if size >= BATCH_BYTES:
                break
        return tuple(taken)


def _entries(books: list[Book], since: int) -> Iterator[Record[Entry]]:
    for book in books:
        yield from book.entries(since)


def _tailers(volume: Volume) -> list[bytes]:
    try:
        names = volume.machine.disk.listdir(join(volume.folder, "seals"))
    except FileNotFoundError:
        return []
    return sorted(tailer for tailer in map(parse_seals, names) if tailer is not None)


def _read(data: bytes) -> Entry:
    value = record.read_record(data)
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[0], int) and isinstance(value[1], bytes)):
        raise FormatError("a record that is no seal")
    return cast(Entry, tuple(value))


KIND = Kind(record.MAGIC, lambda prefix: record.record_size(prefix), _read)
