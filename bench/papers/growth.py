"""How a cost grows with size: fits of three laws, their residuals, and the least that any sort must do.

linear     cost = fixed + each x n
n log n    cost = fixed + each x n log2(n): what a sort of everything in memory by comparisons does
n passes   cost = fixed + each x n (1 + passes(n)): what an external sort does that goes through everything once, and
           once more whenever it writes everything to files
All are fitted by least squares of relative errors, so that small sizes count as much as large ones. No coefficient is
negative: a cost that falls with size is none. `n` counts events, and so does `room`: how many of them fit memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf, lgamma, log, log2

import numpy as np

LAWS: dict[str, Callable[[float, float], float]] = {
    "linear": lambda n, room: n,
    "n log n": lambda n, room: n * log2(max(n, 2.0)),
    "n passes": lambda n, room: n * (1 + passes(n, room)),
}


@dataclass(frozen=True)
class Fit:
    """`worst`: the largest relative residual, of `residuals` in order of the points."""

    law: str
    room: float
    fixed: float
    each: float
    residuals: tuple[float, ...]

    @property
    def worst(self) -> float:
        return max(map(abs, self.residuals), default=0.0)

    def at(self, n: float) -> float:
        """The cost that it says for a size."""
        return self.fixed + self.each * LAWS[self.law](n, self.room)


def fit(law: str, sizes: Sequence[float], costs: Sequence[float], room: float = inf) -> Fit:
    """A law through measured points. ValueError with fewer than two sizes."""
    if len(set(sizes)) < 2 or min(costs) <= 0:
        raise ValueError(
            f"{law}: costs above 0 at two sizes or more are needed, there are {list(zip(sizes, costs, strict=True))}"
        )
    weights = 1 / np.array(costs)
    columns = np.array([[1.0, LAWS[law](n, room)] for n in sizes]) * weights[:, None]
    fixed, each = (float(x) for x in np.linalg.lstsq(columns, np.ones(len(costs)), rcond=None)[0])
    if fixed < 0 or each < 0:  # the better of the two that are left
        ways = [(0.0, _alone(columns[:, 1])), (_alone(columns[:, 0]), 0.0)]
        fixed, each = min(ways, key=lambda way: float(((columns @ np.array(way) - 1) ** 2).sum()))
    residuals = columns @ np.array([fixed, each]) - 1
    return Fit(law, room, fixed, each, tuple(float(x) for x in residuals))


def _alone(column: np.ndarray) -> float:
    return float(column.sum() / (column @ column))


def better(sizes: Sequence[float], costs: Sequence[float], room: float = inf) -> list[Fit]:
    """All laws, the one with the smallest residuals first; where two say the same, in the order of LAWS."""
    fits = [fit(law, sizes, costs, room) for law in LAWS]
    return sorted(fits, key=lambda one: round(sum(x * x for x in one.residuals), 12))


def comparisons(n: int) -> float:
    """An event's share of the comparisons that any sort by comparing needs for n events: log2(n!) / n."""
    return lgamma(n + 1) / log(2) / n if n > 1 else 0.0


def passes(size: float, memory: float, ways: int = 16) -> int:
    """How often an external sort writes everything to files: once as runs that fit memory, then for each merge but
    the last of `ways` runs (GNU sort merges 16 at a time). 0 if all fits."""
    runs = ceil(size / memory)
    written = 0
    while runs > 1:
        written += 1
        runs = ceil(runs / ways)
    return written


def trie_depth(span: int, children: int = 16) -> int:
    """How deep a trie can be that cuts `span` units of time into `children` parts until a unit is left."""
    depth = 0
    while span > 1:
        span = ceil(span / children)
        depth += 1
    return depth
