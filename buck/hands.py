"""One disk's writes where a node has several: beside the loop, one after another, and nobody waits for them for long.

A disk can hang without failing: a frozen file system, a dying controller, a network that is gone. A write into it then
blocks for as long as that takes, and if the loop did it, the whole node would hang with it. So a node with several
disks gives each a task of its own that writes in threads; who waits longer than HUNG_S gives its packet to another
disk, and the disk counts as hung until its write has ended. A node with one disk has nothing to go on with, and writes
at once, which costs less.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from service.log import get_log
from service.machine import Machine

log = get_log("buck.hands")

T = TypeVar("T")

HUNG_S = 1.0
JOBS_MAX = 1024


class HungError(Exception):
    """The disk has not done it in time; it may do it later."""


class _Job:
    def __init__(self, work: Callable[[], Awaitable[Any]]) -> None:
        self.work = work
        self.done = trio.Event()
        self.result: Any = None
        self.error: OSError | None = None


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
                await self._work(self._jobs.popleft())
            self._wake = trio.Event()
            await self._wake.wait()

    async def do(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, done in its turn. HungError if that takes too long; an OSError is its own."""
        if not self.beside:
            return await work()
        if len(self._jobs) >= JOBS_MAX:
            raise HungError(f"{self._name}: {JOBS_MAX} writes are waiting")
        job = _Job(work)
        self._jobs.append(job)
        self._wake.set()
        with trio.move_on_after(HUNG_S):
            await job.done.wait()
        if not job.done.is_set():
            raise HungError(f"{self._name}: no answer within {HUNG_S:g} s")
        if job.error is not None:
            raise job.error
        found: T = job.result
        return found

    async def call(self, function: Callable[[], T]) -> T:
        """Inside of `work`: a call that may block."""
        return await self._machine.slow(function) if self.beside else function()

    async def rest(self) -> None:
        """Wait until what was asked for before is done, however long that takes."""
        if self.beside:
            job = _Job(_nothing)
            self._jobs.append(job)
            self._wake.set()
            await job.done.wait()

    async def _work(self, job: _Job) -> None:
        self._busy_since = self._machine.now()
        try:
            job.result = await job.work()
        except OSError as error:
            job.error = error
        finally:
            if self.hung:
                seconds = round(self._machine.now() - self._busy_since, 1)
                log.warning("a disk that hung answers again", disk=self._name, seconds=seconds)
            self._busy_since = float("inf")
            job.done.set()


async def _nothing() -> None:
    await trio.lowlevel.checkpoint()
