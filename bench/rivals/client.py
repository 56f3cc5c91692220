"""What the sending and reading processes of all systems share: their command line, and when they end.

    python -m bench.rivals.kafka_client pace    --to HOST:PORT... --settings JSON --log FILE --rate 1000 --senders 6
    python -m bench.rivals.kafka_client consume --to HOST:PORT... --settings JSON --log FILE [--past]
    python -m bench.rivals.kafka_client load    --to HOST:PORT... --settings JSON FILE...

The first two say `ready`, go on until their stdin ends, finish what is under way, and end with 0.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.rivals.lines import Log, Pacer, texts
from bench.rivals.rival import Settings

LOOK_S = 0.001
END_S = 45.0  # so long a sender waits for acknowledgements after its last event


@dataclass(frozen=True)
class Asked:
    """What a client was told."""

    to: list[str]
    settings: Settings
    folder: Path  # for files of its own
    past: bool
    files: list[Path]
    ended: threading.Event  # its stdin has

    @property
    def servers(self) -> str:
        return ",".join(self.to)


Pace = Callable[[Asked, Pacer, Log], None]
Consume = Callable[[Asked, Log], None]
Load = Callable[[Asked, Sequence[Path]], None]


def main(pace: Pace, consume: Consume, load: Load | None = None) -> int:
    """Parse, run the job until it returns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=["pace", "consume", "load"])
    parser.add_argument("--to", action="append", required=True, metavar="HOST:PORT")
    parser.add_argument("--settings", default="{}")
    parser.add_argument("--log", type=Path, default=Path("log"))
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--senders", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--skew", type=float, default=0.0)
    parser.add_argument("--number", type=int, default=0)
    parser.add_argument("--lines", type=Path)
    parser.add_argument("--past", action="store_true")
    parser.add_argument("files", nargs="*", type=Path)
    given = parser.parse_intermixed_args()
    asked = Asked(
        given.to, Settings(**json.loads(given.settings)), given.log.parent, given.past, given.files, threading.Event()
    )
    if given.job == "load":
        assert load is not None
        load(asked, given.files)
        return 0
    with Log(given.log) as log:
        lines = texts(given.lines) if given.job == "pace" else []
        threading.Thread(target=_until_stdin_ends, args=(asked.ended,), daemon=True).start()
        if given.job == "pace":
            pace(asked, Pacer(lines, given.rate, given.senders, given.first, given.skew, given.number), log)
        else:
            consume(asked, log)
    return 0


def ready() -> None:
    """Say that it has begun."""
    print("ready", flush=True)


def _until_stdin_ends(ended: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):  # not through its buffer: its lock would be held when we end before it
        pass
    ended.set()
