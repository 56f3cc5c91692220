"""What the archive holds: names of its objects, and the footer that each part carries.

    <env>/date=YYYY-MM-DD/HH.p<NN>.parquet     a part: rows, and a footer that says what they prove
    <env>/date=YYYY-MM-DD/HH.v<NN>.json        a verdict: how complete the hour is, as of which seals; the highest rules

Parts of an hour are numbered without gaps, and who writes part N has read the footers of all before it. So no packet
and no byte of a stream is in two parts, and a reader who globs `**/*.parquet` sees each event once. The footer (JSON,
packed, under `buck` in the file's metadata) carries what rows can't: packets' numbers, streams and their intervals
(those without events too), what was dropped as a duplicate, and the seals. The catalog is a cache of footers: it can
always be read again from the objects.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

from porter.objects import Objects
from protocol.errors import FormatError
from protocol.packet import Key
from protocol.ranges import Ranges

FOOTER_KEY = b"buck"
FOOTER_VERSION = 2  # another one whenever a member is added, goes, or means something else: readers know only theirs
FOOTER_MAX = 256 << 20  # unpacked; an hour of a hundred thousand streams is a tenth of it
HOUR_S = 3600
NAME = re.compile(
    r"(?P<env>[^/]+)/date=(?P<date>\d{4}-\d\d-\d\d)/(?P<hour>\d\d)\.(?P<kind>[pv])(?P<number>\d{2,6})\.(?:parquet|json)"
)


class PartName(NamedTuple):
    """Where a part or a verdict stands: `hour` in seconds since 1970, `number` counted from 0."""

    env: str
    hour: int
    kind: str  # p: part, v: verdict
    number: int

    @property
    def text(self) -> str:
        """The hour, as people read it."""
        return f"{datetime.fromtimestamp(self.hour, UTC):%Y-%m-%d %H}h"

    def __str__(self) -> str:
        ending = "parquet" if self.kind == "p" else "json"
        return f"{folder(self.env, self.hour)}/{hour_text(self.hour)}.{self.kind}{self.number:02d}.{ending}"


class Stretch(NamedTuple):
    """Rows `row` to `last` of row group `group`: bytes `first` to `end` of one stream, without a hole."""

    group: int
    row: int
    last: int
    first: int
    end: int
    epoch: int  # and number: the packet of the first row
    number: int
    run: int  # of that packet: streams lie in a packet in the order in which they were read


class StreamRow(NamedTuple):
    """One stream of a part, and where its rows are."""

    tailer: bytes
    stream: bytes
    host: bytes
    path: bytes
    head: bytes
    stretches: tuple[Stretch, ...]

    @property
    def covered(self) -> Ranges:
        """Which bytes of it have rows here."""
        return Ranges((stretch.first, stretch.end) for stretch in self.stretches)


class EmptyRow(NamedTuple):
    """A stream of a packet without events: an empty file."""

    stream: bytes
    path: bytes
    at: int


class PacketRow(NamedTuple):
    """One packet whose rows are in this part. `empty`: those of its streams that have no row."""

    key: Key
    host: bytes
    bucket: int
    late: bool
    kind: int  # the class, as its code
    events: int
    content: bytes
    empty: tuple[EmptyRow, ...] = ()


class DroppedRow(NamedTuple):
    """A piece of a packet that has no rows here, because the same bytes stand in other rows.

    `crc`: of the bytes; it says which rows, where a stream has two versions at these offsets.
    """

    key: Key
    stream: bytes
    path: bytes
    first: int
    end: int
    crc: int
    points: tuple[int, ...]


class GroupRow(NamedTuple):
    """One row group: how many rows, between which points (both included), and the digest of what they render to."""

    rows: int
    low: int
    high: int
    digest: bytes


@dataclass(slots=True)
class Footer:
    """What a part proves. Everything but `version` is as the writer knew it when it wrote."""

    env: str
    width: int
    hour: int
    groups: list[GroupRow] = field(default_factory=list)
    packets: list[PacketRow] = field(default_factory=list)
    streams: list[StreamRow] = field(default_factory=list)
    dropped: list[DroppedRow] = field(default_factory=list)
    seals: list[bytes] = field(default_factory=list)
    libraries: dict[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The bytes for the file's metadata."""
        document = {
            "version": FOOTER_VERSION,
            "env": self.env,
            "width": self.width,
            "hour": self.hour,
            "groups": [[group.rows, group.low, group.high, group.digest.hex()] for group in self.groups],
            "packets": [_packet_out(packet) for packet in self.packets],
            "streams": [[*map(_hex, stream[:5]), *stream.stretches] for stream in self.streams],
            "dropped": [_dropped_out(dropped) for dropped in self.dropped],
            "seals": [_text(seal) for seal in self.seals],
            "libraries": self.libraries,
        }
        return base64.b85encode(zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 9))

    @classmethod
    def decode(cls, data: bytes, name: str) -> Footer:
        """The footer of the object `name`. FormatError if it is none, or of a version that is not known here."""
        try:
            document = json.loads(_unpack(base64.b85decode(data)))
            version = document["version"]
            if version != FOOTER_VERSION:
                raise FormatError(
                    f"{name}: footer of version {version}, this porter reads {FOOTER_VERSION}: {_advice(version)}"
                )
            return cls(
                str(document["env"]),
                int(document["width"]),
                int(document["hour"]),
                [GroupRow(int(r), int(low), int(high), bytes.fromhex(d)) for r, low, high, d in document["groups"]],
                [_packet_in(row) for row in document["packets"]],
                [_stream_in(row) for row in document["streams"]],
                [_dropped_in(row) for row in document["dropped"]],
                [base64.b85decode(seal) for seal in document["seals"]],
                dict(document["libraries"]),
            )
        except (ValueError, KeyError, TypeError, IndexError, zlib.error) as error:
            raise FormatError(f"{name}: its footer can't be read ({error}); was the object changed?") from error


