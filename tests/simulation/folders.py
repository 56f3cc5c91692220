"""A real folder beside a simulated disk: the archive's folder store works on real files, for pyarrow reads them.

`mirrored` lets the store put objects into a real folder while each of its file operations is done to a simulated disk
as well, so that what a crash leaves can be told; `materialised` writes such a disk into a real folder again.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from porter import objects
from porter.objects import FolderObjects
from tests.simulation.machine import SimMachine
from tests.simulation.platter import Folder, Inode

ROOT = "/archive"
PIECE = 1 << 11  # bytes that reach the page cache at a time


class Mirrored(FolderObjects):
    """A folder store whose operations are seen."""

    def put_bytes(self, name: str, data: bytes) -> None:
        with tempfile.NamedTemporaryFile() as source:
            source.write(data)
            source.flush()
            self.put(name, Path(source.name))


class _System:
    """`os`, as the folder store calls it: done for real, and to the simulated disk."""

    def __init__(self, machine: SimMachine, root: Path) -> None:
        self._disk, self._root = machine.disk, root

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fdopen(self, handle: int, mode: str) -> "_Out":
        return _Out(os.fdopen(handle, mode), self._disk.open_append(self.place(_path_of(handle))))

    def fsync(self, handle: int) -> None:
        path = _path_of(handle)
        os.fsync(handle)
        node = self._disk.platter.find(self.place(path))
        self._disk.enter("fsync_folder" if isinstance(node, Folder) else "fsync", self.place(path))
        node.fsync()

    def link(self, source: str, target: Path) -> None:
        os.link(source, target)
        self._disk.enter("rename", self.place(source))
        folder, name = self._disk.place(self.place(target))
        folder.change((name, self._disk.platter.find(self.place(source))))

    def unlink(self, path: str) -> None:
        os.unlink(path)
        self._disk.unlink(self.place(path))

    def place(self, path: str | Path) -> str:
        """The same on the simulated disk; folders are made as they come."""
        below = Path(path).relative_to(self._root)
        self._disk.mkdirs(f"{ROOT}/{below if Path(path).is_dir() else below.parent}")
        return f"{ROOT}/{below}"


class _Out:
    """A file that is written twice."""

    def __init__(self, real: BinaryIO, mirror: Any) -> None:
        self._real, self._mirror = real, mirror

    def __enter__(self) -> "_Out":
        return self

    def __exit__(self, *_: object) -> None:
        self._real.close()

    def write(self, data: bytes) -> None:
        self._real.write(data)
        for at in range(0, len(data), PIECE):
            self._mirror.write(data[at : at + PIECE])

    def flush(self) -> None:
        self._real.flush()

    def fileno(self) -> int:
        return self._real.fileno()


@contextmanager
def mirrored(machine: SimMachine) -> Iterator[Mirrored]:
    """A folder store over an empty folder, and over this machine's disk."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "os", _System(machine, Path(folder)))
        yield Mirrored(Path(folder))


@contextmanager
def materialised(machine: SimMachine) -> Iterator[FolderObjects]:
    """A folder store over what this machine's disk has."""
    with tempfile.TemporaryDirectory() as folder:
        if b"archive" in machine.disk.platter.root.names:
            _write(machine.disk.platter.folder(ROOT), Path(folder))
        yield FolderObjects(Path(folder))


def _write(folder: Folder, where: Path) -> None:
    for name, node in folder.names.items():
        place = where / name.decode()
        if isinstance(node, Inode):
            place.write_bytes(node.data)
        else:
            place.mkdir()
            _write(node, place)


def _path_of(handle: int) -> str:
    return os.readlink(f"/proc/self/fd/{handle}")
