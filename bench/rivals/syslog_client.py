"""rsyslog's sender and reader: a program that appends to a file that an rsyslog of the sender's host follows (imfile),
and one that follows the file that a receiver writes.

Plain TCP syslog acknowledges nothing: an event counts as acknowledged when every receiver's file holds it, as far as
this program's looks into these files, each few milliseconds, tell.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

from bench.rivals.client import LOOK_S, Asked, main, ready
from bench.rivals.lines import Log, Pacer, told

PIECE = 4 << 20
QUIET_S = 8.0  # what doesn't come for so long doesn't come: nobody sends again what was lost


class Tail:
    """Whole lines that have been added to a file since the last look; it may not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at, self._rest = 0, b""

    @property
    def has_read(self) -> bool:
        return self._at > 0

    def lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._at)
            data = file.read(PIECE)
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines


def pace(asked: Asked, pacer: Pacer, log: Log) -> None:
    """`asked.files`: what is followed comes first, then each receiver's file."""
    followed, *receivers = asked.files
    tails = [Tail(path) for path in receivers]
    held: Counter[tuple[int, int]] = Counter()
    waiting: set[tuple[int, int]] = set()

    def look() -> None:
        for one in (told(line) for tail in tails for line in tail.lines()):
            if one in waiting:
                held[one] += 1
                if held[one] == len(tails):
                    waiting.discard(one)
                    log.acked(*one)
        log.flush()

    with followed.open("ab", buffering=0) as file:
        ready()
        pacer.begin()
        while not asked.ended.is_set():
            for event in pacer.due():
                log.sent(event)
                waiting.add((event.sender, event.number))
                file.write(event.line + b"\n")
            look()
            time.sleep(LOOK_S)
    left, changed = len(waiting), time.monotonic()
    while waiting and time.monotonic() < changed + QUIET_S:
        look()
        left, changed = len(waiting), changed if len(waiting) == left else time.monotonic()
        time.sleep(LOOK_S)


def consume(asked: Asked, log: Log) -> None:
    """The first receiver's file, from its beginning."""
    tail = Tail(asked.files[1])
    ready()
    while asked.past or not asked.ended.is_set():
        lines = tail.lines()
        log.read(lines)
        log.flush()
        if asked.past and not lines:
            return
        time.sleep(LOOK_S)


if __name__ == "__main__":
    sys.exit(main(pace, consume))
