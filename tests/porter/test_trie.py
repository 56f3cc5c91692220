"""The bucket trie: every row is in exactly one leaf, and no leaf is larger than it must be."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from porter.trie import Limit, Load, leaves

POINTS = st.lists(st.integers(0, 5_000), min_size=1, max_size=30)


def load_of(number: int, points: list[int]) -> Load:
    return Load((number, tuple(points)), min(points), max(points), len(points), 10 * len(points))


@settings(deadline=None, max_examples=200)
@given(st.lists(POINTS, max_size=12), st.integers(1, 40))
def test_every_row_is_in_exactly_one_leaf(packets: list[list[int]], rows_max: int) -> None:
    loads = [load_of(number, points) for number, points in enumerate(packets)]
    seen: Counter[tuple[int, int]] = Counter()
    last = -1
    for leaf in leaves(loads, Limit(rows_max, 10 * rows_max)):
        assert leaf.low >= last or leaf.dealt
        last = leaf.low
        for load in leaf.loads:
            number, points = load.what  # type: ignore[misc]  # what we put in above
            seen.update((number, point) for point in points if leaf.low <= point < leaf.high)
    assert seen == Counter((number, point) for number, points in enumerate(packets) for point in points)


def test_a_bucket_that_fits_stays_whole() -> None:
    loads = [load_of(1, [5, 10]), load_of(2, [7])]
    assert [leaf.loads for leaf in leaves(loads, Limit(3, 30))] == [tuple(loads)]


def test_a_large_bucket_is_cut_until_each_part_fits() -> None:
    loads = [load_of(second, [second * 100, second * 100 + 99]) for second in range(300)]
    found = list(leaves(loads, Limit(40, 10_000)))
    assert all(sum(load.rows for load in leaf.loads) <= 60 for leaf in found)
    assert len(found) < 40, "neighbours are joined again"


def test_what_has_one_point_is_dealt_packet_by_packet() -> None:
    loads = [load_of(number, [77] * 10) for number in range(5)]
    found = list(leaves(loads, Limit(20, 1_000)))
    assert [len(leaf.loads) for leaf in found] == [2, 2, 1]
    assert all((leaf.low, leaf.high) == (77, 78) for leaf in found)
