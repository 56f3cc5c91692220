"""Who gets a copy from whom: the plan, held to counting packet by packet."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.copies import SPREAD, Place, alike_held, plan
from protocol.ranges import Ranges

NODES = [bytes([n]) * 16 for n in range(1, 6)]
GROUP = (b"t" * 16, 7)
sets = st.frozensets(st.integers(0, 30), max_size=20)


def ranges(numbers: object) -> Ranges:
    found = Ranges()
    for number in numbers:  # type: ignore[attr-defined]  # any iterable of int
        found.add(number, number + 1)
    return found


@given(st.lists(sets, min_size=1, max_size=5), sets)
def test_numbers_are_dealt_by_their_holders(held: list[frozenset[int]], numbers: frozenset[int]) -> None:
    having = {node: ranges(one) for node, one in zip(NODES, held, strict=False)}
    seen: set[int] = set()
    for holders, alike in alike_held(ranges(numbers), having):
        for number in alike.numbers():
            assert holders == tuple(node for node in having if number in having[node])
            assert number not in seen
            seen.add(number)
    assert seen == numbers


@given(st.lists(sets, min_size=1, max_size=5), sets, st.integers(1, 3), st.integers(0, 5), st.integers(0, 2))
def test_a_plan_gives_each_packet_its_copies_and_no_more(
    held: list[frozenset[int]], numbers: frozenset[int], copies: int, targets: int, leaving: int
) -> None:
    holdings = {node: {GROUP: ranges(one)} for node, one in zip(NODES, held, strict=False)}
    gone = NODES[:leaving]
    places = {node: Place(b"h%d" % (at % 3), "ab"[at % 2]) for at, node in enumerate(NODES) if at < targets}
    places = {node: place for node, place in places.items() if node not in gone}
    moves = plan(holdings, {GROUP: [(ranges(numbers), copies)]}, places, gone)
    for number in range(31):
        before = {node for node in holdings if number in holdings[node][GROUP]}
        sources = [move.source for move in moves if number in move.numbers]
        added = [move.target for move in moves if number in move.numbers]
        assert set(sources) <= before, "nobody gives what it has not"
        assert len(set(added)) == len(added)
        assert not set(added) & before
        assert set(added) <= places.keys()
        staying = before - set(gone)
        lacks = max(0, copies - len(staying)) if number in numbers and before else 0
        assert len(added) == min(lacks, len(places.keys() - staying))


def test_copies_go_to_other_hosts_and_zones_and_are_spread() -> None:
    a, b, c, d = NODES[:4]
    places = {a: Place(b"h1", "x"), b: Place(b"h1", "y"), c: Place(b"h2", "x"), d: Place(b"h3", "y")}
    numbers = Ranges([(0, 4 * SPREAD)])
    assert {move.target for move in plan({a: {GROUP: numbers}}, {GROUP: [(numbers, 2)]}, places)} == {d}
    even = {node: Place(node, "") for node in NODES}
    moves = plan({a: {GROUP: numbers}, b: {GROUP: numbers}}, {GROUP: [(numbers, 3)]}, even)
    assert sorted(move.numbers.count for move in moves) == [SPREAD, SPREAD, 2 * SPREAD] or len(moves) == 4
    given = {node: sum(move.numbers.count for move in moves if move.target == node) for node in NODES[2:]}
    assert max(given.values()) - min(given.values()) <= SPREAD
    taken = [sum(move.numbers.count for move in moves if move.source == node) for node in (a, b)]
    assert taken == [2 * SPREAD, 2 * SPREAD]
