"""A record reads back as it was written, and anything else is a FormatError."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import FormatError
from protocol.record import DIGEST_SIZE, MAGIC, PREFIX_SIZE, encode_record, read_record, record_size

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.integers(0, 99), inner),
    max_leaves=12,
)


@given(VALUES)
def test_a_record_reads_back_as_it_was_written(value: object) -> None:
    data = encode_record(value)
    assert data.startswith(MAGIC)
    assert record_size(data[:PREFIX_SIZE]) == len(data)
    assert read_record(data) == value


@given(VALUES, st.integers(0), st.integers(0, 7))
def test_any_flipped_bit_is_found(value: object, at: int, bit: int) -> None:
    data = bytearray(encode_record(value))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(FormatError):
        read_record(bytes(data))


@given(st.binary(max_size=200))
def test_garbage_is_a_format_error_and_nothing_else(data: bytes) -> None:
    for garbage in (data, MAGIC + data):
        with pytest.raises(FormatError):
            read_record(garbage)


def test_a_huge_length_is_refused_from_the_prefix_alone() -> None:
    with pytest.raises(FormatError, match="claims 4294967295 bytes"):
        record_size(MAGIC + b"\xff" * 4)


def test_a_payload_that_is_no_msgpack_is_a_format_error() -> None:
    from blake3 import blake3

    for payload in (b"", b"\xc1", b"\x92\x01", b"\x01\x01"):
        data = MAGIC + len(payload).to_bytes(4, "big") + payload
        with pytest.raises(FormatError, match="can't be read"):
            read_record(data + blake3(data).digest())
    assert len(blake3(b"").digest()) == DIGEST_SIZE


def test_a_value_that_is_too_large_is_refused_by_the_writer() -> None:
    with pytest.raises(FormatError, match="over the limit"):
        encode_record(bytes((64 << 20) + 1))
