"""Memory of each process: peak RSS where it works, RSS where it idles. (The tailer at full speed: bench/tailer.py.)

tailer, idle       follows all sample logs, to which nothing is written
buck               48 hours of index behind it: 5 million packets, asked for all of them; and right after its start
porter archive     told three sizes of memory, over the whole corpus; it may take 150 MB more than it was told
"""

from __future__ import annotations

import time

from bench import archive, corpus, past
from bench.cluster import Cluster
from bench.filling import fill, fresh
from bench.measure import spread
from bench.options import Options
from bench.report import Row

IDLE_S = 10.0
PACKETS = 5_000_000
FULL = 1_000_000_000  # a smaller corpus means a try-out, with as much less of everything
MEMORIES_MB = (128, 256, 512)


def idle_tailer(options: Options) -> list[Row]:
    """It has looked at all files and waits."""
    with fresh(options.folder / "cluster") as cluster:
        tailer = cluster.tailer("--from", "end", str(corpus.SHARED / "**"))
        time.sleep(IDLE_S / 2)
        before = tailer.usage().cpu_s
        time.sleep(IDLE_S)
        usage = tailer.usage()
    note = f"{len(corpus.files())} files followed"
    return [
        Row("memory", "tailer, idle", spread([usage.rss / 1e6]), "MB RSS", most=60, note=note),
        Row("memory", "tailer, idle: CPU", spread([(usage.cpu_s - before) / IDLE_S * 100]), "% of a core"),
    ]


def old_buck(options: Options) -> list[Row]:
    """Its store is kept between runs."""
    packets = PACKETS if options.size >= FULL else PACKETS * options.size // FULL
    root = options.folder / "past"
    root.mkdir(exist_ok=True)
    with Cluster(root, 1):
        pass  # its key, its name on the disk
    made = past.make(root / "buck0/disk0", packets)
    begin = time.perf_counter()
    with Cluster(root, 1) as cluster:
        started_s = time.perf_counter() - begin
        buck = cluster.live()[0]
        first = buck.usage()
        past.look(buck.address)
        last = buck.usage()
    note = f"{made:,} packets in 48 h"
    return [
        Row(
            "memory",
            "buck after its start",
            spread([first.rss / 1e6]),
            "MB RSS",
            note=f"{note}, up in {started_s:.1f} s",
        ),
        Row("memory", "buck, peak", spread([last.rss_max / 1e6]), "MB RSS", most=200, note=f"{note}, all asked for"),
        Row("memory", "buck, CPU of listing 48 h", spread([last.cpu_s - first.cpu_s]), "CPU-s", note=note),
    ]


def porter(options: Options) -> list[Row]:
    """An archive job that is told to be small."""
    paths = corpus.make(options.folder / "corpus", options.size)
    with fresh(options.folder / "cluster") as cluster:
        fill(cluster, paths)
        peaks = [archive.archive(cluster, options.folder / "archive", "--memory", f"{mb}MB")[1] for mb in MEMORIES_MB]
    note = f"{options.size / 1e9:g} GB"
    return [
        Row("memory", f"porter archive --memory {mb}MB, peak", spread([peak / 1e6]), "MB RSS", most=mb + 150, note=note)
        for mb, peak in zip(MEMORIES_MB, peaks, strict=True)
    ]


def run(options: Options) -> list[Row]:
    return [*idle_tailer(options), *old_buck(options), *porter(options)]
