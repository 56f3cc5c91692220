"""The kernel's way out: what was written is rendered, what is wrong is a ColumnsError, and both kernels agree."""

import itertools
import random
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import _kernel_py_out as twin
from protocol import kernel as picked
from protocol.errors import ColumnsError
from protocol.formats import Format
from tests.protocol.packets_by_hand import APP, CRLF, FORMATS, HOST, OPEN, PART, PID, TIME, Made, Row, make, zigzag

try:
    from protocol import _kernel as compiled
except ImportError:
    compiled = None  # type: ignore[assignment]  # no compiler here: the twin alone is tested

KERNELS = [pytest.param(twin, id="twin")]
if compiled is not None:
    KERNELS.append(pytest.param(compiled, id="compiled"))
VIEWS = [
    "starts",
    "text_sizes",
    "raw_sizes",
    "points",
    "offsets",
    "flags",
    "stream",
    "pid",
    "pri",
    "format",
    "shn",
    "app",
]
kernels = pytest.mark.parametrize("kernel", KERNELS)
seeds = st.integers(0, 2**32)


def shown(rows: Any) -> dict[str, Any]:
    """All that a Rows shows."""
    views = {name: getattr(rows, name) for name in VIEWS}
    return {
        **{name: (view.format, view.tolist()) for name, view in views.items()},
        **{name: getattr(rows, name) for name in ("count", "raw", "lines", "formats", "shn_names", "app_names")},
    }


def arrays(rows: Any) -> dict[str, Any]:
    """What an archive would keep of these rows."""

    def wide(name: str) -> "array[int]":
        return array("H", [65_535 if value == 255 else value for value in getattr(rows, name)])

    lines, line_offsets = rows.text()
    return {
        "points": array("Q", rows.points),
        "flags": bytes(rows.flags),
        "format": wide("format"),
        "formats": rows.formats,
        "shn": wide("shn"),
        "shn_names": rows.shn_names,
        "app": wide("app"),
        "app_names": rows.app_names,
        "pid": array("i", rows.pid),
        "pri": bytes(rows.pri),
        "lines": lines,
        "line_offsets": line_offsets,
        "offsets": array("q", rows.offsets),
        "stream": array("H", rows.stream),
    }


def outcome(call: Callable[[], Any]) -> Any:
    """What a call gives, ColumnsError among it; any other exception is a bug and passes through."""
    try:
        return call()
    except ColumnsError:
        return ColumnsError


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


