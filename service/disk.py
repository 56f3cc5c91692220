"""Files, as the product sees them: the `Disk` protocol, and the real one.

Everything is synchronous and short, because a write into the page cache costs less than a thread switch; only what
waits for the device is async (`fsync`, `fsync_folder`, `replace`) and runs in a thread here. The simulator implements
the same protocols over a page cache of its own that a crash forgets; both are held to one contract suite.

Errors are OSErrors, as the system names them. After an OSError from `write` any prefix of the data may be in the
file: the writer truncates to what it knows. After an OSError from `fsync` nothing written since the last good one may
be believed, and a second try that succeeds proves nothing: the file is given up.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import trio

from service.statx import Stat, stat_fd, stat_path

Path = str | bytes
Buffer = bytes | bytearray | memoryview
AnyPath = TypeVar("AnyPath", str, bytes)
T = TypeVar("T")

FILE_MODE = 0o640
FOLDER_MODE = 0o750
# How many waits for a device may be under way at once: a handful of disks, and never all threads of the process.
DEVICE_WAITS_MAX = 16


class BusyError(OSError):
    """Another process holds this folder or file. Raised by `Disk.lock`."""


class Space(NamedTuple):
    """Bytes of the file system that holds a path; `free` is what this user may still write."""

    total: int
    free: int


class File(Protocol):
    """One open file. Not safe to share between tasks that write."""

    def write(self, data: Buffer) -> None:
        """Append all of `data` at the end of the file."""

    def pread(self, size: int, offset: int) -> bytes:
        """At most `size` bytes at `offset`: fewer only at the end of the file."""

    def pread_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        """Fill `buffer` from `offset`; how many bytes came."""

    def size(self) -> int:
        """Bytes in the file now."""

    def truncate(self, size: int) -> None:
        """Cut (or lengthen with zeros) to `size` bytes."""

    def stat(self) -> Stat:
        """Look at the open file, whatever its name is by now."""

    def close(self) -> None:
        """Give the descriptor back; a second close does nothing."""


class Lock(Protocol):
    """A held lock; it ends with `close`, or with the process."""

    def close(self) -> None:
        """Let it go; a second close does nothing."""


class Disk(Protocol):
    """A file system. What is not fsynced may be gone after a power cut, names included."""

    def open_append(self, path: Path) -> File:
        """Open for reading and for writing at the end; made (0640) if absent."""

    def open_new(self, path: Path, mode: int = FILE_MODE) -> File:
        """Make a file that must not exist yet (FileExistsError), open as by `open_append`."""

    def open_read(self, path: Path) -> File:
        """Open a regular file to read, links followed. Never waits: pipe, device or folder is OSError(EINVAL)."""

    async def fsync(self, file: File) -> None:
        """What was written to `file` so far is on the device when this returns. A cancel is heeded after it."""

    async def fsync_folder(self, path: Path) -> None:
        """The names in this folder are on the device: files made, renamed, removed."""

    def rename(self, old: Path, new: Path) -> None:
        """Atomic; replaces a file called `new`."""

    def unlink(self, path: Path) -> None: ...

    def rmdir(self, path: Path) -> None: ...

    def mkdirs(self, path: Path) -> None:
        """Make the folder (0750) and its parents; an existing one is fine."""

    def listdir(self, path: AnyPath) -> list[AnyPath]:
        """The names in a folder, in no order, in the type of `path` (bytes for names of any bytes)."""

    def stat(self, path: Path, follow: bool = True) -> Stat: ...

    def space(self, path: Path) -> Space: ...

    def lock(self, path: Path) -> Lock:
        """Hold the file `path` (made if absent) against other processes, or raise BusyError."""

    def read_bytes(self, path: Path) -> bytes:
        """A whole small file."""

    async def replace(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        """Put `data` at `path`, atomically and durably: a temporary file beside it, fsync, rename, fsync."""


class RealFile:
    """A File over a descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def write(self, data: Buffer) -> None:
        written = os.write(self.fd, data)
        if written != len(data):  # a signal, or a disk just full: the next write says which
            rest = memoryview(data).cast("B")[written:]
            while rest:
                rest = rest[os.write(self.fd, rest) :]

    def pread(self, size: int, offset: int) -> bytes:
        return os.pread(self.fd, size, offset)

    def pread_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        return os.preadv(self.fd, [buffer], offset)

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)

    def stat(self) -> Stat:
        return stat_fd(self.fd)

    def close(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)


class RealDisk:
    """The file systems of this host."""

    def __init__(self) -> None:
        self._waits = trio.CapacityLimiter(DEVICE_WAITS_MAX)

    def open_append(self, path: Path) -> RealFile:
        return RealFile(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))

    def open_new(self, path: Path, mode: int = FILE_MODE) -> RealFile:
        return RealFile(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))

    def open_read(self, path: Path) -> RealFile:
        _require_regular(os.stat(path).st_mode, path)  # opening some devices does something: look first
        file = RealFile(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
        try:
            _require_regular(os.fstat(file.fd).st_mode, path)
        except OSError:
            file.close()
            raise
        return file

    async def fsync(self, file: File) -> None:
        assert isinstance(file, RealFile)
        await self._wait(os.fdatasync, file.fd)

    async def fsync_folder(self, path: Path) -> None:
        await self._wait(_fsync_folder, path)

    def rename(self, old: Path, new: Path) -> None:
        os.rename(old, new)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def rmdir(self, path: Path) -> None:
        os.rmdir(path)

    def mkdirs(self, path: Path) -> None:
        os.makedirs(path, FOLDER_MODE, exist_ok=True)

    def listdir(self, path: AnyPath) -> list[AnyPath]:
        return os.listdir(path)

    def stat(self, path: Path, follow: bool = True) -> Stat:
        return stat_path(path, follow)

    def space(self, path: Path) -> Space:
        found = os.statvfs(path)
        return Space(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    def lock(self, path: Path) -> RealFile:
        file = RealFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        try:
            fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.pread(32, 0).decode("ascii", "replace").strip() or "unknown"
            file.close()
            raise BusyError(errno.EBUSY, f"in use by another process (pid {holder})", path) from None
        file.truncate(0)
        file.write(b"%d\n" % os.getpid())
        return file

    def read_bytes(self, path: Path) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    async def replace(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        await self._wait(_replace, path, data, mode)

    async def _wait(self, call: Callable[..., T], *args: object) -> T:
        """The one line where a wait for a device crosses into a thread."""
        return await trio.to_thread.run_sync(call, *args, limiter=self._waits)


def folder_of(path: AnyPath) -> AnyPath:
    """The folder that holds `path`; "." for a bare name."""
    if isinstance(path, bytes):
        return os.path.dirname(path) or b"."
    return os.path.dirname(path) or "."


def temporary_of(path: bytes) -> bytes:
    """Where `replace` writes first. The name is fixed, so that a crash leaves at most one behind."""
    return path + b".new"


def _require_regular(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", path)


def _fsync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _replace(path: Path, data: bytes, mode: int) -> None:
    path = os.fsencode(path)
    temporary = temporary_of(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    file = RealDisk().open_new(temporary, mode)
    try:
        file.write(data)
        os.fsync(file.fd)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        file.close()
    _fsync_folder(folder_of(path))
