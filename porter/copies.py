"""How many bucks hold each packet, and which packets are on fewer than their class asks for.

A class with resending gets a third copy after its window, whatever its `copies`; with fewer members than that, each
member is to have one. Members that don't answer hold nothing that we can count. What is archived needs no copies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from porter.gather import Epoch, Numbers, Survey
from protocol.limits import COPIES_MAX
from protocol.packet import Class
from protocol.ranges import Ranges
from protocol.seal import Seal

__all__ = ["Copies", "wanted"]


def wanted(kind: Class) -> int:
    """How many copies a packet of this class is to have after A2."""
    return COPIES_MAX if kind.resend else kind.copies


class Copies:
    """What surveys found. `members`: all bucks that count, silent ones too."""

    def __init__(self) -> None:
        self.members = 0
        self._levels: dict[int, list[Numbers]] = {}  # bucket -> at [k]: what at least k + 1 bucks hold

    def add(self, listed: Survey) -> None:
        """Count one bucket."""
        self._levels[listed.bucket] = listed.copies()

    def counts(self) -> dict[bytes, dict[int, int]]:
        """Tailer -> number of copies -> packets that have just so many."""
        found: dict[bytes, dict[int, int]] = {}
        for levels in self._levels.values():
            for number, level in enumerate(levels, 1):
                above = levels[number] if number < len(levels) else {}
                for epoch, numbers in level.items():
                    exactly = numbers.count - above.get(epoch, Ranges()).count
                    counts = found.setdefault(epoch.tailer, {})
                    counts[number] = counts.get(number, 0) + exactly
        return found

    def below(
        self, seals: Iterable[Seal], archived: Mapping[tuple[bytes, int], Mapping[int, Ranges]]
    ) -> dict[bytes, int]:
        """Tailer -> packets that are sealed, held, not archived, and on fewer bucks than their class asks for."""
        found: Counter[bytes] = Counter()
        for seal in seals:
            for section in seal.sections:
                epoch, levels = Epoch(seal.tailer, section.epoch), self._levels.get(section.bucket)
                if levels and section.numbers:
                    enough = min(wanted(section.kind), self.members)
                    plenty = levels[enough - 1].get(epoch, Ranges()) if enough <= len(levels) else Ranges()
                    short = section.numbers - plenty
                    if short:
                        short = short & levels[0].get(epoch, Ranges())
                        found[seal.tailer] += (short - archived.get(epoch, {}).get(section.bucket, Ranges())).count
        return dict(+found)
