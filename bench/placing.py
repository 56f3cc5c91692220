"""A tailer's sending half at a steady rate, with a stopwatch: how long each packet takes from its first put to A1.

The journal, the members and the sender are the product's own, as in tailer/agent.py: packets are journaled, handed
over, and held up while the sender says that it is crowded. Only where they come from is another thing: their bodies are
noise of one size, made at a rate. The watch of a packet starts before it is handed to the sender, so its place in the
sender's queue counts, and stops when its last copy's ack has been noted.

    python -m bench.placing --to HOST:PORT --journal DIR --name NAME --members 4 --rate 20e6 --size 65536

It says `ready` when that many bucks are linked, begins at once, goes on until its stdin ends, then waits for what is
under way and prints a JSON list of [begun, stored]: seconds of the monotonic clock, which all processes share; stored
is null if it never was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections import deque

import trio

from bench.sending import key_of
from protocol.limits import POINT_HZ
from protocol.packet import Class, Run, StreamRef
from service.heap import settle
from service.machine import Machine
from service.run import run
from tailer.blocks import Draft
from tailer.commands import COLLECT_EVERY
from tailer.journal import Journal
from tailer.ledger import Entry, Slot
from tailer.members import Members
from tailer.send import Sender

BODIES = 64
RAW_EACH = 10  # times as many raw bytes as a packet's own; nobody looks
CROWDED_POLL_S = 0.2
END_S = 30.0
STREAM = StreamRef(bytes([1] * 16), b"/var/log/noise.log", bytes(8))


class Placing:
    """Packets made, and when each was begun and stored."""

    def __init__(self, machine: Machine, journal: Journal, members: Members, size: int) -> None:
        self.machine, self.journal, self.members = machine, journal, members
        self.sender = Sender(machine, journal, members)
        self.begun: dict[Slot, float] = {}
        self.stored: dict[Slot, float] = {}
        self._offset = 0
        self._bodies = deque(os.urandom(size) for _ in range(BODIES))
        place = journal.ledger.place

        def placed(entry: Entry) -> None:
            self.stored[entry.slot] = time.monotonic()
            place(entry)

        journal.ledger.place = placed  # type: ignore[method-assign]  # the moment of A1

    async def run(self, rate: float, ended: trio.Event) -> None:
        """So many bytes a second, or as many as are taken; what can't be handed over in time is handed over later."""
        begin, sent = self.machine.now(), 0
        while not ended.is_set():
            while self.sender.crowded and not ended.is_set():
                with trio.move_on_after(CROWDED_POLL_S):
                    await self.sender.placed.wait()
            await trio.sleep(max(0.0, begin + sent / rate - self.machine.now()) if rate else 0.0)
            await self.journal.wait_for_room()  # as tailers do: a device may be slow to take what is appended
            packet = self.journal.append(self._draft())
            self.begun[packet.header.epoch, packet.header.number] = time.monotonic()
            await self.sender.deliver(packet)
            sent += len(packet.data)
        with trio.move_on_after(END_S):
            while self.sender.waiting:
                await self.sender.placed.wait()

    def _draft(self) -> Draft:
        body = self._bodies[0]
        self._bodies.rotate()
        first, self._offset = self._offset, self._offset + RAW_EACH * len(body)
        width = self.journal.width
        bucket = self.machine.time_ns() // 10**9 // width * width
        point = bucket * POINT_HZ
        return Draft(
            bucket=bucket, late=False, kind=Class(), count=1, raw=self._offset - first,
            point_min=point, point_max=point, streams=(STREAM,), runs=(Run(0, first, self._offset, 1, point),),
            content=hashlib.sha256(b"%d" % first).digest(), formats=(), shn=(), app=(), sizes=(10,) + (0,) * 7,
            body=body, opened_at=self.machine.now(),
        )  # fmt: skip


async def _until_stdin_ends(ended: trio.Event) -> None:
    # Not through its buffer, whose lock would be held when we end before it.
    while await trio.to_thread.run_sync(os.read, sys.stdin.fileno(), 4096, abandon_on_cancel=True):
        pass
    ended.set()


async def _main(machine: Machine, asked: argparse.Namespace) -> int:
    key, host = key_of(asked.name), asked.name.encode()
    journal = await Journal.open(machine, asked.journal, env="prod", key=key, host=host, epoch=1 << 32)
    members = Members(machine, key, "prod", host, asked.to, journal)
    placing = Placing(machine, journal, members, asked.size)
    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(members.run)
        await members.wait_width()
        while len(members.linked()) < asked.members:
            await members.changed.wait()
        nursery.start_soon(journal.run)
        nursery.start_soon(placing.sender.run)
        nursery.start_soon(_until_stdin_ends, ended)
        print("ready", flush=True)
        await placing.run(asked.rate, ended)
        nursery.cancel_scope.cancel()
    journal.release()
    print(json.dumps([(begun, placing.stored.get(slot)) for slot, begun in placing.begun.items()]), flush=True)
    return 0


def main() -> None:
    """As a tailer is run."""
    parser = argparse.ArgumentParser(prog="python -m bench.placing", description=__doc__)
    parser.add_argument("--to", action="append", required=True)
    parser.add_argument("--journal", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--members", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="bytes a second (0: as fast as they are taken)")
    parser.add_argument("--size", type=int, default=64 << 10, help="bytes of a packet")
    asked = parser.parse_args()
    settle(COLLECT_EVERY)

    async def work(machine: Machine, stop: trio.Event) -> int:
        return await _main(machine, asked)

    run(work)


if __name__ == "__main__":
    main()
