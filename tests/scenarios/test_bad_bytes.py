"""Bytes that are not what they should be, each case aimed at one promise (random damage is in test_damage.py).

A link that ends within a packet; peers that are told why they are refused; copies that are bad in turn on two bucks, so
that neither could do alone; footers that are gone; and one full disk among three.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from bench.cluster import Buck, Cluster
from protocol import messages as m
from protocol.connection import MAGIC, PREFACE_SIZE, Connection
from protocol.errors import Refused
from protocol.identity import NodeKey
from protocol.limits import PACKET_VERSION
from protocol.link import open_asker
from protocol.packet import peek
from tests.scenarios.arena import PATIENCE_S, Arena
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
    return hello_of(NodeKey.from_seed(bytes.fromhex(seed)).public)


def hello_of(public: bytes) -> m.Hello:
    return m.Hello("tailer", public, "prod", 0, HOST.encode(), (PACKET_VERSION, PACKET_VERSION), "", time.time_ns())


def counted(buck: Buck, name: str) -> float:
    """A counter of a buck's /metrics, such as `links_refused_total{reason="env"}`; 0 if there is none yet."""
    with urllib.request.urlopen(f"http://{buck.http}/metrics", timeout=10) as answer:
        found = re.search(rf"^buck_{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


@contextmanager
def tiny_disk(folder: Path) -> Iterator[None]:
    """Four megabytes, mounted at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tiny", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a small file system can't be mounted here")
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
    while "middle of a frame" not in buck.log.read_text():
        assert time.monotonic() < deadline, buck.log_end()
        time.sleep(0.05)
    assert counted(buck, "packets_stored_total") == stored
    after = arena.writer("after")
    after.write(LINES)
    arena.done(arena.feed(after))
    arena.check(writer, after)


def test_a_peer_of_another_wire_version_env_or_width_is_refused_and_counted(arena: Arena) -> None:
    buck = arena.buck(0)
    host, _, port = buck.address.rpartition(":")
    known = hello_of(NodeKey.from_seed(bytes(32)).public)
    others = {
        "env": replace(known, env="test"),
        "width": replace(known, width=60),
        "version": replace(known, versions=(9, 9)),
    }
    for reason, wrong in others.items():
        assert trio.run(refusal, host, int(port), wrong) == reason
        assert counted(buck, f'links_refused_total{{reason="{reason}"}}') == 1
    with socket.create_connection((host, int(port)), timeout=10) as link:
        link.sendall(MAGIC + bytes([9, 0]))
        received = b"".join(iter(lambda: link.recv(4096), b""))
    assert len(received) <= PREFACE_SIZE  # nothing is said in a language that the peer may not know
    assert counted(buck, 'links_refused_total{reason="version"}') == 2
    assert "the peer speaks wire version 9, this is 1" in buck.log_end()


async def refusal(host: str, port: int, hello: m.Hello) -> str:
    """Why a buck will not talk to who says that."""
    stream = await trio.open_tcp_stream(host, port)
    with pytest.raises(Refused) as refused:
        async with open_asker(stream, hello):
            pass
    return refused.value.reason


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
        assert "ALARM: a stored packet is no longer good" in buck.log.read_text()


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
