"""How small one copy is: packets against `zstd -1` of the same raw file, and the archive's part against `zstd -9`."""

from __future__ import annotations

import math
from pathlib import Path

from bench.corpus import big_files
from bench.measure import run as run_command
from bench.measure import spread
from bench.options import Options
from bench.packing import packets
from bench.report import Row


def compressed(path: Path, level: int, options: Options) -> int:
    """What the zstd command makes of a file, in bytes."""
    out = options.folder / "zstd.out"
    run_command(["zstd", f"-{level}", "-T1", "-q", "-c", path], stdout=out)
    return out.stat().st_size


def run(options: Options) -> list[Row]:
    rows, ratios = [], []
    for path in big_files():
        size = sum(map(len, packets({bytes(path): path.read_bytes()})))
        ratios.append(size / compressed(path, 1, options))
        rows.append(Row("sizes", path.name, spread([ratios[-1]]), "of zstd -1", most=1.02))
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return [*rows, Row("sizes", "geometric mean", spread([mean]), "of zstd -1", most=0.75)]
