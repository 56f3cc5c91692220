"""One part of the archive: written to a local file by row groups, read back and verified, and put if absent.

What is proved before a part counts: each packet's rows gave the `content` that its tailer signed (`check_block`), each
row group of the file renders the very bytes and times that went in, and the store gives back the very file. Who finds
a part of somebody else that nobody has vouched for can prove it from itself (`proof.py`). Blocking; run it beside the
loop.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from porter.catalog import PartName
from porter.footer import FOOTER_KEY, Check, Footer, GroupRow, StreamRow, Stretch
from porter.objects import Objects, digest
from porter.parquet import Part, Placed, group, level_of, writer
from porter.parquet_read import RowGroups
from porter.source import Block, StreamKey
from protocol.content import ContentHasher, rows_content
from protocol.errors import FormatError
from protocol.kernel import Rows
from protocol.limits import POINT_MAX
from protocol.packet import Header

SLICE_ROWS = 4096
ANY = bytes(16)  # a row group's digest is over one nameless stream


class PartWriter:
    """A part in the making."""

    def __init__(self, path: Path, footer: Footer, raw: int) -> None:
        """`raw`: how many bytes of sources will come, about."""
        self.path, self.footer = path, footer
        self.rows = self.raw = 0
        self._writer = writer(path, level_of(raw))
        self._streams: dict[tuple[StreamKey, bytes, bytes], list[Stretch]] = {}
        self.heads: dict[bytes, bytes] = {}  # stream -> hash of its head, as packets' headers say it

    def write(self, parts: list[Part]) -> None:
        """One row group. `parts` is emptied: there must be room for the table alone when it is compressed."""
        parts.sort(key=lambda part: part.place)
        times = [np.frombuffer(part.piece.block.rows.points, np.uint64)[part.rows] for part in parts]
        low, high = min(int(one.min()) for one in times), max(int(one.max()) for one in times)
        table, placed = group(parts)
        checks = _Checks(placed)
        found = _digest(map(checks.add, parts, times))
        parts.clear()
        times.clear()
        for one, check in zip(placed, checks.values, strict=True):
            self._note(len(self.footer.groups), one, check.value)
        self.footer.groups.append(GroupRow(table.num_rows, low, high, found))
        self.rows += table.num_rows
        self._writer.write_table(table, row_group_size=table.num_rows)
        del table, placed, checks
        pa.default_memory_pool().release_unused()  # else holes in the heap grow to 10 MB and more

    def _note(self, number: int, one: Placed, check: int) -> None:
        span = one.span
        key = span.source, span.host, span.path
        at = number, one.row, one.last, one.first, one.end
        stretch = Stretch(*at, span.epoch, span.number, span.index, check)
        self._streams.setdefault(key, []).append(stretch)
        self.raw += one.end - one.first

    def close(self, empty: Iterable[tuple[StreamKey, bytes, bytes]]) -> None:
        """Write the footer and verify the file; `empty` are streams without rows: a file that had nothing."""
        for key in empty:
            self._streams.setdefault(key, [])
        self.footer.streams = [
            StreamRow(*source, host, path, self.heads.get(source.stream, b""), tuple(stretches))
            for (source, host, path), stretches in sorted(self._streams.items(), key=lambda item: item[0])
        ]
        self.footer.libraries = {"pyarrow": pa.__version__, "python": sys.version.split()[0]}
        self._writer.add_key_value_metadata({FOOTER_KEY: self.footer.encode()})
        self._writer.close()
        self._verify()

    def put(self, objects: Objects, name: PartName) -> str:
        """Put it under its name (ExistsError if that is taken), read it back, and give its digest."""
        objects.put(str(name), self.path)
        with self.path.open("rb") as file:
            written = hashlib.file_digest(file, "sha256").hexdigest()
        if digest(objects, str(name)) != written:
            raise FormatError(f"{name}: reads back other than it was put: don't trust this store")
        return written

    def _verify(self) -> None:
        """FormatError if the file is not what was to be written. It has no name in the archive yet."""
        with self.path.open("rb") as reader:
            held = RowGroups(str(self.path), reader)
            if held.footer != self.footer.encode():
                raise FormatError(f"{self.path}: the part reads back with another footer than was written")
            check_groups(held, self.footer)


class _Checks:
    """The checks of a row group's stretches, filled as its parts are rendered; a part may reach over several."""

    def __init__(self, placed: Sequence[Placed]) -> None:
        self.values = [Check() for _ in placed]
        self._ends = [one.last for one in placed]
        self._at = self._row = 0

    def add(self, part: Part, points: np.ndarray) -> tuple[bytes, np.ndarray]:
        """The part's bytes and points, counted."""
        data, taken, text = _rendered(part), 0, 0
        sizes = np.frombuffer(part.piece.block.rows.raw_sizes, np.uint32)[part.rows]
        while taken < len(sizes):
            if self._row == self._ends[self._at]:
                self._at += 1
            rows = min(len(sizes) - taken, self._ends[self._at] - self._row)
            size = int(sizes[taken : taken + rows].sum())
            self.values[self._at].add(memoryview(data)[text : text + size], points[taken : taken + rows].tobytes())
            taken, text, self._row = taken + rows, text + size, self._row + rows
        return data, points


