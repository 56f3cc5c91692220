"""The columns: their order, the flags, and that docs/FILES.md draws the same."""

import re
from itertools import combinations
from pathlib import Path

import pytest

from protocol import columns, event, formats, packet
from protocol.errors import ColumnsError

FILES = (Path(__file__).parents[2] / "docs/FILES.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without markup."""
    section = re.split(r"^#+ ", FILES.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.M)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_drawing_has_the_columns_in_their_order() -> None:
    drawn = [tuple(row[:3]) for row in table("Columns")]
    assert drawn == [tuple(column) for column in columns.COLUMNS]
    assert "lines | flags | format | points | shn | app | pid | pri" in FILES


def test_the_drawing_has_the_flags() -> None:
    assert [(int(row[0]), row[1]) for row in table("Flags")] == [(bit, name) for name, bit in columns.FLAGS.items()]


def test_the_drawing_has_the_header_as_its_module_tells_it() -> None:
    from protocol import header

    drawn = [(int(row[0]), row[1]) for row in table("Header")]
    assert [index for index, _name in drawn] == list(range(header.ARRAY_SIZE))
    told = {int(number): name for number, name in re.findall(r"(\d+) ([a-z_]+)", header.__doc__ or "")}
    assert {number: name for number, name in drawn if number < 20} == {n: told[n] for n in range(20)}
    envelope = [row[0] for row in table("Header") if row[2] == "envelope"]
    assert envelope == [str(i) for i in range(header.ENVELOPE_SIZE)]


def test_the_drawing_has_the_kinds_of_times() -> None:
    drawn = [(int(row[0]), row[1], row[2]) for row in table("Kinds")]
    assert drawn == [(kind, name, formats.SHAPES[kind].decode()) for kind, name in formats.NAMES.items()]


def test_the_drawing_has_the_members_of_a_format() -> None:
    assert [row[0] for row in table("Formats")] == list(formats.Format._fields)


def test_the_drawing_has_the_numbers() -> None:
    assert packet.MAGIC.decode() in FILES
    assert f"{event.EVENT_SIZE_MAX:,}" in FILES


def test_a_column_of_every_size_is_found_where_it_lies() -> None:
    sizes = (5, 2, 1, 3, 0, 0, 4, 1)
    assert columns.bounds(16, 2, sizes) == [0, 5, 7, 8, 11, 11, 11, 15, 16]


@pytest.mark.parametrize(
    ("length", "count", "sizes"),
    [
        (15, 2, (5, 2, 1, 3, 0, 0, 4, 1)),
        (16, 3, (5, 2, 1, 3, 0, 0, 4, 1)),
        (16, 2, (5, 2, 1, 3, 0, 0, 5)),
        (16, 2, (5, 2, 1, 3, -1, 1, 4, 1)),
        (131_073, 131_073, (0, 131_073, 0, 0, 0, 0, 0, 0)),
    ],
)
def test_sizes_that_do_not_fit_the_body_are_refused(length: int, count: int, sizes: tuple[int, ...]) -> None:
    with pytest.raises(ColumnsError):
        columns.bounds(length, count, sizes)


def test_a_hole_grows_from_its_time_to_its_pid_and_only_so() -> None:
    holes = {0, columns.TIME, columns.TIME | columns.HOST, columns.TIME | columns.HOST | columns.APP}
    holes.add(columns.TIME | columns.HOST | columns.APP | columns.PID)
    ends = {0, columns.CRLF, columns.OPEN, columns.OPEN | columns.PART}
    assert {flags for flags in range(256) if columns.FLAGS_OK[flags]} == {hole | end for hole in holes for end in ends}


def test_every_flag_has_a_bit_of_its_own() -> None:
    assert not any(a & b for a, b in combinations(columns.FLAGS.values(), 2))


def test_names_of_255_bytes_are_names() -> None:
    assert columns.check_names([b"a" * 255, b"!~"], 2) == (b"a" * 255, b"!~")
