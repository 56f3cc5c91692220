"""The kernel's twin in Python: blocks -> columns with a few statements a line, some 50 times slower, the same bytes.

For hosts without a compiler, and the oracle of the compiled kernel's tests. `_kernel_in.pxi` explains what is done here
and why; `_kernel_py_stream.py` is the half that reads times and learns formats, `_kernel_py_out.py` the way back.
"""

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from protocol._kernel_py_stream import REACH, Known, Stream
from protocol.columns import APP, CRLF, HOST, OPEN, PART, PID, TIME
from protocol.formats import BSD, Columns, Format
from protocol.learned import PERIOD
from protocol.limits import (
    DICTIONARY_MAX,
    FORMATS_MAX,
    LINE_MAX,
    PACKET_EVENTS_MAX,
    PACKET_RAW_MAX,
    PACKET_RUNS_MAX,
    PACKET_STREAMS_MAX,
)

Buffer = bytes | bytearray | memoryview

DONE, NEED, FULL = 0, 1, 2
_BUILDERS_MAX = 16
_LINE_MIN = 10  # shorter lines hold no time


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_VARINTS = [_varint(value) for value in range(16384)]


def _zigzag(value: int) -> bytes:
    value = value * 2 if value >= 0 else -value * 2 - 1
    return _VARINTS[value] if value < 16384 else _varint(value)


@dataclass(slots=True)
class _Run:
    handle: int
    first: int
    end: int
    count: int
    start: int


_NO_RUN = _Run(-1, 0, -1, 0, 0)


