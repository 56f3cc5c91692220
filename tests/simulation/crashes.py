"""Every state that a crash can leave on a disk: a small workload is recorded operation by operation, and each moment
between two of them becomes a handful of disks, as its power might have gone just then.

    nothing     of what was not fsynced survives
    everything  survives, as after a SIGKILL
    torn        the last write survives up to each 512 bytes of it, with or without zeros where the rest should be
    some        each file and folder keeps a part of its own, drawn from a few seeds

A subject recovers from each of them, twice, and is asked what it has. States are told apart, and counted, by the
content of all their files. A moment has its promise: what the workload had been told by then.
"""

import hashlib
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tests.simulation.machine import Host, SimMachine, World
from tests.simulation.platter import Folder, Inode

CHANGES = {"open", "write", "truncate", "rename", "unlink", "rmdir", "mkdirs", "fsync", "fsync_folder"}
SECTOR = 512
SUBSETS = 6

P = TypeVar("P")
C = TypeVar("C")


@dataclass(frozen=True)
class Moment(Generic[P]):
    """The disk between two operations, who wrote last, and what had been promised."""

    root: Folder
    written: tuple[int, int]  # the number of the file written last, and where that write began
    promise: P


@dataclass
class Recording(Generic[P]):
    """All moments of one workload. `promise` is replaced by the workload as it is told more."""

    host: Host
    promise: P
    moments: list[Moment[P]] = field(default_factory=list)
    _last: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.host.platter.before = self._before

    def _before(self, operation: str, path: bytes) -> None:
        if operation not in CHANGES:
            return
        self.take()
        if operation == "write":
            node = self.host.platter.find(path)
            assert isinstance(node, Inode)
            self._last = node.number, len(node.data)
        else:
            self._last = 0, 0

    def take(self) -> None:
        """The disk as it is now is a moment too."""
        self.moments.append(Moment(copied(self.host.platter.root, {}), self._last, self.promise))


@dataclass
class Subject(Generic[P, C]):
    """What is tried: how to recover, and what must then be so."""

    recover: Callable[[SimMachine], Awaitable[C]]
    check: Callable[[P, C], None]
    settled: Callable[[C], object] = lambda claims: claims  # what a second recovery must find the same


@dataclass
class Tally:
    """How many disks there were: moments, recoveries, and states that differ in content."""

    moments: int = 0
    recoveries: int = 0
    states: set[bytes] = field(default_factory=set)


async def enumerate_crashes(world: World, recording: Recording[P], subject: Subject[P, C], tally: Tally) -> None:
    """Recover from every state of every moment, and check."""
    recording.take()
    seen: set[tuple[bytes, int]] = set()
    for moment in recording.moments:
        tally.moments += 1
        for name, root in crashed(moment):
            state = content(root)
            if (state, id(moment.promise)) in seen:
                continue
            seen.add((state, id(moment.promise)))
            tally.states.add(state)
            tally.recoveries += 1
            try:
                await _try(world, recording.host.name, root, moment.promise, subject)
            except BaseException as error:
                error.add_note(f"moment {tally.moments} of {len(recording.moments)}, {name} of the unsynced")
                raise


async def _try(world: World, name: str, root: Folder, promise: P, subject: Subject[P, C]) -> None:
    """Recover; then cut the power again, keeping nothing unsynced, and recover once more."""
    host = Host(world, name)
    host.platter.root, host.platter.numbers = root, 1 << 32
    claims = None
    for _ in range(2):
        machine = host.process()
        found = await subject.recover(machine)
        subject.check(promise, found)
        if claims is not None:
            assert subject.settled(found) == claims, "a second recovery finds something else"
        claims = subject.settled(found)
        machine.disk.kill()
        host.platter.locks.clear()
        _forget(host.platter.root, _Nothing())


# --- what a crash leaves ----------------------------------------------------------------------------------------------


class _Nothing:
    """The chooser of a crash that keeps nothing unsynced."""

    def kept(self, inode: Inode) -> int:
        return inode.synced

    def changes(self, folder: Folder) -> int:
        return 0

    def zeros(self, inode: Inode) -> int | None:
        return None


