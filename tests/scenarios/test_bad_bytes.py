"""Bytes that are not what they should be: on the wire, on a buck's disk, in the archive; and a disk without room.

What is damaged is refused, or said to be damaged, and counted; nothing else suffers, and what was acknowledged comes
back from another copy.
"""

from __future__ import annotations

import socket
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from bench.cluster import Cluster
from protocol import messages as m
from protocol.connection import Connection
from protocol.identity import NodeKey
from protocol.limits import PACKET_VERSION
from protocol.link import Asker, open_asker
from protocol.packet import peek
from tests.scenarios.arena import PATIENCE_S, Arena
from tests.scenarios.complaining import complaints, counted, logged
from tests.scenarios.reading import HOST

pytestmark = pytest.mark.slow

LINES = 3000
HOURS = 4 * 3600.0


@pytest.fixture
def arena(cluster: Cluster) -> Arena:
    return Arena(cluster)


def hello(arena: Arena) -> m.Hello:
    """That of the arena's tailer, for who speaks in its name."""
    seed = tomllib.loads((arena.cluster.root / "tailer.key").read_text())["seed"]
    public = NodeKey.from_seed(bytes.fromhex(seed)).public
    return m.Hello("tailer", public, "prod", 0, HOST.encode(), (PACKET_VERSION, PACKET_VERSION), "", time.time_ns())


