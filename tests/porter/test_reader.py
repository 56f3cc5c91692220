"""Bucks and archive read as one: the same answers from either, and from both."""

from __future__ import annotations

import io
from collections.abc import Sequence

from porter.archive import Archiver
from porter.archive_audit import look_at_archive
from porter.archived import Archive
from porter.audit import Found, audit, sealed_and_gone
from porter.bucks import Bucks
from porter.cluster import Cluster
from porter.grep import Match, as_json, grep
from porter.objects import MemoryObjects
from porter.progress import Progress
from porter.reader import Reader
from porter.transfer import cat, generations
from porter.verdict import COMPLETE, UNKNOWN, Verdict
from protocol.messages import Get
from protocol.query import parse
from tests.porter.fleet import BUCKET, ENV, WIDTH, FakeBuck, FakeTailer, bucks_of, cluster_of, lines_of
from tests.porter.sealing import Chain

HOUR = BUCKET - BUCKET % 3600


async def archived(cluster: Cluster) -> Archive:
    """Archive all there is."""
    objects = MemoryObjects()
    await Archiver(cluster.machine, cluster, objects).run(0, lambda done, what: None)
    return Archive(cluster.machine, objects, ENV)


async def reader_of(cluster: Cluster | None, archive: Archive | None) -> Reader:
    """As the commands open it."""
    reader = Reader(Bucks(cluster, cluster.settings.memory) if cluster else None, archive)
    await reader.prepare()
    return reader


async def copied(reader: Reader, path: bytes) -> bytes:
    """A file's bytes; none may be missing."""
    written: list[bytes] = []

    async def write(data: bytes) -> None:
        written.append(data)

    found = list(enumerate(await generations(reader, b"web1", path), 1))
    result = await cat(reader, found, write)
    assert not result.gaps
    return b"".join(written)


async def matches(reader: Reader, query: str) -> list[bytes]:
    """What grep writes, as JSON, sorted."""
    found: list[bytes] = []

    def render(match: Match) -> bytes:
        found.append(as_json(match))
        return b""

    async def write(_: bytes) -> None: ...

    shown = Progress("grep", 0, lambda: 0.0, io.StringIO())
    await grep(reader, parse(query, BUCKET * 10**9), write, render, shown)
    return sorted(found)


def tailer_with(count: int, bucket: int = HOUR) -> FakeTailer:
    """Two files over a few buckets, a late line among them, and an empty file."""
    tailer = FakeTailer()
    raw = lines_of(0, 20 * count)
    for number in range(count):
        part = raw[800 * number : 800 * (number + 1)]
        tailer.read_many(
            [(b"/a", part, 800 * number, None), (b"/log/b", part, 800 * number, None)],
            bucket=bucket + WIDTH * number,
        )
    tailer.read(b"/late", b"2021-01-01 00:00:00 line of old\n", bucket=bucket)
    tailer.read(b"/empty", b"", bucket=bucket)
    return tailer


async def test_archive_bucks_and_both_give_the_same() -> None:
    bucks, tailer = bucks_of(2), tailer_with(6)
    for buck in bucks:
        buck.put(tailer.packets)
    async with cluster_of(bucks, patience=10.0) as cluster:
        archive = await archived(cluster)
        readers = [
            await reader_of(cluster, None),
            await reader_of(None, archive),
            await reader_of(cluster, archive),
        ]
        for path, raw in ((b"/a", lines_of(0, 120)), (b"/log/b", lines_of(0, 120)), (b"/empty", b"")):
            assert [await copied(reader, path) for reader in readers] == [raw] * 3
        for query, count in (("line", 241), ("path:/log/*", 120), ("of old", 1), ("*7 path:/a", 12)):
            answers = [await matches(await reader_of(*pair), query) for pair in _pairs(cluster, archive)]
            assert answers[0] == answers[1] == answers[2]
            assert len(answers[0]) == count


def _pairs(cluster: Cluster, archive: Archive) -> Sequence[tuple[Cluster | None, Archive | None]]:
    return [(cluster, None), (None, archive), (cluster, archive)]


async def test_what_is_archived_is_not_fetched_from_the_bucks_again() -> None:
    bucks, tailer = bucks_of(1), tailer_with(3)
    bucks[0].put(tailer.packets)
    async with cluster_of(bucks, patience=10.0) as cluster:
        archive = await archived(cluster)
        fresh = tailer.read(b"/a", b"fresh line\n", first=2400, bucket=HOUR + 3600)
        bucks[0].put(fresh)
        bucks[0].asked.clear()
        assert len(await matches(await reader_of(cluster, archive), "line")) == 122
        wanted = [key for message in bucks[0].asked if isinstance(message, Get) for key in message.keys]
        number = fresh[0].header.number
        assert [(node, list(numbers)) for node, _, numbers in wanted] == [(tailer.key.node, [(number, number + 1)])]


