"""What a simulated disk holds, and what of it is left after a power cut.

    inode   what is in the page cache; how many of its first bytes are on the device; what the device still has of
            the bytes that were cut off since
    folder  names as they are; the changes of names that no `fsync_folder` has made durable yet, in order

At `power_cut` each file keeps a random part of its unsynced tail (sometimes with zeros where data should be), and
each folder a random first part of its unsynced changes. Folders themselves are durable once made (so they are on ext4
and XFS after the next fsync of anything). A failed fsync marks the pages clean though they never reached the device:
reading shows them, a later fsync "succeeds", and a power cut turns them into zeros.

`before` is a hook for tests: called with each operation and path, it may raise what the scenario wants.
"""

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from service.disk import Path
from tests.simulation.trace import Trace
from tests.simulation.watch import SimWatch

CAPACITY = 1 << 40
FSYNC_S = (0.000_5, 0.01)


@dataclass(eq=False)
class Inode:
    number: int
    mode: int
    born_ns: int
    changed_ns: int
    data: bytearray = field(default_factory=bytearray)
    synced: int = 0  # Invariant: data[:synced] is on the device, unless `before` says what is there instead
    before: bytes | None = None
    holes: list[tuple[int, int]] = field(default_factory=list)  # pages a failed fsync gave up
    place: "tuple[Folder, bytes] | None" = None  # its folder and name; None: unlinked

    def fsync(self) -> None:
        self.synced, self.before = len(self.data), None

    def forget(self, rng: random.Random) -> None:
        """What the device has of this file after the power went."""
        if self.before is not None and rng.random() < 0.5:
            self.data = bytearray(self.before)
        else:
            kept = rng.choice((self.synced, len(self.data), rng.randint(self.synced, len(self.data))))
            del self.data[kept:]
            if kept > self.synced and rng.random() < 0.25:
                torn = rng.randint(self.synced, kept)
                self.data[torn:] = bytes(kept - torn)
        for start, end in self.holes:
            end = min(end, len(self.data))
            self.data[start:end] = bytes(max(0, end - start))
        self.holes = []
        self.fsync()


@dataclass(eq=False)
class Folder:
    number: int
    born_ns: int
    names: dict[bytes, "Inode | Folder"] = field(default_factory=dict)
    durable: dict[bytes, "Inode | Folder"] = field(default_factory=dict)
    pending: list[tuple[tuple[bytes, "Inode | Folder | None"], ...]] = field(default_factory=list)
    watches: list[tuple[int, SimWatch]] = field(default_factory=list)

    def change(self, *changes: tuple[bytes, "Inode | Folder | None"]) -> None:
        """One atomic change: each name gets its new meaning, None for none."""
        self.pending.append(changes)
        _apply(self.names, changes)

    def fsync(self) -> None:
        self.durable, self.pending = dict(self.names), []

    def forget(self, rng: random.Random) -> None:
        for changes in self.pending[: rng.randint(0, len(self.pending))]:
            _apply(self.durable, changes)
        self.names, self.pending, self.watches = dict(self.durable), [], []
        for name, node in self.names.items():
            node.forget(rng)
            if isinstance(node, Inode):
                node.place = (self, name)

    def tell(self, mask: int, name: bytes) -> None:
        for number, watch in self.watches:
            watch.put(number, mask, name)


def _apply(names: dict[bytes, "Inode | Folder"], changes: tuple[tuple[bytes, "Inode | Folder | None"], ...]) -> None:
    for name, node in changes:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Platter:
    """What the disk of one host holds; outlives its processes."""

    def __init__(self, rng: random.Random, time_ns: Callable[[], int], trace: Trace) -> None:
        self.rng = rng
        self.trace = trace
        self.time_ns = time_ns
        self.capacity = CAPACITY
        self.numbers = 1
        self.root = Folder(1, time_ns())
        self.before: Callable[[str, bytes], None] = lambda operation, path: None
        self.fsync_s = FSYNC_S
        self.fsync_failures = 0  # so many of the next fsyncs fail
        self.locks: dict[bytes, object] = {}
        self.used = 0  # bytes in files; those of unlinked ones are given back at once

    def power_cut(self) -> None:
        self.locks.clear()
        self.root.forget(self.rng)
        self.used = _size(self.root)

    def enter(self, operation: str, path: bytes) -> None:
        """Each operation of each process begins here."""
        self.trace.note(operation, path)
        self.before(operation, path)

    def corrupt(self, path: Path, offset: int, mask: int = 1) -> None:
        """Flip bits on the device and in the cache, as a bad disk does."""
        node = self.find(path)
        assert isinstance(node, Inode)
        node.data[offset] ^= mask

    def overwrite(self, path: Path, offset: int, data: bytes) -> None:
        """Put other bytes there behind everybody's back: a stale chunk, another file's block, zeros."""
        node = self.find(path)
        assert isinstance(node, Inode)
        assert offset + len(data) <= len(node.data)
        node.data[offset : offset + len(data)] = data

    def find(self, path: Path) -> Inode | Folder:
        node: Inode | Folder = self.root
        for name in parts(path):
            if not isinstance(node, Folder):
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", path)
            if name not in node.names:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
            node = node.names[name]
        return node

    def folder(self, path: Path) -> Folder:
        node = self.find(path)
        if not isinstance(node, Folder):
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory", path)
        return node

    def number(self) -> int:
        self.numbers += 1
        return self.numbers


def parts(path: Path) -> list[bytes]:
    """The names on the way; relative paths start at the root."""
    return [name for name in os.path.normpath(b"/" + os.fsencode(path)).split(b"/") if name]


def _size(folder: Folder) -> int:
    return sum(len(node.data) if isinstance(node, Inode) else _size(node) for node in folder.names.values())
