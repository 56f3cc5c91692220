"""Packets made by hand, with the bytes that they must render to: an oracle that shares no code with the kernel.

Columns are written and times printed here in the plainest way, straight from the layout in docs/FILES.md, so that a
mistake would have to be made twice, in two ways, to pass.
"""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from protocol.formats import ANDROID, BSD, CLF, CTIME, EPOCH, ISO, PLAIN, SLASH, Format

CRLF, OPEN, PART, TIME, HOST, APP, PID = 1, 2, 4, 8, 16, 32, 64

FORMATS = [
    Format(ISO, 0, 0, 32, 46, 3, 0, 0, b"", b""),
    Format(ISO, 0, 1, 84, 46, 6, 0, 7200, b"+02:00", b""),
    Format(ISO, 2, 1, 84, 46, 3, 0, 0, b"Z", b""),
    Format(ISO, 0, 0, 84, 44, 8, 3, -16200, b"-0430", b""),
    Format(ISO, 0, 0, 84, 46, 8, 0, 0, b"Z", b'"ts":"'),
    Format(BSD, 0, 1, 32, 0, 0, 0, 0, b"", b""),
    Format(BSD, 1, 1, 48, 0, 0, 0, 0, b"", b""),
    Format(CLF, 0, 0, 0, 0, 0, 0, 3600, b" +0100", b"["),
    Format(EPOCH, 0, 0, 0, 46, 6, 0, 0, b"", b""),
    Format(EPOCH, 0, 0, 0, 0, 3, 0, 0, b"", b'"time":'),
    Format(SLASH, 0, 0, 0, 0, 0, 0, 0, b"", b""),
    Format(CTIME, 0, 0, 32, 46, 3, 0, 0, b" 2022", b"["),
    Format(PLAIN, 0, 0, 0, 0, 0, 0, 0, b"", b""),
    Format(ANDROID, 0, 0, 0, 46, 3, 0, 0, b"", b""),
]
NAMES = [b"combo", b"web-1.example.org", b"sshd", b"CRON", b"kernel", b"a" * 255, b"e", b"postfix/smtpd"]
WORDS = [
    b"error",
    b"the",
    b"Jan",
    b"404",
    b"[",
    b'"ts":"',
    b"\r",
    b"\0",
    b"\xff\xfe",
    b"\xc3\xa9",
    b" ",
    b":",
    b"*",
    b"",
]


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes((value,))


def zigzag(value: int) -> bytes:
    return varint(2 * value if value >= 0 else -2 * value - 1)


def time_by_hand(form: Format, point: int) -> bytes:
    ticks, rest = divmod(point, 10 ** (8 - form.digits))
    assert rest == 0
    seconds, fraction = divmod(ticks, 10**form.digits)
    t = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds + form.offset)
    pad = chr(form.sep)
    day = f"{t.day:2d}".replace(" ", pad)
    text = {
        ISO: t.strftime(f"%Y-%m-%d{pad}%H:%M:%S"),
        BSD: t.strftime(f"%b {day} %H:%M:%S"),
        CLF: t.strftime("%d/%b/%Y:%H:%M:%S"),
        EPOCH: str(seconds),
        SLASH: t.strftime("%Y/%m/%d %H:%M:%S"),
        CTIME: t.strftime(f"%a %b {day} %H:%M:%S"),
        PLAIN: t.strftime("%y%m%d %H%M%S"),
        ANDROID: t.strftime("%m-%d %H:%M:%S"),
    }[form.kind]
    mark = chr(form.mark) if form.mark else ""
    digits = str(fraction).zfill(form.digits) if form.digits else ""
    return (text + mark + digits).encode() + (b"" if form.extra else form.zone)


@dataclass
class Row:
    text: bytes  # what is left of the line
    flags: int = 0
    form: int = 255
    point: int = 0
    shn: int = 255
    app: int = 255
    pid: int = -1
    pri: int = 255

    def line(self, made: "Made") -> bytes:
        if not self.flags & TIME:
            return self.text
        form = made.formats[self.form]
        at = self.text.index(form.anchor) + len(form.anchor)
        head = f"<{self.pri}>{'1 ' if form.head == 2 else ''}".encode() if form.head else b""
        tail = b""
        if self.flags & HOST:
            tail += b" " + made.shn[self.shn] + b" "
        if self.flags & APP:
            tail += made.app[self.app]
            if form.head == 2:
                tail += b" " + (str(self.pid).encode() if self.flags & PID else b"-") + b" "
            else:
                tail += (f"[{self.pid}]".encode() if self.flags & PID else b"") + b": "
        return self.text[:at] + head + time_by_hand(form, self.point) + tail + self.text[at:]

    def raw(self, made: "Made") -> bytes:
        return self.line(made) + (b"\r\n" if self.flags & CRLF else b"" if self.flags & OPEN else b"\n")


