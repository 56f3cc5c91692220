"""Every kind of tampering with a real archive is named, exactly; and an archive that nobody touched has no alarm."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from porter.audit import Audit
from porter.footer import Footer
from porter.objects import MemoryObjects
from porter.verdict import COMPLETE, INCOMPLETE
from protocol.ranges import Ranges
from tests.porter.archiving import HOUR
from tests.porter.fleet import node_key, stream_of
from tests.porter.tampering import Row, Whole, look, objects, part_names, put_value, rewrite, texts, whole

__all__ = ["objects", "whole"]  # fixtures

CALM = stream_of("/b")  # read by one tailer, once: no other packet needs its rows


def pick(rows: list[Row], nth: int = 45) -> Row:
    """A row in the middle of a stretch."""
    return [row for row in rows if row.stream == CALM][nth]


def changed(objects: MemoryObjects, row: Row, folder: Path, change: Callable[[pa.Table], pa.Table]) -> Audit:
    """The audit after a change of one row group."""
    rewrite(objects, row.name, folder, lambda group, table: change(table) if group == row.group else table)
    return look(objects)


def assert_named(found: Audit, row: Row, *, layout: bool = False, also: Collection[int] = ()) -> None:
    """The row's object, row group, packet, stream and range are named; and nothing else is.

    `layout`: rows lie otherwise than the footer says; `also`: other packets that can't be proved either.
    """
    assert {damage.name for damage in found.damage} == {str(row.name)}
    packets = [damage for damage in found.damage if damage.numbers]
    named = {damage.numbers.first for damage in packets if damage.epoch == row.key.epoch}
    assert named == {row.key.number, *also}
    for damage in packets:
        assert (damage.group, damage.tailer, damage.stream) == (row.group, row.key.tailer, row.stream)
    mine = [damage for damage in packets if damage.numbers == Ranges([(row.key.number, row.key.number + 1)])]
    assert any(damage.first <= row.first <= damage.end for damage in mine)
    lying = [damage for damage in found.damage if damage.stream and not damage.numbers]
    assert {(damage.group, damage.stream) for damage in lying} == ({(row.group, row.stream)} if layout else set())
    assert [damage.what for damage in found.damage if not damage.stream and not damage.numbers] == [
        f"not the object that {str(row.name).replace('p00.parquet', 'v01.json')} names"
    ]
    assert found.verdict.state == INCOMPLETE
    gaps = {number for account in found.verdict.accounts for gap in account.gaps for number in gap.numbers.numbers()}
    assert gaps == named, "what can't be proved is not there"


def test_an_archive_that_nobody_touched_is_complete_and_has_no_alarm(objects: MemoryObjects) -> None:
    found = look(objects)
    assert (found.verdict.state, found.damage, found.troubles) == (COMPLETE, (), ())
    keys = {node_key(name).public for name in ("web1", "web2", "porter")}
    assert look(objects, keys) == found


def test_rewriting_a_part_without_changing_anything_changes_nothing(objects: MemoryObjects, tmp_path: Path) -> None:
    """So what the tests below find is what they changed, and not how they changed it."""
    before = dict(objects.held)
    for name in part_names(objects):
        rewrite(objects, name, tmp_path)
    assert objects.held == before


def test_a_changed_byte_of_a_line(objects: MemoryObjects, whole: Whole, tmp_path: Path) -> None:
    row = pick(whole[1])
    found = changed(objects, row, tmp_path, lambda table: put_value(table, row.row, "line", "PLAIN"))
    assert "plain" in trio.run(text_of, whole[0], row)
    assert_named(found, row, layout=True)  # it is shorter, too
    line = trio.run(text_of, whole[0], row)
    found = changed(objects, row, tmp_path, lambda table: put_value(table, row.row, "line", line.upper()))
    assert_named(found, row)


def test_a_changed_time(objects: MemoryObjects, whole: Whole, tmp_path: Path) -> None:
    row = pick(whole[1])
    found = changed(objects, row, tmp_path, lambda table: put_value(table, row.row, "nanos", 70))
    assert_named(found, row)


def test_a_changed_path(objects: MemoryObjects, whole: Whole, tmp_path: Path) -> None:
    """Rows of one stream that say that they come from elsewhere."""
    row = pick(whole[1])
    for column in ("path", "host"):
        found = changed(objects, row, tmp_path, lambda table, name=column: put_value(table, row.row, name, "/c"))
        named = [damage for damage in found.damage if damage.stream]
        assert {(damage.group, damage.stream) for damage in named} == {(row.group, row.stream)}
        assert any(damage.first == row.first for damage in named)


def test_what_is_shown_of_bytes_that_are_not_text(objects: MemoryObjects, whole: Whole, tmp_path: Path) -> None:
    row = next(row for row in whole[1] if row.stream == stream_of("/odd"))
    found = changed(objects, row, tmp_path, lambda table: put_value(table, row.row, "line", "harmless"))
    (damage,) = [damage for damage in found.damage if damage.what == "a line is not what its raw bytes say"]
    assert (damage.group, damage.stream) == (row.group, row.stream)
    assert damage.first <= row.first < damage.end


def test_a_dropped_row(objects: MemoryObjects, whole: Whole, tmp_path: Path) -> None:
    row = pick(whole[1])

    def drop(table: pa.Table) -> pa.Table:
        return pa.concat_tables([table.slice(0, row.row), table.slice(row.row + 1)])

    found = changed(objects, row, tmp_path, drop)
    after = {one.key.number for one in whole[1] if one.stream == CALM and one.first > row.first and together(one, row)}
    assert_named(found, row, layout=True, also=after)  # those behind it are shifted


def test_a_dropped_first_row(objects: MemoryObjects, whole: Whole, tmp_path: Path) -> None:
    """The next one does not say where it begins."""
    row = pick(whole[1], 0)
    found = changed(
        objects, row, tmp_path, lambda table: pa.concat_tables([table.slice(0, row.row), table.slice(1 + row.row)])
    )
    assert any("must say its offset" in text for text in texts(found))
    assert {damage.stream for damage in found.damage if damage.stream} == {row.stream}


def test_an_added_row(objects: MemoryObjects, whole: Whole, tmp_path: Path) -> None:
    row = pick(whole[1])

    def add(table: pa.Table) -> pa.Table:
        return pa.concat_tables([table.slice(0, row.row + 1), table.slice(row.row)])

    found = changed(objects, row, tmp_path, add)
    after = {one.key.number for one in whole[1] if one.stream == CALM and one.first > row.first and together(one, row)}
    assert_named(found, row, layout=True, also=after)


def test_two_rows_that_were_swapped(objects: MemoryObjects, whole: Whole, tmp_path: Path) -> None:
    rows = [row for row in whole[1] if row.stream == stream_of("/c")]  # lines of equal length: nothing is shifted
    row = rows[4]
    found = changed(objects, row, tmp_path, lambda table: table.take(swapped(table.num_rows, row.row, row.row + 2)))
    assert {damage.name for damage in found.damage} == {str(row.name)}
    assert [(damage.group, damage.stream) for damage in found.damage if damage.numbers] == [(row.group, row.stream)]


def test_stretches_in_another_order(objects: MemoryObjects, whole: Whole, tmp_path: Path) -> None:
    """All rows are there and each packet can be proved, but not as they were written."""
    row = pick(whole[1])
    mine = [one.row for one in whole[1] if (one.name, one.group) == (row.name, row.group) and one.stream == CALM]
    found = changed(
        objects,
        row,
        tmp_path,
        lambda table: table.take([*sorted(set(range(table.num_rows)) - set(mine)), *mine]),
    )
    assert [damage.what for damage in found.damage] == [
        f"not the object that {str(row.name).replace('p00.parquet', 'v01.json')} names",
        "its rows stand in another order",
    ]
    assert found.damage[1].group == row.group


def test_a_row_that_is_said_to_be_of_another_packet(objects: MemoryObjects, whole: Whole, tmp_path: Path) -> None:
    row = pick(whole[1])
    found = changed(objects, row, tmp_path, lambda table: put_value(table, row.row, "packet", 4711))
    strange = [damage for damage in found.damage if damage.what.startswith("rows of a packet")]
    assert [(damage.numbers, damage.group, damage.stream) for damage in strange] == [
        (Ranges([(4711, 4712)]), row.group, row.stream)
    ]
    assert {damage.numbers.first for damage in found.damage if damage.numbers} == {4711, row.key.number}


def test_a_packet_that_the_footer_no_longer_names(objects: MemoryObjects, whole: Whole, tmp_path: Path) -> None:
    row = pick(whole[1])

    def forget(footer: Footer) -> None:
        for batch in footer.packets:
            if batch.tailer == row.key.tailer and row.key.number in batch.numbers:
                at = list(batch.numbers.numbers()).index(row.key.number)
                batch.numbers -= Ranges([(row.key.number, row.key.number + 1)])
                batch.events = batch.events[:at] + batch.events[at + 1 :]

    rewrite(objects, row.name, tmp_path, footer=forget)
    found = look(objects)
    strange = [damage for damage in found.damage if damage.numbers]
    assert {damage.what for damage in strange} == {"rows of a packet that the footer does not name"}
    assert {damage.numbers.first for damage in strange} == {row.key.number}
    (gap,) = [gap for account in found.verdict.accounts for gap in account.gaps]
    assert gap.numbers == Ranges([(row.key.number, row.key.number + 1)])


def test_a_packet_that_never_was(objects: MemoryObjects, tmp_path: Path) -> None:
    name = part_names(objects)[0]

    def invent(footer: Footer) -> None:
        footer.packets[0].numbers.add(900, 901)
        footer.packets[0].events += (3,)

    rewrite(objects, name, tmp_path, footer=invent)
    assert [damage.what for damage in look(objects).damage if damage.numbers] == ["no seal states what it had"]


def test_a_digest_of_a_row_group(objects: MemoryObjects, tmp_path: Path) -> None:
    name = part_names(objects)[0]

    def change(footer: Footer) -> None:
        footer.groups[2] = footer.groups[2]._replace(digest=bytes(32))

    rewrite(objects, name, tmp_path, footer=change)
    assert f"{name}: row group 2: not what its digest says" in texts(look(objects))


def test_what_was_dropped_as_a_duplicate(objects: MemoryObjects, tmp_path: Path) -> None:
    """Another time for an event whose bytes stand in another packet's row."""
    name = next(name for name in part_names(objects) if name.hour == HOUR + 3600)
    packets: list[int] = []

    def change(footer: Footer) -> None:
        row = footer.dropped[0]
        packets.append(row.key.number)
        points = (*row.points[:-1], row.points[-1] + 1) if row.points else (5,)
        footer.dropped[0] = row._replace(points=points)

    rewrite(objects, name, tmp_path, footer=change)
    found = look(objects)
    assert {damage.numbers.first for damage in found.damage if damage.numbers} == set(packets)
    assert {damage.name for damage in found.damage} == {str(name)}


