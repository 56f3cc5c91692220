"""`porter cat` and `porter grep` over bucks: raw bytes gone through per second of the porter's CPU.

Whole processes are measured, less what the same process takes for a grep over empty bucks: interpreter, imports,
connecting. That start-up is a row of its own, and so is what the bucks use beside it.
"""

from __future__ import annotations

import filecmp
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


def cat(path: Path, options: Options) -> list[float]:
    """CPU seconds of each run over a file of all formats, to /dev/null; one more run compares the bytes."""
    out = options.folder / "cat"
    with fresh(options.folder / "cluster") as cluster:
        fill(cluster, [path])
        command = cluster.porter_command("cat", HERE, str(path))
        spent = [run_command(command).cpu_s for _ in range(options.runs)]
        run_command(command, stdout=out)
    assert filecmp.cmp(out, path, shallow=False), "what came back differs"
    out.unlink()
    return spent


def run(options: Options) -> list[Row]:
    paths = corpus.make(options.folder / "corpus", options.size)
    whole = corpus.one_file(options.folder / "corpus", options.size)
    total = sum(path.stat().st_size for path in paths)
    empty = spread(start_up(options))
    with fresh(options.folder / "cluster") as cluster:
        fill(cluster, paths)
        before = sum(buck.usage().cpu_s for buck in cluster.live())
        rare = grep(cluster, RARE, options)
        bucks = (sum(buck.usage().cpu_s for buck in cluster.live()) - before) / options.runs
        common = grep(cluster, COMMON, options)
    copied = cat(whole, options)
    start = empty.median

    def speed(spent: list[float]) -> list[float]:
        return [total / 1e6 / max(one - start, 1e-3) for one in spent]

    note = f"{total / 1e9:.2f} GB; whole processes less start-up"
    return [
        Row("read", f"grep {RARE}", spread(speed(rare)), "MB/s raw a core", least=600, note=note),
        Row("read", f"grep {COMMON}", spread(speed(common)), "MB/s raw a core", note="many matches"),
        Row("read", "cat", spread(speed(copied)), "MB/s raw a core", least=350, note="one file to /dev/null"),
        Row("read", "start-up", empty, "CPU-s", note="a grep over empty bucks"),
        Row("read", "bucks' CPU beside a grep", spread([bucks / total * 1e9]), "CPU-s/GB"),
    ]  # fmt: skip
