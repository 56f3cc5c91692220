"""How far out of order events arrived: lateness, inversions, delays, and what waiting would mend. Pure arithmetic.

Times are integers in microseconds, as they stand in the lines. An event's *lateness* is the highest time among those
that a reader was given before it, minus its own; 0 where its own is the highest yet (the distance that watermarks of
stream processors are made for: Akidau et al., "The Dataflow Model", VLDB 2015, section 2.3). A *delay* is what passed
on the reader's clock since an event's own time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

BINS_EACH = 10  # bins of a power of ten
SAMPLE = 20_000  # events whose inversions are counted, of each stretch


def lateness(times: Iterable[int]) -> list[int]:
    """Of each event, in the order of reading. Never negative."""
    found, highest = [], None
    for time in times:
        highest = time if highest is None else max(highest, time)
        found.append(highest - time)
    return found


def adjacent(times: Sequence[int]) -> int:
    """Neighbours of which the second has the lower time."""
    return sum(second < first for first, second in pairwise(times))


def inversions(times: Sequence[int]) -> int:
    """Pairs, however far apart, of which the second has the lower time: 0 to n (n - 1) / 2. Counted while merging."""
    return _merged(list(times))[1]


def _merged(times: list[int]) -> tuple[list[int], int]:
    if len(times) < 2:
        return times, 0
    middle = len(times) // 2
    (left, one), (right, other) = _merged(times[:middle]), _merged(times[middle:])
    merged: list[int] = []
    count, i = one + other, 0
    for time in right:
        while i < len(left) and left[i] <= time:
            merged.append(left[i])
            i += 1
        count += len(left) - i
        merged.append(time)
    return merged + left[i:], count


def quantile(values: Sequence[int], share: float) -> int:
    """The least value that so large a share of them doesn't exceed (the nearest rank); values needn't be sorted."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]


def binned(values: Iterable[int]) -> dict[str, int]:
    """How many values lie in each bin; bins are as wide as they are far from 0. `least` tells what a key means."""
    counts = Counter("0" if value <= 0 else str(math.floor(BINS_EACH * math.log10(value)) + 1) for value in values)
    return dict(sorted(counts.items(), key=lambda one: int(one[0])))


def least(key: str) -> float:
    """Where a bin begins, in microseconds. All that isn't positive is in the first one, 0."""
    return 0.0 if key == "0" else 10 ** ((int(key) - 1) / BINS_EACH)


def exceeding(bins: Iterable[Mapping[str, int]]) -> list[tuple[float, float]]:
    """The complementary distribution of several repetitions' bins together: at the beginning of each bin that holds
    any, which share of all values lies in it or above; then, at the end of the last one, 0."""
    counts: Counter[str] = Counter()
    for one in bins:
        counts.update(one)
    total = left = sum(counts.values())
    found = []
    for key in sorted(counts, key=int):
        found.append((least(key), left / total))
        left -= counts[key]
    if found:
        last = max(counts, key=int)
        found.append((least(str(int(last) + 1)), 0.0))
    return found


def missed(delays: Sequence[int], width: int, lag: int) -> float:
    """The share of events that come too late for who takes each bucket of `width` `lag` after its end, over all places
    where a bucket's end may fall: an event that is delayed by d is too late for (d - lag) / width of them. With a width
    of 0: for who holds each event back by `lag`."""
    if not delays:
        raise ValueError("no delays")
    if width <= 0:
        return sum(delay > lag for delay in delays) / len(delays)
    return sum(min(1.0, max(0.0, (delay - lag) / width)) for delay in delays) / len(delays)
