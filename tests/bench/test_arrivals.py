"""Lateness, inversions and delays: values worked out by hand, and properties that define them."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.papers import arrivals

TIMES = st.lists(st.integers(0, 50), max_size=40)


def test_lateness_is_the_distance_to_the_highest_time_so_far() -> None:
    assert arrivals.lateness([]) == []
    assert arrivals.lateness([10, 30, 20, 5, 30, 40, 39]) == [0, 0, 10, 25, 0, 0, 1]


def test_inversions_of_neighbours_and_of_all_pairs() -> None:
    assert (arrivals.adjacent([]), arrivals.inversions([])) == (0, 0)
    assert arrivals.adjacent([1, 3, 2, 2, 4, 0]) == 2
    assert arrivals.inversions([1, 3, 2, 2, 4, 0]) == 2 + 5
    assert arrivals.inversions(list(range(100, 0, -1))) == 100 * 99 // 2


@given(TIMES)
def test_inversions_counted_while_merging_are_those_counted_pair_by_pair(times: list[int]) -> None:
    assert arrivals.inversions(times) == sum(second < first for first, second in combinations(times, 2))


@given(TIMES)
def test_what_is_sorted_and_nothing_else_has_no_lateness_and_no_inversions(times: list[int]) -> None:
    is_sorted = times == sorted(times)
    assert (not any(arrivals.lateness(times))) == is_sorted
    assert (arrivals.adjacent(times) == 0) == is_sorted
    assert (arrivals.inversions(times) == 0) == is_sorted


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40), st.integers(0, 1000))
def test_who_waits_as_long_as_a_quantile_misses_no_more_than_the_rest(values: list[int], thousandths: int) -> None:
    share = thousandths / 1000
    found = arrivals.quantile(values, share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < max(share * len(values), 1)
    assert arrivals.missed(values, 0, found) <= 1 - share + 1e-9


def test_quantiles_by_the_nearest_rank() -> None:
    values = list(range(100, 0, -1))
    assert [arrivals.quantile(values, share) for share in (0.0, 0.5, 0.99, 0.999, 1.0)] == [1, 50, 99, 100, 100]
    with pytest.raises(ValueError, match="no values"):
        arrivals.quantile([], 0.5)


def test_bins_hold_their_values_and_what_isnt_positive_has_one_of_its_own() -> None:
    assert arrivals.binned([-5, 0, 1, 9, 10, 10, 99_999]) == {"0": 2, "1": 1, "10": 1, "11": 2, "50": 1}
    assert [round(arrivals.least(key), 6) for key in ("0", "1", "11", "51")] == [0.0, 1.0, 10.0, 100_000.0]


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=40))
def test_a_bin_begins_at_or_below_its_values_and_the_next_above(values: list[int]) -> None:
    for value in values:
        [key] = arrivals.binned([value])
        assert arrivals.least(key) <= value * (1 + 1e-9)
        assert value < arrivals.least(str(int(key) + 1)) * (1 + 1e-9)


def test_the_share_that_exceeds_falls_from_one_to_nothing_over_all_repetitions() -> None:
    assert arrivals.exceeding([]) == []
    found = arrivals.exceeding([{"0": 6, "11": 1}, {"0": 2, "21": 1}])
    assert [(round(at, 6), share) for at, share in found[:3]] == [(0.0, 1.0), (10.0, 0.2), (100.0, 0.1)]
    assert found[3] == (pytest.approx(125.892541), 0.0)


def test_a_bucket_and_a_lag_let_pass_what_its_delay_leaves_of_its_width() -> None:
    delays = [0, 100, 200, 5000]
    assert arrivals.missed(delays, 0, 100) == 0.5
    assert arrivals.missed(delays, 1000, 0) == (0 + 0.1 + 0.2 + 1.0) / 4
    assert arrivals.missed(delays, 1000, 150) == (0.05 + 1.0) / 4
    assert arrivals.missed(delays, 1000, 5000) == 0.0
    assert arrivals.missed([-5], 0, 0) == arrivals.missed([-5], 10, 0) == 0.0
    with pytest.raises(ValueError, match="no delays"):
        arrivals.missed([], 0, 0)


@given(
    st.lists(st.integers(0, 5000), min_size=1, max_size=10),
    st.integers(1, 5000),
    st.integers(0, 1000),
    st.integers(1, 12),
)
def test_what_buckets_miss_is_the_mean_over_where_they_may_end(
    delays: list[int], width: int, lag: int, slots: int
) -> None:
    """An event lies anywhere in its bucket: at each of so many places, the end is so far away."""
    places = [width * (2 * slot + 1) / (2 * slots) for slot in range(slots)]
    mean = sum(delay > place + lag for delay in delays for place in places) / (len(delays) * slots)
    assert arrivals.missed(delays, width, lag) == pytest.approx(mean, abs=0.5 / slots + 1e-9)
