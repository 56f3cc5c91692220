"""Which stream is this file? Decided once its first line is complete, for as long as the file is not cut.

    seen before the restart, and its head and tail are still there      its stream goes on
    head and tail are those of a stream whose own file is gone or cut   it is a copy (copytruncate): that stream goes on
    it may be a copy still being made                                   wait a little
    anything else                                                       a new stream; another generation of a known head

Two files that both exist are two streams, however alike they are. A stream's name depends on the file alone (inode,
birth, first line, generation), so a tailer that lost its memory gives the same names again, and what bucks say they
have of a stream (`coverage`) is not read twice.
"""

import itertools
import posixpath
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from protocol.identity import head_hash
from protocol.ranges import Ranges
from service.log import get_log
from tailer.blocks import Source
from tailer.checkpoint import StreamState
from tailer.inputs.begin import Day, end_of_lines, unwanted
from tailer.inputs.files import Key, stream_of
from tailer.inputs.follow import STATED, TAIL_MAX, Follow, first_line, kernel_stream
from tailer.kinds import Kinds

# Streams whose file is gone or cut that are remembered, so that a copy of it is known.
LOST_MAX = 128
# A file that may be a copy being made is waited for so long after it last grew.
SUSPECT_S = 3.0
# In the state of a stream that has ended: that its file was missed after a crash is known.
MISSED = b"missed"

log = get_log("tailer.files")

Place = tuple[Key, bytes]  # a file and the hash of its head: what its generations have in common


@dataclass
class Former:
    """What bucks know of files that the journal has forgotten (found by former.py)."""

    coverage: dict[bytes, Ranges] = field(default_factory=dict)
    goes_on: dict[Place, int] = field(default_factory=dict)  # the generation whose end the file has
    used: dict[Place, int] = field(default_factory=dict)  # the last generation known
    lost: tuple[StreamState, ...] = ()  # streams that no file goes on with; one may be a copy


class Lost:
    """Streams whose file is gone or was cut, the latest few."""

    def __init__(self) -> None:
        self._states: deque[StreamState] = deque()

    def __iter__(self) -> Iterator[StreamState]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def add(self, state: StreamState) -> list[StreamState]:
        """Remember one; those that are forgotten for it."""
        self._states.append(state)
        return [self._states.popleft()] if len(self._states) > LOST_MAX else []

    def remove(self, state: StreamState) -> None:
        self._states.remove(state)

    def alike(self, head: bytes) -> list[StreamState]:
        """Those with this head, the latest first."""
        return [state for state in reversed(self._states) if state.head == head]


