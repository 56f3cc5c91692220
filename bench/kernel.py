"""The kernel alone: a block of bytes becomes columns. CPU-seconds per raw GB, compiled and in pure Python.

Beside it, in turns with it: its prototype (if that can be built), and the `zstd -1 -T1` command on the same file. One
run goes over a file as often as it takes to be longer than a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import prototype
from bench.corpus import big_files
from bench.measure import Spread, here, spread
from bench.measure import run as run_command
from bench.options import Options
from bench.report import Row
from protocol import _kernel_py
from protocol import kernel as compiled
from protocol.limits import PACKET_RAW_MAX, POINT_HZ

SYSLOG = ("Linux.log", "syslog", "auth.log", "journalctl")
HINT = 1_790_000_000 * POINT_HZ
TWIN_BYTES = 1_000_000  # the twin is slow; a megabyte says it all
LEAST_BYTES = 50_000_000
EVER = (1 << 63) - 1


def encode_all(kernel: object, data: bytes, builder: Any = None, block: int = PACKET_RAW_MAX) -> None:
    """All of a file, in blocks, into one builder that is emptied whenever it is full, and at the end.

    A tailer uses its builders again and again: so does who gives one, and then no new memory is asked for."""
    stream, at = kernel.Stream(HINT), 0  # type: ignore[attr-defined]  # either kernel
    builder = builder or kernel.Builder(PACKET_RAW_MAX)  # type: ignore[attr-defined]  # either kernel
    builder.open(0, EVER, False)
    while at < len(data):
        piece = memoryview(data)[at : at + block]
        final = at + len(piece) == len(data)
        used, why, _ = kernel.encode(stream, 0, piece, 0, at, HINT, final, [builder], 0, EVER)  # type: ignore[attr-defined]  # either kernel
        at += used
        if why == compiled.FULL:
            builder.finish()
            builder.open(0, EVER, False)
    builder.finish()


def _times(size: int) -> int:
    return max(1, LEAST_BYTES // size)


def _per_gb(encode: Callable[[bytes], None], data: bytes, times: int = 1) -> float:
    def work() -> None:
        for _ in range(times):
            encode(data)

    return here(work).cpu_s / len(data) / times * 1e9


def _turns(path: Path, data: bytes, options: Options) -> tuple[Spread, Spread, Spread | None]:
    """Kernel, zstd and prototype, one after another in each run."""
    floor, times = prototype.load(options.folder), _times(len(data))
    builder = compiled.Builder(PACKET_RAW_MAX)
    fast, zstd, floors = [], [], []
    for _ in range(options.runs):
        fast.append(_per_gb(lambda block: encode_all(compiled, block, builder), data, times))
        zstd.append(run_command(["zstd", "-1", "-T1", "-q", "-c", path]).cpu_s / len(data) * 1e9)
        if floor is not None:
            floors.append(_per_gb(floor, data, times))
    return spread(fast), spread(zstd), spread(floors) if floors else None


def run_file(path: Path, options: Options) -> list[Row]:
    data = path.read_bytes()
    fast, zstd, floor = _turns(path, data, options)
    note = f"zstd -1 -T1: {zstd.median:.2f}; prototype: " + (f"{floor.median:.2f}" if floor else "not built")
    most = 0.7 if any(word in path.name for word in SYSLOG) else 0.35
    head = data[:TWIN_BYTES]
    slow = spread([_per_gb(lambda block: encode_all(_kernel_py, block), head) for _ in range(options.runs)])
    return [
        Row("kernel", path.name, fast, "CPU-s/GB", most=most, note=note),
        Row("kernel", f"{path.name}, twin", slow, "CPU-s/GB", most=40),
    ]


def run(options: Options) -> list[Row]:
    return [row for path in big_files() for row in run_file(path, options)]
