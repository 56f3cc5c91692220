"""Seals: signed, chained, and whoever tampers with one is found out."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import limits
from protocol.envelope import PREFIX
from protocol.errors import SealError, VersionError
from protocol.identity import NodeKey
from protocol.packed import pack, unpack_array
from protocol.packet import Class
from protocol.ranges import Ranges
from protocol.seal import FIRST, Seal, Section, chain
from protocol.seal import SEAL as ENVELOPE
from tests.protocol.wire_samples import BUCK, BUCKET, KEY, anything

SECTION = Section(7 << 32, BUCKET, Class(3, True, False), True, Ranges([(0, 2), (5, 6)]), 900, 80_000, bytes(range(48)),
                  Ranges([(3, 4)]), 17, 5, True, 23, BUCKET - 86_400)  # fmt: skip
SEAL = Seal("prod", 300, KEY.node, KEY.public, b"web-17", 0, FIRST, 10**18, BUCKET + 300, -4_000, 2, False, (SECTION,))


def signed(number: int = 0, previous: bytes = FIRST, key: NodeKey = KEY, **changes: object) -> Seal:
    made = replace(SEAL, number=number, previous=previous, tailer=key.node, public=key.public, **changes)
    return made.signed(key)


def links(count: int) -> list[Seal]:
    """A chain of so many."""
    seals = [signed()]
    while len(seals) < count:
        seals.append(signed(len(seals), seals[-1].digest))
    return seals


def resigned(row: list[object]) -> bytes:
    """Any array as a seal with a right signature: what a stolen key could send."""
    return ENVELOPE.wrap(KEY, pack(row))


ROW = unpack_array(SEAL.signed(KEY).data[PREFIX.size : -64])


@given(
    st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.booleans(),
    st.one_of(st.none(), st.integers(-1, 2**63)), st.lists(st.integers(0, 99), unique=True, max_size=9),
)  # fmt: skip
def test_a_seal_reads_back_as_it_was_written(
    number: int, offset: int, closing: bool, lost: int | None, numbers: list[int]
) -> None:
    ranges = Ranges((n, n + 1) for n in numbers)
    section = replace(SECTION, numbers=ranges, contents=bytes(16 * len(numbers)), lost_after=lost)
    seal = replace(SEAL, number=number, offset_ns=offset, closing=closing, sections=(section, SECTION), goodbye=closing)
    found = Seal.read(seal.signed(KEY).data)
    assert found == seal
    assert found.data == seal.signed(KEY).data
    assert found.digest == seal.signed(KEY).digest


def test_every_single_flipped_bit_is_caught() -> None:
    data = SEAL.signed(KEY).data
    for at in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises((SealError, VersionError)):
            Seal.read(damaged)


@given(st.binary(max_size=300))
def test_garbage_is_no_seal(garbage: bytes) -> None:
    for data in (garbage, ENVELOPE.magic + garbage, PREFIX.pack(ENVELOPE.magic, len(garbage)) + garbage + bytes(64)):
        with pytest.raises((SealError, VersionError)):
            Seal.read(data)


def test_nobody_signs_for_another() -> None:
    with pytest.raises(SealError, match="signed by the key"):
        SEAL.signed(BUCK)
    stolen = replace(SEAL, public=BUCK.public)
    with pytest.raises(SealError):
        stolen.signed(BUCK)
    row = [*ROW]
    row[4] = BUCK.public  # the id of one, the key of another
    with pytest.raises(SealError, match="not that of its tailer"):
        Seal.read(ENVELOPE.wrap(BUCK, pack(row)))


def test_a_later_version_is_told_apart_from_damage() -> None:
    with pytest.raises(VersionError):
        Seal.read(resigned([2, "something", "new"]))


@given(st.integers(0, 14), anything)
def test_a_seal_with_any_member_replaced_reads_or_is_a_seal_error(at: int, value: object) -> None:
    row = [*ROW]
    row[at] = value
    try:
        found = Seal.read(resigned(row))
    except (SealError, VersionError):
        return
    assert found.signed(KEY).data == found.data


@pytest.mark.parametrize(
    "wrong",
    [
        {"contents": bytes(47)}, {"contents": bytes(64)}, {"bucket": BUCKET + 1},
        {"numbers": Ranges([(0, limits.SEAL_PACKETS_MAX + 1)]), "contents": bytes(16 * (limits.SEAL_PACKETS_MAX + 1))},
        {"numbers": Ranges([(0, 2**63)])},
    ],
)  # fmt: skip
def test_a_section_that_contradicts_itself_is_not_written(wrong: dict[str, object]) -> None:
    with pytest.raises(SealError):
        replace(SEAL, sections=(replace(SECTION, **wrong),)).signed(KEY)


def test_nobody_says_goodbye_in_the_middle_of_a_run() -> None:
    with pytest.raises(SealError, match="goodbye"):
        replace(SEAL, goodbye=True).signed(KEY)


def test_an_offset_beyond_64_bits_is_not_written() -> None:
    with pytest.raises(SealError):
        replace(SEAL, offset_ns=2**63).signed(KEY)


def test_a_seal_has_no_digest_before_it_is_signed() -> None:
    with pytest.raises(SealError):
        SEAL.digest  # noqa: B018  # the property raises


def test_a_whole_chain_has_neither_holes_nor_forks() -> None:
    seals = links(4)
    found = chain([seals[2], seals[0], seals[3], seals[1], seals[2]])
    assert found.ordered == tuple(seals)
    assert not found.holes
    assert not found.forks
    assert chain([]) == ((), Ranges(), Ranges())


def test_a_missing_seal_is_a_hole() -> None:
    seals = links(5)
    found = chain([seals[1], seals[4]])
    assert found.holes == Ranges([(0, 1), (2, 4)])
    assert found.ordered == (seals[1], seals[4])
    assert not found.forks


def test_two_seals_of_one_number_are_a_fork_and_the_chain_goes_through_the_one_that_is_named() -> None:
    seals = links(3)
    for crashes in range(8):  # whichever has the smaller digest
        other = signed(1, seals[0].digest, crashes=100 + crashes)
        found = chain([*seals, other])
        assert found.forks == Ranges([(1, 2)])
        assert found.ordered == tuple(seals)


def test_a_seal_that_names_another_one_before_it_is_a_fork() -> None:
    seals = links(2)
    stray = signed(2, bytes(32))
    assert chain([*seals, stray]).forks == Ranges([(1, 2)])


def test_a_first_seal_with_something_before_it_is_a_fork() -> None:
    assert chain([signed(0, b"x" * 32)]).forks == Ranges([(0, 1)])


def test_two_tailers_make_no_chain() -> None:
    with pytest.raises(SealError, match="several"):
        chain([signed(), signed(key=BUCK)])