@dataclass
class Made:
    """A packet's body and the parts of its header that its reader needs."""

    rows: list[Row]
    counts: list[tuple[int, int]]  # of each run: stream and number of rows
    formats: list[Format] = field(default_factory=lambda: list(FORMATS))
    shn: list[bytes] = field(default_factory=lambda: list(NAMES))
    app: list[bytes] = field(default_factory=lambda: list(NAMES))

    def arguments(self) -> dict[str, Any]:
        columns = [bytearray() for _ in range(8)]
        pids: dict[int, int] = {}
        runs, ends, row = [], {}, 0
        for stream, count in self.counts:
            mine = self.rows[row : row + count]
            row += count
            start = point = mine[0].point if mine else 5
            for r in mine:
                columns[0] += r.text + b"\n"
                columns[1].append(r.flags)
                if r.flags & TIME:
                    form = self.formats[r.form]
                    scale = 10 ** (8 - form.digits)
                    columns[2].append(r.form)
                    columns[3] += zigzag(r.point // scale - point // scale)
                    point = r.point
                    if form.head:
                        columns[7].append(r.pri)
                if r.flags & HOST:
                    columns[4].append(r.shn)
                if r.flags & APP:
                    columns[5].append(r.app)
                if r.flags & PID:
                    columns[6] += zigzag(r.pid - pids.get(r.app, 0))
                    pids[r.app] = r.pid
            first = ends.get(stream, 100 * stream)
            ends[stream] = first + sum(len(r.raw(self)) for r in mine)
            runs.append((stream, first, ends[stream], count, start))
        return {
            "body": b"".join(columns),
            "count": len(self.rows),
            "sizes": tuple(map(len, columns)),
            "formats": tuple(self.formats),
            "shn": tuple(self.shn),
            "app": tuple(self.app),
            "runs": runs,
        }


def make(seed: int, size: int = 40) -> Made:
    """A packet that has a bit of everything."""
    rng = random.Random(seed)
    counts = [(rng.randrange(4), rng.randrange(8)) for _ in range(rng.randrange(1, size // 4 + 2))]
    made = Made([], counts)
    known = rng.sample(range(len(FORMATS)), rng.randrange(1, 5))
    point = rng.randrange(16_409_000, 18_900_000) * 100 * 10**8  # between 2021 and 2030
    for _stream, count in counts:
        for i in range(count):
            moved = rng.choice([0, 10**8, 123_456, -(10**9), 86_400 * 10**8])
            row = _row(rng, made, known, point + moved, first=i == 0)
            if row.flags & TIME or i == 0:
                point = row.point
            row.point = point
            made.rows.append(row)
    return made


def _text(rng: random.Random) -> bytes:
    return b"".join(rng.choice(WORDS) + rng.choice([b" ", b""]) for _ in range(rng.randrange(6)))


def _row(rng: random.Random, made: Made, known: list[int], point: int, first: bool) -> Row:
    end = rng.choice([0, 0, 0, CRLF, OPEN, OPEN | PART])
    text = _text(rng) + (b"." if end & OPEN else b"")
    if first or rng.random() < 0.2:
        return Row(text, end, point=point)
    index = rng.choice(known)
    form = made.formats[index]
    before = _text(rng) if form.anchor else b""
    if form.anchor and form.anchor in before:
        before = b""
    row = Row(before + form.anchor + text, end | TIME, index, point - point % 10 ** (8 - form.digits))
    if form.head:
        row.pri = rng.randrange(192)
    if form.tail and rng.random() < 0.8:
        row.flags, row.shn = row.flags | HOST, rng.randrange(len(made.shn))
        if rng.random() < 0.8:
            row.flags, row.app = row.flags | APP, rng.randrange(len(made.app))
            if rng.random() < 0.8:
                row.flags, row.pid = row.flags | PID, rng.choice([0, 7, rng.randrange(32768), 999_999_999])
    return row