@settings(max_examples=25)
@given(st.data())
def test_any_change_of_any_row_is_named_where_it_is(whole: Whole, data: st.DataObject) -> None:
    objects = MemoryObjects()
    objects.held = dict(whole[0].held)
    row = data.draw(st.sampled_from(whole[1]))
    kind = data.draw(st.sampled_from(["line", "nanos", "drop", "add", "swap", "packet", "flags"]))

    def change(table: pa.Table) -> pa.Table:
        match kind:
            case "line" if table["raw"][row.row].as_py() is None:
                return put_value(
                    table, row.row, "line", table["line"][row.row].as_py() + data.draw(st.text("ab", min_size=1))
                )
            case "nanos":
                return put_value(table, row.row, "nanos", ((table["nanos"][row.row].as_py() or 0) + 10) % 1000)
            case "drop":
                return pa.concat_tables([table.slice(0, row.row), table.slice(row.row + 1)])
            case "swap":
                other = data.draw(st.integers(0, table.num_rows - 1))
                return table.take(swapped(table.num_rows, row.row, other))
            case "packet":
                return put_value(
                    table, row.row, "packet", table["packet"][row.row].as_py() + data.draw(st.integers(1, 9))
                )
            case "flags":
                return put_value(table, row.row, "flags", table["flags"][row.row].as_py() ^ 1)
        return pa.concat_tables([table.slice(0, row.row), table.slice(row.row, 1), table.slice(row.row)])

    with TemporaryDirectory() as folder:
        found = changed(objects, row, Path(folder), change)
    if objects.held == whole[0].held:  # two equal rows were swapped
        assert not found.damage
        return
    assert str(row.name) in {damage.name for damage in found.damage}
    mine = [damage for damage in found.damage if (damage.name, damage.group) == (str(row.name), row.group)]
    assert mine
    if kind in ("line", "nanos", "flags"):
        assert any(damage.stream == row.stream and damage.first <= row.first <= damage.end for damage in mine) or any(
            "can't be" in damage.what or "was the object changed" in damage.what for damage in mine
        )
    assert found.verdict.state == INCOMPLETE


def together(one: Row, other: Row) -> bool:
    return (one.name, one.group) == (other.name, other.group)


def swapped(count: int, one: int, other: int) -> list[int]:
    order = list(range(count))
    order[one], order[other] = order[other], order[one]
    return order


async def text_of(objects: MemoryObjects, row: Row) -> str:
    """A row's `line`."""
    held = pq.ParquetFile(io.BytesIO(objects.held[str(row.name)]))
    line: str = held.read_row_group(row.group)["line"][row.row].as_py()
    return line
