"""The roster: who is expected, what ends that, and retirements that nobody can change."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import limits
from protocol.envelope import PREFIX
from protocol.errors import RosterError, VersionError
from protocol.packed import pack, unpack_array
from protocol.roster import EXPECTED, GOODBYE, RETIRED, Entry, Expected, Retirement, roster
from protocol.roster import RETIREMENT as ENVELOPE
from protocol.seal import FIRST, Seal
from tests.protocol.wire_samples import BUCK, BUCKET, KEY, anything

ADMIN = BUCK
RETIREMENT = Retirement("prod", KEY.node, "tailer", b"web-17", ADMIN.public, 10**18, 2, BUCKET + 600)
ROW = unpack_array(RETIREMENT.signed(ADMIN).data[PREFIX.size : -64])


def chain(count: int, goodbye: bool = False) -> list[Seal]:
    """So many seals of a tailer, one a window; the last may be its goodbye."""
    seals: list[Seal] = []
    for number in range(count):
        end = goodbye and number == count - 1
        previous = seals[-1].digest if seals else FIRST
        until = BUCKET + 300 * (number + 1)
        facts = ("prod", 300, KEY.node, KEY.public, b"web-17", number, previous, until * 10**9, until, 0, 0, end, ())
        seals.append(Seal(*facts, goodbye=end).signed(KEY))
    return seals


def entry(seals: list[Seal], expected: list[Expected], retired: list[Retirement]) -> Entry:
    return roster({KEY.node: seals}, expected, retired)[KEY.node]


def resigned(row: list[object]) -> bytes:
    return ENVELOPE.wrap(ADMIN, pack(row))


@given(
    st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.sampled_from(["tailer", "buck"]), st.binary(max_size=255)
)
def test_a_retirement_reads_back_as_it_was_signed(seals: int, until: int, role: str, host: bytes) -> None:
    made = replace(RETIREMENT, seals=seals, until=until, role=role, host=host)
    found = Retirement.read(made.signed(ADMIN).data)
    assert found == made
    assert len(found.data) <= limits.RETIREMENT_SIZE_MAX


def test_every_single_flipped_bit_of_a_retirement_is_caught() -> None:
    data = RETIREMENT.signed(ADMIN).data
    for at in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises((RosterError, VersionError)):
            Retirement.read(damaged)


@given(st.binary(max_size=200))
def test_garbage_is_no_retirement(garbage: bytes) -> None:
    for data in (garbage, ENVELOPE.magic + garbage, PREFIX.pack(ENVELOPE.magic, len(garbage)) + garbage + bytes(64)):
        with pytest.raises((RosterError, VersionError)):
            Retirement.read(data)


@given(st.integers(0, 8), anything)
def test_a_retirement_with_any_member_replaced_reads_or_is_an_error(at: int, value: object) -> None:
    row = [*ROW]
    row[at] = value
    try:
        found = Retirement.read(resigned(row))
    except (RosterError, VersionError):
        return
    assert found.signed(ADMIN).data == found.data


def test_a_retirement_of_a_later_version_is_told_apart_from_damage() -> None:
    with pytest.raises(VersionError):
        Retirement.read(resigned([2, "something", "new"]))


def test_nobody_retires_in_the_name_of_another_key() -> None:
    with pytest.raises(RosterError, match="signed by the key"):
        RETIREMENT.signed(KEY)


def test_a_tailer_is_expected_from_the_day_that_anybody_met_it() -> None:
    assert entry(chain(2), [], []) == Entry(KEY.node, b"web-17", BUCKET + 300, 0, EXPECTED, 2)
    met = Expected(KEY.node, b"web-17", BUCKET - 900)
    assert entry(chain(2), [met], []).since == BUCKET - 900
    assert entry([], [met, met._replace(since=BUCKET)], []) == Entry(*met, 0, EXPECTED, 0)


def test_a_goodbye_ends_an_entry_and_a_later_seal_takes_it_back() -> None:
    assert entry(chain(2, goodbye=True), [], [])[3:] == (BUCKET + 600, GOODBYE, 2)
    assert entry([*chain(2, goodbye=True), *chain(3)[2:]], [], [])[3:] == (0, EXPECTED, 3)


def test_a_retirement_ends_an_entry_and_a_later_seal_takes_it_back() -> None:
    assert entry(chain(2), [], [RETIREMENT])[3:] == (BUCKET + 600, RETIRED, 2)
    assert entry(chain(3), [], [RETIREMENT])[3:] == (0, EXPECTED, 3)
    assert entry(chain(3, goodbye=True), [], [RETIREMENT])[3:] == (BUCKET + 900, GOODBYE, 3)
    assert entry(chain(2, goodbye=True), [], [RETIREMENT])[3:] == (BUCKET + 600, GOODBYE, 2)


def test_a_retirement_knows_of_seals_that_nobody_has_any_more() -> None:
    assert entry(chain(1), [], [RETIREMENT]).seals == 2
    assert roster({}, [], [RETIREMENT])[KEY.node] == Entry(KEY.node, b"web-17", BUCKET + 600, BUCKET + 600, RETIRED, 2)


def test_of_two_retirements_the_one_that_knew_more_counts() -> None:
    later = replace(RETIREMENT, seals=3, until=BUCKET + 900)
    for order in ([RETIREMENT, later], [later, RETIREMENT]):
        assert entry(chain(3), [], order)[3:] == (BUCKET + 900, RETIRED, 3)


def test_a_buck_that_is_retired_is_no_tailer_of_the_roster() -> None:
    assert not roster({}, [], [replace(RETIREMENT, role="buck")])
