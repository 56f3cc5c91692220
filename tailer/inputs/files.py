"""Which files there are: globs walked over folders, once a sweep.

A glob is split at its slashes. A plain part is a name, a part with `*`, `?` or `[...]` is compared with the names in a
folder, and `**` stands for any number of folders, none included. Names are bytes throughout: Linux allows a newline, a
leading dash and what is no UTF-8 in them. `*` takes names with a leading dot too: a log is a log.

What is found is told by inode and birth time, not by name, so that a file with two names (hard links, a link and what
it points to, two globs) is one file; of several names the first that is no link is taken. Folders, pipes, sockets and
devices are passed over, and everything in /proc and /sys. A folder is entered once for each place in a glob, so that
links in a circle end.

A sweep that could not look everywhere (no descriptor left, an error of a disk, no permission) says so: `whole` is
false, and then a file that was not seen is not gone, only not seen.
"""

import errno
import fnmatch
import posixpath
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import trio

from protocol.identity import file_stream
from service.config import ConfigError
from service.machine import Disk, Stat

MAGIC = re.compile(rb"[*?\[]")
ANY_FOLDERS = b"**"
# Folders below one another: deeper than any path that Linux takes in one call.
DEPTH_MAX = 256
# Looks at files between two turns of other tasks: about a millisecond.
LOOKS_PER_TURN = 64
# Where nothing is a log although it looks like a file.
KERNEL_FOLDERS = (b"/proc", b"/sys")
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)

Part = bytes | re.Pattern[bytes]
Key = tuple[int, int, int]


def key_of(found: Stat) -> Key:
    """What names a file for as long as it lives: a device's number may change when it is mounted again, so it counts
    only where the file system doesn't know births."""
    return found.inode, found.birth_ns, 0 if found.birth_ns else found.device


def stream_of(key: Key, head: bytes, generation: int) -> bytes:
    """The id of one generation of a file: where births aren't known, the device tells equal inodes apart."""
    inode, birth_ns, device = key
    return file_stream(inode, birth_ns or device, head, generation)


@dataclass(frozen=True, slots=True)
class Glob:
    """One pattern, absolute, in parts."""

    text: bytes
    parts: tuple[Part, ...]

    @classmethod
    def parse(cls, text: str | bytes, folder: bytes = b"/") -> "Glob":
        """A relative pattern is meant in `folder`. ConfigError for what can be no pattern."""
        raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        if not raw or b"\0" in raw:
            raise ConfigError(f"{raw!r} is no file pattern; write one such as '/var/log/**/*.log'")
        whole = posixpath.normpath(posixpath.join(folder, raw))
        return cls(whole, tuple(_part(name) for name in whole.lstrip(b"/").split(b"/") if name))

    def beginning(self) -> tuple[bytes, int]:
        """The folder that all its files are in, and the part to go on with."""
        plain = 0
        while plain < len(self.parts) - 1 and isinstance(self.parts[plain], bytes) and self.parts[plain] != ANY_FOLDERS:
            plain += 1
        return posixpath.join(b"/", *self.text.lstrip(b"/").split(b"/")[:plain]), plain

    def fits(self, path: bytes) -> bool:
        """Does this pattern take the path, or one of the folders above it? (For exclusion.)

        All ways to read it are followed side by side, so that time is that of the path's parts by the pattern's."""
        at = self._with_next({0})
        for name in path.lstrip(b"/").split(b"/"):
            at = self._with_next({to for place in at if (to := self._step(place, name)) is not None})
            if len(self.parts) in at:
                return True
        return False

    def _with_next(self, places: set[int]) -> set[int]:
        """Any number of folders may be none: who stands before that stands behind it too."""
        for place in range(len(self.parts)):
            if place in places and self.parts[place] == ANY_FOLDERS:
                places.add(place + 1)
        return places

    def _step(self, place: int, name: bytes) -> int | None:
        """Where in the pattern this name leads to from a place."""
        if place == len(self.parts):
            return None
        part = self.parts[place]
        if part == ANY_FOLDERS:
            return place
        same = part == name if isinstance(part, bytes) else part.match(name) is not None
        return place + 1 if same else None


def _part(name: bytes) -> Part:
    if name == ANY_FOLDERS or not MAGIC.search(name):
        return name
    return re.compile(fnmatch.translate(name.decode("latin-1")).encode("latin-1"))


@dataclass(slots=True)
class Found:
    """A file, the name it goes by, and the other names it was seen under."""

    path: bytes
    stat: Stat
    aliases: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Sweep:
    """What one walk has found. `folders` are those whose changes matter; `failures` what could not be looked at;
    `barren` the patterns that no file fits."""

    files: dict[Key, Found] = field(default_factory=dict)
    folders: set[bytes] = field(default_factory=set)
    failures: dict[bytes, OSError] = field(default_factory=dict)
    barren: list[bytes] = field(default_factory=list)
    whole: bool = True


