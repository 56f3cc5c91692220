"""`porter archive`: every event once, in parts that nobody rewrites, whoever runs it, and however it ends."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from porter.archive import Archiver, due, room
from porter.catalog import PartName
from porter.cluster import Bucket
from porter.hour import Hour
from porter.objects import FolderObjects, MemoryObjects
from porter.part import PartWriter
from porter.report import archived as report_archived
from protocol.errors import FormatError
from protocol.packet import build
from service.faults import armed
from service.run import DONE, SHORTFALL
from tests.porter.archiving import HOUR, archive, copy, footers, lines, names, row_counts, spread, verdict, wrong
from tests.porter.fleet import BUCKET, FakeBuck, FakeTailer, bucks_of, cluster_of, lines_of, node_key, sample_logs
from tests.porter.sealing import Chain
from tests.porter.tampering import audited


def two_files(text: str = "line") -> tuple[FakeTailer, dict[bytes, bytes]]:
    """A tailer that has read two files, in packets of some lines, over two buckets."""
    tailer, files = FakeTailer(), {b"/a": lines_of(0, 300, text), b"/b": lines_of(1000, 200, text)}
    for path, raw in files.items():
        for at in range(0, len(raw), 2000):
            tailer.read(path, raw[at : at + 2000], first=at, bucket=BUCKET + 300 * (at // 2000 % 2))
    return tailer, files


async def test_every_event_is_archived_once_and_comes_back_byte_for_byte(tmp_path: Path) -> None:
    bucks, objects = bucks_of(3), FolderObjects(tmp_path)
    tailer, files = two_files()
    spread(bucks, tailer)
    (report,) = await archive(bucks, objects)
    assert (report.packets, report.rows, report.raw) == (len(tailer.packets), 500, sum(map(len, files.values())))
    assert report.stored == (tmp_path / str(report.part)).stat().st_size
    assert not report.short
    for path, raw in files.items():
        assert (await copy(objects, path))[0] == raw
    assert await wrong(objects) == []


async def test_real_logs_come_back_and_are_proved_packet_by_packet(shared_data: Path) -> None:
    bucks, tailer, objects = bucks_of(3), FakeTailer(), MemoryObjects()
    files = {bytes(path): path.read_bytes()[:300_000] for path in sample_logs(shared_data)}
    tailer.read_many([(path, raw, 0, None) for path, raw in files.items()])
    spread(bucks, tailer)
    await archive(bucks, objects)
    for path, raw in files.items():
        assert (await copy(objects, path))[0] == raw
    assert await wrong(objects) == []


async def test_a_second_run_does_nothing() -> None:
    bucks, objects = bucks_of(3), MemoryObjects()
    tailer, _ = two_files()
    spread(bucks, tailer)
    await archive(bucks, objects)
    before = dict(objects.held)
    (report,) = await archive(bucks, objects)
    assert (report.part, report.rows) == (None, 0)
    assert objects.held == before
    assert names(objects) == ["22.p00.parquet", "22.v00.json"]


async def test_what_comes_later_is_a_further_part_of_what_is_new() -> None:
    bucks, objects = bucks_of(3), MemoryObjects()
    tailer, files = two_files()
    spread(bucks, tailer)
    await archive(bucks, objects)
    first = len(tailer.packets)
    more = lines_of(300, 50)
    tailer.read(b"/a", more, first=len(files[b"/a"]))
    spread(bucks, tailer, first)
    (report,) = await archive(bucks, objects)
    assert (report.rows, report.packets) == (50, 1)
    assert names(objects) == ["22.p00.parquet", "22.p01.parquet", "22.v00.json", "22.v01.json"]
    assert (await copy(objects, b"/a"))[0] == files[b"/a"] + more
    keys = [key for footer in footers(objects) for key in footer.each_key()]
    assert sorted(keys) == sorted(packet.header.key for packet in tailer.packets)


async def test_C7_two_porters_at_once_write_one_set_of_parts() -> None:
    bucks, objects = bucks_of(3), MemoryObjects()
    tailer, files = two_files()
    spread(bucks, tailer)
    seen: list[str] = []
    late = FakeTailer("web2")
    late.read(b"/late", lines_of(0, 7))
    # The second porter sees a packet more, so that their first parts differ, and one must begin again.
    others = bucks_of(3)
    spread(others, tailer)
    spread(others, late)

    async def job(some: list[FakeBuck]) -> None:
        for report in await archive(some, objects):
            seen.append(str(report.part))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(job, bucks)
        nursery.start_soon(job, others)
    await archive(others, objects)
    assert [name for name in names(objects) if ".p" in name] in (
        ["22.p00.parquet"],
        ["22.p00.parquet", "22.p01.parquet"],
    )
    assert (await copy(objects, b"/a"))[0] == files[b"/a"]
    assert await lines(objects) == sorted(b"".join([*files.values(), lines_of(0, 7)]).splitlines(keepends=True))
    assert await wrong(objects) == []


@pytest.mark.parametrize("moment", ["porter.archive.before_put", "porter.archive.after_put"])
async def test_a_run_that_was_cut_short_is_finished_by_the_next(moment: str) -> None:
    bucks, objects = bucks_of(3), MemoryObjects()
    tailer, files = two_files()
    spread(bucks, tailer)
    with armed(moment), pytest.RaisesGroup(OSError, flatten_subgroups=True):
        await archive(bucks, objects)
    assert names(objects) == (["22.p00.parquet"] if moment.endswith("after_put") else [])
    await archive(bucks, objects)
    assert names(objects) == ["22.p00.parquet", "22.v00.json"]
    assert (await copy(objects, b"/a"))[0] == files[b"/a"]


async def test_a_part_that_no_verdict_names_is_proved_before_one_does() -> None:
    bucks, objects = bucks_of(3), MemoryObjects()
    tailer, _ = two_files()
    spread(bucks, tailer)
    await archive(bucks, objects)
    part, document = (next(name for name in objects.held if name.endswith(ending)) for ending in ("parquet", "json"))
    del objects.held[document]
    data = bytearray(objects.held[part])
    data[500] ^= 1
    objects.held[part] = bytes(data)
    changed = pytest.RaisesExc(FormatError, match=r"22\.p00\.parquet.*changed")
    with pytest.RaisesGroup(changed, flatten_subgroups=True):
        await archive(bucks, objects)
    assert document not in objects.held


async def test_a_packet_that_is_not_what_it_says_is_left_out_named_and_taken_when_a_good_copy_comes() -> None:
    bucks, objects = bucks_of(2), MemoryObjects()
    tailer, files = two_files()
    good = tailer.packets[3]
    body = good.data[-len(good.body) - 32 : -32]
    forged = build(replace(good.header, content=bytes(32)), bytes(body))
    spread(bucks, tailer)
    for buck in bucks:
        buck.spoil = lambda packet: forged if packet.header.key == good.header.key else bytes(packet.data)
    (report,) = await archive(bucks, objects)
    assert list(report.quarantined) == [good.header.key]
    assert "not what its header says" in report.quarantined[good.header.key]
    assert report.short
    assert verdict(objects)["quarantined"]
    held, copied = await copy(objects, b"/a")
    (run,) = good.header.runs
    assert held == files[b"/a"][: run.first] + files[b"/a"][run.end :]
    assert copied.gaps == [(1, run.first, run.end)]
    for buck in bucks:
        buck.spoil = None
    (report,) = await archive(bucks, objects)
    assert not report.short
    assert report.rows == run.count
    assert (await copy(objects, b"/a"))[0] == files[b"/a"]
    assert not verdict(objects)["quarantined"]


async def test_a_packet_that_nobody_gives_is_missing_and_named() -> None:
    bucks, objects = bucks_of(2), MemoryObjects()
    tailer, _ = two_files()
    spread(bucks, tailer)
    gone = tailer.packets[0].header.key
    for buck in bucks:
        buck.spoil = lambda packet: None if packet.header.key == gone else bytes(packet.data)
    chain = Chain(tailer)
    bucks[0].seals.append(chain.seal(tailer.packets, until=HOUR + 7200, goodbye=True).data)
    (report,) = await archive(bucks, objects)
    assert report.missing == 1
    assert report.short
    assert verdict(objects)["state"] == "incomplete"


async def test_a_silent_buck_makes_the_verdict_unknown_and_the_next_run_complete() -> None:
    bucks, objects = bucks_of(3), MemoryObjects()
    tailer, files = two_files()
    for packet in tailer.packets:
        bucks[packet.header.number % 3].put([packet])
    for buck in bucks:
        buck.seals.append(Chain(tailer).seal(tailer.packets, until=HOUR + 7200, goodbye=True).data)
    bucks[2].dead = True
    (report,) = await archive(bucks, objects)
    assert report.state == verdict(objects)["state"] == "unknown"
    bucks[2].dead = False
    (report,) = await archive(bucks, objects)
    assert report.state == verdict(objects)["state"] == "complete"
    assert (await copy(objects, b"/a"))[0] == files[b"/a"]
    assert names(objects) == ["22.p00.parquet", "22.p01.parquet", "22.v00.json", "22.v01.json"]
    assert [len(footer.seals) for footer in footers(objects)] == [1, 0], "the hour has it: not once more in each part"


async def test_a_verdict_names_the_objects_by_digest() -> None:
    bucks, objects = bucks_of(2), MemoryObjects()
    tailer, _ = two_files()
    spread(bucks, tailer)
    (report,) = await archive(bucks, objects)
    data = objects.get(str(report.part))
    assert verdict(objects)["parts"] == [{"name": str(report.part), "digest": hashlib.sha256(data).hexdigest()}]


async def test_an_empty_hour_between_two_others_has_a_verdict_and_no_part() -> None:
    bucks, objects = bucks_of(2), MemoryObjects()
    tailer = FakeTailer()
    tailer.read(b"/a", lines_of(0, 10))
    tailer.read(b"/a", lines_of(10, 10), first=400, bucket=BUCKET + 7200)
    spread(bucks, tailer)
    reports = await archive(bucks, objects)
    assert [report.hour for report in reports] == [HOUR, HOUR + 3600, HOUR + 7200]
    assert names(objects) == ["22.p00.parquet", "22.v00.json", "23.v00.json", "00.p00.parquet", "00.v00.json"]


async def test_an_hour_that_is_not_yet_quiet_gets_neither_part_nor_verdict() -> None:
    bucks, objects = bucks_of(2), MemoryObjects()
    tailer = FakeTailer()
    for hour in range(3):
        tailer.read(b"/a", lines_of(hour * 10, 10), first=hour * 400, bucket=BUCKET + 3600 * hour)
    spread(bucks, tailer)
    now = HOUR + 5 * 3600
    for buck in bucks:
        buck.time_s = now
        buck.arrivals = {BUCKET + 3600: now - 60}
    reports = await archive(bucks, objects, older_s=3600)
    assert [report.hour for report in reports] == [HOUR, HOUR + 7200]
    assert names(objects) == ["22.p00.parquet", "22.v00.json", "00.p00.parquet", "00.v00.json"]
    for buck in bucks:
        buck.arrivals = {}
    await archive(bucks, objects, older_s=3600)
    assert len(names(objects)) == 6


async def test_C7_two_porters_on_different_hours_write_a_reread_event_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tailer lost its journal and read the file again, an hour later; each porter sees one of the two."""
    before, after, objects = bucks_of(2), bucks_of(2), MemoryObjects()
    tailer, raw = FakeTailer(), lines_of(0, 40)
    first = tailer.read(b"/a", raw)
    tailer.epoch, tailer.number = 2, 0
    again = tailer.read(b"/a", raw + lines_of(40, 5), bucket=BUCKET + 3600)
    before[0].put(first)
    after[0].put(again)
    write, turns = Hour.write, [after]

    async def write_while_another_puts(job: Hour, path: Path) -> PartWriter:
        written = await write(job, path)
        if turns:
            await archive(turns.pop(), objects)
        return written

    monkeypatch.setattr(Hour, "write", write_while_another_puts)
    await archive(before, objects)
    assert sum(row_counts(objects)) == 45
    assert await lines(objects) == sorted((raw + lines_of(40, 5)).splitlines(keepends=True))
    keys = {key for footer in footers(objects) for key in footer.each_key()}
    assert keys == {packet.header.key for packet in tailer.packets}
    assert await wrong(objects) == []


