"""`cat`: a file as it was, from packets that lie anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from porter.bucks import Bucks
from porter.objects import MemoryObjects
from porter.reader import Reader
from porter.transfer import Copied, UnknownFileError, cat, choose, generations
from protocol.packet import build
from tests.porter.archiving import archive
from tests.porter.archiving import copy as copy_archived
from tests.porter.fleet import BUCKET, FakeBuck, FakeTailer, bucks_of, cluster_of, lines_of, sample_logs, stream_of

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def copy(
    bucks: Sequence[FakeBuck], path: bytes, generation: str | None = None, host: bytes = b"web1", **more: object
) -> tuple[bytes, Copied, list[str]]:
    """What `cat` writes, what it says, and what was short."""
    written: list[bytes] = []

    async def write(data: bytes) -> None:
        written.append(data)

    async with cluster_of(bucks, **more) as cluster:
        reader = Reader(Bucks(cluster, cluster.settings.memory), None)
        found = choose(await generations(reader, host, path), generation)
        copied = await cat(reader, found, write)
        return b"".join(written), copied, reader.shortfalls()


def spread(bucks: Sequence[FakeBuck], tailer: FakeTailer, copies: int = 2) -> None:
    """Put each packet on some of the bucks."""
    for number, packet in enumerate(tailer.packets):
        for copy_ in range(copies):
            bucks[(number + copy_) % len(bucks)].put([packet])


async def test_a_file_in_many_packets_buckets_and_bucks_comes_out_byte_for_byte() -> None:
    bucks, tailer = bucks_of(3), FakeTailer()
    raw = lines_of(0, 1000)
    for number, at in enumerate(range(0, len(raw), 1600)):
        tailer.read(b"/log", raw[at : at + 1600], first=at, bucket=BUCKET + 300 * (number % 4))
    spread(bucks, tailer)
    data, copied, short = await copy(bucks, b"/log")
    assert data == raw
    assert copied == Copied(size=len(raw))
    assert short == []


async def test_memory_that_holds_one_packet_is_enough_and_only_slower() -> None:
    bucks, tailer = bucks_of(2), FakeTailer()
    raw = lines_of(0, 600)
    for at in range(0, len(raw), 1600):
        tailer.read(b"/log", raw[at : at + 1600], first=at)
    spread(bucks, tailer)
    data, _, short = await copy(bucks, b"/log", memory=4000)
    assert data == raw
    assert short == []
    assert sum(buck.given for buck in bucks) > len(tailer.packets), "some were fetched again"


async def test_real_logs_come_out_as_they_are(shared_data: Path) -> None:
    bucks, tailer = bucks_of(2), FakeTailer()
    logs = {bytes(path): path.read_bytes() for path in sample_logs(shared_data)}
    for number, (path, raw) in enumerate(logs.items()):
        tailer.read(path, raw, stream=stream_of(f"{number:>{number + 5}}"))
    spread(bucks, tailer)
    for path, raw in logs.items():
        assert (await copy(bucks, path))[0] == raw
    assert len(logs) > 3


async def test_an_empty_file_answers_with_nothing_and_no_complaint() -> None:
    bucks, tailer = bucks_of(1), FakeTailer()
    tailer.read(b"/empty", b"")
    spread(bucks, tailer, 1)
    assert await copy(bucks, b"/empty") == (b"", Copied(), [])


async def test_an_unknown_file_names_what_is_near() -> None:
    bucks, tailer = bucks_of(1), FakeTailer()
    tailer.read_many([(b"/var/log/syslog", b"x\n", 0, None), (b"/var/log/auth.log", b"x\n", 0, None)])
    spread(bucks, tailer, 1)
    with pytest.raises(ExceptionGroup) as caught:
        await copy(bucks, b"/var/log/sislog")
    assert caught.group_contains(UnknownFileError, match="web1 has no /var/log/sislog: near it are /var/log/syslog")
    with pytest.raises(ExceptionGroup) as caught:
        await copy(bucks, b"/var/log/syslog", host=b"web2")
    assert caught.group_contains(UnknownFileError, match="no host web2: there is web1")


async def test_generations_come_oldest_first_and_can_be_picked() -> None:
    bucks, tailer = bucks_of(1), FakeTailer()
    for number, text in enumerate((b"third\n", b"first\n", b"second\n")):
        order = (2, 0, 1)[number]
        tailer.read(b"/log", text, stream=stream_of(f"{number:>{number + 3}}"), bucket=BUCKET + 300 * order)
    spread(bucks, tailer, 1)
    assert (await copy(bucks, b"/log"))[0] == b"first\nsecond\nthird\n"
    assert (await copy(bucks, b"/log", "2"))[0] == b"second\n"
    assert (await copy(bucks, b"/log", "last"))[0] == b"third\n"
    with pytest.raises(ExceptionGroup) as caught:
        await copy(bucks, b"/log", "4")
    assert caught.group_contains(UnknownFileError, match="no generation 4: there are 3")


@pytest.mark.parametrize("together", [False, True])
async def test_generations_of_one_moment_come_as_they_were_sent_from_bucks_and_archive(together: bool) -> None:
    bucks, tailer, objects = bucks_of(1), FakeTailer(), MemoryObjects()
    texts = [b"%d\n" % number for number in range(8)]
    parts = [(b"/log", text, 0, stream_of(f"generation {number}")) for number, text in enumerate(texts)]
    for some in [parts] if together else [[part] for part in parts]:
        tailer.read_many(some)
    spread(bucks, tailer, 1)
    assert (await copy(bucks, b"/log"))[0] == b"".join(texts)
    assert (await copy(bucks, b"/log", "3"))[0] == texts[2]
    await archive(bucks, objects)
    assert (await copy_archived(objects, b"/log"))[0] == b"".join(texts)


async def test_a_gap_is_told_with_its_range_and_not_filled() -> None:
    bucks, tailer = bucks_of(2), FakeTailer()
    raw = lines_of(0, 100)
    for at in range(0, 4000, 400):
        tailer.read(b"/log", raw[at : at + 400], first=at)
    del tailer.packets[3:5], tailer.packets[6]
    spread(bucks, tailer)
    data, copied, _ = await copy(bucks, b"/log")
    assert data == raw[:1200] + raw[2000:3200] + raw[3600:]
    assert copied.gaps == [(1, 1200, 2000), (1, 3200, 3600)]


async def test_what_was_read_twice_after_a_lost_journal_comes_out_once() -> None:
    bucks, tailer = bucks_of(2), FakeTailer()
    raw = lines_of(0, 300)
    for size in (1600, 2800):
        for at in range(0, len(raw), size):
            tailer.read(b"/log", raw[at : at + size], first=at, bucket=BUCKET + (300 if size == 2800 else 0))
        tailer.epoch, tailer.number = 2, 0
    spread(bucks, tailer)
    data, copied, short = await copy(bucks, b"/log", memory=20_000)
    assert data == raw
    assert copied == Copied(size=len(raw))
    assert short == []


async def test_two_versions_of_the_same_bytes_are_both_written_and_counted() -> None:
    bucks, tailer = bucks_of(1), FakeTailer()
    tailer.read(b"/log", b"one\ntwo\nthree\n")
    tailer.read(b"/log", b"TWO\n", first=4, bucket=BUCKET + 300)
    spread(bucks, tailer, 1)
    data, copied, _ = await copy(bucks, b"/log")
    assert data == b"one\ntwo\nthree\nTWO\n"
    assert copied.clashes == [(1, 4, 8)]


async def test_a_packet_of_another_version_is_quarantined_and_the_rest_is_written() -> None:
    bucks, tailer = bucks_of(1), FakeTailer()
    raw = lines_of(0, 30)
    for at in range(0, 1200, 400):
        tailer.read(b"/log", raw[at : at + 400], first=at)
    middle = tailer.packets[1]
    body = bytearray(middle.body)
    body[len(body) // 2] ^= 0xFF  # the digest is that of the damaged body: only decoding can tell
    bucks[0].put([tailer.packets[0], tailer.packets[2]])
    spoilt = build(middle.header, bytes(body))
    bucks[0].put([middle])
    bucks[0].spoil = lambda packet: spoilt if packet is middle else bytes(packet.data)
    data, copied, short = await copy(bucks, b"/log")
    assert data == raw[:400] + raw[800:]
    assert copied.gaps == [(1, 400, 800)]
    assert len(short) == 1
    assert short[0].startswith("quarantined: packet 1 of")


async def test_a_buck_that_can_not_be_asked_is_said_beside_the_gap_it_may_have() -> None:
    bucks, tailer = bucks_of(2), FakeTailer()
    tailer.read(b"/log", b"one\n")
    bucks[0].put(tailer.packets)
    bucks[1].dead = True
    data, _, short = await copy(bucks, b"/log")
    assert data == b"one\n"
    assert short == ["not asked: buck1 (buck1:7000): Connection refused"]