class Naming:
    """The memory of streams: those that go on, those waited for, those that ended."""

    def __init__(
        self,
        kinds: Kinds,
        *,
        begin: str = "head",
        now_ns: int = 0,
        patient: bool = True,
        same_boot: bool = True,
        states: Iterable[StreamState] = (),
        coverage: Mapping[bytes, Ranges] | None = None,
        former: Former | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.changes = 0  # grows with each stream that begins, ends, or goes on in another file
        self.awaited: dict[Key, StreamState] = {}  # known before the restart, not met yet
        self.missed: set[bytes] = set()  # known before the restart, and their files are gone or were written anew
        self.kinds = kinds
        self._begin = begin  # head | end | recent: for files that are there at the first sweep
        self._day = Day(now_ns) if begin == "recent" else None
        self._same_boot = same_boot  # otherwise a power cut may have taken a log's own last lines
        self._patient = patient  # may wait for what a file becomes; not so when everything is read once
        self._handles = itertools.count(1)
        self._handle_of: dict[bytes, int] = {}  # of lost streams: one that goes on in a copy may be in an open builder
        self._former = former or Former()
        self._coverage = {**self._former.coverage, **(coverage or {})}
        self._heads: dict[bytes, set[Follow]] = {}
        self.is_followed: Callable[[Key], bool] = lambda key: False  # is there a file under it now?
        self._generations: dict[Key, dict[bytes, int]] = {}  # of a file, by the hash of its head
        for (key, head), generation in self._former.used.items():
            self._generations.setdefault(key, {})[head] = generation
        self._lost = Lost()
        self._newest_ns = 0  # no file known before the restart was born later
        for state in (*self._former.lost, *states):
            self._remember(state)
        self._newest_ns = max([self._newest_ns, *(key[1] for key, _ in self._former.goes_on)])

    def _remember(self, state: StreamState) -> None:
        self._count_generation(_key(state), state.head, state.generation)
        self._newest_ns = max(self._newest_ns, state.birth_ns)
        if state.closed:
            self._lost.add(self._judged(state))
        else:
            self.awaited[_key(state)] = state

    def _judged(self, state: StreamState) -> StreamState:
        """A stream that had ended. What was read of it last may have been in no packet yet when a crash came: then its
        file is missed, once."""
        holes = self._coverage.get(state.id, Ranges()).holes(state.start, state.read_to)
        if not holes or state.extra == MISSED:
            return state
        self.missed.add(state.id)
        return state._replace(extra=MISSED)

    def states(self) -> tuple[StreamState, ...]:
        """The streams that no file is followed for, for a checkpoint."""
        return (*self._lost, *self.awaited.values())

    @property
    def count(self) -> int:
        return len(self.awaited) + len(self._lost)

    def name(self, follow: Follow, now: float, final: bool) -> bool:
        """Decide which stream a file is. False: not yet, or never (`ignored`). `final`: what there is is its head."""
        state = self.awaited.get(follow.key)
        if state is not None:
            goes_on = self._go_on(follow, state)
            del self.awaited[follow.key]  # not before: an error is no reason to forget it
            if goes_on:
                return True
        first = follow.first_bytes()
        reason = "" if follow.is_cut else unwanted(first, follow.last_bytes())
        if reason:
            self._ignore(follow, reason)
            return False
        head = first_line(first) or (first if final else b"")
        follow.unfinished = bool(first) and not head
        if not head:
            return False
        goes_on = (follow.key, head_hash(head)) in self._former.goes_on
        if not follow.is_cut and not goes_on and (self._is_return(follow, head) or self._is_copy(follow, head)):
            return True
        if self._is_suspect(follow, head, now, final):
            return False
        self._name_anew(follow, head)
        return True

    def _ignore(self, follow: Follow, reason: str) -> None:
        follow.ignored = reason
        follow.park()
        self.counts["ignored"] += 1
        log.warning("a file is left out", path=follow.path, why=reason, size=follow.seen.size)

    def _source(self, stream: bytes, path: bytes, head: bytes, mtime_ns: int, state: bytes = b"") -> Source:
        kernel = kernel_stream(mtime_ns, state)
        handle = self._handle_of.pop(stream, None) or next(self._handles)
        return Source(handle, stream, path, head_hash(head), self.kinds(path), kernel, self.kinds.route(path))

    def _go_on(self, follow: Follow, state: StreamState) -> bool:
        """Go on with a stream in this file; False (and the stream is lost) if the file no longer has what was read."""
        if not state.head:
            follow.stated_empty, follow.is_first = state.extra == STATED, False
            return False
        source = self._source(state.id, state.path, state.head, follow.seen.mtime_ns, state.kernel_state)
        if not follow.resume(source, state, self._coverage.get(state.id, Ranges())):
            self._changed_while_down(follow, state)
            return False
        self._enter(follow)
        return True

    def _changed_while_down(self, follow: Follow, state: StreamState) -> None:
        self.miss(state)
        follow.is_first = False  # all of it is new
        if not self._same_boot:
            follow.start = follow.first_difference(state)  # but for what it still has of the old
            if follow.start:
                self.missed.discard(state.id)
        self.counts["truncated"] += 1
        log.info("a file was written anew", path=state.path, read_to=state.read_to)

    def _is_return(self, follow: Follow, head: bytes) -> bool:
        """A file that was given up (renamed away for long) is back."""
        alike = self._lost.alike(head)
        return any(_key(state) == follow.key and self._take_over(follow, state) for state in alike)

    def _is_copy(self, follow: Follow, head: bytes) -> bool:
        """Does the file hold what was read of a stream whose own file is gone or cut?"""
        for state in self._lost.alike(head):
            if _may_be_copy(state, follow) and self._take_over(follow, state):
                self.counts["copies"] += 1
                log.info("a copy is known", path=follow.where, of=state.path, read_to=state.read_to)
                return True
        return False

    def _take_over(self, follow: Follow, state: StreamState) -> bool:
        source = self._source(state.id, state.path, state.head, follow.seen.mtime_ns, state.kernel_state)
        if not follow.resume(source, state, self._coverage.get(state.id, Ranges())):
            return False
        self._lost.remove(state)
        self.missed.discard(state.id)
        self._enter(follow)
        return True

    def _is_suspect(self, follow: Follow, head: bytes, now: float, final: bool) -> bool:
        """It begins like a file that we follow, so it may be a copy in the making: then the original is cut soon."""
        if final or not self._patient or follow.is_first or follow.is_cut:
            return False
        if not any(self._looks_like(follow, other) for other in self._heads.get(head, ())):
            return False
        size = follow.open().size()
        if follow.suspected_until is None or size > follow.suspected_size:
            follow.suspected_until, follow.suspected_size = now + SUSPECT_S, size
        return now < follow.suspected_until

    def _looks_like(self, follow: Follow, other: Follow) -> bool:
        if other.key == follow.key or not _names_alike(other.where, follow.where):
            return False
        file, at = follow.open(), other.read_to - len(other.tail)
        return file.size() < other.read_to or file.pread(len(other.tail), at) == other.tail

    def _name_anew(self, follow: Follow, head: bytes) -> None:
        generation = self._next_generation(follow, (follow.key, head_hash(head)))
        stream = stream_of(follow.key, head, generation)
        covered = self._coverage.get(stream) or Ranges()
        if covered and covered.last >= follow.open().size():  # the bucks hold more of it: it was cut since
            follow.is_first = False
            generation = max(generation, self._last_generation((follow.key, head_hash(head)))) + 1
            stream, covered = stream_of(follow.key, head, generation), Ranges()
        start = covered.first if covered and self._begin != "head" else self._start(follow, head)
        source = self._source(stream, follow.path, head, follow.seen.mtime_ns)
        follow.begin(source, head, generation, start, covered)
        self._count_generation(follow.key, head, generation)
        self._enter(follow)
        self.counts["followed"] += 1

    def _next_generation(self, follow: Follow, place: Place) -> int:
        """The one that bucks know and the file still has, else the first that is free."""
        if place in self._former.goes_on:
            return self._former.goes_on.pop(place)
        if place in self._former.used:
            follow.is_first = False  # it was written anew while nobody looked: all of it is new
        return self._last_generation(place) + 1

    def _last_generation(self, place: Place) -> int:
        """-1: there was none."""
        return self._generations.get(place[0], {}).get(place[1], -1)

    def _start(self, follow: Follow, head: bytes) -> int:
        """Only what was there at the start may be skipped; what appears later is read from its head."""
        birth_ns = follow.key[1]
        if not follow.is_first or self._begin == "head" or (self._newest_ns and birth_ns > self._newest_ns):
            return follow.start
        file = follow.open()
        size = min(file.size(), follow.first_size)
        if self._day is None:
            return end_of_lines(file, size)
        return self._day.begins_at(file, size, birth_ns, follow.seen.mtime_ns)

    def _count_generation(self, key: Key, head: bytes, generation: int) -> None:
        place = (key, head_hash(head))
        self._generations.setdefault(key, {})[place[1]] = max(generation, self._last_generation(place))

    def _enter(self, follow: Follow) -> None:
        self.changes += 1
        self._heads.setdefault(follow.head, set()).add(follow)

    def leave(self, follow: Follow) -> None:
        """The stream ends with this file; a copy may have the rest of it."""
        self.changes += 1
        state = follow.state(closed=True)
        if state is not None and follow.source is not None:
            self._coverage[state.id] = Ranges([(state.start, state.read_to)]) - follow.todo
            self._handle_of[state.id] = follow.source.handle
            self.lose(state)
        self._forget_head(follow)

    def miss(self, state: StreamState) -> None:
        """A stream of before the restart without its file: what came last may have been read by nobody."""
        self.missed.add(state.id)
        self.lose(state._replace(extra=MISSED))

    def lose(self, state: StreamState) -> None:
        for forgotten in self._lost.add(state._replace(closed=True)):
            self._coverage.pop(forgotten.id, None)
            self._handle_of.pop(forgotten.id, None)
            key = _key(forgotten)
            known = self.is_followed(key) or key in self.awaited or any(_key(other) == key for other in self._lost)
            if not known:
                self._generations.pop(key, None)  # its file is gone for good

    def _forget_head(self, follow: Follow) -> None:
        alike = self._heads.get(follow.head, set())
        alike.discard(follow)
        if not alike:
            self._heads.pop(follow.head, None)

    def empty_source(self, follow: Follow) -> Source:
        """The stream that says of an empty file that it is there."""
        self.changes += 1
        follow.stated_empty = True
        return self._source(stream_of(follow.key, b"", 0), follow.path, b"", 0)


def _key(state: StreamState) -> Key:
    return state.inode, state.birth_ns, 0 if state.birth_ns else state.device


def _names_alike(original: bytes, copy: bytes) -> bool:
    """`app.log.1`, `app-20260101.log` go with `app.log`: the same folder's name may differ, the beginning doesn't."""
    stem = posixpath.basename(original).split(b".")[0]
    return posixpath.basename(copy).startswith(stem)


def _may_be_copy(state: StreamState, follow: Follow) -> bool:
    """A short tail proves little: two files of one line are often alike. Then the names have to tell."""
    if _key(state) == follow.key:
        return False
    if len(state.tail) >= TAIL_MAX:
        return True
    return state.path != follow.where and _names_alike(state.path, follow.where)
