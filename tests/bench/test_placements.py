"""What dies with how many nodes: the cells that can be reckoned by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest

from bench.losses import mean_lost, place
from bench.papers.placements import SCHEMES, Outcome, outcome, sets, table

CELLS = {(nodes, killed): row for nodes, killed, row in table()}
NONE = Fraction(0)


@pytest.mark.parametrize(
    ("nodes", "killed", "scheme", "expected"),
    [
        (3, 1, "random 2", Outcome(NONE, NONE, NONE)),
        (3, 2, "random 2", Outcome(Fraction(1, 3), NONE, Fraction(1))),
        (6, 3, "random 2", Outcome(Fraction(1, 5), NONE, NONE)),
        (6, 3, "random 3", Outcome(Fraction(1, 20), NONE, NONE)),
        (6, 2, "random 3", Outcome(NONE, NONE, NONE)),
        (6, 3, "Kafka, 3 in sync", Outcome(Fraction(1, 20), NONE, Fraction(1, 2))),
        (3, 2, "Kafka, 2 in sync", Outcome(Fraction(1, 3), NONE, Fraction(1))),
        (6, 2, "Raft of 3, two have it", Outcome(Fraction(1, 15), Fraction(2, 15), Fraction(1, 5))),
        (6, 2, "Raft of 3, all have it", Outcome(NONE, Fraction(1, 5), Fraction(1, 5))),
        (5, 3, "Raft, one group", Outcome(Fraction(1, 10), Fraction(9, 10), Fraction(1))),
        (5, 2, "Raft, one group", Outcome(NONE, NONE, NONE)),
    ],
)
def test_cells_that_can_be_reckoned_by_hand(nodes: int, killed: int, scheme: str, expected: Outcome) -> None:
    assert CELLS[nodes, killed][scheme] == expected


def test_every_size_and_every_number_of_dead_is_there() -> None:
    assert list(CELLS) == [(nodes, killed) for nodes in (3, 4, 5, 6) for killed in range(1, nodes)]
    assert all(row.keys() == SCHEMES.keys() for row in CELLS.values())
    assert all(0 <= one.lost + one.hidden <= 1 for row in CELLS.values() for one in row.values())


def test_random_places_are_those_that_the_tailer_chooses() -> None:
    chosen = place(6, 3)
    counted = outcome(SCHEMES["random 3"](frozenset(range(6))), frozenset(range(6)), 4).lost
    assert mean_lost(chosen, [tuple(dead) for dead in sets(frozenset(range(6)), 4)]) == pytest.approx(float(counted))
