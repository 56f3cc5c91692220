"""What the compiled kernel does with several bytes at once, at every place in a word; the twin, a byte at a time, says
what is right."""

from collections.abc import Iterator

import pytest

from tests.protocol.gathering import HINT, Twin, compiled, events, gather, kernels

pytestmark = pytest.mark.skipif(compiled is None, reason="there is no compiler here, so no kernel to compare")

STOPS = b" \t\x00\x1f!:[]~\x7f\x80\xff"


def same(lines: list[bytes]) -> None:
    """Both kernels find the same in these lines: together, and each as a block of its own, with nothing behind it."""
    for block in (b"\n".join(lines), *lines):
        ours, right = gather(compiled, [block], HINT)[0], gather(Twin, [block], HINT)[0]
        assert ours == right, block[:200]


@pytest.mark.parametrize("stop", list(STOPS))
def test_names_of_every_length_end_where_they_should(stop: int) -> None:
    def lines() -> Iterator[bytes]:
        for size in (*range(1, 40), *range(125, 132)):
            name = bytes(33 + (7 * i + size) % 58 for i in range(size)).replace(b":", b"_").replace(b"[", b"_")
            yield b"Nov 14 12:00:01 host %s[7]: text" % name
            yield b"Nov 14 12:00:01 host %s%c[7]: text, long enough for words" % (name, stop)
            yield b"Nov 14 12:00:01 %s%c app: text" % (name, stop)
            yield b"2023-11-14T12:00:01Z %s %s%c: text" % (name, name[::-1], stop)

    same(list(lines()))


def test_names_that_differ_in_one_byte_are_other_names() -> None:
    for size in range(1, 26):
        name = b"n" * size
        others = [name[:i] + b"m" + name[i + 1 :] for i in range(size)]
        same([b"Nov 14 12:00:01 %s %s[1]: x" % (one, one) for one in (name, *others, name)])


def test_digits_of_fractions_and_process_numbers() -> None:
    lines = []
    for digits in range(12):
        number = b"98765432109876"[:digits]
        lines += [b"2023-11-14 12:00:01.%sZ x" % number, b"2023-11-14 12:00:01.%s" % number, b"1700000001%s x" % number]
        lines += [b"Nov 14 12:00:01 h a[%s]: x" % number, b"Nov 14 12:00:01 h a[%s]: more text" % number]
        for at in range(digits):
            for wrong in b"/:;? \x00\xaf\xb5\xff":
                bad = number[:at] + bytes([wrong]) + number[at + 1 :]
                lines += [b"2023-11-14 12:00:01.%sZ text" % bad, b"Nov 14 12:00:01 h a[%s]: text" % bad]
    same(lines)


def test_an_anchor_is_found_wherever_it_stands() -> None:
    line = b'{"level":"info",%s"time":"2023-11-14T12:00:01Z","time":"2023-11-14T12:00:02Z"}'
    for size in (*range(40), *range(225, 245)):
        same([line % (b'"xime","timx"' + b"t" * size + b",")] * 2)
        same([line % b"", line % (b'"t"' * (size // 3))])


def test_lines_of_every_length() -> None:
    lines = [bytes(32 + (i + size) % 90 for i in range(size)) for size in range(300)]
    same([b"Nov 14 12:00:01 h a: " + line for line in lines])
    same([b"[2023-11-14 12:00:01] " + line for line in lines[:160]])


def test_process_numbers_far_apart() -> None:
    numbers = [0, 63, 64, 8191, 8192, 1048575, 1048576, 999_999_999]
    same([b"Nov 14 12:00:01 h a[%d]: x" % number for a in numbers for b in numbers for number in (a, b)])


@kernels
def test_the_same_text_in_another_year_is_another_time(kernel: object) -> None:
    """The year goes on with the months between, though those lines end their times in another way."""
    lines = ["Jan  1 00:00:00 h a: 1", "Jul  1 00:00:00 1h a: 2", "Dec 31 00:00:00 1h a: 3", "Jan  1 00:00:00 h a: 4"]
    data = "".join(f"{line}\n{line}\n" for line in lines).encode()
    points = [event.point for event in events(gather(kernel, [data], HINT)[0])[0]]
    assert (points[7] - points[0]) // 100_000_000 == 365 * 86400
    assert points[::2] == points[1::2]