def broken(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(arguments: dict[str, Any]) -> None:
        arguments[name] = value(arguments[name]) if callable(value) else value

    return change


def poke(column: int, index: int, value: bytes) -> Callable[[dict[str, Any]], None]:
    """Another byte, or others instead of one, in a column; sizes stay true."""

    def change(arguments: dict[str, Any]) -> None:
        sizes = list(arguments["sizes"])
        start = sum(sizes[:column])
        data = bytearray(arguments["body"][start : start + sizes[column]])
        at = index % len(data)
        data[at : at + 1] = value
        arguments["body"] = arguments["body"][:start] + bytes(data) + arguments["body"][start + sizes[column] :]
        sizes[column] = len(data)
        arguments["sizes"] = tuple(sizes)

    return change


def good() -> dict[str, Any]:
    """Two lines of syslog, one of JSON, one without a time."""
    point = 1_644_451_263 * 10**8
    rows = [
        Row(b"started", TIME | HOST | APP | PID, 6, point, 1, 2, 77, 13),
        Row(b"stopped", TIME | HOST | APP | PID, 6, point + 10**8, 1, 2, 78, 14),
        Row(b'{"ts":""}', TIME, 4, point + 10**8),
        Row(b"more", OPEN | PART, 255, point + 10**8),
    ]
    return Made(rows, [(0, 2), (1, 2)]).arguments()


WRONG = {
    "a body too short": broken("body", lambda body: body[:-1]),
    "a body too long": broken("body", lambda body: body + b"\0"),
    "a size too many": broken("sizes", lambda sizes: (*sizes, 0)),
    "a negative size": broken("sizes", lambda sizes: (sizes[0] + sizes[1] + 1, -1, *sizes[2:])),
    "a count that isn't": broken("count", 5),
    "a huge count": broken("count", 2**40),
    "a negative count": broken("count", -1),
    "no runs": broken("runs", []),
    "runs of too few rows": broken("runs", lambda runs: runs[:1]),
    "a run of a negative count": broken("runs", lambda runs: [*runs, (0, 5, 6, -1, 0), (0, 5, 6, 1, 0)]),
    "a run of no bytes with rows": broken("runs", lambda runs: [runs[0], (1, 100, 100, 2, 0)]),
    "a run that ends before it starts": broken("runs", lambda runs: [runs[0], (1, 100, 50, 2, 0)]),
    "a run of other bytes than its rows": broken("runs", lambda runs: [(0, 0, runs[0][2] + 1, *runs[0][3:]), runs[1]]),
    "a run at a negative offset": broken("runs", lambda runs: [(0, -9, runs[0][2] - 9, *runs[0][3:]), runs[1]]),
    "a run at a huge offset": broken("runs", lambda runs: [runs[0], (1, 2**63, 2**63 + 9, 2, 0)]),
    "a run of a stream that can't be": broken("runs", lambda runs: [runs[0], (65_535, *runs[1][1:])]),
    "a run that starts beyond time": broken("runs", lambda runs: [(*runs[0][:4], 2**62), runs[1]]),
    "too many runs": broken("runs", lambda runs: [*runs, *[(0, 0, 0, 0, 0)] * 5000]),
    "a LF too many": poke(0, 0, b"\n"),
    "a LF too few": poke(0, 7, b"-"),
    "lines without a last LF": poke(0, -1, b""),
    "flags with the unused bit": poke(1, 3, bytes((OPEN | 128,))),
    "a part that isn't open": poke(1, 3, bytes((PART,))),
    "a line end and none": poke(1, 3, bytes((OPEN | CRLF,))),
    "a host without a time": poke(1, 3, bytes((HOST,))),
    "an app without a host": poke(1, 2, bytes((TIME | APP,))),
    "a pid without an app": poke(1, 2, bytes((TIME | HOST | PID,))),
    "a host in a format without": poke(1, 2, bytes((TIME | HOST,))),
    "a format that isn't": poke(2, 0, b"\x0e"),
    "a format too few": poke(2, 0, b""),
    "a format too many": poke(2, 0, b"\x06\x06"),
    "a format whose anchor isn't there": poke(2, 0, b"\x04"),
    "an endless difference": poke(3, 0, b"\x80" * 9 + b"\x02"),
    "a difference of 70 bits": poke(3, 0, b"\x80" * 10 + b"\x01"),
    "a difference that is cut": poke(3, -1, b"\x80"),
    "a difference out of time": poke(3, 0, b"\xff" * 8 + b"\x7f"),
    "a point before 1971": poke(3, 0, zigzag(-1_640_000_000)),
    "a point after 2261": poke(3, 0, zigzag(9_000_000_000)),
    "a host that isn't": poke(4, 0, b"\x08"),
    "a host too few": poke(4, 0, b""),
    "an app that isn't": poke(5, 0, b"\xff"),
    "a pid below zero": poke(6, 0, b"\x01"),
    "a pid of ten digits": poke(6, 0, b"\x80\x80\x80\x80\x10"),
    "a priority beyond 191": poke(7, 0, b"\xc0"),
    "a priority too many": poke(7, 0, b"\x01\x01"),
    "a name with a space": broken("shn", (b"a b",) * 8),
    "a name of no bytes": broken("app", (b"",) * 8),
    "a name too long": broken("app", (b"x" * 256,) * 8),
    "a name with a line feed": broken("app", (b"a\nb",) * 8),
    "too many names": broken("shn", (b"x",) * 256),
    "too many formats": broken("formats", (FORMATS[0],) * 129),
    "a format of an unknown kind": broken("formats", (Format(99),) * 14),
    "a format with a wrong zone": broken("formats", (FORMATS[5]._replace(zone=b"\n"),) * 14),
}


@kernels
@pytest.mark.parametrize("what", WRONG)
def test_columns_that_contradict_themselves_are_refused(kernel: Any, what: str) -> None:
    kernel.Rows.decode(**good())
    arguments = good()
    WRONG[what](arguments)
    with pytest.raises(ColumnsError):
        kernel.Rows.decode(**arguments)


WRONG_ARRAYS = {
    "points too few": broken("points", lambda points: points[1:]),
    "points of another type": broken("points", lambda points: array("I", [0] * len(points))),
    "flags too few": broken("flags", lambda flags: flags[1:]),
    "flags that can't be": broken("flags", b"\xff\0\0\0"),
    "a format that isn't": broken("format", array("H", [14] * 4)),
    "a host that isn't": broken("shn", array("H", [8] * 4)),
    "an app that isn't": broken("app", array("H", [65_535] * 4)),
    "a pid of ten digits": broken("pid", array("i", [1_000_000_000] * 4)),
    "a priority beyond 191": broken("pri", b"\xc0" * 4),
    "a time finer than its format": broken("points", array("Q", [1_644_451_263 * 10**8 + 1] * 4)),
    "a time before all": broken("points", array("Q", [10**8] * 4)),
    "a time after all": broken("points", array("Q", [2**64 - 10**8] * 4)),
    "offsets of lines that step back": broken("line_offsets", array("i", [0, 5, 4, 5, 5])),
    "offsets of lines that lead outside": broken("line_offsets", array("i", [0, 5, 6, 7, 2**31 - 1])),
    "offsets of lines below zero": broken("line_offsets", array("i", [-1, 5, 6, 7, 8])),
    "offsets of lines too few": broken("line_offsets", lambda edges: edges[:-1]),
    "a line feed in a line": broken("lines", lambda lines: b"\n" + lines[1:]),
    "an anchor that isn't there": broken("lines", lambda lines: b"-" * len(lines)),
    "an offset beyond all": broken("offsets", array("q", [2**62] * 4)),
    "an offset below zero": broken("offsets", array("q", [-2] * 4)),
    "streams too few": broken("stream", array("H", [0])),
    "an empty line without an end": broken("line_offsets", array("i", [0, 7, 14, 22, 22])),
}


@kernels
@pytest.mark.parametrize("what", WRONG_ARRAYS)
def test_arrays_that_contradict_themselves_are_refused(kernel: Any, what: str) -> None:
    columns = arrays(kernel.Rows.decode(**good()))
    kernel.Rows.from_arrays(**columns)
    WRONG_ARRAYS[what](columns)
    with pytest.raises(ColumnsError):
        kernel.Rows.from_arrays(**columns)


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


def mutate(arguments: dict[str, Any], rng: random.Random) -> None:
    """A few flipped bits in the body, or other sizes, names, formats, runs."""
    body = bytearray(arguments["body"])
    for _ in range(rng.choice([0, 1, 1, 1, 2, 8])):
        if body:
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    if rng.random() < 0.2:
        del body[rng.randrange(len(body) + 1) :]
    arguments["body"] = bytes(body)
    if rng.random() < 0.2:
        sizes = list(arguments["sizes"])
        a, b = rng.sample(range(8), 2)
        sizes[a], sizes[b] = sizes[a] + 1, sizes[b] - 1
        arguments["sizes"] = tuple(sizes)
    if rng.random() < 0.1:
        name = rng.choice(["formats", "shn", "app", "runs"])
        arguments[name] = arguments[name][: rng.randrange(len(arguments[name]) + 1)]


def compare(arguments: dict[str, Any]) -> Any:
    """Both kernels' outcome: the same, or the test fails."""
    results = []
    for kernel in filter(None, (twin, compiled)):
        rows = outcome(lambda kernel=kernel: kernel.Rows.decode(**arguments))  # type: ignore[misc]
        results.append(rows if rows is ColumnsError else (shown(rows), rows.render(), rows.invalid_utf8()))
    assert all(result == results[0] for result in results)
    return results[0]


@given(seeds)
def test_flipped_bits_give_an_error_or_the_same_rows_in_both_kernels(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(5):
        arguments = make(seed).arguments()
        mutate(arguments, rng)
        compare(arguments)


@given(st.binary(max_size=60), st.lists(st.integers(0, 20), min_size=8, max_size=8), st.integers(0, 20), seeds)
def test_garbage_is_refused_alike(body: bytes, sizes: list[int], count: int, seed: int) -> None:
    made = make(seed).arguments()
    rng = random.Random(seed)
    if rng.random() < 0.8:  # let the sizes fit, so that the rows are reached
        sizes = [min(count * 3, len(body)), count, *sizes[2:7]]
        sizes.append(max(0, len(body) - sum(sizes)))
    compare(made | {"body": body, "sizes": sizes, "count": count, "runs": [(0, 0, rng.randrange(60), count, 0)]})


def packet_of(data: bytes) -> dict[str, Any]:
    """Real bytes through the way in, as one packet."""
    builder, hint = picked.Builder(), 17 * 10**16
    builder.open(0, 2**62)
    used, why, _ = picked.encode(picked.Stream(hint), 0, data, 0, 0, hint, True, [builder], 0, 2**62)
    assert (used, why) == (len(data), picked.DONE)
    columns = builder.finish()
    return {
        "body": bytes(columns.lines) + bytes(columns.small),
        "count": builder.count,
        "sizes": columns.sizes,
        "formats": columns.formats,
        "shn": columns.shn,
        "app": columns.app,
        "runs": [(0, *run[1:]) for run in builder.runs()],
    }


def test_real_lines_come_back_are_found_and_stay_safe_when_damaged(shared_data: Path) -> None:
    rng = random.Random(3)
    for path in sorted(path for path in (shared_data / "logs").rglob("*") if path.is_file()):
        with path.open("rb") as file:
            data = file.read(rng.choice([900, 4000, 9000]))
        if not data:
            continue
        packet = packet_of(data)
        assert compare(packet)[1] == data, path
        rows = picked.Rows.decode(**packet)
        lines = [line.rstrip(b"\r\n") for line in rows.render_many(range(rows.count))]
        for size in (2, 4, 9, 30):
            line = rng.choice(lines)
            start = rng.randrange(len(line) + 1)
            needle = line[start : start + size]
            assert {i for i, line in enumerate(lines) if needle in line} <= set(rows.find(needle)), (path, needle)
        damaged = dict(packet)
        mutate(damaged, rng)
        compare(damaged)
