"""What a seal takes in at once: never more than its readers take."""

import pytest

from protocol.limits import SEAL_PACKETS_MAX, SEAL_SECTIONS_MAX
from protocol.packet import Class
from protocol.ranges import Ranges
from protocol.seal import FIRST, Seal
from tailer.chain import Chain
from tailer.ledger import Entry, Ledger
from tailer.sealing import sections
from tests.tailer.journals import KEY

EPOCH = 1 << 32
WIDTH = 5
SOME = [Class(2, False, True), Class(3, True, True), Class(1, False, False)]


def entry(number: int, bucket: int, kind: Class) -> Entry:
    facts = {"segment": 1, "offset": 0, "size": 100, "late": False, "count": 1, "raw": 10}
    return Entry(EPOCH, number, bucket=bucket, kind=kind, content=bytes(16), **facts)  # type: ignore[arg-type]  # as they are


@pytest.mark.parametrize(("packets", "buckets"), [(18_000, 18_000), (60_000, 3)])
def test_a_day_of_short_buckets_is_sealed_in_several_seals(packets: int, buckets: int) -> None:
    """A day without any buck and buckets of 5 s: more accounts than a seal may have."""
    ledger, chain = Ledger(), Chain()
    for number in range(packets):
        ledger.add(entry(number, number % buckets * WIDTH, SOME[number % len(SOME)]))
    stated, seals = Ranges(), 0
    while ledger.unsealed:
        found = sections(ledger, chain, 0, EPOCH)
        facts = KEY.node, KEY.public, b"web1", seals, FIRST, 0, 0, 0, 0, False
        Seal.read(Seal("prod", WIDTH, *facts, found).signed(KEY).data)  # nobody refuses it
        numbers = Ranges.union(section.numbers for section in found)
        assert not numbers & stated
        assert len(found) <= SEAL_SECTIONS_MAX
        assert 0 < numbers.count <= SEAL_PACKETS_MAX
        stated |= numbers
        ledger.note_sealed(EPOCH, numbers)
        seals += 1
    assert stated == Ranges([(0, packets)])
    assert seals < 10
