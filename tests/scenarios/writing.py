"""What the scenarios write: lines that say who wrote them and which one it is, and the bytes that readers stumble over.

A line holds `w<writer>-<n>`, n = 0, 1, 2, ...; a tenth of the lines are one and the same text instead, so that whoever
takes equal lines for repeats is found out. Some have a time of their own, most have none; some end in CRLF; a few hold
NUL, escapes and bytes that are no UTF-8; one in a thousand, and at least one in a file, is longer than 64 kB.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

SAME = b"one and the same line, again and again"
LONG = 150_000
LINE_MAX = 65_000
STEPS = 3
NASTY = [
    b"\x00\x00",
    b"\xff\xfe\x80",
    b"\x1b[31mred\x1b[0m",
    b"\r inside",
    "žluťoučký".encode(),
    b"\xed\xa0\x80",
    b"\t \x0b",
]
WORDS = b"GET /index.html 200 connection closed by peer accepted key for user root from 10.0.0.7 port failed".split()


@dataclass
class Writer:
    """One file's author. `lines` is the ledger: what was written, whole, in order."""

    number: int
    path: Path
    seed: int = 0
    spread_s: float = 0.0  # times of the lines begin so long ago, and come in a few steps until now
    lines: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.seed} {self.number}")
        self._n = 0

    @property
    def data(self) -> bytes:
        return b"".join(self.lines)

    @property
    def same(self) -> int:
        """How many of the lines are the one."""
        return sum(line.rstrip(b"\r\n") == SAME for line in self.lines)

    @property
    def events(self) -> int:
        """As how many events they are stored: a long line is several."""
        return sum(-(-len(line) // LINE_MAX) for line in self.lines)

    def write(self, count: int) -> Path:
        """Append so many lines to the file, at once."""
        for _ in self.pieces(count, count):
            pass
        return self.path

    def pieces(self, count: int, each: int) -> Iterator[int]:
        """Append so many lines, `each` at a time; who iterates decides when the next are written."""
        for start in range(0, count, each):
            made = [self._line(n, count) for n in range(start, min(count, start + each))]
            with self.path.open("ab") as file:
                file.write(b"".join(made))
            self.lines += made
            yield len(self.lines)

    def _line(self, n: int, count: int) -> bytes:
        draw = self._random
        end = b"\r\n" if draw.random() < 0.05 else b"\n"
        if draw.random() < 0.1:
            return SAME + end
        text = b"w%d-%d " % (self.number, self._n) + b" ".join(draw.choices(WORDS, k=draw.randint(2, 12)))
        self._n += 1
        if draw.random() < 0.01:
            text += draw.choice(NASTY)
        if draw.random() < 0.001 or n == count // 2:
            text += bytes(draw.choices(b"abcdefghij ", k=100)) * (LONG // 100)
        if draw.random() < 0.4:
            ago = self.spread_s * (1 - STEPS * n // count / STEPS)
            if n:
                ago += draw.choice([0, 0, 0, 0.5])  # some are a little out of order
            at = datetime.now(UTC) - timedelta(seconds=ago)
            text = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ ").encode() + text
        return text + end