async def test_C7_a_put_that_takes_long_is_seen_by_who_puts_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another porter archives a later hour, with the same bytes, while the first one's put is under way.

    No look at the archive before the put can help: the second waits, then takes the first one's name, and it begins
    again. Without claims every event would be there twice.
    """
    before, after, objects = bucks_of(2), bucks_of(2), MemoryObjects()
    tailer, raw = FakeTailer(), lines_of(0, 40)
    before[0].put(tailer.read(b"/a", raw))
    tailer.epoch, tailer.number = 2, 0
    after[0].put(tailer.read(b"/a", raw + lines_of(40, 5), bucket=BUCKET + 3600))
    put, turns = PartWriter.put, [after]

    def put_slowly(part: PartWriter, store: MemoryObjects, name: PartName) -> str:
        if turns:
            trio.from_thread.run(archive, turns.pop(), objects)
        return put(part, store, name)

    monkeypatch.setattr(PartWriter, "put", put_slowly)
    await archive(before, objects)
    assert [name for name in names(objects) if ".p" in name] == [
        "22.p00.parquet", "22.p01.parquet", "23.p00.parquet",
    ]  # fmt: skip
    assert await lines(objects) == sorted((raw + lines_of(40, 5)).splitlines(keepends=True))
    assert await wrong(objects) == []
    assert verdict(objects)["parts"][0]["name"].endswith("22.p00.parquet"), "the empty one is vouched for too"


async def test_C7_two_porters_with_keys_of_their_own_write_one_verdict() -> None:
    bucks, objects = bucks_of(3), MemoryObjects()
    tailer, _ = two_files()
    spread(bucks, tailer)
    for buck in bucks:
        buck.seals.append(Chain(tailer).seal(tailer.packets, until=HOUR + 7200, goodbye=True).data)

    async def job(key: str) -> None:
        async with cluster_of(bucks, patience=10.0) as cluster:
            cluster.key = node_key(key)
            await Archiver(cluster.machine, cluster, objects).run(0, lambda done, what: None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(job, "porter1")
        nursery.start_soon(job, "porter2")
    assert names(objects) == ["22.p00.parquet", "22.v00.json"]
    found = await audited(objects)
    assert (found.verdict.state, found.damage, found.troubles) == ("complete", (), ())


def bucket(start: int, arrival: int = 0) -> Bucket:
    return Bucket(start, 1, 1, arrival * 10**9, False)


def test_an_hour_is_due_when_all_of_it_is_old_and_quiet() -> None:
    day = 86_400
    some = [bucket(HOUR), bucket(HOUR + 3300)]
    assert list(due(some, 300, HOUR + 3600 + 2 * day - 1, 2 * day)) == []
    assert list(due(some, 300, HOUR + 3600 + 2 * day, 2 * day)) == [HOUR]
    now = HOUR + 3 * day
    assert list(due([*some, bucket(HOUR + 600, now - 3599)], 300, now, 2 * day)) == []
    assert list(due([*some, bucket(HOUR + 600, now - 3600)], 300, now, 2 * day)) == [HOUR]
    # an hour that is not over is not all there, though its buckets are
    assert list(due([bucket(HOUR)], 300, HOUR + 1800, 600)) == []
    assert list(due([bucket(HOUR)], 300, HOUR + 1, 0)) == [HOUR]


async def test_one_wrong_clock_archives_nothing_too_early() -> None:
    bucks, objects = bucks_of(3), MemoryObjects()
    tailer, _ = two_files()
    spread(bucks, tailer)
    bucks[1].time_s = HOUR + 365 * 86_400
    assert await archive(bucks, objects, older_s=172_800) == []
    for buck in bucks:
        buck.time_s = HOUR + 4 * 86_400
    assert len(await archive(bucks, objects, older_s=172_800)) == 1


async def test_verdicts_are_numbered_and_only_news_makes_another() -> None:
    bucks, objects = bucks_of(2), MemoryObjects()
    tailer, _ = two_files()
    spread(bucks, tailer)
    await archive(bucks, objects)
    assert verdict(objects)["state"] == "unknown"  # nobody has sealed anything
    for buck in bucks:
        buck.seals.append(Chain(tailer).seal(tailer.packets, until=HOUR + 7200, goodbye=True).data)
    for _ in range(2):
        (report,) = await archive(bucks, objects)
        assert report.state == "complete"
    assert names(objects) == ["22.p00.parquet", "22.p01.parquet", "22.v00.json", "22.v01.json"]


async def test_empty_files_alone_make_a_part_without_rows() -> None:
    bucks, objects = bucks_of(2), MemoryObjects()
    tailer = FakeTailer()
    tailer.read(b"/empty", b"")
    spread(bucks, tailer)
    (report,) = await archive(bucks, objects)
    assert (report.rows, report.packets) == (0, 1)
    assert await copy(objects, b"/empty") == (b"", (await copy(objects, b"/empty"))[1])
    assert await wrong(objects) == []
    assert row_counts(objects) == []


def test_what_is_told_as_memory_is_not_all_for_packets_and_rows() -> None:
    assert [room(told << 20) >> 20 for told in (64, 128, 256, 512)] == [32, 64, 192, 448]


def test_parts_are_named_by_hour_and_number() -> None:
    assert str(PartName("prod", HOUR, "p", 7)) == "prod/date=2023-11-14/22.p07.parquet"


async def test_what_can_not_be_believed_of_the_roster_is_said_by_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    bucks, (tailer, _) = bucks_of(2), two_files()
    spread(bucks, tailer)
    bucks[0].retired.append(b"not a retirement")
    async with cluster_of(bucks, patience=10.0) as cluster:
        archiver = Archiver(cluster.machine, cluster, MemoryObjects())
        done = await archiver.run(0, lambda done, what: None)
    assert report_archived(done, archiver.troubles, as_json=True) == SHORTFALL
    assert "a retirement that doesn't hold" in capsys.readouterr().err
    assert report_archived(done, (), as_json=True) == DONE
