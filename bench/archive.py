"""The archive: from bucks to verified Parquet, how small it is, and how fast another engine searches it.

bucks to Parquet   `porter archive` as a whole process over the corpus: gather, decode, merge, sort, write, read back,
                   verify, judge
sort and write     the rows alone, decoded already, to a Parquet file
size               the archive of one file against `zstd -9` of it; and an hour in which all files are dealt to 64
                   hosts each, against the sum
DuckDB             one thread counts lines with a rare word
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import duckdb
import numpy as np
import pyarrow.parquet as pq

from bench import corpus
from bench.cluster import Cluster
from bench.filling import fill, fresh
from bench.measure import here, spread
from bench.measure import run as run_command
from bench.options import Options
from bench.packing import Sender, packets
from bench.read import RARE
from bench.report import Row
from bench.sending import key_of, put_all
from bench.sizes import compressed
from porter.parquet import GROUP_LINE_MAX, GROUP_ROWS_MAX, Part, columns, group, writer
from porter.shelf import block_of, spans_of
from porter.source import Piece
from protocol.packet import read

HOSTS = 64
LIVE_PIECE = 32 << 10  # a following tailer closes a packet at this size or soon after
SORTED_MAX = 256_000_000


def archive(cluster: Cluster, folder: Path, *arguments: str) -> tuple[float, int, int]:
    """Archive all that the bucks hold: the porter's CPU seconds and peak RSS, and the bytes of the parts."""
    shutil.rmtree(folder, ignore_errors=True)
    command = cluster.porter_command("archive", "--older", "0s", "--archive", str(folder), *arguments)
    spent = run_command(command)
    return spent.cpu_s, spent.rss, sum(path.stat().st_size for path in folder.rglob("*.parquet"))


def from_bucks(options: Options) -> list[Row]:
    """The whole way, and DuckDB over what came of it."""
    paths = corpus.make(options.folder / "corpus", options.size)
    total = sum(path.stat().st_size for path in paths)
    folder = options.folder / "archive"
    with fresh(options.folder / "cluster") as cluster:
        fill(cluster, paths)
        runs = [archive(cluster, folder) for _ in range(options.runs)]
    speeds = [total / 1e6 / cpu_s for cpu_s, *_ in runs]
    searched = [total / 1e9 / cpu_s for cpu_s in search(folder, options)]
    shutil.rmtree(folder)
    note = f"{total / 1e9:.2f} GB"
    return [
        Row("archive", "bucks to verified Parquet", spread(speeds), "MB/s raw a core", least=40, note=note),
        Row("archive", "a rare word, DuckDB", spread(searched), "GB/s raw a core", least=0.8, note=note),
        Row("archive", "the corpus' archive", spread([runs[0][2] / total]), "of raw"),
    ]


def search(folder: Path, options: Options) -> list[float]:
    """CPU seconds of counting the lines with the rare word."""
    base = duckdb.connect(config={"threads": 1})
    query = f"SELECT count(*) FROM read_parquet('{folder}/**/*.parquet') WHERE line LIKE '%{RARE}%'"
    assert base.execute(query).fetchall()[0][0] > 0, f"{RARE} was not found"
    return [here(lambda: base.execute(query).fetchall()).cpu_s for _ in range(options.runs)]


def sort_and_write(options: Options) -> list[Row]:
    """Rows as row groups to a file, nothing else."""
    paths = corpus.make(options.folder / "corpus", options.size)
    share = min(1.0, SORTED_MAX / sum(path.stat().st_size for path in paths))
    heads = {bytes(path): path.read_bytes()[: int(path.stat().st_size * share)] for path in paths}
    total = sum(map(len, heads.values()))
    pieces = list(_pieces(packets(heads)))
    out = options.folder / "sorted.parquet"

    def work() -> None:
        with writer(out) as file:
            for some in _groups(pieces):
                blocks = {id(piece.block): columns(piece.block) for piece in some}
                table, _ = group([Part(one, blocks[id(one.block)], np.arange(one.row, one.last)) for one in some])
                file.write_table(table, row_group_size=table.num_rows)

    speeds = [total / 1e6 / here(work).cpu_s for _ in range(options.runs)]
    out.unlink()
    return [
        Row(
            "archive", "sort and write alone", spread(speeds), "MB/s raw a core", least=60, note=f"{total / 1e9:.2f} GB"
        )
    ]


