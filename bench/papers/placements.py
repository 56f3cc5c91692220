"""What k dead nodes of n cost, by who holds an event and who has to be asked: every case counted, nothing drawn.

A scheme is all places an event may have, each as likely as the others. Buck: any two (three) nodes, and whoever lives
can take the next one. Kafka: the three replicas of a partition hold an event, or two where the third had fallen out of
the replicas in sync, and two must live for the next one (min.insync.replicas 2); a leader is elected only among those
in sync. Raft with groups of three (JetStream R3): an entry is committed when two of the three have it, the third has it
a moment later, and without two the group neither takes nor gives; the same with one group of all nodes, which is what a
single consensus would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import NamedTuple

Nodes = frozenset[int]
SIZES = (3, 4, 5, 6)


class Place(NamedTuple):
    """`holders` have the event; so many of `group` must live to take another, or to give this one."""

    group: Nodes
    holders: Nodes
    to_take: int
    to_give: int


@dataclass(frozen=True)
class Outcome:
    """Shares. `lost`: all holders are dead. `hidden`: not lost, but nobody may give it before a node returns.
    `refused`: of new events."""

    lost: Fraction
    hidden: Fraction
    refused: Fraction


def sets(nodes: Nodes, size: int) -> Iterator[Nodes]:
    return (frozenset(one) for one in combinations(sorted(nodes), size))


def random_nodes(copies: int) -> Callable[[Nodes], list[Place]]:
    """Two copies before the acknowledgement, on any nodes that live."""
    return lambda nodes: [Place(nodes, holders, 2, 1) for holders in sets(nodes, copies)]


def in_sync(replicas: int) -> Callable[[Nodes], list[Place]]:
    return lambda nodes: [Place(group, one, 2, 1) for group in sets(nodes, 3) for one in sets(group, replicas)]


def raft_of_three(have_it: int) -> Callable[[Nodes], list[Place]]:
    return lambda nodes: [Place(group, one, 2, 2) for group in sets(nodes, 3) for one in sets(group, have_it)]


def raft_of_all(nodes: Nodes) -> list[Place]:
    majority = len(nodes) // 2 + 1
    return [Place(nodes, holders, majority, majority) for holders in sets(nodes, majority)]


SCHEMES: dict[str, Callable[[Nodes], list[Place]]] = {
    "random 2": random_nodes(2),
    "random 3": random_nodes(3),
    "Kafka, 3 in sync": in_sync(3),
    "Kafka, 2 in sync": in_sync(2),
    "Raft of 3, all have it": raft_of_three(3),
    "Raft of 3, two have it": raft_of_three(2),
    "Raft, one group": raft_of_all,
}


def outcome(places: list[Place], nodes: Nodes, killed: int) -> Outcome:
    """Over every set of so many nodes that may die, and every place."""
    lost = hidden = refused = count = 0
    for dead in sets(nodes, killed):
        for place in places:
            live = len(place.group - dead)
            gone = place.holders <= dead
            count += 1
            lost += gone
            hidden += not gone and live < place.to_give
            refused += live < place.to_take
    return Outcome(Fraction(lost, count), Fraction(hidden, count), Fraction(refused, count))


def table() -> Iterator[tuple[int, int, dict[str, Outcome]]]:
    """Nodes, how many of them die at once, and what that costs under each scheme."""
    for size in SIZES:
        nodes = frozenset(range(size))
        for killed in range(1, size):
            yield size, killed, {name: outcome(places(nodes), nodes, killed) for name, places in SCHEMES.items()}
