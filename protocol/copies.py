"""Who should get a copy from whom, when packets have fewer than they should. Pure arithmetic on sets of numbers.

    held     buck 1 {0..9}  buck 2 {0..4}  buck 3 {}        wanted: 0..9 three times
    moves    5..9: buck 1 -> buck 2;  0..9: buck 1 or 2 -> buck 3

Packets with the same holders are dealt with together. A copy goes where it shares least of the fate of the others
(another host counts more than another zone), and of those that are equal to whoever was given least so far; it comes
from the holder that gave least. The same rule serves a buck that leaves, one that pulls back, and `porter repair`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from protocol.ranges import Ranges

Group = tuple[bytes, int]  # tailer, epoch
G = TypeVar("G", bound=Group)
# Packets that are given to one buck before the next is chosen: so that a long run is spread.
SPREAD: Final = 64


class Place(NamedTuple):
    """Where a buck is."""

    host: bytes
    zone: str


class Move(NamedTuple):
    """Packets of one (tailer, epoch) that `target` is to fetch from `source`."""

    source: bytes
    target: bytes
    group: Group
    numbers: Ranges


def plan(
    held: Mapping[bytes, Mapping[G, Ranges]],
    wanted: Mapping[G, Sequence[tuple[Ranges, int]]],
    places: Mapping[bytes, Place],
    leaving: Collection[bytes] = (),
) -> list[Move]:
    """What to move so that each of `wanted` (numbers, copies) is on so many bucks, as far as there are bucks.

    `held` says who has what, `places` which bucks may be given copies; what those in `leaving` hold may be fetched from
    them, and does not count. What nobody holds can't be moved, and is left out.
    """
    moves: dict[tuple[bytes, bytes, Group], Ranges] = {}
    given, taken = Counter[bytes](), Counter[bytes]()
    for group in sorted(wanted):
        having = {node: holdings[group] for node, holdings in held.items() if holdings.get(group)}
        for numbers, copies in wanted[group]:
            for holders, alike in alike_held(numbers, having):
                staying = [node for node in holders if node not in leaving]
                if not holders or len(staying) >= copies:
                    continue
                for part in alike.portions(SPREAD):
                    source = min(holders, key=lambda node: (taken[node], node))
                    for target in _choose(staying, copies - len(staying), places, given):
                        taken[source] += part.count
                        given[target] += part.count
                        way = source, target, group
                        moves[way] = moves[way] | part if way in moves else part
    return [
        Move(source, target, group, numbers) for (source, target, group), numbers in sorted(moves.items(), key=_key)
    ]


def alike_held(numbers: Ranges, having: Mapping[bytes, Ranges]) -> Iterator[tuple[tuple[bytes, ...], Ranges]]:
    """`numbers` by who holds them: (holders, those of the numbers that exactly these hold)."""
    left: list[tuple[tuple[bytes, ...], Ranges]] = [((), numbers)] if numbers else []
    for node in sorted(having):
        split: list[tuple[tuple[bytes, ...], Ranges]] = []
        for holders, alike in left:
            theirs = alike & having[node]
            rest = alike - theirs if theirs else alike
            split += [((*holders, node), theirs)] if theirs else []
            split += [(holders, rest)] if rest else []
        left = split
    yield from left


def _choose(holders: Sequence[bytes], count: int, places: Mapping[bytes, Place], given: Counter[bytes]) -> list[bytes]:
    """Up to `count` bucks that hold nothing of it yet."""
    free = [node for node in sorted(places) if node not in holders]
    near = [places[node] for node in holders if node in places]
    chosen: list[bytes] = []
    while free and len(chosen) < count:
        best = min(free, key=lambda node: (_nearness(places[node], near), given[node], node))
        free.remove(best)
        chosen.append(best)
        near.append(places[best])
    return chosen


def _nearness(place: Place, others: Sequence[Place]) -> int:
    same_host = any(place.host == other.host for other in others)
    same_zone = any(place.zone == other.zone for other in others)
    return 2 * same_host + same_zone


def _key(item: tuple[tuple[bytes, bytes, Group], Ranges]) -> tuple[bytes, bytes, Group]:
    return item[0]
