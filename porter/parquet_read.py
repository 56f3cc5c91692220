"""Parquet as events again: a row group's rows, or those of one stream's path, decoded to what the tailer read.

The inverse of `porter/parquet.py`. A row group can be read alone: a stream's first row in it says its offset, and where
offsets are left out they follow from the row before. Whatever an object holds that its writer can't have written is a
FormatError that names the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from porter.objects import Reader
from porter.parquet import SCHEMA, unescape
from porter.source import Block
from protocol.columns import WIDE_NONE
from protocol.errors import FormatError
from protocol.formats import Format
from protocol.kernel import Rows

TEXT_NAMES = ["host", "shn", "app", "format", "path"]
MAGIC = b"PAR1"
CONTENT = [name for name in SCHEMA.names if name != "severity"]


class Run(NamedTuple):
    """Rows `row` to `last` that are of one stream and of one packet. `states`: the first has its offset."""

    host: bytes
    path: bytes
    tailer: bytes
    stream: bytes
    epoch: int
    packet: int
    row: int
    last: int
    states: bool


class RowGroups:
    """The row groups of one part. Blocking: call it through `Machine.slow`."""

    def __init__(self, name: str, reader: Reader) -> None:
        self.name = name
        self._reader = reader
        if reader.read(len(MAGIC)) != MAGIC:  # other readers refuse it then; pyarrow looks at the end alone
            raise FormatError(f"{name}: it does not begin as a Parquet file; was the object changed?")
        try:
            self._file = pq.ParquetFile(
                reader, read_dictionary=TEXT_NAMES, pre_buffer=False, page_checksum_verification=True
            )
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:  # KeyError: a column's name was changed
            raise FormatError(f"{name}: not a Parquet file ({_said(error)}); was the object changed?") from error
        if self._file.schema_arrow.names != SCHEMA.names:
            raise FormatError(f"{name}: columns {self._file.schema_arrow.names}, not the archive's: written by others?")

    def close(self) -> None:
        """Give the object back."""
        self._reader.close()

    @property
    def footer(self) -> bytes:
        """What the writer put under `buck` in the metadata."""
        held: bytes = (self._file.metadata.metadata or {}).get(b"buck", b"")
        return held

    @property
    def count(self) -> int:
        return int(self._file.metadata.num_row_groups)

    def block(self, group: int, row: int = 0, last: int | None = None) -> Block:
        """Rows `row` to `last` of a row group, decoded. `row` must begin a stretch."""
        table = self._read(group, CONTENT).slice(row, None if last is None else last - row)
        try:
            return block_of_columns(table)
        except (FormatError, pa.ArrowException, ValueError) as error:
            raise FormatError(f"{self.name}: row group {group}: {_said(error)}; was the object changed?") from error

    def whole(self, group: int) -> tuple[Block, list[Run], list[int]]:
        """A row group as it says itself what it is, whatever the footer says: all rows, and whose they are.

        Then the rows whose `line` is not what can be shown of their `raw` bytes: nothing else proves it.
        """
        table = self._read(group, SCHEMA.names)
        try:
            runs = _runs(table)
            if runs and not runs[0].states:  # damage, which the run tells; all that follows it can still be looked at
                at = table.schema.get_field_index("offset")
                first = pa.chunked_array([pa.array([0], pa.int64()), *table["offset"].slice(1).chunks])
                table = table.set_column(at, table.schema.field(at), first)
            return block_of_columns(table), runs, _mended_wrongly(table)
        except (FormatError, pa.ArrowException, ValueError) as error:
            raise FormatError(f"{self.name}: row group {group}: {_said(error)}; was the object changed?") from error

    def _read(self, group: int, columns: Sequence[str]) -> pa.Table:
        try:
            return self._file.read_row_group(group, columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise FormatError(f"{self.name}: row group {group}: {_said(error)}; was the object changed?") from error


def block_of_columns(table: pa.Table) -> Block:
    """The rows that these columns say: of a row group, or of a part before it is placed in one."""
    shn, shn_names = _codes(table["shn"])
    app, app_names = _codes(table["app"])
    shape, texts = _codes(table["format"])
    formats = tuple(Format.from_text(text) for text in texts)
    micros = table["time"].combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False)
    nanos = _filled(table["nanos"], 0, np.int64)
    line, line_offsets = _text(table["line"])
    raw, raw_offsets = _text(table["raw"])
    names = [[name.encode() for name in names] for names in (shn_names, app_names)]
    rows = Rows.from_arrays(
        points=(micros * 100 + nanos // 10).astype(np.uint64),
        flags=_filled(table["flags"], 0, np.uint8),
        format=shape,
        formats=formats,
        shn=shn,
        shn_names=names[0],
        app=app,
        app_names=names[1],
        pid=_filled(table["pid"], -1, np.int32),
        pri=_filled(table["pri"], 255, np.uint8),
        lines=line,
        line_offsets=line_offsets,
        raw=raw,
        raw_offsets=raw_offsets,
        offsets=_filled(table["offset"], -1, np.int64),
    )
    return Block(rows, names[0], names[1], formats)


def _mended_wrongly(table: pa.Table) -> list[int]:
    exact = pc.is_valid(table["raw"])
    rows = np.flatnonzero(exact.to_numpy(zero_copy_only=False)).tolist()
    shown, raw = table["line"].filter(exact).to_pylist(), table["raw"].filter(exact).to_pylist()
    return [row for row, line, data in zip(rows, shown, raw, strict=True) if line != data.decode("utf-8", "replace")]


def _runs(table: pa.Table) -> list[Run]:
    """Where rows change their stream or packet, or have an offset of their own."""
    if not table.num_rows:
        return []
    host, hosts = _codes(table["host"])
    path, paths = _codes(table["path"])
    tailer, stream = _ids(table["tailer"]), _ids(table["stream"])
    epoch, packet = (_filled(table[name], -1, np.int64) for name in ("epoch", "packet"))
    states = ~table["offset"].combine_chunks().is_null().to_numpy(zero_copy_only=False)
    edge = states.copy()
    edge[0] = True
    for column in (host, path, epoch, packet):
        edge[1:] |= column[1:] != column[:-1]
    for column in (tailer, stream):
        edge[1:] |= (column[1:] != column[:-1]).any(axis=1)
    if int(host.max()) == WIDE_NONE or int(path.max()) == WIDE_NONE:
        raise FormatError("rows without a host or a path")
    rows = np.flatnonzero(edge).tolist()
    names = [[unescape(name) for name in names] for names in (hosts, paths)]
    return [
        Run(
            names[0][host[row]], names[1][path[row]], tailer[row].tobytes(), stream[row].tobytes(),
            int(epoch[row]), int(packet[row]), row, last, bool(states[row]),
        )
        for row, last in pairwise([*rows, table.num_rows])
    ]  # fmt: skip


def _ids(column: pa.ChunkedArray) -> np.ndarray:
    """Sixteen bytes a row."""
    array = column.combine_chunks()
    if array.null_count:
        raise FormatError("rows without a tailer or a stream")
    data = np.frombuffer(array.buffers()[1], np.uint8)
    return data[array.offset * 16 : (array.offset + len(array)) * 16].reshape(-1, 16)


def _said(error: Exception) -> str:
    """On one line, whatever a library says."""
    return " ".join(str(error).split())


def _filled(column: pa.ChunkedArray, absent: int, kind: type) -> np.ndarray:
    filled = pc.fill_null(column, absent) if column.null_count else column
    return np.ascontiguousarray(filled.to_numpy(zero_copy_only=False), kind)


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Indexes (65,535 where there is none) and what they point to; only the names that these rows use."""
    array = column.combine_chunks()
    codes = pc.fill_null(array.indices, WIDE_NONE).to_numpy(zero_copy_only=False)
    used = np.zeros(max(len(array.dictionary), WIDE_NONE) + 1, bool)
    used[codes] = True
    used[WIDE_NONE] = False
    present = np.flatnonzero(used)
    if len(array.dictionary) >= WIDE_NONE:
        raise FormatError(f"{len(array.dictionary)} names in one column of a row group")
    places = np.full(len(used), WIDE_NONE, np.uint16)
    places[present] = np.arange(len(present), dtype=np.uint16)
    return places[codes], array.dictionary.take(pa.array(present)).to_pylist()


def _text(column: pa.ChunkedArray) -> tuple[memoryview, np.ndarray]:
    """An Arrow string column's bytes and offsets, from 0 on. A null has no bytes."""
    array = column.combine_chunks()
    _, offsets, data = array.buffers()
    view = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    held = memoryview(data) if data is not None else memoryview(b"")
    if not len(array):
        return memoryview(b""), np.zeros(1, np.int32)
    return held[view[0] : view[-1]], view - view[0]
