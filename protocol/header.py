"""A packet's header: who wrote it, what of, and how to read its body.

It is one msgpack array of 21 members. The first 16 are the envelope, which never changes, so that bucks of any
version can store packets of any other; what follows belongs to the body and is read only if `version` is known:

     0 version   1 env        2 bucket    3 width     4 tailer    5 host      6 epoch     7 number
     8 class     9 count     10 point_min             11 point_max - point_min            12 late
    13 streams [[id, path, head], ...]    14 runs [[stream, first, end - first, count, start - point_min], ...]
    15 content
    16 formats [[kind, head, tail, sep, mark, digits, extra, offset, zone, anchor], ...]
    17 shn [name, ...]       18 app [name, ...]       19 sizes, eight of them             20 () kept for columns to come

Numbers are kept as differences where that makes them short: an idle host's packets are mostly header. A reader
refuses whatever contradicts itself, for a header may come from a stolen key: every index, order and sum is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from protocol import limits
from protocol.errors import PacketError
from protocol.formats import Format
from protocol.identity import DIGEST_SIZE, HEAD_HASH_SIZE, NODE_SIZE, STREAM_SIZE
from protocol.packed import Buffer, PackedError, pack, unpack_array, unpack_first

ENVELOPE_SIZE: Final = 16
ARRAY_SIZE: Final = 21
COLUMNS: Final = 8
U64: Final = (1 << 64) - 1
U32: Final = (1 << 32) - 1


class Class(NamedTuple):
    """What is promised for a packet's events, as values and not as a name: rules may change, packets don't."""

    copies: int = 2
    sync: bool = False
    resend: bool = True

    def code(self) -> int:
        """The class as one small number."""
        if not 1 <= self.copies <= limits.COPIES_MAX:
            raise PacketError(f"{self.copies} copies: 1 to {limits.COPIES_MAX}")
        return self.copies - 1 | self.sync << 2 | self.resend << 3

    @property
    def label(self) -> str:
        """The class in a word, as metrics have it: `2+resend`, `3+sync+resend`, `1`."""
        return f"{self.copies}{'+sync' * self.sync}{'+resend' * self.resend}"

    @classmethod
    def from_code(cls, code: object) -> Class:
        """The class that `code` stands for; PacketError if it stands for none."""
        if type(code) is not int or not 0 <= code < 16 or code & 3 >= limits.COPIES_MAX:
            raise PacketError(f"no class has the code {code!r}")
        return _CLASSES[code]


_CLASSES: Final = [Class((code & 3) + 1, bool(code & 4), bool(code & 8)) for code in range(16)]


class StreamRef(NamedTuple):
    """One stream that a packet has events of. `head` is identity.head_hash of its beginning."""

    id: bytes
    path: bytes
    head: bytes


class Run(NamedTuple):
    """Consecutive rows that are consecutive in their stream: its offsets [first, end), `count` events.

    `start` is the point that the first row's point is a difference to.
    """

    stream: int
    first: int
    end: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs of a run
    start: int


class Key(NamedTuple):
    """What names a packet."""

    tailer: bytes
    epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class Header:
    """All that a packet says about itself. Numbers are u64, points at most POINT_MAX, bucket and width seconds."""

    env: str
    bucket: int
    width: int
    tailer: bytes
    host: bytes
    epoch: int
    number: int
    kind: Class
    count: int
    point_min: int
    point_max: int
    late: bool
    streams: tuple[StreamRef, ...]
    runs: tuple[Run, ...]
    content: bytes
    formats: tuple[Format, ...] = ()
    shn: tuple[bytes, ...] = ()
    app: tuple[bytes, ...] = ()
    sizes: tuple[int, ...] = (0,) * COLUMNS
    version: int = limits.PACKET_VERSION

    @property
    def key(self) -> Key:
        """(tailer, epoch, number)"""
        return Key(self.tailer, self.epoch, self.number)

    @property
    def raw(self) -> int:
        """Bytes of the sources (messages, for streams of messages) that this packet covers."""
        return sum([run[2] - run[1] for run in self.runs])

    @property
    def decodable(self) -> bool:
        """Is the body of a version that we can read?"""
        return self.version == limits.PACKET_VERSION

    def encode(self) -> bytes:
        """The header as bytes; PacketError if it contradicts itself, so that nobody writes what nobody reads."""
        _check(self)
        if not self.decodable:
            raise PacketError(f"version {self.version} can't be written here")
        low = self.point_min
        runs = [(stream, first, end - first, count, start - low) for stream, first, end, count, start in self.runs]
        envelope = (self.version, self.env, self.bucket, self.width, self.tailer, self.host, self.epoch, self.number)
        facts = (self.kind.code(), self.count, low, self.point_max - low, self.late, self.streams, runs, self.content)
        data = pack((*envelope, *facts, self.formats, self.shn, self.app, self.sizes, ()))
        if len(data) > limits.HEADER_MAX:
            raise PacketError(f"a header of {len(data)} bytes: at most {limits.HEADER_MAX}")
        return data

    @classmethod
    def decode(cls, data: Buffer) -> Header:
        """Read a header, checking all of it; PacketError if anything is wrong."""
        try:
            row = _unpack(data)
            if len(row) < ENVELOPE_SIZE:
                raise PacketError(f"a header of {len(row)} members")
            header = _from_row(row)
        except (PackedError, TypeError, ValueError) as error:  # a member of another shape than it must be
            raise PacketError(f"no header: {error}") from error
        _check(header)
        return header


def _unpack(data: Buffer) -> tuple[Any, ...]:
    """The header's members; of a later version the envelope alone, if what follows it is nothing that we know."""
    try:
        return unpack_array(data)
    except PackedError:
        row = unpack_first(data, ENVELOPE_SIZE)
        if row[0] == limits.PACKET_VERSION:
            raise
        return row


