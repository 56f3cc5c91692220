"""Lines that can be told apart by any reader, and the logs that senders and readers keep of them.

A paced line is a real one with a time, its sender and its number in front:

    2026-11-22T20:15:04.123456Z event=3/1042 Jun  9 06:06:20 combo syslogd 1.4.1: restart.

Senders number their lines from 0, without gaps. Logs are text, a record a line, times in nanoseconds of
CLOCK_MONOTONIC, which all processes of a host share (`claimed`: of the clock that stands in the line, since 1970):

    S sender number time claimed     due by its rate, and from then on waiting, in the sender's own program too
    A sender number time             its acknowledgement was seen
    F sender number time why         the system gave it up
    R sender number time             a reader was given it

They are written as it happens, so what a killed process has logged is there; only its last line may be torn.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from bench import corpus

EVENT = re.compile(rb"event=(\d+)/(\d+) ")
LINE_MAX = 1000  # bytes of a real line; the rest of a longer one is left out
FLUSH_S = 0.1
SAMPLE = "loghub_full/Linux.log"


class Record(NamedTuple):
    """One line of a log. `rest`: the claimed time of an S, the reason of an F."""

    kind: str
    sender: int
    number: int
    ns: int
    rest: str = ""


class Event(NamedTuple):
    """One paced event. Nanoseconds; `line` is without its end."""

    sender: int
    number: int
    due_ns: int
    claimed_ns: int
    line: bytes


def files(pattern: str = "") -> list[Path]:
    """The logs that are loaded: those that fit a glob (sorted), or the shared samples. ValueError if there are none."""
    if not pattern:
        found = corpus.files() if corpus.SHARED.is_dir() else []
    else:
        parts = Path(pattern).absolute().parts
        found = sorted(path for path in Path(parts[0]).glob(str(Path(*parts[1:]))) if path.is_file())
    if not found:
        raise ValueError(f"no log fits {pattern or corpus.SHARED}: name some with --logs GLOB")
    return found


def texts(path: Path | None = None, count: int = 20_000) -> list[bytes]:
    """The first real lines of a file, without their ends, without control characters, not empty."""
    with (path or corpus.SHARED / SAMPLE).open("rb") as file:
        lines = [line for line, _ in zip(file, range(count), strict=False)]
    kept = [bytes(byte for byte in line[:LINE_MAX] if byte >= 32).strip() for line in lines]
    return [line for line in kept if line]


def event(text: bytes, sender: int, number: int, claimed_ns: int) -> bytes:
    """The line to be sent, without its end."""
    moment = datetime.fromtimestamp(claimed_ns // 10**9, UTC)
    stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{claimed_ns // 1000 % 10**6:06}Z event={sender}/{number} "
    return stamp.encode() + text


def told(data: bytes) -> tuple[int, int] | None:
    """Sender and number of the first event in these bytes, whatever a system has put around it."""
    found = EVENT.search(data)
    return (int(found[1]), int(found[2])) if found else None


class Log:
    """A log being written. Whole lines reach the file each FLUSH_S if `flush` is called often enough."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._lines: list[bytes] = []
        self._flushed = time.monotonic()

    def sent(self, event: Event) -> None:
        self._lines.append(b"S %d %d %d %d\n" % event[:4])

    def acked(self, sender: int, number: int, ns: int | None = None) -> None:
        self._lines.append(b"A %d %d %d\n" % (sender, number, time.monotonic_ns() if ns is None else ns))

    def failed(self, sender: int, number: int, why: str) -> None:
        reason = " ".join(why.split()).encode()
        self._lines.append(b"F %d %d %d %s\n" % (sender, number, time.monotonic_ns(), reason))

    def read(self, datas: Iterable[bytes]) -> None:
        """Bytes that a reader was given just now, an event each; what holds none is no concern of the log."""
        now = time.monotonic_ns()
        self._lines += [b"R %d %d %d\n" % (*one, now) for one in map(told, datas) if one]

    def flush(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if self._lines and (at_once or now >= self._flushed + FLUSH_S):
            data, self._lines, self._flushed = b"".join(self._lines), [], now
            while data:
                data = data[self._file.write(data) :]

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush(at_once=True)
        self._file.close()


def read_log(path: Path) -> Iterator[Record]:
    """The records of a log, in the order in which they were made; a torn last line is left out."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                kind, sender, number, ns, *rest = line.decode().rstrip("\n").split(" ", 4)
                yield Record(kind, int(sender), int(number), int(ns), rest[0] if rest else "")


class Pacer:
    """What is to be sent by now: lines of so many senders in turn, together `rate` a second."""

    def __init__(
        self,
        lines: Sequence[bytes],
        rate: float,
        senders: int = 1,
        first: int = 0,
        skew_s: float = 0.0,
        number: int = 0,
    ) -> None:
        """`first`: the first sender's name; the others follow it. `skew_s`: so much do their clocks go ahead.
        `number`: of the first line of each, where they go on with what others began."""
        self._lines, self._rate, self._senders, self.first, self._number = lines, rate, senders, first, number
        self._skew_ns = int(skew_s * 1e9)
        self.made = 0
        self.begin()

    @property
    def names(self) -> range:
        return range(self.first, self.first + self._senders)

    def begin(self) -> None:
        """Its time counts from now on."""
        self._began, self._began_wall_ns = time.monotonic(), time.time_ns()

    def due(self) -> Iterator[Event]:
        """One event after another, as long as one is due. A sender that was held up makes up for it: its events' times
        are those at which they should have gone."""
        while (passed := self.made / self._rate) < time.monotonic() - self._began:
            number, sender = divmod(self.made, self._senders)
            sender += self.first
            number += self._number
            text = self._lines[self.made % len(self._lines)]
            self.made += 1
            since = int(passed * 1e9)
            claimed_ns = self._began_wall_ns + since + self._skew_ns
            due_ns = int(self._began * 1e9) + since
            yield Event(sender, number, due_ns, claimed_ns, event(text, sender, number, claimed_ns))


def weigh(files: Sequence[Path]) -> tuple[int, int]:
    """Bytes of all files, and their lines that aren't empty; files that don't change are counted once."""
    size = lines = 0
    for path in files:
        stat = path.stat()
        size += stat.st_size
        lines += _lines_of(_Known((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns), path))
    return size, lines


@dataclass(frozen=True)
class _Known:
    """A file, whatever its name."""

    what: tuple[int, ...]
    path: Path = field(compare=False)


@functools.lru_cache(256)
def _lines_of(known: _Known) -> int:
    with known.path.open("rb") as file:
        return sum(line not in (b"\n", b"\r\n") for line in file)
