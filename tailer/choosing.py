"""Which bucks a packet is given to: rather on hosts and in zones that hold none of it, if there are any. Pure."""

from collections.abc import Sequence

from tailer.members import Buck


def choose(shuffled: Sequence[Buck], holders: Sequence[Buck], count: int) -> list[Buck]:
    """Up to `count` of these, the earlier of two that are equally far; the holders have it already."""
    left = list(shuffled)
    chosen: list[Buck] = []
    while left and len(chosen) < count:
        near = [*holders, *chosen]
        best = min(left, key=lambda buck: _nearness(buck, near))
        left.remove(best)
        chosen.append(best)
    return chosen


def _nearness(buck: Buck, others: Sequence[Buck]) -> int:
    """How much a copy there shares the fate of the others: the same host counts more than the same zone."""
    same_host = any(buck.host == other.host for other in others)
    same_zone = any(buck.zone == other.zone for other in others)
    return 2 * same_host + same_zone
