"""The checker sees a known loss, duplicate, phantom, corruption and disorder, in a file, an archive and on disks, and
nothing where nothing is. What it says of a run is worth no more than this."""

from __future__ import annotations

import ast
import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.wire_samples import HEADER, packet
from tests.scenarios.checker import (
    Counts,
    Key,
    copies,
    count,
    differences,
    expected_names,
    gap_differences,
    judge,
    keys,
    parquet_equal,
    parquet_lines,
    parquet_names,
    parquet_unfinished,
)
from tests.scenarios.writing import SAME, Writer

HERE = Path(__file__).parent
LINES = [b"w0-0 a\n", b"x\n", b"w0-1 b\n", b"w0-2 c\n"]
WHOLE = b"".join(LINES)


def test_it_imports_nothing_of_the_product() -> None:
    tree = ast.parse((HERE / "checker.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {path.name for path in HERE.parents[1].iterdir() if path.is_dir()}
    assert {"duckdb", "blake3"} <= names
    assert not {name.split(".")[0] for name in names} & ours


@pytest.mark.parametrize(
    ("back", "lost", "duplicates", "phantoms"),
    [
        (WHOLE, 0, 0, 0),
        (b"w0-0 a\nw0-1 b\n", 2, 0, 0),
        (WHOLE + b"x\nx\nw0-0 a\n", 0, 3, 0),
        (WHOLE + b"y\n", 0, 0, 1),
        (b"w0-0 a\nx\nw0-1 b\nw0-2 C", 1, 0, 1),
        (b"", 4, 0, 0),
    ],
)
def test_it_counts_what_is_wrong(back: bytes, lost: int, duplicates: int, phantoms: int) -> None:
    assert count({"/a": LINES}, {"/a": back}) == Counts(4, lost, duplicates, phantoms)
    assert count({"/a": LINES}, {"/a": back, "/b": b"z\nz\n"}) == Counts(4, lost, duplicates, phantoms + 2)


@pytest.mark.parametrize(
    ("back", "word"),
    [
        (b"x\nw0-1 b\nw0-2 c\n", "lost 1 lines of 4 (prefix): b'w0-0'"),
        (b"w0-0 a\nx\nw0-2 c\n", "lost 1 lines of 4 (middle): b'w0-1'"),
        (b"w0-0 a\nx\nw0-1 b\n", "lost 1 lines of 4 (postfix): b'w0-2'"),
        (b"w0-0 a\nx\nw0-1 b\nw0-1 b\nw0-2 c\n", "twice: b'w0-1' x2"),
        (WHOLE + b"w0-9 ?\n", "phantom: b'w0-9'"),
        (b"w0-0 a\nx\nw0-1 b\nw0-2 C\n", "corrupt: b'w0-2'"),
        (b"w0-0 a\nx\nw0-2 c\nw0-1 b\n", "in another order"),
        (b"w0-0 a\nx\nx\nw0-1 b\nw0-2 c\n", "lines without a name: 1 written, 2 came back"),
        (b"w0-0 a\ny\nw0-1 b\nw0-2 c\n", "23 bytes for 23, equal up to 7"),
    ],
)
def test_it_says_what_is_wrong(back: bytes, word: str) -> None:
    assert word in differences(LINES, back)
    found = judge({"/a": LINES, "/b": LINES}, {"/a": WHOLE, "/b": back}, drained=True)
    assert found.verdict == "invalid"
    assert f"/b: {word}" in found.why
    assert not any(text.startswith("/a") for text in found.why)


def test_what_is_as_written_is_valid() -> None:
    assert differences(LINES, WHOLE) == []
    assert judge({"/a": LINES}, {"/a": WHOLE}, drained=False).verdict == "valid"


def test_an_end_that_may_still_come_is_unknown_and_nothing_else_is() -> None:
    late, lost = WHOLE[:9], WHOLE[:7] + WHOLE[9:]
    assert judge({"/a": LINES}, {"/a": late}, drained=False).verdict == "unknown"
    assert judge({"/a": LINES}, {}, drained=False).verdict == "unknown"
    assert judge({"/a": LINES}, {"/a": late}, drained=True).verdict == "invalid"
    assert judge({"/a": LINES, "/b": LINES}, {"/a": lost, "/b": late}, drained=False).verdict == "invalid"
    assert judge({}, {"/z": b"?"}, drained=True).why == ["phantom: a file that nobody wrote: /z"]


@given(st.integers(0, 99), st.sampled_from(["lose", "repeat", "change", "swap", "add"]))
def test_no_single_change_to_a_file_is_missed(at: int, what: str) -> None:
    """Whichever line it is, those that are equal to others included."""
    written = [b"w3-%d %d\n" % (n, n) if n % 10 else SAME + b"\n" for n in range(100)]
    back = list(written)
    if what == "lose":
        del back[at]
    elif what == "repeat":
        back.insert(at, back[at])
    elif what == "change":
        back[at] = back[at][:-2] + b"?\n"
    elif what == "swap":
        other = (at + 7) % 100
        back[at], back[other] = back[other], back[at]
    else:
        back.insert(at, b"w3-1000 nobody's\n")
    assert differences(written, b"".join(written)) == []
    assert differences(written, b"".join(back)) != []


def archive(folder: Path, rows: list[tuple[str, bytes, int]]) -> Path:
    """A Parquet file with the columns that are asked, written by nobody's porter."""
    folder.mkdir()
    columns = dict(zip(("path", "line", "flags"), map(list, zip(*rows, strict=True)), strict=True))
    columns["line"] = [line.decode() for line in columns["line"]]
    pq.write_table(pa.table(columns), folder / "part.parquet")
    return folder


def test_it_counts_what_an_archive_has(tmp_path: Path) -> None:
    rows = [("/a", b"w0-0 a", 0), ("/a", SAME, 0), ("/a", SAME, 0), ("/b", b"w1-0 b", 0), ("/b", b"w1-1", 2)]
    good = archive(tmp_path / "good", rows)
    assert parquet_lines(good) == {"/a": 3, "/b": 1}
    assert parquet_unfinished(good) == {"/b": 1}
    assert parquet_equal(good, SAME) == {"/a": 2}
    assert parquet_names(good) == expected_names([b"w0-0 a\n", SAME, SAME, b"w1-0 b\n", b"w1-1"])
    twice = archive(tmp_path / "twice", [*rows, rows[0], rows[1]])
    assert parquet_names(twice)[b"w0-0"] == 2
    assert parquet_equal(twice, SAME) == {"/a": 3}
    lost = archive(tmp_path / "lost", rows[1:])
    assert parquet_names(lost)[b"w0-0"] == 0
    assert parquet_lines(lost) == {"/a": 2, "/b": 1}


def test_it_counts_copies_and_damaged_ones_for_nothing(tmp_path: Path) -> None:
    whole = packet()
    digest = whole[-32:]
    good, torn, bent = tmp_path / "good", tmp_path / "torn", tmp_path / "bent"
    good.write_bytes(b"noise BUK1" + whole + whole + b"a footer")
    torn.write_bytes(whole + whole[:-1])
    bent.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    assert copies([[good], [torn], [bent]]) == {digest: 2}
    assert copies([[good, torn], [bent], []]) == {digest: 1}


def test_it_reads_the_names_of_packets_off_a_disk(tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(b"noise" + packet() + packet(replace(HEADER, number=4_712)) + packet()[:-1])
    name = Key(HEADER.tailer.hex(), "7deadbeef", HEADER.bucket, 4_711)
    assert keys([part]) == {name, name._replace(number=4_712)}
    assert keys([]) == set()


GONE = {Key("aa", "7", 300, number) for number in (3, 4, 9)} | {Key("bb", "7", 600, 0)}


def told(*gaps: tuple[str, int, list[int]], state: str = "incomplete") -> dict[str, object]:
    """An audit with these gaps of tailers, as it is printed."""
    tailers = [
        {"tailer": tailer, "incomplete": [{"epoch": "7", "bucket": bucket, "numbers": numbers}]}
        for tailer, bucket, numbers in gaps
    ]
    return {"state": state, "tailers": tailers}


@pytest.mark.parametrize(
    ("audit", "wrong"),
    [
        (told(("aa", 300, [3, 5, 9, 10]), ("bb", 600, [0, 1])), []),
        (told(("aa", 300, [3, 5]), ("aa", 300, [9, 10]), ("bb", 600, [0, 1])), []),
        (told(("aa", 300, [3, 5, 9, 10])), ["gone, and not told"]),
        (told(("aa", 300, [3, 4, 9, 10]), ("bb", 600, [0, 1])), ["gone, and not told"]),
        (told(("aa", 300, [3, 10]), ("bb", 600, [0, 1])), ["told, and not gone"] * 4),
        (told(("aa", 300, [3, 5, 9, 10]), ("bb", 600, [0, 2])), ["told, and not gone"]),
        (told(("aa", 300, [3, 5, 9, 10]), ("bb", 300, [0, 1])), ["gone, and not told", "told, and not gone"]),
        (told(("aa", 300, [3, 5, 9, 10]), ("bb", 600, [0, 1]), ("bb", 600, [0, 1])), ["told 2 times"]),
        (
            told(("aa", 300, [3, 5, 9, 10]), ("bb", 600, [0, 1]), state="unknown"),
            ["called unknown, and it is incomplete"],
        ),
        (told(state="complete"), ["called complete, and it is incomplete", *["gone, and not told"] * 4]),
    ],
)
def test_it_tells_a_gap_that_is_told_too_wide_too_narrow_or_elsewhere(
    audit: dict[str, object], wrong: list[str]
) -> None:
    assert [text.split(":")[0] for text in gap_differences(audit, GONE)] == wrong


def test_it_takes_no_gap_where_nothing_is_gone() -> None:
    assert gap_differences(told(state="complete"), ()) == []
    assert gap_differences(told(state="incomplete"), ()) == ["called incomplete, and it is complete"]
    assert gap_differences(told(("aa", 300, [3, 4])), ()) != []


def test_a_writers_ledger_is_its_file(tmp_path: Path) -> None:
    writer = Writer(7, tmp_path / "log", seed=random.Random(1).randrange(100))
    writer.write(500)
    assert differences(writer.lines, writer.path.read_bytes()) == []
    assert writer.same > 10
