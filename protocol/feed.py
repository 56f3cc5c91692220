"""The messages of the live feed: who watches, what is shown, what was missed. Part of messages.py, which has the rest.

A watcher asks **Live** once; rows of young packets come until the link ends. The events of one run of a packet, as far
as they match, are one or several LiveRows, each with the stretch of the stream that it speaks for: whoever hears of a
stretch from two bucks shows it once. **Watch** is how tailers hear at once that somebody watches, or nobody any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from protocol import fields as f
from protocol import limits
from protocol.event import EVENT_SIZE_MAX
from protocol.fields import Message
from protocol.schema import Blob, Many, Text


@dataclass(frozen=True, slots=True)
class Live(Message):
    """Show me young events that match this query, as they come, until the link ends. Missed(0) says: from now on."""

    tag: ClassVar[int] = 48
    size_max: ClassVar[int] = limits.SMALL_FRAME_MAX
    ask: f.Ask
    query: Annotated[str, Text(limits.QUERY_MAX)]


@dataclass(frozen=True, slots=True)
class LiveRows(Message):
    """All matches in [first, end) of a stream: what each is beyond `first`, and its Event v1."""

    tag: ClassVar[int] = 49
    size_max: ClassVar[int] = limits.LIVE_FRAME_MAX
    ask: f.Ask
    tailer: f.Node
    host: f.Host
    path: f.Path
    stream: Annotated[bytes, f.stream]
    first: f.U64
    end: f.U64
    offsets: Annotated[tuple[int, ...], Many(f.u32, limits.LIVE_ROWS_MAX)]
    rows: Annotated[tuple[bytes, ...], Many(Blob(1, EVENT_SIZE_MAX), limits.LIVE_ROWS_MAX)]


@dataclass(frozen=True, slots=True)
class Missed(Message):
    """At most so many events were not shown since the last of these: you are slow, or this buck is. The first has 0."""

    tag: ClassVar[int] = 54
    ask: f.Ask
    events: f.U64


@dataclass(frozen=True, slots=True)
class Watch(Message):
    """Does anybody watch? Answered, with Ok, once that is other than `live`."""

    tag: ClassVar[int] = 55
    ask: f.Ask
    live: f.Yes
