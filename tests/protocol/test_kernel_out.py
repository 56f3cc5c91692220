"""The kernel's way out: what was written is rendered, from a packet as from an archive's arrays; both kernels agree."""

import itertools
import random
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ColumnsError
from tests.protocol.packets_by_hand import CRLF, HOST, OPEN, TIME, Made, Row, make
from tests.protocol.rows_seen import arrays, good, kernels, seeds, shown


@kernels
@given(seeds)
def test_a_packet_made_by_hand_renders_to_the_lines_it_was_made_of(kernel: Any, seed: int) -> None:
    made = make(seed)
    rows = kernel.Rows.decode(**made.arguments())
    raws = [row.raw(made) for row in made.rows]
    assert rows.render() == b"".join(raws)
    assert rows.render_many(range(rows.count)) == raws
    assert rows.raw_sizes.tolist() == [len(raw) for raw in raws]
    assert rows.raw == len(b"".join(raws))
    assert rows.points.tolist() == [row.point for row in made.rows]
    for name, values in (("format", "form"), ("shn", "shn"), ("app", "app"), ("pid", "pid"), ("pri", "pri")):
        assert getattr(rows, name).tolist() == [getattr(row, values) for row in made.rows]
    for i, row in enumerate(made.rows):
        assert rows.lines[rows.starts[i] : rows.starts[i] + rows.text_sizes[i]] == row.text
    middle = rows.count // 2
    assert rows.render(middle) == b"".join(raws[middle:])
    assert rows.render(0, middle) == b"".join(raws[:middle])


@kernels
@given(seeds)
def test_offsets_continue_within_a_run_and_start_where_the_run_does(kernel: Any, seed: int) -> None:
    made = make(seed)
    arguments = made.arguments()
    rows = kernel.Rows.decode(**arguments)
    row = 0
    for stream, first, end, count, _start in arguments["runs"]:
        at = first
        for i in range(row, row + count):
            assert (rows.stream[i], rows.offsets[i]) == (stream, at)
            at += len(made.rows[i].raw(made))
        assert at == end
        row += count


@kernels
@given(seeds)
def test_what_an_archive_keeps_gives_the_same_rows(kernel: Any, seed: int) -> None:
    made = make(seed)
    rows = kernel.Rows.decode(**made.arguments())
    again = kernel.Rows.from_arrays(**arrays(rows))
    assert again.render() == rows.render()
    assert {**shown(again), "starts": 0, "lines": 0} == {**shown(rows), "starts": 0, "lines": 0}
    assert again.text()[0] == again.lines == b"".join(row.text for row in made.rows)


@kernels
def test_an_archive_may_leave_out_offsets_and_replace_texts(kernel: Any) -> None:
    made = Made([Row(b"a", 0, point=9), Row(b"\xff", CRLF, point=9), Row(b"ccc", OPEN, point=9)], [(0, 3)])
    given_arrays = arrays(kernel.Rows.decode(**made.arguments()))
    given_arrays |= {"lines": b"a\xef\xbf\xbdccc", "line_offsets": array("i", [0, 1, 4, 7])}
    given_arrays |= {"raw": b"..\xff", "raw_offsets": array("i", [2, 2, 3, 3])}
    del given_arrays["stream"]
    rows = kernel.Rows.from_arrays(**given_arrays | {"offsets": array("q", [70, -1, -1])})
    assert rows.render() == b"a\n\xff\r\nccc"
    assert rows.offsets.tolist() == [70, 72, 75]
    with pytest.raises(ColumnsError, match="offset"):
        kernel.Rows.from_arrays(**given_arrays | {"offsets": array("q", [-1, 7, 7])})
    two_streams = given_arrays | {"offsets": array("q", [0, -1, -1]), "stream": array("H", [0, 1, 1])}
    with pytest.raises(ColumnsError, match="offset"):
        kernel.Rows.from_arrays(**two_streams)


@kernels
def test_an_archive_may_have_more_names_than_a_packet(kernel: Any) -> None:
    names = [f"host{i}".encode() for i in range(1000)]
    made = Made([Row(b"x", TIME | HOST, 5, 10**17, 7)], [(0, 1)])
    columns = arrays(kernel.Rows.decode(**made.arguments()))
    rows = kernel.Rows.from_arrays(**columns | {"shn": array("H", [999]), "shn_names": names})
    assert rows.render() == b"Sep  9 01:46:40 host999 x\n"
    assert (rows.shn.format, rows.shn.tolist(), rows.app.format) == ("H", [999], "B")


