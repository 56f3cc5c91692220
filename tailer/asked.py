"""A packet under way to one buck, and for how long an answer is worth waiting for."""

from typing import NamedTuple

from protocol.link import Asker
from protocol.messages import Put
from tailer.ledger import Entry
from tailer.members import Buck

SILENT_S = 1.0  # then another buck is asked: longer than a disk's usual pause, short for who waits for two copies
ACK_TIMEOUT_S = 5.0  # then the answer isn't waited for any more,
ADVANCING_S = 60.0  # nor then, though answers to others still come: 4 MiB of buffers drain at 70 kB/s
# A buck that says nothing at all is doubted after so many times of what is usual, within these bounds; then somebody
# else is asked. Below: a disk's short pause. Above: a packet every now and then over half the world.
DOUBT_TIMES, DOUBT_S, DOUBT_MAX_S = 4.0, 0.25, 0.4
USUAL_SHARE = 0.05  # of the newest packet in what is usual


class Asked(NamedTuple):
    """A packet under way to one buck."""

    buck: Buck
    asker: Asker
    number: int
    sent: float  # when the last of it was taken
    way_s: float  # for what lies in buffers on the way: as long as that took, and a second for each slice of its own

    @property
    def heard(self) -> float:
        """Since when its buck has said nothing of any packet."""
        return max(self.sent, self.asker.answered_at.get(Put, 0.0))

    @property
    def end(self) -> float:
        """When its answer isn't waited for any more."""
        return min(max(self.sent + self.way_s, self.heard) + ACK_TIMEOUT_S, self.sent + ADVANCING_S)


class Late(NamedTuple):
    """A question that was not waited for any longer; its answer still counts until its end."""

    entry: Entry
    asked: Asked


class Usual:
    """How long packets take that nothing happens to, from the first put to the last answer: smoothed, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def note(self, seconds: float) -> None:
        self.seconds += USUAL_SHARE * (seconds - self.seconds)

    @property
    def doubt_s(self) -> float:
        """After so long without a word a buck is doubted."""
        return min(max(DOUBT_S, DOUBT_TIMES * self.seconds), DOUBT_MAX_S)

    @property
    def is_fast(self) -> bool:
        """Are the bucks as a whole far from being slow?"""
        return self.seconds < SILENT_S / 2
