"""Which seals the next part of an hour carries, and which hours need one for them: the archive alone proves all.

    window   from a day before the end of the last part's hour (hours without packets have no part: the next one has
             their seals too) to the end of this hour
    carried  of each chain what speaks of the window, and everything between that; what a part carries already, not
    needed   seals that must not wait for packets: a part without any row brings them, and a new verdict names it
    reopened archived hours of which such a seal speaks that no verdict names yet, whether a buck holds packets or not

A seal may reach the bucks long after the packets that it states, and hence after the part that holds these. It may also
go back: a tailer whose clock was ahead seals what it wrote meanwhile, then sets its clock right. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from porter.catalog import HOUR_S, hour_of
from protocol.ranges import Ranges
from protocol.seal import Seal

__all__ = ["carried", "reopened"]


class _Placed(NamedTuple):
    """A seal, and the time from `low` to `high` that it adds to what its chain states."""

    seal: Seal
    low: int
    high: int


def carried(
    seals: Sequence[Seal], told: Collection[bytes], window: tuple[int, int], there: bool
) -> tuple[list[bytes], bool]:
    """The seals for the next part of the hour that ends with `window`, and whether it is needed for their sake.

    `told` are seals (as bytes) that parts carry; `there`: the hour has a part already, or packets for one.
    """
    found: list[bytes] = []
    needed = False
    for chain in _chains(seals).values():
        speaking = [at for at, one in enumerate(chain) if _speaks(one, window)]
        last = max((at for at, one in enumerate(chain) if one.seal.data in told), default=-1)
        for at in range(speaking[0], speaking[-1] + 1) if speaking else ():
            if chain[at].seal.data not in told:
                found.append(chain[at].seal.data)
                needed = needed or at < last or _matters(chain[at], window[1], there)
    return found, needed


def reopened(seals: Sequence[Seal], named: Mapping[bytes, Ranges], archived: Collection[int]) -> set[int]:
    """The hours among those `archived` that a seal says more of: of their packets, or that they are whole.

    `named`: of each tailer the numbers of the seals that verdicts name. Each hour is over once a verdict names them.
    """
    hours, found = sorted(archived), set[int]()
    for tailer, chain in _chains(seals).items():
        told = named.get(tailer, Ranges())
        for one in chain:
            if one.seal.number not in told:
                speaking = {hour_of(section.bucket) for section in one.seal.sections}
                found |= speaking.intersection(archived)
                low = one.low if one.seal.number else min(speaking, default=one.high)  # none expects it before that
                found.update(hours[bisect_right(hours, low - HOUR_S) : bisect_right(hours, one.high - HOUR_S)])
    return found


def _chains(seals: Sequence[Seal]) -> Mapping[bytes, list[_Placed]]:
    chains: defaultdict[bytes, list[_Placed]] = defaultdict(list)
    until: defaultdict[bytes, int] = defaultdict(int)
    for seal in sorted(seals, key=lambda one: one.number):
        before, until[seal.tailer] = until[seal.tailer], seal.until
        chains[seal.tailer].append(_Placed(seal, min(before, seal.until), max(before, seal.until)))
    return chains


def _speaks(one: _Placed, window: tuple[int, int]) -> bool:
    """Does it say something of the window?"""
    start, end = window
    if any(start <= section.bucket < end for section in one.seal.sections):
        return True
    return one.high > start and (one.low < end or one.low == one.high == end)


def _matters(one: _Placed, end: int, there: bool) -> bool:
    """Does it say more than that a tailer lives: of packets or losses, that it leaves, or that the hour is whole?"""
    return bool(one.seal.sections) or one.seal.goodbye or (there and one.low < end <= one.high)
