"""How a time is written in a line: the formats, each so strict that it renders back to the very same bytes.

What the kernel takes out of a line is one contiguous hole, `[<pri>][1 ]time[ host app[pid]: ]`. A `Format` says how
that hole was written; a packet's header carries the table of its formats, the archive has each as text. `SHAPES` is the
heart of it: the text of a time down to its minute, one letter a field. Both kernels read and print times by it:

    Y year, 4 digits    y year, 2 digits (20yy)    m month, 2 digits    b month, `Jan`    D weekday, `Mon`
    d day, 2 digits     e day, padded by `sep`     H hour   M minute    ? the byte `sep`

After the minute come two digits of seconds, a fraction and a zone. Formats come from strangers too (a packet may be
signed with a stolen key), so `check` refuses whatever the kernel would not have written itself.
"""

import re
from typing import NamedTuple

from protocol.errors import ColumnsError

ISO, BSD, CLF, EPOCH, SLASH, CTIME, PLAIN, ANDROID = range(1, 9)

NAMES = {
    ISO: "iso",  # 2022-02-10T00:01:03.870414+0000
    BSD: "bsd",  # Feb 10 00:01:03: RFC 3164, no year
    CLF: "clf",  # 10/Feb/2022:00:01:03 +0000
    EPOCH: "epoch",  # 1644451263.870414, 1644451263870
    SLASH: "slash",  # 2022/02/10 00:01:03
    CTIME: "ctime",  # Thu Feb 10 00:01:03.870 2022: the year stands where others have a zone; Mongo leaves it out
    PLAIN: "plain",  # 220210 000103
    ANDROID: "android",  # 02-10 00:01:03.870, no year
}
SHAPES = {
    ISO: b"Y-m-d?H:M:",
    BSD: b"b e H:M:",
    CLF: b"d/b/Y:H:M:",
    EPOCH: b"",
    SLASH: b"Y/m/d H:M:",
    CTIME: b"D b e H:M:",
    PLAIN: b"ymd HM",
    ANDROID: b"m-d H:M:",
}
FIELD_SIZES = {"Y": 4, "y": 2, "m": 2, "b": 3, "D": 3, "d": 2, "e": 2, "H": 2, "M": 2}
MINUTE_SIZES = {kind: sum(FIELD_SIZES.get(chr(c), 1) for c in shape) for kind, shape in SHAPES.items()}

ANCHOR_MAX = 40  # a JSON key, or a short constant beginning of a line
EXTRA_MAX = 10  # digits of a fraction after the eighth, which stay in the line
YEAR_MIN, YEAR_MAX = 1971, 2261  # outside of these a time is no time
SECONDS_MIN, SECONDS_END = 31_536_000, 9_214_646_400  # the same in seconds since 1970

ZONE = re.compile(rb"Z|[+-]\d\d|( ?)([+-])(\d\d):?([0-5]\d)")
TEXT = re.compile(
    r"(?P<kind>[a-z]+) head=(?P<head>[012]) tail=(?P<tail>[01]) sep=(?P<sep>\d+) mark=(?P<mark>\d+) "
    r"digits=(?P<digits>\d+) extra=(?P<extra>\d+) zone=(?P<zone>\S*) anchor=(?P<anchor>\S*)"
)


