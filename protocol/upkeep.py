"""The messages with which a cluster's copies are looked after: let go of what is archived, fetch what is lacking.

`Archived` is the only question after which a buck deletes packets, and it does so only if a porter's signature names
every one of them (statement.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from protocol import fields as f
from protocol import limits
from protocol.fields import Message
from protocol.schema import Text


@dataclass(frozen=True, slots=True)
class Archived(Message):
    """A porter signs that packets of a bucket are in the archive: let go of the bucket files of which it names all."""

    tag: ClassVar[int] = 50
    size_max: ClassVar[int] = limits.STATEMENT_SIZE_MAX + 64
    ask: f.Ask
    statement: f.StatementBytes


@dataclass(frozen=True, slots=True)
class Pruned(Message):
    """What became of it: bucket files let go of, their packets and bytes; files that were kept, and why."""

    tag: ClassVar[int] = 56
    ask: f.Ask
    parts: f.U32
    packets: f.U64
    bytes: f.U64
    kept: f.U32
    why: Annotated[str, Text(limits.TEXT_MAX)]


@dataclass(frozen=True, slots=True)
class Pull(Message):
    """Fetch these packets of one bucket from that buck, and keep them. Done, once they are fsynced, says which not."""

    tag: ClassVar[int] = 51
    size_max: ClassVar[int] = limits.LIST_FRAME_MAX
    ask: f.Ask
    bucket: f.U32
    source: f.Node
    keys: f.Held


@dataclass(frozen=True, slots=True)
class Settle(Message):
    """What is stated of this bucket was compared with what all bucks hold: vouch for it again."""

    tag: ClassVar[int] = 53
    ask: f.Ask
    bucket: f.U32
