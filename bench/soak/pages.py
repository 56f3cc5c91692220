"""The soak's lines, a pure function of (file, number of the line, time): made in bulk, and again by the checker.

A page is 2,000 lines of one kind, made once from a seed; a block of a file is a slice of it, in which the file's
number, the lines' numbers and the time are stamped with numpy: some hundred microseconds for 200 kB, so that whoever
writes takes next to nothing from those who are measured. Line n of a file has the text n % 2,000 of its page:

    2026-11-22T16:30:00.123456Z w00012-000004711 GET /index.html 200 ...      what has a time, 40 % of the lines
    w00012-000004712 connection closed by peer ...
    one and the same line, again and again                                    a tenth: equal lines are not repeats
"""

from __future__ import annotations

import random
from datetime import UTC, datetime

import numpy as np

LINES = 2000
SAME = "one and the same line, again and again"
ID_SIZE = len("w00012-000004711 ")
STAMP = "2026-11-22T16:30:00.123456Z "
KINDS = {"short": (1, 4), "usual": (3, 14), "long": (20, 90)}  # words in a line
NASTY = ["\x1b[31mred\x1b[0m", "\r inside", "žluťoučký", "\t \x0b"]
THREES = np.frombuffer(b"".join(b"%03d" % n for n in range(1000)), np.uint8).reshape(1000, 3)
WORDS = [
    "GET",
    "/index.html",
    "200",
    "connection",
    "closed",
    "by",
    "peer",
    "accepted",
    "key",
    "for",
    "user",
    "root",
    "from",
    "10.0.0.7",
]


class Page:
    """One kind's texts, and where in them the stamps go."""

    def __init__(self, kind: str) -> None:
        draw, words = random.Random(f"page {kind}"), KINDS[kind]
        self.texts: list[str | None] = []  # what follows the id; None: the same line
        data, self._starts, ids, times = bytearray(), [0], [], []
        for n in range(LINES):
            same = n > 0 and draw.random() < 0.1  # the first line of a file says which file it is
            timed = n > 0 and not same and draw.random() < 0.4
            text = " ".join(draw.choices(WORDS, k=draw.randint(*words))) + f" {draw.randrange(10**6)}"
            text += draw.choice(NASTY) if draw.random() < 0.01 else ""
            times.append(len(data) if timed else -1)
            data += STAMP.encode() if timed else b""
            ids.append(-1 if same else len(data))
            data += (SAME if same else "w00000-000000000 " + text).encode()
            data += b"\r\n" if draw.random() < 0.05 else b"\n"
            self.texts.append(None if same else text)
            self._starts.append(len(data))
        self._data = np.frombuffer(bytes(data), np.uint8)
        self._ids, self._times = np.array(ids), np.array(times)

    def render(self, file: int, first: int, count: int, when_us: int) -> bytes:
        """Lines `first` to `first + count` of this file, written at `when_us`; they must be of one page."""
        begin = first % LINES
        assert begin + count <= LINES
        base, end = self._starts[begin], self._starts[begin + count]
        out = self._data[base:end].copy()
        ids = self._ids[begin : begin + count]
        at = ids[ids >= 0] - base
        out[at[:, None] + np.arange(1, 6)] = np.frombuffer(b"%05d" % file, np.uint8)
        _stamp(out, at + 7, first + np.nonzero(ids >= 0)[0], 9)
        times = self._times[begin : begin + count]
        at, nth = times[times >= 0] - base, np.nonzero(times >= 0)[0]
        second = datetime.fromtimestamp(when_us // 10**6, UTC).strftime("%Y-%m-%dT%H:%M:%S.").encode()
        out[at[:, None] + np.arange(len(second))] = np.frombuffer(second, np.uint8)
        _stamp(out, at + len(second), (when_us + nth) % 10**6, 6)
        return out.tobytes()

    def same_before(self, count: int) -> int:
        """How many of a file's first `count` lines are the same line."""
        whole = sum(text is None for text in self.texts)
        return count // LINES * whole + sum(text is None for text in self.texts[: count % LINES])


def _stamp(out: np.ndarray, at: np.ndarray, numbers: np.ndarray, digits: int) -> None:
    """Write each number at its place, with leading zeros, three digits at a time."""
    for k in range(0, digits, 3):
        out[at[:, None] + np.arange(k, k + 3)] = THREES[numbers // 10 ** (digits - 3 - k) % 1000]


PAGES = {kind: Page(kind) for kind in KINDS}
