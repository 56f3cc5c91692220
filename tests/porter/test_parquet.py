"""What goes into Parquet comes out as the same bytes, for us; and as the same rows for everybody else's readers."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import duckdb
import fastparquet
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from porter.parquet import SCHEMA, Part, columns, escape, group, level_of, unescape, writer
from porter.parquet_read import RowGroups
from porter.shelf import block_of, spans_of
from porter.source import Piece
from protocol.errors import FormatError
from protocol.packet import Packet
from tests.porter.making import packets_of

SEEN = ["time", "path", "host", "line", "raw", "app", "format", "stream"]
LINES = [
    b"Nov 10 03:44:58 web1 sshd[4721]: Failed password for root",
    b"2022-02-10T00:01:03.870414+0000 mon.a (mon.0) 12 : cluster [DBG]",
    b'10.0.0.1 - - [10/Feb/2022:00:01:03 +0000] "GET /" 200 12',
    b"2022-02-10 00:01:03.123456789 nine digits",
    b"no time at all",
    b"",
    b"caf\xc3\xa9 is text, caf\xe9 is not",
    b"\xff\xfe\x00 NUL and worse",
    b"\xed\xa0\x80 a surrogate",
]


def parts_of(packets: list[Packet]) -> list[Part]:
    parts = []
    for packet in packets:
        block, row = block_of(packet), 0
        batch = columns(block)
        for span in spans_of(packet.header):
            piece = Piece(span, block, row, row + span.count)
            parts.append(Part(piece, batch, np.arange(row, row + span.count)))
            row += span.count
    return parts


def test_the_smaller_a_part_the_better_it_is_packed() -> None:
    assert [level_of(raw) for raw in (0, 8 << 20, (8 << 20) + 1, 64 << 20, (64 << 20) + 1)] == [19, 19, 15, 15, 9]


def write(path: Path, *groups: list[Part]) -> list[list[tuple[bytes, int, int, int, int]]]:
    """One file; where each stretch of each group is."""
    out, listed = writer(path), []
    for parts in groups:
        table, placed = group(parts)
        out.write_table(table, row_group_size=table.num_rows)
        listed.append([(one.span.path, one.row, one.last, one.first, one.end) for one in placed])
    out.close()
    return listed


def read_back(path: Path, listed: list[list[tuple[bytes, int, int, int, int]]]) -> dict[bytes, bytes]:
    """Each path's bytes, stretch by stretch, each read alone."""
    found: dict[bytes, list[tuple[int, bytes]]] = {}
    with path.open("rb") as file:
        groups = RowGroups(path.name, file)
        for number, stretches in enumerate(listed):
            for name, row, last, first, end in stretches:
                data = groups.block(number, row, last).rows.render()
                assert len(data) == end - first
                found.setdefault(name, []).append((first, data))
    return {name: b"".join(data for _, data in sorted(pieces)) for name, pieces in found.items()}


@given(
    st.lists(
        st.lists(st.sampled_from(LINES) | st.binary(max_size=80).map(lambda b: b.replace(b"\n", b"\r")), max_size=30),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
)
def test_any_bytes_come_back(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[bytes]], end: bytes, last: bool
) -> None:
    named = {b"/var/log/%d" % i: end.join(lines) + (end if last else b"") for i, lines in enumerate(files)}
    path = tmp_path_factory.mktemp("parquet") / "x.parquet"
    packets = packets_of(named, raw_max=4096)
    if packets:
        listed = write(path, parts_of(packets))
        assert read_back(path, listed) == {name: data for name, data in named.items() if data}


def test_every_real_log_comes_back_from_row_groups_of_its_own(shared_data: Path, tmp_path: Path) -> None:
    files = {
        escape(bytes(path)).encode(): path.read_bytes() for path in (shared_data / "logs").rglob("*") if path.is_file()
    }
    packets = packets_of(files)
    half = len(packets) // 2
    listed = write(tmp_path / "x.parquet", parts_of(packets[:half]), parts_of(packets[half:]))
    assert read_back(tmp_path / "x.parquet", listed) == {name: data for name, data in files.items() if data}


def test_rows_cut_by_time_come_back(tmp_path: Path) -> None:
    """A leaf of the bucket trie takes some rows of a packet, and another the others."""
    order = random.Random(7).sample(range(60), 60)
    data = b"".join(b"2022-02-10T00:01:%02d.5Z line %d\n" % (second, i) for i, second in enumerate(order))
    (part,) = parts_of(packets_of({b"/a": data}))
    early = np.frombuffer(part.piece.block.rows.points, np.uint64) < np.median(part.piece.block.rows.points)
    halves = [part._replace(rows=part.rows[early]), part._replace(rows=part.rows[~early])]
    listed = write(tmp_path / "x.parquet", [halves[0]], [halves[1]])
    assert read_back(tmp_path / "x.parquet", listed) == {b"/a": data}


