"""Columns that contradict themselves or were damaged: a ColumnsError or the right rows, the same in both kernels."""

import random
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import kernel as picked
from protocol.errors import ColumnsError
from protocol.formats import Format
from tests.protocol.packets_by_hand import APP, CRLF, FORMATS, HOST, OPEN, PART, PID, TIME, make, zigzag
from tests.protocol.rows_seen import arrays, compiled, good, kernels, seeds, shown, twin


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
    """Both kernels' outcome, which must be the same; any exception but ColumnsError passes through as the bug it is."""
    results: list[Any] = []
    for kernel in filter(None, (twin, compiled)):
        try:
            rows = kernel.Rows.decode(**arguments)
        except ColumnsError:
            results.append(ColumnsError)
        else:
            results.append((shown(rows), rows.render(), rows.invalid_utf8()))
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
