"""Which rows go where: duplicates, clashes, row groups, late rows; and that all of it can be proved afterwards."""

from __future__ import annotations

import io
import random
from itertools import pairwise
from typing import Any

import pyarrow.parquet as pq
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from porter import hour
from porter.catalog import parts
from porter.objects import MemoryObjects
from porter.source import Scope
from porter.trie import Limit
from protocol.limits import POINT_HZ
from protocol.packet import Key
from tests.porter.archiving import archive, copy, footers, lines, row_counts, scanned, spread, wrong
from tests.porter.fleet import BUCKET, ENV, FakeTailer, bucks_of, lines_of, stream_of

RAW = lines_of(0, 100)  # 40 bytes each


async def archived(*tailers: FakeTailer, objects: MemoryObjects | None = None) -> MemoryObjects:
    """An archive of what they have read."""
    store, bucks = objects or MemoryObjects(), bucks_of(3)
    for tailer in tailers:
        spread(bucks, tailer)
    await archive(bucks, store)
    return store


def again(epoch: int = 2) -> FakeTailer:
    """The same tailer, without its journal."""
    return FakeTailer(epoch=epoch)


def dropped(objects: MemoryObjects) -> list[tuple[int, int, int, int]]:
    """(epoch, first, end, points) of everything dropped."""
    return [(row.key.epoch, row.first, row.end, len(row.points)) for one in footers(objects) for row in one.dropped]


# ------------------------------------------------------------------------------------------------------- duplicates


