"""Events as Parquet: one packet's rows as a record batch, many batches as one row group, and the file around them.

A row of the archive is an event with its time, host, app and pid in columns of their own and what is left of the
line in `line`; nothing that can be computed again is stored. Read back with `porter/parquet_read.py`, it is byte for
byte what the tailer read.

    time    timestamp(us, UTC)      nanos    int16, what is left below 1 us; null = 0
    line    text for any engine     raw      the exact bytes, only where they are not UTF-8 (there `line` holds U+FFFD)
    offset  null where it is the end of the row before (same stream); never null in a stream's first row of a row group

Order is what makes it small: inside a row group rows are sorted by (path, host, stream, offset), so equal things are
neighbours. Encodings and sizes are those measured best: PLAIN text under zstd (9; more for small parts) with 8 MiB
pages, differences for numbers, dictionaries for names; statistics only on the columns that prune.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from porter.source import Block, Piece, Span
    from protocol.kernel import Rows

GROUP_ROWS_MAX = 262_144
GROUP_LINE_MAX = 64 << 20  # bytes of `line` in a row group: a reader's memory
PAGE_SIZE = 8 << 20
LEVEL = 9  # the knee: 12 gains 2.6 % for twice the CPU
# What is small can have the best there is: a part is written once and kept for years, and this costs five CPU-seconds
# or so. 15 makes it 1 to 9 % smaller for 1.5 to 4 times the CPU; 19 makes it 5 to 25 % smaller, at 1.5 MB/s. The levels
# between are often worse than 15: they search in another way, and that needs the patience of 19.
LEVELS = ((8 << 20, 19), (64 << 20, 15))

NAME = pa.dictionary(pa.int32(), pa.string())
ID = pa.dictionary(pa.int32(), pa.binary(16))
SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("nanos", pa.int16()),
        pa.field("host", NAME, nullable=False),
        pa.field("shn", NAME),
        pa.field("app", NAME),
        pa.field("pid", pa.int32()),
        pa.field("pri", pa.uint8()),
        pa.field("severity", pa.uint8()),
        pa.field("line", pa.string(), nullable=False),
        pa.field("raw", pa.binary()),
        pa.field("format", NAME),
        pa.field("path", NAME, nullable=False),
        pa.field("stream", ID, nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("tailer", ID, nullable=False),
        pa.field("epoch", pa.dictionary(pa.int32(), pa.int64()), nullable=False),
        pa.field("packet", pa.int64(), nullable=False),
        pa.field("flags", pa.uint8(), nullable=False),
    ]
)
DICTIONARIES = ["host", "shn", "app", "format", "path", "stream", "tailer", "epoch", "packet"]
# fastparquet (2026.9) decodes differences of more than 28 bits wrongly, so only columns that gain by it are kept so:
# PLAIN would cost `time` four times the bytes, a fifth of a fleet's hour.
DELTAS = dict.fromkeys(("time", "nanos", "pid"), "DELTA_BINARY_PACKED")
PLAINS = dict.fromkeys(("line", "raw", "pri", "severity", "offset", "flags"), "PLAIN")
SORTED_BY = ("path", "host", "stream")  # then tailer and offset, which is null where it can be derived


def escape(name: bytes) -> str:
    """A path or host as text: bytes that are not UTF-8, and `%`, as %XX. `unescape` gives the same bytes back."""
    text = name.replace(b"%", b"%25").decode("utf-8", "surrogateescape")
    return "".join(f"%{ord(c) - 0xDC00:02X}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)


def unescape(text: str) -> bytes:
    """The bytes that `escape` was given."""
    return unquote_to_bytes(text)


def columns(block: Block) -> pa.RecordBatch:
    """What the rows of a block say themselves; whose they are is the pieces' part, and `group` adds it."""
    rows = block.rows
    points = np.frombuffer(rows.points, np.uint64)
    line, raw = _texts(rows)
    made = {
        "time": pa.array((points // 100).view(np.int64)).cast(SCHEMA.field("time").type),
        "nanos": _optional((points % 100 * 10).astype(np.int16), 0),
        "shn": _names(rows.shn, [name.decode() for name in block.shn]),
        "app": _names(rows.app, [name.decode() for name in block.app]),
        "pid": _optional(np.frombuffer(rows.pid, np.int32), -1),
        "pri": _optional(np.frombuffer(rows.pri, np.uint8), 255),
        "severity": pa.nulls(rows.count, pa.uint8()),
        "line": line,
        "raw": raw,
        "format": _names(rows.format, [shape.to_text() for shape in block.formats]),
        "offset": pa.array(np.frombuffer(rows.offsets, np.uint64).astype(np.int64)),
        "flags": pa.array(np.frombuffer(rows.flags, np.uint8)),
    }
    return pa.RecordBatch.from_arrays(list(made.values()), names=list(made))


Place = tuple[str, str, bytes, bytes, int, tuple[int, bytes, int, int, int, int]]


class Part(NamedTuple):
    """Some rows of a piece, by their index in its block, and the columns of that block."""

    piece: Piece
    batch: pa.RecordBatch
    rows: np.ndarray

    @property
    def place(self) -> Place:
        """Where it stands in a row group; of two readings that differ, the one filed first comes first."""
        span = self.piece.span
        offset = self.piece.block.rows.offsets[self.rows[0]]
        return escape(span.path), escape(span.host), span.stream, span.tailer, offset, span.rank

    def take(self) -> pa.RecordBatch:
        """The rows' columns; without a copy where they are neighbours, which they nearly always are."""
        first, count = int(self.rows[0]), len(self.rows)
        if self.rows[-1] - first == count - 1:
            return self.batch.slice(first, count)
        return self.batch.take(pa.array(self.rows))


class Placed(NamedTuple):
    """A stretch of the row group, and a span of whose bytes it has."""

    span: Span
    row: int
    last: int
    first: int
    end: int


def group(parts: Iterable[Part]) -> tuple[pa.Table, list[Placed]]:
    """One row group: the parts in the archive's order, offsets left out where they follow from the row before."""
    placed = sorted(((part.place, part) for part in parts), key=itemgetter(0))
    counts = [len(part.rows) for _, part in placed]
    table = pa.Table.from_batches([part.take() for _, part in placed]).unify_dictionaries().combine_chunks()
    own: dict[str, pa.Array] = {name: table[name] for name in table.column_names}
    for i, name in enumerate(("path", "host", "stream", "tailer")):
        own[name] = _repeat([place[i] for place, _ in placed], counts, SCHEMA.field(name).type)
    own["epoch"] = _repeat([part.piece.span.epoch for _, part in placed], counts, SCHEMA.field("epoch").type)
    own["packet"] = pa.array(np.repeat([part.piece.span.number for _, part in placed], counts))
    offsets, stretches = _offsets(table["offset"].to_numpy(), placed)
    own["offset"] = offsets
    return pa.Table.from_arrays([own[name] for name in SCHEMA.names], schema=SCHEMA), stretches


def level_of(raw: int) -> int:
    """The zstd level for a part with so many bytes of sources."""
    return next((level for most, level in LEVELS if raw <= most), LEVEL)


def writer(path: Path, level: int = LEVEL) -> pq.ParquetWriter:
    """A Parquet file with the archive's encodings; each table written whole is a row group."""
    order = [pq.SortingColumn(SCHEMA.get_field_index(name)) for name in SORTED_BY]
    return pq.ParquetWriter(
        path,
        SCHEMA,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=level,
        use_dictionary=DICTIONARIES,
        column_encoding=DELTAS | PLAINS,
        write_statistics=["time", "host", "path", "app"],
        write_page_index=True,
        data_page_size=PAGE_SIZE,
        dictionary_pagesize_limit=1 << 20,
        max_rows_per_page=1 << 30,
        sorting_columns=order,
        write_page_checksum=True,  # zstd notices a changed byte only by luck
        store_schema=False,
    )


def _texts(rows: Rows) -> tuple[pa.Array, pa.Array]:
    """Columns `line` and `raw`. Rows that are not UTF-8 are mended all at once: LF can't be in them, so it can join."""
    data, offsets = rows.text()
    exact = pa.Array.from_buffers(pa.binary(), rows.count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    broken = rows.invalid_utf8()
    if not broken:
        return exact.view(pa.string()), pa.nulls(rows.count, pa.binary())
    mask = np.zeros(rows.count, bool)
    mask[broken] = True
    kept = exact.filter(pa.array(mask))
    joined = pc.binary_join(pa.ListArray.from_arrays([0, len(kept)], kept), b"\n")[0].as_py()
    mended = pc.split_pattern(pa.array([joined.decode("utf-8", "replace")]), "\n").flatten()
    line = pc.replace_with_mask(exact, mask, mended.view(pa.binary()))
    raw = pc.replace_with_mask(pa.nulls(rows.count, pa.binary()), mask, kept)
    return line.view(pa.string()), raw


def _optional(values: np.ndarray, absent: int) -> pa.Array:
    return pa.array(values, mask=values == absent)


def _names(indexes: memoryview, names: Sequence[str]) -> pa.Array:
    found = np.frombuffer(indexes, np.uint8)
    absent = found == 255
    # 0 beneath what is absent: where dictionaries are unified, Arrow looks up the indexes of nulls too.
    places = np.where(absent, 0, found).astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(places, mask=absent), pa.array(names, pa.string()))


def _repeat(values: Sequence[object], counts: Sequence[int], kind: pa.DictionaryType) -> pa.Array:
    """One value a part, repeated for each of its rows; the dictionary holds each once."""
    places: dict[object, int] = {}
    indexes = np.array([places.setdefault(value, len(places)) for value in values], np.int32)
    return pa.DictionaryArray.from_arrays(np.repeat(indexes, counts), pa.array(list(places), kind.value_type))


def _offsets(offsets: np.ndarray, placed: Sequence[tuple[Place, Part]]) -> tuple[pa.Array, list[Placed]]:
    """Null where the row before is of the same stream and ends there: a reader needs no row group but this one."""
    sizes = [np.frombuffer(part.piece.block.rows.raw_sizes, np.uint32)[part.rows] for _, part in placed]
    ends = offsets + np.concatenate(sizes).astype(np.int64)
    follows = np.zeros(len(offsets), bool)
    follows[1:] = offsets[1:] == ends[:-1]
    begins = np.concatenate(([0], np.cumsum([len(part.rows) for _, part in placed])))
    for i, (place, _) in enumerate(placed):
        if i == 0 or place[:4] != placed[i - 1][0][:4]:
            follows[begins[i]] = False
    rows = np.flatnonzero(~follows)
    lasts = np.append(rows[1:], len(offsets))
    owners = np.searchsorted(begins, rows, "right") - 1
    found = zip(
        owners.tolist(), rows.tolist(), lasts.tolist(), offsets[rows].tolist(), ends[lasts - 1].tolist(), strict=True
    )
    stretches = [Placed(placed[i][1].piece.span, row, last, first, end) for i, row, last, first, end in found]
    return pa.array(offsets, mask=follows), stretches
