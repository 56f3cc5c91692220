"""Which seals the next part of an hour carries, so that the archive alone proves what its verdicts say.

    window   from a day before the end of the last part's hour (hours without packets have no part: the next one has
             their seals too) to the end of this hour
    carried  of each chain what speaks of the window, and everything between that; what a part carries already, not
    needed   seals that must not wait for packets: a part without any row brings them, and a new verdict names it

A seal may reach the bucks long after the packets that it states, and hence after the part that holds these. It may also
go back: a tailer whose clock was ahead seals what it wrote meanwhile, then sets its clock right. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

from protocol.seal import Seal

__all__ = ["carried"]


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
    chains: defaultdict[bytes, list[_Placed]] = defaultdict(list)
    until: defaultdict[bytes, int] = defaultdict(int)
    for seal in sorted(seals, key=lambda one: one.number):
        before, until[seal.tailer] = until[seal.tailer], seal.until
        chains[seal.tailer].append(_Placed(seal, min(before, seal.until), max(before, seal.until)))
    found: list[bytes] = []
    needed = False
    for chain in chains.values():
        speaking = [at for at, one in enumerate(chain) if _speaks(one, window)]
        last = max((at for at, one in enumerate(chain) if one.seal.data in told), default=-1)
        for at in range(speaking[0], speaking[-1] + 1) if speaking else ():
            if chain[at].seal.data not in told:
                found.append(chain[at].seal.data)
                needed = needed or at < last or _matters(chain[at], window[1], there)
    return found, needed


def _speaks(one: _Placed, window: tuple[int, int]) -> bool:
    """Does it say something of the window?"""
    start, end = window
    if any(start <= section.bucket < end for section in one.seal.sections):
        return True
    return one.high > start and (one.low < end or one.low == one.high == end)


def _matters(one: _Placed, end: int, there: bool) -> bool:
    """Does it say more than that a tailer lives: of packets or losses, that it leaves, or that the hour is whole?"""
    return bool(one.seal.sections) or one.seal.goodbye or (there and one.low < end <= one.high)