async def test_a_file_that_was_read_twice_has_its_rows_once_and_both_readings_are_proved() -> None:
    first, second = FakeTailer(), again()
    first.read(b"/a", RAW)
    for at in range(0, len(RAW), 1200):
        second.read(b"/a", RAW[at : at + 1200], first=at)
    objects = await archived(first, second)
    assert sum(row_counts(objects)) == 100
    assert dropped(objects) == [
        (2, at, min(at + 1200, 4000), (min(at + 1200, 4000) - at) // 40) for at in (0, 1200, 2400, 3600)
    ]
    assert (await copy(objects, b"/a"))[0] == RAW
    assert await wrong(objects) == []


async def test_a_partial_overlap_is_cut_to_the_rest() -> None:
    first, second = FakeTailer(), again()
    first.read(b"/a", RAW[:2000])
    second.read(b"/a", RAW[1200:], first=1200, bucket=BUCKET + 300)
    objects = await archived(first, second)
    assert dropped(objects) == [(2, 1200, 2000, 20)]
    assert (await copy(objects, b"/a"))[0] == RAW
    assert await wrong(objects) == []


async def test_what_an_earlier_hour_holds_is_dropped_from_a_later_one() -> None:
    first, second = FakeTailer(), again()
    first.read(b"/a", RAW[:2000])
    second.read(b"/a", RAW, bucket=BUCKET + 7200)
    objects = await archived(first, second)
    assert dropped(objects) == [(2, 0, 2000, 50)]
    assert await lines(objects) == sorted(RAW.splitlines(keepends=True))
    assert await wrong(objects) == []


async def test_what_is_in_a_part_stays_there_though_another_was_filed_before_it() -> None:
    first, second = FakeTailer(), again()
    second.read(b"/a", RAW, bucket=BUCKET + 300)
    objects = await archived(second)
    before = dict(objects.held)
    first.read(b"/a", RAW[:2000])
    await archived(first, second, objects=objects)
    assert dropped(objects) == [(1, 0, 2000, 50)]
    assert {name: objects.held[name] for name in before} == before
    assert await lines(objects) == sorted(RAW.splitlines(keepends=True))
    assert await wrong(objects) == []


async def test_a_line_cut_elsewhere_the_second_time_adds_what_is_new_of_it() -> None:
    first, second = FakeTailer(), again()
    first.read(b"/a", RAW[:90])
    second.read(b"/a", RAW)
    objects = await archived(first, second)
    assert (await copy(objects, b"/a"))[0] == RAW
    assert dropped(objects) == [(2, 0, 90, 2)]
    assert await wrong(objects) == []


async def test_a_fragment_in_the_middle_of_a_line_leaves_two_rows_of_it_and_a_proof() -> None:
    first, second = FakeTailer(), again()
    first.read(b"/a", RAW[10:20], first=10)
    second.read(b"/a", RAW[:40])
    objects = await archived(first, second)
    assert (await copy(objects, b"/a"))[0] == RAW[:40]
    assert await wrong(objects) == []


async def test_other_bytes_at_the_same_offsets_are_both_shown_counted_and_shown_again_by_cat() -> None:
    first, second = FakeTailer(), again()
    other = RAW[:400] + lines_of(900, 5) + RAW[600:]
    first.read(b"/a", RAW)
    second.read(b"/a", other, bucket=BUCKET + 300)
    objects, bucks = MemoryObjects(), bucks_of(3)
    spread(bucks, first)
    spread(bucks, second)
    (report,) = await archive(bucks, objects)
    assert report.clashes == 5
    assert report.rows == 105
    data, copied = await copy(objects, b"/a")
    assert [(first, end) for _, first, end in copied.clashes] == [(at, at + 40) for at in range(400, 600, 40)]
    assert data == RAW[:600] + other[400:600] + RAW[600:] or sorted(data.splitlines()) == sorted(
        (RAW + lines_of(900, 5)).splitlines()
    )
    assert await wrong(objects) == []


async def test_a_third_reading_equal_to_the_second_is_dropped_and_proved_against_the_clash() -> None:
    one, two, three = FakeTailer(), again(), again(3)
    other = lines_of(900, 100)
    one.read(b"/a", RAW)
    two.read(b"/a", other, bucket=BUCKET + 300)
    objects = await archived(one, two)
    three.read(b"/a", other, bucket=BUCKET + 3600)
    await archived(three, objects=objects)
    assert sum(row_counts(objects)) == 200
    assert {(epoch, points) for epoch, _, _, points in dropped(objects)} == {(3, 1)}  # line by line
    assert len(dropped(objects)) == 100
    assert await wrong(objects) == []


async def test_a_copy_that_lies_drops_nothing_in_its_favour() -> None:
    """Rows are dropped because other rows have their bytes: those others must be good, and written."""
    first, second = FakeTailer(), again()
    bad = first.read(b"/a", RAW)[0]
    first.packets[0] = first_forged = again(1).number_it_again(bad, content=bytes(32))
    assert first_forged.header.key == bad.header.key
    second.read(b"/a", RAW, bucket=BUCKET + 300)
    objects = await archived(first, second)
    assert (await copy(objects, b"/a"))[0] == RAW
    assert dropped(objects) == []
    assert [batch.epoch for batch in footers(objects)[0].packets] == [2]
    assert await wrong(objects) == []


async def test_two_packets_under_one_key_are_both_kept() -> None:
    first, second = FakeTailer(), FakeTailer()
    (one,) = first.read(b"/a", RAW)
    (other,) = second.read(b"/b", lines_of(500, 10))
    assert one.header.key == other.header.key
    bucks, objects = bucks_of(2), MemoryObjects()
    bucks[0].put([one])
    bucks[1].put([other])
    bucks[0].conflicts = {one.header.key}
    (report,) = await archive(bucks, objects)
    assert report.state == "conflicting"
    assert (await copy(objects, b"/a"))[0] == RAW
    assert (await copy(objects, b"/b"))[0] == lines_of(500, 10)
    before = dict(objects.held)
    await archive(bucks, objects)
    assert objects.held == before


@settings(max_examples=25)
@given(st.data())
def test_any_readings_of_a_file_in_any_packets_buckets_and_runs_give_it_once_and_proved(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 1 << 32))
    chance = random.Random(seed)
    raw = b"".join(b"x" * chance.randrange(30) + b"\n" for _ in range(chance.randrange(1, 40)))

    async def job() -> None:
        objects = MemoryObjects()
        bucks = bucks_of(2)
        for epoch in range(1, chance.randrange(2, 5)):
            tailer, at = again(epoch), chance.choice([0, 0, chance.randrange(len(raw))])
            while at < len(raw):
                end = min(len(raw), at + chance.randrange(1, len(raw) + 1))
                tailer.read(b"/a", raw[at:end], first=at, bucket=BUCKET + 300 * chance.randrange(20))
                at = end
            spread(bucks, tailer)
            if chance.random() < 0.5:
                await archive(bucks, objects)
        await archive(bucks, objects)
        written = b"".join(
            piece.render() for piece in sorted(await scanned(objects), key=lambda one: (one.span.first, one.span.end))
        )
        reads = [run.first for buck in bucks for some in buck.packets.values() for p in some for run in p.header.runs]
        assert written == raw[min(reads) :]
        assert await wrong(objects) == []

    trio.run(job)


