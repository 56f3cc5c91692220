"""Damaged bytes on the wire, on a disk, in the archive, and disks that are full: noticed, counted, and nothing lost."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from bench.cluster import Buck, Cluster
from protocol.identity import NodeKey
from protocol.link import open_asker
from protocol.messages import Hello, No, Ok, Put
from tests.porter.making import packets_of
from tests.scenarios.arena import Arena
from tests.scenarios.checker import Key, gap_differences, key_of, keys, packets_in
from tests.scenarios.netted import Following, is_complete, page, until
from tests.scenarios.reading import HOST
from tests.scenarios.writing import Writer

pytestmark = pytest.mark.slow

LONG_S = 120.0


@pytest.fixture
def arena(cluster: Cluster) -> Arena:
    return Arena(cluster)


def fed(arena: Arena, count: int = 3000) -> Writer:
    writer = arena.writer("kept")
    writer.write(count)
    arena.done(arena.feed(writer))
    return writer


def counters(buck: Buck) -> dict[str, float]:
    """What a buck's /metrics says."""
    with urllib.request.urlopen(f"http://{buck.http}/metrics", timeout=5) as answer:
        lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


def total(buck: Buck, name: str) -> float:
    """A counter, over its labels."""
    return sum(value for key, value in counters(buck).items() if key.split("{")[0].removesuffix("_total") == name)


# --- the wire ---------------------------------------------------------------------------------------------------------

PREFACE = b"BUCK"
RANDOM = random.Random(7)
GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "noise": RANDOM.randbytes(4000),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a preface": PREFACE[:2],
    "an unknown version": PREFACE + b"\xff\xff\xff\xff",
    "a preface and noise": PREFACE + b"\x00\x01\x00\x00" + RANDOM.randbytes(4000),
    "an endless frame": PREFACE + b"\x00\x01\x00\x00" + b"\xff" * 64,
}


@pytest.mark.parametrize("name", GARBAGE)
def test_noise_on_the_wire_costs_its_connection_and_nothing_else(arena: Arena, name: str) -> None:
    writer = fed(arena, 200)
    host, port = arena.cluster.addresses()[0].split(":")
    with socket.create_connection((host, int(port)), timeout=15) as raw:
        raw.sendall(GARBAGE[name])
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(65536):
            pass
    assert arena.buck(0).running()
    arena.check(writer)


