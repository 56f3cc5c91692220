"""Matches that wait until nothing earlier can come, and then go out in order of time: a merge with bounded memory.

A bucket's packets come in order of the earliest point in each, so what is earlier than the packet at hand is final:

    packets   [------]                       time ->
                 [--------]
                     [-----]
                          [-----]   <- at hand
    final     =============
    waits                  ======   as much as overlaps at one point, however large the bucket is

Two kinds: `Matches` holds objects, where each line was tested; `Columns` (columnar.py) holds whole packets' text and
their points, where a query takes lines as they are.
"""

from __future__ import annotations

import base64
import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from protocol.matching import without_end
from protocol.when import written

__all__ = ["Match", "Matches", "Waiting", "as_json", "as_raw", "as_text", "escaped"]

ROWS = 8192  # that are put out at once
MATCH_COST = 200  # bytes of memory beside the text


class Match(NamedTuple):
    """One line that was found. In this order they sort by time, then by where they come from."""

    point: int
    host: bytes
    path: bytes
    tailer: bytes
    stream: bytes
    offset: int
    line: bytes  # as it was, with its end
    app: bytes
    late: bool


class Waiting(Protocol):
    """What was found and not written yet: `size` bytes of memory, `count` lines since the beginning."""

    size: int
    count: int

    def take(self, before: int | None = None) -> Iterator[bytes]:
        """What has points below that (all), in order, rendered; it waits no longer. To be read to its end."""


class Matches:
    """Lines that were tested one by one."""

    def __init__(self, render: Callable[[Match], bytes]) -> None:
        self.size = self.count = 0
        self._render = render
        self._found: list[Match] = []

    def add(self, found: Sequence[Match]) -> None:
        """These were found."""
        self._found += found
        self.count += len(found)
        self.size += sum(len(match.line) + MATCH_COST for match in found)

    def take(self, before: int | None = None) -> Iterator[bytes]:
        """See Waiting."""
        self._found.sort()
        end = len(self._found) if before is None else bisect_left(self._found, before, key=lambda match: match.point)
        ready, self._found = self._found[:end], self._found[end:]
        self.size = sum(len(match.line) + MATCH_COST for match in self._found)
        for at in range(0, end, ROWS):
            yield b"".join(map(self._render, ready[at : at + ROWS]))


def as_raw(match: Match) -> bytes:
    """The line as it was; one that had no end gets one, so that two never become one."""
    return match.line if match.line.endswith(b"\n") else match.line + b"\n"


def as_text(match: Match, *, escape: bool) -> bytes:
    """`host path: line`. `escape`: for a terminal, which must not obey what somebody else has written to a log."""
    text = b"%s %s: %s" % (match.host, match.path, without_end(match.line))
    return (escaped(text) if escape else text) + b"\n"


def escaped(text: bytes) -> bytes:
    """Without what a terminal would obey."""
    shown = text.decode("utf-8", "backslashreplace")
    if shown.isprintable():
        return shown.encode()
    return "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in shown).encode()


def as_json(match: Match) -> bytes:
    """One JSON object. `raw` (base64) is there only where the line is not UTF-8, and `line` thus not exact."""
    document: dict[str, object] = {
        "time": written(match.point),
        "host": match.host.decode("utf-8", "backslashreplace"),
        "path": match.path.decode("utf-8", "backslashreplace"),
        "app": match.app.decode("utf-8", "backslashreplace"),
        "line": without_end(match.line).decode("utf-8", "replace"),
        "tailer": match.tailer.hex(),
        "stream": match.stream.hex(),
        "offset": match.offset,
        "late": match.late,
    }
    try:
        match.line.decode()
    except UnicodeDecodeError:
        document["raw"] = base64.b64encode(match.line).decode()
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"
