"""One file, followed: what was appended is read once, and what is no longer the same file is noticed.

A `Follow` belongs to one inode. It reads at `read_to` and moves on as far as the kernel took whole lines; an unfinished
last line is simply read again, so nothing is carried in memory. Each read begins a little before `read_to` and
compares:

        start                 read_to
    |.....|..........[ tail 1 KiB ]~~~~~~~ new ~~~~~~~|
                     ^ one read, so nothing can come between looking and reading

If the tail is not what it was, or the file is shorter, the file was truncated or written anew: `ChangedError`, and the
caller begins another generation at 0. This sees what sizes can't show: a file emptied and filled again to the same
size, or beyond. On each open the head is compared as well. An append never changes either.

After a restart some of the bytes before and after `read_to` may be in packets already (`covered`); reading then goes
from hole to hole, and before each hole the kernel is led through what comes before it (`lead_in`), so that its
formats and its last time are those it would have had.

`head` is the first line, or its first KiB, and is known once that is complete: it is part of the stream's name, so
before it nothing is sent. A file that ends for good with a shorter, unfinished first line is named by what there is.
"""

from __future__ import annotations

from typing import NamedTuple

from protocol.kernel import Stream
from protocol.limits import HEAD_MAX
from protocol.ranges import Ranges
from service.machine import Disk, File, Stat
from tailer.blocks import Source
from tailer.checkpoint import StreamState
from tailer.inputs.files import Found, Key, key_of, stream_of

TAIL_MAX = 1024
# Bytes before a hole that the kernel is led through: thousands of lines, some milliseconds.
LEAD_IN_MAX = 1 << 20
# In the state of a file without a first line: that it is there and empty was said.
STATED = b"stated"
# Further than any file reaches.
FAR = 1 << 63


class ChangedError(Exception):
    """The file is not the one that was read: truncated, or written anew. Another generation begins."""


class ElsewhereError(Exception):
    """The name now belongs to another file: the one followed was renamed or deleted."""


class Chunk(NamedTuple):
    """What one read gave: room[begin:end] are the stream's bytes from `offset` on; `whole` if a hole ends there."""

    begin: int
    end: int
    offset: int
    whole: bool


