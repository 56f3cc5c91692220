"""Packets at hand: what was fetched, kept compressed while it fits into memory, and fetched again when it does not.

Jobs work in two steps: first all packets of a bucket (or of a file) come in, in any order, from any buck, and only
their headers are needed to know which bytes are there, where they overlap, and in which order they are wanted. Then
rows are taken in that order. In between packets stay here, compressed, ten times smaller than their text. When the
shelf is full the one that came last is not kept, and is fetched again when its turn comes: slower, never wrong.

Decoded rows are kept too, a few of them: a file's bytes go back and forth between the packets of neighbouring
buckets. Rows of a packet that can't be decoded are never guessed: `QuarantinedError`, and the packet's key is noted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple

from porter.cluster import Cluster
from porter.gather import Bad, Epoch, Harvest, Numbers, Survey, Want, everything, fetch
from porter.signed import Signed
from porter.source import Block, Piece, Span
from protocol.errors import FormatError
from protocol.identity import DIGEST_SIZE
from protocol.kernel import Rows
from protocol.packet import Header, Key, Packet, unpack
from protocol.ranges import Ranges

__all__ = ["Place", "QuarantinedError", "Shelf", "block_of", "spans_of"]

BLOCKS_SHARE = 4  # a quarter of the memory is for decoded rows ...
BLOCKS_MAX = 64 << 20  # ... but no more than this: a tailer has eight packets open, and old rows only spoil the caches
OVERHEAD = 1_000  # what a kept packet costs besides its bytes: its header, its entry


class QuarantinedError(Exception):
    """A packet that is there and can't be read; the job goes on without its rows, and says so."""


class Place(NamedTuple):
    """Which packet, and in which bucket; `copy` tells apart those in conflict about one key."""

    bucket: int
    key: Key
    copy: int


class Decoded(NamedTuple):
    """A packet's rows, and at which of them each of its runs begins."""

    block: Block
    rows: tuple[int, ...]


