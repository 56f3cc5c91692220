"""Rows in pure Python: what they hold, and how they become the bytes of their source again.

The half of the twin that knows nothing of where rows come from: `_kernel_py_out.py`, whose docstring says what a `Rows`
is, fills these arrays from a packet or from an archive and then calls `_measure`, which checks each row. Everything
after that trusts them: a hole is printed only for rows that were found printable.
"""

from array import array
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from protocol.columns import APP, CRLF, FLAGS_OK, HOST, NONE, OPEN, PID, PID_MAX, PRI_MAX, TIME, check_names
from protocol.errors import ColumnsError
from protocol.formats import EPOCH, MINUTE_SIZES, SECONDS_END, SECONDS_MIN, SHAPES, Format
from protocol.limits import LINE_MAX, POINT_HZ

_EPOCH_MIN: Final = 1_000_000_000  # the first second of ten digits
_RAW_MAX: Final = LINE_MAX + 2  # a line and its CR LF
_DAWN: Final = datetime(1970, 1, 1, tzinfo=UTC)


def text_size(form: Format) -> int:
    """How long the time itself is, as it stands in the hole."""
    date = 10 if form.kind == EPOCH else MINUTE_SIZES[form.kind] + 2
    return date + (form.mark > 0) + form.digits + (0 if form.extra else len(form.zone))


@lru_cache(maxsize=4096)
def _minute(kind: int, sep: int, minute: int) -> bytes:
    """The time's text down to its minute (counted from 1970, local), by the kind's shape."""
    t = _DAWN + timedelta(minutes=minute)
    fields = {
        "Y": f"{t.year:04}",
        "y": f"{t.year % 100:02}",
        "m": f"{t.month:02}",
        "b": "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * t.month - 3 : 3 * t.month],
        "D": "MonTueWedThuFriSatSun"[3 * t.weekday() : 3 * t.weekday() + 3],
        "d": f"{t.day:02}",
        "e": f"{t.day:02}" if t.day > 9 else chr(sep) + str(t.day),
        "H": f"{t.hour:02}",
        "M": f"{t.minute:02}",
        "?": chr(sep),
    }
    return "".join(fields.get(letter, letter) for letter in SHAPES[kind].decode()).encode("latin-1")


