"""The kernel's twin in Python, a stream's half: reading times, learning formats. Same results as `_kernel_in.pxi`.

Where the compiled kernel walks bytes, this one has a regular expression for each format, which takes a line's time and
its ` host app[pid]: ` in one go, and a dictionary of the minutes it has met. What must be equal between the two is told
once, there: which lines match, in which order formats are tried, when something is learnt or forgotten.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from protocol.errors import ColumnsError
from protocol.formats import (
    ANCHOR_MAX,
    ANDROID,
    BSD,
    CLF,
    CTIME,
    EPOCH,
    ISO,
    MINUTE_SIZES,
    PLAIN,
    SECONDS_END,
    SECONDS_MIN,
    SHAPES,
    SLASH,
    Format,
    zone_offset,
)
from protocol.learned import ANCHORS_MAX, PERIOD, SEARCHES, Learned
from protocol.limits import FORMATS_MAX, POINT_HZ

REACH = 256  # an anchor is looked for in so many first bytes of a line
SEARCH_REACH = 200  # where a time that is searched for may begin
MINUTES_MAX = 4096  # remembered of one format
TRIED_MAX = 64

_YEAR = rb"(?:197[1-9]|19[89]\d|2[01]\d\d|22[0-5]\d|226[01])"
_HOURS, _SIXTY = rb"(?:[01]\d|2[0-3])", rb"[0-5]\d"
_ZONE = rb"(?:Z(?![0-9A-Za-z])|(?: ?[+-]%b:?%b|[+-]%b(?!:?%b))(?!\d))" % (_HOURS, _SIXTY, _HOURS, _SIXTY)
_NONE = rb"((?!))?"  # a group that never takes part, so that all patterns have the same seven
_NAME = rb"([!-~]{1,128})"
_APP = rb"([!-9;-Z\\-~]{1,128})"  # without [ and :
_PID = rb"(0|[1-9]\d{0,8})"
_DIGITS = re.compile(rb"\d+")
_FRACTION = re.compile(rb"([.,])(\d+)")
_ZONE_AT = re.compile(_ZONE)
_YEAR_AT = re.compile(rb" %b(?!\d)" % _YEAR)
_HEADS = {2: re.compile(rb"<(?:\d|[1-9]\d|1[0-8]\d|19[01])>1 "), 1: re.compile(rb"<(?:\d|[1-9]\d|1[0-8]\d|19[01])>")}
_MONTHS = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"]
_WEEKDAYS = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"]
_START = re.compile(rb"(?<![0-9A-Za-z])\d")
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_FIELDS = {
    "Y": rb"(?P<Y>\d{4})",
    "b": rb"(?P<m>[A-Z][a-z]{2})",
    "D": rb"(?P<D>[A-Z][a-z]{2})",
    "e": rb"(?P<d> \d|\d\d)",
} | {c: rb"(?P<%b>\d\d)" % c.encode() for c in "ymdHM"}
_MINUTES = {
    kind: re.compile(b"".join(_FIELDS.get(chr(c), b"[T ]" if c == 63 else re.escape(bytes([c]))) for c in shape))
    for kind, shape in SHAPES.items()
}


class Date(NamedTuple):
    """A minute as it was read: local seconds since 1970, and the year and month it was taken for."""

    seconds: int
    year: int
    month: int


class Known:
    """A format that a stream knows: its pattern, the minutes met, and the counts that decide on its keeping."""

    __slots__ = ("anchor", "dates", "first", "format", "hits", "match", "minutes", "scale", "tail", "yearless")

    def __init__(self, format_: Format, first: bool) -> None:
        self.format = format_
        self.anchor = format_.anchor
        self.scale = format_.scale
        self.tail = format_.tail
        self.yearless = format_.yearless
        self.match = _pattern(format_).match
        self.first = first
        self.hits = 0
        self.minutes: dict[bytes, int | None] = {}  # -> ticks of its begin, UTC, in the format's last digit
        self.dates: dict[bytes, tuple[int, int]] = {}  # yearless: -> year and month


@lru_cache(1024)
def _pattern(f: Format) -> re.Pattern[bytes]:
    """Groups: pri, minute, seconds, fraction, host, app, pid."""
    pri = rb"<(\d|[1-9]\d|1[0-8]\d|19[01])>" + (b"1 " if f.head == 2 else b"") if f.head else _NONE
    size = MINUTE_SIZES[f.kind]
    if f.kind == EPOCH:
        time = rb"([12]\d{7})(\d\d)"
    else:
        sep = {ISO: 10, BSD: 4, CTIME: 8}.get(f.kind, -1)
        loose = b"." * size if sep < 0 else b"." * sep + b"[%c%b]" % (f.sep, b"" if f.kind == ISO else b"1-3")
        time = b"(" + loose + b"." * (size - sep - 1 if sep >= 0 else 0) + b")([0-5]\\d)"
    if f.digits:
        fraction = (re.escape(bytes([f.mark])) if f.mark else b"") + rb"(\d{%d})" % f.digits
    else:
        fraction = rb"(?![.,]\d)" + _NONE
    zone = _zone_pattern(f)
    behind = rb"(?=\d{%d}%b)" % (f.extra, zone) if f.extra else zone
    return re.compile(b"(?s)" + pri + time + fraction + behind + _tail_pattern(f))


def _zone_pattern(f: Format) -> bytes:
    if f.kind == EPOCH:
        return rb"(?=[^0-9A-Za-z])"
    if not f.zone:
        return rb"(?!\d)(?! %b(?!\d))" % _YEAR if f.kind == CTIME else rb"(?!\d)(?!%b)" % _ZONE
    if f.zone == b"Z":
        return rb"Z(?![0-9A-Za-z])"
    return re.escape(f.zone) + (rb"(?!\d)(?!:[0-5]\d)" if len(f.zone) == 3 else rb"(?!\d)")


def _tail_pattern(f: Format) -> bytes:
    if not f.tail:
        return _NONE * 3
    if f.kind == BSD:
        return rb"(?: %b (?:%b(?:\[%b\])?: )?)?" % (_NAME, _APP, _PID)
    if f.head == 2:
        return rb"(?: %b %b (?:-|%b) )?" % (_NAME, _APP, _PID)
    return rb"(?: %b%b %b(?:\[%b\])?: )?" % (b"" if f.head else b"(?=[0-9A-Za-z])", _NAME, _APP, _PID)


def days_from_civil(y: int, m: int, d: int) -> int:
    """Days since 1970 of a date."""
    if m <= 2:
        y, m = y - 1, m + 12
    return 365 * y + y // 4 - y // 100 + y // 400 + (153 * (m - 3) + 2) // 5 + d - 719469


def _date_ok(y: int, m: int, d: int) -> bool:
    leap = y % 4 == 0 and (y % 100 != 0 or y % 400 == 0)
    return 1971 <= y <= 2261 and 1 <= m <= 12 and 1 <= d <= _MONTH_DAYS[m - 1] + (m == 2 and leap)


def _year_of_day(days: int) -> int:
    """The year that a day since 1970 lies in."""
    y = 1970 + days * 400 // 146097
    return y + (days_from_civil(y + 1, 1, 1) <= days) - (days_from_civil(y, 1, 1) > days)


class Stream:
    """Format state of one stream; survives packets. `hint`: a point near which dates without a year lie."""

    def __init__(self, hint: int = 0, state: bytes = b"") -> None:
        self.hint = hint
        self._point = 0
        self.part = self._timed = False
        self.year = self.month = self.lines = 0
        self.budget = SEARCHES
        self.slots: list[Known] = []
        self.current: Known | None = None
        self.tried: dict[Format, Known] = {}  # for their minutes only
        if state:
            self._restore(Learned.decode(state))

    def _restore(self, given: Learned) -> None:
        for format_, hits in zip(given.formats, given.hits, strict=True):
            known = self._intern(format_)
            if known is None:
                raise ColumnsError("a stream's state with too many formats")
            known.hits = hits
        self.hint, self._point, self._timed, self.part = given.hint, given.point, given.timed, given.part
        self.year, self.month, self.lines, self.budget = given.year, given.month, given.lines, given.budget
        self.current = self.slots[given.current] if given.current >= 0 else None

    def state(self) -> bytes:
        """What a checkpoint keeps: `Stream(state=…)` goes on just as this one would."""
        current = self.slots.index(self.current) if self.current else -1
        formats = tuple(known.format for known in self.slots)
        hits = tuple(known.hits for known in self.slots)
        numbers = (self.year, self.month, self.lines, self.budget, current)
        return Learned(self.hint, self._point, self._timed, self.part, *numbers, formats, hits).encode()

    @property
    def point(self) -> int:
        """The point of the last line; 0: none yet. Setting it is setting what a line without a time gets."""
        return self._point

    @point.setter
    def point(self, value: int) -> None:
        self._point = value
        self._timed = value != 0

    @property
    def timed(self) -> bool:
        """A line had a time of its own."""
        return self._timed

    # ------------------------------------------------------------ reading a time

    def match(self, known: Known, data: bytes, p: int, end: int) -> tuple[re.Match[bytes], int] | None:
        """Does the line data[p:end] carry a time in exactly this format? The match, and where the hole starts."""
        at = p
        if known.anchor:
            at = data.find(known.anchor, p, min(end, p + REACH))
            if at < 0:
                return None
            at += len(known.anchor)
        found = known.match(data, at, end)
        return (found, at) if found and self.base(known, found.group(2)) is not None else None

    def base(self, known: Known, minute: bytes) -> int | None:
        """Ticks at the begin of a minute; None if it is none."""
        if minute in known.minutes:
            return known.minutes[minute]
        if len(known.minutes) >= MINUTES_MAX:
            known.minutes.clear()
            known.dates.clear()
        f = known.format
        date = Date(int(minute) * 100, 0, 0) if f.kind == EPOCH else self._read_minute(f, minute)
        base = None
        if date and SECONDS_MIN <= date.seconds - f.offset < SECONDS_END:
            base = (date.seconds - f.offset) * int(10**f.digits)
            known.dates[minute] = date.year, date.month
        known.minutes[minute] = base
        return base

    def _read_minute(self, f: Format, minute: bytes) -> Date | None:
        found = _MINUTES[f.kind].fullmatch(minute)
        if not found:
            return None
        field = found.groupdict()
        month = field["m"]
        m = (_MONTHS.index(month) + 1 if month in _MONTHS else 0) if len(month) == 3 else int(month)
        d, clock = int(field["d"]), int(field["H"]) * 3600 + int(field["M"]) * 60
        weekday = -1
        if "D" in field:
            if field["D"] not in _WEEKDAYS:
                return None
            weekday = _WEEKDAYS.index(field["D"])
        if int(field["H"]) > 23 or int(field["M"]) > 59 or not 1 <= m <= 12:
            return None
        if "Y" in field or "y" in field:
            y = int(field["Y"]) if "Y" in field else 2000 + int(field["y"])
        else:
            y = f.year or self._year_of(m, d, clock, weekday)
        if not _date_ok(y, m, d):
            return None
        days = days_from_civil(y, m, d)
        return Date(days * 86400 + clock, y, m) if weekday < 0 or days % 7 == weekday else None

    def _year_of(self, m: int, d: int, clock: int, weekday: int) -> int:
        """The year of a date that has none: turned where the month jumps, or the last that is not after the hint."""
        if self.year:
            return self.year + (self.month - m > 6) - (m - self.month > 6)
        if not self.hint:
            return 0
        latest = self.hint // POINT_HZ + 86400
        last = _year_of_day(latest // 86400)
        for y in range(last, last - 12, -1):
            if _date_ok(y, m, d):
                days = days_from_civil(y, m, d)
                if days * 86400 + clock <= latest and (weekday < 0 or days % 7 == weekday):
                    return y
        return 0

    def count(self, known: Known | None, minute: bytes, part: bool, point: int) -> None:
        """The line is taken: what the stream learns from it, and only now."""
        if known:
            self.current = known
            known.hits += 1
            self._timed = True
            if known.yearless:
                self._turn(known, minute)
        self._point = point
        self.part = part
        self.lines += 1
        if self.lines == PERIOD:
            self._forget()

    def _turn(self, known: Known, minute: bytes) -> None:
        """A line without a year was taken: its year and month are the stream's now."""
        date = known.dates[minute]
        if date != (self.year, self.month):
            self.year, self.month = date
            for slot in (*self.slots, *self.tried.values()):
                if slot.yearless:
                    slot.minutes.clear()
                    slot.dates.clear()
            known.dates[minute] = date

    # ------------------------------------------------------------ learning formats

    def learn(self, data: bytes, p: int, end: int) -> Known | None:
        """The format of a line that the current one does not fit. Counts its searches in the budget."""
        known = self._learn_at_start(data, p, end) or self._learn_anchored(data, p, end)
        if not known and self.budget > 0 and sum(slot.first for slot in self.slots) < ANCHORS_MAX:
            self.budget -= 1
            known = self._search(data, p, end)
        return known

    def _fits(self, f: Format, data: bytes, t: int, end: int) -> bool:
        """Is there a time in exactly this format at t, where its head begins?"""
        slot = self.tried.get(f)
        if slot is None:
            if len(self.tried) >= TRIED_MAX:
                self.tried.clear()
            slot = self.tried[f] = Known(f, False)
        found = slot.match(data, t, end)
        return found is not None and self.base(slot, found.group(2)) is not None

    def _intern(self, f: Format) -> Known | None:
        known = False
        for slot in self.slots:
            if slot.format == f:
                return slot
            known = known or slot.anchor == f.anchor
        if len(self.slots) == FORMATS_MAX or (not known and sum(slot.first for slot in self.slots) == ANCHORS_MAX):
            return None
        self.slots.append(Known(f, not known))
        return self.slots[-1]

    def _learn_at_start(self, data: bytes, p: int, end: int) -> Known | None:
        t, head = p, 0
        if data[p] == 60:
            for head in (2, 1):
                found = _HEADS[head].match(data, p, end)
                if found:
                    break
            else:
                return None
            t = found.end()
        f = layout_at(data, t, end)
        if f is None or (head and f.kind != ISO and (f.kind != BSD or head == 2)):
            return None
        if head == 2 and (f.sep != 84 or f.extra):
            return None
        tail = f.kind == BSD or (f.kind == ISO and f.sep == 84 and f.zone != b"" and not f.extra)
        f = f._replace(head=head, tail=int(tail))
        return self._intern(f) if self._fits(f, data, p, end) else None

    def _learn_anchored(self, data: bytes, p: int, end: int) -> Known | None:
        for slot in self.slots:
            if slot.first and slot.anchor:
                at = data.find(slot.anchor, p, min(end, p + REACH))
                if at < 0:
                    continue
                f = layout_at(data, at + len(slot.anchor), end)
                if f and f.kind < PLAIN and self._fits(f, data, at + len(slot.anchor), end):
                    return self._intern(f._replace(anchor=slot.anchor))
        return None

    def _search(self, data: bytes, p: int, end: int) -> Known | None:
        """Look for a time all over the line's first bytes, and make what stands before it an anchor."""
        best: tuple[int, int, Format] | None = None
        json = data[p] == 123
        for t in _candidates(data, p, min(end, p + SEARCH_REACH) - 9):
            f = layout_at(data, t, end)
            if not f or f.kind >= PLAIN or not self._fits(f, data, t, end):
                continue
            a = _anchor_of(data, p, t, f)
            if a is None:
                continue
            if best is None:
                best = t, a, f
            if not json:
                break
            if data.startswith((b'"ts', b'"ti', b'"@t'), a):
                best = t, a, f
                break
        if best is None or best[0] - best[1] > ANCHOR_MAX:
            return None
        t, a, f = best
        anchor = data[a:t]
        if data.find(anchor, p, min(end, p + REACH)) != a:
            return None
        return self._intern(f._replace(anchor=anchor))

    def _forget(self) -> None:
        """The end of a PERIOD: drop the formats without a hit, so that one-off lines don't fill the table."""
        self.slots = [slot for slot in self.slots if slot.hits]
        seen: set[bytes] = set()
        for slot in self.slots:
            slot.hits = 0
            slot.first = slot.anchor not in seen
            seen.add(slot.anchor)
        if self.current not in self.slots:
            self.current = None
        self.budget = SEARCHES
        self.lines = 0


