"""One disk's writes where a node has several: beside the loop, one after another, and nobody waits for them for long.

A disk can hang without failing: a frozen file system, a dying controller, a network that is gone. A write into it then
blocks for as long as that takes, and if the loop did it, the whole node would hang with it. So a node with several
disks gives each a task of its own that writes in threads; who waits longer than HUNG_S gives its packet to another
disk, and the disk counts as hung until its write has ended. A node with one disk has nothing to go on with, and writes
at once, which costs less.

Going to a thread and back costs as much as storing a packet. So the packets that came while a disk was busy go together
with the next hop, as far as BATCH_BYTES reach; those of one part are written, or cut off again, as a whole.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from errno import EIO
from typing import Any, TypeVar

import trio

from buck.bucket import Part
from protocol.packet import Packet
from service.log import get_log
from service.machine import Machine

log = get_log("buck.hands")

T = TypeVar("T")

HUNG_S = 1.0
JOBS_MAX = 1024
BATCH_BYTES = 4 << 20  # what a disk takes within some milliseconds: others wait so long


class HungError(Exception):
    """The disk has not done it in time; it may do it later."""


class _Job:
    def __init__(self) -> None:
        self.done = trio.Event()
        self.result: Any = None
        self.error: OSError | None = None


class _Work(_Job):
    def __init__(self, work: Callable[[], Awaitable[Any]]) -> None:
        super().__init__()
        self.work = work


class _Append(_Job):
    def __init__(self, part: Part, packet: Packet) -> None:
        super().__init__()
        self.part, self.packet = part, packet


class Hands:
    """The writes of one disk."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine = machine
        self._name = name
        self._jobs: deque[_Job] = deque()
        self._wake = trio.Event()
        self._busy_since = float("inf")
        self.beside = False  # is there a task that does them?

    @property
    def hung(self) -> bool:
        """Is it at one write for too long?"""
        return self._machine.now() >= self._busy_since + HUNG_S

    async def run(self) -> None:
        """Do what is asked for. Never ends."""
        self.beside = True
        while True:
            while self._jobs:
                await self._do(self._next())
            self._wake = trio.Event()
            await self._wake.wait()

    async def do(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, done in its turn. HungError if that takes too long; an OSError is its own."""
        if not self.beside:
            return await work()
        found: T = await self._done(_Work(work))
        return found

    async def append(self, part: Part, packet: Packet) -> int | None:
        """Append a packet in its turn, together with others; its offset. None: the part takes it not, or has it.

        HungError if that takes too long; an OSError is its own.
        """
        found: int | None = await self._done(_Append(part, packet))
        return found

    async def _done(self, job: _Job) -> Any:
        if len(self._jobs) >= JOBS_MAX:
            raise HungError(f"{self._name}: {JOBS_MAX} writes are waiting")
        self._jobs.append(job)
        self._wake.set()
        with trio.move_on_after(HUNG_S):
            await job.done.wait()
        if not job.done.is_set():
            raise HungError(f"{self._name}: no answer within {HUNG_S:g} s")
        if job.error is not None:
            raise job.error
        return job.result

    async def call(self, function: Callable[[], T]) -> T:
        """Inside of `work`: a call that may block."""
        return await self._machine.slow(function) if self.beside else function()

    async def rest(self) -> None:
        """Wait until what was asked for before is done, however long that takes."""
        if self.beside:
            job = _Work(_nothing)
            self._jobs.append(job)
            self._wake.set()
            await job.done.wait()

    def _next(self) -> list[_Job]:
        """The job whose turn it is; if it appends a packet, those behind it that do so too."""
        batch = [self._jobs.popleft()]
        size = 0
        while isinstance(batch[-1], _Append) and self._jobs and isinstance(self._jobs[0], _Append):
            size += len(batch[-1].packet.data)
            if size >= BATCH_BYTES:
                break
            batch.append(self._jobs.popleft())
        return batch

    async def _do(self, batch: list[_Job]) -> None:
        self._busy_since = self._machine.now()
        try:
            first = batch[0]
            if isinstance(first, _Work):
                first.result = await first.work()
            else:
                await self._append_all([job for job in batch if isinstance(job, _Append)])
        except OSError as error:
            batch[0].error = error
        finally:
            if self.hung:
                seconds = round(self._machine.now() - self._busy_since, 1)
                log.warning("a disk that hung answers again", disk=self._name, seconds=seconds)
            self._busy_since = float("inf")
            for job in batch:
                job.done.set()

    async def _append_all(self, batch: list[_Append]) -> None:
        """One hop for all of them. What counts, and what is known of a part, is changed here and not in the thread."""
        groups: dict[Part, dict[tuple[object, ...], _Append]] = {}
        for job in batch:
            if job.part.lacks(job.packet):
                key = *job.packet.header.key, job.packet.digest
                groups.setdefault(job.part, {}).setdefault(key, job)  # one that two bring at once is written once
        writes = {part: [job.packet for job in jobs.values()] for part, jobs in groups.items()}
        errors = await self.call(lambda: _write(writes)) if writes else {}
        for part, jobs in groups.items():
            for job in jobs.values():
                job.error = errors.get(part) or (
                    OSError(EIO, "its file was given up meanwhile") if part.failed else None
                )
                job.result = part.note(job.packet) if job.error is None else None


def _write(writes: Mapping[Part, list[Packet]]) -> dict[Part, OSError]:
    """In a thread: write what is for each part. Those that didn't work, with the reason."""
    errors = {}
    for part, packets in writes.items():
        try:
            part.write(packets)
        except OSError as error:
            errors[part] = error
    return errors


async def _nothing() -> None:
    await trio.lowlevel.checkpoint()