class Builder:
    """The columns of one open packet, of several streams."""

    def __init__(self, raw_max: int = PACKET_RAW_MAX) -> None:
        if not 0 < raw_max <= 1 << 28:
            raise ValueError("raw_max")
        self.raw_max = raw_max
        self.open(0, 0)
        self.is_open = False

    def open(self, low: int, high: int, late: bool = False, kind: int = 0) -> None:
        """An empty packet for points low <= p < high; `late`: for all points that are too late or too early.

        `kind` is its class, for streams with a `route`."""
        self.kind = kind
        self.low, self.high, self.late, self.is_open = low, high, late, True
        self.raw = self.count = self.point_min = self.point_max = 0
        self._lines: list[bytes] = []
        self._put_line = self._lines.append
        self._flags, self._format, self._ticks = bytearray(), bytearray(), bytearray()
        self._shn, self._app, self._pid, self._pri = bytearray(), bytearray(), bytearray(), bytearray()
        self._points: array[int] = array("Q")
        self._hosts: dict[bytes, int] = {}
        self._apps: dict[bytes, int] = {}
        self._last_pid: dict[int, int] = {}
        self._formats: dict[Format, int] = {}
        self._index: dict[Known, int] = {}
        self._runs: list[_Run] = []
        self._run = _NO_RUN
        self._streams: set[int] = set()
        self._previous = self._last_ticks = self._last_index = 0
        self._last_known: Known | None = None
        self._fresh_run = self._fresh_end = 0

    def fresh(self) -> list[tuple[int, int, int]]:
        """(handle, first, end) of what came since the last call, for who hashes it; contiguous ones joined."""
        found: list[tuple[int, int, int]] = []
        for i in range(self._fresh_run, len(self._runs)):
            run = self._runs[i]
            first = max(run.first, self._fresh_end) if i == self._fresh_run else run.first
            if run.end == first:
                continue
            if found and found[-1][0] == run.handle and found[-1][2] == first:
                found[-1] = (run.handle, found[-1][1], run.end)
            else:
                found.append((run.handle, first, run.end))
        if self._runs:
            self._fresh_run, self._fresh_end = len(self._runs) - 1, self._runs[-1].end
        return found

    def runs(self) -> list[tuple[int, int, int, int, int]]:
        """(handle, first, end, count, start point) of each run, in the order of the rows."""
        return [(run.handle, run.first, run.end, run.count, run.start) for run in self._runs]

    def finish(self) -> Columns:
        """The columns. The builder takes no more lines until it is opened again; the views may outlive that."""
        if not self.is_open:
            raise ValueError("a builder that is not open")
        self.is_open = False
        lines = b"\n".join(self._lines) + b"\n" if self._lines else b""
        small = (self._flags, self._format, self._ticks, self._shn, self._app, self._pid, self._pri)
        return Columns(
            memoryview(lines),
            memoryview(b"".join(small)),
            (len(lines), *map(len, small)),
            tuple(self._formats),
            tuple(self._hosts),
            tuple(self._apps),
            memoryview(self._points),
        )

    def make_room(self, known: Known | None, handle: int, offset: int, point: int, size: int) -> bool:
        """Can the packet take a line of so many raw bytes? Only then it begins a run for it, if one is needed."""
        if self.count and (self.raw + size > self.raw_max or self.count >= PACKET_EVENTS_MAX):
            return False
        formats = self._formats
        if known and known not in self._index and len(formats) == FORMATS_MAX and known.format not in formats:
            return False
        run = self._run
        if run.end == offset and run.handle == handle and (known or self._previous == point):
            return True
        new = handle not in self._streams
        if len(self._runs) == PACKET_RUNS_MAX or (new and len(self._streams) == PACKET_STREAMS_MAX):
            return False
        self._streams.add(handle)
        self._run = _Run(handle, offset, offset, 0, point)
        self._runs.append(self._run)
        self._previous = point
        self._last_known = None
        return True

    def append(self, text: bytes, size: int, flags: int, point: int) -> None:
        """A row: what is left of the line, and its point. There is room: `make_room` said so."""
        self._lines.append(text)
        self._flags.append(flags)
        self._points.append(point)
        self._previous = point
        if self.count == 0:
            self.point_min = self.point_max = point
        elif point < self.point_min:
            self.point_min = point
        elif point > self.point_max:
            self.point_max = point
        self.count += 1
        self.raw += size
        run = self._run
        run.count += 1
        run.end += size

    def burst(self, stream: Stream, data: bytes, p: int, stop: int, low: int, high: int) -> int:
        """Lines like the one before, as many as follow: the loop of `encode` without the tests that they pass.

        It stops before the first line that has no time in the same format, or needs another packet or a new name, or
        turns the month of times without a year, or ends a PERIOD. Returns where that line begins."""
        known = self._last_known
        if known is None or stream.current is not known or stream.part or self.late or stream.route is not None:
            return p
        anchor, minutes, scale, yearless = known.anchor, known.minutes, known.scale, known.yearless
        turn = stream.calendar.year, stream.calendar.month
        hosts, apps, first, ticks, point = self._hosts, self._apps, p, self._last_ticks, self._previous
        count, most = self.count, min(PACKET_EVENTS_MAX, self.count + PERIOD - 1 - stream.lines)
        stop = min(stop, p + self.raw_max - self.raw)
        while count < most:
            q = data.find(b"\n", p, p + LINE_MAX + 1)
            if not p < q < stop:
                break
            at, end = p, q - (data[q - 1] == 13)
            if anchor:
                at = data.find(anchor, p, min(end, p + REACH))
                if at < 0:
                    break
                at += len(anchor)
            found = known.match(data, at, end)
            if not found:
                break
            pri, minute, seconds, fraction, host, app, pid = found.groups()
            base = minutes.get(minute) or stream.base(known, minute)
            if base is None or (yearless and known.dates[minute] != turn):
                break
            now = base + int(seconds + fraction if fraction else seconds)
            if not low <= now * scale < high:
                break
            flags = TIME if end == q else TIME | CRLF
            if host is not None:
                h, a = hosts.get(host), apps.get(app)
                if h is None or a is None:
                    break
                flags |= self._put_tag(h, a, pid)
            self._put_line(data[p:at] + data[found.end() : end] if anchor else data[found.end() : end])
            self._flags.append(flags)
            self._ticks += _zigzag(now - ticks)
            ticks, point = now, now * scale
            self._points.append(point)
            if pri is not None:
                self._pri.append(int(pri))
            count, p = count + 1, q + 1
        self._gone(stream, known, count - self.count, p - first, ticks, point)
        return p

    def _gone(self, stream: Stream, known: Known, count: int, size: int, ticks: int, point: int) -> None:
        """So many lines of the same format have been appended: the sums of it."""
        if count:
            points = self._points[-count:]
            self.point_min, self.point_max = min(self.point_min, *points), max(self.point_max, *points)
            self._format += bytes([self._last_index]) * count
            self.count += count
            self.raw += size
            self._run.count += count
            self._run.end += size
            self._last_ticks, self._previous = ticks, point
            stream.count_many(known, count, point)

    def _put_tag(self, host: int, app: int, pid: bytes | None) -> int:
        self._shn.append(host)
        self._app.append(app)
        if pid is None:
            return HOST | APP
        number = int(pid)
        self._pid += _zigzag(number - self._last_pid.get(app, 0))
        self._last_pid[app] = number
        return HOST | APP | PID

    def put_time(self, known: Known, ticks: int, pri: bytes | None) -> None:
        """Which format, and the time as the difference to the row before, in units of the format's last digit."""
        if known is not self._last_known:
            index = self._index.get(known)
            if index is None:
                index = self._index[known] = self._formats.setdefault(known.format, len(self._formats))
            self._last_known, self._last_index = known, index
            self._last_ticks = self._previous // known.scale
        self._format.append(self._last_index)
        self._ticks += _zigzag(ticks - self._last_ticks)
        self._last_ticks = ticks
        if pri is not None:
            self._pri.append(int(pri))

    def put_tail(self, known: Known, found: re.Match[bytes]) -> tuple[int, int]:
        """Host, app and pid behind the time, as far as they are taken: (flags, where the hole ends)."""
        host, app, pid = found.group(5, 6, 7)
        h = self._hosts.get(host)
        a = self._apps.get(app) if app is not None else None
        if app is not None and a is None and len(self._apps) == DICTIONARY_MAX:
            app = None
        if (h is None and len(self._hosts) == DICTIONARY_MAX) or (app is None and known.format.kind != BSD):
            return 0, found.start(5) - 1
        if h is None:
            h = self._hosts[host] = len(self._hosts)
        if app is None:
            self._shn.append(h)
            return HOST, found.end(5) + 1
        if a is None:
            a = self._apps[app] = len(self._apps)
        return self._put_tag(h, a, pid), found.end()