def check_groups(held: RowGroups, footer: Footer) -> None:
    """Is each row group what the footer says? FormatError if not."""
    if held.count != len(footer.groups):
        raise FormatError(f"{held.name}: {held.count} row groups, not {len(footer.groups)}; was the object changed?")
    for number, known in enumerate(footer.groups):
        if rows_digest(held.block(number).rows) != known.digest:
            raise FormatError(f"{held.name}: row group {number} is not what was written; was the object changed?")


def rows_digest(rows: Rows) -> bytes:
    """What a row group's digest is over: the bytes and times of all its rows, in order."""
    return _digest(_slices(rows))


def check_block(header: Header, block: Block) -> None:
    """Do a packet's rows give what its tailer said of them, and can they be archived? FormatError if not."""
    rows = block.rows
    if rows_content(header.host, header.streams, header.runs, rows) != header.content:
        raise FormatError(f"packet {header.number}: its rows are not what its header says")
    points = np.frombuffer(rows.points, np.uint64)
    if rows.count and not header.point_min <= int(points.min()) <= int(points.max()) <= header.point_max:
        raise FormatError(f"packet {header.number}: it has events of another time than its header says")
    if max(header.epoch, header.number, header.point_max, *(run.end for run in header.runs)) > POINT_MAX:
        raise FormatError(f"packet {header.number}: a number in its header is beyond 63 bits")
    try:
        b"".join((*block.shn, *block.app)).decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"packet {header.number}: a name in it is not UTF-8") from error


def _rendered(part: Part) -> bytes:
    """The bytes of a part's rows."""
    rows, picked = part.piece.block.rows, part.rows
    if picked[-1] - picked[0] == len(picked) - 1:
        return rows.render(int(picked[0]), int(picked[-1]) + 1)
    return b"".join(rows.render_many(picked.tolist()))


def _slices(rows: Rows) -> Iterator[tuple[bytes, np.ndarray]]:
    """Bytes and times of all rows, some at a time: the whole would be a row group's memory once more."""
    points = np.frombuffer(rows.points, np.uint64)
    for row in range(0, rows.count, SLICE_ROWS):
        last = min(row + SLICE_ROWS, rows.count)
        yield rows.render(row, last), points[row:last]


def _digest(rendered: Iterable[tuple[bytes, np.ndarray]]) -> bytes:
    hasher, at = ContentHasher(b""), 0
    for data, points in rendered:
        hasher.raw(ANY, b"", at, data)
        hasher.points(ANY, b"", points.tobytes())
        at += len(data)
    return hasher.digest()