class Follow:
    """One generation of one file. `path` is the name under which it was first read, `where` the one it has now."""

    def __init__(self, disk: Disk, found: Found) -> None:
        self.disk = disk
        self.key: Key = key_of(found.stat)
        self.device = found.stat.device
        self.path = self.where = found.path
        self.seen = found.stat  # what the last look at the file said
        self.first_size = found.stat.size  # when it was found
        self.file: File | None = None
        self.source: Source | None = None
        self.head = self.tail = b""
        self.start = self.read_to = 0
        self.generation = 0
        self.todo = Ranges()  # what is in no packet yet; the last of it has no end
        self.ignored = ""  # why this file is left alone, if it is
        self.away_since: float | None = None  # since when no name in the globs leads to it
        self.grown_at = 0.0  # when bytes were last seen to come
        self.grown_to = 0  # up to where
        self.unfinished = False  # the last line waits for its end
        self.suspected_until: float | None = None  # it may be a copy that is being made: wait
        self.suspected_size = 0
        self.retry_at = 0.0  # not to be opened before: the last try failed
        self.is_astray = False  # its name led elsewhere when it was to be read
        self.is_first = False  # it was there at the first sweep
        self.is_cut = False  # an earlier generation of it was followed
        self.ending = False  # out of sight and quiet: read what is left, then let it go
        self.stated_empty = False  # that it is there and empty was said

    def open(self) -> File:
        """The file, opened if need be. ElsewhereError, ChangedError, or an OSError that says why it can't be read."""
        if self.file is None:
            file = self.disk.open_read(self.where)
            try:
                self._check(file)
            except BaseException:
                file.close()
                raise
            self.file = file
        return self.file

    def _check(self, file: File) -> None:
        found = file.stat()
        if key_of(found) != self.key:
            raise ElsewhereError
        if self.head and file.pread(len(self.head), 0) != self.head:
            raise ChangedError

    def park(self) -> None:
        """Give the descriptor back; the next read opens the file again, by name."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def look(self) -> Stat:
        """What is known of the open file now, or what the last sweep saw of its name."""
        return self.file.stat() if self.file is not None else self.seen

    @property
    def waits(self) -> bool:
        """Does something hang on time, or on its name, and not on a change of the file?"""
        unnamed = self.source is None and not self.ignored and not self.stated_empty
        return self.unfinished or unnamed or self.retry_at > 0 or self.is_astray

    def restart(self) -> None:
        """Another generation of the same file begins, at 0."""
        self.source = None
        self.head = self.tail = b""
        self.start = self.read_to = self.grown_to = 0
        self.todo = Ranges()
        self.path = self.where
        self.unfinished = self.is_first = False
        self.is_cut = self.stated_empty = True  # an empty file that was full needs no word
        self.suspected_until = None

    def first_bytes(self) -> bytes:
        return self.open().pread(HEAD_MAX, 0)

    def last_bytes(self) -> bytes:
        return self.open().pread(HEAD_MAX, max(0, self.seen.size - HEAD_MAX))

    def begin(self, source: Source, head: bytes, generation: int, start: int, covered: Ranges) -> None:
        """The stream is known: read what isn't in packets of it, from `start` on."""
        self.source, self.head, self.generation = source, head, generation
        self.start = start
        self.todo = covered.holes(start, FAR)
        self._stand_at(start)

    def resume(self, source: Source, state: StreamState, covered: Ranges) -> bool:
        """Go on with a stream known before, if this file still (or, as a copy, too) has what was read of it."""
        file = self.open()
        tail_at = state.read_to - len(state.tail)
        if file.pread(len(state.head), 0) != state.head or file.pread(len(state.tail), tail_at) != state.tail:
            return False
        self.source, self.head, self.generation = source, state.head, state.generation
        self.path, self.start = state.path, state.start
        self.todo = covered.holes(state.start, FAR)
        self.tail, self.read_to = state.tail, state.read_to
        return True

    def first_difference(self, state: StreamState) -> int:
        """After a power cut the log's own last lines may be gone, and others written in their place. Where does the
        first line begin that differs? Only the tail can tell; 0, the whole file, if it differs from there on or before.
        """
        tail_at = state.read_to - len(state.tail)
        now = self.open().pread(len(state.tail), tail_at)
        same = next((at for at, (a, b) in enumerate(zip(now, state.tail, strict=False)) if a != b), len(now))
        line = state.tail.rfind(b"\n", 0, same) + 1
        return tail_at + line if line else 0

    def next_hole(self) -> tuple[int, int]:
        """The next bytes that are in no packet: from where, and to where."""
        return next(iter(self.todo))

    def lead_in(self, room: memoryview, begin: int) -> Chunk | None:
        """Step to `begin` over bytes that are in packets; what the kernel should see of what comes before it.

        If that doesn't go on where the kernel stands (`read_to`), the kernel begins anew: the chunk's offset tells."""
        back_to = max(self.start, begin - min(LEAD_IN_MAX, len(room)))
        if back_to < self.read_to <= begin:
            back_to = self.read_to
        size = self.open().pread_into(room[: begin - back_to], back_to)
        if size < begin - back_to:
            raise ChangedError
        first = back_to
        if back_to not in (self.start, self.read_to):  # somewhere in a line: begin after it
            first = back_to + _after_line_end(room[:size])
        self._stand_at(begin)
        return Chunk(first - back_to, size, first, True) if first < begin else None

    def _stand_at(self, offset: int) -> None:
        size = min(offset, TAIL_MAX)
        self.tail = self.open().pread(size, offset - size)
        if len(self.tail) != size:
            raise ChangedError
        self.read_to = offset

    def read(self, room: memoryview) -> Chunk:
        """Fill `room` from `read_to`, the tail before it included. ChangedError if that is not what it was."""
        overlap = len(self.tail)
        _, until = self.next_hole()
        most = min(len(room), overlap + until - self.read_to)
        size = self.open().pread_into(room[:most], self.read_to - overlap)
        if size < overlap or room[:overlap] != self.tail:
            raise ChangedError
        return Chunk(overlap, size, self.read_to, size - overlap == until - self.read_to)

    def took(self, room: memoryview, chunk: Chunk, used: int) -> None:
        """The kernel took room[:used]. What it left is an unfinished line."""
        self.read_to = chunk.offset + used - chunk.begin
        self.todo.discard(chunk.offset, self.read_to)
        self.tail = bytes(room[max(used - TAIL_MAX, 0) : used])
        self.unfinished = used < chunk.end

    def _unnamed_state(self, closed: bool) -> StreamState:
        """That the file is there: renamed before it had a line, it is found again by its inode."""
        inode, birth_ns, _ = self.key
        stream = stream_of(self.key, b"", 0)
        said = STATED if self.stated_empty else b""
        return StreamState(stream, self.path, inode, self.device, birth_ns, b"", b"", 0, b"", 0, closed, 0, said)

    def state(self, closed: bool) -> StreamState | None:
        """What a restart needs to know; None for a file that is left alone."""
        inode, birth_ns, _ = self.key
        if self.source is None:
            return None if self.ignored else self._unnamed_state(closed)
        return StreamState(
            self.source.id, self.path, inode, self.device, birth_ns, self.head, self.tail, self.read_to,
            self.source.kernel.state(), self.generation, closed, self.start,
        )  # fmt: skip


def first_line(data: bytes) -> bytes:
    """The head in a file's first bytes: its first line, or 1 KiB of it; empty while neither is there."""
    end = data.find(b"\n")
    if end >= 0:
        return data[: end + 1]
    return data if len(data) >= HEAD_MAX else b""


def kernel_stream(mtime_ns: int, state: bytes = b"") -> Stream:
    """A stream of the kernel; dates without a year lie near the file's last change."""
    return Stream(mtime_ns // 10, state)


def _after_line_end(room: memoryview) -> int:
    """The index after the first line end; the whole length if there is none."""
    found = bytes(room).find(b"\n")
    return found + 1 if found >= 0 else len(room)
