"""Letting go of what is archived: a porter states which packets of a bucket are, and whole bucket files are dropped.

    statement ── names every packet that the file holds, by key and content? ── no: the file stays, and why is counted
                 └─ yes: write what stays of it (remnant.py), fsynced and named ── then unlink the file

A crash in between leaves both, and the next start finishes what was begun. Nothing is deleted for any other reason: not
by age, not by a fuller disk, not by what another buck says. A packet of the same key with another content is not the
one that is meant. Packets that came later lie in a part of their own, which waits for a statement that names them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from buck import remnant
from buck.bucket import Part
from buck.counts import Counts
from buck.errors import Declined
from buck.files import ARCHIVED, CLOSED, LEFT
from buck.index import GroupKey, Index
from buck.remnant import Remnant
from buck.store import Store
from buck.volume import Volume
from protocol import packet as packets
from protocol.errors import FormatError
from protocol.packet import Key
from protocol.ranges import Ranges
from protocol.statement import Statement
from service.faults import faultpoint
from service.log import get_log
from service.machine import File

log = get_log("buck.pruning")

# Read at once of each packet: the headers of nearly all are shorter.
HEADER_GUESS = 2048

Contents = Mapping[GroupKey, Mapping[int, bytes]]


class Lying(NamedTuple):
    """A packet as it lies in a part: its key and its content; no content where it can't be read."""

    key: Key
    content: bytes


@dataclass
class Pruned:
    """What became of one bucket."""

    parts: int = 0
    packets: int = 0
    bytes: int = 0
    kept: int = 0
    reasons: dict[str, None] = field(default_factory=dict)

    def keep(self, why: str) -> None:
        """One part stays."""
        self.kept += 1
        self.reasons[why] = None


def unnamed(lying: Iterable[Lying], named: Contents) -> list[Lying]:
    """The packets that are not named: with any of these a part stays. Pure."""
    return [one for one in lying if not _is_named(one, named)]


def _is_named(one: Lying, named: Contents) -> bool:
    stated = named.get(one.key[:2], {}).get(one.key.number)
    return bool(one.content) and stated is not None and one.content.startswith(stated)


class Pruner:
    """Drops parts, one statement at a time."""

    def __init__(self, store: Store, counts: Counts) -> None:
        self._store = store
        self._counts = counts
        self._turn = trio.Lock()

    async def prune(self, statement: Statement) -> Pruned:
        """Let go of the parts of which this statement names every packet. Declined if it is not about our buckets."""
        store = self._store
        if statement.env != store.env:
            raise Declined("env", f"this buck keeps {store.env!r}, the statement is of {statement.env!r}")
        if statement.width != store.width:
            raise Declined("width", f"windows are {store.width} s here, the statement's {statement.width} s")
        done = Pruned()
        async with self._turn:
            named = await store.machine.slow(statement.contents)
            for part in store.parts(statement.bucket):
                why = await self._look_at(part, statement, named, done)
                if why:
                    done.keep(why)
                    self._counts.parts_kept.inc()
                    log.warning("an archived bucket file is kept", path=part.path, why=why)
        return done

    async def _look_at(self, part: Part, statement: Statement, named: Contents, done: Pruned) -> str:
        """Drop a part, or say why not."""
        volume = self._store.volume_of(part)
        if not volume.able:
            return "its disk is left, or hangs"
        index = await self._store.cache.load(part)
        numbers = {(one.tailer, one.epoch): one.numbers for one in statement.named}
        others = sum((group.ranges() - numbers.get(key, Ranges())).count for key, group in index.groups.items())
        if others:
            return f"{others} packets of it are not in the archive"
        if not part.size:
            return ""
        if part.is_open:
            await self._store.close_part(part)
        if part.name.state not in (CLOSED, LEFT):
            return "it could not be closed, or an fsync of it failed: see `porter repair`"
        index = await self._store.cache.load(part)
        try:
            lying = await self._store.machine.slow(_lying, part, index)
        except OSError as error:
            self._store.failed(part, error)
            return f"it can't be read: {error.strerror or error}"
        if left := unnamed(lying, named):
            return await self._differ(part, left, named)
        return await self._drop(volume, part, index, statement, done)

    async def _differ(self, part: Part, left: list[Lying], named: Contents) -> str:
        """Packets that have the key of an archived one, and are not it."""
        unread = [one for one in left if not one.content]
        if unread:
            self._counts.bad_reads.inc(len(unread))
            await self._store.look_again(part)
            return f"{len(unread)} packets of it can't be read; the others are looked at in the next run"
        contested = [one for one in left if one.key.number in named.get(one.key[:2], {})]
        if contested:
            self._counts.conflicts.inc(len(contested))
            key = {"tailer": contested[0].key.tailer.hex(), "epoch": contested[0].key.epoch}
            log.error("ALARM: a packet has the key of an archived one, and other content; it is kept", **key)
            return f"{len(contested)} packets have keys of archived ones, and other content"
        return f"{len(left)} packets of it are not in the archive"

    async def _drop(self, volume: Volume, part: Part, index: Index, statement: Statement, done: Pruned) -> str:
        """First what stays is on the device, under its name; only then the packets go."""
        what = Remnant(part.env_folder, part.name._replace(state=ARCHIVED))
        data = await self._store.machine.slow(remnant.encode, index, statement)
        try:
            faultpoint("buck.pruning.before_remnant")
            await self._store.machine.disk.replace(what.path, data, mode=0o640)
            faultpoint("buck.pruning.remnant")
            volume.let_go(part)
            self._store.cache.forget(part)
            await self._store.machine.slow(self._store.machine.disk.unlink, part.path)
            faultpoint("buck.pruning.unlinked")
            await self._store.machine.disk.fsync_folder(part.folder)
        except OSError as error:
            volume.trouble(error)
            return "" if part.dropped else f"what stays of it can't be written: {error.strerror or error}"
        finally:
            if part.dropped:
                self._note(part, statement, done)
        return ""

    def _note(self, part: Part, statement: Statement, done: Pruned) -> None:
        done.parts, done.packets, done.bytes = done.parts + 1, done.packets + part.packets, done.bytes + part.size
        self._counts.parts_pruned.inc()
        self._counts.packets_pruned.inc(part.packets)
        self._counts.bytes_pruned.inc(part.size)
        porter = statement.public.hex()
        log.info("an archived bucket file is let go of", path=part.path, verdict=statement.verdict, porter=porter)


def _lying(part: Part, index: Index) -> list[Lying]:
    """Every packet of a part with its content, read from the file. Runs beside the loop."""
    found: list[Lying] = []
    file = part.disk.open_read(part.path)
    try:
        for (tailer, epoch), group in index.groups.items():
            for number, offset, size in zip(group.numbers, group.offsets, group.sizes, strict=True):
                key = Key(tailer, epoch, number)
                found.append(Lying(key, _content(file, offset, size, key)))
    finally:
        file.close()
    return found


def _content(file: File, offset: int, size: int, key: Key) -> bytes:
    """A packet's content, as its header says it; nothing if that isn't its header any more."""
    try:
        data = file.pread(min(size, HEADER_GUESS), offset)
        end = packets.header_end(data)
        if end > len(data):
            data = file.pread(min(size, end), offset)
        header = packets.Header.decode(memoryview(data)[packets.PREFIX_SIZE : end])
    except FormatError:
        return b""
    return header.content if header.key == key else b""
