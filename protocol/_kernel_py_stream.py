"""The kernel's twin in Python, a stream's half: what it knows and how it learns. Same results as `_kernel_in.pxi`.

Where the compiled kernel walks bytes, this one has a regular expression for each format (`_kernel_py_times.py`) and a
dictionary of the minutes it has met. What must be equal between the two is told once, there: which lines match, in
which order formats are tried, when something is learnt or forgotten.
"""

import re
from collections.abc import Mapping

from protocol._kernel_py_times import Calendar, Date, layout_at, pattern
from protocol.errors import ColumnsError
from protocol.formats import (
    ANCHOR_MAX,
    BSD,
    CLF,
    EPOCH,
    ISO,
    PLAIN,
    SECONDS_END,
    SECONDS_MIN,
    Format,
)
from protocol.learned import ANCHORS_MAX, PERIOD, SEARCHES, Learned
from protocol.limits import FORMATS_MAX

REACH = 256  # an anchor is looked for in so many first bytes of a line
SEARCH_REACH = 200  # where a time that is searched for may begin
MINUTES_MAX = 4096  # remembered of one format
TRIED_MAX = 64

_HEADS = {2: re.compile(rb"<(?:\d|[1-9]\d|1[0-8]\d|19[01])>1 "), 1: re.compile(rb"<(?:\d|[1-9]\d|1[0-8]\d|19[01])>")}
_START = re.compile(rb"(?<![0-9A-Za-z])\d")


class Known:
    """A format that a stream knows: its pattern, the minutes met, and the counts that decide on its keeping."""

    __slots__ = ("anchor", "dates", "first", "format", "hits", "match", "minutes", "scale", "tail", "yearless")

    def __init__(self, format_: Format, first: bool) -> None:
        self.format = format_
        self.anchor = format_.anchor
        self.scale = format_.scale
        self.tail = format_.tail
        self.yearless = format_.yearless
        self.match = pattern(format_).match
        self.first = first
        self.hits = 0
        self.minutes: dict[bytes, int | None] = {}  # -> ticks of its begin, UTC, in the format's last digit
        self.dates: dict[bytes, tuple[int, int]] = {}  # yearless: -> year and month


class Stream:
    """Format state of one stream; survives packets. `hint`: a point near which dates without a year lie."""

    def __init__(self, hint: int = 0, state: bytes = b"") -> None:
        self.calendar = Calendar(hint)
        self._point = 0
        self.part = self._timed = False
        self.lines = 0
        self.budget = SEARCHES
        self.slots: list[Known] = []
        self.current: Known | None = None
        self.route: Mapping[tuple[bytes, bytes], int] | None = None  # (host, app) -> class; lines are dealt by it
        self.kind = self.wanted = 0  # the class of the last line, and of the one that needs another builder
        self.tried: dict[Format, Known] = {}  # for their minutes only
        if state:
            self._restore(Learned.decode(state))

    def _restore(self, given: Learned) -> None:
        for format_, hits in zip(given.formats, given.hits, strict=True):
            known = self._intern(format_)
            if known is None:
                raise ColumnsError("a stream's state with too many formats")
            known.hits = hits
        self._point, self._timed, self.part = given.point, given.timed, given.part
        self.lines, self.budget = given.lines, given.budget
        self.calendar = Calendar(given.hint)
        self.calendar.turn(given.year, given.month)
        self.current = self.slots[given.current] if given.current >= 0 else None

    def state(self) -> bytes:
        """What a checkpoint keeps: `Stream(state=…)` goes on just as this one would."""
        current = self.slots.index(self.current) if self.current else -1
        formats = tuple(known.format for known in self.slots)
        hits = tuple(known.hits for known in self.slots)
        calendar = self.calendar
        numbers = (calendar.year, calendar.month, self.lines, self.budget, current)
        return Learned(calendar.hint, self._point, self._timed, self.part, *numbers, formats, hits).encode()

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
        date = Date(int(minute) * 100, 0, 0) if f.kind == EPOCH else self.calendar.read(f, minute)
        base = None
        if date and SECONDS_MIN <= date.seconds - f.offset < SECONDS_END:
            base = (date.seconds - f.offset) * int(10**f.digits)
            known.dates[minute] = date.year, date.month
        known.minutes[minute] = base
        return base

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

    def count_many(self, known: Known, count: int, point: int) -> None:
        """So many lines of the current format are taken, none of which ends a PERIOD or turns the year."""
        known.hits += count
        self.lines += count
        self._point = point

    def _turn(self, known: Known, minute: bytes) -> None:
        """A line without a year was taken: its year and month are the stream's now."""
        date = known.dates[minute]
        if date != (self.calendar.year, self.calendar.month):
            self.calendar.turn(*date)
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
