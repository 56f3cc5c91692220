"""Find the records of a file that may be damaged. Synchronous.

Records lie one after another, each with a magic, a length and a sum. Where one doesn't verify (a flipped bit, a torn
tail, a page of zeros), the scan looks for the next magic at which a record does, so that one bad record costs only
itself: a length that lies is not believed, and garbage that happens to hold a magic is just passed over. What lies
behind the last good record is the torn tail; the caller decides whether it is cut.
"""

from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from protocol.errors import FormatError
from service.machine import File

Value = TypeVar("Value")

# Enough for any record's length; and how much is read at a time while looking for a magic.
PREFIX_SIZE = 12
WINDOW = 1 << 20


class Record(NamedTuple, Generic[Value]):
    """A record that verified."""

    offset: int
    size: int
    value: Value


class Kind(NamedTuple, Generic[Value]):
    """How records of a kind are recognised. Both functions raise FormatError."""

    magic: bytes
    peek: Callable[[bytes], int]  # the first PREFIX_SIZE bytes -> size of the whole record
    read: Callable[[bytes], Value]  # the whole record, verified


def scan(file: File, kind: Kind[Value], size: int, start: int = 0) -> Iterator[Record[Value]]:
    """The good records of the first `size` bytes, in order."""
    offset = start
    while offset < size:
        record = _record_at(file, kind, size, offset)
        if record is None:
            offset = _next_magic(file, kind.magic, size, offset + 1)
        else:
            yield record
            offset += record.size


def _record_at(file: File, kind: Kind[Value], size: int, offset: int) -> Record[Value] | None:
    try:
        length = kind.peek(file.pread(min(PREFIX_SIZE, size - offset), offset))
        if offset + length > size:
            return None
        return Record(offset, length, kind.read(file.pread(length, offset)))
    except FormatError:
        return None


def _next_magic(file: File, magic: bytes, size: int, offset: int) -> int:
    """Where the magic stands next; `size` if nowhere."""
    while offset < size:
        window = file.pread(min(WINDOW, size - offset), offset)
        found = window.find(magic)
        if found >= 0:
            return offset + found
        if len(window) < len(magic) or offset + len(window) >= size:
            return size
        offset += len(window) - (len(magic) - 1)  # a magic may lie across two windows
    return size
