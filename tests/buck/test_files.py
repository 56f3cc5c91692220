"""Names on disk: what a part or a file of seals is called, and that no other name is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buck.files import BAD, CLOSED, OPEN, PartName, parse_part, parse_seals, seals_name


def test_a_part_is_named_after_its_bucket_in_utc() -> None:
    name = PartName(1_700_000_100, 3, OPEN)
    assert (name.day, name.file) == ("20231114", "221500.3.open")


@given(st.integers(0, (1 << 32) - 1), st.integers(0, 10**8), st.sampled_from([OPEN, CLOSED, BAD]))
def test_a_name_reads_back(bucket: int, part: int, state: str) -> None:
    name = PartName(bucket, part, state)
    assert parse_part(name.day, name.file) == name


@pytest.mark.parametrize(
    ("day", "name"),
    [
        ("20231114", "221500.3.opened"),
        ("20231114", "256000.0.open"),
        ("20231314", "221500.0.open"),
        ("2023111", "221500.0.open"),
        ("20231114", "221500.0.open~"),
        ("20231114", "221500.open"),
        ("lost+found", "221500.0.open"),
        ("20231114", "../../x"),
    ],
)
def test_other_names_are_none_of_ours(day: str, name: str) -> None:
    assert parse_part(day, name) is None


def test_the_file_of_seals_is_named_after_its_tailer() -> None:
    assert parse_seals(seals_name(b"\xab" * 16)) == b"\xab" * 16
    assert parse_seals("ab.seals") is None
