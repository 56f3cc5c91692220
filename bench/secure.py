"""Encrypted links beside clear ones: 256 KiB packets into one buck, in turn, on the same cores.

Sender and buck each seal or open every byte; nothing else differs. Throughput is on the clock, with both on two cores;
what each side's CPU could carry alone is what it used, turned round.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import trio

from bench.buck import KEY, Stored, packets
from bench.cluster import TICKS, Cluster
from bench.measure import here, spread
from bench.options import Options
from bench.report import Row
from bench.sending import ACK_S, WINDOW, hello
from protocol.link import Asker, open_asker
from protocol.messages import Ok, Put
from protocol.secure import Security

SIZE_MAX = 512 << 20  # in the page cache: links are measured here, not disks


def stored(folder: Path, size: int, secure: bool) -> Stored:
    """One buck with or without keys, and what storing so many bytes took."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cluster, security, sent = Cluster(folder, 1, secure=secure), None, list[int]()
    if cluster.keys:
        cluster.keys.add(f"key {KEY.public.hex()} roles=tailer")
    with cluster:
        buck = cluster.live()[0]
        if cluster.keys:
            security = Security(KEY, "prod", os.urandom, time.time_ns)
            security.take(cluster.keys.authorized.read_text(), cluster.keys.secret.read_bytes().strip(), "")
        trio.run(put_all, buck.address, packets(8 << 20), security)  # now both sides are warm
        before = buck.usage().cpu_s
        data = list(packets(size))  # made before: making them is not what is measured
        spent = here(lambda: sent.append(trio.run(put_all, buck.address, data, security)))
        used = max(buck.usage().cpu_s - before, 1 / TICKS)  # less than one tick can't be told from none
    shutil.rmtree(folder)
    return Stored(sent[0], spent.wall_s, used, spent.cpu_s)


async def put_all(address: str, packets: Iterable[bytes], security: Security | None) -> int:
    """Store all packets, as a tailer does; the sum of their sizes."""
    host, port = address.rsplit(":", 1)
    waiting, sizes = iter(packets), [0]
    asking = open_asker(await trio.open_tcp_stream(host, int(port)), hello(KEY), timeout_s=ACK_S, security=security)
    async with asking as asker, trio.open_nursery() as nursery:
        for _ in range(WINDOW):
            nursery.start_soon(_put, asker, waiting, sizes)
    return sizes[0]


async def _put(asker: Asker, waiting: Iterator[bytes], sizes: list[int]) -> None:
    for packet in waiting:
        answer = await asker.ask(Put(0, 0, False, packet))
        assert isinstance(answer, Ok), answer
        sizes[0] += len(packet)


def run(options: Options) -> list[Row]:
    size = min(options.size, SIZE_MAX)
    pairs = []
    for _ in range(options.runs):
        clear = stored(options.folder / "clear", size, False)
        pairs.append((clear, stored(options.folder / "secure", size, True)))
    ratio = [(one.size / one.wall_s) / (clear.size / clear.wall_s) for clear, one in pairs]
    cpu = [(one.cpu_s + one.client_s) / (clear.cpu_s + clear.client_s) for clear, one in pairs]
    return [
        Row("secure", "throughput, against clear text", spread(ratio), "x", least=0.6),
        Row("secure", "encrypted", spread([one.size / one.wall_s / 1e6 for _, one in pairs]), "MB/s"),
        Row("secure", "clear text", spread([one.size / one.wall_s / 1e6 for one, _ in pairs]), "MB/s"),
        Row("secure", "a buck's core", spread([one.size / one.cpu_s / 1e6 for _, one in pairs]), "MB/s", least=150),
        Row(
            "secure", "a sender's core", spread([one.size / one.client_s / 1e6 for _, one in pairs]), "MB/s", least=150
        ),
        Row("secure", "a buck's core, clear text", spread([one.size / one.cpu_s / 1e6 for one, _ in pairs]), "MB/s"),
        Row("secure", "CPU of both, against clear text", spread(cpu), "x"),
    ]