class Scanner:
    """Walks globs over a disk."""

    def __init__(self, disk: Disk, globs: Iterable[Glob], excluded: Iterable[Glob] = ()) -> None:
        self._disk = disk
        self._globs = list(globs)
        self._excluded = list(excluded)
        self._kernel_devices = {found.device for path in KERNEL_FOLDERS if (found := self._quiet_stat(path))}

    async def sweep(self) -> Sweep:
        """Look everywhere once. Other tasks get their turns in between."""
        walk = _Walk(self._disk, self._is_excluded, self._kernel_devices)
        for glob in self._globs:
            before = walk.hits
            await walk.follow(glob)
            if walk.hits == before:
                walk.sweep.barren.append(glob.text)
        return walk.sweep

    def _is_excluded(self, path: bytes) -> bool:
        return any(glob.fits(path) for glob in self._excluded)

    def _quiet_stat(self, path: bytes) -> Stat | None:
        try:
            return self._disk.stat(path)
        except OSError:
            return None  # a host without /proc has nothing to pass over there


class _Walk:
    """One sweep under way. Names and looks are kept for its length, so that several globs cost one look."""

    def __init__(self, disk: Disk, is_excluded: Callable[[bytes], bool], kernel_devices: set[int]) -> None:
        self.sweep = Sweep()
        self.hits = 0
        self._disk = disk
        self._is_excluded = is_excluded
        self._kernel_devices = kernel_devices
        self._names: dict[bytes, list[bytes]] = {}
        self._looks: dict[bytes, Stat | None] = {}
        self._entered: set[tuple[int, int, int]] = set()

    async def follow(self, glob: Glob) -> None:
        parts = glob.parts
        self._entered.clear()
        waiting = [(*glob.beginning(), 0)]
        while waiting:
            folder, index, depth = waiting.pop()
            if not self._enter(folder, index) or depth > DEPTH_MAX:
                continue
            part, last = parts[index], index == len(parts) - 1
            if part == ANY_FOLDERS and not last:
                waiting.append((folder, index + 1, depth))
            for count, name in enumerate(self._candidates(folder, part)):
                if count % LOOKS_PER_TURN == LOOKS_PER_TURN - 1:
                    await trio.lowlevel.checkpoint()
                path = posixpath.join(folder, name)
                found = self._look(path)
                if found is None or self._is_excluded(path):
                    continue
                if stat.S_ISDIR(found.mode):
                    if part == ANY_FOLDERS:
                        waiting.append((path, index, depth + 1))
                    elif not last:
                        waiting.append((path, index + 1, depth + 1))
                elif last and stat.S_ISREG(found.mode):
                    self.hits += 1
                    self._keep(path, found)
            await trio.lowlevel.checkpoint()

    def _enter(self, folder: bytes, index: int) -> bool:
        found = self._look(folder)
        if found is None or not stat.S_ISDIR(found.mode):
            return False
        place = (found.device, found.inode, index)
        if place in self._entered:
            return False
        self._entered.add(place)
        return True

    def _candidates(self, folder: bytes, part: Part) -> list[bytes]:
        """The names in a folder that a part may mean."""
        if isinstance(part, bytes) and part != ANY_FOLDERS:
            self.sweep.folders.add(folder)
            return [part]
        names = self._list(folder)
        return names if isinstance(part, bytes) else [name for name in names if part.match(name)]

    def _list(self, folder: bytes) -> list[bytes]:
        names = self._names.get(folder)
        if names is None:
            try:
                names = sorted(self._disk.listdir(folder))
                self.sweep.folders.add(folder)
            except OSError as error:
                names = []
                self._failed(folder, error)
            self._names[folder] = names
        return names

    def _look(self, path: bytes) -> Stat | None:
        if path not in self._looks:
            try:
                found: Stat | None = self._disk.stat(path)
            except OSError as error:
                found = None
                self._failed(path, error)
            if found is not None and found.device in self._kernel_devices:
                found = None
            self._looks[path] = found
        return self._looks[path]

    def _failed(self, path: bytes, error: OSError) -> None:
        if error.errno not in ABSENT:
            self.sweep.whole = False
            self.sweep.failures[path] = error

    def _keep(self, path: bytes, found: Stat) -> None:
        known = self.sweep.files.setdefault(key_of(found), Found(path, found))
        if known.path == path or path in known.aliases:
            return
        if self._is_link(known.path) and not self._is_link(path):
            path, known.path = known.path, path
        known.aliases.append(path)

    def _is_link(self, path: bytes) -> bool:
        try:
            return stat.S_ISLNK(self._disk.stat(path, follow=False).mode)
        except OSError:
            return True  # gone meanwhile: any other name is better