@contextmanager
def tiny_disk(folder: Path) -> Iterator[None]:
    """Four megabytes, mounted at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tiny", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def packets(data: bytes) -> list[tuple[int, int]]:
    """Where the packets of a bucket file lie, from the first on."""
    found, at = [], 0
    while data[at : at + 3] == b"BUK":
        found.append((at, at + peek(data, at)))
        at = found[-1][1]
    return found


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


# --- on the wire ------------------------------------------------------------------------------------------------------


async def put(asker: Asker, packet: bytes) -> m.Ok | m.No:
    answer = await asker.ask(m.Put(0, 0, True, packet), 10)
    assert isinstance(answer, (m.Ok, m.No))
    return answer


async def put_all(arena: Arena, *packets: bytes) -> list[m.Ok | m.No]:
    """The answers of the first buck, over one link."""
    host, _, port = arena.buck(0).address.rpartition(":")
    async with open_asker(await trio.open_tcp_stream(host, int(port)), hello(arena)) as asker:
        return [await put(asker, packet) for packet in packets]


def test_a_damaged_packet_on_the_wire_is_refused_and_the_link_goes_on(arena: Arena) -> None:
    writer = arena.writer("wire")
    writer.write(LINES)
    arena.done(arena.feed(writer))
    buck = arena.buck(0)
    data = arena.open_parts(0)[0].read_bytes()
    start, end = packets(data)[0]
    packet = data[start:end]
    flipped = bytearray(packet)
    flipped[len(packet) // 2] ^= 1
    stored = counted(buck, "packets_stored_total")
    refused, torn, taken = trio.run(put_all, arena, bytes(flipped), packet[:-9], packet)
    assert isinstance(refused, m.No)
    assert (refused.reason, refused.text) == ("sum", "not a good packet: the digest does not fit")
    assert isinstance(torn, m.No)
    assert (torn.reason, torn.text) == (
        "sum",
        f"not a good packet: {len(packet) - 9} bytes of a packet of {len(packet)}",
    )
    assert isinstance(taken, m.Ok)  # over the same link, the same packet, whole
    assert counted(buck, 'packets_refused_total{reason="sum"}') == 2
    assert counted(buck, "packets_stored_total") == stored
    arena.check(writer)


def test_a_link_that_ends_within_a_packet_leaves_nothing_and_the_others_go_on(arena: Arena) -> None:
    writer = arena.writer("cut")
    writer.write(LINES)
    arena.done(arena.feed(writer))
    buck = arena.buck(0)
    data = arena.open_parts(0)[0].read_bytes()
    _, end = packets(data)[0]
    stored = counted(buck, "packets_stored_total")
    host, _, port = buck.address.rpartition(":")
    connection = Connection(hello(arena), dialing=True)
    with socket.create_connection((host, int(port)), timeout=10) as link:
        link.sendall(connection.start())
        while connection.peer is None:
            connection.receive(link.recv(4096))
        link.sendall(connection.send_whole(m.Put(1, 0, True, data[:end]))[:-50])
    deadline = time.monotonic() + PATIENCE_S
    while not any("middle of a frame" in line for line in logged(buck, "info", "warning")):
        assert time.monotonic() < deadline, buck.log_end()
        time.sleep(0.05)
    assert counted(buck, "packets_stored_total") == stored
    after = arena.writer("after")
    after.write(LINES)
    arena.done(arena.feed(after))
    arena.check(writer, after)


def test_noise_instead_of_the_protocol_costs_its_own_link_only(arena: Arena) -> None:
    host, _, port = arena.buck(0).address.rpartition(":")
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"BUCK\x01\x00" + b"\xff" * 4096, b"BUCK\x01\x07"):
        with socket.create_connection((host, int(port)), timeout=10) as link:
            link.sendall(noise)
            link.shutdown(socket.SHUT_WR)
            assert len(b"".join(iter(lambda link=link: link.recv(4096), b""))) < 100
    writer = arena.writer("after-noise")
    writer.write(LINES)
    arena.done(arena.feed(writer))
    arena.check(writer)


# --- on a buck's disk -------------------------------------------------------------------------------------------------


def test_a_damaged_copy_on_disk_is_counted_and_another_one_is_read(arena: Arena) -> None:
    """Every other packet is damaged on one buck, those between on another: neither could do alone."""
    writer = arena.writer("disk", spread_s=HOURS)
    writer.write(LINES)
    arena.done(arena.feed(writer))
    for i in range(3):
        assert arena.buck(i).stop() == 0
    parts = [sorted(disk.rglob("*.closed")) for i in range(3) for disk in arena.cluster.disk_folders(i)]
    damaged = [0, 0]
    for i in (0, 1):
        places = [(path, start, end) for path in parts[i] for start, end in packets(path.read_bytes())]
        places.sort(key=lambda place: place[0].read_bytes()[place[1] : place[2]])  # the same order on both
        for path, start, end in places[i::2]:
            flip(path, end - (end - start) // 4)
            damaged[i] += 1
    assert min(damaged) > 0
    bucks = [arena.restart(i) for i in (0, 1)]  # the third, which is whole, stays away
    back = arena.cluster.porter("cat", HOST, str(writer.path), check=False)
    assert back.stdout == writer.data
    arena.cluster.porter("audit", "--deep", check=False)
    for i, buck in enumerate(bucks):
        assert buck is not None
        assert counted(buck, "bad_reads_total") >= damaged[i]
        assert any("ALARM: a stored packet is no longer good" in line for line in logged(buck, "error"))


def test_a_damaged_footer_on_disk_is_made_anew(arena: Arena) -> None:
    writer = arena.writer("footer")
    writer.write(LINES)
    arena.done(arena.feed(writer))
    for i in range(3):
        assert arena.buck(i).stop() == 0
        for part in (path for disk in arena.cluster.disk_folders(i) for path in disk.rglob("*.closed")):
            data = part.read_bytes()
            part.write_bytes(data[: packets(data)[-1][1] + 7] + b"\x00" * 9)
    for i in range(3):
        arena.restart(i)
    arena.check(writer)


# --- in the archive ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["changed", "cut short"])
def test_an_archive_object_that_is_not_what_it_was_is_named(arena: Arena, how: str) -> None:
    writer = arena.writer("archive")
    writer.write(LINES)
    arena.done(arena.feed(writer))
    archive = str(arena.archive)
    arena.cluster.porter("archive", "--older", "0s", "--archive", archive)
    audit = arena.cluster.porter("audit", "--deep", "--archive", archive)
    assert audit.stdout.split()[-1] == b"complete"
    [part] = arena.archive.rglob("*.parquet")
    if how == "changed":
        flip(part, 2000)
    else:
        part.write_bytes(part.read_bytes()[:-100])
    name = str(part.relative_to(arena.archive))
    for i in range(3):
        arena.buck(i).kill()
    cat = arena.cluster.porter("cat", HOST, str(writer.path), "--archive", archive, check=False)
    assert cat.returncode == 1
    [said] = complaints(cat.stderr.decode())
    assert name in said
    assert not cat.stdout or writer.data.startswith(cat.stdout)
    audit = arena.cluster.porter("audit", "--deep", "--archive", archive, check=False)
    assert audit.returncode == 1
    assert name in audit.stderr.decode() + audit.stdout.decode()


# --- a disk without room ----------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_others_take_its_packets_and_room_heals_it(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster")
    with tiny_disk(cluster.disk_folders(0)[0]), cluster:
        arena, filler = Arena(cluster), cluster.disk_folders(0)[0] / "filler"
        filler.write_bytes(b"x" * ((4 << 20) - (200 << 10)))
        time.sleep(1.5)  # free space is asked for once a second
        with pytest.raises(OSError, match="No space"):
            filler.with_name("more").write_bytes(b"x" * (1 << 20))
        first = arena.writer("first", spread_s=HOURS)
        first.write(LINES)
        arena.done(arena.feed(first, level="A1"))
        arena.check(first)
        second = arena.writer("second", spread_s=HOURS)
        second.write(LINES)
        tailer = arena.feed(second)  # all three are promised copies
        time.sleep(3)
        assert counted(arena.buck(0), 'packets_refused_total{reason="full"}') > 0
        assert counted(arena.buck(0), "packets_stored_total") == 0
        assert tailer.running()
        filler.unlink()
        filler.with_name("more").unlink()
        arena.done(tailer)
        assert counted(arena.buck(0), "packets_stored_total") > 0
        arena.check(first, second)