# -------------------------------------------------------------------------------------------------------- row groups


def dated(seconds: list[int], text: str = "line") -> bytes:
    """Lines that say when: seconds into the bucket (2023-11-14 22:15:00 UTC)."""
    return b"".join(
        b"2023-11-14T22:%02d:%02dZ %s %d\n" % (15 + s // 60, s % 60, text.encode(), i) for i, s in enumerate(seconds)
    )


def tables(objects: MemoryObjects) -> list[dict[str, list[Any]]]:
    """Each row group, as columns."""
    found = []
    for name in parts(objects, ENV):
        file = pq.ParquetFile(io.BytesIO(objects.get(str(name))))
        found += [file.read_row_group(number).to_pydict() for number in range(file.num_row_groups)]
    return found


async def test_a_bucket_larger_than_a_row_group_is_cut_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hour, "LIMIT", Limit(60, 1 << 20))
    tailer = FakeTailer()
    chance = random.Random(4)
    files = {path: dated(sorted(chance.choices(range(300), k=150)), path[1:].decode()) for path in (b"/a", b"/b")}
    for path, raw in files.items():
        tailer.read(path, raw)
    objects = await archived(tailer)
    groups = tables(objects)
    assert len(groups) > 4
    assert sum(len(group["time"]) for group in groups) == 300
    ends = [(min(group["time"]), max(group["time"])) for group in groups]
    assert all(before[1] < after[0] for before, after in pairwise(ends))
    for path, raw in files.items():
        assert (await copy(objects, path))[0] == raw
    assert await wrong(objects) == []


async def test_times_that_step_back_are_cut_and_come_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hour, "LIMIT", Limit(40, 1 << 20))
    tailer = FakeTailer()
    raw = dated(random.Random(5).choices(range(300), k=200))
    tailer.read(b"/a", raw)
    tailer.read(b"/a", dated([7] * 100), first=len(raw))  # one point: can't be cut
    objects = await archived(tailer)
    assert (await copy(objects, b"/a"))[0] == raw + dated([7] * 100)
    assert await wrong(objects) == []


async def test_duplicates_in_a_bucket_that_is_cut_are_cut_and_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hour, "LIMIT", Limit(40, 1 << 20))
    first, second = FakeTailer(), again()
    raw = dated(random.Random(6).choices(range(300), k=200))
    at = raw.index(b"\n", 3000) + 1
    first.read(b"/a", raw[:at])
    second.read(b"/a", raw)
    objects = await archived(first, second)
    assert (await copy(objects, b"/a"))[0] == raw
    assert sum(row_counts(objects)) == 200
    assert await wrong(objects) == []


async def test_late_rows_are_last_and_in_row_groups_of_their_own() -> None:
    tailer = FakeTailer()
    late = b"".join(b"2019-01-%02dT00:00:00Z old\n" % day for day in range(1, 20))
    tailer.read(b"/a", late)
    tailer.read(b"/b", dated([1, 2, 3]), bucket=BUCKET)
    assert [packet.header.late for packet in tailer.packets] == [True, False]
    objects = await archived(tailer)
    timely, old = tables(objects)
    assert set(timely["path"]) == {"/b"}
    assert set(old["path"]) == {"/a"}
    assert {key.number: batch.late for batch in footers(objects)[0].packets for key in batch.each_key()} == {
        0: True,
        1: False,
    }
    assert (await copy(objects, b"/a"))[0] == late
    assert await wrong(objects) == []


