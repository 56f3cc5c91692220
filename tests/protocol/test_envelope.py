"""The envelope: what is signed, in which bytes, and that nobody gets in or out with more than fits."""

import struct

import pytest

from protocol.envelope import Envelope
from protocol.errors import FormatError, StatementError, VersionError
from protocol.identity import verify
from protocol.packed import pack
from protocol.schema import Blob, Group, Number
from tests.protocol.wire_samples import BUCK, KEY

LETTER = Envelope(b"TEST", "letter", 1, 200, Group(Number(8), Blob(32), Blob(0, 300)), 1, StatementError)


def test_the_bytes_are_those_that_are_drawn_and_the_signature_is_of_all_before_it() -> None:
    data = LETTER.sign(KEY, KEY.public, b"hello")
    body = pack((1, KEY.public, b"hello"))
    assert data[:-64] == b"TEST" + struct.pack(">I", len(body)) + body
    verify(KEY.public, data[:-64], data[-64:])
    assert LETTER.open(memoryview(data)) == (KEY.public, b"hello")


def test_nobody_signs_what_names_another_key_nor_reads_it() -> None:
    with pytest.raises(StatementError, match="a letter can only be signed by the key"):
        LETTER.sign(BUCK, KEY.public, b"")
    with pytest.raises(StatementError, match="the signature does not fit"):
        LETTER.open(LETTER.wrap(BUCK, pack((1, KEY.public, b""))))


def test_what_is_too_large_is_neither_written_nor_looked_at() -> None:
    fits = 200 - len(LETTER.sign(KEY, KEY.public, b"x" * 40)) + 40
    assert len(LETTER.sign(KEY, KEY.public, b"x" * fits)) == 200
    with pytest.raises(StatementError, match="201 bytes: at most 200"):
        LETTER.sign(KEY, KEY.public, b"x" * (fits + 1))
    with pytest.raises(StatementError, match="no letter has 201 bytes"):
        LETTER.open(bytes(201))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ((2, "whatever", "came", "later"), VersionError),
        ((1, KEY.public), StatementError),
        ((True, KEY.public, b""), StatementError),
        ((1, KEY.public, "text"), StatementError),
        ((), StatementError),
        (7, StatementError),
    ],
)
def test_a_later_version_is_told_from_what_is_no_letter(body: object, error: type[FormatError]) -> None:
    with pytest.raises(error):
        LETTER.open(LETTER.wrap(KEY, pack(body)))


def test_a_document_of_another_kind_is_not_taken_for_it() -> None:
    other = Envelope(b"MORE", "note", 1, 200, LETTER.fields, 1, StatementError)
    with pytest.raises(StatementError, match="not a letter"):
        LETTER.open(other.sign(KEY, KEY.public, b""))