@pytest.mark.parametrize("damage", ["header", "body", "cut"])
def test_a_damaged_packet_on_the_wire_is_refused_and_counted(arena: Arena, damage: str) -> None:
    (packet,) = packets_of({b"/a": b"a line\n" * 100}, bucket=1_700_000_100 // 300 * 300, tailer=KEY.node)
    data = bytearray(packet.data)
    if damage == "cut":
        del data[-10:]
    else:
        data[40 if damage == "header" else -10] ^= 1
    answer, after = trio.run(_put, arena.cluster.addresses()[0], [bytes(data), packet.data])
    assert isinstance(answer, No), answer
    assert answer.reason == "sum"
    assert isinstance(after, Ok), after  # the link goes on, and the whole one is taken
    assert total(arena.buck(0), "buck_packets_refused") == total(arena.buck(0), "buck_packets_stored") == 1


KEY = NodeKey.from_seed(bytes(range(32)))


async def _put(address: str, packets: list[bytes]) -> list[object]:
    host, port = address.split(":")
    stream = await trio.open_tcp_stream(host, int(port))
    hello = Hello("tailer", KEY.public, "prod", 0, b"web1", (1, 1), "", time.time_ns())
    async with open_asker(stream, hello) as asker:
        return [await asker.ask(Put(0, 0, False, packet), 5) for packet in packets]


# --- a disk -----------------------------------------------------------------------------------------------------------


def flip(path: Path, places: int = 20) -> None:
    """Other bytes in the same place: a disk that lies."""
    data = bytearray(path.read_bytes())
    draw = random.Random(str(path.name))
    for _ in range(places):
        data[draw.randrange(len(data) // 10, len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("harm", [flip, truncate, empty])
@pytest.mark.parametrize("when", ["while it runs", "while it is down"])
def test_C15_damage_on_one_disk_is_read_around_and_said(arena: Arena, harm: Callable[[Path], None], when: str) -> None:
    writer = fed(arena)
    buck, (disk,) = arena.buck(0), arena.cluster.disk_folders(0)
    if when == "while it is down":
        assert buck.stop() == 0
    parts = [path for path in disk.rglob("*") if path.suffix in (".open", ".closed")]
    assert parts
    for part in parts:
        harm(part)
    if when == "while it is down":
        arena.restart(0)
    arena.check(writer)
    for other in (1, 2):  # now it is the only one that could be asked for most of it
        arena.check(writer)
        assert arena.buck(other).running()
    done = arena.cluster.porter("audit", "--deep", check=False)
    text = done.stdout.decode() + done.stderr.decode()
    noticed = total(arena.buck(0), "buck_bad_reads") + total(arena.buck(0), "buck_bytes_skipped")
    noticed += total(arena.buck(0), "buck_bytes_torn")
    assert noticed or "bad copy" in text or re.search(r"x [12]\b", text), text  # a copy that is gone is a copy fewer
    assert done.returncode in (0, 3), text
    assert arena.buck(0).running()


def packet_files(disk: Path) -> list[Path]:
    return [path for path in disk.rglob("*") if path.suffix in (".open", ".closed")]


def destroy(part: Path, doomed: Collection[Key]) -> None:
    """Zeros over these packets."""
    data = part.read_bytes()
    for packet in packets_in(part):
        if key_of(packet) in doomed:
            data = data.replace(packet, bytes(len(packet)))
    part.write_bytes(data)


def test_every_copy_gone_is_a_gap_that_is_named(arena: Arena) -> None:
    """First with one packet gone everywhere, then with all: the audit tells exactly these."""
    writers = [fed(arena), fed(arena)]
    for some in (True, False):
        for i in range(3):
            assert arena.buck(i).stop() == 0
        parts = [part for i in range(3) for disk in arena.cluster.disk_folders(i) for part in packet_files(disk)]
        if some:
            there = keys(parts)
            gone = {min(there)}
            for part in parts:
                destroy(part, gone)
            assert keys(parts) == there - gone != set()
        else:
            gone = there
            for part in parts:
                part.unlink()
        for i in range(3):
            arena.restart(i)
        done = arena.cluster.porter("audit", "--deep", "--json", check=False)
        assert gap_differences(json.loads(done.stdout), gone) == []
        assert done.returncode == 1
    for writer in writers:
        assert arena.cluster.porter("cat", HOST, str(writer.path), check=False).returncode != 0


# --- the archive ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", [flip, truncate, empty])
def test_an_object_that_was_changed_is_named(arena: Arena, harm: Callable[[Path], None]) -> None:
    writer = fed(arena)
    words = ["--archive", str(arena.archive)]
    arena.cluster.porter("archive", "--older", "0s", *words)
    (part,) = arena.archive.rglob("*.parquet")
    for i in range(3):
        arena.buck(i).kill()
    assert arena.cluster.porter("cat", *words, HOST, str(writer.path)).stdout == writer.data
    harm(part)
    done = arena.cluster.porter("cat", *words, HOST, str(writer.path), check=False)
    assert done.returncode == 1, done.stderr.decode()
    assert str(part.relative_to(arena.archive)) in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    done = arena.cluster.porter("audit", "--deep", *words, check=False)
    assert done.returncode in (1, 3), done.stdout.decode()
    assert part.name in done.stdout.decode() + done.stderr.decode()


# --- full disks -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[str, int], Path]]:
    """Makes small file systems."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted: list[Path] = []

    def make(name: str, size: int) -> Path:
        place = tmp_path / name
        place.mkdir(parents=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "small", place], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("a small file system can't be mounted here")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=False)


def test_C14_full_bucks_refuse_and_nothing_is_lost(small: Callable[[str, int], Path], tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster")
    places = [small(f"cluster/buck{i}", 3 << 20) for i in range(3)]
    try:
        for i in range(3):
            cluster.start(i)
        arena = Arena(cluster)
        first = fed(arena, 300)
        for place in places:
            (place / "other").write_bytes(bytes(shutil.disk_usage(place).free - 40_000))
        writer = arena.writer("more")
        writer.write(8000)
        tailer = arena.feed(writer, patience="3s")
        assert tailer.wait(60) == 1, tailer.log_end()
        assert "not everything is done" in tailer.log_end()
        assert sum(total(arena.buck(i), "buck_packets_refused") for i in range(3)) > 0
        arena.check(first)
        for place in places:
            (place / "other").unlink()
        arena.done(arena.feed(writer))
        arena.check(first, writer)
    finally:
        cluster.close()


def test_C25_without_a_porter_bucks_fill_tailers_wait_and_say_so_and_nothing_is_lost(
    small: Callable[[str, int], Path], tmp_path: Path
) -> None:
    """Days of it, on small disks: bucks fill, the journal, and reading waits. Archived and pruned, it goes on."""
    cluster = Cluster(tmp_path / "cluster", width="10s")
    for i in range(3):
        small(f"cluster/buck{i}", 6 << 20)
    small("cluster/tailer", 24 << 20)  # of which a journal leaves 16 MiB to others
    try:
        for i in range(3):
            cluster.start(i)
        arena = Arena(cluster)
        writer, tailer = arena.writer("tailer"), Following(arena)
        dense(writer, 30 << 20)
        until(lambda: is_full(tailer.says()) and critical(arena) >= 2, tailer.says, LONG_S)  # one copy is no A1
        assert 0 < tailer.lines() < writer.events, "reading waits"
        assert tailer.packets("A0") > 0

        def delivered() -> bool:
            make_room(arena)
            return tailer.placed(writer)

        until(delivered, tailer.says, LONG_S)
        make_room(arena)  # for third copies, too
        tailer.goodbye()
        make_room(arena)
        until(lambda: not critical(arena))
        arena.check(writer, archive=str(arena.archive))
        is_complete(cluster, "--archive", str(arena.archive))
        arena.check_archive(writer)
    finally:
        cluster.close()


def make_room(arena: Arena) -> None:
    """As an operator would: what there is into the archive, and out of the bucks."""
    for job in ("archive", "prune"):
        arena.cluster.porter(job, "--older", "0s", "--archive", str(arena.archive), check=False)


def is_full(said: dict[str, Any]) -> bool:
    return said["health"] == "WARNING" and any("the journal is full" in text for text in said["troubles"])


def critical(arena: Arena) -> int:
    """How many bucks call themselves so."""
    return sum(page(buck.http)["health"] == "CRITICAL" for buck in arena.cluster.live())


def dense(writer: Writer, size: int) -> None:
    """Append lines that can hardly be compressed."""
    draw = random.Random(25)
    lines = [b"w%d-%d %s\n" % (writer.number, n, base64.b64encode(draw.randbytes(3000))) for n in range(size // 4012)]
    writer.lines += lines
    with writer.path.open("ab") as file:
        file.writelines(lines)


def test_T90_a_full_journal_makes_reading_wait(
    small: Callable[[str, int], Path], cluster: Cluster, tmp_path: Path
) -> None:
    place = small("cluster/tailer", 64 << 20)
    arena = Arena(cluster)
    other = place.parent / "tailer" / "other"
    other.write_bytes(bytes(shutil.disk_usage(place).free - 100_000))
    writer = arena.writer("more")
    writer.write(20_000)
    tailer = arena.feed(writer)
    time.sleep(4)
    assert tailer.running(), tailer.log_end()
    assert "no room" in tailer.log_end()
    other.unlink()
    arena.done(tailer)
    arena.check(writer)


def test_a_full_disk_under_the_archive_is_one_line(small: Callable[[str, int], Path], cluster: Cluster) -> None:
    arena = Arena(cluster)
    writer = fed(arena, 20_000)
    place = small("archive", 64 << 10)
    done = cluster.porter("archive", "--older", "0s", "--archive", str(place), check=False)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert "No space left" in line
    assert not list(place.rglob("*.parquet"))
    arena.check(writer)
