"""How far a long job is, on stderr: a moving bar for people at a terminal, a plain line now and then otherwise.

A job says `step(done, what)`; nothing is shown of jobs that end within a second. stdout stays what was asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["Progress", "progress"]

EVERY_S = 10.0  # between plain lines: a log of a nightly job should stay short
QUIET_S = 1.0
Clock = Callable[[], float]


class Progress:
    """Plain lines. `total` may grow while the job learns how much there is; 0: not known."""

    def __init__(self, title: str, total: int, now: Clock, stream: TextIO) -> None:
        self.title = title
        self.total = total
        self._now = now
        self._stream = stream
        self._next = now() + EVERY_S

    def step(self, done: int, what: str = "") -> None:
        """So much is done; `what` is being done now."""
        if self._now() >= self._next:
            self._next = self._now() + EVERY_S
            of = f" of {self.total}" if self.total else ""
            print(f"{self.title}: {done}{of} {what}".rstrip(), file=self._stream, flush=True)

    def close(self) -> None:
        """The job ended."""


class _Bar(Progress):
    """A bar that goes away in the end. rich is loaded only here: it costs a tenth of a second."""

    def __init__(self, title: str, total: int, now: Clock, stream: TextIO) -> None:
        super().__init__(title, total, now, stream)
        self._start = now()
        self._bar: object = None

    def step(self, done: int, what: str = "") -> None:
        from rich.console import Console
        from rich.progress import Progress as Rich

        if self._bar is None and self._now() - self._start >= QUIET_S:
            self._bar = Rich(console=Console(file=self._stream), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total or None)
        if isinstance(self._bar, Rich):
            self._bar.update(self._task, completed=done, total=self.total or None, description=f"{self.title} {what}")

    def close(self) -> None:
        from rich.progress import Progress as Rich

        if isinstance(self._bar, Rich):
            self._bar.stop()


@contextmanager
def progress(title: str, total: int, now: Clock, stream: TextIO | None = None) -> Iterator[Progress]:
    """Show how far the block is."""
    stream = stream or sys.stderr
    shown = (_Bar if stream.isatty() else Progress)(title, total, now, stream)
    try:
        yield shown
    finally:
        shown.close()
