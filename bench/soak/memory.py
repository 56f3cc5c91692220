"""Does memory grow? Resident sizes of processes over time, and a slope with its confidence.

The slope is Theil and Sen's: the median of the slopes of all pairs of points, which no spike can bend. Points are the
medians of 10 s, since neighbours in time are not independent; for the same reason the confidence interval comes from a
bootstrap of blocks: residuals are drawn again in runs of neighbours, five hundred times, and the slope is fitted anew
(Künsch, "The jackknife and the bootstrap for general stationary observations", 1989). Memory *does not grow* if the
99 % interval reaches down to 0, or the slope is below 1 MB an hour; and if the fit grows by less than a tenth in all,
since a short run's interval is wide.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

POINT_S = 10.0
DRAWS = 500
HOURLY_MAX = 1e6  # bytes
GROWTH_MAX = 0.1
LEAST_POINTS = 8


class Slope(NamedTuple):
    """Bytes an hour, its 99 % interval; the share of all of it by which the fit grew, and over how many seconds."""

    hourly: float
    low: float
    high: float
    growth: float
    seconds: float
    points: int

    @property
    def flat(self) -> bool:
        """No growth that could be told from none."""
        return (self.low <= 0 or self.hourly < HOURLY_MAX) and self.growth < GROWTH_MAX

    def __str__(self) -> str:
        word = "flat" if self.flat else "GROWS"
        low, high = f"{self.low / 1e6:+.1f}", f"{self.high / 1e6:+.1f}"
        return (
            f"{self.hourly / 1e6:+.1f} MB/h [{low}, {high}], {self.growth:+.1%} in {self.seconds:.0f} s, "
            f"{self.points} points: {word}"
        )


def slope(samples: list[tuple[float, int]], seed: int = 1) -> Slope | None:
    """Of (seconds, bytes) in order of time; None if there are too few."""
    at, size = _points(samples)
    if len(at) < LEAST_POINTS:
        return None
    found = _theil_sen(at, size)
    fit = np.median(size - found * at) + found * at
    residuals, run = size - fit, max(2, round(len(at) ** 0.5))
    draw = np.random.default_rng(seed)
    drawn = []
    for _ in range(DRAWS):
        begins = draw.integers(0, len(at), -(-len(at) // run))
        picked = ((begins[:, None] + np.arange(run)) % len(at)).ravel()[: len(at)]
        drawn.append(_theil_sen(at, fit + residuals[picked]))
    low, high = np.percentile(drawn, [0.5, 99.5])
    seconds = float(at[-1] - at[0])
    growth = float(found * seconds / np.median(size))
    return Slope(float(found) * 3600, float(low) * 3600, float(high) * 3600, growth, seconds, len(at))


def _points(samples: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Medians of each POINT_S."""
    bins: dict[int, list[tuple[float, int]]] = {}
    for at, size in samples:
        bins.setdefault(int(at // POINT_S), []).append((at, size))
    medians = [np.median(np.array(one, dtype=float), axis=0) for _, one in sorted(bins.items())]
    both = np.array(medians).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _theil_sen(at: np.ndarray, size: np.ndarray) -> float:
    i, j = np.triu_indices(len(at), 1)
    return float(np.median((size[j] - size[i]) / (at[j] - at[i])))
