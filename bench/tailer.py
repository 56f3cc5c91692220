"""The tailer end to end: read, columns, zstd, journal, two copies acked by real bucks on the same cores.

Judged by CPU-seconds against those of the `zstd -1 -T1` command over the same files in the same run: a compressor that
does nothing else. The bucks' CPU is shown beside it.
"""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

from bench import corpus
from bench.cluster import Cluster
from bench.measure import run as run_command
from bench.measure import spread
from bench.options import Options
from bench.report import Row


def files(options: Options) -> list[Path]:
    """The corpus: every format, at least as many bytes as asked for."""
    return corpus.make(options.folder / "corpus", options.size)


def once(options: Options, paths: list[Path]) -> tuple[float, float, int, int]:
    """One run: CPU of the tailer, CPU of the bucks, the tailer's peak memory, and bytes of one copy."""
    root = options.folder / "cluster"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    with Cluster(root, 2) as cluster:
        before = [buck.usage().cpu_s for buck in cluster.live()]
        tailer = cluster.tailer("--once", "--level", "A1", *map(str, paths))
        usage = _wait(tailer.popen.pid)
        tailer.popen.returncode = 0
        bucks = sum(buck.usage().cpu_s for buck in cluster.live()) - sum(before)
        held = sum(path.stat().st_size for path in (root / "buck0").rglob("*") if path.is_file())
    return usage.ru_utime + usage.ru_stime, bucks, usage.ru_maxrss * 1024, held


def _wait(pid: int) -> resource.struct_rusage:
    """The process's own usage, threads and all, at its end."""
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"the tailer ended with {os.waitstatus_to_exitcode(status)}")
    return usage


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
