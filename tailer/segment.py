"""One file of the journal: records one after another, appended by one writer, read back by scanning.

A record is a packet (magic BUK1) or a control record (BUKR); both begin with their length and end with a digest, so a
file needs no index and no length of its own. Scanning believes nothing:

    record | record | ██ bad ██ | record | ░░ torn ░░
                      Damage               Damage(torn): nothing valid follows, so this is what a crash left

After a bad record the next place where a magic stands *and* a whole record is valid is looked for; lengths are checked
against limits before anything is read. What can't be read at all (EIO) is damage too, but never called torn: it isn't
cut.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from protocol import packet, record
from protocol.errors import FormatError
from service.faults import faultpoint
from service.machine import Disk, File

SEGMENT_SIZE = 64 << 20
SUFFIX = ".segment"
SEARCH_STEP = 1 << 20
PREFIX_SIZE = 12  # the longer of both kinds of prefix
MAGICS = re.compile(b"|".join(re.escape(magic) for magic in (packet.MAGIC, record.MAGIC)))
MAGIC_SIZE = 4


class Found(NamedTuple):
    """A valid record: a packet's header, or a control record's value."""

    offset: int
    size: int
    header: packet.Header | None
    value: object


class Damage(NamedTuple):
    """Bytes that are no record."""

    offset: int
    end: int
    torn: bool


def segment_name(index: int) -> str:
    return f"{index:010d}{SUFFIX}"


def segment_index(name: str) -> int | None:
    """The index in a file's name; None if it isn't exactly a segment's name."""
    index = name.removesuffix(SUFFIX)
    return int(index) if name.isascii() and index.isdigit() and segment_name(int(index)) == name else None


class Segment:
    """One segment; `file` is open while it is written, closed for older ones."""

    def __init__(self, disk: Disk, path: str, index: int, size: int, file: File | None = None) -> None:
        self.disk = disk
        self.path = path
        self.index = index
        self.size = size
        self.head_size = 0  # of its checkpoint
        self.file = file
        self.broken = False  # nothing may be appended: what is at its end isn't known, or its fsync failed

    @classmethod
    def create(cls, disk: Disk, folder: str, index: int) -> "Segment":
        path = f"{folder}/{segment_name(index)}"
        return cls(disk, path, index, 0, disk.open_new(path))

    @classmethod
    def existing(cls, disk: Disk, folder: str, index: int) -> "Segment":
        path = f"{folder}/{segment_name(index)}"
        return cls(disk, path, index, disk.stat(path).size)

    def append(self, data: bytes) -> int:
        """Write a whole record; where it lies. On an OSError nothing of it stays, or the segment is broken."""
        assert self.file is not None
        assert not self.broken
        faultpoint("tailer.segment.before_write")
        try:
            self.file.write(data)
        except OSError:
            self._undo()
            raise
        self.size += len(data)
        faultpoint("tailer.segment.written")
        return self.size - len(data)

    def _undo(self) -> None:
        assert self.file is not None
        try:
            self.file.truncate(self.size)
        except OSError:
            self.broken = True  # what stands at its end isn't known: the next record begins another segment

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of a record, as they are: the caller verifies them."""
        if self.file is not None:
            return self.file.pread(size, offset)
        file = self.disk.open_read(self.path)
        try:
            return file.pread(size, offset)
        finally:
            file.close()

    def close(self) -> None:
        file, self.file = self.file, None
        if file is not None:
            with contextlib.suppress(OSError):  # what mattered was synced, or is still remembered as unsynced
                file.close()


def scan(file: File, end: int) -> Iterator[Found | Damage]:
    """All records of a segment of `end` bytes, and what lies between them."""
    at = 0
    while at < end:
        found, _ = _record_at(file, at, end)
        if found is not None:
            yield found
            at += found.size
            continue
        after, readable = _next_valid(file, at, end)
        yield Damage(at, end if after is None else after, torn=after is None and readable)
        at = end if after is None else after


def _record_at(file: File, at: int, end: int) -> tuple[Found | None, bool]:
    """The valid record that starts here, if there is one; and whether the disk could be read."""
    try:
        prefix = file.pread(PREFIX_SIZE, at)
        is_packet = prefix[:MAGIC_SIZE] == packet.MAGIC
        size = packet.peek(prefix) if is_packet else record.record_size(prefix)
        if at + size > end:
            return None, True
        data = file.pread(size, at)
        if is_packet:
            return Found(at, size, packet.read(data).header, None), True
        return Found(at, size, None, record.read_record(data)), True
    except FormatError:
        return None, True
    except OSError:
        return None, False


def _next_valid(file: File, at: int, end: int) -> tuple[int | None, bool]:
    """Where the next valid record starts after `at`, and whether all bytes up to there could be read."""
    at, readable = at + 1, _record_at(file, at, end)[1]
    while at < end:
        try:
            chunk = file.pread(SEARCH_STEP + MAGIC_SIZE - 1, at)
        except OSError:
            chunk, readable = b"", False
        for match in MAGICS.finditer(chunk):
            found, could = _record_at(file, at + match.start(), end)
            readable &= could
            if found is not None:
                return found.offset, readable
        at += SEARCH_STEP
    return None, readable
