"""Every name a buck puts on a disk, in one place.

```
<disk>.key                                 the node's key, beside the first disk (service/keys.py)
<disk>/lock                                held while a process owns the disk
<disk>/node                                the node the disk belongs to, in hex
<disk>/id                                  the disk's own name, 16 random bytes in hex
<disk>/<env>/width                         seconds of a window
<disk>/<env>/clean                         only after a clean stop: nothing was left open
<disk>/<env>/disks                         the ids of all disks that the node had at its last start
<disk>/<env>/boot                          the boot of the host in which the disk was last taken
<disk>/<env>/unsure                        buckets that may lack packets which were acknowledged
<disk>/<env>/draining                      this node is leaving: it takes no new packets (on each disk)
<disk>/<env>/peers                         the bucks ever seen (first disk)
<disk>/<env>/roster                        which tailers were ever met, and who is retired (every disk)
<disk>/<env>/seals/<tailer>.seals          the seals of one tailer
<disk>/<env>/<YYYYMMDD>/<HHMMSS>.<part>.open | .closed | .bad | .left | .archived
```

A part's state is its name: it's `.open` while packets are appended, `.closed` once nothing will be, `.bad` after an
fsync of it failed, `.left` when what a bad one may have lost was brought back. Each change is one rename. What stays of
a part whose packets are in the archive is `.archived` (remnant.py). Days and hours are UTC, of the bucket's start.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

OPEN, CLOSED, BAD, LEFT, ARCHIVED = "open", "closed", "bad", "left", "archived"

# The wire's buckets are u32: 2106 is far enough, and a bucket always has a day.
BUCKET_MAX = (1 << 32) - 1

DAY_S = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = re.compile(r"[0-9]{8}")
_PART = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})\.([0-9]{1,9})\.(open|closed|bad|left|archived)")
_RENEWED = re.compile(r"[0-9]{6}\.[0-9]{1,9}\.(open|archived)\.new")
_SEALS = re.compile(r"([0-9a-f]{32})\.seals")


class PartName(NamedTuple):
    """What the name of a bucket file says."""

    bucket: int
    part: int
    state: str

    @property
    def day(self) -> str:
        return _day_of(self.bucket // DAY_S)

    @property
    def file(self) -> str:
        return f"{(_EPOCH + timedelta(seconds=self.bucket)).strftime('%H%M%S')}.{self.part}.{self.state}"


def parse_part(day: str, name: str) -> PartName | None:
    """The name read back, or None if it is none of ours."""
    match = _PART.fullmatch(name)
    start = _day_start(day)
    if match is None or start is None:
        return None
    hours, minutes, seconds = int(match[1]), int(match[2]), int(match[3])
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    bucket = start + 3600 * hours + 60 * minutes + seconds
    return PartName(bucket, int(match[4]), match[5]) if 0 <= bucket <= BUCKET_MAX else None


@lru_cache(maxsize=16)  # every path of a part asks for it
def _day_of(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).strftime("%Y%m%d")


@lru_cache(maxsize=16)  # a start reads a day's names one after another, of years maybe
def _day_start(day: str) -> int | None:
    """The day's first second; None if it is none."""
    if not is_day(day):
        return None
    try:
        return (datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
    except ValueError:
        return None


def is_renewed(name: str) -> bool:
    """Is this a copy of an open part, or what stays of one, that a crash left unfinished?"""
    return _RENEWED.fullmatch(name) is not None


def is_day(name: str) -> bool:
    """Is this a folder of bucket files?"""
    return _DAY.fullmatch(name) is not None


def join(*names: str) -> str:
    """A path of these names."""
    return "/".join(names)


def seals_name(tailer: bytes) -> str:
    """The file that keeps a tailer's seals."""
    return f"{tailer.hex()}.seals"


def parse_seals(name: str) -> bytes | None:
    """The tailer whose seals a file keeps, or None if the name is none of ours."""
    match = _SEALS.fullmatch(name)
    return bytes.fromhex(match[1]) if match else None
