"""The roster: which tailers are expected, and the signed document that takes a node off it.

A tailer is on the roster from the day on which somebody first saw it, and stays there whether it speaks or not: only so
is silence told from nothing to say. Two things end an entry: its own goodbye seal, and a retirement, which an admin
signs for a host that is gone. Both are dated at the end of the node's last seal, and a later seal takes both back.

    magic "BUR1" | length u32 | msgpack array | Ed25519 signature of all before, 64

    array: version, env, node, role, host, public key of who signs, time ns, seals, until

`seals` is how many seals its chain had then (0: none was known; a buck has none), `until` the end of the last: the
window that begins there is the one in which the host fell silent, and stays unknown. A retired *buck* is no member any
more: nobody waits for its copies. Pure: who may sign, and where this is kept, is said elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from protocol import limits
from protocol.envelope import Envelope
from protocol.errors import RosterError
from protocol.identity import NODE_SIZE, PUBLIC_SIZE, NodeKey
from protocol.packed import Buffer
from protocol.schema import Blob, Group, Number, Text, Word
from protocol.seal import Seal

RETIRED_ROLES: Final = ("tailer", "buck")
EXPECTED, GOODBYE, RETIRED = "expected", "goodbye", "retired"


class Expected(NamedTuple):
    """A tailer that somebody has met, first at `since` (seconds)."""

    tailer: bytes
    host: bytes
    since: int


class Entry(NamedTuple):
    """One line of the roster: from `since` to `until`, both seconds; `until` 0: still expected."""

    tailer: bytes
    host: bytes
    since: int
    until: int
    state: str  # EXPECTED, GOODBYE or RETIRED
    seals: int  # that its chain must have: where fewer are found, the last ones are missing


@dataclass(frozen=True, slots=True)
class Retirement:
    """An admin's word that a node is gone for good. `data` is the signed form, where there is one."""

    env: str
    node: bytes
    role: str
    host: bytes
    public: bytes
    time_ns: int
    seals: int
    until: int
    data: bytes = field(default=b"", compare=False, repr=False)

    def signed(self, key: NodeKey) -> Retirement:
        """The same with its signed form; RosterError if a reader would refuse it."""
        facts = (self.env, self.node, self.role, self.host, self.public, self.time_ns, self.seals, self.until)
        return Retirement.read(RETIREMENT.sign(key, *facts))

    @classmethod
    def read(cls, data: Buffer) -> Retirement:
        """The retirement in `data`, its signature checked. RosterError, or VersionError for a later version."""
        return replace(cls(*RETIREMENT.open(data)), data=bytes(data))


def roster(
    chains: Mapping[bytes, Sequence[Seal]], expected: Iterable[Expected], retired: Iterable[Retirement]
) -> dict[bytes, Entry]:
    """Every tailer that anybody knows of. `chains` are its seals in order, as many of them as were found."""
    met: dict[bytes, Expected] = {}
    for tailer, seals in chains.items():
        if seals:
            met[tailer] = Expected(tailer, seals[-1].host, seals[0].time_ns // 10**9)
    for one in expected:
        known = met.get(one.tailer, one)
        met[one.tailer] = known._replace(since=min(known.since, one.since))
    ends: dict[bytes, Retirement] = {}
    for end in retired:
        if end.role == "tailer":
            known_end = ends.get(end.node, end)
            ends[end.node] = max(known_end, end, key=lambda one: (one.seals, one.time_ns))
            met.setdefault(end.node, Expected(end.node, end.host, end.until))
    return {tailer: _entry(one, chains.get(tailer, ()), ends.get(tailer)) for tailer, one in met.items()}


def _entry(met: Expected, seals: Sequence[Seal], end: Retirement | None) -> Entry:
    """What ends it, if anything does: the later of its own goodbye and the word of an admin."""
    last = seals[-1] if seals else None
    count = last.number + 1 if last else 0
    if end is not None and end.seals >= count and not (last and last.goodbye and end.seals == count):
        return Entry(*met, end.until, RETIRED, end.seals)
    if last is not None and last.goodbye:
        return Entry(*met, last.until, GOODBYE, count)
    return Entry(*met, 0, EXPECTED, count)


_FIELDS: Final = Group(
    Number(8), Text(limits.ENV_MAX), Blob(NODE_SIZE), Word("role", RETIRED_ROLES), Blob(0, limits.NAME_MAX),
    Blob(PUBLIC_SIZE), Number(64), Number(64), Number(32),
)  # fmt: skip
RETIREMENT: Final = Envelope(
    b"BUR1", "retirement", limits.ROSTER_VERSION, limits.RETIREMENT_SIZE_MAX, _FIELDS, 5, RosterError
)
