"""A file system in memory, as one simulated process sees it: what `service.disk` promises, over a `Platter`.

A killed process can't touch anything any more (`Killed`), and loses its locks. A stopped one (SIGSTOP) waits where it
would wait for a device or the network: what its timers do between those goes on, which a real one's would do later.
"""

import errno
import os
import stat

import trio

from service.disk import FILE_MODE, FOLDER_MODE, AnyPath, Buffer, BusyError, File, Path, Space, folder_of
from service.statx import Stat
from service.watch import CREATE, DELETE, ISDIR, MODIFY, MOVED_FROM, MOVED_TO
from tests.simulation.platter import Folder, Inode, Platter, parts


class Killed(BaseException):
    """This process was killed while it did something: nothing may catch it but who runs the process."""


class SimFile:
    """An open file of one process."""

    def __init__(self, disk: "SimDisk", inode: Inode, path: Path, writable: bool) -> None:
        self.disk, self.inode, self.path, self.writable = disk, inode, path, writable
        self.closed = False

    def write(self, data: Buffer) -> None:
        self._check("write", self.writable)
        added = bytes(data)
        room = self.disk.platter.capacity - self.disk.platter.used
        self.inode.data += added[: max(0, room)]
        self._changed(min(len(added), max(0, room)))
        if len(added) > room:
            raise OSError(errno.ENOSPC, "No space left on device", self.path)

    def pread(self, size: int, offset: int) -> bytes:
        self._check("read", True)
        return bytes(memoryview(self.inode.data)[offset : offset + size])

    def pread_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        found = self.pread(len(buffer), offset)
        buffer[: len(found)] = found
        return len(found)

    def size(self) -> int:
        self._check("stat", True)
        return len(self.inode.data)

    def truncate(self, size: int) -> None:
        self._check("truncate", self.writable)
        old = len(self.inode.data)
        if size < self.inode.synced:
            if self.inode.before is None:
                self.inode.before = bytes(self.inode.data[: self.inode.synced])
            self.inode.synced = size
        self.inode.data[size:] = bytes(max(0, size - old))
        self._changed(size - old)

    def stat(self) -> Stat:
        self._check("stat", True)
        return stat_of(self.inode)

    def close(self) -> None:
        self.closed = True

    def _changed(self, added: int) -> None:
        platter = self.disk.platter
        self.inode.changed_ns = platter.time_ns()
        if self.inode.place is not None:
            platter.used += added
            folder, name = self.inode.place
            folder.tell(MODIFY, name)

    def _check(self, operation: str, allowed: bool) -> None:
        self.disk.enter(operation, self.path)
        if self.closed or not allowed:
            raise OSError(errno.EBADF, "Bad file descriptor", self.path)


class SimLock:
    def __init__(self, platter: Platter, path: bytes, owner: object) -> None:
        self.platter, self.path, self.owner = platter, path, owner

    def close(self) -> None:
        if self.platter.locks.get(self.path) is self.owner:
            del self.platter.locks[self.path]