def time_text(form: Format, point: int) -> bytes:
    """The bytes of this point in this format."""
    ticks = point // form.scale
    seconds, fraction = divmod(ticks, 10**form.digits)
    seconds += form.offset
    if form.kind == EPOCH:
        text = b"%d" % seconds
    else:
        text = _minute(form.kind, form.sep, seconds // 60) + b"%02d" % (seconds % 60)
    if form.mark:
        text += bytes((form.mark,))
    if form.digits:
        text += b"%0*d" % (form.digits, fraction)
    return text if form.extra else text + form.zone


class Table:
    """Rows side by side, checked and printed. Invariant: every array has `count` values, `_starts` one more."""

    def __init__(self) -> None:
        self.count = self.raw = 0
        self.lines = b""
        self.formats: tuple[Format, ...] = ()
        self.shn_names: tuple[bytes, ...] = ()
        self.app_names: tuple[bytes, ...] = ()
        self._flags = b""
        self._starts, self._sizes, self._raws, self._at = array("I"), array("I"), array("I"), array("H")
        self._points, self._offsets, self._stream = array("Q"), array("Q"), array("H")
        self._format, self._shn, self._app = array("H"), array("H"), array("H")
        self._pid, self._pri = array("i"), array("B")

    def _tables(
        self, formats: Sequence[Format], format_max: int, shn: Sequence[bytes], app: Sequence[bytes], most: int
    ) -> None:
        if len(formats) > format_max:
            raise ColumnsError(f"{len(formats)} formats, at most {format_max}")
        self.formats = tuple(Format(*form).check() for form in formats)
        self.shn_names, self.app_names = check_names(shn, most), check_names(app, most)

    def _format_at(self, index: int) -> tuple[int, int]:
        if index >= len(self.formats):
            raise ColumnsError(f"format {index} of {len(self.formats)}")
        return self.formats[index].scale, self.formats[index].head

    # ------------------------------------------------------------------------------------------------- both end here

    def _measure(self) -> None:
        """Checks each row against the tables, and finds where its hole is and how long its line was."""
        sizes = [text_size(form) for form in self.formats]
        for i, flag in enumerate(self._flags):
            if not FLAGS_OK[flag]:
                raise ColumnsError(f"row {i} has the flags {flag:#x}")
            at = size = 0
            if flag & TIME:
                form = self.formats[self._format[i]]
                self._check(i, flag, form)
                if form.anchor:
                    start = self._starts[i]
                    at = self.lines.find(form.anchor, start, start + self._sizes[i])
                    if at < 0:
                        raise ColumnsError(f"row {i} without the anchor of its format")
                    at += len(form.anchor) - start
                size = sizes[self._format[i]] + len(self._head(i, form)) + len(self._tail(i, flag, form))
            size += self._sizes[i] + (2 if flag & CRLF else 0 if flag & OPEN else 1)
            if not 0 < size <= _RAW_MAX:
                raise ColumnsError(f"row {i} is a line of {size} bytes")
            self._at.append(at)
            self._raws.append(size)
        self.raw = sum(self._raws)

    def _check(self, i: int, flag: int, form: Format) -> None:
        point = self._points[i]
        seconds = point // POINT_HZ
        if point % form.scale or not SECONDS_MIN <= seconds < SECONDS_END:
            raise ColumnsError(f"row {i} has a time that its format can't write")
        if form.kind == EPOCH and seconds < _EPOCH_MIN:
            raise ColumnsError(f"row {i} has a time that its format can't write")
        if form.head and self._pri[i] > PRI_MAX:
            raise ColumnsError(f"row {i} has the priority {self._pri[i]}")
        if flag & HOST and not (form.tail and self._shn[i] < len(self.shn_names)):
            raise ColumnsError(f"row {i} has host {self._shn[i]} of {len(self.shn_names)}")
        if flag & APP and self._app[i] >= len(self.app_names):
            raise ColumnsError(f"row {i} has application {self._app[i]} of {len(self.app_names)}")
        if flag & PID and not 0 <= self._pid[i] <= PID_MAX:
            raise ColumnsError(f"row {i} has the process number {self._pid[i]}")

    # ------------------------------------------------------------------------------------------------------ the bytes

    def _head(self, i: int, form: Format) -> bytes:
        return b"" if not form.head else b"<%d>%s" % (self._pri[i], b"1 " if form.head == 2 else b"")

    def _tail(self, i: int, flag: int, form: Format) -> bytes:
        if not flag & HOST:
            return b""
        tail = b" %s " % self.shn_names[self._shn[i]]
        if not flag & APP:
            return tail
        tail += self.app_names[self._app[i]]
        if form.head == 2:
            return tail + (b" %d " % self._pid[i] if flag & PID else b" - ")
        return tail + (b"[%d]: " % self._pid[i] if flag & PID else b": ")

    def _text(self, i: int) -> bytes:
        return self.lines[self._starts[i] : self._starts[i] + self._sizes[i]]

    def _line(self, i: int) -> bytes:
        """The line as it was, without its end."""
        text, flag = self._text(i), self._flags[i]
        if not flag & TIME:
            return text
        form, at = self.formats[self._format[i]], self._at[i]
        hole = self._head(i, form) + time_text(form, self._points[i]) + self._tail(i, flag, form)
        return text[:at] + hole + text[at:]

    def _raw_line(self, i: int) -> bytes:
        flag = self._flags[i]
        return self._line(i) + (b"\r\n" if flag & CRLF else b"" if flag & OPEN else b"\n")

    def render(self, first: int = 0, last: int | None = None) -> bytes:
        """The source's bytes of rows first..last (all by default)."""
        last = self.count if last is None else last
        if not 0 <= first <= last <= self.count:
            raise IndexError(f"rows {first} to {last} of {self.count}")
        return b"".join(map(self._raw_line, range(first, last)))

    def render_many(self, rows: Sequence[int]) -> list[bytes]:
        """The source's bytes of each of these rows."""
        if any(not 0 <= row < self.count for row in rows):
            raise IndexError(f"a row beyond {self.count}")
        return [self._raw_line(row) for row in rows]

    def find(self, needle: bytes, ignore_case: bool = False) -> list[int]:
        """The rows whose line may contain the needle; see the module's docstring."""
        if not needle or b"\n" in needle or b"\r" in needle:
            return list(range(self.count))
        wanted = needle.lower() if ignore_case else needle

        def holds(text: bytes) -> bool:
            return wanted in (text.lower() if ignore_case else text)

        return [
            i for i in range(self.count) if holds(self._text(i)) or (self._flags[i] & TIME and holds(self._line(i)))
        ]

    def invalid_utf8(self) -> list[int]:
        """The rows whose text is not UTF-8."""
        return [i for i in range(self.count) if not _is_utf8(self._text(i))]

    # ------------------------------------------------------------------------------------------------------ the views

    @property
    def starts(self) -> memoryview:
        return view(self._starts)

    @property
    def text_sizes(self) -> memoryview:
        return view(self._sizes)

    @property
    def raw_sizes(self) -> memoryview:
        return view(self._raws)

    @property
    def points(self) -> memoryview:
        return view(self._points)

    @property
    def offsets(self) -> memoryview:
        return view(self._offsets)

    @property
    def stream(self) -> memoryview:
        return view(self._stream)

    @property
    def pid(self) -> memoryview:
        return view(self._pid)

    @property
    def pri(self) -> memoryview:
        return view(self._pri)

    @property
    def flags(self) -> memoryview:
        return memoryview(self._flags)

    @property
    def format(self) -> memoryview:
        return _narrow(self._format, len(self.formats))

    @property
    def shn(self) -> memoryview:
        return _narrow(self._shn, len(self.shn_names))

    @property
    def app(self) -> memoryview:
        return _narrow(self._app, len(self.app_names))


def view(values: "array[int]") -> memoryview:
    return memoryview(values).toreadonly()


def _narrow(values: "array[int]", entries: int) -> memoryview:
    """Indexes as one byte each where they fit."""
    return view(values) if entries > NONE else memoryview(bytes(min(value, NONE) for value in values))


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
