"""C15, C24, C36 as a porter meets them: rotten copies, packets that go while they are read, and times out of place."""

from __future__ import annotations

import random
from collections.abc import Callable

import pyarrow.parquet as pq
import pytest
import trio

from porter.audit import Audit, Found, audit, look_at_bucks
from porter.bucks import Bucks
from porter.objects import MemoryObjects
from porter.reader import Reader
from porter.transfer import Copied, cat, generations
from porter.verdict import COMPLETE
from protocol.messages import Buckets, Clock, Covered, Get, List, Peers, Roster, Seals, Streams
from protocol.packet import Packet
from protocol.ranges import Ranges
from tests.porter.archiving import HOUR, archive, copy, lines, names, spread, verdict, wrong
from tests.porter.fleet import BUCKET, ENV, WIDTH, FakeBuck, FakeTailer, bucks_of, cluster_of, lines_of
from tests.porter.sealing import Chain
from tests.porter.tampering import audited

RAW = lines_of(0, 200)
READING = (Buckets, Clock, Covered, Get, List, Peers, Roster, Seals, Streams)


def fleet(copies: int = 3) -> tuple[list[FakeBuck], FakeTailer]:
    """Three bucks, and a sealed file in ten packets."""
    bucks, tailer = bucks_of(3), FakeTailer()
    for number in range(10):
        part = RAW[800 * number : 800 * (number + 1)]
        tailer.read(b"/a", part, first=800 * number, bucket=BUCKET + WIDTH * (number % 2))
    for number, packet in enumerate(tailer.packets):
        for one in range(copies):
            bucks[(number + one) % 3].put([packet])
    seal = Chain(tailer).seal(tailer.packets, until=BUCKET + 7200, goodbye=True).data
    for buck in bucks:
        buck.seals = [seal]
    return bucks, tailer


async def deep(bucks: list[FakeBuck]) -> Audit:
    found = Found()
    async with cluster_of(bucks, patience=10.0) as cluster:
        await look_at_bucks(cluster, found, 0, 0, True, lambda done, what: None)
    return audit(ENV, found)


async def copied(bucks: list[FakeBuck]) -> tuple[bytes, Copied, list[str]]:
    """What `cat` writes, and what it says."""
    written: list[bytes] = []

    async def write(data: bytes) -> None:
        written.append(data)

    async with cluster_of(bucks, patience=10.0) as cluster:
        reader = Reader(Bucks(cluster, 1 << 20), None)
        await reader.prepare()
        done = await cat(reader, list(enumerate(await generations(reader, b"web1", b"/a"), 1)), write)
        return b"".join(written), done, reader.shortfalls()


def flipped(packet: Packet) -> bytes:
    data = bytearray(packet.data)
    data[random.Random(packet.header.number).randrange(len(data))] ^= 1
    return bytes(data)


