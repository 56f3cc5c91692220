"""Names that say what an object is, and footers that come back as they were, or not at all."""

from __future__ import annotations

import zlib
from base64 import b85decode, b85encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from porter.catalog import (
    DroppedRow,
    EmptyRow,
    Footer,
    GroupRow,
    PacketRow,
    PartName,
    StreamRow,
    Stretch,
    covered,
    of_hour,
    parse,
    parts,
)
from porter.objects import MemoryObjects
from protocol.errors import FormatError
from protocol.packet import Key

HOUR = 1_699_999_200  # 2023-11-14 22:00
ID = st.binary(min_size=16, max_size=16)
COUNT = st.integers(0, (1 << 63) - 1)
KEY = st.builds(Key, ID, COUNT, COUNT)
NAME = st.binary(max_size=20)
FOOTER = st.builds(
    Footer,
    st.text(max_size=5),
    COUNT,
    COUNT,
    st.lists(st.builds(GroupRow, COUNT, COUNT, COUNT, NAME), max_size=2),
    st.lists(
        st.builds(
            PacketRow, KEY, NAME, COUNT, st.booleans(), COUNT, COUNT, NAME,
            st.lists(st.builds(EmptyRow, ID, NAME, COUNT), max_size=2).map(tuple),
        ),
        max_size=3,
    ),
    st.lists(
        st.builds(
            StreamRow, ID, ID, NAME, NAME, NAME,
            st.lists(st.builds(Stretch, *[COUNT] * 8), max_size=2).map(tuple),
        ),
        max_size=2,
    ),
    st.lists(
        st.builds(DroppedRow, KEY, ID, NAME, COUNT, COUNT, COUNT, st.lists(COUNT, max_size=4).map(tuple)), max_size=3
    ),
    st.lists(NAME, max_size=2),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
)  # fmt: skip


@given(FOOTER)
def test_a_footer_comes_back_as_it_was(footer: Footer) -> None:
    assert Footer.decode(footer.encode(), "x") == footer


@given(FOOTER, st.data())
def test_a_footer_that_was_changed_is_refused_and_named(footer: Footer, data: st.DataObject) -> None:
    packed = bytearray(b85decode(footer.encode()))
    at = data.draw(st.integers(2, len(packed) - 1))  # the first two bytes say how it was packed, not what
    packed[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(FormatError, match=r"here\.parquet"):
        Footer.decode(b85encode(bytes(packed)), "here.parquet")


@pytest.mark.parametrize("data", [b"", b"?", b85encode(b"junk"), b85encode(zlib.compress(b"[]"))])
def test_what_is_no_footer_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="was the object changed"):
        Footer.decode(data, "x")


@pytest.mark.parametrize(("version", "advice"), [(9, "update it"), (1, "read it with the porter that wrote it")])
def test_a_footer_of_another_version_says_which_and_what_to_do(version: int, advice: str) -> None:
    with pytest.raises(FormatError, match=f"version {version}, this porter reads 2: {advice}"):
        Footer.decode(b85encode(zlib.compress(b'{"version": %d}' % version)), "x")


def test_names_say_hour_kind_and_number_and_others_are_not_ours() -> None:
    for name in (PartName("prod", HOUR, "p", 0), PartName("prod", HOUR, "v", 123), PartName("a", 0, "p", 99)):
        assert parse(str(name)) == name
    assert str(PartName("prod", HOUR, "v", 0)) == "prod/date=2023-11-14/22.v00.json"
    for text in ("prod/date=2023-11-14/22.p0.parquet", "prod/date=2023-13-14/22.p00.parquet", "readme", "a/b/c"):
        assert parse(text) is None


def test_parts_are_listed_by_hour_and_number_even_beyond_a_hundred() -> None:
    objects = MemoryObjects()
    wanted = [PartName("e", HOUR, "p", 2), PartName("e", HOUR, "p", 100), PartName("e", HOUR + 3600, "p", 0)]
    for name in [*reversed(wanted), PartName("e", HOUR, "v", 0), PartName("f", HOUR, "p", 0)]:
        objects.held[str(name)] = b""
    objects.held["e/date=2023-11-14/notes.txt"] = b""
    assert parts(objects, "e") == wanted
    assert parts(objects, "e", HOUR + 3600) == wanted[2:]
    assert parts(objects, "e", 0, HOUR + 3600) == wanted[:2]
    assert of_hour(objects, "e", HOUR) == wanted[:2]
    assert [name.kind for name in of_hour(objects, "e", HOUR, "v")] == ["v"]


def test_what_parts_cover_is_what_their_footers_name() -> None:
    packet = PacketRow(Key(bytes(16), 1, 2), b"h", 0, False, 0, 0, bytes(32))
    assert covered([Footer("e", 300, 0, packets=[packet]), Footer("e", 300, 0)]) == {packet.key}
