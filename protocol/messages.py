"""Every message of the wire: one frozen class each, its tag, its fields and how long its frame may be.

A payload is one msgpack array of the fields in the order given here; there are no names on the wire, and no optional
fields: a field more is another version. Questions carry `ask`, a number that the asker chose; each answer carries the
same. Which answers fit which question, and who may ask what, says conversation.py; how it becomes bytes, payload.py.
docs/WIRE.md has it all as a table, and a test holds it to this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, TypeAlias

from protocol import fields as f
from protocol import limits
from protocol.feed import Live as Live
from protocol.feed import LiveRows as LiveRows
from protocol.feed import Missed as Missed
from protocol.feed import Watch as Watch
from protocol.fields import Message as Message
from protocol.fields import Peer as Peer
from protocol.identity import HEAD_HASH_SIZE, PUBLIC_SIZE, node_id
from protocol.levels import Level
from protocol.packet import Key
from protocol.ranges import Ranges
from protocol.roster import Expected
from protocol.schema import Blob, Flag, Group, Many, Number, Set, Text, Word
from protocol.upkeep import Archived as Archived
from protocol.upkeep import Pruned as Pruned
from protocol.upkeep import Pull as Pull
from protocol.upkeep import Settle as Settle

ROLES: Final = ("tailer", "buck", "porter", "archie", "admin")
REASONS: Final = (
    "full", "env", "width", "version", "size", "sum", "role", "slow", "draining", "unknown", "security",
    "query",
)  # fmt: skip
STORED: Final = Level.A1  # of Ok: written to the page cache, which counts for A1 ...
SYNCED: Final = Level.A2  # ... and fsynced, which counts for A2


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """The first message each way: who I am. Sent in clear where security is none, else after the handshake."""

    tag: ClassVar[int] = 1
    role: Annotated[str, Word("role", ROLES)]
    public: Annotated[bytes, Blob(PUBLIC_SIZE)]
    env: Annotated[str, Text(limits.ENV_MAX)]
    width: Annotated[int, Number(32, 0, limits.WIDTH_MAX_S)]  # 0: not known yet
    host: f.Host
    versions: Annotated[tuple[int, int], Group(f.u32, f.u32)]  # lowest and highest packet version that I can read
    address: Annotated[str, Text(limits.NAME_MAX)]  # where a buck can be reached, HOST:PORT; else empty
    time_ns: f.U64

    @property
    def node(self) -> bytes:
        """The node id of who says this."""
        return node_id(self.public)


@dataclass(frozen=True, slots=True)
class No(Message):
    """A refusal of one question; with ask 0, before Hello, of the whole link."""

    tag: ClassVar[int] = 2
    ask: f.Ask
    reason: Annotated[str, Word("reason", REASONS)]
    text: Annotated[str, Text(limits.TEXT_MAX)]


@dataclass(frozen=True, slots=True)
class Ok(Message):
    """Done, as durably as `level` says. `live`: somebody watches, so send young packets early."""

    tag: ClassVar[int] = 3
    ask: f.Ask
    level: Annotated[int, Number(8, STORED, SYNCED)]
    live: f.Yes


@dataclass(frozen=True, slots=True)
class Done(Message):
    """The end of an answer in parts. `missing`: what was asked for and is not here."""

    tag: ClassVar[int] = 4
    size_max: ClassVar[int] = limits.LIST_FRAME_MAX
    ask: f.Ask
    missing: f.Held


@dataclass(frozen=True, slots=True)
class Put(Message):
    """Keep this packet. `age_ms`: since it was opened; `again`: not for viewers (third copy, mend, re-read)."""

    tag: ClassVar[int] = 16
    size_max: ClassVar[int] = limits.PACKET_SIZE_MAX + 64
    ask: f.Ask
    age_ms: f.U32
    again: f.Yes
    packet: f.PacketBytes


@dataclass(frozen=True, slots=True)
class SealPut(Message):
    """Keep this seal; Ok comes once it is fsynced."""

    tag: ClassVar[int] = 17
    size_max: ClassVar[int] = limits.SEAL_SIZE_MAX + 64
    ask: f.Ask
    seal: f.SealBytes


@dataclass(frozen=True, slots=True)
class Have(Message):
    """Which packets of this tailer, epoch and bucket are here? `sync`: fsync them first."""

    tag: ClassVar[int] = 18
    ask: f.Ask
    tailer: f.Node
    epoch: f.U64
    bucket: f.U32
    sync: f.Yes


@dataclass(frozen=True, slots=True)
class Receipt(Message):
    """The numbers held, and those of them that are fsynced. `unsure`: more may be here, but I can't vouch for it."""

    tag: ClassVar[int] = 19
    size_max: ClassVar[int] = limits.LIST_FRAME_MAX
    ask: f.Ask
    held: f.Numbers
    synced: f.Numbers
    unsure: f.Yes


