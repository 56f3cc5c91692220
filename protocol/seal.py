"""A seal: a tailer's signed statement of what it has written since its last one, chained to that.

    magic "BUS1" | length u32 | msgpack array | Ed25519 signature of all before, 64

    array: version, env, width, tailer, public key, host, number, previous, time ns, until, offset ns, crashes, closing,
           goodbye, [[epoch, bucket, class, late, numbers, events, raw, contents, given up, dropped, lost after,
                      read again, unread, since], ...]

One chain per tailer over all its epochs: `number` counts from 0, `previous` is the BLAKE3 of the seal before (zeros
for the first), so nobody can leave one out or put one in. Each section states what was *added* to one epoch, bucket
and class, so stragglers need no revision of what was said before; `contents` has 16 bytes of each packet's content
in the order of the numbers, so one lost packet spoils no other's proof. `until` says that everything before that
second is stated; what is silent after it is unknown, never complete.

A section has a class, so all counts are by class: what was sent, given up, dropped at the source, and not read. Where
something is missing, `since` is the first bucket that it may be of: the packet's own where the packet is known, else
a day before the seal before, because timely lines may be so old.

A `closing` seal ends a run in order: what was read until then is stated, and the host is still expected. A `goodbye`
is a closing seal that takes the tailer off the roster (roster.py): nobody waits for it any more. A later seal of the
same chain takes it back.

Whoever holds two different seals of one number, or one whose `previous` fits no seal, holds the proof that the key
was used twice: `chain` calls that a fork, and an audit says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from blake3 import blake3

from protocol import limits
from protocol.envelope import Envelope
from protocol.errors import PacketError, SealError
from protocol.identity import DIGEST_SIZE, NODE_SIZE, PUBLIC_SIZE, NodeKey, node_id
from protocol.packed import Buffer
from protocol.packet import Class
from protocol.ranges import Ranges
from protocol.schema import Blob, Flag, Group, Many, Number, SchemaError, Set, Text

CONTENT_SIZE: Final = 16  # bytes of a packet's content in a seal: enough that nobody finds another with the same
FIRST: Final = bytes(DIGEST_SIZE)  # `previous` of a chain's first seal
_I64: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Section:
    """What one seal adds to one epoch, bucket and class."""

    epoch: int
    bucket: int
    kind: Class
    late: bool
    numbers: Ranges
    events: int
    raw: int
    contents: bytes  # invariant: CONTENT_SIZE x numbers.count
    given_up: Ranges = field(default_factory=Ranges)  # numbers that will not be sent any more
    dropped: int = 0  # events that never became part of a packet (a full journal's UDP)
    lost_after: int | None = None  # this epoch ended by a crash: what came after that number (-1: all) is not known
    read_again: bool = False  # but all files that were open then were found again, so they give it once more
    unread: int = 0  # bytes of files that went before they were read
    since: int = 0  # the first bucket that what is given up, dropped, lost or unread may be of; 0 where nothing is


@dataclass(frozen=True, slots=True)
class Seal:
    """One statement. `data` is the signed form, where there is one."""

    env: str
    width: int
    tailer: bytes
    public: bytes
    host: bytes
    number: int
    previous: bytes
    time_ns: int
    until: int
    offset_ns: int
    crashes: int
    closing: bool
    sections: tuple[Section, ...]
    goodbye: bool = False  # only with closing
    data: bytes = field(default=b"", compare=False, repr=False)

    def signed(self, key: NodeKey) -> Seal:
        """The same with its signed form; SealError if a reader would refuse it."""
        names = (self.env, self.width, self.tailer, self.public, self.host)
        facts = (self.number, self.previous, self.time_ns, self.until, _unsigned(self.offset_ns), self.crashes)
        sections = [_section_row(section) for section in self.sections]
        return Seal.read(SEAL.sign(key, *names, *facts, self.closing, self.goodbye, sections))

    @classmethod
    def read(cls, data: Buffer) -> Seal:
        """The seal in `data`, its signature checked. SealError, or VersionError for one from a later version."""
        env, width, tailer, public, host, number, previous, time_ns, until, offset, *ends, rows = SEAL.open(data)
        try:
            sections = tuple([_read_section(row, width) for row in rows])
        except (SchemaError, PacketError) as error:
            raise SealError(f"not a seal: {error}") from error
        if node_id(public) != tailer:
            raise SealError("the key in the seal is not that of its tailer")
        if sum(section.numbers.count for section in sections) > limits.SEAL_PACKETS_MAX:
            raise SealError("the seal adds too many packets")
        crashes, closing, goodbye = ends
        if goodbye and not closing:
            raise SealError("a goodbye that closes nothing")
        facts = (env, width, tailer, public, host, number, previous, time_ns, until, _signed(offset))
        return cls(*facts, crashes, closing, sections, goodbye, bytes(data))

    @property
    def digest(self) -> bytes:
        """What the next seal names as `previous`: BLAKE3 of the signed form."""
        if not self.data:
            raise SealError("a seal has no digest before it is signed")
        return blake3(self.data).digest()


class Chain(NamedTuple):
    """What a tailer's seals are, put together."""

    ordered: tuple[Seal, ...]
    holes: Ranges  # numbers below the last that are not here
    forks: Ranges  # numbers of which two are here, or whose `previous` is not the seal before


