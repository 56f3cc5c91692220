"""How many copies each packet should have, and which have fewer. Pure.

The seals say of what class a packet is: three copies where it is mended (A2), else as many as its class asks for; never
more than there are members, dead ones among them. What no seal names yet should be on two bucks, as any packet at A1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from porter.copies import wanted
from porter.pool import Epoch, Numbers, raise_levels
from protocol.ranges import Ranges
from protocol.seal import Seal

__all__ = ["Lacks", "Protection", "count_of"]

A1_COPIES = 2

Lacks = dict[Epoch, list[tuple[Ranges, int]]]  # packets, and on how many bucks they should be


class Protection:
    """What the seals ask for, by bucket."""

    def __init__(self, seals: Iterable[Seal]) -> None:
        self._asked: defaultdict[int, defaultdict[Epoch, list[tuple[Ranges, int]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for seal in seals:
            for section in seal.sections:
                copies = wanted(section.kind)
                numbers = section.numbers - section.given_up
                if numbers:
                    self._asked[section.bucket][Epoch(seal.tailer, section.epoch)].append((numbers, copies))

    def lacking(self, bucket: int, held: Iterable[Numbers], members: int, archived: Numbers | None = None) -> Lacks:
        """What of a bucket is on fewer bucks than it should be. `held`: what each of those that answered has.

        What nobody has is not among it: that is lost, and an audit's business. What is archived needs no copies.
        """
        levels = _levels(held)
        asked: Mapping[Epoch, list[tuple[Ranges, int]]] = self._asked.get(bucket, {})
        found: Lacks = {}
        for epoch, any_copy in levels[0].items():
            lacks: list[tuple[Ranges, int]] = []
            stated = (archived or {}).get(epoch, Ranges())
            any_copy = any_copy - stated
            for numbers, copies in asked.get(epoch, ()):
                stated |= numbers
                _note(lacks, numbers & any_copy, copies, epoch, levels, members)
            _note(lacks, any_copy - stated, A1_COPIES, epoch, levels, members)
            if lacks:
                found[epoch] = lacks
        return found


def count_of(lacks: Lacks) -> int:
    """How many packets these are."""
    return sum(numbers.count for some in lacks.values() for numbers, _ in some)


def _note(
    lacks: list[tuple[Ranges, int]], numbers: Ranges, copies: int, epoch: Epoch, levels: list[Numbers], members: int
) -> None:
    copies = min(copies, members)
    enough = levels[copies - 1].get(epoch, Ranges()) if 0 < copies <= len(levels) else Ranges()
    rest = numbers - enough
    if rest and copies > 0:
        lacks.append((rest, copies))


def _levels(held: Iterable[Numbers]) -> list[Numbers]:
    """At [k]: what at least k + 1 hold."""
    levels: list[Numbers] = [{}]
    for numbers in held:
        for epoch, more in numbers.items():
            raise_levels(levels, epoch, more)
    return levels
