"""Memory for packets on their way in, bounded for the whole process.

A frame larger than one read of the socket reserves its whole length before more of it is read, and gives it back when
its message was dealt with. So a thousand peers that each began a packet hold one read each, and the rest waits in the
kernel's buffers, which is back-pressure. Who holds a reservation while others wait must go on: after FRAME_S it is cut.
"""

from collections import deque

import trio

from protocol.connection import Connection
from service.machine import Machine

# 8 of the largest packets, or some 250 of usual size; more than a disk takes in a tenth of a second.
IN_FLIGHT_MAX = 64 << 20
FRAME_S = 20.0


class Budget:
    """Bytes that may be under way. First come, first served, so that a large frame isn't starved by small ones."""

    def __init__(self, total: int = IN_FLIGHT_MAX) -> None:
        self.total = total
        self.used = 0
        self._waiting: deque[tuple[int, trio.Event]] = deque()

    @property
    def crowded(self) -> bool:
        return bool(self._waiting)

    async def acquire(self, size: int) -> None:
        """Wait until `size` bytes are free. One frame always fits, whatever its size."""
        if not self._waiting and self._fits(size):
            self.used += size
            return
        entry = (size, trio.Event())
        self._waiting.append(entry)
        try:
            await entry[1].wait()
        except trio.Cancelled:
            if entry[1].is_set():
                self.release(size)
            else:
                self._waiting.remove(entry)
            raise

    def release(self, size: int) -> None:
        """Give bytes back, and let in who waits."""
        if not size:
            return
        self.used -= size
        while self._waiting and self._fits(self._waiting[0][0]):
            size, event = self._waiting.popleft()
            self.used += size
            event.set()

    def _fits(self, size: int) -> bool:
        return self.used == 0 or self.used + size <= self.total


class Metered(trio.abc.Stream):
    """A peer's stream that asks the budget before it reads on in a frame."""

    def __init__(self, machine: Machine, stream: trio.abc.Stream, connection: Connection, budget: Budget) -> None:
        self._machine = machine
        self._stream = stream
        self._connection = connection
        self._budget = budget
        self._reserved = 0
        self._since = 0.0

    def take(self) -> int:
        """The reservation of the message just read is the caller's now, who releases it."""
        taken, self._reserved = self._reserved, 0
        return taken

    def give_back(self, size: int) -> None:
        """A message's memory is free again."""
        self._budget.release(size)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        wanted = _begun(self._connection)
        if wanted > self._reserved:
            await self._budget.acquire(wanted - self._reserved)
            self._reserved, self._since = wanted, self._machine.now()
        while self._reserved:
            self._cut_if_crowded()
            with trio.move_on_after(FRAME_S):
                return await self._stream.receive_some(max_bytes)
        return await self._stream.receive_some(max_bytes)

    def _cut_if_crowded(self) -> None:
        if self._budget.crowded and self._machine.now() - self._since > FRAME_S:
            raise trio.BrokenResourceError("a frame took too long while others waited for its memory")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self._budget.release(self.take())
        await self._stream.aclose()


def _begun(connection: Connection) -> int:
    """The payload's length of the frame that has begun to arrive; 0 between frames."""
    head = connection._frames._head  # the only look inside: what the peer announced is nobody else's business
    return head[0] if head else 0
