"""The index of a part, against a plain list of what was put into it."""

from array import array

from hypothesis import example, given
from hypothesis import strategies as st

from buck.index import Index, StreamKey, ranges_of
from protocol.ranges import Ranges
from tests.buck.making import KEY, OTHER, STREAM, index_of, made, make


def test_numbers_that_come_in_any_order_stand_in_order() -> None:
    data = [make(n) for n in (5, 1, 9, 0, 2)]
    group = index_of(data).groups[KEY.node, 7]
    assert list(group.numbers) == [0, 1, 2, 5, 9]
    assert [data[place.offset // len(data[0])] for place in group.places(Ranges([(0, 3)]))] == [
        data[3],
        data[1],
        data[4],
    ]
    assert group.digest(0) == data[3][-32:]


def test_a_number_with_two_packets_is_a_conflict_and_stays_one_number() -> None:
    index = index_of([make(1), make(2), make(1, b"other"), make(1, b"third")])
    group = index.groups[KEY.node, 7]
    assert list(group.conflicts()) == [1]
    assert group.ranges() == Ranges([(1, 3)])
    assert len(group.rows(1)) == 3
    index.check()


def test_streams_are_noted_with_offsets_and_numbers() -> None:
    group = index_of([make(3), make(4), make(6), make(9, path=b"/b", stream=b"\2" * 16)]).groups[KEY.node, 7]
    note = group.streams[StreamKey(STREAM, b"/var/log/syslog", b"web1")]
    assert note.intervals == Ranges([(30, 50), (60, 70)])
    assert note.numbers == Ranges([(3, 5), (6, 7)])
    assert note.head == b"headhash"
    assert len(group.streams) == 2


def test_ranges_below_an_offset_are_those_of_packets_that_begin_before() -> None:
    size = len(make(0))
    group = index_of([make(2), make(0), make(1)]).groups[KEY.node, 7]
    assert group.ranges(below=0) == Ranges()
    assert group.ranges(below=size) == Ranges([(2, 3)])
    assert group.ranges(below=2 * size) == Ranges([(0, 1), (2, 3)])


@given(st.lists(st.integers(0, 40)))
def test_ranges_of_ascending_numbers_hold_exactly_them(numbers: list[int]) -> None:
    found = ranges_of(array("Q", sorted(numbers)))
    found.check()
    assert set(found.numbers()) == set(numbers)


@given(st.lists(st.tuples(st.sampled_from([KEY, OTHER]), st.integers(1, 2), st.integers(0, 12), st.booleans())))
def test_an_index_holds_what_was_added(keys: list) -> None:
    index = Index()
    for at, (tailer, epoch, number, odd) in enumerate(keys):
        index.add(made(number, b"odd" if odd else b"even", tailer=tailer.node, epoch=epoch), at * 1000)
    index.check()
    assert index.packets == len(keys)
    for (tailer, epoch), group in index.groups.items():
        mine = sorted((n, at * 1000) for at, (t, e, n, _) in enumerate(keys) if (t.node, e) == (tailer, epoch))
        assert list(zip(group.numbers, group.offsets, strict=True)) == mine


@example([0, 0, 2], 0)
@given(st.lists(st.integers(0, 12), max_size=12), st.integers(0, 1 << 40))
def test_ranges_of_numbers_with_and_without_gaps_and_repeats(numbers: list[int], first: int) -> None:
    ascending = array("Q", sorted(first + number for number in numbers))
    assert ranges_of(ascending) == Ranges((number, number + 1) for number in ascending)