def cut(packet: Packet) -> bytes:
    return bytes(packet.data[: len(packet.data) // 2])


def zeroed(packet: Packet) -> bytes:
    return bytes(packet.data[:100]) + bytes(len(packet.data) - 100)


def gone(packet: Packet) -> None:
    """Its index has it, its disk has not."""


@pytest.mark.parametrize("harm", [flipped, cut, zeroed, gone])
async def test_C15_a_rotten_minority_is_read_around_named_and_nothing_is_deleted(
    harm: Callable[[Packet], bytes | None],
) -> None:
    bucks, tailer = fleet()
    bucks[1].spoil = harm
    data, done, shortfalls = await copied(bucks)
    assert (data, done.gaps) == (RAW, [])
    found = await deep(bucks)
    assert found.verdict.state == COMPLETE
    assert len(found.troubles) == len(tailer.packets)
    assert all(text.startswith("a bad copy: ") and "buck1" in text for text in found.troubles)
    assert found.copies[tailer.key.node] == {1: 0, 2: len(tailer.packets)}
    assert found.below == {tailer.key.node: len(tailer.packets)}
    objects = MemoryObjects()
    (report,) = await archive(bucks, objects)
    assert (report.state, report.short) == (COMPLETE, False)
    assert (await copy(objects, b"/a"))[0] == RAW
    assert await wrong(objects) == []
    asked = {type(message) for buck in bucks for message in buck.asked}
    assert asked <= set(READING), "a porter that meets rot only reads"
    assert [len(buck.packets[BUCKET]) for buck in bucks] == [5, 5, 5]
    assert harm is gone or any("buck1" in text for text in shortfalls) or done.size == len(RAW)


async def test_A33_a_buck_that_lists_more_than_anybody_can_count_is_named_and_keeps_nobody_busy() -> None:
    bucks, tailer = fleet()
    bucks[1].claimed = ((tailer.key.node, 1, Ranges([(len(tailer.packets), 1 << 63)])),)
    with trio.fail_after(20):
        found = await deep(bucks)
        assert any("buck1" in text and "it lies" in text for text in found.troubles), found.troubles
        assert len(found.troubles) < 2_000
        assert (await copied(bucks))[0] == RAW
        objects = MemoryObjects()
        (report,) = await archive(bucks, objects)
        assert report.packets == len(tailer.packets)
        assert (await copy(objects, b"/a"))[0] == RAW


async def test_C15_an_older_packet_in_the_place_of_a_newer_is_not_taken_for_it() -> None:
    """A chunk of the disk was restored: what comes is a whole packet, and not the one that was asked for."""
    bucks, tailer = fleet()
    bucks[1].spoil = lambda packet: bytes(tailer.packets[(packet.header.number - 1) % 10].data)
    assert (await copied(bucks))[0] == RAW
    found = await deep(bucks)
    assert found.verdict.state == COMPLETE
    assert any("not what was asked for" in text for text in found.troubles)


async def test_C15_a_packet_that_its_tailer_has_not_signed_is_not_archived_where_a_good_copy_is() -> None:
    """One buck has changed lines, and made all digests fit: only the seal can tell."""
    bucks, _tailer = fleet()
    forged = FakeTailer()
    for number in range(10):
        text = RAW[800 * number : 800 * (number + 1)].replace(b"line", b"LIES")
        forged.read(b"/a", text, first=800 * number, bucket=BUCKET + WIDTH * (number % 2))
    bucks[1].spoil = lambda packet: bytes(forged.packets[packet.header.number].data)
    objects = MemoryObjects()
    (report,) = await archive(bucks, objects)
    assert (report.state, report.short) == (COMPLETE, False)
    assert (await copy(objects, b"/a"))[0] == RAW
    for buck in bucks:
        buck.spoil = bucks[1].spoil
    (report,) = await archive(bucks, MemoryObjects())
    assert (report.missing, report.packets) == (10, 0)


async def test_C24_what_is_pruned_while_it_is_read_is_a_gap_that_is_said() -> None:
    """The listing named it, and then its bucket was dropped everywhere."""
    bucks, tailer = fleet()
    dropped = {packet.header.number for packet in tailer.packets if packet.header.bucket == BUCKET}
    for buck in bucks:
        buck.spoil = lambda packet: None if packet.header.number in dropped else bytes(packet.data)
    data, done, shortfalls = await copied(bucks)
    assert len(data) == len(RAW) // 2
    assert sum(end - first for _, first, end in done.gaps) == len(RAW) // 2 or shortfalls
    assert any("missing: packets 0, 2, 4, 6, 8 of" in text for text in shortfalls)


async def test_C24_a_straggler_after_its_hour_is_archived_is_a_part_and_a_verdict_more() -> None:
    bucks, tailer = fleet()
    objects = MemoryObjects()
    await archive(bucks, objects)
    first = objects.get(f"{ENV}/date=2023-11-14/22.v00.json")
    for buck in bucks:  # the hour was pruned, then a tailer came back with what it still had
        buck.packets.clear()
    late = tailer.read(b"/a", lines_of(200, 20), first=len(RAW))
    bucks[0].put(late)
    chain = Chain(tailer)
    chain.seals = []
    chain.seal(tailer.packets[:10], until=BUCKET + 7200, goodbye=True)
    chain.seal(late, until=BUCKET + 9000, goodbye=True)
    for buck in bucks:
        buck.seals = [seal.data for seal in chain.seals]
    (report,) = await archive(bucks, objects)
    assert (report.packets, report.rows, report.state) == (1, 20, COMPLETE)
    assert names(objects) == ["22.p00.parquet", "22.p01.parquet", "22.v00.json", "22.v01.json"]
    assert objects.get(f"{ENV}/date=2023-11-14/22.v00.json") == first
    assert [part["name"][-14:] for part in verdict(objects)["parts"]] == ["22.p00.parquet", "22.p01.parquet"]
    assert (await copy(objects, b"/a"))[0] == RAW + lines_of(200, 20)
    found = await audited(objects)
    assert (found.verdict.state, found.damage) == (COMPLETE, ())


async def test_C36_lines_at_a_boundary_late_future_and_of_1970_keep_their_times() -> None:
    """Filed by arrival where they are out of place, each with its own time; the files come back, and are proved."""
    bucks, tailer, objects = bucks_of(2), FakeTailer(), MemoryObjects()
    edge = b"2023-11-14T22:19:59.999999999Z last\n2023-11-14T22:20:00Z first\n"
    odd = b"1970-01-01T00:00:00Z epoch\n1971-01-01T00:00:00Z old\n2099-12-31T23:59:59Z future\n"
    tailer.read(b"/edge", edge, bucket=BUCKET)
    tailer.read(b"/odd", odd, bucket=BUCKET)
    assert {packet.header.bucket for packet in tailer.packets} <= {BUCKET - WIDTH, BUCKET, BUCKET + WIDTH}
    assert any(packet.header.late for packet in tailer.packets)
    spread(bucks, tailer)
    bucks[0].seals = [Chain(tailer).seal(tailer.packets, until=BUCKET + 7200, goodbye=True).data]
    (report,) = await archive(bucks, objects)
    assert report.state == COMPLETE
    assert report.hour == HOUR
    assert await lines(objects) == sorted((edge + odd).splitlines(keepends=True))
    assert (await copy(objects, b"/odd"))[0] == odd
    (part,) = [name for name in objects.held if name.endswith(".parquet")]
    with objects.open(part) as reader:
        years = sorted(time.year for time in pq.read_table(reader)["time"].to_pylist())
    assert years.count(1971) == 1
    assert years.count(2099) == 1
    found = await audited(objects)
    assert (found.verdict.state, found.damage) == (COMPLETE, ())
