"""An archive with everything in it that makes proofs hard, and ways to change it that keep it good Parquet."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trio

from porter import hour
from porter.archive_audit import look_at_archive
from porter.archived import Archive
from porter.audit import Audit, Found, audit
from porter.catalog import PartName, parts
from porter.footer import FOOTER_KEY, Footer
from porter.objects import MemoryObjects, Objects
from porter.parquet import SCHEMA, level_of, writer
from porter.trie import Limit
from protocol.packet import Key
from service.machine import RealMachine
from tests.porter.archiving import archive
from tests.porter.fleet import BUCKET, ENV, WIDTH, FakeTailer, bucks_of
from tests.porter.sealing import Chain

ODD = b"caf\xe9 \x00\x01\r\n"


def dated(first: int, count: int) -> bytes:
    """Lines with times, hosts, apps and pids of their own, each another."""
    return b"".join(
        b"Nov 14 22:%02d:%02d web%d app%d[%d]: message %d of many\n" % (15 + n // 60 % 40, n % 60, n % 3, n % 5, n, n)
        for n in range(first, first + count)
    )


async def archived() -> MemoryObjects:
    """Two tailers, two hours, three parts: files read twice and cut otherwise, fragments, odd bytes, empty files."""
    objects, bucks = MemoryObjects(), bucks_of(2)
    one, other = FakeTailer("web1"), FakeTailer("web2")
    raw = dated(0, 240)
    edges = [0, *(at + 1 for at in range(len(raw)) if raw[at] == 10)]
    for number in range(8):
        low, high = edges[30 * number], edges[30 * number + 30]
        one.read(b"/var/log/a", raw[low:high], first=low, bucket=BUCKET + WIDTH * (number % 3))
        other.read_many(
            [(b"/var/log/a", raw[low:high], low, None), (b"/b", b"plain %d\n" % number * 20, 160 * number, None)],
            bucket=BUCKET + WIDTH * (number % 3),
        )
    one.read(b"/odd", ODD * 40)
    one.read(b"/empty", b"")
    one.read(b"/late", b"2021-01-01 00:00:00 line of old\n" * 5)
    one.read(b"/cut", b"first\nsecond ", bucket=BUCKET)  # its last line had no end when it was read
    first = [*one.packets, *other.packets]
    one.epoch, one.number = 2, 0  # the journal was lost, and files were read again, in other pieces
    one.read(b"/var/log/a", raw[edges[10] : edges[77]], first=edges[10], bucket=BUCKET + 300)
    one.read(b"/cut", b"second line\nthird\n", first=6, bucket=BUCKET + 3600)
    one.read(b"/var/log/a", raw[edges[200] : edges[240]], first=edges[200], bucket=BUCKET + 3600)
    chains = Chain(one), Chain(other)
    for chain in chains:
        chain.seal([p for p in chain.tailer.packets if p in first and p.header.bucket == BUCKET], until=BUCKET + 300)
        chain.seal([p for p in chain.tailer.packets if p in first and p.header.bucket > BUCKET], until=BUCKET + 900)
    late, straggler = one.packets[len(one.packets) - 3 :], other.read(b"/c", dated(900, 30), bucket=BUCKET)
    chains[0].seal(late, until=BUCKET + 7200, goodbye=True)
    chains[1].seal(straggler, until=BUCKET + 7200, goodbye=True)
    for buck in bucks:
        buck.seals = [seal.data for chain in chains for seal in chain.seals]
        buck.put([*first, *late])
    await archive(bucks, objects)
    bucks[0].put(straggler)
    await archive(bucks, objects)
    return objects


async def audited(objects: Objects, keys: Collection[bytes] = ()) -> Audit:
    """What an audit of the archive alone says, every row read."""
    found = Found(keys=frozenset(keys))
    with Archive(RealMachine(), objects, ENV) as held:
        await look_at_archive(held, found, deep=True)
    return audit(ENV, found)


class Row:
    """One row of the archive, and where it is."""

    def __init__(self, name: PartName, group: int, row: int, key: Key, stream: bytes, first: int, end: int) -> None:
        self.name, self.group, self.row = name, group, row
        self.key, self.stream, self.first, self.end = key, stream, first, end

    def __repr__(self) -> str:
        return f"{self.name} group {self.group} row {self.row} bytes {self.first}-{self.end} of {self.stream.hex()}"


async def rows_of(objects: MemoryObjects) -> list[Row]:
    """Every row."""
    found: list[Row] = []
    with Archive(RealMachine(), objects, ENV) as held:
        for name in await held.parts():
            for group in range(await held.group_count(name)):
                block, runs, _ = await held.whole(name, group)
                for run in runs:
                    for row in range(run.row, run.last):
                        first = block.rows.offsets[row]
                        key = Key(run.tailer, run.epoch, run.packet)
                        end = first + block.rows.raw_sizes[row]
                        found.append(Row(name, group, row, key, run.stream, first, end))
    return found


def rewrite(
    objects: MemoryObjects,
    name: PartName,
    folder: Path,
    table: Callable[[int, pa.Table], pa.Table] = lambda group, rows: rows,
    footer: Callable[[Footer], object] = lambda footer: None,
) -> None:
    """A part again, as its writer would have written it, but for what the two functions change."""
    held = pq.ParquetFile(io.BytesIO(objects.held[str(name)]))
    said = Footer.decode(held.metadata.metadata[FOOTER_KEY], str(name))
    footer(said)
    out = writer(folder / "part", level_of(0))
    for group in range(held.metadata.num_row_groups):
        rows = _typed(table(group, held.read_row_group(group)))
        if rows.num_rows:
            out.write_table(rows, row_group_size=rows.num_rows)
    out.add_key_value_metadata({FOOTER_KEY: said.encode()})
    out.close()
    objects.held[str(name)] = (folder / "part").read_bytes()


def _typed(table: pa.Table) -> pa.Table:
    """With dictionaries where the archive has them."""
    columns = []
    for field in SCHEMA:
        column = table[field.name].combine_chunks()
        if pa.types.is_dictionary(field.type) and not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        columns.append(column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def put_value(table: pa.Table, row: int, column: str, value: object) -> pa.Table:
    """A table with another value in one place."""
    values = table[column].to_pylist()
    values[row] = value
    at = table.schema.get_field_index(column)
    return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))


def part_names(objects: MemoryObjects) -> list[PartName]:
    return parts(objects, ENV)


Whole = tuple[MemoryObjects, list[Row]]


@pytest.fixture(scope="session")
def whole() -> Whole:
    """The archive, and all its rows; made once, never changed."""
    limit, hour.LIMIT = hour.LIMIT, Limit(150, 1 << 20)
    try:
        objects = trio.run(archived)
    finally:
        hour.LIMIT = limit
    return objects, trio.run(rows_of, objects)


@pytest.fixture
def objects(whole: Whole) -> MemoryObjects:
    """A copy to be spoilt."""
    made = MemoryObjects()
    made.held = dict(whole[0].held)
    return made


def look(objects: MemoryObjects, keys: Collection[bytes] = ()) -> Audit:
    """The audit, and that it is one that people can read."""
    found = trio.run(audited, objects, keys)
    assert all(damage.text() and damage.document() for damage in found.damage)
    return found


def texts(found: Audit) -> list[str]:
    return [damage.text() for damage in found.damage]