def _candidates(data: bytes, p: int, stop: int) -> list[int]:
    """Where a time may begin: digits with neither digit nor letter before them, or a letter behind a first `[`."""
    found = [m.start() for m in _START.finditer(data, p + 1, max(stop, p + 1))]
    if data[p] == 91 and p + 1 < stop and data[p + 1 : p + 2].isalpha():
        found.insert(0, p + 1)
    return found


def _key_before(data: bytes, p: int, t: int) -> int:
    """JSON: back from a value to the quote that opens its key; the line's start if there is none."""
    t -= 1
    while t > p and data[t] in b'"\\ :':
        t -= 1
    return max(data.rfind(b'"', p, t + 1), p)


def _anchor_of(data: bytes, p: int, t: int, f: Format) -> int | None:
    """Where the anchor of a time at t begins: the bracket before it, the constant text, the JSON key."""
    if data[p] == 123:
        a = _key_before(data, p, t)
        return None if f.kind == EPOCH and a == p else a
    if f.kind == EPOCH and t - p > 2:
        return None
    return t - 1 if f.kind == CLF else p


def _kind_at(data: bytes, t: int, end: int) -> tuple[int, int]:
    """What the bytes at t look like at first sight, and how many digits stand there."""
    if end - t < 10:
        return 0, 0
    if 65 <= data[t] <= 90:
        if data[t + 3] != 32:
            return 0, 0
        return (CTIME if data[t + 4 : t + 5].isalpha() else BSD), 0
    found = _DIGITS.match(data, t, min(end, t + 20))
    run = found.end() - t if found else 0
    mark = data[t + run : t + run + 1]
    if run == 4:
        return {b"-": ISO, b"/": SLASH}.get(mark, 0), run
    if run == 2:
        return {b"/": CLF, b"-": ANDROID}.get(mark, 0), run
    return {6: PLAIN, 10: EPOCH, 13: EPOCH, 16: EPOCH, 19: EPOCH}.get(run, 0), run