def folder(env: str, hour: int) -> str:
    """The day's folder."""
    return f"{env}/date={datetime.fromtimestamp(hour, UTC):%Y-%m-%d}"


def hour_text(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour, UTC):%H}"


def parse(name: str) -> PartName | None:
    """What an object's name says; None for objects that are not ours."""
    found = NAME.fullmatch(name)
    if not found:
        return None
    try:
        start = datetime.strptime(f"{found['date']} {found['hour']}", "%Y-%m-%d %H").replace(tzinfo=UTC)
    except ValueError:
        return None
    return PartName(found["env"], int(start.timestamp()), found["kind"], int(found["number"]))


def parts(objects: Objects, env: str, start: int = 0, end: int = 0) -> list[PartName]:
    """The parts of an env between two times (0: open), oldest hour first, in the order written."""
    return [name for name in _names(objects, f"{env}/", "p") if _within(name, start, end)]


def of_hour(objects: Objects, env: str, hour: int, kind: str = "p") -> list[PartName]:
    """Parts (or verdicts) of one hour, in the order written."""
    return _names(objects, f"{folder(env, hour)}/{hour_text(hour)}.{kind}", kind)


def covered(footers: Iterable[Footer]) -> set[Key]:
    """The packets that some part holds already."""
    return {packet.key for footer in footers for packet in footer.packets}


def _names(objects: Objects, prefix: str, kind: str) -> list[PartName]:
    found = (parse(info.name) for info in objects.list(prefix))
    return sorted(name for name in found if name and name.kind == kind)


def _within(name: PartName, start: int, end: int) -> bool:
    return (not end or name.hour < end) and (not start or name.hour + HOUR_S > start)


def _advice(version: object) -> str:
    later = isinstance(version, int) and version > FOOTER_VERSION
    return "update it" if later else "read it with the porter that wrote it"


def _hex(value: object) -> str:
    assert isinstance(value, bytes)
    return value.hex()


def _text(data: bytes) -> str:
    return base64.b85encode(data).decode()


def _key_out(key: Key) -> list[Any]:
    return [key.tailer.hex(), key.epoch, key.number]


def _key_in(tailer: str, epoch: int, number: int) -> Key:
    return Key(bytes.fromhex(tailer), int(epoch), int(number))


def _packet_out(packet: PacketRow) -> list[Any]:
    empty = [[one.stream.hex(), one.path.hex(), one.at] for one in packet.empty]
    return [
        *_key_out(packet.key),
        packet.host.hex(),
        packet.bucket,
        int(packet.late),
        packet.kind,
        packet.events,
        packet.content.hex(),
        empty,
    ]


def _packet_in(row: Sequence[Any]) -> PacketRow:
    tailer, epoch, number, host, bucket, late, kind, events, content, empty = row
    without = tuple(EmptyRow(bytes.fromhex(stream), bytes.fromhex(path), int(at)) for stream, path, at in empty)
    facts = int(bucket), bool(late), int(kind), int(events), bytes.fromhex(content)
    return PacketRow(_key_in(tailer, epoch, number), bytes.fromhex(host), *facts, without)


def _stream_in(row: Sequence[Any]) -> StreamRow:
    tailer, stream, host, path, head = (bytes.fromhex(value) for value in row[:5])
    stretches = tuple(Stretch(*map(int, stretch)) for stretch in row[5:])
    return StreamRow(tailer, stream, host, path, head, stretches)


def _dropped_out(row: DroppedRow) -> list[Any]:
    return [*_key_out(row.key), row.stream.hex(), row.path.hex(), row.first, row.end, row.crc, _steps(row.points)]


def _dropped_in(row: Sequence[Any]) -> DroppedRow:
    tailer, epoch, number, stream, path, first, end, crc, steps = row
    points, at = [], 0
    for step in steps:
        at += int(step)
        points.append(at)
    names = bytes.fromhex(stream), bytes.fromhex(path)
    return DroppedRow(_key_in(tailer, epoch, number), *names, int(first), int(end), int(crc), tuple(points))


def _steps(points: Sequence[int]) -> list[int]:
    return [point - before for before, point in pairwise((0, *points))]


def _unpack(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(data, FOOTER_MAX)
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ValueError("it is cut off, or larger than any footer")
    return text
