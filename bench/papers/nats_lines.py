"""All events of a JetStream stream as lines on stdout: python -m bench.papers.nats_lines HOST:PORT."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from bench.rivals.client import Asked
from bench.rivals.nats_client import Reader
from bench.rivals.rival import Settings

FLUSH = 1 << 20


class Lines:
    """What a reader is given, without a log of it."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lines: list[bytes] = []
        self._size = 0

    def read(self, datas: Iterable[bytes]) -> None:
        """These came."""
        for data in datas:
            self._lines.append(data)
            self._size += len(data)

    def flush(self, at_once: bool = False) -> None:
        """Write them, in large pieces."""
        if self._lines and (at_once or self._size > FLUSH):
            self._out.write(b"\n".join(self._lines) + b"\n")
            self._lines, self._size = [], 0


def main() -> None:
    """Until the last event that is there now."""
    out = Lines(sys.stdout.buffer)
    asked = Asked([sys.argv[1]], Settings(), Path(), True, [], threading.Event())
    with contextlib.redirect_stdout(sys.stderr):  # where it says that it is ready
        asyncio.run(Reader(asked, out).run())  # type: ignore[arg-type]  # it asks a log for no more than these two
    out.flush(at_once=True)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