def layout_at(data: bytes, t: int, end: int) -> Format | None:
    """How is the time at t written, if it is one? A format without anchor, head and tail; its pattern must agree."""
    kind, run = _kind_at(data, t, end)
    if kind == 0 or (kind != EPOCH and end - t < MINUTE_SIZES[kind] + 2):
        return None
    sep = mark = digits = 0
    zone = b""
    if kind == ISO:
        sep = data[t + 10]
        if sep not in b"T ":
            return None
    elif kind in (BSD, CTIME):
        sep = 48 if data[t + (4 if kind == BSD else 8)] == 48 else 32
    x = t + (10 if kind == EPOCH else MINUTE_SIZES[kind] + 2)
    if kind == EPOCH and run > 10:
        digits = run - 10
        x += digits
    else:
        fraction = _FRACTION.match(data, x, end)
        if fraction:
            mark, digits, x = fraction.group(1)[0], len(fraction.group(2)), fraction.end()
    if digits > 18 or (kind == ANDROID and digits < 3):
        return None
    if kind != EPOCH:
        found = (_YEAR_AT if kind == CTIME else _ZONE_AT).match(data, x, end)
        zone = found.group() if found else b""
    offset = zone_offset(kind, zone)
    assert offset is not None
    return Format(kind, 0, 0, sep, mark, min(digits, 8), max(digits - 8, 0), offset, zone)
