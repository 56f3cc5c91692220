"""One file of so many bytes of real lines, the same for all systems, made once and kept beside the measurements.

Where more is asked than there is, each log is followed by varied repeats of itself (bench/corpus.py says why a plain
repeat would be a lie); where less is asked, each log gives the same share of its beginning.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from bench import corpus


def one_file(folder: Path, logs: Sequence[Path], size: int) -> Path:
    """A file of these logs below `folder`, whole lines only, at most a line of each log longer than `size`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = zlib.crc32("\n".join(map(str, logs)).encode())
    path = folder / f"{size}-{names:08x}-{corpus.VERSION}.log"
    if not path.exists():
        part = path.with_suffix(f".part{os.getpid()}")
        total = sum(log.stat().st_size for log in logs)
        with part.open("wb") as out:
            for log in logs:
                out.write(stretched(log.read_bytes(), round(log.stat().st_size / total * size)))
        os.utime(part, (corpus.WRITTEN_S, corpus.WRITTEN_S))
        part.rename(path)
    return path


def stretched(data: bytes, size: int) -> bytes:
    """The beginning of a log, or the log and varied repeats of it: so many bytes, and on to the end of the line."""
    if data and not data.endswith(b"\n"):
        data += b"\n"
    parts: list[bytes] = []
    for repeat in count():
        left = size - sum(map(len, parts))
        if left <= 0 or not data:
            break
        more = corpus.vary(data, repeat)
        parts.append(more[: more.find(b"\n", min(left, len(more)) - 1) + 1])
    return b"".join(parts)


def head(path: Path, lines: int) -> Path:
    """The first lines of a file, in a file beside it."""
    short = path.with_suffix(f".head{lines}")
    if not short.exists():
        with path.open("rb") as file:
            part = short.with_suffix(f".part{os.getpid()}")
            part.write_bytes(b"".join(line for line, _ in zip(file, range(lines), strict=False)))
        part.rename(short)
    return short
