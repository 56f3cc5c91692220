"""The tailer end to end: read, columns, zstd, journal, two copies acked by real bucks on the same cores.

Judged by CPU-seconds against those of the `zstd -1 -T1` command over the same files in the same run: a compressor that
does nothing else. The bucks' CPU is shown beside it, and what a start alone takes: it is part of the tailer's figure.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench import corpus
from bench.filling import fill, fresh
from bench.measure import run as run_command
from bench.measure import spread
from bench.options import Options
from bench.report import Row


def files(options: Options) -> list[Path]:
    """A corpus of every format, twice the bytes asked for: the start, paid once, is not the question."""
    return corpus.make(options.folder / "corpus-twice", 2 * options.size)


def once(options: Options, paths: list[Path]) -> tuple[float, float, int, int]:
    """One run: CPU of the tailer, CPU of the bucks, the tailer's peak memory, and bytes of one copy."""
    with fresh(options.folder / "cluster") as cluster:
        before = [buck.usage().cpu_s for buck in cluster.live()]
        spent = fill(cluster, paths)
        bucks = sum(buck.usage().cpu_s for buck in cluster.live()) - sum(before)
        held = sum(path.stat().st_size for path in cluster.disk_folders(0)[0].rglob("*") if path.is_file())
    return spent.cpu_s, bucks, spent.rss, held


def run(options: Options) -> list[Row]:
    paths = files(options)
    total = sum(path.stat().st_size for path in paths)
    names = list(map(str, paths))
    tailers, bucks, ratios, memory, sizes, floors = [], [], [], [], [], []
    for _ in range(options.runs):
        floor = run_command(["sh", "-c", 'exec zstd -1 -T1 -q -c "$@"', "zstd", *names]).cpu_s
        tailer, others, peak, held = once(options, paths)
        tailers.append(tailer / total * 1e9)
        bucks.append(others / total * 1e9)
        ratios.append(tailer / floor)
        floors.append(floor / total * 1e9)
        memory.append(peak / 1e6)
        sizes.append(held / total)
    start = run_command([sys.executable, "-m", "tailer", "run", "--to", "127.0.0.1:1"], codes=(2,)).cpu_s
    note = f"{total / 1e9:.2f} GB, {len(paths)} files"
    return [
        Row("tailer", "CPU, against zstd -1 -T1", spread(ratios), "x", most=1.4, note=note),
        Row("tailer", "CPU", spread(tailers), "CPU-s/GB", note="rsyslog, copying only: 7.3"),
        Row("tailer", "a start alone", spread([start]), "CPU-s", note="part of the above; ended for want of files"),
        Row("tailer", "zstd -1 -T1", spread(floors), "CPU-s/GB"),
        Row("tailer", "both bucks' CPU", spread(bucks), "CPU-s/GB"),
        Row("tailer", "one copy", spread(sizes), "of raw"),
        Row("tailer", "memory at full speed", spread(memory), "MB RSS", most=150),
    ]
