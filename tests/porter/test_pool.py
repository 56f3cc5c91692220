"""The pool: whoever fails, each number is had once if anybody has a good copy of it, and the end is reached."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from porter.member import Member
from porter.pool import Epoch, Numbers, Pool, raise_levels, unite
from protocol.ranges import Ranges

EPOCHS = [Epoch(b"a" * 16, 1), Epoch(b"b" * 16, 1)]
NUMBERS = st.sets(st.integers(0, 25))
HOLDINGS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=4)


def ranges_of(numbers: set[int]) -> Ranges:
    """A set of numbers as intervals."""
    return Ranges((number, number + 1) for number in numbers)


def numbers_of(sets: tuple[set[int], set[int]]) -> Numbers:
    """Numbers of two epochs."""
    return {epoch: ranges_of(numbers) for epoch, numbers in zip(EPOCHS, sets, strict=True)}


@given(HOLDINGS, HOLDINGS, st.integers(0, 1000))
def test_what_anybody_can_give_is_had_once_and_the_rest_is_named(
    held: list[tuple[set[int], set[int]]], broken: list[tuple[set[int], set[int]]], seed: int
) -> None:
    chance = random.Random(seed)
    members = [Member(str(number)) for number in range(len(held))]
    holdings = {member: numbers_of(sets) for member, sets in zip(members, held, strict=True)}
    gives: dict[Member, Numbers] = {}
    for number, member in enumerate(members):
        bad = numbers_of(broken[number % len(broken)])
        gives[member] = {epoch: numbers - bad[epoch] for epoch, numbers in holdings[member].items()}
    pool = Pool(holdings, unite(holdings.values()))
    had: list[tuple[Epoch, int]] = []
    flying: list[tuple[Member, Numbers]] = []
    for _ in range(10_000):
        for member in chance.sample(members, len(members)):
            if taken := pool.take(member, chance.randint(1, 9)):
                flying.append((member, taken))
                break
        if chance.random() < 0.5 and flying:
            member, taken = flying.pop(chance.randrange(len(flying)))
            came = {epoch: numbers & gives[member][epoch] for epoch, numbers in taken.items()}
            had += [(epoch, number) for epoch, numbers in came.items() for number in numbers.numbers()]
            pool.done(member, taken, came)
        elif not taken and not flying:
            break
    else:
        raise AssertionError("it never ends")
    given_out = unite(gives.values())
    possible = [(epoch, number) for epoch in EPOCHS for number in given_out[epoch].numbers()]
    assert sorted(had) == possible
    everything = unite(holdings.values())
    rest = pool.rest()
    for epoch in EPOCHS:
        assert rest.get(epoch, Ranges()) == everything[epoch] - given_out[epoch]


@given(st.lists(NUMBERS, max_size=6))
def test_copies_are_counted_like_by_hand(holders: list[set[int]]) -> None:
    levels: list[Numbers] = []
    for numbers in holders:
        raise_levels(levels, EPOCHS[0], ranges_of(numbers))
    for level in range(len(holders) + 1):
        wanted = {n for n in range(26) if sum(n in numbers for numbers in holders) > level}
        found = levels[level].get(EPOCHS[0], Ranges()) if level < len(levels) else Ranges()
        assert set(found.numbers()) == wanted
