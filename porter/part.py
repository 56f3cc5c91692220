"""One part of the archive: written to a local file by row groups, put if absent, read back and held against it.

What is proved before a part counts: each packet's rows gave the `content` that its tailer signed (`check_block`), and
each row group that was read back renders the very bytes and times that went in. Blocking; run it beside the loop.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from porter.catalog import FOOTER_KEY, Footer, PartName, StreamRow, Stretch
from porter.objects import Objects
from porter.parquet import Part, Placed, group, writer
from porter.parquet_read import RowGroups
from porter.source import Block, StreamKey
from protocol.content import ContentHasher, rows_content
from protocol.errors import FormatError
from protocol.packet import Header

ANY = bytes(16)  # a row group's digest is over one nameless stream


class PartWriter:
    """A part in the making."""

    def __init__(self, path: Path, footer: Footer) -> None:
        self.path, self.footer = path, footer
        self.rows = self.raw = 0
        self._writer = writer(path)
        self._digests: list[bytes] = []
        self._streams: dict[tuple[StreamKey, bytes, bytes], list[Stretch]] = {}
        self.heads: dict[bytes, bytes] = {}  # stream -> hash of its head, as packets' headers say it

    def write(self, parts: Sequence[Part]) -> None:
        """One row group."""
        table, placed = group(parts)
        number = len(self._digests)
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._digests.append(_digest(_rendered(parts)))
        self.rows += table.num_rows
        for one in placed:
            self._note(number, one)

    def _note(self, number: int, one: Placed) -> None:
        span = one.span
        key = span.source, span.host, span.path
        stretch = Stretch(number, one.row, one.last, one.first, one.end, span.epoch, span.number)
        self._streams.setdefault(key, []).append(stretch)
        self.raw += one.end - one.first

    def close(self, empty: Iterable[tuple[StreamKey, bytes, bytes]]) -> None:
        """Write the footer; `empty` are streams without rows (host and path besides): a file that had nothing."""
        for key in empty:
            self._streams.setdefault(key, [])
        self.footer.streams = [
            StreamRow(*source, host, path, self.heads.get(source.stream, b""), tuple(stretches))
            for (source, host, path), stretches in sorted(self._streams.items(), key=lambda item: item[0])
        ]
        self.footer.libraries = {"pyarrow": pa.__version__, "python": sys.version.split()[0]}
        self._writer.add_key_value_metadata({FOOTER_KEY: self.footer.encode()})
        self._writer.close()

    def put(self, objects: Objects, name: PartName) -> int:
        """Put it under its name (ExistsError if that is taken), read it back, and verify. Its size in bytes."""
        objects.put(str(name), self.path)
        self.verify(objects, name)
        return self.path.stat().st_size

    def verify(self, objects: Objects, name: PartName) -> None:
        """FormatError if what the store gives back is not what was written."""
        with objects.open(str(name)) as reader:
            held = RowGroups(str(name), reader)
            if held.count != len(self._digests) or held.footer != self.footer.encode():
                raise FormatError(f"{name}: reads back with another footer than was written: don't trust this store")
            for number, digest in enumerate(self._digests):
                rows = held.block(number).rows
                if _digest([(rows.render(), np.frombuffer(rows.points, np.uint64))]) != digest:
                    raise FormatError(f"{name}: row group {number} reads back other than written")


def check_block(header: Header, block: Block) -> None:
    """Do a packet's rows give what its tailer said of them? FormatError if not."""
    if rows_content(header.host, header.streams, header.runs, block.rows) != header.content:
        raise FormatError(f"packet {header.number}: its rows are not what its header says")


def _rendered(parts: Sequence[Part]) -> Iterable[tuple[bytes, np.ndarray]]:
    """Bytes and times of a row group's parts, in its order."""
    for part in sorted(parts, key=lambda part: part.place):
        rows, picked = part.piece.block.rows, part.rows
        times = np.frombuffer(rows.points, np.uint64)[picked]
        if picked[-1] - picked[0] == len(picked) - 1:
            yield rows.render(int(picked[0]), int(picked[-1]) + 1), times
        else:
            yield b"".join(rows.render_many(picked.tolist())), times


def _digest(rendered: Iterable[tuple[bytes, np.ndarray]]) -> bytes:
    hasher, at = ContentHasher(b""), 0
    for data, points in rendered:
        hasher.raw(ANY, b"", at, data)
        hasher.points(ANY, b"", points.tobytes())
        at += len(data)
    return hasher.digest()
