"""Durations, sizes and addresses as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.units import Address, duration_text, read_address, read_duration, read_size, size_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300s", 300),
        ("10m", 600),
        ("48h", 172_800),
        ("2d", 172_800),
        ("250ms", 0.25),
        ("1.5 h", 5400),
        ("7", 7),
        (7, 7),
    ],
)
def test_durations(text, seconds):
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MB", 512_000_000), ("8GiB", 8 << 30), ("1.5kB", 1500), ("10", 10), (10, 10), ("3 MiB", 3 << 20)],
)
def test_sizes(text, size):
    assert read_size(text) == size


@pytest.mark.parametrize("value", ["", "x", "5 parsecs", "-5s", -5, True, None, "5s5s", float("nan"), [5]])
def test_what_is_no_duration_or_size_is_refused(value):
    with pytest.raises(ValueError):
        read_duration(value)
    with pytest.raises((ValueError, TypeError)):
        read_size(value)


@pytest.mark.parametrize(
    ("text", "address"),
    [("a:1", ("a", 1)), ("10.0.0.1:65535", ("10.0.0.1", 65535)), ("[::1]:0", ("::1", 0)), (":80", ("", 80))],
)
def test_addresses(text, address):
    assert read_address(text) == address
    assert str(read_address(text)) == text


@pytest.mark.parametrize("value", ["a", "a:", "a:x", "a:65536", "::1:80", "a:-1", 5, None, "a:\u0663"])
def test_what_is_no_address_is_refused(value):
    with pytest.raises(ValueError):
        read_address(value)


@given(st.integers(0, 10**13))
def test_what_is_shown_reads_back(number):
    assert read_size(size_text(number)) == number
    assert read_duration(duration_text(number)) == number


def test_an_address_stays_an_address():
    assert read_address(Address("a", 1)) is not None
