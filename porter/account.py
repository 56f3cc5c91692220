"""One tailer's part of a verdict: what can be said of it, the worst first.

    conflicting  incomplete  unknown  complete

What each of them means, and when it is said, is told in `verdict.py`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from protocol.packet import Class
from protocol.ranges import Ranges
from protocol.roster import EXPECTED

COMPLETE, UNKNOWN, INCOMPLETE, CONFLICTING = "complete", "unknown", "incomplete", "conflicting"
WORSE = (COMPLETE, UNKNOWN, INCOMPLETE, CONFLICTING)


class Gap(NamedTuple):
    """Packets that were sealed and are not held, or that the tailer gave up."""

    epoch: int
    bucket: int
    numbers: Ranges
    allowed: bool
    reason: str


class Unknown(NamedTuple):
    """Buckets [start, end) of which nothing can be proved; end 0: from then on."""

    start: int
    end: int
    reason: str


@dataclass
class Account:
    """One tailer's part of a verdict."""

    tailer: bytes
    host: bytes
    seal: int = -1  # the last seal that was heeded; -1: none
    digest: bytes = b""
    until: int = 0  # everything before this bucket is stated
    closed: bool = False  # its last run ended in order
    end: str = EXPECTED  # what took it off the roster, if anything did
    packets: int = 0
    events: int = 0
    raw: int = 0
    unstated: int = 0  # packets held that no seal names (yet)
    dropped: int = 0  # events that were dropped at the source, counted there
    unread: int = 0  # bytes of files that went before they were read
    dropped_allowed: int = 0  # of these two what its class allows
    unread_allowed: int = 0
    classes: dict[Class, Counter[str]] = field(default_factory=dict)  # what was sent and what was not, by class
    gaps: list[Gap] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """The worst thing that can be said."""
        if self.conflicts:
            return CONFLICTING
        if self.gaps or self.dropped or self.unread:
            return INCOMPLETE
        return UNKNOWN if self.unknown else COMPLETE

    @property
    def broken(self) -> bool:
        """Is something missing that its class does not allow to be lost?"""
        promised = any(not gap.allowed for gap in self.gaps)
        return promised or self.dropped > self.dropped_allowed or self.unread > self.unread_allowed

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "tailer": self.tailer.hex(),
            "host": self.host.decode("utf-8", "backslashreplace"),
            "state": self.state,
            "seal": {
                "number": self.seal,
                "digest": self.digest.hex(),
                "until": self.until,
                "closing": self.closed,
            },
            "packets": self.packets,
            "events": self.events,
            "raw": self.raw,
            "unstated": self.unstated,
            "dropped": self.dropped,
            "unread": self.unread,
            "broken": self.broken,
            "roster": self.end,
            "classes": [{**kind._asdict(), **sums} for kind, sums in sorted(self.classes.items())],
            "incomplete": [
                {**gap._asdict(), "epoch": f"{gap.epoch:x}", "numbers": gap.numbers.flat()} for gap in self.gaps
            ],
            "unknown": [{"from": one.start, "to": one.end, "reason": one.reason} for one in self.unknown],
            "conflicts": self.conflicts,
        }
