"""The rounds in which files are read: each in its turn, some megabytes at a time, into blocks.

    sweep, inotify --> dirty files --> turn: read, columns --> drafts --> `ship` (the journal; waits when it is full)

One task reads; there is one buffer. A file gets a few blocks a turn, so that a large one doesn't hold up the others; a
round ends when every dirty file had its turn, and the next begins a tenth of a second later, or at once while there is
more to read. Memory is bounded by the buffer and the open builders: when `ship` waits, nothing is read.

Descriptors are bounded too: beyond the budget the file read least recently is closed and opened again by name when it
grows. Where the system has none left, the budget shrinks to half of what we have. A file that can't be read is
counted, said once, and tried again; the others go on.
"""

import errno
from collections.abc import Awaitable, Callable, Iterable

from protocol.kernel import Stream
from protocol.limits import POINT_HZ
from service.log import get_log
from service.machine import Machine
from tailer.blocks import Blocks, Draft
from tailer.inputs.follow import ChangedError, Chunk, ElsewhereError, Follow, kernel_stream
from tailer.inputs.known import Known

# One read. Larger ones leave the processor's cache before the kernel and the hasher are through with them.
BLOCK = 1 << 20
TURN_BLOCKS = 16
# So many packets are handed on together: journal, sender and bucks find their code in the processor's cache then.
SHIP_DRAFTS = 8
# An unfinished last line is waited for so long after the file last grew.
UNFINISHED_S = 5.0
# After an error a file is left alone for so long.
RETRY_S = 5.0
# An empty file is stated after it was empty for so long: most are filled at once.
EMPTY_S = 5.0
OPEN_FILES_MIN = 1
# Errors of files that were said, and are not said again; where they are more, those said first may be.
TOLD_MAX = 1024
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
NS_PER_POINT = 1_000_000_000 // POINT_HZ

log = get_log("tailer.files")


