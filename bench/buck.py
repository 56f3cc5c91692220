"""One buck storing 256 KiB packets, beside `socat` storing the same bytes with 256 KiB reads and writes.

Both go on until twice the kernel's dirty limit is written, so that neither only fills the page cache. The buck verifies
each packet's BLAKE3, indexes it and acks it; socat does none of that. The sender's CPU is told apart.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from bench.filling import fresh
from bench.measure import ended, here, spread
from bench.options import Options
from bench.report import Row
from bench.sending import key_of, put_all
from protocol.limits import POINT_HZ, WIDTH_S
from protocol.packet import MAGIC, PREFIX, Class, Header, Run, StreamRef

PACKET_SIZE = 256 << 10
HEADER_ABOUT = 400
FULL = 1_000_000_000  # with a smaller corpus this is a try-out, and writes no more than that
KEY = key_of("bench")
BODIES = 16
_bodies: dict[int, list[bytes]] = {}
PAGE = os.sysconf("SC_PAGE_SIZE")


class Stored(NamedTuple):
    """One run: what was sent, in which time, and CPU of receiver and sender."""

    size: int
    wall_s: float
    cpu_s: float
    client_s: float


def dirty_limit() -> int:
    """How many bytes may be in the page cache and not on the device before writers are held up."""
    facts = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(facts["nr_dirty_threshold"]) * PAGE


def packets(size: int) -> Iterator[bytes]:
    """So many bytes of packets of this moment; their bodies are noise, which a buck never looks into."""
    for number in range(-(-size // PACKET_SIZE)):
        bucket = int(time.time()) // WIDTH_S * WIDTH_S
        yield sealed(KEY.node, bucket, number, body(PACKET_SIZE))


def body(size: int) -> bytes:
    """One of some bodies that make packets of this size."""
    known = _bodies.setdefault(size, [])
    if len(known) < BODIES:
        known.append(os.urandom(size - HEADER_ABOUT))
    return random.choice(known)


def sealed(tailer: bytes, bucket: int, number: int, body: bytes, kind: Class = Class()) -> bytes:  # noqa: B008  # frozen
    """A packet, as `build` makes it, but each byte copied once: the sender shares the cores with what is measured."""
    point, first = bucket * POINT_HZ, number * 2_000_000
    head = Header(
        "prod", bucket, WIDTH_S, tailer, b"bench", 1 << 32, number, kind, 20_000, point, point, False,
        (StreamRef(bytes([1] * 16), b"/var/log/messages", bytes(8)),),
        (Run(0, first, first + 2_000_000, 20_000, point),), bytes(32),
    ).encode()  # fmt: skip
    prefix = PREFIX.pack(MAGIC, len(head), len(body))
    digest = blake3(prefix)
    digest.update(head)
    digest.update(body)
    return b"".join((prefix, head, body, digest.digest()))


def by_buck(folder: Path, size: int) -> Stored:
    sent: list[int] = []
    with fresh(folder, 1) as cluster:
        buck = cluster.live()[0]
        before = buck.usage().cpu_s
        spent = here(lambda: sent.append(put_all(buck.address, KEY, packets(size))))
        used = buck.usage().cpu_s - before
    return Stored(sent[0], spent.wall_s, used, spent.cpu_s)


def by_socat(folder: Path, size: int) -> Stored:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sent = [0]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    socat = subprocess.Popen(
        ["socat", "-u", "-b", str(PACKET_SIZE), f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr",
         f"CREATE:{folder / 'stored'}"]
    )  # fmt: skip
    link = _connect(port)
    begin = time.perf_counter()

    def send() -> None:
        with link:
            for packet in packets(size):
                link.sendall(packet)
                sent[0] += len(packet)

    client = here(send)
    spent = ended(socat, begin)
    assert (folder / "stored").stat().st_size == sent[0]
    shutil.rmtree(folder)
    return Stored(sent[0], spent.wall_s, spent.cpu_s, client.cpu_s)


def _connect(port: int) -> socket.socket:
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise TimeoutError("socat does not listen")


def run(options: Options) -> list[Row]:
    limit = dirty_limit()
    size = 2 * limit if options.size >= FULL else options.size
    pairs = []
    for _ in range(options.runs):
        floor = by_socat(options.folder / "socat", size)
        pairs.append((by_buck(options.folder / "cluster", size), floor))
    note = f"{size / 1e9:.1f} GB written, {size / limit:.1f} x the dirty limit"
    return [
        Row("buck", "stored", spread([one.size / one.wall_s / 1e6 for one, _ in pairs]), "MB/s", least=250, note=note),
        Row("buck", "socat", spread([one.size / one.wall_s / 1e6 for _, one in pairs]), "MB/s"),
        Row("buck", "CPU, against socat", spread([one.cpu_s / floor.cpu_s for one, floor in pairs]), "x", most=3),
        Row("buck", "CPU", spread([one.cpu_s / one.size * 1e9 for one, _ in pairs]), "CPU-s/GB"),
        Row("buck", "socat's CPU", spread([one.cpu_s / one.size * 1e9 for _, one in pairs]), "CPU-s/GB"),
        Row("buck", "the sender's CPU", spread([one.client_s / one.size * 1e9 for one, _ in pairs]), "CPU-s/GB"),
    ]
