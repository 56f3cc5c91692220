"""Learn of changes in folders the moment they happen: inotify through ctypes, awaited in trio.

Folders are watched, not files: one watch a folder (a host has some 190,000, but only 128 instances, so a process
makes one). An event is a hint and never a promise: network and overlay file systems give none, and a queue that
overflows loses some. So the caller sweeps as well, and on `OVERFLOW` at once.
"""

import contextlib
import ctypes
import errno
import os
import struct
from typing import NamedTuple, Protocol

import trio

MODIFY = 0x2
ATTRIB = 0x4
CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
OVERFLOW = 0x4000
IGNORED = 0x8000
ISDIR = 0x40000000
ONLYDIR = 0x01000000

CHANGES = MODIFY | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF | ONLYDIR
# One read takes about a thousand events: a burst is drained in one go, and a flood can't keep the caller from its work.
READ_SIZE = 64 << 10

_HEAD = struct.Struct("=iIII")  # watch, mask, cookie, length of the name that follows
_libc = ctypes.CDLL(None, use_errno=True)


class Event(NamedTuple):
    """`name` in the folder watched as `watch` changed; after OVERFLOW (watch -1) anything may have."""

    watch: int
    mask: int
    name: bytes


class Watch(Protocol):
    """A set of watched folders."""

    def add(self, path: str | bytes) -> int:
        """Watch a folder; the same folder gives the same number. OSError: absent, no folder, no watch left."""

    def remove(self, watch: int) -> None:
        """Stop watching; unknown numbers are fine, the folder may have gone first."""

    async def events(self) -> list[Event]:
        """Wait for the next changes; at least one."""

    def close(self) -> None: ...


class Inotify:
    """The kernel's watch. OSError where there is none, or no instance is left."""

    def __init__(self) -> None:
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def add(self, path: str | bytes) -> int:
        return _checked(_libc.inotify_add_watch(self._fd, os.fsencode(path), CHANGES))

    def remove(self, watch: int) -> None:
        _libc.inotify_rm_watch(self._fd, watch)

    async def events(self) -> list[Event]:
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            try:
                return decode(os.read(self._fd, READ_SIZE))
            except BlockingIOError:
                continue

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(RuntimeError):  # no loop runs any more: nobody waits
                trio.lowlevel.notify_closing(fd)
            os.close(fd)


def decode(data: bytes) -> list[Event]:
    """The kernel's records, one after the other: a fixed head, then the name, padded with zeros."""
    found = []
    at = 0
    while at < len(data):
        watch, mask, _, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        found.append(Event(watch, mask, data[at : at + length].rstrip(b"\0")))
        at += length
    return found


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno() or errno.EINVAL
        raise OSError(code, os.strerror(code))
    return result
