"""Archiving from a fake fleet, and reading back what came of it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import pyarrow.parquet as pq

from porter.archive import Archived, Archiver
from porter.archived import Archive
from porter.catalog import of_hour, parts
from porter.damage import Damage
from porter.footer import Footer
from porter.objects import Objects
from porter.parquet_read import RowGroups
from porter.proof import damage_of
from porter.reader import Reader
from porter.signed import Signed
from porter.source import Piece, Scope
from porter.transfer import Copied, cat, choose, generations
from protocol.seal import Seal
from service.machine import RealMachine
from tests.porter.fleet import BUCKET, ENV, FakeBuck, FakeTailer, cluster_of

HOUR = BUCKET - BUCKET % 3600


def spread(bucks: Sequence[FakeBuck], tailer: FakeTailer, first: int = 0) -> None:
    """Two copies of each packet from number `first` on."""
    for packet in tailer.packets[first:]:
        for copy in range(min(2, len(bucks))):
            bucks[(packet.header.number + copy) % len(bucks)].put([packet])


async def archive(bucks: Sequence[FakeBuck], objects: Objects, *, older_s: int = 0, **more: object) -> list[Archived]:
    """One run of `porter archive`."""
    async with cluster_of(bucks, **{"patience": 10.0, **more}) as cluster:
        return await Archiver(cluster.machine, cluster, objects).run(older_s, lambda done, what: None)


def names(objects: Objects) -> list[str]:
    """Every part and verdict, without env and date."""
    return [info.name.rpartition("/")[2] for info in objects.list() if "/claims/" not in info.name]


def footers(objects: Objects) -> list[Footer]:
    """Of all parts, in order."""
    found = []
    for name in parts(objects, ENV):
        with objects.open(str(name)) as reader:
            found.append(Footer.decode(RowGroups(str(name), reader).footer, str(name)))
    return found


def verdict(objects: Objects, hour: int = HOUR) -> dict[str, object]:
    """The one that rules."""
    document: dict[str, object] = json.loads(objects.get(str(of_hour(objects, ENV, hour, "v")[-1])))
    return document


def row_counts(objects: Objects) -> list[int]:
    """Rows of each row group of each part, as another reader sees them."""
    found = []
    for name in parts(objects, ENV):
        data = pq.ParquetFile(io.BytesIO(objects.get(str(name)))).metadata
        found += [data.row_group(number).num_rows for number in range(data.num_row_groups)]
    return found


async def scanned(objects: Objects, scope: Scope | None = None) -> list[Piece]:
    """Every piece of the archive."""
    found: list[Piece] = []
    with Archive(RealMachine(), objects, ENV) as held:
        async with held.scan(scope or Scope()) as pieces:
            async for _, some in pieces:
                found += some
    return found


async def lines(objects: Objects, scope: Scope | None = None) -> list[bytes]:
    """Every line, sorted."""
    return sorted(line for piece in await scanned(objects, scope) for line in piece.render().splitlines(keepends=True))


async def copy(objects: Objects, path: bytes, host: bytes = b"web1") -> tuple[bytes, Copied]:
    """What `cat` writes from the archive alone."""
    written: list[bytes] = []

    async def write(data: bytes) -> None:
        written.append(data)

    with Archive(RealMachine(), objects, ENV) as held:
        reader = Reader(None, held)
        copied = await cat(reader, choose(await generations(reader, host, path), None), write)
    return b"".join(written), copied


async def wrong(objects: Objects) -> list[Damage]:
    """What can't be computed again from the archive."""
    with Archive(RealMachine(), objects, ENV) as held:
        found: list[Damage] = []
        for name in await held.parts():
            signed = Signed(map(Seal.read, (await held.footer(name)).seals))
            found += [damage async for damage in damage_of(held, name, signed)]
        return found
