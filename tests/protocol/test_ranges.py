"""Sets of numbers, held against Python's own sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.errors import FormatError
from protocol.limits import RANGES_MAX
from protocol.ranges import Ranges

edges = st.integers(0, 60)
pairs = st.lists(st.tuples(edges, edges), max_size=12)


def members(ranges: Ranges) -> set[int]:
    return set(ranges.numbers())


def of(pairs: list[tuple[int, int]]) -> set[int]:
    return {number for start, end in pairs for number in range(start, end)}


class RangesAsASet(RuleBasedStateMachine):
    """Whatever is added and discarded, a set does the same."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges, self.model = Ranges(), set[int]()

    @rule(start=edges, end=edges)
    def add(self, start: int, end: int) -> None:
        self.ranges.add(start, end)
        self.model |= set(range(start, end))

    @rule(start=edges, end=edges)
    def discard(self, start: int, end: int) -> None:
        self.ranges.discard(start, end)
        self.model -= set(range(start, end))

    @rule(start=edges, end=edges)
    def ask(self, start: int, end: int) -> None:
        wanted = set(range(start, end))
        assert self.ranges.covers(start, end) == (wanted <= self.model)
        assert members(self.ranges.holes(start, end)) == wanted - self.model
        assert (start in self.ranges) == (start in self.model)

    @invariant()
    def agree(self) -> None:
        self.ranges.check()
        assert members(self.ranges) == self.model
        assert self.ranges.count == len(self.model)
        assert bool(self.ranges) == bool(self.model)
        if self.model:
            assert (self.ranges.first, self.ranges.last) == (min(self.model), max(self.model))


TestRangesAsASet = RangesAsASet.TestCase


@given(pairs, pairs)
def test_two_sets_combine_as_sets_do(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    a, b = Ranges(left), Ranges(right)
    for combined, wanted in (
        (a | b, of(left) | of(right)),
        (a & b, of(left) & of(right)),
        (a - b, of(left) - of(right)),
    ):
        combined.check()
        assert members(combined) == wanted
    assert (members(a), members(b)) == (of(left), of(right)), "the operands stay as they were"


@given(pairs, st.integers(1, 9))
def test_portions_are_the_set_in_order_each_full_but_the_last(pairs: list[tuple[int, int]], size: int) -> None:
    found = [sorted(members(one)) for one in Ranges(pairs).portions(size)]
    assert [number for one in found for number in one] == sorted(of(pairs))
    assert all(len(one) == size for one in found[:-1])
    assert all(0 < len(one) <= size for one in found[-1:])


@given(pairs)
def test_equal_sets_are_written_alike_and_read_back(pairs: list[tuple[int, int]]) -> None:
    ranges = Ranges(pairs)
    backwards = Ranges((number, number + 1) for number in sorted(of(pairs), reverse=True))
    assert ranges == backwards
    assert ranges.flat() == backwards.flat()
    assert Ranges.from_flat(ranges.flat()) == ranges


@pytest.mark.parametrize(
    "flat", [[1], [1, 1], [2, 1], [1, 2, 2, 3], [1, 3, 2, 4], [1, "2"], [1, True], list(range(2 * RANGES_MAX + 2))]
)
def test_what_is_not_the_one_written_form_is_refused(flat: list[int]) -> None:
    with pytest.raises(FormatError):
        Ranges.from_flat(flat)


def test_a_copy_is_independent() -> None:
    ranges = Ranges([(1, 5)])
    copy = ranges.copy()
    copy.add(7, 8)
    assert ranges == Ranges([(1, 5)]) != copy
    assert ranges != [(1, 5)]
    assert repr(copy) == "Ranges([(1, 5), (7, 8)])"
    assert len(copy) == 2


def test_a_set_may_change_while_it_is_walked_through() -> None:
    ranges = Ranges([(1, 3), (5, 9)])
    for start, end in ranges:
        ranges.discard(start, end)
    assert not ranges