class _Everything(_Nothing):
    def kept(self, inode: Inode) -> int:
        return len(inode.data)

    def changes(self, folder: Folder) -> int:
        return len(folder.pending)


class _Torn(_Everything):
    """The last write is cut at `size`; with `zeros`, its file is as long as it was to be."""

    def __init__(self, number: int, size: int, zeros: bool) -> None:
        self.number, self.size, self.zeroed = number, size, zeros

    def kept(self, inode: Inode) -> int:
        return self.size if inode.number == self.number and not self.zeroed else len(inode.data)

    def zeros(self, inode: Inode) -> int | None:
        return self.size if inode.number == self.number and self.zeroed else None


class _Some(_Nothing):
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def kept(self, inode: Inode) -> int:
        return self.rng.choice((inode.synced, len(inode.data), self.rng.randint(inode.synced, len(inode.data))))

    def changes(self, folder: Folder) -> int:
        return self.rng.randint(0, len(folder.pending))


def crashed(moment: Moment[P]) -> Iterator[tuple[str, Folder]]:
    """Every disk that this moment may leave, each with the name of its kind."""
    yield "nothing", _after(moment.root, _Nothing())
    yield "everything", _after(moment.root, _Everything())
    number, start = moment.written
    node = _numbered(moment.root, number)
    for size in range(start + SECTOR, len(node.data) if node is not None else 0, SECTOR):
        yield "torn", _after(moment.root, _Torn(number, size, zeros=False))
        yield "torn, with zeros", _after(moment.root, _Torn(number, size, zeros=True))
    for seed in range(SUBSETS):
        yield "some", _after(moment.root, _Some(seed))


def _after(root: Folder, choice: _Nothing) -> Folder:
    root = copied(root, {})
    _forget(root, choice)
    return root


def _forget(folder: Folder, choice: _Nothing) -> None:
    for changes in folder.pending[: choice.changes(folder)]:
        for name, node in changes:
            if node is None:
                folder.durable.pop(name, None)
            else:
                folder.durable[name] = node
    folder.names, folder.pending, folder.watches = dict(folder.durable), [], []
    for name, node in folder.names.items():
        if isinstance(node, Folder):
            _forget(node, choice)
        else:
            _forget_file(node, choice)
            node.place = (folder, name)


def _forget_file(inode: Inode, choice: _Nothing) -> None:
    kept, zeros = choice.kept(inode), choice.zeros(inode)
    if inode.before is not None and kept == inode.synced:
        inode.data = bytearray(inode.before)
    elif zeros is not None:
        inode.data[zeros:] = bytes(len(inode.data) - zeros)
    else:
        del inode.data[kept:]
    inode.fsync()


def copied(folder: Folder, done: dict[int, Inode | Folder]) -> Folder:
    """A copy of a tree, files that have two names in it being one again."""

    def copy(node: Inode | Folder) -> Inode | Folder:
        if id(node) not in done:
            if isinstance(node, Folder):
                copied(node, done)
            else:
                done[id(node)] = Inode(
                    node.number, node.mode, node.born_ns, node.changed_ns, bytearray(node.data), node.synced,
                    node.before, list(node.holes),
                )  # fmt: skip
        return done[id(node)]

    new = done[id(folder)] = Folder(folder.number, folder.born_ns)
    new.names = {name: copy(node) for name, node in folder.names.items()}
    new.durable = {name: copy(node) for name, node in folder.durable.items()}
    new.pending = [tuple((name, node and copy(node)) for name, node in changes) for changes in folder.pending]
    for name, node in new.names.items():
        if isinstance(node, Inode):
            node.place = (new, name)
    return new


def content(folder: Folder) -> bytes:
    """One hash over the names and bytes of a tree."""
    found = hashlib.blake2b(digest_size=16)
    for name, node in sorted(folder.names.items()):
        data = content(node) if isinstance(node, Folder) else hashlib.blake2b(node.data, digest_size=16).digest()
        found.update(b"%d %s %d " % (isinstance(node, Folder), name, len(name)) + data)
    return found.digest()


def _numbered(folder: Folder, number: int) -> Inode | None:
    for node in folder.names.values():
        found = _numbered(node, number) if isinstance(node, Folder) else node if node.number == number else None
        if found is not None:
            return found
    return None
