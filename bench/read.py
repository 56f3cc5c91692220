"""`porter cat` and `porter grep` over bucks: raw bytes gone through per second of the porter's CPU.

Whole processes are measured, less what the same process takes for a grep over empty bucks: interpreter, imports,
connecting. That start-up is a row of its own, and so is what the bucks use beside it.
"""

from __future__ import annotations

import os
from pathlib import Path

from bench import corpus
from bench.cluster import Cluster
from bench.filling import fill, fresh
from bench.measure import run as run_command
from bench.measure import spread
from bench.options import Options
from bench.report import Row

RARE = "eventpollfs"  # once in the kernel's messages of one boot
COMMON = "closing"
HERE = os.uname().nodename


def start_up(options: Options) -> list[float]:
    """CPU seconds of a grep where there is nothing."""
    with fresh(options.folder / "cluster") as cluster:
        command = cluster.porter_command("grep", RARE)
        return [run_command(command).cpu_s for _ in range(options.runs)]


def grep(cluster: Cluster, word: str, options: Options) -> list[float]:
    """CPU seconds of each run, matches written to a file that must not be empty."""
    found = options.folder / "found"
    spent = [
        run_command(cluster.porter_command("grep", word, "--raw"), stdout=found).cpu_s for _ in range(options.runs)
    ]
    assert found.stat().st_size, f"{word} was not found"
    return spent


def cat(cluster: Cluster, paths: list[Path], options: Options) -> list[float]:
    """CPU seconds of each run over all these files, a process a file; the bytes are compared once."""
    out = options.folder / "cat"
    sums = []
    for _ in range(options.runs):
        spent = 0.0
        for path in paths:
            spent += run_command(cluster.porter_command("cat", HERE, str(path)), stdout=out).cpu_s
            assert out.stat().st_size == path.stat().st_size, path
        sums.append(spent)
    assert out.read_bytes() == paths[-1].read_bytes()
    out.unlink()
    return sums


def run(options: Options) -> list[Row]:
    paths = corpus.make(options.folder / "corpus", options.size)
    large = [path for path in paths if path.stat().st_size > options.size // 50]
    total, catted = (sum(path.stat().st_size for path in some) for some in (paths, large))
    empty = spread(start_up(options))
    with fresh(options.folder / "cluster") as cluster:
        fill(cluster, paths)
        before = sum(buck.usage().cpu_s for buck in cluster.live())
        rare = grep(cluster, RARE, options)
        bucks = (sum(buck.usage().cpu_s for buck in cluster.live()) - before) / options.runs
        common = grep(cluster, COMMON, options)
        whole = cat(cluster, large, options)
    start = empty.median

    def speed(size: int, spent: list[float], starts: int = 1) -> list[float]:
        return [size / 1e6 / max(one - starts * start, 1e-3) for one in spent]

    note = f"{total / 1e9:.2f} GB; whole processes less start-up"
    return [
        Row("read", f"grep {RARE}", spread(speed(total, rare)), "MB/s raw a core", least=600, note=note),
        Row("read", f"grep {COMMON}", spread(speed(total, common)), "MB/s raw a core", note="many matches"),
        Row("read", "cat", spread(speed(catted, whole, len(large))), "MB/s raw a core", least=350,
            note=f"{catted / 1e9:.2f} GB in {len(large)} files"),
        Row("read", "start-up", empty, "CPU-s", note="a grep over empty bucks"),
        Row("read", "bucks' CPU beside a grep", spread([bucks / total * 1e9]), "CPU-s/GB"),
    ]  # fmt: skip
