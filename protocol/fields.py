"""What messages are made of: the kinds of fields that several share, each a type with the check that bounds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple, TypeAlias

from protocol import limits
from protocol.identity import DIGEST_SIZE, NODE_SIZE, PUBLIC_SIZE, STREAM_SIZE
from protocol.ranges import Ranges
from protocol.schema import Blob, Bulk, Flag, Group, Many, Number, Set, Text

node, digest, stream = Blob(NODE_SIZE), Blob(DIGEST_SIZE), Blob(STREAM_SIZE)
host, path, u32, u64 = Blob(0, limits.NAME_MAX), Blob(0, limits.PATH_MAX), Number(32), Number(64)
held = Group(node, u64, Set())


class Peer(NamedTuple):
    """What bucks tell each other, and everybody else, of a buck. `free` is in bytes.

    `archived`: what it had of the time before that second is in the archive, and not here any more; 0: it has all.
    """

    node: bytes
    public: bytes
    address: str
    host: bytes
    zone: str
    heartbeat: int
    free: int
    draining: bool
    archived: int = 0


peer = Group(
    node, Blob(PUBLIC_SIZE), Text(limits.NAME_MAX), host, Text(limits.NAME_MAX), u64, u64, Flag(), u32, make=Peer
)

Ask: TypeAlias = Annotated[int, u32]
U32: TypeAlias = Annotated[int, u32]
U64: TypeAlias = Annotated[int, u64]
Yes: TypeAlias = Annotated[bool, Flag()]
Node: TypeAlias = Annotated[bytes, node]
NodeOrAll: TypeAlias = Annotated[bytes, Blob(0, NODE_SIZE)]
Host: TypeAlias = Annotated[bytes, host]
Path: TypeAlias = Annotated[bytes, path]
Numbers: TypeAlias = Annotated[Ranges, Set()]
PacketBytes: TypeAlias = Annotated[bytes | memoryview, Bulk(1, limits.PACKET_SIZE_MAX)]
SealBytes: TypeAlias = Annotated[bytes, Blob(1, limits.SEAL_SIZE_MAX)]
RetirementBytes: TypeAlias = Annotated[bytes, Blob(1, limits.RETIREMENT_SIZE_MAX)]
Held: TypeAlias = Annotated[tuple[tuple[bytes, int, Ranges], ...], Many(held, limits.ENTRIES_MAX)]
StatementBytes: TypeAlias = Annotated[bytes, Blob(1, limits.STATEMENT_SIZE_MAX)]
PeerList: TypeAlias = Annotated[tuple[Peer, ...], Many(peer, limits.PEERS_MAX)]


@dataclass(frozen=True, slots=True)
class Message:
    """What all messages have: a tag (u8) and the largest payload that anyone may announce."""

    tag: ClassVar[int] = 0
    size_max: ClassVar[int] = limits.SMALL_FRAME_MAX
