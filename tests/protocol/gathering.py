"""What the kernel's tests share: lines as nasty as they come, and a tailer's loop around `encode` without a tailer."""

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from hypothesis import strategies as st

from protocol import _kernel_py, _kernel_py_out, _kernel_py_stream
from protocol._kernel_py import DONE, FULL, NEED
from protocol.formats import Format
from protocol.limits import LINE_MAX

compiled: Any = None  # where there was no compiler the twin alone is tested
with suppress(ImportError):
    from protocol import _kernel

    compiled = _kernel

SECOND = 100_000_000
ALWAYS = 1 << 62
HINT = 1_700_000_000 * SECOND  # 2023-11-14
ARRIVAL = 1_700_000_001 * SECOND
NOON = 1_699_963_200 * SECOND  # 2023-11-14 12:00:00
seeds = st.integers(0, 2**32)


class Twin:
    """The kernel in Python, under the names that the compiled one has."""

    Stream, Builder, Rows = _kernel_py_stream.Stream, _kernel_py.Builder, _kernel_py_out.Rows
    encode = staticmethod(_kernel_py.encode)


KERNELS = [pytest.param(Twin, id="twin")] + ([pytest.param(compiled, id="compiled")] if compiled else [])
kernels = pytest.mark.parametrize("kernel", KERNELS)


class Gathered(NamedTuple):
    """One packet as values, so that two are equal if all of theirs is."""

    low: int
    high: int
    late: bool
    raw: int
    points: tuple[int, ...]
    point_min: int
    point_max: int
    runs: list[tuple[int, int, int, int, int]]
    body: bytes
    sizes: tuple[int, ...]
    formats: tuple[Format, ...]
    shn: tuple[bytes, ...]
    app: tuple[bytes, ...]

    def rows(self, kernel: Any) -> Any:
        """The packet's events, with the handle as the stream's index."""
        return kernel.Rows.decode(self.body, len(self.points), self.sizes, self.formats, self.shn, self.app, self.runs)


class Event(NamedTuple):
    """One event, wherever it was."""

    offset: int
    raw: bytes
    point: int
    flags: int


class Gatherer:
    """Feeds streams block by block, opens and closes builders as a tailer would, keeps the packets."""

    def __init__(
        self,
        kernel: Any = Twin,
        width: int = ALWAYS,
        oldest: int = 0,
        newest: int = ALWAYS,
        raw_max: int = 2 << 20,
        builders: int = 8,
    ) -> None:
        self.kernel, self.width, self.oldest, self.newest = kernel, width, oldest, newest
        self.raw_max, self.most = raw_max, builders
        self.streams: dict[int, Any] = {}
        self.rest: dict[int, bytes] = {}
        self.offset: dict[int, int] = {}
        self.open: list[Any] = []
        self.packets: list[Gathered] = []
        self.fresh: dict[int, list[tuple[int, int]]] = {}

    def start(self, handle: int, hint: int = HINT, state: bytes = b"") -> None:
        """Another stream, or the same one from its state."""
        self.streams[handle] = self.kernel.Stream(hint, state)
        self.rest.setdefault(handle, b"")
        self.offset.setdefault(handle, 0)
        self.fresh.setdefault(handle, [])

    def feed(self, handle: int, block: bytes, final: bool = False, arrival: int = ARRIVAL) -> None:
        """The next bytes of a stream."""
        data, start = self.rest[handle] + block, 0
        while True:
            used, why, which = self.kernel.encode(
                self.streams[handle],
                handle,
                data,
                start,
                self.offset[handle],
                arrival,
                final,
                self.open,
                self.oldest,
                self.newest,
            )
            assert start <= used <= len(data)
            self.offset[handle] += used - start
            start = used
            self._freshen()
            if why == DONE:
                break
            if why == NEED:
                self._begin(which)
            else:
                assert why == FULL
                assert self.open[which].count
                self._close(self.open[which])
        self.rest[handle] = data[start:]
        assert not (final and self.rest[handle])

    def _freshen(self) -> None:
        for builder in self.open:
            for handle, first, end in builder.fresh():
                self.fresh[handle].append((first, end))

    def _begin(self, point: int) -> None:
        late = not self.oldest <= point < self.newest
        low = 0 if late else point - point % self.width
        if len(self.open) == self.most:
            self._close(max(self.open, key=lambda one: one.raw))
        builder = self.kernel.Builder(self.raw_max)
        builder.open(low, ALWAYS if late else low + self.width, late)
        self.open.append(builder)

    def _close(self, builder: Any) -> None:
        self.open.remove(builder)
        runs = builder.runs()
        low, high, late, raw, count = builder.low, builder.high, builder.late, builder.raw, builder.count
        least, most = builder.point_min, builder.point_max
        c = builder.finish()
        assert count == len(c.points)
        assert raw == sum(run[2] - run[1] for run in runs)
        assert (least, most) == (min(c.points), max(c.points))
        if not late:
            assert low <= least
            assert most < high
        body = bytes(c.lines) + bytes(c.small)
        self.packets.append(
            Gathered(low, high, late, raw, tuple(c.points), least, most, runs, body, c.sizes, c.formats, c.shn, c.app)
        )

    def finish(self) -> list[Gathered]:
        """All packets, in the order in which they were closed."""
        while self.open:
            self._close(self.open[0])
        return self.packets

    def states(self) -> dict[int, bytes]:
        """What a checkpoint would keep."""
        return {handle: stream.state() for handle, stream in self.streams.items()}


