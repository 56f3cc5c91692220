"""What the archive's objects are called, and so what they are.

    <env>/date=YYYY-MM-DD/HH.p<NN>.parquet     a part: rows, and a footer that says what they prove (footer.py)
    <env>/date=YYYY-MM-DD/HH.v<NN>.json        a verdict: how complete the hour is, as of which seals; the highest rules
    <env>/claims/<NNNNNNNNNN>                  who is about to put which part (claims.py)

Parts of an hour are numbered without gaps, and who writes part N has read the footers of all before it. So no packet
and no byte of a stream is in two parts, and a reader who globs `**/*.parquet` sees each event once.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from porter.objects import Objects

HOUR_S = 3600
NAME = re.compile(
    r"(?P<env>[^/]+)/date=(?P<date>\d{4}-\d\d-\d\d)/(?P<hour>\d\d)\.(?P<kind>[pv])(?P<number>\d{2,6})\.(?:parquet|json)"
)


class PartName(NamedTuple):
    """Where a part or a verdict stands: `hour` in seconds since 1970, `number` counted from 0."""

    env: str
    hour: int
    kind: str  # p: part, v: verdict
    number: int

    @property
    def text(self) -> str:
        """The hour, as people read it."""
        return f"{datetime.fromtimestamp(self.hour, UTC):%Y-%m-%d %H}h"

    def __str__(self) -> str:
        ending = "parquet" if self.kind == "p" else "json"
        return f"{folder(self.env, self.hour)}/{hour_text(self.hour)}.{self.kind}{self.number:02d}.{ending}"


def folder(env: str, hour: int) -> str:
    """The day's folder."""
    return f"{env}/date={datetime.fromtimestamp(hour, UTC):%Y-%m-%d}"


def hour_text(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour, UTC):%H}"


def parse(name: str) -> PartName | None:
    """What an object's name says; None for objects that are not ours."""
    found = NAME.fullmatch(name)
    if not found:
        return None
    try:
        start = datetime.strptime(f"{found['date']} {found['hour']}", "%Y-%m-%d %H").replace(tzinfo=UTC)
    except ValueError:
        return None
    made = PartName(found["env"], int(start.timestamp()), found["kind"], int(found["number"]))
    return made if str(made) == name else None


def hour_of(second: int) -> int:
    """The start of the hour."""
    return second - second % HOUR_S


def everything(objects: Objects, env: str) -> list[PartName]:
    """All parts and all verdicts of an env, by hour, then parts before verdicts, in the order written."""
    return sorted(name for info in objects.list(f"{env}/") if (name := parse(info.name)))


def parts(objects: Objects, env: str, start: int = 0, end: int = 0, kind: str = "p") -> list[PartName]:
    """The parts (or verdicts) of an env between two times (0: open), oldest hour first, in the order written."""
    return [name for name in everything(objects, env) if name.kind == kind and within(name, start, end)]


def of_hour(objects: Objects, env: str, hour: int, kind: str = "p") -> list[PartName]:
    """Parts (or verdicts) of one hour, in the order written."""
    found = (parse(info.name) for info in objects.list(f"{folder(env, hour)}/{hour_text(hour)}.{kind}"))
    return sorted(name for name in found if name and name.kind == kind)


def within(name: PartName, start: int, end: int) -> bool:
    """Does its hour meet the time from `start` to `end` (0: open)?"""
    return (not end or name.hour < end) and (not start or name.hour + HOUR_S > start)
