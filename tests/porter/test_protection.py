"""How many copies packets should have, held to counting them one by one."""

from hypothesis import given
from hypothesis import strategies as st

from porter.pool import Epoch
from porter.protection import Protection, count_of
from protocol.identity import NodeKey
from protocol.packet import Class
from protocol.ranges import Ranges
from protocol.seal import FIRST, Seal, Section

KEY = NodeKey.from_seed(b"\x01" * 32)
EPOCH = Epoch(KEY.node, 7)
BUCKET, WIDTH = 1_700_000_100, 300
sets = st.frozensets(st.integers(0, 12), max_size=12)
PLAIN, MENDED = Class(1, False, False), Class(1, False, True)


def ranges(numbers: frozenset[int] | set[int]) -> Ranges:
    found = Ranges()
    for number in numbers:
        found.add(number, number + 1)
    return found


def seal(kind: Class, numbers: Ranges, given_up: Ranges) -> Seal:
    contents = bytes(16 * numbers.count)
    section = Section(7, BUCKET, kind, False, numbers, 1, 1, contents, given_up)
    return Seal(
        "prod", WIDTH, KEY.node, KEY.public, b"h", 0, FIRST, 0, BUCKET + WIDTH, 0, 0, False, (section,)
    )  # fmt: skip


@given(sets, sets, sets, st.lists(sets, max_size=4), st.integers(0, 5))
def test_each_packet_lacks_what_its_class_asks_for(
    plain: frozenset[int], mended: frozenset[int], given_up: frozenset[int], held: list[frozenset[int]], members: int
) -> None:
    plain -= mended
    protection = Protection([seal(PLAIN, ranges(plain), Ranges()), seal(MENDED, ranges(mended), ranges(given_up))])
    lacks = protection.lacking(BUCKET, [{EPOCH: ranges(one)} for one in held], members)
    found = {number: copies for some in lacks.values() for numbers, copies in some for number in numbers.numbers()}
    for number in range(13):
        has = sum(number in one for one in held)
        asked = 1 if number in plain else 3 if number in mended - given_up else 2
        should = min(asked, members)
        assert found.get(number) == (should if 0 < has < should else None), number
    assert count_of(lacks) == len(found)


def test_another_bucket_is_another_matter() -> None:
    protection = Protection([seal(MENDED, Ranges([(0, 2)]), Ranges())])
    held = [{EPOCH: Ranges([(0, 2)])}, {EPOCH: Ranges([(0, 2)])}]
    assert count_of(protection.lacking(BUCKET, held, 3)) == 2
    assert count_of(protection.lacking(BUCKET + WIDTH, held, 3)) == 0