def gather(kernel: Any, blocks: Sequence[bytes], hint: int = HINT, **more: Any) -> tuple[list[Gathered], bytes]:
    """One stream from its first byte to its last: the packets, and its state in the end."""
    one = Gatherer(kernel, **more)
    one.start(0, hint)
    for i, block in enumerate(blocks):
        one.feed(0, block, final=i == len(blocks) - 1)
    return one.finish(), one.states()[0]


def events(packets: Sequence[Gathered], kernel: Any = Twin) -> dict[int, list[Event]]:
    """Each stream's events in the order of their offsets; asserts that they leave no hole and don't overlap."""
    found: dict[int, list[Event]] = {}
    for packet in packets:
        rows = packet.rows(kernel)
        assert tuple(rows.points) == packet.points
        raws = rows.render_many(range(rows.count))
        for i in range(rows.count):
            found.setdefault(rows.stream[i], []).append(Event(rows.offsets[i], raws[i], rows.points[i], rows.flags[i]))
    for stream in found.values():
        stream.sort()
        at = stream[0].offset
        for event in stream:
            assert event.offset == at
            at += len(event.raw)
    return found


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    """The same bytes in blocks of any sizes, also of none."""
    edges = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 1, 2, 5, 20))))
    return [data[a:b] for a, b in zip([0, *edges], [*edges, len(data)], strict=True)]


# ---------------------------------------------------------------- nasty lines

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "jan", "Foo")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
ZONES = (
    "",
    "",
    "Z",
    "Zulu",
    "+01",
    "+0100",
    "+01:00",
    " +0100",
    "-0330",
    "+2400",
    "-00:00",
    " -1",
    "+0160",
    "+010",
    "Z0",
)
HOSTS = ("host", "ip-10-0-0-1", "h" * 128, "h" * 129, "-", "höst", "", "a b")
APPS = (
    "sshd[123]: ",
    "kernel: ",
    "x[007]: ",
    "x[0]: ",
    "x[1234567890]: ",
    "cron[]: ",
    "a" * 128 + ": ",
    "a" * 129 + ": ",
    "k:",
)
APPS_5424 = ("sshd 123 ", "app - ", "app 01 ", "a[b 1 ", "app", "app 12")
RESTS = (
    "",
    " rest of it",
    ": x",
    "]",
    " [1] ÿ",
    '"}',
    " a=b c=d",
    "\r",
    "\x00\x01",
    " 2022",
    ".5",
    ",123456789",
    "0",
    "é",
)


def _date(r: random.Random) -> tuple[int, int, int, int, int, int]:
    y = r.choice((1970, 1971, 1999, 2000, 2016, 2022, 2023, 2023, 2023, 2024, 2100, 2261, 2262, 0))
    m, d = r.choice(((2, 28), (2, 29), (2, 30), (12, 31), (1, 1), (6, 9), (11, 14), (7, 10), (13, 1), (0, 5), (4, 31)))
    return y, m, d, r.choice((0, 9, 12, 23, 24)), r.choice((0, 5, 59, 60)), r.choice((0, 1, 2, 59, 60))