@dataclass(frozen=True, slots=True)
class Covered(Message):
    """How far are this tailer's streams covered, asked for by id or by the hash of their heads? None: only epochs."""

    tag: ClassVar[int] = 20
    size_max: ClassVar[int] = limits.MEDIUM_FRAME_MAX
    ask: f.Ask
    tailer: f.Node
    streams: Annotated[tuple[bytes, ...], Many(f.stream, limits.COVERED_STREAMS_MAX)]
    heads: Annotated[tuple[bytes, ...], Many(Blob(HEAD_HASH_SIZE), limits.COVERED_STREAMS_MAX)]


@dataclass(frozen=True, slots=True)
class Intervals(Message):
    """What is here of a tailer: (epoch, numbers); (stream, path, head, offsets); (epoch, number, content)."""

    tag: ClassVar[int] = 21
    size_max: ClassVar[int] = limits.FRAME_SIZE_MAX
    ask: f.Ask
    epochs: Annotated[tuple[tuple[int, Ranges], ...], Many(Group(f.u64, Set()), limits.ENTRIES_MAX)]
    streams: Annotated[
        tuple[tuple[bytes, bytes, bytes, Ranges], ...],
        Many(Group(f.stream, f.path, Blob(HEAD_HASH_SIZE), Set()), limits.ENTRIES_MAX),
    ]
    contents: Annotated[tuple[tuple[int, int, bytes], ...], Many(Group(f.u64, f.u64, f.digest), limits.ENTRIES_MAX)]
    unsure: f.Yes


@dataclass(frozen=True, slots=True)
class Peers(Message):
    """Which bucks are there, and how wide is a bucket?"""

    tag: ClassVar[int] = 22
    ask: f.Ask


@dataclass(frozen=True, slots=True)
class View(Message):
    """The bucks that I know of, me among them."""

    tag: ClassVar[int] = 23
    size_max: ClassVar[int] = limits.PEERS_FRAME_MAX
    ask: f.Ask
    width: Annotated[int, Number(32, 1, limits.WIDTH_MAX_S)]
    peers: f.PeerList


@dataclass(frozen=True, slots=True)
class Gossip(Message):
    """Between bucks: here is my view, give me yours."""

    tag: ClassVar[int] = 24
    size_max: ClassVar[int] = limits.PEERS_FRAME_MAX
    ask: f.Ask
    peers: f.PeerList


@dataclass(frozen=True, slots=True)
class Clock(Message):
    """What time is it? Also how an idle link shows that both ends live."""

    tag: ClassVar[int] = 25
    ask: f.Ask


@dataclass(frozen=True, slots=True)
class ClockIs(Message):
    """The wall clock's nanoseconds."""

    tag: ClassVar[int] = 26
    ask: f.Ask
    time_ns: f.U64


@dataclass(frozen=True, slots=True)
class RetirePut(Message):
    """Keep this retirement of a node, and spread it; Ok comes once it is fsynced."""

    tag: ClassVar[int] = 27
    ask: f.Ask
    retirement: f.RetirementBytes


@dataclass(frozen=True, slots=True)
class Buckets(Message):
    """Which buckets in [start, end) are here? The first BUCKETS_MAX: who gets so many asks again, from there on."""

    tag: ClassVar[int] = 32
    ask: f.Ask
    start: f.U32
    end: f.U32


@dataclass(frozen=True, slots=True)
class BucketsAre(Message):
    """(bucket, bytes, packets, last arrival in ns, unsure, archived: some was here and is in the archive) each."""

    tag: ClassVar[int] = 33
    size_max: ClassVar[int] = limits.LIST_FRAME_MAX
    ask: f.Ask
    buckets: Annotated[
        tuple[tuple[int, int, int, int, bool, bool], ...],
        Many(Group(f.u32, f.u64, f.u64, f.u64, Flag(), Flag()), limits.BUCKETS_MAX),
    ]


@dataclass(frozen=True, slots=True)
class List(Message):
    """Which packets of a bucket are here; where host or path are not empty: with a stream of theirs."""

    tag: ClassVar[int] = 34
    ask: f.Ask
    bucket: f.U32
    host: f.Host = b""
    path: f.Path = b""