def chain(seals: Iterable[Seal]) -> Chain:
    """Put the seals of one tailer in order. Equal ones count once; of a fork the one that the next names is taken."""
    choices: dict[int, dict[bytes, Seal]] = {}
    tailers = set()
    for seal in seals:
        choices.setdefault(seal.number, {})[seal.digest] = seal
        tailers.add(seal.tailer)
    if len(tailers) > 1:
        raise SealError("seals of several tailers make no chain")
    ordered: list[Seal] = []
    forks = Ranges()
    for number in sorted(choices, reverse=True):
        above = ordered[-1] if ordered and ordered[-1].number == number + 1 else None
        found = choices[number].get(above.previous) if above else None
        if len(choices[number]) > 1 or (above and found is None):
            forks.add(number, number + 1)
        seal = found or choices[number][min(choices[number])]
        if number == 0 and seal.previous != FIRST:
            forks.add(0, 1)
        ordered.append(seal)
    numbers = Ranges((number, number + 1) for number in sorted(choices))
    holes = numbers.holes(0, numbers.last + 1) if numbers else Ranges()
    return Chain(tuple(reversed(ordered)), holes, forks)


_SECTION: Final = Group(
    Number(64), Number(32), Number(8), Flag(), Set(), Number(64), Number(64),
    Blob(0, CONTENT_SIZE * limits.SEAL_PACKETS_MAX), Set(), Number(64), Number(64),
    Flag(), Number(64), Number(32),
)  # fmt: skip
_FIELDS: Final = Group(
    Number(8), Text(limits.ENV_MAX), Number(32, 1, limits.WIDTH_MAX_S), Blob(NODE_SIZE), Blob(PUBLIC_SIZE),
    Blob(0, limits.NAME_MAX), Number(64), Blob(DIGEST_SIZE), Number(64), Number(32), Number(64), Number(64), Flag(),
    Flag(), Many(_SECTION, limits.SEAL_SECTIONS_MAX),
)  # fmt: skip
SEAL: Final = Envelope(b"BUS1", "seal", limits.SEAL_VERSION, limits.SEAL_SIZE_MAX, _FIELDS, 4, SealError)
_NOT_LOST: Final = (1 << 64) - 1


def _section_row(section: Section) -> tuple[object, ...]:
    lost = _NOT_LOST if section.lost_after is None else section.lost_after + 1
    counts = (section.numbers, section.events, section.raw, section.contents, section.given_up, section.dropped, lost)
    ends = (section.read_again, section.unread, section.since)
    return (section.epoch, section.bucket, section.kind.code(), section.late, *counts, *ends)


def _read_section(row: tuple[Any, ...], width: int) -> Section:
    epoch, bucket, code, late, numbers, events, raw, contents, given_up, dropped, lost, *ends = row
    if len(contents) != CONTENT_SIZE * numbers.count:
        raise SchemaError(f"{len(contents)} bytes of contents for {numbers.count} packets")
    if bucket % width:
        raise SchemaError(f"no bucket of {width} s begins at {bucket}")
    after = None if lost == _NOT_LOST else lost - 1
    kind = Class.from_code(code)
    counts = (numbers, events, raw, contents, given_up, dropped)
    return Section(epoch, bucket, kind, late, *counts, after, *ends)


def _unsigned(value: int) -> int:
    if not -_I64 <= value < _I64:
        raise SealError(f"an offset of {value} ns")
    return value & (1 << 64) - 1


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= _I64 else value
