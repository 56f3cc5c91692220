"""How many part files one tailer may make a buck begin: each costs an inode, and an fsync of its folder.

A bucket's number is whatever its tailer says, and a clock that is wrong, or a journal that was kept for weeks while no
buck was there, makes it anything at all: so no bucket is too old or too far ahead to be stored. What is bounded is how
often a put may begin a file. An honest tailer shares the files of its windows with the whole fleet, and begins next to
none; one that comes back with weeks of windows has AT_ONCE of them, and then still more than its windows come. Who has
used them up hears `slow`, keeps its packets, and may begin the next file some seconds later: nothing is refused for
ever.

No wall clock is asked, for it may be wrong by years here too.
"""

from buck.errors import Declined

AT_ONCE = 20_000  # nine weeks of windows of five minutes, two of windows of one
EVERY_S = 10.0  # and then one in so many seconds,
A_WINDOW = 4  # or so many a window, where windows are short
TAILERS_MAX = 65_536  # remembered at once, some bytes each; the fleet is smaller


class Begins:
    """Counts for each tailer what it made us begin."""

    def __init__(self, width: int) -> None:
        self._every_s = min(EVERY_S, width / A_WINDOW)
        # When all that a tailer had us begin will have been earned again; it is at most AT_ONCE intervals ahead.
        self._earned_at: dict[bytes, float] = {}

    def take(self, tailer: bytes, now: float) -> None:
        """One more file for this tailer, at `now` on the monotonic clock. Declined if that is too many."""
        at = max(now, self._earned_at.pop(tailer, now)) + self._every_s
        if at > now + AT_ONCE * self._every_s:
            self._earned_at[tailer] = at - self._every_s
            raise Declined("slow", f"packets of very many windows came: one more begins in {self._every_s:g} s at most")
        self._earned_at[tailer] = at  # at the end: who was seen last is forgotten last
        if len(self._earned_at) > TAILERS_MAX:
            del self._earned_at[next(iter(self._earned_at))]

    @property
    def tailers(self) -> int:
        """How many are remembered."""
        return len(self._earned_at)
