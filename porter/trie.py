"""The bucket trie: a bucket too large for memory is cut by time, and its parts again, until each fits.

    bucket  08:00:00 ... 08:05:00                          3 GB: too large
            |----|----|----|----|---- ... 16 children      each 190 MB: still too large for a row group
                 |-|-|-|-|- ... 16 children                each 12 MB: neighbours are joined up to what fits

A packet says between which points its events lie, so what a child holds is reckoned from headers alone, as if events
were spread evenly; nothing is decoded to plan. A packet across an edge belongs to both sides: who reads a leaf takes
the rows with `low <= point < high` of each of its packets. A hundred thousand lines at one point can't be cut by
time; there, packets are dealt to leaves in the order given, each packet to one.

Late packets, filed by arrival, keep their own points, which may be years apart: a trie of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Leaf", "Limit", "Load", "leaves"]

CHILDREN = 16  # four bits of time a level: seven levels cut 300 s to 1 microsecond


class Limit(NamedTuple):
    """What fits a leaf."""

    rows: int
    raw: int


@dataclass(frozen=True, slots=True)
class Load:
    """A packet as the planner sees it: `what` is the caller's; points from `low` up to and including `high`."""

    what: object
    low: int
    high: int
    rows: int
    raw: int


class Leaf(NamedTuple):
    """Rows with low <= point < high of these packets are one unit of work.

    `dealt`: other leaves have other packets of the very same time, so this one is never joined to a neighbour.
    """

    low: int
    high: int
    loads: tuple[Load, ...]
    dealt: bool = False


def leaves(loads: Sequence[Load], limit: Limit) -> Iterator[Leaf]:
    """Cut by time until each part fits, in order of time. Every row of every packet is in exactly one leaf."""
    if not loads:
        return
    low, high = min(load.low for load in loads), max(load.high for load in loads) + 1
    gathered: list[Leaf] = []
    for leaf in _split(Leaf(low, high, tuple(loads)), limit):
        if gathered and (leaf.dealt or gathered[-1].dealt or not _fits(_join([*gathered, leaf]), limit)):
            yield _join(gathered)
            gathered = []
        gathered.append(leaf)
    yield _join(gathered)


def _split(leaf: Leaf, limit: Limit) -> Iterator[Leaf]:
    if _fits(leaf, limit):
        yield leaf
    elif leaf.high - leaf.low == 1:
        yield from _deal(leaf, limit)
    else:
        step = -(-(leaf.high - leaf.low) // CHILDREN)
        for low in range(leaf.low, leaf.high, step):
            high = min(low + step, leaf.high)
            child = Leaf(low, high, tuple(load for load in leaf.loads if load.low < high and low <= load.high))
            if child.loads:
                yield from _split(child, limit)


def _deal(leaf: Leaf, limit: Limit) -> Iterator[Leaf]:
    """One point holds too much: as many packets a leaf as fit, at least one."""
    dealt: list[Load] = []
    for load in leaf.loads:
        if dealt and not _fits(Leaf(leaf.low, leaf.high, (*dealt, load)), limit):
            yield Leaf(leaf.low, leaf.high, tuple(dealt), dealt=True)
            dealt = []
        dealt.append(load)
    yield Leaf(leaf.low, leaf.high, tuple(dealt), dealt=True)


def _fits(leaf: Leaf, limit: Limit) -> bool:
    rows = sum(_share(load, leaf, load.rows) for load in leaf.loads)
    raw = sum(_share(load, leaf, load.raw) for load in leaf.loads)
    return rows <= limit.rows and raw <= limit.raw


def _share(load: Load, leaf: Leaf, amount: int) -> int:
    """How much of a packet lies in a leaf, if its events are spread evenly; never nothing."""
    span = load.high - load.low + 1
    inside = min(load.high + 1, leaf.high) - max(load.low, leaf.low)
    return -(-amount * inside // span)


def _join(parts: Sequence[Leaf]) -> Leaf:
    """Neighbours as one."""
    if len(parts) == 1:
        return parts[0]
    loads = dict.fromkeys(load for leaf in parts for load in leaf.loads)
    return Leaf(parts[0].low, parts[-1].high, tuple(loads))