async def test_what_was_read_again_after_it_was_archived_is_shown_once() -> None:
    bucks, tailer = bucks_of(1), tailer_with(2)
    bucks[0].put(tailer.packets)
    async with cluster_of(bucks, patience=10.0) as cluster:
        archive = await archived(cluster)
        tailer.epoch, tailer.number = 2, 0
        again = lines_of(0, 40) + b"one more line\n"
        bucks[0].put(tailer.read(b"/a", again, bucket=HOUR + 7200))
        reader = await reader_of(cluster, archive)
        assert await copied(reader, b"/a") == again
        found = await matches(await reader_of(cluster, archive), "path:/a")
        assert len(found) == 41


async def test_the_archive_alone_can_be_audited() -> None:
    bucks, tailer = bucks_of(1), tailer_with(3)
    bucks[0].put(tailer.packets)
    bucks[0].seals = [Chain(tailer).seal(tailer.packets, until=HOUR + 3600, goodbye=True).data]
    async with cluster_of(bucks, patience=10.0) as cluster:
        archive = await archived(cluster)
        found = Found()
        await look_at_archive(archive, found)
        verdict = audit(ENV, found).verdict
        assert verdict.state == COMPLETE
        assert [account.packets for account in verdict.accounts] == [len(tailer.packets)]


async def archive_audit(bucks: list[FakeBuck]) -> Verdict:
    """The verdict from the archive alone."""
    async with cluster_of(bucks, patience=10.0) as cluster:
        found = Found()
        await look_at_archive(await archived(cluster), found)
        return audit(ENV, found).verdict


def crashed(*, hole: bool = False, path: bytes = b"/a") -> FakeBuck:
    """What a tailer wrote that was killed, started again, read on where it was, and has sealed that."""
    (buck,), tailer = bucks_of(1), FakeTailer()
    raw = lines_of(0, 20)
    tailer.read(path, raw[:400])
    chain = Chain(tailer)
    tailer.epoch, tailer.number = 2, 0
    at = 440 if hole else 400
    tailer.read(path, raw[at:], first=at, bucket=HOUR + 3600)
    seals = [
        chain.seal(tailer.packets[:1], lost_after=0, read_again=True),
        chain.seal(tailer.packets[1:], until=HOUR + 7200, goodbye=True),
    ]
    buck.put(tailer.packets)
    buck.seals = [seal.data for seal in seals]
    return buck


async def test_the_archive_alone_shows_that_a_killed_tailer_has_read_its_files_again() -> None:
    assert (await archive_audit([crashed()])).state == COMPLETE
    assert (await archive_audit([crashed(hole=True)])).state == UNKNOWN
    assert (await archive_audit([crashed(path=b"tcp")])).state == UNKNOWN


async def test_a_chain_over_an_hour_without_any_packet_is_whole_in_the_archive() -> None:
    (buck,), tailer = bucks_of(1), FakeTailer()
    chain = Chain(tailer)
    chain.seal([], until=HOUR - 3600)  # it had nothing to say at first either
    chain.seal(tailer.read(b"/a", b"one\n"), until=HOUR + 3600)
    chain.seal([], until=HOUR + 3600 + 1800)
    chain.seal([], until=HOUR + 7200)
    chain.seal(tailer.read(b"/a", b"two\n", first=4, bucket=HOUR + 7200), until=HOUR + 10800, goodbye=True)
    buck.put(tailer.packets)
    buck.seals = [seal.data for seal in chain.seals]
    verdict = await archive_audit([buck])
    assert [account.unknown for account in verdict.accounts] == [[]]
    assert verdict.state == COMPLETE


async def test_a_host_that_fell_silent_in_the_last_archived_hour_is_unknown_from_the_archive_alone() -> None:
    for until, state in ((HOUR + 1800, UNKNOWN), (HOUR + 3600, COMPLETE)):
        bucks, tailer = bucks_of(1), tailer_with(3)
        bucks[0].put(tailer.packets)
        bucks[0].seals = [Chain(tailer).seal(tailer.packets, until=until).data]
        assert (await archive_audit(bucks)).state == state


async def test_packets_that_are_gone_are_said_even_if_no_hole_shows() -> None:
    bucks, tailer = bucks_of(1), FakeTailer()
    for number in range(3):
        tailer.read(b"/a", b"line %d\n" % number, first=7 * number)
    bucks[0].seals = [Chain(tailer).seal(tailer.packets).data]
    bucks[0].put(tailer.packets[:2])
    async with cluster_of(bucks, patience=10.0) as cluster:
        reader = await reader_of(cluster, None)
        assert await copied(reader, b"/a") == b"line 0\nline 1\n"
        (line,) = await sealed_and_gone(reader, {tailer.key.node})
        assert line.startswith(f"packets 2 of {tailer.key.node.hex()}/1 in bucket {BUCKET} are gone")
        assert await sealed_and_gone(reader, set()) == []
