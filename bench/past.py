"""48 hours of small packets on one buck's disk, made with the buck's own files, in minutes instead of two days.

576 buckets, each a closed part with its footer: 500 tailers with a packet every 17 seconds, three streams each. Packets
are whole and verify. Made once and kept: it's some gigabytes.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
from functools import partial
from pathlib import Path

import trio

from bench.sending import hello, key_of
from buck.bucket import Part
from buck.files import CLOSED, OPEN, PartName
from protocol.limits import POINT_HZ, WIDTH_S
from protocol.link import open_asker
from protocol.messages import Buckets, Covered, List, Streams
from protocol.packet import Class, Header, Run, StreamRef, build, read
from service.disk import RealDisk

HOURS = 48
TAILERS = 500
STREAMS = [b"/var/log/syslog", b"/var/log/auth.log", b"/var/log/app/app.log"]
BODY = bytes(range(200))
LINES, RAW = 15, 1500


def make(disk: Path, packets: int, tailers: int = TAILERS) -> int:
    """Fill a disk that a buck has used before and has left; how many packets there are. Kept if it's that many."""
    stamp = disk / ".packets"
    if stamp.exists() and int(stamp.read_text()) == packets:
        return packets
    for day in (disk / "prod").glob("[0-9]*"):
        shutil.rmtree(day)
    last = int(time.time()) // WIDTH_S * WIDTH_S - 2 * WIDTH_S
    buckets = [last - i * WIDTH_S for i in range(HOURS * 3600 // WIDTH_S)]
    each = -(-packets // (len(buckets) * tailers))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        made = sum(pool.map(partial(_bucket, str(disk / "prod"), each, tailers), buckets, chunksize=8))
    stamp.write_text(str(packets))
    return made


def _bucket(env_folder: str, each: int, tailers: int, bucket: int) -> int:
    """One closed part."""
    part = Part(RealDisk(), env_folder, PartName(bucket, 0, OPEN))
    part.create()
    for number in range(each):
        for tailer in range(tailers):
            part.append(read(_packet(tailer, bucket, bucket // WIDTH_S % 10_000 * each + number), verify=False))
    part.write_footer()
    part.rename(CLOSED)
    part.finish()
    return each * tailers


def _packet(tailer: int, bucket: int, number: int) -> bytes:
    point = bucket * POINT_HZ
    stream, first = number % len(STREAMS), number * RAW
    ref = StreamRef(bytes([1, stream]) + tailer.to_bytes(14, "big"), STREAMS[stream], bytes(8))
    header = Header(
        "prod", bucket, WIDTH_S, _node(tailer), b"host%03d" % tailer, 1 << 32, number, Class(), LINES, point, point,
        False, (ref,), (Run(0, first, first + RAW, LINES, point),), bytes(32),
    )  # fmt: skip
    return build(header, BODY)


_nodes: dict[int, bytes] = {}


def _node(tailer: int) -> bytes:
    if tailer not in _nodes:
        _nodes[tailer] = key_of(f"past{tailer}").node
    return _nodes[tailer]


def look(address: str) -> None:
    """Ask a buck for everything it knows of all this, as porters do, and as a tailer that lost its journal does."""
    trio.run(_look, address)


async def _look(address: str) -> None:
    host, port = address.rsplit(":", 1)
    porter, tailer = key_of("porter"), key_of("past7")
    async with open_asker(await trio.open_tcp_stream(host, int(port)), hello(porter, "porter"), timeout_s=120) as asker:
        answer = await asker.ask(Buckets(0, 0, (1 << 32) - 1))
        for bucket, *_ in answer.buckets:
            await asker.ask(List(0, bucket))
            with asker.ask_many(Streams(0, bucket)) as parts:
                async for _ in parts:
                    pass
    async with open_asker(await trio.open_tcp_stream(host, int(port)), hello(tailer), timeout_s=120) as asker:
        stream = bytes([1, 0]) + (7).to_bytes(14, "big")
        await asker.ask(Covered(0, tailer.node, (stream,), (bytes(8),)))
