"""Finding: no line that holds the needle is missed, wherever in line, hole or both it stands."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.packets_by_hand import APP, FORMATS, HOST, PID, TIME, Made, Row, make
from tests.protocol.rows_seen import arrays, kernels, seeds

NEEDLES = [
    b"error",
    b"ERROR",
    b"e",
    b"r the",
    b"404",
    b"combo",
    b"bo ssh",
    b"sshd[7]: ",
    b": ",
    b"20",
    b"-0",
    b"<1",
    b">1 2",
]
NEEDLES += [
    b"]: err",
    b'"ts":"20',
    b"[0",
    b" Jan",
    b"Jan 1",
    b"+02:00 w",
    b"\xff",
    b"\0",
    b"e: e",
    b"a" * 254,
    b" - ",
    b"zzzz",
]


@kernels
@given(seeds, st.sampled_from(NEEDLES), st.booleans(), st.booleans())
def test_find_never_misses_a_line(kernel: Any, seed: int, needle: bytes, ignore_case: bool, archived: bool) -> None:
    made = make(seed)
    rows = kernel.Rows.decode(**made.arguments())
    if archived:
        rows = kernel.Rows.from_arrays(**arrays(rows))
    lines = [row.line(made) for row in made.rows]
    if seed % 2 and lines:  # a needle cut from the lines themselves, so that each kind of straddling comes up
        rng = random.Random(seed)
        line = rng.choice(lines)
        start = rng.randrange(len(line) + 1)
        needle = line[start : start + rng.choice([1, 2, 3, 5, 9, 17, 40])]
    wanted = needle.lower() if ignore_case else needle
    found = rows.find(needle, ignore_case)
    assert found == sorted(set(found))
    for i, (line, row) in enumerate(zip(lines, made.rows, strict=True)):
        text, whole = (part.lower() if ignore_case else part for part in (row.text, line))
        if not needle or b"\r" in needle or b"\n" in needle:
            assert i in found
        else:
            assert (i in found) == (wanted in whole or wanted in text)


def one_of_each_format() -> Made:
    """A row in every format, with all that can stand in its hole."""
    rows = []
    for index, form in enumerate(FORMATS):
        point = 1_644_451_263 * 10**8 + 86_400 * 10**8 * index
        row = Row(b"{x " + form.anchor + b" cut" if form.anchor else b" cut", TIME, index, point)
        if form.head:
            row.pri = 134
        if form.tail:
            row.flags |= HOST | APP | PID
            row.shn, row.app, row.pid = 0, 2, 32_767
        rows.append(row)
    return Made(rows, [(0, len(rows))])


@kernels
def test_find_never_misses_what_a_hole_has_a_share_in(kernel: Any) -> None:
    made = one_of_each_format()
    rows = kernel.Rows.decode(**made.arguments())
    lines = [row.line(made) for row in made.rows]
    needles = {line[i : i + size] for line in lines for i in range(len(line)) for size in (1, 2, 3, 6, 11, 20, 40)}
    for needle in sorted(needles):
        for ignore_case in (False, True):
            wanted = needle.upper() if ignore_case else needle
            pairs = [(row.text, line) for row, line in zip(made.rows, lines, strict=True)]
            if ignore_case:
                pairs = [(text.upper(), line.upper()) for text, line in pairs]
            expected = [i for i, (text, line) in enumerate(pairs) if wanted in text or wanted in line]
            assert rows.find(wanted, ignore_case) == expected, (needle, ignore_case)
