"""What is lost, on average and at worst, when so many of so many nodes are hit at once: every case, counted.

A packet, or a partition, is on a set of nodes that is as likely as any other of its size. Its copies are all gone when
the set lies within the nodes that were hit. What `hit` means is another matter: a disk that is gone for ever, or a
power cut where nothing was on the device yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import combinations
from math import comb


def lost(nodes: int, copies: int, hit: int) -> Fraction:
    """The share of what has so many copies (fewer nodes: one on each) that has none left, over every placing and every
    set of nodes that may be hit. Sizes up to 9: all cases are looked at."""
    if not (1 <= nodes <= 9 and copies >= 1 and 0 <= hit <= nodes):
        raise ValueError(f"{nodes} nodes, {copies} copies, {hit} hit: 1 to 9 nodes, and no more hit than there are")
    gone = [
        set(holders) <= set(dead)
        for holders in combinations(range(nodes), min(copies, nodes))
        for dead in combinations(range(nodes), hit)
    ]
    return Fraction(sum(gone), len(gone))


def cases(nodes: int, copies: int, hit: int) -> int:
    """How many `lost` looks at."""
    return comb(nodes, min(copies, nodes)) * comb(nodes, hit)


def lost_of(shares: Mapping[int, float], nodes: int, hit: int) -> float:
    """Of a mix: the share of bytes with so many copies, by copies."""
    return sum(share * float(lost(nodes, copies, hit)) for copies, share in shares.items())


def copies_of(shares: Mapping[int, float]) -> float:
    """Copies of a mix, on average."""
    return sum(share * copies for copies, share in shares.items()) / sum(shares.values())


def quantile(values: list[float], share: float) -> float:
    """The least of these that at least such a share of them doesn't exceed. ValueError where there are none."""
    if not values or not 0 < share <= 1:
        raise ValueError(f"the {share} quantile of {len(values)} values: there must be some, and 0 < share <= 1")
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * Fraction(share).limit_denominator(10**6) // 1) - 1)]