def _from_row(row: tuple[Any, ...]) -> Header:
    """The header in a row, its types checked; what the values may be is for _check."""
    known = row[0] == limits.PACKET_VERSION
    if [type(value) for value in (row if known else row[:ENVELOPE_SIZE])] != (_TYPES if known else _ENVELOPE_TYPES):
        raise PacketError("a header with another number of members, or one of the wrong type")
    version, *names, code, count, low, spread, late, streams, runs, content = row[:ENVELOPE_SIZE]
    refs = tuple([StreamRef(*item) for item in _shaped(streams, _STREAM_TYPES)])
    spans = tuple([Run(r[0], r[1], r[1] + r[2], r[3], r[4] + low) for r in _shaped(runs, _RUN_TYPES)])
    values: tuple[Any, ...] = (*names, Class.from_code(code), count, low, low + spread, late, refs, spans, content)
    values += (*(_body(*row[ENVELOPE_SIZE:]) if known else _NO_BODY), version)
    return Header(*values)


def _body(formats: Any, shn: Any, app: Any, sizes: Any, rest: Any) -> tuple[Any, ...]:
    if rest or set(map(type, shn + app)) - {bytes} or set(map(type, sizes)) - {int}:
        raise PacketError("dictionaries or sizes of the wrong type")
    table = tuple([Format(*item) for item in _shaped(formats, _FORMAT_TYPES)])
    return table, shn, app, sizes


_NO_BODY: Final = ((), (), (), (0,) * COLUMNS)
_STREAM_TYPES: Final[list[type]] = [bytes] * 3
_RUN_TYPES: Final[list[type]] = [int] * 5
_FORMAT_TYPES: Final[list[type]] = [int] * 8 + [bytes] * 2
_ENVELOPE_TYPES: Final = [int, str, int, int, bytes, bytes, *[int] * 6, bool, tuple, tuple, bytes]
_TYPES: Final = [*_ENVELOPE_TYPES, *[tuple] * 5]


def _shaped(rows: tuple[Any, ...], types: list[type]) -> tuple[Any, ...]:
    """The same rows, each of which has members of just these types."""
    for row in rows:
        if type(row) is not tuple or [type(value) for value in row] != types:
            raise PacketError(f"a list whose members are not rows of {len(types)}, or of the wrong types")
    return rows


def _check(header: Header) -> None:
    """Everything that can be said of a header without its body, on the way out as on the way in."""
    _check_envelope(header)
    _check_streams(header.streams)
    _check_runs(header)
    sizes = header.sizes
    if len(sizes) != COLUMNS or min(sizes) < 0 or sum(sizes) > limits.PACKET_BODY_MAX:
        raise PacketError("column sizes out of bounds")
    if len(header.formats) > limits.FORMATS_MAX:
        raise PacketError(f"{len(header.formats)} formats: at most {limits.FORMATS_MAX}")
    for names in (header.shn, header.app):
        if len(names) > limits.DICTIONARY_MAX or max(map(len, names), default=0) > limits.NAME_MAX:
            raise PacketError("a dictionary with too many names, or too long ones")


def _check_envelope(header: Header) -> None:
    env, width, bucket, low, high = header.env, header.width, header.bucket, header.point_min, header.point_max
    if not 1 <= header.version <= U32:
        raise PacketError(f"no version is {header.version}")
    if not 1 <= len(env.encode()) <= limits.ENV_MAX or not len(header.host) <= limits.NAME_MAX:
        raise PacketError("env or host too long, or no env")
    if not 1 <= width <= limits.WIDTH_MAX_S or bucket % width or not 0 <= bucket <= U32:
        raise PacketError(f"no bucket of {width} s begins at {bucket}")
    if len(header.tailer) != NODE_SIZE or len(header.content) != DIGEST_SIZE:
        raise PacketError("tailer or content of the wrong length")
    if not (0 <= header.epoch <= U64 and 0 <= header.number <= U64 and 0 <= low <= high <= limits.POINT_MAX):
        raise PacketError("epoch, number or points out of bounds")
    if not 0 <= header.count <= limits.PACKET_EVENTS_MAX:
        raise PacketError(f"{header.count} events: at most {limits.PACKET_EVENTS_MAX}")
    first, end = bucket * limits.POINT_HZ, (bucket + width) * limits.POINT_HZ
    if header.count and not header.late and not first <= low <= high < end:
        raise PacketError("points outside the bucket, and not flagged late")


def _check_streams(streams: tuple[StreamRef, ...]) -> None:
    if len(streams) > limits.PACKET_STREAMS_MAX:
        raise PacketError(f"{len(streams)} streams: at most {limits.PACKET_STREAMS_MAX}")
    for stream, path, head in streams:
        if len(stream) != STREAM_SIZE or len(path) > limits.PATH_MAX or len(head) != HEAD_HASH_SIZE:
            raise PacketError("a stream's id, path or head of the wrong length")
    if len({stream[0] for stream in streams}) != len(streams):
        raise PacketError("a stream is listed twice")


def _check_runs(header: Header) -> None:
    events = raw = 0
    streams = len(header.streams)
    for stream, first, end, count, start in header.runs:
        if not (0 <= stream < streams and 0 <= first <= end <= U64 and 0 <= start <= limits.POINT_MAX):
            raise PacketError("a run out of bounds")
        if not 0 <= count <= end - first:  # an event has at least its line end, or is one message
            raise PacketError("a run with more events than bytes")
        events += count
        raw += end - first
    if events != header.count:
        raise PacketError(f"runs hold {events} events, the packet {header.count}")
    if len(header.runs) > limits.PACKET_RUNS_MAX or raw > limits.PACKET_RAW_MAX:
        raise PacketError("too many runs, or too long ones")