class Reader:
    """Reads the files of a `Known` into a `Blocks`."""

    def __init__(
        self,
        machine: Machine,
        known: Known,
        blocks: Blocks,
        ship: Callable[[list[Draft]], Awaitable[None]],
        *,
        open_files: int = 512,
        block: int = BLOCK,
    ) -> None:
        self.machine = machine
        self.known = known
        self.blocks = blocks
        self.open_files = open_files
        self.dirty: dict[Follow, None] = {}
        self.bytes_read = 0
        self.want_sweep: Callable[[], None] = lambda: None
        self._ship = ship
        self._room = memoryview(bytearray(block))
        self._opened: dict[Follow, None] = {}  # those with a descriptor, the one read least recently first
        self._told: dict[tuple[bytes, int], None] = {}
        # What was in the files at this time has been read. Sweeps alone say so: silence of inotify may mean that its
        # events were not fetched yet, by a process that is busy, or was stopped until just now.
        self.clean_at = float("-inf")
        self._looked_at = float("-inf")  # when the last sweep began whose files are marked
        self._astray_at = float("-inf")  # when a file was last not to be found by its name

    def mark(self, follows: Iterable[Follow], looked_at: float | None = None) -> None:
        """These deserve a turn in the next round. Of a sweep, that began at `looked_at`, they are all that changed."""
        if looked_at is not None:
            self._looked_at = looked_at
        for follow in follows:
            self.dirty[follow] = None

    async def round(self, final: bool = False) -> None:
        """Give each dirty file its turn. `final`: this is the last one, take unfinished lines too."""
        turns, self.dirty = self.dirty, {}
        looked_at, more = self._looked_at, False
        for follow in turns:
            if await self._turn(follow, final):
                self.dirty[follow] = None
                more = True
        await self._ship(self.blocks.due(self.machine.now()))
        if not more and looked_at > self._astray_at:
            self.clean_at = looked_at

    async def finish(self, follows: Iterable[Follow], looked_at: float | None = None) -> None:
        """Read these to their ends, unfinished lines too, and close all builders."""
        self.mark(follows, looked_at)
        while self.dirty:
            await self.round(final=True)
        await self._ship(self.blocks.flush())

    async def stop(self) -> None:
        """Take the unfinished lines that are there as fragments, and close all builders. What isn't named yet stays
        unnamed: its file is there at the next start."""
        for follow in self.known.follows.values():
            if follow.unfinished and follow.source is not None:
                self._try_step(follow, final=True)
        await self._ship(self.blocks.flush())

    def close(self) -> None:
        for follow in list(self._opened):
            self._park(follow)

    async def _turn(self, follow: Follow, final: bool) -> bool:
        """True if there is more to read."""
        more, blocks = True, 0
        while more and blocks < TURN_BLOCKS and self.known.follows_still(follow):
            more = self._try_step(follow, final)
            blocks += 1
            if self.blocks.ready >= SHIP_DRAFTS:
                await self._ship(self.blocks.take())
        await self._ship(self.blocks.take())
        self._keep_budget(follow)
        if not self.known.follows_still(follow):
            return False  # a sweep let it go while the round, or this turn, waited
        if not more and follow.ending and not (follow.unfinished or follow.retry_at):
            self.known.end(follow)
            self._opened.pop(follow, None)
        return more

    def _try_step(self, follow: Follow, final: bool) -> bool:
        if self.machine.now() < follow.retry_at:
            return False
        try:
            more = self._step(follow, final)
            follow.retry_at, follow.is_astray = 0.0, False
            return more
        except ChangedError:
            self.known.changed(follow)
            return True
        except (ElsewhereError, FileNotFoundError):
            follow.park()  # renamed or deleted since the sweep: the next one finds it, or lets it go
            follow.is_astray, self._astray_at = True, self.machine.now()
            self.want_sweep()
        except OSError as error:
            return self._failed(follow, error)
        return False

    def _step(self, follow: Follow, final: bool) -> bool:
        """Read one block. True if there may be more."""
        now = self.machine.now()
        if follow.ignored or (follow.source is None and not self._name(follow, now, final)):
            return False
        begin, _ = follow.next_hole()
        if begin != follow.read_to:
            self._lead_in(follow, begin)
        chunk = follow.read(self._room)
        if chunk.end == chunk.begin:
            follow.unfinished = False
            return False
        grown = chunk.offset + chunk.end - chunk.begin
        if grown > follow.grown_to:
            follow.grown_to, follow.grown_at = grown, now
        is_full = chunk.end == len(self._room)  # the file goes on: its last line here is not the last one
        final = final or follow.ending or now - follow.grown_at >= UNFINISHED_S
        used = self._add(follow, chunk, chunk.whole or (final and not is_full), now)
        self.bytes_read += used - chunk.begin
        follow.took(self._room, chunk, used)
        return used > chunk.begin and (chunk.whole or is_full)

    def _name(self, follow: Follow, now: float, final: bool) -> bool:
        final = final or follow.ending
        if self.known.naming.name(follow, now, final):
            return True
        is_empty = not (follow.ignored or follow.unfinished or follow.suspected_until or follow.stated_empty)
        if is_empty and (final or now - follow.grown_at >= EMPTY_S):
            self.blocks.leave_empty(self.known.naming.empty_source(follow), self._arrival(), now)
        return False

    def _add(self, follow: Follow, chunk: Chunk, final: bool, now: float) -> int:
        assert follow.source is not None
        block = self._room[: chunk.end]
        return self.blocks.add(follow.source, block, chunk.begin, chunk.offset, self._arrival(), final, now)

    def _lead_in(self, follow: Follow, begin: int) -> None:
        """Lead the kernel through what comes before a hole; nothing of it is sent again."""
        assert follow.source is not None
        stood = follow.read_to
        chunk = follow.lead_in(self._room, begin)
        offset = chunk.offset if chunk else begin
        if offset != stood:
            follow.source.kernel = self._fresh_kernel(follow)
        if chunk:
            self.blocks.learn(follow.source.kernel, self._room[: chunk.end], chunk.begin, chunk.offset, self._arrival())

    def _fresh_kernel(self, follow: Follow) -> Stream:
        return kernel_stream(follow.seen.mtime_ns)

    def _arrival(self) -> int:
        return self.machine.time_ns() // NS_PER_POINT

    def _failed(self, follow: Follow, error: OSError) -> bool:
        """Out of descriptors: others give theirs back, and it is tried again. Else it waits, and the others go on."""
        follow.park()
        self._opened.pop(follow, None)
        if error.errno in NO_DESCRIPTOR and self._opened:
            self.known.counts["no_descriptor"] += 1
            self.open_files = max(OPEN_FILES_MIN, len(self._opened) // 2)
            self._shrink()
            return True
        follow.retry_at = self.machine.now() + RETRY_S
        self.known.counts["unreadable"] += 1
        code = error.errno or 0
        if (follow.path, code) not in self._told:
            self._told[follow.path, code] = None
            if len(self._told) > TOLD_MAX:
                del self._told[next(iter(self._told))]
            log.warning("a file can't be read; it is tried again", path=follow.where, why=error.strerror or str(error))
        return False

    def _keep_budget(self, follow: Follow) -> None:
        self._opened.pop(follow, None)
        if follow.file is None:
            return
        self._opened[follow] = None
        self._shrink()

    def _shrink(self) -> None:
        while len(self._opened) > self.open_files:
            self._park(next(iter(self._opened)))

    def _park(self, follow: Follow) -> None:
        self._opened.pop(follow, None)
        follow.park()
