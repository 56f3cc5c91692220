"""Bucks and archive read as one: what is archived comes from there, the rest from the bucks, nothing twice.

The archive says which packets it has whole; the bucks are asked for all others only. What is short (a silent buck, a
packet that nobody gives, rows that can't be read, other bytes at the same offsets) is gathered while reading and told
at the end: a reader that hides it would turn a gap into a lie.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from porter.bucks import Bucks
from porter.cluster import Cluster, open_cluster
from porter.settings import PorterSettings
from porter.shelf import QuarantinedError
from porter.source import Origin, Piece, Scope, Span
from protocol.identity import NodeKey
from protocol.ranges import Ranges
from service.authorized import use_files
from service.config import ConfigError
from service.keys import load_key
from service.machine import Machine

if TYPE_CHECKING:
    from porter.archived import Archive
    from protocol.secure import Security

__all__ = ["Reader", "numbers_text", "open_reader"]


class Reader:
    """What `cat` and `grep` read from."""

    def __init__(self, bucks: Bucks | None, archive: Archive | None) -> None:
        self.bucks = bucks
        self.archive = archive
        self._archived: set[Origin] = set()

    async def prepare(self) -> None:
        """Find out what the archive has, so that the bucks aren't asked for it."""
        if self.bucks and self.archive:
            self.bucks.others = (self.archive,)
            self.bucks.skip = await self.archive.covers()

    async def names(self) -> set[tuple[bytes, bytes]]:
        """Every (host, path) there is."""
        found: set[tuple[bytes, bytes]] = set()
        for source in (self.archive, self.bucks):
            if source:
                found.update(await source.names())
        return found

    async def spans(self, host: bytes, path: bytes) -> list[Span]:
        """All runs of a file."""
        archived = list(await self.archive.spans(host, path)) if self.archive else []
        self._archived.update(span.origin for span in archived)
        return [*archived, *(await self.bucks.spans(host, path) if self.bucks else ())]

    async def load(self, span: Span) -> Piece | None:
        """The rows of a span; None if they can't be read, which `shortfalls` will say."""
        if self.archive and span.origin in self._archived:
            return await self.archive.load(span)
        assert self.bucks
        try:
            return await self.bucks.load(span)
        except QuarantinedError:
            return None

    @asynccontextmanager
    async def scan(self, scope: Scope) -> AsyncIterator[AsyncIterator[tuple[int, Sequence[Piece]]]]:
        """(bucket or hour, pieces of one block) after another: the archive's, then the bucks'."""
        async with aclosing(self._scan(scope)) as parts:
            yield parts

    async def _scan(self, scope: Scope) -> AsyncGenerator[tuple[int, Sequence[Piece]], None]:
        if self.archive:
            async with self.archive.scan(scope) as parts:
                async for hour, pieces in parts:
                    if self.bucks:
                        for piece in pieces:
                            self.bucks.seen.add(piece.span)
                    yield hour, pieces
        if self.bucks:
            async with self.bucks.scan(scope) as parts:
                async for bucket, pieces in parts:
                    yield bucket, pieces

    def shortfalls(self) -> list[str]:
        """What was short, a line each; empty where all was had."""
        return _short(self.bucks, self.archive is not None) if self.bucks else []


def _short(bucks: Bucks, has_archive: bool) -> list[str]:
    lines = [f"not asked: {member}: {member.trouble}" for member in bucks.cluster.silent]
    lines += [f"unsure what it holds: {name}" for name in sorted(bucks.unsure)]
    where = " and were not in this one when this began: run it again" if has_archive else ": name it with --archive"
    for bucket, gone in sorted(bucks.archived.items()):
        for (tailer, epoch), numbers in gone.items():
            what = f"packets {numbers_text(numbers)} of {tailer.hex()}/{epoch:x} in bucket {bucket}"
            lines.append(f"archived: {what} are in the archive{where}")
    for bucket, missing in sorted(bucks.shelf.missing.items()):
        for (tailer, epoch), numbers in missing.items():
            lines.append(f"missing: packets {numbers_text(numbers)} of {tailer.hex()}/{epoch:x} in bucket {bucket}")
    for bad in bucks.shelf.bad:
        name = f"packet {bad.key.number}" if bad.key else "a packet"
        lines.append(f"a bad copy: {name} in bucket {bad.bucket} on {bad.member}: {bad.why}")
    for key, why in bucks.shelf.quarantined.items():
        lines.append(f"quarantined: packet {key.number} of {key.tailer.hex()}/{key.epoch:x}: {why}")
    return lines


def numbers_text(numbers: Ranges) -> str:
    """1-5, 7: as people write sets of numbers."""
    return ", ".join(f"{start}-{end - 1}" if end - start > 1 else str(start) for start, end in numbers)


@asynccontextmanager
async def open_reader(machine: Machine, settings: PorterSettings, archive: Archive | None) -> AsyncIterator[Reader]:
    """Connect to the bucks, if any are named, and read them and the archive as one. ConfigError if there is nothing."""
    async with AsyncExitStack() as stack:
        if archive:
            stack.enter_context(archive)
            if not settings.reads_bucks and not await archive.everything():
                raise ConfigError(
                    f"{settings.archive}: nothing of env {settings.env!r} is in this archive; give the right --env, or "
                    "name a buck with --peer HOST:PORT if nothing was archived yet"
                )
        bucks = None
        if settings.reads_bucks:
            bucks = Bucks(await stack.enter_async_context(connect(machine, settings)), settings.memory)
        reader = Reader(bucks, archive)
        await reader.prepare()
        yield reader


@asynccontextmanager
async def connect(machine: Machine, settings: PorterSettings, role: str = "porter") -> AsyncIterator[Cluster]:
    """The cluster, with this porter's own key."""
    key, security = await identity(machine, settings)
    async with open_cluster(machine, settings, key, role, security) as cluster:
        yield cluster


async def identity(machine: Machine, settings: PorterSettings) -> tuple[NodeKey, Security | None]:
    """Who this porter is, and what its links are encrypted with."""
    key = NodeKey.from_seed((await load_key(machine, settings.key)).seed)
    return key, _security(machine, settings, key)


def _security(machine: Machine, settings: PorterSettings, key: NodeKey) -> Security | None:
    """What encrypted links need, read from the files that the settings name; None for clear text."""
    if not settings.is_encrypted:
        return None
    from protocol.secure import Security  # not before: it is 9 MB of ciphers

    security = Security(key, settings.env, machine.entropy, machine.time_ns)
    use_files(machine, settings, security.take)
    return security
