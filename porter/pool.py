"""Who fetches what: packet numbers that are wanted, and the members that may still be asked for them.

A member takes a batch of numbers that it holds and nobody has taken; what of it did not come goes back, for another
holder. Members begin at different places, so that they rarely want the same. Pure arithmetic on sets of numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from porter.member import Member
from protocol.ranges import Ranges

__all__ = ["Epoch", "Numbers", "Pool", "raise_levels", "unite"]


class Epoch(NamedTuple):
    """What packet numbers are counted in."""

    tailer: bytes
    epoch: int


Numbers = dict[Epoch, Ranges]


class Pool:
    """Numbers that are wanted, and who may still be asked for them.

    Invariant: a wanted number is in `left`, or under way, or had, or nobody holds it (any more).
    """

    def __init__(self, held: Mapping[Member, Numbers], wanted: Numbers) -> None:
        self.flying = 0
        self.left = {epoch: numbers.copy() for epoch, numbers in wanted.items() if numbers}
        self.held = {
            member: {e: n & self.left[e] for e, n in has.items() if e in self.left} for member, has in held.items()
        }
        self.queues: dict[Member, deque[Epoch]] = {}
        for index, (member, has) in enumerate(self.held.items()):
            queue = deque(has)
            queue.rotate(-len(queue) * index // len(self.held))  # members begin at different places
            self.queues[member] = queue

    def take(self, member: Member, most: int) -> Numbers:
        """Up to `most` numbers that this member holds and nobody has taken."""
        taken: Numbers = {}
        queue = self.queues.get(member, deque())
        while queue and most > 0:
            epoch = queue[0]
            free = self.left[epoch] & self.held[member][epoch]
            part = _head(free, most)
            if part:
                taken[epoch] = part
                most -= part.count
                self.left[epoch] -= part
            if part == free:
                queue.popleft()
        self.flying += bool(taken)
        return taken

    def done(self, member: Member, taken: Numbers, had: Numbers) -> None:
        """A batch is over: what didn't come is left to others, and not asked of this member again."""
        self.flying -= 1
        for epoch, numbers in taken.items():
            lost = numbers - had.get(epoch, Ranges())
            if not lost:
                continue
            self.left[epoch] |= lost
            self.held[member][epoch] -= lost
            for other, has in self.held.items():
                if other is not member and epoch in has and has[epoch] & lost:
                    self.queues[other].appendleft(epoch)

    def rest(self) -> Numbers:
        """What nobody gave."""
        return {epoch: numbers for epoch, numbers in self.left.items() if numbers}


def _head(numbers: Ranges, most: int) -> Ranges:
    """The first so many of them."""
    head = Ranges()
    for start, end in numbers:
        if most <= 0:
            break
        head.add(start, min(end, start + most))
        most -= end - start
    return head


def unite(parts: Iterable[Numbers]) -> Numbers:
    union: Numbers = {}
    for part in parts:
        for epoch, numbers in part.items():
            union[epoch] = union[epoch] | numbers if epoch in union else numbers.copy()
    return union


def raise_levels(levels: list[Numbers], epoch: Epoch, more: Ranges) -> None:
    """One more buck holds `more`: what was held k times is now held k + 1 times."""
    for level in levels:
        before = level.get(epoch, Ranges())
        level[epoch] = before | more
        more = before & more
        if not more:
            return
    if more:
        levels.append({epoch: more})
