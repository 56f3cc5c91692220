"""What dies with how many bucks: the cells of the table that are promised."""

from pathlib import Path

import pytest

from bench.losses import Cell, majorities, markdown, place, table


@pytest.fixture(scope="module")
def cells() -> dict[tuple[int, int], Cell]:
    return {(cell.bucks, cell.killed): cell for cell in table()}


@pytest.mark.parametrize("bucks", [3, 4, 5, 6])
def test_any_two_bucks_may_die_after_A2(cells: dict[tuple[int, int], Cell], bucks: int) -> None:
    assert cells[bucks, 2].a2 == cells[bucks, 2].worst_a2 == 0
    assert cells[bucks, 1].a1 == 0


def test_three_of_six_lose_one_in_twenty_of_three_copies_and_one_in_five_of_two(
    cells: dict[tuple[int, int], Cell],
) -> None:
    assert cells[6, 3].a2 == pytest.approx(1 / 20)
    assert cells[6, 3].a1 == pytest.approx(4 / 20)
    assert cells[6, 3].worst_a2 < 0.07, "the choice is even: no three bucks hold more than their share"


def test_two_of_three_lose_one_in_three_of_what_two_hold(cells: dict[tuple[int, int], Cell]) -> None:
    assert cells[3, 2].a1 == pytest.approx(1 / 3)


def test_a_majority_quorum_stops_where_bucks_go_on(cells: dict[tuple[int, int], Cell]) -> None:
    assert [killed for killed in (1, 2, 3, 4) if cells[5, killed].quorum_writes] == [1, 2]
    assert cells[5, 2].quorum == 0
    assert cells[5, 3].quorum == pytest.approx(1 / 10)
    assert len(majorities(5)) == 10


def test_copies_of_a_packet_are_on_different_bucks() -> None:
    assert {len(holders) for holders in place(6, 3)} == {3}


def test_the_table_is_markdown(cells: dict[tuple[int, int], Cell]) -> None:
    text = markdown(cells.values())
    assert "| 6 | 3 | 20.0 % | 5.0 % |" in text
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_the_table_of_the_document_is_the_one_that_comes_out(cells: dict[tuple[int, int], Cell]) -> None:
    assert markdown(cells.values()) in (Path(__file__).parents[2] / "docs/SCENARIOS.md").read_text()