def _pieces(made: Iterator[bytes]) -> Iterator[Piece]:
    """Each run of each packet, with its rows."""
    for data in made:
        packet = read(data)
        block, row = block_of(packet), 0
        for span in spans_of(packet.header):
            yield Piece(span, block, row, row + span.count)
            row += span.count


def _groups(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    some: list[Piece] = []
    rows = raw = 0
    for piece in pieces:
        count, size = piece.last - piece.row, piece.span.end - piece.span.first
        if some and (rows + count > GROUP_ROWS_MAX or raw + size > GROUP_LINE_MAX):
            yield some
            some, rows, raw = [], 0, 0
        some.append(piece)
        rows, raw = rows + count, raw + size
    yield some


def sizes(options: Options) -> list[Row]:
    """Each large file by itself."""
    rows, ratios = [], []
    for path in corpus.big_files():
        with fresh(options.folder / "cluster") as cluster:
            fill(cluster, [_old(path, cluster.root)])
            size = archive(cluster, options.folder / "archive")[2]
        ratios.append(size / compressed(path, 9, options))
        rows.append(Row("archive", path.name, spread([ratios[-1]]), "of zstd -9", most=1.1))
    shutil.rmtree(options.folder / "archive")
    return [*rows, Row("archive", "median of formats", spread([median(ratios)]), "of zstd -9", most=1.0)]


def _old(path: Path, folder: Path) -> Path:
    """A copy that was written last long ago: else lines that are of today by chance go to hours of their own."""
    copy = folder / path.name
    shutil.copyfile(path, copy)
    os.utime(copy, (corpus.WRITTEN_S, corpus.WRITTEN_S))
    return copy


def fleet(options: Options) -> list[Row]:
    """All large files dealt to 64 hosts each, in one hour."""
    files = corpus.big_files()
    floor = sum(compressed(path, 9, options) for path in files)
    rows = []
    for piece, what, most in (
        (0, "an hour of 64 hosts", 1.05),
        (LIVE_PIECE, "the same in packets of 32 KiB raw", None),
    ):
        with fresh(options.folder / "cluster", 1) as cluster:
            address = cluster.addresses()[0]
            for number, dealt in enumerate(deal(files)):
                key = key_of(f"host{number}")
                put_all(address, key, packets(dealt, Sender(key.node, b"host%d" % number), piece))
            size = archive(cluster, options.folder / "archive")[2]
        count, texts = text_of(options.folder / "archive")
        rows.append(Row("archive", what, spread([size / floor]), "of zstd -9", most=most, note=f"{count:,} lines"))
        rows.append(Row("archive", f"{what}: metadata", spread([(size - texts) / count]), "B/line", most=most and 1.5))
    shutil.rmtree(options.folder / "archive")
    return rows


def deal(files: Sequence[Path]) -> Iterator[dict[bytes, bytes]]:
    """What each host has: a contiguous piece of each file, of whole lines."""
    contents = {bytes(path): path.read_bytes() for path in files}
    cuts = {
        path: [_line_end(data, len(data) * n // HOSTS) for n in range(HOSTS + 1)] for path, data in contents.items()
    }
    for n in range(HOSTS):
        yield {path: data[cuts[path][n] : cuts[path][n + 1]] for path, data in contents.items()}


def _line_end(data: bytes, at: int) -> int:
    return data.find(b"\n", at - 1) + 1 if 0 < at < len(data) else at


def text_of(folder: Path) -> tuple[int, int]:
    """Lines in an archive, and bytes of their text as stored; the rest of its bytes is metadata."""
    lines = texts = 0
    for path in folder.rglob("*.parquet"):
        facts = pq.ParquetFile(path).metadata
        lines += facts.num_rows
        for i in range(facts.num_row_groups):
            chunks = [facts.row_group(i).column(k) for k in range(facts.num_columns)]
            texts += sum(one.total_compressed_size for one in chunks if one.path_in_schema in ("line", "raw"))
    return lines, texts


PARTS: list[Callable[[Options], list[Row]]] = [from_bucks, sort_and_write, sizes, fleet]


def run(options: Options) -> list[Row]:
    return [row for part in PARTS for row in part(options)]
