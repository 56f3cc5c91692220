"""How much a sender has under way: packets that move, packets set aside, and copies beyond the usual ones.

A packet moves until it is set aside, because the bucks that still owe an answer for it keep silent and are given no
more. Those that move are few, so that no buck is flooded; those set aside hold up nobody, and have their own limit.
The bytes of both together are bounded, whatever their number. Pure: no clock, no I/O.
"""

from tailer.ledger import Slot

PACKETS = 16
ASIDE_MAX = 64  # a silent buck's share of half a second at full speed, and room
BYTES = 32 << 20
SPARE_MAX, SPARE_SHARE = float(PACKETS), 0.1


class Window:
    """What is under way."""

    def __init__(self) -> None:
        self.bytes = 0
        self._sizes: dict[Slot, int] = {}
        self._aside: set[Slot] = set()

    def __contains__(self, slot: Slot) -> bool:
        return slot in self._sizes

    @property
    def moving(self) -> int:
        """Packets that are not set aside."""
        return len(self._sizes) - len(self._aside)

    @property
    def is_open(self) -> bool:
        """May another packet come, if it is small enough?"""
        return self.moving < PACKETS

    def fits(self, size: int) -> bool:
        """Is there room for so many bytes? One packet alone always fits."""
        return not self._sizes or self.bytes + size <= BYTES

    def enter(self, slot: Slot, size: int) -> None:
        self._sizes[slot] = size
        self.bytes += size

    def leave(self, slot: Slot) -> None:
        self._aside.discard(slot)
        self.bytes -= self._sizes.pop(slot)

    def set_aside(self, slot: Slot) -> bool:
        """It waits for silent bucks only. Has that made room? Not if too many are aside, or if it is not of here."""
        if slot in self._aside or slot not in self._sizes or len(self._aside) >= ASIDE_MAX:
            return False
        self._aside.add(slot)
        return True

    def take_back(self, slot: Slot) -> None:
        """It moves again, though there may be more than PACKETS by that: it is older than those that wait."""
        self._aside.discard(slot)


class Spare:
    """How many packets may be asked of one buck more than the usual ones: SPARE_MAX, and one for ten that were
    acknowledged. Where the further buck is known to answer, ASIDE_MAX more may be borrowed from later ones."""

    def __init__(self) -> None:
        self.left = SPARE_MAX

    def earn(self) -> None:
        self.left = min(SPARE_MAX, self.left + SPARE_SHARE)

    def spend(self) -> None:
        self.left -= 1.0

    def is_enough(self, *, answers: bool) -> bool:
        return self.left >= (1.0 - ASIDE_MAX if answers else 1.0)