class Format(NamedTuple):
    """One way to write a time, with what stands around it. `check` holds for every one that a kernel makes."""

    kind: int
    head: int = 0  # 1: `<pri>` before the time, 2: `<pri>1 ` (RFC 5424)
    tail: int = 0  # 1: ` host app[pid]: ` may follow (in RFC 5424 ` host app pid `)
    sep: int = 0  # the byte between date and time (ISO), or that pads a day below ten
    mark: int = 0  # the byte before the fraction, 0: none
    digits: int = 0  # of the fraction, at most 8: the eighth is one unit of a point
    extra: int = 0  # further digits, left in the line, and so is the zone behind them
    offset: int = 0  # seconds east of UTC, as the zone says
    zone: bytes = b""
    anchor: bytes = b""  # the hole starts where the first occurrence of this ends; empty: at the line's start

    def check(self) -> "Format":
        """Refuse what no kernel writes."""
        for ok, what in self._claims():
            if not ok:
                raise ColumnsError(f"a format with a wrong {what}: {self!r}")
        return self

    def _claims(self) -> list[tuple[bool, str]]:
        tail = not self.anchor and (
            self.kind == BSD or (self.kind == ISO and self.sep == 84 and bool(self.zone) and not self.extra)
        )
        seps = {ISO: (84, 32), BSD: (32, 48), CTIME: (32, 48)}.get(self.kind, (0,))
        return [
            (self.kind in SHAPES, "kind"),
            (self.head in (0, 1, 2), "head"),
            (not self.head or (self.kind in (ISO, BSD) and not self.anchor), "head for its kind"),
            (self.head != 2 or (self.kind == ISO and self.sep == 84 and not self.extra), "head for RFC 5424"),
            (self.tail == int(tail), "tail"),
            (self.sep in seps, "separator"),
            (self._fraction_ok(), "fraction"),
            (self.offset == zone_offset(self.kind, self.zone), "zone or offset"),
            (len(self.anchor) <= ANCHOR_MAX and b"\n" not in self.anchor, "anchor"),
            (not self.anchor or self.kind not in (PLAIN, ANDROID), "anchor for its kind"),
        ]

    def _fraction_ok(self) -> bool:
        if not (0 <= self.digits <= 8 and 0 <= self.extra <= EXTRA_MAX and (not self.extra or self.digits == 8)):
            return False
        if self.mark:
            return self.mark in (44, 46) and self.digits > 0 and (self.kind != ANDROID or self.digits > 2)
        if self.kind == EPOCH:
            return (self.digits, self.extra) in ((0, 0), (3, 0), (6, 0), (8, 1))
        return self.digits == 0 and self.kind != ANDROID

    @property
    def year(self) -> int:
        """The year that stands in the zone's place, 0 where there is none."""
        return int(self.zone) if self.kind == CTIME and self.zone else 0

    @property
    def yearless(self) -> bool:
        """The line doesn't say its year: it comes from the stream."""
        return self.kind in (BSD, ANDROID) or (self.kind == CTIME and not self.zone)

    @property
    def scale(self) -> int:
        """Units of a point in one of the last digit."""
        return int(10 ** (8 - self.digits))

    def to_text(self) -> str:
        """For the archive's column; `from_text` gives the same format back."""
        return (
            f"{NAMES[self.kind]} head={self.head} tail={self.tail} sep={self.sep} mark={self.mark} "
            f"digits={self.digits} extra={self.extra} zone={_escape(self.zone)} anchor={_escape(self.anchor)}"
        )

    @classmethod
    def from_text(cls, text: str) -> "Format":
        """The format that `to_text` wrote; ColumnsError for any other text."""
        found = TEXT.fullmatch(text)
        kinds = {name: kind for kind, name in NAMES.items()}
        if not found or found["kind"] not in kinds:
            raise ColumnsError(f"not a format: {text[:200]!r}")
        kind, zone, anchor = kinds[found["kind"]], _unescape(found["zone"]), _unescape(found["anchor"])
        head, tail, sep, mark, digits, extra = (
            int(found[name]) if len(found[name]) < 4 else 999
            for name in ("head", "tail", "sep", "mark", "digits", "extra")
        )
        offset = zone_offset(kind, zone)
        if offset is None:
            raise ColumnsError(f"not a format's zone: {text[:200]!r}")
        return cls(kind, head, tail, sep, mark, digits, extra, offset, zone, anchor).check()


def zone_offset(kind: int, zone: bytes) -> int | None:
    """Seconds east of UTC that a zone's text means in this kind of time; None if it can't stand there."""
    if not zone:
        return 0
    if kind == CTIME:
        return 0 if re.fullmatch(rb" \d{4}", zone) and YEAR_MIN <= int(zone) <= YEAR_MAX else None
    if kind == EPOCH or not ZONE.fullmatch(zone):
        return None
    if zone == b"Z":
        return 0
    digits = zone.strip(b" +-").replace(b":", b"")
    hours, minutes = int(digits[:2]), int(digits[2:] or b"0")
    if hours > 23:
        return None
    return (-1 if b"-" in zone else 1) * (hours * 3600 + minutes * 60)


def _escape(data: bytes) -> str:
    return "".join(chr(c) if 33 <= c <= 126 and c != 37 else f"%{c:02X}" for c in data)


def _unescape(text: str) -> bytes:
    parts = re.split("%([0-9A-F]{2})", text)
    joined = b"".join(bytes.fromhex(part) if i % 2 else part.encode() for i, part in enumerate(parts))
    if _escape(joined) != text:
        raise ColumnsError(f"not a format's escapes: {text[:200]!r}")
    return joined


class Columns(NamedTuple):
    """What one packet's body is made of, as `Builder.finish` gives it."""

    lines: memoryview
    small: memoryview  # flags, format, points, shn, app, pid, pri, one after another
    sizes: tuple[int, ...]  # of the eight columns, lines first
    formats: tuple[Format, ...]
    shn: tuple[bytes, ...]
    app: tuple[bytes, ...]
    points: memoryview  # u64 a row: not in the body, for the content hash