@dataclass(frozen=True, slots=True)
class Listing(Message):
    """(tailer, epoch, numbers) each. `conflicts`: keys under which two different packets are here.

    `archived`: packets that were here, and were let go of because a porter has stated that they are in the archive.
    """

    tag: ClassVar[int] = 35
    size_max: ClassVar[int] = 2 * limits.LIST_FRAME_MAX
    ask: f.Ask
    bucket: f.U32
    entries: f.Held
    unsure: f.Yes
    conflicts: Annotated[tuple[Key, ...], Many(Group(f.node, f.u64, f.u64, make=Key), limits.ENTRIES_MAX)]
    archived: f.Held = ()


@dataclass(frozen=True, slots=True)
class Get(Message):
    """Send these packets of one bucket, in the order that suits you."""

    tag: ClassVar[int] = 36
    size_max: ClassVar[int] = limits.LIST_FRAME_MAX
    ask: f.Ask
    bucket: f.U32
    keys: f.Held


@dataclass(frozen=True, slots=True)
class PacketIs(Message):
    """One packet of those asked for; Done ends them."""

    tag: ClassVar[int] = 37
    size_max: ClassVar[int] = limits.PACKET_SIZE_MAX + 64
    ask: f.Ask
    packet: f.PacketBytes


@dataclass(frozen=True, slots=True)
class Seals(Message):
    """The seals of one tailer (of all, if empty) whose number in the chain is at least `since`."""

    tag: ClassVar[int] = 38
    ask: f.Ask
    tailer: f.NodeOrAll
    since: f.U64


@dataclass(frozen=True, slots=True)
class SealsAre(Message):
    """Some of the seals asked for, together at most LIST_FRAME_MAX unless it is one alone; Done ends them."""

    tag: ClassVar[int] = 39
    size_max: ClassVar[int] = 2 * limits.LIST_FRAME_MAX
    ask: f.Ask
    seals: Annotated[tuple[bytes, ...], Many(Blob(1, limits.SEAL_SIZE_MAX), limits.ENTRIES_MAX)]


@dataclass(frozen=True, slots=True)
class Streams(Message):
    """Which streams have events in this bucket?"""

    tag: ClassVar[int] = 40
    ask: f.Ask
    bucket: f.U32


@dataclass(frozen=True, slots=True)
class StreamsAre(Message):
    """Some of them, (host, path, stream, tailer, offsets) each, one with many offsets in several; Done ends them."""

    tag: ClassVar[int] = 41
    size_max: ClassVar[int] = limits.LIST_FRAME_MAX
    ask: f.Ask
    streams: Annotated[
        tuple[tuple[bytes, bytes, bytes, bytes, Ranges], ...],
        Many(Group(f.host, f.path, f.stream, f.node, Set()), limits.ENTRIES_MAX),
    ]


@dataclass(frozen=True, slots=True)
class Roster(Message):
    """Which nodes are retired, and, if `expected`, which tailers did anybody ever meet?"""

    tag: ClassVar[int] = 42
    ask: f.Ask
    expected: f.Yes


@dataclass(frozen=True, slots=True)
class RosterIs(Message):
    """(tailer, host, first seen) each, and the signed retirements."""

    tag: ClassVar[int] = 43
    size_max: ClassVar[int] = limits.FRAME_SIZE_MAX
    ask: f.Ask
    expected: Annotated[tuple[Expected, ...], Many(Group(f.node, f.host, f.u32, make=Expected), limits.ROSTER_MAX)]
    retired: Annotated[tuple[bytes, ...], Many(Blob(1, limits.RETIREMENT_SIZE_MAX), limits.RETIRED_MAX)]


Question: TypeAlias = (
    Put | SealPut | Have | Covered | Peers | Gossip | Clock | RetirePut | Buckets | List | Get | Seals | Streams
    | Roster | Archived | Pull | Settle | Live | Watch
)  # fmt: skip
Answer: TypeAlias = (
    Ok | No | Done | Receipt | Intervals | View | ClockIs | BucketsAre | Listing | PacketIs | SealsAre | StreamsAre
    | RosterIs | Pruned | LiveRows | Missed
)  # fmt: skip

MESSAGES: Final[dict[int, type[Message]]] = {
    kind.tag: kind
    for kind in (
        Hello, No, Ok, Done, Put, SealPut, Have, Receipt, Covered, Intervals, Peers, View, Gossip, Clock, ClockIs,
        RetirePut, Buckets, BucketsAre, List, Listing, Get, PacketIs, Seals, SealsAre, Streams, StreamsAre,
        Roster, RosterIs, Live, LiveRows, Archived, Pull, Settle, Missed, Pruned, Watch,
    )
}  # fmt: skip
RESERVED: Final = {52: "handshake"}