class Shelf:
    """The packets of the buckets that were put in with `fill`, until `clear`."""

    def __init__(self, cluster: Cluster, memory: int, signed: Signed | None = None) -> None:
        self._cluster = cluster
        self._signed = signed  # what tailers have stated: other bytes under their keys are not taken
        self._room = memory - memory // BLOCKS_SHARE
        self._used = 0
        self._packets: dict[Place, Packet] = {}
        self._rows = _Recent(min(memory // BLOCKS_SHARE, BLOCKS_MAX))
        self._surveys: dict[int, Survey] = {}
        self.headers: dict[Place, Header] = {}
        self.missing: dict[int, Numbers] = {}
        self.bad: list[Bad] = []
        self.quarantined: dict[Key, str] = {}

    async def fill(self, found: Survey, want: Want = everything) -> None:
        """Fetch a bucket's packets; what nobody could give goes to `missing`."""
        self._surveys[found.bucket] = found
        async with fetch(self._cluster, found, want, self._stated(found)) as harvest:
            async for packet in harvest:
                self._put(found, packet)
        self._note(harvest)

    def _stated(self, found: Survey) -> dict[Key, bytes]:
        """How the contents of a bucket's packets must begin."""
        return self._signed.of_bucket(found.bucket, found.union()) if self._signed else {}

    def _note(self, harvest: Harvest) -> None:
        self.bad += harvest.bad
        if harvest.missing:
            self.missing[harvest.bucket] = harvest.missing

    def _put(self, found: Survey, packet: Packet) -> None:
        place = Place(found.bucket, packet.header.key, 0)
        contested = place.key in found.conflicts
        while contested and place in self.headers:
            place = place._replace(copy=place.copy + 1)
        self.headers[place] = packet.header
        if contested or self._used < self._room:  # contested ones always: which of them comes is not ours to choose
            self._packets[place] = _own(packet)
            self._used += len(packet.data) + OVERHEAD

    def has(self, span: Span) -> bool:
        """Was its packet put in?"""
        return Place(span.bucket, span.key, span.copy) in self.headers

    def begins(self, span: Span) -> int:
        """The earliest point in its packet, which was put in."""
        return self.headers[Place(span.bucket, span.key, span.copy)].point_min

    def spans(self, low: int = 0, high: int = 1 << 64) -> Iterator[Span]:
        """All runs of all packets that were put in, but for packets with no event in low <= point < high."""
        for place, header in self.headers.items():
            if header.point_min < high and low <= header.point_max:
                yield from spans_of(header, place.copy)

    async def load(self, span: Span) -> Piece:
        """The rows of one run. QuarantinedError if its packet can't be had or read (any more)."""
        place = Place(span.bucket, span.key, span.copy)
        found = self._rows.get(place)
        if found is None:
            block = self._decode(await self._packet(place))
            rows = tuple(accumulate((run.count for run in self.headers[place].runs), initial=0))
            found = Decoded(block, rows)
            self._rows.put(place, found)
        return Piece(span, found.block, found.rows[span.index], found.rows[span.index] + span.count)

    async def _packet(self, place: Place) -> Packet:
        if place in self._packets:
            return self._packets[place]
        wanted = {Epoch(*place.key[:2]): Ranges([(place.key.number, place.key.number + 1)])}
        again: list[Packet] = []
        found = self._surveys[place.bucket]
        stated = {key: content for key, content in self._stated(found).items() if key == place.key}
        async with fetch(self._cluster, found, lambda e, n: n & wanted.get(e, Ranges()), stated) as harvest:
            async for packet in harvest:
                again.append(packet)
        self._note(harvest)
        if not again:
            self.quarantined[place.key] = "it was there, and nobody gives it any more"
            raise QuarantinedError(self.quarantined[place.key])
        return again[0]

    def _decode(self, packet: Packet) -> Block:
        try:
            return block_of(packet)
        except FormatError as error:
            self.quarantined[packet.header.key] = str(error)
            raise QuarantinedError(str(error)) from error

    def clear(self) -> None:
        """Forget all packets, not what was noted of them."""
        self._used = 0
        self._packets.clear()
        self._rows.clear()
        self._surveys.clear()
        self.headers.clear()


class _Recent:
    """Decoded packets, the last used ones, up to some bytes and always one."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._used = 0
        self._blocks: OrderedDict[Place, Decoded] = OrderedDict()

    def get(self, place: Place) -> Decoded | None:
        found = self._blocks.get(place)
        if found is not None:
            self._blocks.move_to_end(place)
        return found

    def put(self, place: Place, found: Decoded) -> None:
        self._blocks[place] = found
        self._used += found.block.size
        while self._used > self._room and len(self._blocks) > 1:
            _, old = self._blocks.popitem(last=False)
            self._used -= old.block.size

    def clear(self) -> None:
        self._blocks.clear()
        self._used = 0


def _own(packet: Packet) -> Packet:
    """The packet in memory of its own, out of the frame that it came in, which may be larger."""
    data = bytes(packet.data)
    end = len(data) - DIGEST_SIZE
    return replace(packet, data=data, body=memoryview(data)[end - len(packet.body) : end])


def block_of(packet: Packet) -> Block:
    """A packet's rows. FormatError if they aren't what its header says."""
    header = packet.header
    body = unpack(packet)
    names = header.formats, header.shn, header.app
    rows = Rows.decode(body, header.count, header.sizes, *names, header.runs)
    return Block(rows, header.shn, header.app, header.formats)


def spans_of(header: Header, copy: int = 0) -> Iterator[Span]:
    """The runs of a packet."""
    facts = header.tailer, header.epoch, header.number, header.bucket, header.late
    for index, run in enumerate(header.runs):
        stream = header.streams[run.stream]
        yield Span(header.host, stream.path, stream.id, *facts, index, run.first, run.end, run.count, run.start, copy)
