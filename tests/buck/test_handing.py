"""What a leaving buck has to hand on, held to counting by hand."""

from hypothesis import given
from hypothesis import strategies as st

from buck.handing import still_lacking, wanted
from buck.healing import Last, Stated, batches, sources
from protocol.packet import Class
from protocol.ranges import Ranges
from protocol.roster import Retirement
from protocol.seal import FIRST, Seal, Section
from tests.buck.making import BUCKET, KEY, NODE, OTHER, WIDTH
from tests.protocol.test_copies import GROUP, NODES, ranges, sets


def counted(lacks: dict) -> dict[int, int]:
    """number -> copies that others should have"""
    return {number: copies for numbers, copies in lacks.get(GROUP, []) for number in numbers.numbers()}


@given(sets, st.lists(sets, max_size=4))
def test_each_packet_keeps_the_number_of_its_copies_up_to_three(
    mine: frozenset[int], others: list[frozenset[int]]
) -> None:
    having = {node: {GROUP: ranges(held)} for node, held in zip(NODES, others, strict=False)}
    lacks = wanted({GROUP: ranges(mine)}, having, len(others))
    for number in mine:
        has = sum(number in held for held in others)
        should = min(3, has + 1, len(others))
        assert counted(lacks).get(number) == (should if has < should else None)
    assert not set(counted(lacks)) - mine
    assert counted(still_lacking(lacks, having, {})) == counted(lacks)
    given_on = {node: {GROUP: holdings[GROUP] | ranges(mine)} for node, holdings in having.items()}
    assert still_lacking(lacks, given_on, {}) == {}


@given(sets, st.lists(sets, max_size=4), sets)
def test_what_is_archived_is_not_handed_on(
    mine: frozenset[int], others: list[frozenset[int]], archived: frozenset[int]
) -> None:
    having = {node: {GROUP: ranges(held)} for node, held in zip(NODES, others, strict=False)}
    lacks = wanted({GROUP: ranges(mine)}, having, len(others))
    left = counted(still_lacking(lacks, having, {GROUP: ranges(archived)}))
    assert left == {number: copies for number, copies in counted(lacks).items() if number not in archived}


@given(sets, st.integers(1, 7))
def test_batches_hold_all_and_not_too_much(numbers: frozenset[int], size: int) -> None:
    found = batches({GROUP: ranges(numbers), (KEY.node, 1): Ranges([(0, 5)])}, size)
    assert all(0 < sum(one.count for *_, one in batch) <= size for batch in found)
    every = [(tailer, epoch, number) for batch in found for tailer, epoch, one in batch for number in one.numbers()]
    assert sorted(every) == sorted([(*GROUP, n) for n in numbers] + [(KEY.node, 1, n) for n in range(5)])


def test_only_what_fewer_than_three_others_hold_is_pulled_back() -> None:
    lacking = {GROUP: Ranges([(0, 10)])}
    having = {node: {GROUP: Ranges([(0, end)])} for node, end in zip(NODES, (9, 6, 3), strict=False)}
    back = sources(lacking, having, 0.0)
    assert back == {NODES[0]: {GROUP: Ranges([(3, 9)])}}
    assert sources(lacking, having, 0.99) == {NODES[1]: {GROUP: Ranges([(3, 6)])}, NODES[0]: {GROUP: Ranges([(6, 9)])}}


def stated(*seals: tuple[int, int, bool, Ranges]) -> Stated:
    found = Stated(frozenset({BUCKET}))
    for number, until, closing, numbers in seals:
        section = Section(7, BUCKET, Class(2, False, True), False, numbers, 1, 1, bytes(16 * numbers.count))
        other = Section(7, BUCKET + WIDTH, Class(2, False, True), False, Ranges([(90, 91)]), 1, 1, bytes(16))
        found.add(
            Seal("prod", WIDTH, KEY.node, KEY.public, b"h", number, FIRST, 0, until, 0, 0, closing, (section, other))
        )
    return found


def test_seals_name_what_should_be_there_in_any_order() -> None:
    found = stated((1, BUCKET + 600, False, Ranges([(5, 7)])), (0, BUCKET, True, Ranges([(0, 3)])))
    assert found.named == {BUCKET: {(KEY.node, 7): Ranges([(0, 3), (5, 7)])}}
    assert found.last == {KEY.node: Last(1, BUCKET + 600, False)}


def test_a_window_is_over_for_who_stated_it_to_its_end_or_closed_and_kept_silent() -> None:
    end = BUCKET + WIDTH
    assert stated((0, end, False, Ranges())).is_over(KEY.node, end, end)
    assert not stated((0, end - 1, False, Ranges())).is_over(KEY.node, end, end + 10**6)
    assert not stated((0, BUCKET, True, Ranges())).is_over(KEY.node, end, end + 100)
    assert stated((0, BUCKET, True, Ranges())).is_over(KEY.node, end, end + 200)
    assert not stated((0, end, False, Ranges())).is_over(OTHER.node, end, end), "nobody knows what it has written"


def test_who_is_retired_is_not_waited_for_unless_it_spoke_again() -> None:
    end = BUCKET + WIDTH
    silent = stated((0, BUCKET, False, Ranges()), (1, BUCKET, False, Ranges()))
    for seals, over in ((1, False), (2, True)):
        word = Retirement("prod", KEY.node, "tailer", b"h", NODE.public, 0, seals, BUCKET)
        assert silent.is_over(KEY.node, end, end, [word]) is over
        assert not silent.is_over(OTHER.node, end, end, [word])