def test_four_readers_see_the_same_rows_by_globbing(shared_data: Path, tmp_path: Path) -> None:
    files = {bytes(p): p.read_bytes() for p in sorted((shared_data / "logs/zoo_lnav").iterdir())[:60] if p.is_file()}
    packets = packets_of(files)
    (tmp_path / "prod/date=2026-01-01").mkdir(parents=True)
    for number, packet in enumerate(packets_of({b"/odd": b"\n".join(LINES)}, number=99, start={}) + packets):
        write(tmp_path / f"prod/date=2026-01-01/00.p{number:02d}.parquet", parts_of([packet]))
    glob = str(tmp_path / "**/*.parquet")
    names = sorted(tmp_path.rglob("*.parquet"))

    rows = sum(block_of(packet).rows.count for packet in packets) + len(LINES)
    ours = _rows(pq.ParquetFile(name).read() for name in names)
    assert len(ours) == rows
    query = f"select {', '.join(SEEN)} from read_parquet('{glob}')"
    assert _rows([duckdb.sql(query).to_arrow_table()]) == ours
    assert _rows([polars.read_parquet(glob, columns=SEEN, hive_partitioning=False).to_arrow()]) == ours
    # fastparquet decodes differences of more than 28 bits wrongly, so it is asked for all but the time
    rest: list[tuple[str, ...]] = []
    for name in names:
        with name.open("rb") as file:
            rest += map(_plain, fastparquet.ParquetFile(file).to_pandas(SEEN[1:]).itertuples(index=False))
    assert sorted(rest) == sorted(row[1:] for row in ours)


def _rows(tables: Iterable[pa.Table]) -> list[tuple[str, ...]]:
    """Each row as texts, whatever types a reader has for them."""
    found = []
    for table in tables:
        times = table["time"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
        columns = [table[name].to_pylist() for name in SEEN[1:]]
        found += [(f"{row[0]:020}", *_plain(row[1:])) for row in zip(times, *columns, strict=True)]
    return sorted(found)


def _plain(row: Iterable[object]) -> tuple[str, ...]:
    return tuple("" if value is None or value != value else str(value) for value in row)


def test_a_rare_word_is_found_by_a_plain_query(tmp_path: Path) -> None:
    data = (
        b"".join(b"2022-02-10T00:01:03.5Z line %d\n" % i for i in range(1000)) + b"2022-02-10T00:01:04.5Z a xylophone\n"
    )
    write(tmp_path / "x.parquet", parts_of(packets_of({b"/a": data})))
    found = duckdb.sql(f"select line from '{tmp_path / 'x.parquet'}' where line like '%xylophone%'").fetchall()
    assert found == [(" a xylophone",)]


def test_no_index_leads_out_of_its_dictionary_not_even_beneath_a_null() -> None:
    (packet,) = packets_of({b"/a": b"".join(line + b"\n" for line in LINES)})
    batch = columns(block_of(packet))
    for name in ("shn", "app", "format"):
        column = batch[name]
        assert 0 < column.null_count < len(column)
        beneath = np.frombuffer(column.indices.buffers()[1], np.int32)[: len(column)]
        assert 0 <= beneath.min() <= beneath.max() < len(column.dictionary)


def test_an_object_that_was_changed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write(path, parts_of(packets_of({b"/a": b"".join(b"some line %d\n" % i for i in range(9999))})))
    good = path.read_bytes()
    path.write_bytes(good.replace(b"\x06format", b"\x06fOrmat"))  # the footer's name of a column
    with path.open("rb") as file, pytest.raises(FormatError, match=r"x\.parquet.*changed"):
        RowGroups("x.parquet", file)
    data = bytearray(good)
    for at in range(200, 400):
        data[at] ^= 0x55
    path.write_bytes(data)
    with path.open("rb") as file, pytest.raises(FormatError, match=r"x\.parquet.*changed"):
        RowGroups("x.parquet", file).block(0)
    path.write_bytes(data[: len(data) // 2])
    with path.open("rb") as file, pytest.raises(FormatError, match=r"x\.parquet.*changed"):
        RowGroups("x.parquet", file)


def test_A21_names_of_any_bytes_are_escaped_reversibly() -> None:
    for name in (b"/var/log/plain", b"/a b,c", b"/new\nline", b"/\xff\xfe%41", b"100%", "/ünï".encode()):
        assert unescape(escape(name)) == name
    assert escape("/ünï".encode()) == "/ünï"
    assert escape(b"/\xff%") == "/%FF%25"


def test_the_columns_are_those_that_the_docs_promise() -> None:
    expected = "time nanos host shn app pid pri severity line raw format path stream offset tailer epoch packet flags"
    assert SCHEMA.names == expected.split()
