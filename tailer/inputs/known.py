"""All files followed: what a sweep found is matched with what was there before.

A file is told by inode and birth time, so a rename changes nothing; which stream it is, is another question
(naming.py).

A file that no sweep finds any more was renamed out of sight or deleted: it is read through its open descriptor, or
looked for by inode in its folder, until nothing has come for `rotate_wait`; then its unfinished last line is taken as
it is, and the descriptor is given back. Files that exist are never taken for gone because a sweep could not look
everywhere.
"""

import posixpath
from collections import Counter
from collections.abc import Callable, Iterator

from protocol.packet import Class
from service.log import get_log
from service.machine import Disk
from tailer.checkpoint import StreamState
from tailer.inputs.files import Found, Key, Sweep, key_of
from tailer.inputs.follow import Follow
from tailer.inputs.naming import Naming

# Each costs some 2.5 KiB in a checkpoint, and with a long path 4; a checkpoint is one record of the journal (64 MiB).
FILES_MAX = 16_000

log = get_log("tailer.files")


class Known:
    """All files followed."""

    def __init__(self, disk: Disk, naming: Naming, rotate_wait_s: float = 5.0) -> None:
        self.disk = disk
        self.naming = naming
        self.follows: dict[Key, Follow] = {}
        naming.is_followed = self.follows.__contains__
        self.by_name: dict[bytes, Follow] = {}
        self.counts: Counter[str] = naming.counts
        self.note_unread: Callable[[int, Class], None] = lambda size, kind: None  # of a file that went unread
        self._rotate_wait_s = rotate_wait_s
        self._swept = False
        self.left_out = 0  # files that fit the patterns, and are more than can be followed

    def states(self) -> tuple[StreamState, ...]:
        """All streams, for a checkpoint. A file that was found and not looked at yet is what it was before."""
        awaited, follows = self.naming.awaited, self.follows.items()
        live = [state for key, follow in follows if key not in awaited and (state := follow.state(closed=False))]
        return (*self.naming.states(), *live)

    @property
    def count(self) -> int:
        """How many streams `states` tells of."""
        return len(self.follows) + self.naming.count

    def follows_still(self, follow: Follow) -> bool:
        """Has it not been let go of? There may be another one of the same file by now."""
        return self.follows.get(follow.key) is follow

    def waiting(self) -> list[Follow]:
        """Files that could not be read just now."""
        return [follow for follow in self.follows.values() if follow.retry_at]

    def found_again(self) -> bool | None:
        """Were all files found that were followed before the restart? None: not known yet."""
        if not self._swept or self.naming.awaited:
            return None
        if not self.naming.missed:
            return True
        return None if any(follow.waits and follow.source is None for follow in self.follows.values()) else False

    # --- what a sweep found -----------------------------------------------------------------------------------------

    def apply(self, sweep: Sweep, now: float) -> list[Follow]:
        """Take in what a sweep found; the files that deserve a look now."""
        self.by_name = {}
        wanted = []
        left_out = 0
        for key, found in sweep.files.items():
            follow = self.follows.get(key)
            if follow is None and self._is_full and key not in self.naming.awaited:
                left_out += 1
                continue
            if follow is None:
                follow = self.follows[key] = Follow(self.disk, found)
                follow.is_first = not self._swept
                follow.grown_at = now
                wanted.append(follow)
                self.naming.changes += 1
            elif found.stat != follow.seen or follow.waits:
                wanted.append(follow)
            self._see(follow, found)
        self._tell_left_out(left_out)
        wanted.sort(key=lambda follow: follow.key not in self.naming.awaited)  # first the known: others may be copies
        if sweep.whole:
            wanted += self._look_for(sweep, now)
            self._swept = True
        return wanted

    @property
    def _is_full(self) -> bool:
        return len(self.follows) + len(self.naming.awaited) >= FILES_MAX

    def _tell_left_out(self, count: int) -> None:
        if count and not self.left_out:
            advice = "narrow the patterns, --exclude some, or give them to a second tailer with a journal of its own"
            log.error("more files than can be followed", most=FILES_MAX, left_out=count, what=advice)
        self.left_out = count

    def _see(self, follow: Follow, found: Found) -> None:
        if follow.where not in (found.path, *found.aliases):
            if follow.away_since is None and follow.source is not None:
                self.counts["renamed"] += 1
            follow.where = found.path
        if follow.ignored and found.stat.size < follow.seen.size:
            follow.ignored = ""  # it was written anew: look again
        follow.seen = found.stat
        follow.away_since = None
        follow.ending = False
        for name in (found.path, *found.aliases):
            self.by_name[name] = follow

    def _look_for(self, sweep: Sweep, now: float) -> list[Follow]:
        """What was followed, or known before the restart, and isn't among the files found."""
        wanted = []
        folders: dict[bytes, dict[Key, Found]] = {}
        for key, follow in list(self.follows.items()):
            if key not in sweep.files and self._is_away(follow, folders, now):
                wanted.append(follow)
        for key, state in list(self.naming.awaited.items()):
            if key not in sweep.files:
                found = self._search(state.path, key, folders)
                if found is None:
                    self.naming.miss(self.naming.awaited.pop(key))
                else:
                    follow = self.follows[key] = Follow(self.disk, found)
                    follow.away_since = now
                    wanted.append(follow)
        return wanted

    def _is_away(self, follow: Follow, folders: dict[bytes, dict[Key, Found]], now: float) -> bool:
        """A file out of sight: True while there may be something to read of it."""
        if follow.away_since is None:
            follow.away_since = now
            self.counts["away"] += 1
        if follow.file is None:
            found = self._search(follow.where, follow.key, folders)
            if found is None or follow.ignored:
                self.end(follow)
                return False
            follow.where, follow.seen = found.path, found.stat
        if now - max(follow.away_since, follow.grown_at) >= self._rotate_wait_s:
            follow.ending = True
        return True

    def _search(self, path: bytes, key: Key, folders: dict[bytes, dict[Key, Found]]) -> Found | None:
        """An inode under any name in its folder."""
        folder = posixpath.dirname(path)
        if folder not in folders:
            folders[folder] = dict(self._listed(folder))
        return folders[folder].get(key)

    def _listed(self, folder: bytes) -> Iterator[tuple[Key, Found]]:
        try:
            names = self.disk.listdir(folder)
        except OSError:
            return  # the folder went too
        for name in names:
            path = posixpath.join(folder, name)
            try:
                found = self.disk.stat(path)
            except OSError:
                continue  # gone since the listing
            yield key_of(found), Found(path, found)

    # --- ends -------------------------------------------------------------------------------------------------------

    def changed(self, follow: Follow) -> None:
        """The file was cut or written anew: its stream ends here, and a new one begins at its head."""
        self.counts["truncated"] += 1
        log.info("a file was truncated", path=follow.where, read_to=follow.read_to, size=follow.look().size)
        self.naming.leave(follow)
        follow.restart()

    def end(self, follow: Follow) -> None:
        """The file is gone and read: give its descriptor back. What could not be read any more is counted."""
        unread = max(follow.look().size - follow.read_to, 0)
        self.counts["gone"] += 1
        if unread and not follow.ignored:
            self.counts["lost_bytes"] += unread
            self.note_unread(unread, self.naming.kinds(follow.path))
            log.warning("a file went before it was read", path=follow.path, unread=unread)
        follow.park()
        self.naming.leave(follow)
        del self.follows[follow.key]