def _line_end(data: bytes, p: int, stop: int, final: bool) -> tuple[int, int, int]:
    """Where the line at p ends, where the next begins (p itself: it is not complete), and its flags."""
    q = data.find(b"\n", p, p + LINE_MAX + 1)
    if q >= 0:
        return (q - 1, q + 1, CRLF) if q > p and data[q - 1] == 13 else (q, q + 1, 0)
    if stop - p > LINE_MAX:
        return p + LINE_MAX, p + LINE_MAX, OPEN | PART
    return (stop, stop, OPEN) if final else (p, p, 0)


def _choose(builders: Sequence[Builder], point: int, timely: bool, kind: int | None) -> int:
    """Index of the builder that takes this point, -1 if there is none."""
    for i, b in enumerate(builders):
        if kind is not None and b.kind != kind:
            continue
        if b.is_open and (not b.late and b.low <= point < b.high if timely else b.late):
            return i
    return -1


def encode(
    stream: Stream,
    handle: int,
    block: Buffer,
    start: int,
    offset: int,
    arrival: int,
    final: bool,
    builders: Sequence[Builder],
    oldest: int,
    newest: int,
) -> tuple[int, int, int]:
    """Lines of block[start:], which begin at the stream's `offset`, into builders: (used, why, which).

    DONE: no complete line is left. NEED: the next line's point (`which`) is in no builder's range. FULL:
    builders[which] can't take the next line. `final`: what is left without a line end is an event too."""
    if not 0 <= start <= len(block) or len(builders) > _BUILDERS_MAX:
        raise ValueError("start beyond the block, or too many builders")
    data = block if isinstance(block, bytes) else bytes(memoryview(block)[start:])
    p = start if data is block else 0
    shift, stop = start - p, len(data)
    base = offset - p
    low = high = 0
    which, why = 0, DONE
    b: Builder | None = None
    kind: int | None = None
    while p < stop:
        end, following, flags = _line_end(data, p, stop, final)
        if following == p:
            break
        budget = stream.budget
        known, found, at = _time_of(stream, data, p, end)
        if known and found:
            pri, minute, seconds, fraction, host = found.group(1, 2, 3, 4, 5)
            ticks = (known.minutes[minute] or 0) + int(seconds + fraction if fraction else seconds)
            point = ticks * known.scale
        else:
            point = stream.point if stream.timed else arrival
        if stream.route is not None:
            before, kind = kind, _route(stream, known, found)
            b = b if kind == before else None
        if b is None or not low <= point < high:
            which = _choose(builders, point, oldest <= point < newest, kind)
            if which >= 0:
                b = builders[which]
                low, high = (0, 0) if b.late else (max(b.low, oldest), min(b.high, newest))
            else:
                why = NEED
        if why == NEED or b is None or not b.make_room(known, handle, base + p, point, following - p):
            why = why or FULL
            if known is None:
                stream.budget = budget  # it will be searched again
            break
        if known and found:
            b.put_time(known, ticks, pri)
            tail, hole = b.put_tail(known, found) if host is not None else (0, found.end())
            text = data[p:at] + data[hole:end] if at > p else data[hole:end]
            b.append(text, following - p, flags | TIME | tail, point)
        else:
            b.append(data[p:end], following - p, flags, point)
        stream.count(known, minute if known else b"", flags & OPEN != 0, point)
        stream.kind = kind or 0
        p = b.burst(stream, data, following, stop, low, high) if known else following
    stream.wanted = kind or 0
    return p + shift, why, point if why == NEED else which


def _route(stream: Stream, known: Known | None, found: re.Match[bytes] | None) -> int:
    """The class of a line, by what it names. One without a time belongs to the one before."""
    assert stream.route is not None
    if known is None or found is None:
        return stream.kind if stream.timed else stream.route[b"", b""]
    host, app = found.group(5), found.group(6)
    if host is None or (app is None and known.format.kind != BSD):
        return stream.route[b"", b""]
    return stream.route[host, app or b""]


def _time_of(stream: Stream, data: bytes, p: int, end: int) -> tuple[Known | None, re.Match[bytes] | None, int]:
    """The format of the line's time, its match, and where the hole starts; None if the line has no time of its own."""
    if stream.part or end - p < _LINE_MIN:
        return None, None, p
    known = stream.current
    if known:
        hit = stream.match(known, data, p, end)
        if hit:
            return known, *hit
    known = stream.learn(data, p, end)
    if known:
        hit = stream.match(known, data, p, end)
        assert hit, "what was just learnt must match"
        return known, *hit
    return None, None, p
