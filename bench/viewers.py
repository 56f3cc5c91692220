"""A crowd of viewers in a process of its own: `python -m bench.viewers COUNT ADDRESS...`.

One sees every line and measures how old it is: each line says in `at=` when it was written, by the monotonic clock that
all processes of a host share. The others look for one client of 61 each. When stdin ends, the ages of all
lines, in seconds, how many anybody missed, and the links held are one line of JSON on stdout.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial

import trio

from porter.live import Shown, Viewer
from porter.settings import PorterSettings
from protocol.identity import NodeKey
from service.machine import RealMachine
from service.units import read_address

CLIENTS = 61


async def crowd(count: int, peers: list[str]) -> None:
    """So many viewers, until stdin ends."""
    machine = RealMachine()
    settings = PorterSettings(peer=tuple(map(read_address, peers)))
    ages: list[float] = []

    def measure(shown: Shown) -> bytes:
        ages.append(time.monotonic() - int(shown.line.rpartition(b"at=")[2]) / 1e9)
        return b""

    def count_only(shown: Shown) -> bytes:
        return b""

    async def write(data: bytes) -> None:
        pass

    async def flush() -> None:
        pass

    viewers: list[Viewer] = []
    async with trio.open_nursery() as nursery:
        for number in range(count):
            key = NodeKey.from_seed(number.to_bytes(32, "big"))
            query = f'"client {number % CLIENTS}"' if number else ""
            viewers.append(Viewer(machine, settings, key, query, partial(print, file=sys.stderr)))
            nursery.start_soon(viewers[-1].run, write, flush, count_only if number else measure)
            while len(viewers[-1].watched) < len(peers):  # noqa: ASYNC110  # a viewer has nobody to tell
                await trio.sleep(0.005)
        print("ready", flush=True)
        await machine.slow(sys.stdin.read)
        watched = sum(len(viewer.watched) for viewer in viewers)
        nursery.cancel_scope.cancel()
    print(json.dumps({"ages": ages, "missed": sum(viewer.missed for viewer in viewers), "links": watched}), flush=True)


if __name__ == "__main__":
    trio.run(crowd, int(sys.argv[1]), sys.argv[2:])