class SimDisk:
    """One process's view of its host's disk."""

    def __init__(self, platter: Platter) -> None:
        self.platter = platter
        self.alive = True
        self.thaw: trio.Event | None = None  # set when a stopped process goes on

    async def thawed(self) -> None:
        """Wait while this process is stopped."""
        while self.thaw is not None:
            await self.thaw.wait()

    def kill(self) -> None:
        self.alive = False
        for path in [path for path, owner in self.platter.locks.items() if owner is self]:
            del self.platter.locks[path]

    def enter(self, operation: str, path: Path) -> None:
        """Each operation begins here."""
        if not self.alive:
            raise Killed
        self.platter.enter(operation, os.fsencode(path))

    def place(self, path: Path) -> tuple[Folder, bytes]:
        return self.platter.folder(folder_of(os.fsencode(path))), parts(path)[-1]

    def open_append(self, path: Path) -> File:
        self.enter("open", path)
        folder, name = self.place(path)
        if name not in folder.names:
            return self._make(folder, name, path, FILE_MODE)
        return self._open(path, writable=True)

    def open_new(self, path: Path, mode: int = FILE_MODE) -> File:
        self.enter("open", path)
        folder, name = self.place(path)
        if name in folder.names:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        return self._make(folder, name, path, mode)

    def open_read(self, path: Path) -> File:
        self.enter("open", path)
        return self._open(path, writable=False)

    def _make(self, folder: Folder, name: bytes, path: Path, mode: int) -> SimFile:
        now = self.platter.time_ns()
        inode = Inode(self.platter.number(), stat.S_IFREG | mode, now, now, place=(folder, name))
        folder.change((name, inode))
        folder.tell(CREATE, name)
        return SimFile(self, inode, path, writable=True)

    def _open(self, path: Path, writable: bool) -> SimFile:
        node = self.platter.find(path)
        if isinstance(node, Folder):
            code = errno.EISDIR if writable else errno.EINVAL
            raise OSError(code, "not a regular file", path)
        return SimFile(self, node, path, writable)

    async def fsync(self, file: File) -> None:
        assert isinstance(file, SimFile)
        self.enter("fsync", file.path)
        inode, size = file.inode, len(file.inode.data)
        await self._wait()
        if self.platter.fsync_failures:
            self.platter.fsync_failures -= 1
            inode.holes.append((inode.synced, size))
            inode.fsync()
            raise OSError(errno.EIO, "Input/output error", file.path)
        inode.fsync()

    async def fsync_folder(self, path: Path) -> None:
        self.enter("fsync_folder", path)
        folder = self.platter.folder(path)
        await self._wait()
        folder.fsync()

    async def _wait(self) -> None:
        await trio.sleep(self.platter.rng.uniform(*self.platter.fsync_s))
        await self.thawed()
        if not self.alive:
            raise Killed

    def rename(self, old: Path, new: Path) -> None:
        self.enter("rename", old)
        node = self.platter.find(old)
        (source, before), (target, after) = self.place(old), self.place(new)
        replaced = target.names.get(after)
        if isinstance(replaced, Folder) and replaced.names:
            raise OSError(errno.ENOTEMPTY, "Directory not empty", new)
        if isinstance(replaced, Inode) and replaced is not node:
            self._unlinked(replaced)
        if source is target:
            source.change((before, None), (after, node))
        else:
            target.change((after, node))
            source.change((before, None))
        if isinstance(node, Inode):
            node.place = (target, after)
        source.tell(MOVED_FROM, before)
        target.tell(MOVED_TO, after)

    def unlink(self, path: Path) -> None:
        self.enter("unlink", path)
        node = self.platter.find(path)
        if isinstance(node, Folder):
            raise IsADirectoryError(errno.EISDIR, "Is a directory", path)
        folder, name = self.place(path)
        folder.change((name, None))
        self._unlinked(node)
        folder.tell(DELETE, name)

    def _unlinked(self, inode: Inode) -> None:
        inode.place = None
        self.platter.used -= len(inode.data)

    def rmdir(self, path: Path) -> None:
        self.enter("rmdir", path)
        if self.platter.folder(path).names:
            raise OSError(errno.ENOTEMPTY, "Directory not empty", path)
        folder, name = self.place(path)
        folder.change((name, None))
        folder.tell(DELETE | ISDIR, name)

    def mkdirs(self, path: Path) -> None:
        self.enter("mkdirs", path)
        node: Inode | Folder = self.platter.root
        for name in parts(path):
            if not isinstance(node, Folder):
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", path)
            if name not in node.names:
                made = Folder(self.platter.number(), self.platter.time_ns())
                node.names[name] = node.durable[name] = made
                node.tell(CREATE | ISDIR, name)
            node = node.names[name]
        if not isinstance(node, Folder):
            raise FileExistsError(errno.EEXIST, "File exists", path)

    def listdir(self, path: AnyPath) -> list[AnyPath]:
        self.enter("listdir", path)
        names = list(self.platter.folder(path).names)
        self.platter.rng.shuffle(names)  # the order of a folder means nothing
        return [os.fsdecode(name) for name in names] if isinstance(path, str) else names

    def stat(self, path: Path, follow: bool = True) -> Stat:
        self.enter("stat", path)
        return stat_of(self.platter.find(path))

    def space(self, path: Path) -> Space:
        self.enter("space", path)
        self.platter.find(path)
        return Space(self.platter.capacity, max(0, self.platter.capacity - self.platter.used))

    def lock(self, path: Path) -> SimLock:
        self.enter("lock", path)
        self.open_append(path).close()
        key = b"/".join(parts(path))
        if key in self.platter.locks:
            raise BusyError(errno.EBUSY, "in use by another process (pid 1)", path)
        self.platter.locks[key] = self
        return SimLock(self.platter, key, self)

    def read_bytes(self, path: Path) -> bytes:
        file = self.open_read(path)
        return file.pread(file.size(), 0)

    async def replace(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        path = os.fsencode(path)
        temporary = path + b".new"
        if parts(temporary)[-1] in self.place(path)[0].names:
            self.unlink(temporary)
        file = self.open_new(temporary, mode)
        try:
            file.write(data)
            await self.fsync(file)
            self.rename(temporary, path)
        except OSError:
            self.unlink(temporary)
            raise
        await self.fsync_folder(folder_of(path))


def stat_of(node: Inode | Folder) -> Stat:
    if isinstance(node, Folder):
        return Stat(0, node.born_ns, node.number, 1, node.born_ns, stat.S_IFDIR | FOLDER_MODE, 2)
    return Stat(len(node.data), node.changed_ns, node.number, 1, node.born_ns, node.mode, int(node.place is not None))