def _time(r: random.Random) -> str:
    y, m, d, hh, mm, ss = _date(r)
    if r.random() < 0.7:  # mostly a good one, of a few minutes
        y, m, d, hh, mm, ss = 2023, *r.choice(((11, 14), (11, 9), (2, 1))), 12, r.choice((7, 8)), r.randrange(60)
    clock = f"{hh:02}:{mm:02}:{ss:02}"
    fraction = r.choice(
        ("", "", ".5", ".123", ",123", ".123456", ".12345678", ".123456789", ".1234567890123456789", ".")
    )
    epoch = r.choice((1700000000, 999999999, 1699999999, 2999999999, 3000000000, 0))
    finer = r.choice((fraction, "123", "123456", "123456789", "12"))
    weekday, year = r.choice(("Tue", r.choice(DAYS))), r.choice((f" {y:04}", " 2023", ""))
    day = r.choice((f"{d:2}", f"{d:02}"))
    month = MONTHS[(m - 1) % 14]
    shapes: list[Callable[[], str]] = [
        lambda: f"{y:04}-{m:02}-{d:02}{r.choice('TT T_')}{clock}{fraction}{r.choice(ZONES)}",
        lambda: f"{month} {day} {clock}{r.choice(('', '', fraction))}",
        lambda: f"{d:02}/{month}/{y:04}:{clock}{r.choice((' +0000', ' -0700', '', 'Z'))}",
        lambda: f"{epoch}{finer}",
        lambda: f"{y:04}/{m:02}/{d:02} {clock}{fraction}",
        lambda: f"{weekday} {month} {day} {clock}{fraction}{year}",
        lambda: f"{y % 100:02}{m:02}{d:02} {hh:02}{mm:02}{ss:02}",
        lambda: f"{m:02}-{d:02} {clock}{fraction}",
    ]
    return r.choice(shapes)()


def _line(r: random.Random) -> bytes:
    time = _time(r)
    tag = f" {r.choice(HOSTS)} {r.choice(APPS)}" if r.random() < 0.8 else r.choice((" ", " h ", "  ", "\t"))
    rest = r.choice(RESTS)
    shapes: list[Callable[[], str]] = [
        lambda: time + rest,
        lambda: time + tag + rest,
        lambda: f"<{r.choice((0, 13, 191, 192, '013', '', 'x'))}>{time}{tag}{rest}",
        lambda: f"<{r.choice((13, 191))}>1 {time} {r.choice(HOSTS)} {r.choice(APPS_5424)}{rest}",
        lambda: f"{r.choice(('[', '[task ', '1.2.3.4 - - [', '- ', 'x' * 41))}{time}{r.choice((']', '', ' '))}{rest}",
        lambda: f'{{"a":1,"{r.choice(("ts", "time", "@timestamp", "other"))}":{r.choice(("", chr(34)))}{time}"{rest}}}',
        lambda: r.choice(
            ("", "\r", "no time here at all", "\tat java.lang", "Jan", time[: r.randrange(len(time) + 1)])
        ),
        lambda: f"GET {time} twice {time}",
    ]
    line = r.choice(shapes)().encode(r.choice(("utf-8", "latin-1")), "replace")
    if r.random() < 0.1 and line:
        at = r.randrange(len(line))
        line = (
            line[:at] + bytes([r.choice((0, 10, 13, 32, 48, 57, 58, 91, 127, 128, 255))]) + line[at + r.randrange(2) :]
        )
    return line


def nasty(r: random.Random, lines: int = 40) -> bytes:
    """A mix of good times, bad times and no times; a few shapes come again and again, as in a real log."""
    pool = [_line(r) for _ in range(r.choice((2, 5, lines)))]
    out = []
    for _ in range(lines):
        line = r.choice(pool) if r.random() < 0.5 else _line(r)
        if r.random() < 0.003:
            line = (line * LINE_MAX)[: LINE_MAX + r.choice((-1, 0, 1, 2, 500, LINE_MAX))]
        out.append(line + r.choice((b"\n", b"\n", b"\n", b"\r\n", b"\n\n")))
    data = b"".join(out)
    return data[:-1] if r.random() < 0.2 else data


def mutated(data: bytes, r: random.Random) -> bytes:
    """A slice of real data with a few bytes changed, moved or gone."""
    at = r.randrange(max(1, len(data) - 6000))
    piece = bytearray(data[at : at + r.choice((300, 2000, 6000))])
    for _ in range(r.choice((0, 1, 5, 30))):
        if not piece:
            break
        at = r.randrange(len(piece))
        what = r.randrange(4)
        if what == 0:
            piece[at] = r.choice(b"\n\r\0 0159:[]<>+-TZ.,/" + bytes([r.randrange(256)]))
        elif what == 1:
            del piece[at : at + r.randrange(1, 9)]
        elif what == 2:
            piece[at:at] = piece[at : at + r.randrange(1, 40)]
        else:
            piece[at:at] = bytes([r.choice(b"\n\r 059:")])
    return bytes(piece)