async def test_rows_of_a_row_group_lie_by_path_host_stream_tailer_and_offset() -> None:
    chance, tailers = random.Random(8), [FakeTailer("web1"), FakeTailer("web2"), FakeTailer("web3", host=b"web1")]
    for tailer in tailers:
        for name in ("/b", "/a"):
            for start in (0, 400):
                stream = stream_of(name + chance.choice("xy"))
                tailer.read(name.encode(), lines_of(start // 40, 10), first=start, stream=stream)
    (group,) = tables(await archived(*tailers))
    keys = list(zip(*(group[name] for name in ("path", "host", "stream", "tailer")), strict=True))
    assert keys == sorted(keys)
    at = before = None
    for key, offset in zip(keys, group["offset"], strict=True):
        assert offset is not None or key == before, "a stream's first row says where it begins"
        assert offset is None or key != before or offset > (at or 0)
        before, at = key, offset if offset is not None else at


async def test_time_and_names_prune(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hour, "LIMIT", Limit(10, 1 << 20))
    one, two = FakeTailer("web1"), FakeTailer("web2")
    one.read(b"/a", dated([10] * 10, "one"))
    two.read(b"/b", dated([200] * 10, "two"))
    objects = await archived(one, two)
    start = BUCKET
    assert await lines(objects, Scope(start, start + 100)) == sorted(dated([10] * 10, "one").splitlines(keepends=True))
    assert await lines(objects, Scope(start + 150)) == sorted(dated([200] * 10, "two").splitlines(keepends=True))
    assert await lines(objects, Scope(start + 201)) == []
    assert await lines(objects, Scope(start, start + 10)) == []
    assert len(await lines(objects, Scope(hosts=[b"web2"]))) == 10
    assert len(await lines(objects, Scope(paths=[b"/a"]))) == 10
    # other engines prune by the statistics of each row group
    data = pq.ParquetFile(io.BytesIO(objects.get(str(parts(objects, ENV)[0])))).metadata
    held = {data.row_group(0).column(i).path_in_schema: data.row_group(0).column(i) for i in range(data.num_columns)}
    for name in ("time", "path", "host"):
        assert held[name].statistics.has_min_max
    assert held["path"].statistics.min == held["path"].statistics.max == "/a"
    assert not held["line"].is_stats_set


async def test_a_hostile_packet_is_quarantined_and_stops_nothing() -> None:
    tailer, honest = FakeTailer("evil"), FakeTailer()
    tailer.read(b"/late", b"2019-01-01T00:00:00Z old\n" * 3)
    packet = tailer.packets[0]
    low, high = packet.header.point_min, packet.header.point_max
    forged = [
        tailer.number_it_again(packet, epoch=1 << 63),
        tailer.number_it_again(packet, epoch=2, point_max=high + POINT_HZ, point_min=low + 5),
    ]
    honest.read(b"/a", RAW)
    bucks, objects = bucks_of(1), MemoryObjects()
    bucks[0].put([*forged, *honest.packets])
    (report,) = await archive(bucks, objects)
    assert len(report.quarantined) == 2
    assert sorted(key.epoch for key in report.quarantined) == [2, 1 << 63]
    assert (await copy(objects, b"/a"))[0] == RAW


async def test_a_packet_that_vanishes_while_it_is_written_is_not_half_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for one packet only: all are fetched again, and one can't be had any more the second time."""
    tailer, objects, bucks = FakeTailer(), MemoryObjects(), bucks_of(1)
    monkeypatch.setattr(hour, "LIMIT", Limit(20, 1 << 20))
    raw = dated(list(range(100)) * 2)  # both packets are in each row group
    at = raw.index(b" 100\n") - len("2023-11-14T22:15:00Z line")
    tailer.read(b"/a", raw[:at])
    tailer.read(b"/a", raw[at:], first=at)
    spread(bucks, tailer)
    given: dict[Key, int] = {}

    def spoil(packet: object) -> bytes | None:
        key = packet.header.key  # type: ignore[attr-defined]  # `object` as the fleet calls it
        given[key] = given.get(key, 0) + 1
        return None if key.number == 1 and given[key] == 3 else bytes(packet.data)  # type: ignore[attr-defined]  # the same

    bucks[0].spoil = spoil
    await archive(bucks, objects, memory=2000)
    assert given[tailer.packets[1].header.key] > 3
    assert (await copy(objects, b"/a"))[0] == raw
    assert await wrong(objects) == []
