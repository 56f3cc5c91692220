"""Sets of integers as intervals: packet numbers of an epoch, offsets of a stream.

This is the arithmetic of completeness (which numbers are missing?) and of duplicates (which offsets were seen
already?). A set is kept as sorted, disjoint, half-open intervals [start, end) that never touch, so equal sets have
equal members and one written form:

    add(0, 3)  add(5, 9)  add(3, 4)   ->   starts [0, 5]   ends [4, 9]   flat [0, 4, 5, 9]

Looking something up is a bisection; adding shifts two short lists; union, intersection and difference walk both sets
once. Numbers are negative nowhere in Buck, and the set doesn't care.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from protocol.errors import FormatError
from protocol.limits import RANGES_MAX

FEW = 8  # intervals that are put in or taken out one by one, each at the price of shifting what lies behind


class Ranges:
    """A mutable set of integers. Invariant: starts[i] < ends[i] < starts[i + 1]."""

    __slots__ = ("_ends", "_starts")
    __hash__ = None  # type: ignore[assignment]  # mutable, so not hashable; said so for readers and for mypy

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in pairs:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """Put [start, end) in. An empty interval adds nothing."""
        if start >= end:
            return
        starts, ends = self._starts, self._ends
        if not starts or start > ends[-1]:  # the usual cases: numbers come in order,
            starts.append(start)
            ends.append(end)
            return
        if start >= starts[-1]:  # and mostly without a gap
            ends[-1] = max(end, ends[-1])
            return
        low = bisect_left(ends, start)  # first interval that touches or follows
        high = bisect_right(starts, end)  # one after the last that touches
        if low < high:
            start = min(start, starts[low])
            end = max(end, ends[high - 1])
        starts[low:high] = [start]
        ends[low:high] = [end]

    def discard(self, start: int, end: int) -> None:
        """Take [start, end) out, as far as it was in."""
        if start >= end:
            return
        starts, ends = self._starts, self._ends
        low = bisect_right(ends, start)
        high = bisect_left(starts, end)
        if low >= high:
            return
        kept = [(starts[low], start), (end, ends[high - 1])]
        kept = [(a, b) for a, b in kept if a < b]
        starts[low:high] = [a for a, _ in kept]
        ends[low:high] = [b for _, b in kept]

    def __contains__(self, value: int) -> bool:
        at = bisect_right(self._starts, value) - 1
        return at >= 0 and value < self._ends[at]

    def covers(self, start: int, end: int) -> bool:
        """Is all of [start, end) in? The empty interval always is."""
        if start >= end:
            return True
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and end <= self._ends[at]

    def holes(self, start: int, end: int) -> Ranges:
        """What of [start, end) is not in."""
        result = Ranges()
        low = bisect_right(self._ends, start)
        high = bisect_left(self._starts, end)
        for at in range(low, high):
            result.add(start, self._starts[at])
            start = self._ends[at]
        result.add(start, end)
        return result

    def copy(self) -> Ranges:
        """A set of its own with the same members."""
        result = Ranges()
        result._starts = self._starts.copy()
        result._ends = self._ends.copy()
        return result

    @classmethod
    def union(cls, sets: Iterable[Ranges]) -> Ranges:
        """The members of all of them, in one pass: to add a thousand sets one by one shifts long lists each time."""
        result = cls()
        starts, ends = result._starts, result._ends
        for start, end in sorted(pair for one in sets for pair in zip(one._starts, one._ends, strict=True)):
            if not ends or start > ends[-1]:
                starts.append(start)
                ends.append(end)
            elif end > ends[-1]:
                ends[-1] = end
        return result

    def __or__(self, other: Ranges) -> Ranges:
        if len(other._starts) >= FEW:
            return Ranges.union((self, other))
        result = self.copy()
        for start, end in other:
            result.add(start, end)
        return result

    def __and__(self, other: Ranges) -> Ranges:
        result = Ranges()
        mine, theirs = 0, 0
        while mine < len(self._starts) and theirs < len(other._starts):
            end = min(self._ends[mine], other._ends[theirs])
            result.add(max(self._starts[mine], other._starts[theirs]), end)
            if self._ends[mine] == end:
                mine += 1
            else:
                theirs += 1
        return result

    def __sub__(self, other: Ranges) -> Ranges:
        if len(other._starts) >= FEW:
            return self._without(other)
        result = self.copy()
        for start, end in other:
            result.discard(start, end)
        return result

    def _without(self, other: Ranges) -> Ranges:
        """The difference, walking both sets once."""
        result = Ranges()
        if self == other:
            return result
        at, last = bisect_right(other._ends, self._starts[0]) if self else 0, len(other._starts)
        for start, end in zip(self._starts, self._ends, strict=True):
            while at < last and other._ends[at] <= start:
                at += 1
            while at < last and other._starts[at] < end:
                result.add(start, other._starts[at])
                start = max(start, other._ends[at])
                if start >= end:
                    break  # this one may reach into the next interval too
                at += 1
            result.add(start, end)
        return result

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def numbers(self) -> Iterator[int]:
        """Each integer by itself, in order."""
        for start, end in self:
            yield from range(start, end)

    def portions(self, size: int) -> Iterator[Ranges]:
        """The same integers in order, in sets of `size` each; the last may have fewer."""
        portion, room = Ranges(), size
        for start, end in self:
            while start < end:
                cut = min(end, start + room)
                portion.add(start, cut)
                room -= cut - start
                start = cut
                if not room:
                    yield portion
                    portion, room = Ranges(), size
        if portion:
            yield portion

    def __len__(self) -> int:
        """How many intervals (not integers: that is `count`)."""
        return len(self._starts)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ranges):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends

    def __repr__(self) -> str:
        return f"Ranges({list(self)!r})"

    @property
    def count(self) -> int:
        """How many integers."""
        return sum(self._ends) - sum(self._starts)

    @property
    def first(self) -> int:
        """The smallest member; IndexError where there is none."""
        return self._starts[0]

    @property
    def last(self) -> int:
        """The largest member; IndexError where there is none."""
        return self._ends[-1] - 1

    def flat(self) -> list[int]:
        """[start, end, start, end, ...], as it is written."""
        return [edge for pair in self for edge in pair]

    @classmethod
    def from_flat(cls, flat: Sequence[int]) -> Ranges:
        """Read what `flat` wrote. Only the one canonical form is taken, so equal sets are equal bytes."""
        if len(flat) % 2 or len(flat) > 2 * RANGES_MAX:
            raise FormatError(f"a set of {len(flat)} edges: must be even and at most {2 * RANGES_MAX}")
        if not all(type(edge) is int for edge in flat):
            raise FormatError("a set with an edge that is no integer")
        if any(a >= b for a, b in pairwise(flat)):
            raise FormatError("a set whose edges do not grow")
        result = cls()
        result._starts = list(flat[::2])
        result._ends = list(flat[1::2])
        return result

    def check(self) -> None:
        """Assert the invariant, for tests."""
        flat = self.flat()
        assert all(a < b for a, b in pairwise(flat)), flat
