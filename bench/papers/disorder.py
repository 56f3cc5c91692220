"""A load whose events come slightly out of order, over many windows: real lines with times that go on, in any size.

Some senders have a file each; all go through the same time side by side. A line's time is when it happened; a few lines
are written later than younger ones, as by the threads of one program: `LATE` of them, by an exponential time, so that
the lateness at a reader is what was measured of queues in steady state (6 % inversions, 99 % within 0.1 s, all within
0.3 s; docs/papers/4.md). Numbers in the lines change with every repetition, so that no compressor is flattered.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocol.kernel import arranged

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]

STAMP = 28  # "2026-11-20T08:00:00.000000Z "
KEY = STAMP - 1
SENDERS = 3
WINDOW_S = 300
AGO_S = 22.5 * 3600  # so long ago does a load begin: younger than what is filed by arrival (protocol.limits.LATE_S)
LATE, LATE_MEAN_US, LATE_MAX_US = 0.06, 54_000, 285_000
BLOCK = 4_000_000  # bytes of different lines a sender; then the next repetition, with other numbers
LINE_MAX = 1000
OWN_TIME = re.compile(
    rb"^(?:\[?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?: \d{4})?\]?"
    rb"|\[?\d{4}-\d\d-\d\d[T ][\d:.,]+(?: [A-Z]{3}|Z|[+-]\d{4})?\]?) ?"
)
CONTROL = bytes(range(32))
PAIRS = np.frombuffer(b"".join(b"%02d" % i for i in range(100)), np.uint8).reshape(100, 2)


@dataclass(frozen=True)
class Sum:
    """What was made, or has arrived: lines, bytes, and the sum of all bytes, which no order changes."""

    lines: int = 0
    size: int = 0
    total: int = 0

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.lines + other.lines, self.size + other.size, self.total + other.total)

    @classmethod
    def of(cls, data: Bytes) -> Sum:
        return cls(int(np.count_nonzero(data == 10)), len(data), int(data.sum(dtype=np.int64)))


def begin_us(now_s: float) -> int:
    """When a load begins that is made at `now_s` (seconds since 1970): at a window's edge, in microseconds."""
    return int((now_s - AGO_S) // WINDOW_S) * WINDOW_S * 10**6


class Sender:
    """One sender's lines, none of them earlier than `begin` (microseconds since 1970). Each repetition of its block
    bears other numbers."""

    def __init__(self, logs: Sequence[Path], number: int, seed: int, begin: int, block: int = BLOCK) -> None:
        texts = _texts(logs, number, block)
        self._block = np.frombuffer(b"".join(b"0" * KEY + b" " + text + b"\n" for text in texts), np.uint8).copy()
        ends = np.flatnonzero(self._block == 10) + 1
        self.starts = np.concatenate(([0], ends[:-1])).astype(np.int64)
        self.sizes = np.diff(np.concatenate((self.starts, [len(self._block)])))
        self._digits = _digits(self._block, self.starts)
        self._random = np.random.default_rng((seed, number))
        self._begin = begin

    def lines(self, first_us: int, step_us: float, count: int) -> Bytes:
        """Some lines, at most those of a block, the first at `first_us` and one each `step_us`, a few of them late."""
        end = int(self.starts[count - 1] + self.sizes[count - 1])
        data = self._block[:end].copy()
        places, turns = self._digits
        known = places < end
        added = self._random.integers(0, 10, 9).astype(np.uint8)
        data[places[known]] = (data[places[known]] - 48 + added[turns[known]]) % 10 + 48
        times = first_us + (np.arange(count) * step_us).astype(np.int64)
        late = self._random.random(count) < LATE
        times[late] -= np.minimum(self._random.exponential(LATE_MEAN_US, int(late.sum())), LATE_MAX_US).astype(np.int64)
        data[self.starts[:count, None] + np.arange(KEY)] = stamps(np.maximum(times, self._begin))
        return data


def write(
    folder: Path, senders: Sequence[Sender], first_us: int, size: int, window_raw: int, apart: bool
) -> tuple[list[Path], Sum, int]:
    """About `size` bytes, `window_raw` bytes a window over all senders: a file a sender, or (not `apart`) the same
    lines in one file, in the order in which they were written. The files, what is in them, and when it ended, in
    microseconds since 1970: the next part goes on there."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"sender{i}.log" for i in range(len(senders) if apart else 1)]
    row = sum(float(sender.sizes.mean()) for sender in senders)  # a line of each
    step_us, rows, made, done = WINDOW_S * 1e6 * row / window_raw, round(size / row), Sum(), 0
    most = min(len(sender.starts) for sender in senders)
    with contextlib.ExitStack() as closing:
        files = [closing.enter_context(path.open("wb")) for path in paths]
        while done < rows:
            count = min(most, rows - done)
            datas = [sender.lines(first_us + int(done * step_us), step_us, count) for sender in senders]
            if not apart:
                datas = [_in_turn(datas, count)]
            for file, data in zip(files, datas, strict=True):
                file.write(data.tobytes())
                made += Sum.of(data)
            done += count
    return paths, made, first_us + int(done * step_us)


def _in_turn(datas: Sequence[Bytes], count: int) -> Bytes:
    """A line of each, one after another."""
    data = np.concatenate(datas)
    edges = np.concatenate(([0], np.flatnonzero(data == 10) + 1))
    order = np.arange(count * len(datas)).reshape(len(datas), count).T.ravel().astype(np.int64)
    return np.frombuffer(arranged(data.tobytes(), edges.astype(np.int64), order), np.uint8)


def stamps(times: Numbers) -> Bytes:
    """Microseconds since 1970 as the first `KEY` bytes of lines: a row each."""
    days, rest = np.divmod(times, 86_400_000_000)
    seconds, micros = np.divmod(rest, 1_000_000)
    out = np.empty((len(times), KEY), np.uint8)
    for day in np.unique(days):
        out[days == day, :10] = np.frombuffer(str(np.datetime64(int(day), "D")).encode(), np.uint8)
    for place, mark in ((10, "T"), (13, ":"), (16, ":"), (19, "."), (26, "Z")):
        out[:, place] = ord(mark)
    for place, value in (
        (11, seconds // 3600),
        (14, seconds // 60 % 60),
        (17, seconds % 60),
        (20, micros // 10_000),
        (22, micros // 100 % 100),
        (24, micros % 100),
    ):
        out[:, place : place + 2] = PAIRS[value]
    return out


def times_of(data: Bytes, starts: Numbers) -> Numbers:
    """The times at which these lines claim to have happened: microseconds since 1970."""
    if not len(starts):
        return np.zeros(0, np.int64)
    head = np.lib.stride_tricks.sliding_window_view(data, KEY)[starts]
    out, left = np.empty(len(starts), np.int64), np.arange(len(starts))
    while len(left):  # once a day
        same = (head[left, :10] == head[left[0], :10]).all(axis=1)
        out[left[same]] = _day(head[left[0], :10].tobytes())
        left = left[~same]
    for tens, base in ((11, 24), (14, 60), (17, 60), (20, 100), (22, 100), (24, 100)):
        out *= base
        out += head[:, tens] * np.int64(10) + head[:, tens + 1]
        out -= 11 * 48
    return out


_days: dict[bytes, int] = {}


def _day(text: bytes) -> int:
    if text not in _days:
        _days[text] = int(np.datetime64(text.decode(), "D").astype(np.int64)) if text else 0
    return _days[text]


def _texts(logs: Sequence[Path], number: int, block: int) -> list[bytes]:
    """Real lines without their times, in turn from all logs large enough to matter; other ones for each sender."""
    chosen = sorted(logs, key=lambda path: (-path.stat().st_size, path))[:12]
    sources = [_lines(path.read_bytes()[: block * SENDERS], number) for path in chosen]
    found: list[bytes] = []
    size = 0
    while size < block:
        for source in sources:
            text = next(source)
            found.append(text)
            size += len(text) + STAMP + 1
    return found


def _lines(data: bytes, number: int) -> Iterator[bytes]:
    """A file's lines for ever, from another place for each sender."""
    lines = data.splitlines() or [b"-"]
    at = len(lines) * number // SENDERS
    while True:
        yield OWN_TIME.sub(b"", lines[at % len(lines)].translate(None, CONTROL))[:LINE_MAX].strip() or b"-"
        at += 1


def _digits(block: Bytes, starts: Numbers) -> tuple[Numbers, Numbers]:
    """Where digits may change, the first of each number excepted, and which place in its number each has."""
    digit = (block >= 48) & (block <= 57)
    for place in range(STAMP):
        digit[starts + place] = False
    places = np.flatnonzero(digit)
    begins = places[~digit[places - 1]]
    turns = places - begins[np.searchsorted(begins, places, side="right") - 1]
    inside = (turns > 0) & (turns < 9)
    return places[inside], turns[inside]
