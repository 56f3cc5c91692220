"""Footers come back as they were, or not at all."""

from __future__ import annotations

import base64
import zlib
from base64 import b85encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from porter import base85
from porter.footer import (
    Batch,
    DroppedRow,
    EmptyRow,
    Footer,
    GroupRow,
    StreamRow,
    Stretch,
    held_by_bucket,
    held_in,
)
from protocol.errors import FormatError
from protocol.packed import pack
from protocol.packet import Key
from protocol.ranges import Ranges

ID = st.binary(min_size=16, max_size=16)
COUNT = st.integers(0, (1 << 63) - 1)
KEY = st.builds(Key, ID, COUNT, COUNT)
NAME = st.binary(max_size=20)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Some packets of one account."""
    made = Batch(draw(ID), draw(COUNT), draw(NAME), draw(COUNT), draw(st.booleans()), draw(st.integers(0, 15)))
    for number in sorted(draw(st.sets(st.integers(0, 40) | COUNT, max_size=9))):
        made.numbers.add(number, number + 1)
        made.events += (draw(st.integers(0, 131_072)),)
        if draw(st.booleans()):
            made.contents[number] = draw(ID)
        if draw(st.booleans()):
            made.empty[number] = tuple(draw(st.lists(st.builds(EmptyRow, ID, NAME, COUNT), min_size=1, max_size=2)))
    return made


FOOTER = st.builds(
    Footer,
    st.text(max_size=5),
    COUNT,
    COUNT,
    st.lists(st.builds(GroupRow, COUNT, COUNT, COUNT, NAME), max_size=2),
    st.lists(batches(), max_size=3),
    st.lists(
        st.builds(
            StreamRow, ID, ID, NAME, NAME, NAME,
            st.lists(st.builds(Stretch, *[COUNT] * 9), max_size=2).map(tuple),
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
    packed = bytearray(base85.decode(footer.encode()))
    at = data.draw(st.integers(2, len(packed) - 1))  # the first two bytes say how it was packed, not what
    packed[at] ^= 1 << data.draw(st.integers(0, 7))
    with suppress(FormatError):
        assert Footer.decode(b85encode(bytes(packed)), "here.parquet") == footer  # a few bits of zlib's say nothing
        return
    with pytest.raises(FormatError, match=r"here\.parquet"):
        Footer.decode(b85encode(bytes(packed)), "here.parquet")


def packed(*members: object) -> bytes:
    """An array in place of a footer."""
    return b85encode(zlib.compress(pack(members)))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"?", b"\xff", b85encode(b"junk"), packed(), packed(3), packed(3, "env", 1, 2, 3),
        packed(3, "env", 1, 2, [], [], [], [], [1 << 40], []),  # bytes(2**40) would be as many zeros
        packed(3, "env", 1, 2, [], [[bytes(16), 1, b"h", 0, False, 0, [0, 3], [1], [], []]], [], [], [], []),
    ],
)  # fmt: skip
def test_what_is_no_footer_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="was the object changed"):
        Footer.decode(data, "x")


@pytest.mark.parametrize(("version", "advice"), [(9, "update it"), (2, "read it with the porter that wrote it")])
def test_a_footer_of_another_version_says_which_and_what_to_do(version: int, advice: str) -> None:
    with pytest.raises(FormatError, match=f"version {version}, this porter reads 3: {advice}"):
        Footer.decode(packed(version), "x")


def test_what_parts_hold_is_what_their_footers_name() -> None:
    one, other = (Batch(bytes(16), 1, b"h", bucket, False, 0, Ranges([(bucket, bucket + 2)])) for bucket in (3, 5))
    some = [Footer("e", 300, 0, packets=[one]), Footer("e", 300, 0, packets=[other]), Footer("e", 300, 0)]
    assert held_in(some) == {(bytes(16), 1): Ranges([(3, 7)])}
    assert held_by_bucket(some) == {(bytes(16), 1): {3: Ranges([(3, 5)]), 5: Ranges([(5, 7)])}}


@given(st.binary(max_size=200))
def test_base85_is_that_of_the_standard_library(data: bytes) -> None:
    assert base85.encode(data) == base64.b85encode(data)
    assert base85.decode(base64.b85encode(data)) == data


@given(st.binary(max_size=30))
def test_what_is_no_base85_is_refused_as_the_standard_library_does(text: bytes) -> None:
    try:
        wanted = base64.b85decode(text)
    except ValueError:
        with pytest.raises(ValueError, match="base85"):
            base85.decode(text)
    else:
        assert base85.decode(text) == wanted
