"""The tailer end to end: read, columns, zstd, journal, two copies acked by real bucks on the same cores.

Judged by CPU-seconds against those of the `zstd -1 -T1` command over the same files in the same run: a compressor that
does nothing else. The bucks' CPU is shown beside it.
"""

from __future__ import annotations

from pathlib import Path

from bench import corpus
from bench.filling import fill, fresh
from bench.measure import run as run_command
from bench.measure import spread
from bench.options import Options
from bench.report import Row


def files(options: Options) -> list[Path]:
    """The corpus: every format, at least as many bytes as asked for."""
    return corpus.make(options.folder / "corpus", options.size)


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
    note = f"{total / 1e9:.2f} GB, {len(paths)} files"
    return [
        Row("tailer", "CPU, against zstd -1 -T1", spread(ratios), "x", most=1.4, note=note),
        Row("tailer", "CPU", spread(tailers), "CPU-s/GB", note="rsyslog, copying only: 7.3"),
        Row("tailer", "zstd -1 -T1", spread(floors), "CPU-s/GB"),
        Row("tailer", "both bucks' CPU", spread(bucks), "CPU-s/GB"),
        Row("tailer", "one copy", spread(sizes), "of raw"),
        Row("tailer", "memory at full speed", spread(memory), "MB RSS", most=150),
    ]
