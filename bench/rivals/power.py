"""Disks that can lose their power: a small ext4 in an image for each node, cut off as a power cut does it.

FS_IOC_SHUTDOWN without a flush of the log: nothing that waits in the page cache, and nothing that the file system's own
log holds, gets to the device any more. Then the node is killed, and what the device has is mounted again. What a device
was given counts as kept: a device that lies about its own cache is not modelled. Root alone can do this.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2  # linux/fs.h, ext4/ext4.h
SIZE = 1 << 30
TRIES, TRY_S = 50, 0.1


@cache
def missing() -> str:
    """Why no disk can be cut off here; empty if one can."""
    if os.geteuid() != 0:
        return "only root can mount a file system and cut it off"
    if shutil.which("mkfs.ext4") is None:
        return "no mkfs.ext4: apt-get install e2fsprogs"
    with tempfile.TemporaryDirectory() as folder:
        disks = Disks(Path(folder), 16 << 20)
        try:
            disks.mount(0, Path(folder) / "place")
            disks.cut(0)
        except (OSError, subprocess.CalledProcessError) as error:
            return f"no small file system can be mounted and cut off here: {error}"
        finally:
            disks.close()
    return ""


class Disks:
    """A file system for each node, in an image below a folder."""

    def __init__(self, folder: Path, size: int = SIZE) -> None:
        self._folder, self._size = folder, size
        self._places: dict[int, Path] = {}

    def mount(self, i: int, place: Path) -> None:
        """A new, empty one. CalledProcessError, OSError."""
        image = self._image(i)
        image.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(parents=True)
        with image.open("wb") as file:
            file.truncate(self._size)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        self._mount(i, place)
        shutil.rmtree(place / "lost+found")

    def _mount(self, i: int, place: Path) -> None:
        subprocess.run(["mount", "-o", "loop", self._image(i), place], check=True)
        self._places[i] = place

    def cut(self, i: int) -> None:
        """From now on every write to it fails."""
        folder = os.open(self._places[i], os.O_RDONLY)
        try:
            fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(folder)

    def restore(self, i: int) -> None:
        """What the device has, mounted again; nobody may have files of it open. It is a copy: who still sees the old
        file system from another mount namespace doesn't keep it alive."""
        place, image = self._places[i], self._image(i)
        _umount(place)
        copy = image.with_suffix(".copy")
        subprocess.run(["cp", "--sparse=always", image, copy], check=True)
        copy.rename(image)
        self._mount(i, place)

    def sync(self) -> None:
        """Whatever was written so far is on the devices."""
        for place in self._places.values():
            subprocess.run(["sync", "-f", place], check=True)

    def close(self) -> None:
        """All are gone; what was on them is, too."""
        for place in self._places.values():
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)
        for i in self._places:
            self._image(i).unlink(missing_ok=True)
        self._places.clear()

    def _image(self, i: int) -> Path:
        return self._folder / f"disk{i}.img"


def _umount(place: Path) -> None:
    """A process that has just died may hold it a moment longer."""
    for _ in range(TRIES):
        done = subprocess.run(["umount", place], check=False, capture_output=True, text=True)
        if not done.returncode:
            return
        time.sleep(TRY_S)
    raise OSError(f"{place} can't be unmounted: {done.stderr.strip()}")


def sweep(folder: Path) -> None:
    """Unmount what a run that was killed has left below a folder."""
    root = str(folder.resolve())
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in places:
        if place.startswith(root + "/"):
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)
