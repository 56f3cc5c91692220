"""Memory for packets on their way in, bounded for the whole process.

A frame larger than one read of the socket reserves its whole length before more of it is read, and gives it back when
its message was dealt with. So a thousand peers that each began a packet hold one read each, and the rest waits in the
kernel's buffers, which is back-pressure. Who holds a reservation while others wait must go on: after FRAME_S it is cut.
"""

from collections import deque

import trio

from protocol.connection import Connection
from protocol.limits import READ_SIZE
from service.machine import Machine

# 8 of the largest packets, or some 250 of usual size; more than a disk takes in a tenth of a second.
IN_FLIGHT_MAX = 64 << 20
FRAME_S = 20.0


class Budget:
    """Bytes that may be under way. First come, first served, so that a large frame isn't starved by small ones."""

    def __init__(self, machine: Machine, total: int = IN_FLIGHT_MAX) -> None:
        self.total = total
        self.used = 0
        self._machine = machine
        self._waiting: deque[tuple[int, trio.Event]] = deque()
        self._reading: dict[Metered, float] = {}  # who holds bytes for a frame that isn't whole yet, since when

    async def begin(self, reader: "Metered", size: int) -> None:
        """Reserve for a frame whose rest is now read; waits until there is room. One frame always fits."""
        if self._waiting or not self._fits(size):
            await self._wait(size)
        else:
            self.used += size
        self._reading[reader] = self._machine.now()

    def whole(self, reader: "Metered") -> None:
        """The frame is here: its reader can't be too slow any more."""
        self._reading.pop(reader, None)

    def release(self, size: int) -> None:
        """Give bytes back, and let in who waits."""
        self.used -= size
        while self._waiting and self._fits(self._waiting[0][0]):
            size, event = self._waiting.popleft()
            self.used += size
            event.set()

    async def _wait(self, size: int) -> None:
        entry = (size, trio.Event())
        self._waiting.append(entry)
        try:
            while not entry[1].is_set():
                with trio.move_on_after(FRAME_S):
                    await entry[1].wait()
                await self._cut_the_slow()
        except trio.Cancelled:
            if entry[1].is_set():
                self.release(size)
            else:
                self._waiting.remove(entry)
            raise

    async def _cut_the_slow(self) -> None:
        """Somebody has waited for long: whoever dawdles over a frame makes room. Its packet comes again."""
        limit = self._machine.now() - FRAME_S
        for reader in [reader for reader, since in self._reading.items() if since <= limit]:
            await reader.cut()

    def _fits(self, size: int) -> bool:
        return self.used == 0 or self.used + size <= self.total


class Metered(trio.abc.Stream):
    """A peer's stream that asks the budget before it reads on in a frame."""

    def __init__(self, stream: trio.abc.Stream, connection: Connection, budget: Budget) -> None:
        self._stream = stream
        self._connection = connection
        self._budget = budget
        self._reserved = 0

    def take(self) -> int:
        """The reservation of the message just read is the caller's now, who gives it back."""
        if not self._reserved:
            return 0
        self._budget.whole(self)
        taken, self._reserved = self._reserved, 0
        return taken

    def give_back(self, size: int) -> None:
        """A message's memory is free again."""
        if size:
            self._budget.release(size)

    async def cut(self) -> None:
        """End a peer that holds memory for too long."""
        await trio.aclose_forcefully(self._stream)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        wanted = self._connection.awaited
        if wanted > max(self._reserved, READ_SIZE):
            await self._budget.begin(self, wanted - self._reserved)
            self._reserved = wanted
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self.give_back(self.take())
        await self._stream.aclose()
