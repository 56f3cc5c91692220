"""Times as people write them in a query, as intervals of points."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from protocol.errors import QueryError
from protocol.limits import POINT_HZ

_DATE: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,8}))?)?)?(?:([Zz])|([+-])(\d\d):?(\d\d))?",
    re.ASCII,
)
_AGO: Final = re.compile(r"-?(\d{1,9})([smhdw])", re.ASCII)
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NS: Final = 1_000_000_000 // POINT_HZ  # nanoseconds in a point


def interval(text: str, now_ns: int | None, position: int) -> tuple[int, int]:
    """The points [start, end) that `text` names: a day, a minute, a second, a fraction; or a moment, as [t, t).

    A relative time (`15m`: so long ago; `now`) needs `now_ns`. QueryError, at `position`, for anything else.
    """
    ago = _AGO.fullmatch(text)
    if ago or text == "now":
        if now_ns is None:
            raise QueryError("a time relative to now has no meaning here", position)
        back = int(ago[1]) * _UNIT_S[ago[2]] * POINT_HZ if ago else 0
        moment = max(now_ns // _NS - back, 0)
        return moment, moment
    match = _DATE.fullmatch(text)
    if match is None:
        raise QueryError(f"{text!r} is no time: write 2026-11-22, 2026-11-22T08:30:00Z, 15m or now", position)
    return _date(match, position)


def _date(match: re.Match[str], position: int) -> tuple[int, int]:
    year, month, day, hour, minute, second, fraction, _, sign, zone_h, zone_m = match.groups()
    try:
        offset = timedelta(hours=int(zone_h or 0), minutes=int(zone_m or 0))
        zone = timezone(-offset if sign == "-" else offset)
        moment = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), 0, zone)
        seconds = (moment - _EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError) as error:
        raise QueryError(f"{match[0]!r} is no time: {error}", position) from error
    if seconds < 0:
        raise QueryError(f"{match[0]!r}: no event is older than 1970", position)
    start = seconds * POINT_HZ + int((fraction or "").ljust(8, "0"))
    if fraction:
        return start, start + 10 ** (8 - len(fraction))
    unit_s = 1 if second else 60 if minute else 86_400
    return start, start + unit_s * POINT_HZ


def written(point: int) -> str:
    """A point as people read it: `2026-11-22T08:30:00.12345678Z`."""
    at = datetime.fromtimestamp(point // POINT_HZ, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{at}.{point % POINT_HZ:08d}Z"
