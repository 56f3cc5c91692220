"""The kernel's twin in Python: how times look, as regular expressions, and what minute they mean.

`pattern` is a format as one expression: it takes a line's time and the ` host app[pid]: ` behind it in one go, and is
as strict as `match_at` in `_kernel_in.pxi`. `layout_at` is the way to a format from a line; `Calendar` knows what a
stream's dates mean, also those without a year.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from protocol.formats import (
    ANDROID,
    BSD,
    CLF,
    CTIME,
    EPOCH,
    ISO,
    MINUTE_SIZES,
    PLAIN,
    SHAPES,
    SLASH,
    Format,
    zone_offset,
)
from protocol.limits import POINT_HZ

_DAYS_MAX = 4096  # remembered of one stream

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
_MONTHS = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"]
_WEEKDAYS = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"]
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_FIELDS = {
    "Y": rb"(?P<Y>\d{4})",
    "b": rb"(?P<m>[A-Z][a-z]{2})",
    "D": rb"(?P<D>[A-Z][a-z]{2})",
    "e": rb"(?P<d> \d|\d\d)",
} | {c: rb"(?P<%b>\d\d)" % c.encode() for c in "ymd"}
_CLOCK_SIZES = {kind: 4 if kind == PLAIN else 6 for kind in SHAPES}  # `00:01:`
_DATES = {
    kind: re.compile(
        b"".join(
            _FIELDS.get(chr(c), b"[T ]" if c == 63 else re.escape(bytes([c])))
            for c in shape.removesuffix(b"H:M:").removesuffix(b"HM")
        )
    )
    for kind, shape in SHAPES.items()
}
_CLOCKS = {b"%02d:%02d:" % (m // 60, m % 60): m * 60 for m in range(1440)}
_CLOCKS |= {text.replace(b":", b""): seconds for text, seconds in _CLOCKS.items()}


class Date(NamedTuple):
    """A minute or a day as it was read: local seconds since 1970, and the year and month it was taken for."""

    seconds: int
    year: int
    month: int


@lru_cache(1024)
def pattern(f: Format) -> re.Pattern[bytes]:
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


class Calendar:
    """What a stream's dates mean: `hint` is a point near which those without a year lie."""

    def __init__(self, hint: int) -> None:
        self.hint = hint
        self.year = self.month = 0  # of the last line without a year; 0: none yet
        self._days: dict[tuple[int, int, bytes], Date | None] = {}

    def read(self, f: Format, minute: bytes) -> Date | None:
        """The text of a minute, as the format writes it; None if there is no such minute."""
        size = _CLOCK_SIZES[f.kind]
        clock = _CLOCKS.get(minute[-size:])
        if clock is None:
            return None
        key = f.kind, f.year, minute[:-size]
        if key in self._days:
            day = self._days[key]
        else:
            day = self._read_day(f, minute[:-size], clock)
            if self.year or not f.yearless:
                if len(self._days) >= _DAYS_MAX:
                    self._days.clear()
                self._days[key] = day
        return Date(day.seconds + clock, day.year, day.month) if day else None

    def turn(self, year: int, month: int) -> None:
        """A line without a year was taken: these are the stream's now."""
        self.year, self.month = year, month
        self._days.clear()

    def _read_day(self, f: Format, text: bytes, clock: int) -> Date | None:
        found = _DATES[f.kind].fullmatch(text)
        if not found:
            return None
        field = found.groupdict()
        month = field["m"]
        m = (_MONTHS.index(month) + 1 if month in _MONTHS else 0) if len(month) == 3 else int(month)
        d, weekday = int(field["d"]), -1
        if "D" in field:
            if field["D"] not in _WEEKDAYS:
                return None
            weekday = _WEEKDAYS.index(field["D"])
        if not 1 <= m <= 12:
            return None
        if "Y" in field or "y" in field:
            y = int(field["Y"]) if "Y" in field else 2000 + int(field["y"])
        else:
            y = f.year or self._year_of(m, d, clock, weekday)
        if not _date_ok(y, m, d):
            return None
        days = days_from_civil(y, m, d)
        return Date(days * 86400, y, m) if weekday < 0 or days % 7 == weekday else None

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
