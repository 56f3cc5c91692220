"""`python -m bench rivals` and `python -m bench kafka`: what can run here, and a Kafka to try things with."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.rivals import kafka_jars
from bench.rivals.buck import Buck
from bench.rivals.kafka import Kafka
from bench.rivals.lines import read_log
from bench.rivals.nats import Nats
from bench.rivals.process import RivalError
from bench.rivals.rival import NODES_MAX, Rival, Settings
from bench.rivals.syslog import Syslog

RIVALS: list[type[Rival]] = [Kafka, Nats, Syslog, Buck]
TRY_EVENTS, TRY_S = 200, 60.0


def rivals(words: list[str]) -> int:
    """Say of each rival whether it can run here, its versions, and how it is installed; 1 if one can't."""
    parser = argparse.ArgumentParser(prog="python -m bench rivals", description=rivals.__doc__)
    parser.add_argument("--fetch", action="store_true", help="bring Kafka's jars first, by Maven")
    given = parser.parse_args(words)
    if given.fetch:
        try:
            kafka_jars.fetch()
        except RivalError as error:
            print(error, file=sys.stderr)
    table = Table("name", "runs here", "versions, or what is missing", box=None)
    missing = {rival: rival.missing() for rival in RIVALS}
    for rival, why in missing.items():
        text = why or ", ".join(f"{name} {version}" for name, version in rival.versions().items())
        table.add_row(rival.name, "no" if why else "yes", text)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    return 1 if any(missing.values()) else 0


def kafka(words: list[str]) -> int:
    """Start a real Kafka cluster, say where it listens, and stop it after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m bench kafka", description=kafka.__doc__)
    parser.add_argument("--brokers", type=int, default=3, choices=range(1, NODES_MAX + 1), metavar="N")
    parser.add_argument("--port", type=int, default=0, help="the first of two ports a broker (anywhere)")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop by itself after so long (Ctrl-C)")
    parser.add_argument("--try", action="store_true", dest="attempt", help="send some lines, read them back, stop")
    parser.add_argument("--folder", type=Path, help="for its data, emptied first (a temporary one, removed again)")
    given = parser.parse_args(words)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    settings = Settings(copies=3 if given.brokers > 2 else 2 if given.brokers > 1 else 1)
    with tempfile.TemporaryDirectory(prefix="kafka-") as temporary:
        try:
            kafka_jars.fetch()
            with Kafka(given.folder or Path(temporary) / "kafka", settings, given.port) as cluster:
                ready_s = cluster.start(given.brokers)
                print(f"listening {' '.join(cluster.addresses())}, ready after {ready_s:.1f} s", flush=True)
                if given.attempt:
                    attempt(cluster)
                else:
                    stop.wait(given.seconds or None)
        except RivalError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


def attempt(rival: Rival) -> None:
    """Send a few lines and read them back, once each."""
    sent, read = rival.folder / "sent.log", rival.folder / "read.log"
    reader, sender = rival.consume(read), rival.pace(sent, rate=TRY_EVENTS)
    time.sleep(1.0)
    sender.finish()
    numbers = sorted(one.number for one in read_log(sent) if one.kind == "A")
    deadline = time.monotonic() + TRY_S
    while len(found := sorted(one.number for one in read_log(read))) < len(numbers) and time.monotonic() < deadline:
        time.sleep(0.05)
    reader.finish()
    if not numbers or found != numbers:
        raise RivalError(f"{rival.name}: {len(numbers)} events were acknowledged, {len(found)} read, not the same ones")
    print(f"{len(numbers)} events sent, acknowledged and read back, each once", flush=True)
