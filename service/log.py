"""What a process says of itself: one JSON object a line on stderr, or plain text when a person looks at a terminal.

    log = get_log("tailer.agent")
    log.info("a file is followed", path=path, size=size)

`event` is a fixed sentence that can be searched for; whatever varies is a field. Nothing here is on a data path: per
connection, per bucket, per mistake, never per line. (A logging library with the same interface costs each idle tailer
megabytes; this is a page.)
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
NS = 1_000_000_000


class _Sink:
    """Where all loggers of the process write; replaced as a whole by `setup`."""

    def __init__(self, stream: TextIO, level: str, plain: bool, time_ns: Callable[[], int]) -> None:
        self.stream = stream
        self.lowest = LEVELS[level]
        self.plain = plain
        self.time_ns = time_ns


_sink = _Sink(sys.stderr, "info", False, time.time_ns)


def setup(
    level: str = "info",
    stream: TextIO | None = None,
    plain: bool | None = None,
    time_ns: Callable[[], int] = time.time_ns,
) -> None:
    """Once, at the start; before it JSON goes to stderr. `plain` None: plain on a terminal."""
    global _sink
    stream = stream or sys.stderr
    _sink = _Sink(stream, level, stream.isatty() if plain is None else plain, time_ns)


class Log:
    """One part's voice; `bind` adds fields that come with each line."""

    def __init__(self, part: str, fields: dict[str, object]) -> None:
        self._part = part
        self._fields = fields

    def bind(self, **fields: object) -> "Log":
        return Log(self._part, {**self._fields, **fields})

    def debug(self, event: str, **fields: object) -> None:
        self._say("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._say("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._say("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._say("error", event, fields)

    def _say(self, level: str, event: str, fields: dict[str, object]) -> None:
        if LEVELS[level] < _sink.lowest:
            return
        at = datetime.fromtimestamp(_sink.time_ns() / NS, UTC).isoformat(timespec="milliseconds")
        render = _plain if _sink.plain else _json
        line = render(at, level, self._part, event, {**self._fields, **fields})
        try:
            _sink.stream.write(line + "\n")
            _sink.stream.flush()
        except (OSError, ValueError):
            pass  # stderr is gone: the work goes on, and there is nobody to tell


def get_log(part: str, **fields: object) -> Log:
    return Log(part, fields)


def _json(at: str, level: str, part: str, event: str, fields: dict[str, object]) -> str:
    return json.dumps({"time": at, "level": level, "part": part, "event": event, **fields}, default=_text)


def _plain(at: str, level: str, part: str, event: str, fields: dict[str, object]) -> str:
    rest = "".join(f"  {name}={_text(value)}" for name, value in fields.items())
    return f"{at[11:23]} {level:7} {part}: {event}{rest}"


def _text(value: object) -> str:
    """Anything as one line: bytes as the text they most likely are (ids are passed as hex by those who log them)."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = str(value)
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