@kernels
@given(seeds)
def test_text_is_gathered_from_any_pieces(kernel: Any, seed: int) -> None:
    rng = random.Random(seed)
    made = [make(seed + i) for i in range(2)]
    decoded = [kernel.Rows.decode(**one.arguments()) for one in made]
    pieces, texts = [], []
    for _ in range(rng.randrange(6)):
        which = rng.randrange(2)
        first = rng.randrange(decoded[which].count + 1)
        last = rng.randrange(first, decoded[which].count + 1)
        pieces.append((decoded[which], first, last))
        texts += [row.text for row in made[which].rows[first:last]]
    data, offsets = kernel.gather_text(pieces)
    assert data == b"".join(texts)
    assert [data[a:b] for a, b in itertools.pairwise(offsets)] == texts
    assert (offsets.format, len(offsets)) == ("i", len(texts) + 1)


# The edges of what UTF-8 allows: overlong forms, surrogates, beyond U+10FFFF, cut short, and their good neighbours.
EDGES = (
    "c080 c1bf c280 dfbf c2 e0a080 e09fbf ed9fbf eda080 edbfbf ee8080 efbfbf e282 f0908080 f08fbfbf f48fbfbf f4908080"
)
EDGES += " f5808080 f09f98 80 bf fe ff e28220 f09f9820 c220 6161616161616161c3a9 61616161616161c3a9 61616161616161c3"


@kernels
def test_the_edges_of_utf8_are_those_of_python(kernel: Any) -> None:
    texts = [bytes.fromhex(edge) for edge in EDGES.split()]
    rows = kernel.Rows.decode(**Made([Row(text) for text in texts], [(0, len(texts))]).arguments())
    assert rows.invalid_utf8() == [i for i, text in enumerate(texts) if text.decode(errors="ignore").encode() != text]


@kernels
@given(st.lists(st.one_of(st.binary(max_size=12), st.text(max_size=12).map(str.encode)), max_size=8))
def test_rows_that_are_not_utf8_are_told_as_python_would(kernel: Any, texts: list[bytes]) -> None:
    texts = [text.replace(b"\n", b"") for text in texts]
    made = Made([Row(text) for text in texts], [(0, len(texts))])
    rows = kernel.Rows.decode(**made.arguments())
    expected = [i for i, text in enumerate(texts) if text.decode(errors="ignore").encode() != text]
    assert rows.invalid_utf8() == expected
    assert kernel.Rows.from_arrays(**arrays(rows)).invalid_utf8() == expected


@kernels
def test_rows_that_are_not_there_are_the_callers_mistake(kernel: Any) -> None:
    rows = kernel.Rows.decode(**good())
    for first, last in ((-1, 2), (3, 2), (0, 5), (2**70, None)):
        with pytest.raises((IndexError, OverflowError)):
            rows.render(first, last)
    for row in (-1, 4):
        with pytest.raises(IndexError):
            rows.render_many([0, row])
    with pytest.raises(IndexError):
        kernel.gather_text([(rows, 2, 5)])


@kernels
@given(st.lists(st.binary(max_size=6), max_size=8), st.randoms(use_true_random=False))
def test_texts_are_laid_out_in_another_order(kernel: Any, texts: list[bytes], rng: random.Random) -> None:
    edges = array("q", itertools.accumulate(map(len, texts), initial=0))
    order = array("q", [rng.randrange(len(texts)) for _ in range(rng.randrange(20))] if texts else [])
    assert kernel.arranged(b"".join(texts), edges, order) == b"".join(texts[row] for row in order)


@kernels
def test_texts_that_lead_outside_are_refused(kernel: Any) -> None:
    for edges in ([0, 4], [0, 2, 1], [-1, 2]):
        with pytest.raises(ColumnsError):
            kernel.arranged(b"abc", array("q", edges), array("q", [0]))
    for row in (-1, 2):
        with pytest.raises(IndexError):
            kernel.arranged(b"abc", array("q", [0, 1, 3]), array("q", [row]))
    with pytest.raises(ColumnsError):
        kernel.arranged(b"abc", array("q", [0]), b"1234567")
    with pytest.raises(IndexError):
        kernel.arranged(b"", array("q"), array("q", [0]))
