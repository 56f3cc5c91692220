"""The kernel alone: a block of bytes becomes columns. CPU-seconds per raw GB, compiled and in pure Python."""

from __future__ import annotations

from pathlib import Path

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


def encode_all(kernel: object, data: bytes, block: int = PACKET_RAW_MAX) -> None:
    """All of a file, in blocks, into one builder that is emptied whenever it is full."""
    builder, stream, at = kernel.Builder(PACKET_RAW_MAX), kernel.Stream(HINT), 0  # type: ignore[attr-defined]
    builder.open(0, 0, True)
    while at < len(data):
        piece = memoryview(data)[at : at + block]
        final = at + len(piece) == len(data)
        used, why, _ = kernel.encode(stream, 0, piece, 0, at, HINT, final, [builder], 0, 0)  # type: ignore[attr-defined]
        at += used
        if why == compiled.FULL:
            builder.finish()
            builder.open(0, 0, True)


def _per_gb(kernel: object, data: bytes, options: Options) -> Spread:
    encode_all(kernel, data)
    return spread([here(lambda: encode_all(kernel, data)).cpu_s / len(data) * 1e9 for _ in range(options.runs)])


def run_file(path: Path, options: Options) -> list[Row]:
    data = path.read_bytes()
    zstd = spread(
        [run_command(["zstd", "-1", "-T1", "-q", "-c", path]).cpu_s / len(data) * 1e9 for _ in range(options.runs)]
    )
    most = 0.7 if any(word in path.name for word in SYSLOG) else 0.35
    fast = _per_gb(compiled, data, options)
    slow = _per_gb(_kernel_py, data[:TWIN_BYTES], options)
    return [
        Row("kernel", path.name, fast, "CPU-s/GB", most=most, note=f"zstd -1 -T1: {zstd.median:.2f}"),
        Row("kernel", f"{path.name}, twin", slow, "CPU-s/GB", most=40),
    ]


def run(options: Options) -> list[Row]:
    return [row for path in big_files() for row in run_file(path, options)]
