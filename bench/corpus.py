"""A gigabyte of logs out of fifty megabytes of real ones, without flattering a compressor.

A small file repeated is a lie: the second copy costs nothing. So each repeat is another one: its dates move on by some
days, and the numbers of three to nine digits in it (process ids, ports, sizes, durations, parts of ids) get other
digits, the same number always the same other one, so that what repeated inside a file still does. First digits stay (no
leading zeros appear), and so do times of day but for their fractions, zones, numbers beside `-`, `/`, `:` and `+`, and
those of ten and more digits (seconds since 1970). Repeats of one file are appended to one file: a long log, going
forward in time, and last written long ago, so that dates without a year are no newer than the others.
"""

from __future__ import annotations

import datetime
import os
import random
import re
import shutil
from pathlib import Path

import numpy as np

SHARED = (Path(__file__).parents[1] / "../shared/data/logs").resolve()
BIG = 1_000_000  # bytes; a smaller file says little by itself
STEP_DAYS = 17
WRITTEN_S = 1_700_000_000
VERSION = 2  # of what is made of the same files: another one is made anew
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
MONTH = "|".join(MONTHS).encode()
DATES = [
    (re.compile(rb"\b(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"), "%Y-%m-%d"),
    (re.compile(rb"\b(?:0[1-9]|[12]\d|3[01])/(?:" + MONTH + rb")/(?:19|20)\d\d"), "%d/%b/%Y"),
    (re.compile(rb"^(?:" + MONTH + rb") (?: [1-9]|[12]\d|3[01])\b", re.MULTILINE), "%b %d"),
]


def files(root: Path | None = None) -> list[Path]:
    """Every real log, in a fixed order."""
    return sorted(path for path in (root or SHARED).rglob("*") if path.is_file())


def big_files(root: Path | None = None) -> list[Path]:
    """Those large enough to be measured alone, largest first."""
    return sorted((path for path in files(root) if path.stat().st_size > BIG), key=lambda p: (-p.stat().st_size, p))


def vary(data: bytes, repeat: int) -> bytes:
    """The same log on other days with other numbers; repeat 0 is the log itself."""
    return _other_numbers(_other_dates(data, repeat), repeat) if repeat else data


def make(folder: Path, size: int, root: Path | None = None) -> list[Path]:
    """At least `size` bytes below `folder`, one file for each real one; made once and kept while the size is right."""
    root = root or SHARED
    stamp = folder / ".size"
    sources = files(root)
    if not (stamp.exists() and stamp.read_text() == f"{size} {VERSION}"):
        total, repeat = 0, 0
        while total < size:
            total += sum(_append(folder / path.relative_to(root), path, repeat) for path in sources)
            repeat += 1
        for path in sources:
            os.utime(folder / path.relative_to(root), (WRITTEN_S, WRITTEN_S))
        stamp.write_text(f"{size} {VERSION}")
    return [folder / path.relative_to(root) for path in sources]


def one_file(folder: Path, size: int) -> Path:
    """All of the corpus in `folder` as one file beside it, one log after another."""
    path = folder.with_suffix(".log")
    paths = make(folder, size)
    if not path.exists() or path.stat().st_size != sum(one.stat().st_size for one in paths):
        with path.open("wb") as out:
            for one in paths:
                with one.open("rb") as file:
                    shutil.copyfileobj(file, out, 1 << 20)
        os.utime(path, (WRITTEN_S, WRITTEN_S))
    return path


def _append(target: Path, source: Path, repeat: int) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    data = vary(source.read_bytes(), repeat)
    with target.open("ab" if repeat else "wb") as out:
        out.write(data)
    return len(data)


def _other_dates(data: bytes, repeat: int) -> bytes:
    step = datetime.timedelta(days=STEP_DAYS * repeat)
    for pattern, shape in DATES:
        data = pattern.sub(lambda match, shape=shape: _moved(match.group(), shape, step), data)  # type: ignore[misc]  # bound now
    return data


_known: dict[tuple[bytes, str, datetime.timedelta], bytes] = {}


def _moved(text: bytes, shape: str, step: datetime.timedelta) -> bytes:
    key = text, shape, step
    if key not in _known:
        try:
            day = datetime.datetime.strptime(text.decode() if "%Y" in shape else f"2024 {text.decode()}",
                                             shape if "%Y" in shape else f"%Y {shape}") + step  # fmt: skip
            moved = day.strftime(shape).encode()
            _known[key] = moved.replace(b" 0", b"  ") if shape == "%b %d" else moved
        except ValueError:
            _known[key] = text  # not a day of any calendar: as it is
    return _known[key]


def _other_numbers(data: bytes, repeat: int) -> bytes:
    text = np.frombuffer(data, np.uint8).copy()
    if not len(text):
        return data
    digit = (text >= 48) & (text <= 57)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], digit, [False])).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    guards = np.frombuffer(b"-/:+T", np.uint8)
    before = np.where(starts > 0, text[np.maximum(starts - 1, 0)], 0)
    after = np.where(ends < len(text), text[np.minimum(ends, len(text) - 1)], 0)
    sizes = ends - starts
    chosen = (sizes >= 3) & (sizes <= 9) & ~np.isin(before, guards) & ~np.isin(after, guards)
    added = np.array([random.Random(repeat * 100 + place).randrange(10) for place in range(10)], np.uint8)
    for place in range(1, 9):
        at = starts[chosen & (sizes > place)] + place
        text[at] = (text[at] - 48 + added[place]) % 10 + 48
    return text.tobytes()
