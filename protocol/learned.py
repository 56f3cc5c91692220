"""What a stream has learnt, as bytes for a checkpoint: the same from both kernels, and they go on from it alike.

    version u8 | hint u64 | point u64 | bits u8 (1 timed, 2 part) | year u16 | month u8 | lines u16 | budget u8 |
    current u8 | count u8
    per format: kind, head, tail, sep, mark, digits, extra: u8 each | hits u16 | zone u8+bytes | anchor u8+bytes

All integers are big-endian; `current` is 255 for none. Bounded by FORMATS_MAX formats of at most 70 bytes each.
"""

import struct
from typing import NamedTuple, Self

from protocol.columns import POINT_MAX
from protocol.errors import ColumnsError
from protocol.formats import YEAR_MAX, YEAR_MIN, Format, zone_offset
from protocol.limits import FORMATS_MAX

VERSION = 1
ANCHORS_MAX = 8  # different anchors of a stream: more are one-off lines
SEARCHES = 64  # lines of a PERIOD that may be searched for a time all over: it costs
PERIOD = 1000  # after so many lines formats without a hit are forgotten

_HEAD = struct.Struct(">BQQBHBHBBB")
_FORMAT = struct.Struct(">7BH")


class Learned(NamedTuple):
    """The state of a stream; its members are what `_kernel_in.pxi` explains at its `State`."""

    hint: int
    point: int
    timed: bool
    part: bool
    year: int
    month: int
    lines: int
    budget: int
    current: int  # -1: none
    formats: tuple[Format, ...]
    hits: tuple[int, ...]

    def encode(self) -> bytes:
        """The bytes that `decode` takes back."""
        current = 255 if self.current < 0 else self.current
        bits = self.timed | self.part << 1
        parts = [
            _HEAD.pack(
                *(VERSION, self.hint, self.point, bits, self.year, self.month),
                *(self.lines, self.budget, current, len(self.formats)),
            )
        ]
        for format_, hits in zip(self.formats, self.hits, strict=True):
            parts.append(_FORMAT.pack(*format_[:7], hits))
            parts.extend(bytes([len(text)]) + text for text in (format_.zone, format_.anchor))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The state again; ColumnsError for bytes that no kernel wrote."""
        try:
            version, hint, point, bits, year, month, lines, budget, current, count = _HEAD.unpack_from(data)
            if version != VERSION:
                raise ColumnsError(f"a stream's state of version {version}, this one reads {VERSION}")
            at, formats, hits = _HEAD.size, [], []
            for _ in range(count):
                format_, hit, at = _format(data, at)
                formats.append(format_)
                hits.append(hit)
        except (struct.error, IndexError):
            raise ColumnsError("a stream's state that ends early") from None
        known = -1 if current == 255 else current
        state = cls(
            hint, point, bool(bits & 1), bool(bits & 2), year, month, lines, budget, known, tuple(formats), tuple(hits)
        )
        if at != len(data) or bits > 3 or not state._sane():
            raise ColumnsError("a stream's state that contradicts itself")
        return state

    def _sane(self) -> bool:
        year_ok = (self.year == 0 and self.month == 0) or (YEAR_MIN <= self.year <= YEAR_MAX and 1 <= self.month <= 12)
        return (
            year_ok
            and max(self.hint, self.point) <= POINT_MAX
            and self.lines < PERIOD
            and self.budget <= SEARCHES
            and self.current < len(self.formats) <= FORMATS_MAX
            and sum(self.hits) <= self.lines
            and len(set(self.formats)) == len(self.formats)
            and len({format_.anchor for format_ in self.formats}) <= ANCHORS_MAX
        )


def _format(data: bytes, at: int) -> tuple[Format, int, int]:
    kind, head, tail, sep, mark, digits, extra, hits = _FORMAT.unpack_from(data, at)
    zone, at = _text(data, at + _FORMAT.size)
    anchor, at = _text(data, at)
    offset = zone_offset(kind, zone)
    if offset is None:
        raise ColumnsError(f"a stream's state with the zone {zone!r}")
    return Format(kind, head, tail, sep, mark, digits, extra, offset, zone, anchor).check(), hits, at


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 1 + data[at]
    if end > len(data):
        raise ColumnsError("a stream's state that ends early")
    return bytes(data[at + 1 : end]), end
