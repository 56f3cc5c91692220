"""Who may ask what, and which answers fit which question: the tables behind every conversation.

The side that dials asks, the side that listens (always a buck) answers. A question that is not in MAY_ASK for the
asker's role, or an answer that is not in ANSWERS for its question, ends the link: it is a bug or an attack.
"""

from __future__ import annotations

from typing import Final

from protocol.messages import (
    Archived,
    Buckets,
    BucketsAre,
    Clock,
    ClockIs,
    Covered,
    Done,
    Get,
    Gossip,
    Have,
    Intervals,
    List,
    Listing,
    Live,
    LiveRows,
    Message,
    Missed,
    No,
    Ok,
    PacketIs,
    Peers,
    Pruned,
    Pull,
    Put,
    Receipt,
    RetirePut,
    Roster,
    RosterIs,
    SealPut,
    Seals,
    SealsAre,
    Settle,
    Streams,
    StreamsAre,
    View,
    Watch,
)  # fmt: skip

ANSWERS: Final[dict[type[Message], tuple[type[Message], ...]]] = {
    Put: (Ok, No),
    SealPut: (Ok, No),
    Have: (Receipt, No),
    Covered: (Intervals, No),
    Peers: (View, No),
    Gossip: (View, No),
    Clock: (ClockIs, No),
    RetirePut: (Ok, No),
    Buckets: (BucketsAre, No),
    List: (Listing, No),
    Get: (PacketIs, Done, No),
    Seals: (SealsAre, Done, No),
    Streams: (StreamsAre, Done, No),
    Roster: (RosterIs, No),
    Archived: (Pruned, No),
    Pull: (Done, No),
    Settle: (Ok, No),
    Live: (LiveRows, Missed, Done, No),
    Watch: (Ok, No),
}
PARTS: Final = (PacketIs, SealsAre, StreamsAre, LiveRows, Missed)  # answers of which several come, until Done or No

_READ: Final = frozenset({Peers, Clock, Buckets, List, Get, Seals, Streams, Have, Covered, Roster})
MAY_ASK: Final[dict[str, frozenset[type[Message]]]] = {
    "tailer": frozenset({Put, SealPut, Have, Covered, Peers, Clock, List, Get, Seals, Roster, Watch}),
    "buck": _READ | {Gossip, Pull},
    "porter": _READ | {Archived, Pull, Settle, Live},
    "archie": frozenset({Peers, Clock, Buckets, Streams, Live}),
    "admin": _READ | {RetirePut, Pull, Settle},
}
