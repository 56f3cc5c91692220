"""Rows in pure Python: what they hold, and how they become the bytes of their source again.

The half of the twin that knows nothing of where rows come from: `_kernel_py_out.py`, whose docstring says what a `Rows`
is, fills these arrays from a packet or from an archive and then calls `_measure`, which checks each row. Everything
after that trusts them: a hole is printed only for rows that were found printable.
"""

from array import array
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from protocol.columns import APP, CRLF, FLAGS_OK, HOST, NONE, OPEN, PID, PID_MAX, PRI_MAX, TIME, check_names
from protocol.errors import ColumnsError
from protocol.formats import EPOCH, MINUTE_SIZES, SECONDS_END, SECONDS_MIN, SHAPES, Format
from protocol.limits import LINE_MAX, POINT_HZ

_POINT_MIN, _POINT_END = SECONDS_MIN * POINT_HZ, SECONDS_END * POINT_HZ
_EPOCH_MIN: Final = 1_000_000_000 * POINT_HZ  # the first second of ten digits
_RAW_MAX: Final = LINE_MAX + 2  # a line and its CR LF
_DAWN: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TWO: Final = [b"%02d" % i for i in range(60)]
_BYTES: Final = [bytes((i,)) for i in range(256)]
_SCALES: Final = [10 ** (8 - digits) for digits in range(9)]
_GOOD: Final = bytes(flags for flags in range(256) if FLAGS_OK[flags])
_ENDS: Final = {0: b"\n", CRLF: b"\r\n", OPEN: b""}
_END_SIZES: Final = {flags: len(end) for flags, end in _ENDS.items()}
_HEAD_SIZES: Final = (0, 2, 4)  # `<` and `>`, `1 `


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
    seconds, fraction = divmod(point, POINT_HZ)
    seconds += form.offset
    if form.kind == EPOCH:
        text = b"%d" % seconds
    else:
        text = _minute(form.kind, form.sep, seconds // 60) + _TWO[seconds % 60]
    if form.mark:
        text += _BYTES[form.mark]
    if form.digits:
        text += (b"%08d" % fraction)[: form.digits]
    return text if form.extra else text + form.zone


class Shape(NamedTuple):
    """What is the same in all holes of one format, host and application, with or without a pid."""

    form: Format
    middle: bytes  # what follows the time; the pid's digits, if there are any, come behind it
    end: bytes  # what follows the pid
    size: int  # of the hole, but for the digits of priority and pid


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
        self._units: list[tuple[int, int]] = []  # of each format: points in one of its last digit; its head
        self._shapes: dict[tuple[int, int, int, int], Shape] = {}

    def _tables(
        self, formats: Sequence[Format], format_max: int, shn: Sequence[bytes], app: Sequence[bytes], most: int
    ) -> None:
        if len(formats) > format_max:
            raise ColumnsError(f"{len(formats)} formats, at most {format_max}")
        self.formats = tuple(Format(*form).check() for form in formats)
        self._units = [(form.scale, form.head) for form in self.formats]
        self.shn_names, self.app_names = check_names(shn, most), check_names(app, most)

    def _set_flags(self, flags: bytes) -> None:
        """The flags, checked: from here on PID means APP, that HOST, that TIME."""
        wrong = flags.translate(None, _GOOD)
        if wrong:
            raise ColumnsError(f"flags that can't be: {wrong[0]:#x}")
        self._flags = flags

    # ------------------------------------------------------------------------------------------------- both end here

    def _measure(self) -> None:
        """Checks each row against the tables, and finds where its hole is and how long its line was."""
        for i, (flag, size) in enumerate(zip(self._flags, self._sizes, strict=True)):
            at = 0
            size += _END_SIZES[flag & (CRLF | OPEN)]
            if flag & TIME:
                form, _middle, _end, hole = self._shape(i, flag)
                size += hole + self._check(i, flag, form)
                if form.anchor:
                    start = self._starts[i]
                    at = self.lines.find(form.anchor, start, start + self._sizes[i])
                    if at < 0:
                        raise ColumnsError(f"row {i} without the anchor of its format")
                    at += len(form.anchor) - start
            if not 0 < size <= _RAW_MAX:
                raise ColumnsError(f"row {i} is a line of {size} bytes")
            self._at.append(at)
            self._raws.append(size)
        self.raw = sum(self._raws)

    def _check(self, i: int, flag: int, form: Format) -> int:
        """Is what the row's own numbers say printable? Returns the digits of priority and pid."""
        point, digits = self._points[i], 0
        if not (_EPOCH_MIN if form.kind == EPOCH else _POINT_MIN) <= point < _POINT_END:
            raise ColumnsError(f"row {i} has a time that its format can't write")
        if form.digits < 8 and point % _SCALES[form.digits]:
            raise ColumnsError(f"row {i} has a time finer than its format can write")
        if form.head:
            if self._pri[i] > PRI_MAX:
                raise ColumnsError(f"row {i} has the priority {self._pri[i]}")
            digits = len(str(self._pri[i]))
        if flag & PID:
            if not 0 <= self._pid[i] <= PID_MAX:
                raise ColumnsError(f"row {i} has the process number {self._pid[i]}")
            digits += len(str(self._pid[i]))
        return digits

    def _shape(self, i: int, flag: int) -> Shape:
        key = (self._format[i], flag & (HOST | APP | PID), self._shn[i], self._app[i])
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = self._new_shape(*key)
        return shape

    def _new_shape(self, index: int, flag: int, shn: int, app: int) -> Shape:
        """Checks the indexes, and puts together what surrounds the pid."""
        if index >= len(self.formats):
            raise ColumnsError(f"format {index} of {len(self.formats)}")
        form = self.formats[index]
        middle = end = b""
        if flag & HOST:
            if not form.tail or shn >= len(self.shn_names):
                raise ColumnsError(f"host {shn} of {len(self.shn_names)}")
            middle = b" %s " % self.shn_names[shn]
        if flag & APP:
            if app >= len(self.app_names):
                raise ColumnsError(f"application {app} of {len(self.app_names)}")
            middle += self.app_names[app]
            if form.head == 2:
                middle, end = (middle + b" ", b" ") if flag & PID else (middle + b" - ", b"")
            else:
                middle, end = (middle + b"[", b"]: ") if flag & PID else (middle + b": ", b"")
        return Shape(form, middle, end, text_size(form) + _HEAD_SIZES[form.head] + len(middle) + len(end))

    # ------------------------------------------------------------------------------------------------------ the bytes

    def _text(self, i: int) -> bytes:
        return self.lines[self._starts[i] : self._starts[i] + self._sizes[i]]

    def _line(self, i: int) -> bytes:
        """The line as it was, without its end."""
        start = self._starts[i]
        end, flag = start + self._sizes[i], self._flags[i]
        if not flag & TIME:
            return self.lines[start:end]
        form, hole, after, _size = self._shape(i, flag)
        hole = time_text(form, self._points[i]) + hole
        if flag & PID:
            hole += b"%d" % self._pid[i] + after
        if form.head:
            hole = b"<%d>%s" % (self._pri[i], b"1 " if form.head == 2 else b"") + hole
        at = start + self._at[i]
        return self.lines[start:at] + hole + self.lines[at:end]

    def _raw_line(self, i: int) -> bytes:
        return self._line(i) + _ENDS[self._flags[i] & (CRLF | OPEN)]

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
