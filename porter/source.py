"""Rows, wherever they come from: the words that buckets on bucks and the archive share.

`cat`, `grep` and `audit` give the same answer over bucks (`gather.py`) and over the archive, because both speak of

    Span    one run of one stream, as listed: which bytes of which source, in which packet       (no rows yet)
    Block   decoded rows, and the names that their columns point to                            (one packet's body)
    Piece   a span and where its rows are in a block: what is left of the span after merging
    Dropped what merging took away from a packet, because other rows have the same bytes at the same offsets
    Clash   a piece with other bytes than another at the same offsets: shown too, and counted

An event's identity is (tailer, stream, offset). A stream's offsets count bytes, or messages where its kind says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from protocol.formats import Format
from protocol.identity import STREAM_BYTES
from protocol.kernel import Rows
from protocol.packet import Key
from protocol.ranges import Ranges

__all__ = ["Block", "Clash", "Dropped", "Origin", "Piece", "Scope", "Source", "Span", "StreamKey"]


class StreamKey(NamedTuple):
    """One generation of one source, as one tailer read it: what offsets are counted in."""

    tailer: bytes
    stream: bytes


class Origin(NamedTuple):
    """Where a span came from; parts that it was cut into share it."""

    tailer: bytes
    epoch: int
    number: int
    copy: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


class Span(NamedTuple):
    """One run. Empty files have one without bytes (first == end) and without events."""

    host: bytes
    path: bytes
    stream: bytes
    tailer: bytes
    epoch: int
    number: int
    bucket: int
    late: bool
    index: int  # type: ignore[assignment]  # which run of its packet; in the archive, which rows of its part
    first: int
    end: int
    count: int  # type: ignore[assignment]  # these two hide methods of tuple, which nobody needs here
    point: int  # where the run's time begins
    copy: int = 0  # tells apart packets that are in conflict about one key

    @property
    def key(self) -> Key:
        """The packet it came in."""
        return Key(self.tailer, self.epoch, self.number)

    @property
    def source(self) -> StreamKey:
        """What its offsets are counted in."""
        return StreamKey(self.tailer, self.stream)

    @property
    def origin(self) -> Origin:
        """Its run, however it is cut."""
        return Origin(self.tailer, self.epoch, self.number, self.copy, self.index)

    @property
    def counts_bytes(self) -> bool:
        """Are its offsets places in a byte stream? Otherwise they number messages."""
        return bool(self.stream[0] & STREAM_BYTES)

    @property
    def rank(self) -> tuple[int, bytes, int, int, int, int]:
        """Of two spans with the same bytes the one with the lower rank stays: what was filed first."""
        return (self.bucket, self.tailer, self.epoch, self.number, self.copy, self.index)


@dataclass(frozen=True, slots=True)
class Block:
    """Decoded rows, and what their columns `shn`, `app` and `format` point to."""

    rows: Rows
    shn: Sequence[bytes]
    app: Sequence[bytes]
    formats: Sequence[Format]

    @property
    def size(self) -> int:
        """Roughly the bytes of memory that it takes: the text, and eight columns a row."""
        return self.rows.raw + 40 * self.rows.count


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `row` to `last` of a block; `span` says whose bytes they are, `first`, `end` and `count` as cut."""

    span: Span
    block: Block
    row: int
    last: int

    def render(self) -> bytes:
        """The source's bytes."""
        return self.block.rows.render(self.row, self.last)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A part of a packet that has no rows of its own; `points` are those of the events that are wholly inside it."""

    span: Span
    first: int
    end: int
    points: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Clash:
    """A piece whose bytes differ from what was filed first at the same offsets."""

    piece: Piece
    first: int
    end: int


def everything(_host: bytes, _path: bytes) -> bool:
    """The `Scope.admits` that admits all."""
    return True


class Scope(NamedTuple):
    """What a scan may leave out: a source may return more, never less. Times are seconds; 0 is open."""

    start: int = 0
    end: int = 0
    hosts: Collection[bytes] = ()  # exact names; () is any
    paths: Collection[bytes] = ()
    admits: Callable[[bytes, bytes], bool] = everything  # (host, path), where names are known by pattern only


class Source(Protocol):
    """Where rows can be had: the bucks, or the archive."""

    async def spans(self, host: bytes, path: bytes) -> Sequence[Span]:
        """All runs of all streams that were read under this host and path, in any order, duplicates included."""

    async def load(self, span: Span) -> Piece:
        """The rows of a span that `spans` or `scan` named. Blocks may be shared between pieces, and are cached."""

    def scan(self, scope: Scope) -> AbstractAsyncContextManager[AsyncIterator[tuple[int, Sequence[Piece]]]]:
        """(bucket, pieces of one block) after another, merged: each event once, conflicts too. Buckets in order."""

    async def names(self) -> Iterable[tuple[bytes, bytes]]:
        """Every (host, path) that it has something of."""

    async def covers(self) -> Mapping[tuple[bytes, int], Ranges]:
        """(tailer, epoch) -> the packet numbers that it has whole: another source need not be read for these."""
