"""Memory for what peers send and ask, bounded for the whole process and for each of them.

    what comes  a frame larger than READ_MIN reserves its whole length before more of it is read, and gives it back when
                its message was dealt with: before the answer is sent, so who reads no answers holds nothing here.
                What may stay for long (a packet that waits for its fsync) is kept within PEER_SHARE a link
    read ahead  more than READ_MIN at once only of what is free, for links that fill their reads
    answers     each reserves what it may weigh before it is read or made, ANSWERS_MAX a link at the same time

So a thousand peers that each began a packet hold READ_MIN each, and the rest waits in the kernel's buffers, which is
back-pressure. Who holds a reservation while others wait must go on: after FRAME_S over a frame, or ANSWER_S over a part
of an answer, it is cut.
What comes and what is answered have a budget each: nobody waits for one while holding the other's last byte.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from buck.errors import Declined
from protocol.connection import Connection
from protocol.limits import READ_MAX, READ_MIN
from protocol.link import Link
from protocol.messages import Message
from service.machine import Machine

# Of --memory, what each of the three may take at most.
INCOMING_SHARE, AHEAD_SHARE, ANSWERS_SHARE = 0.4, 0.2, 0.4
# Of what all may send, what one link may have under way: enough for 32 usual packets, and never all of it.
PEER_SHARE = 0.25
# One link reads at most this part of what is free for reading ahead: some is left for whoever comes next.
AHEAD_PART = 8
FRAME_S = 20.0  # for a frame, which comes to one that may be busy itself
ANSWER_S = 5.0  # for one part of an answer
TINY = 1_024  # a question that stays is not counted below that
ANSWERS_MAX = 2  # of one link at the same time: one on its way, and the next being read
WAIT_S = 30.0  # for memory for an answer: some rounds of that; then the peer may ask another buck


class Holder(Protocol):
    """Whoever holds memory that others may need."""

    async def cut(self) -> None:
        """End the link that holds it."""


class Budget:
    """Bytes that may be under way. First come, first served, so that a large frame isn't starved by small ones."""

    def __init__(self, machine: Machine, total: int, stall_s: float = FRAME_S) -> None:
        self.total = total
        self._stall_s = stall_s
        self.used = 0
        self._machine = machine
        self._waiting: deque[tuple[int, trio.Event]] = deque()
        self._dawdling: dict[Holder, float] = {}  # who holds bytes until its peer has done its part, since when

    async def reserve(self, size: int) -> None:
        """Wait until there is room. One always fits."""
        if self._waiting or not self._fits(size):
            await self._wait(size)
        else:
            self.used += size

    def begin(self, holder: Holder) -> None:
        """From now on it is for the peer to go on: to send the rest of a frame, to take an answer."""
        self._dawdling[holder] = self._machine.now()

    def end(self, holder: Holder) -> None:
        """The peer has gone on."""
        self._dawdling.pop(holder, None)

    def part(self, wanted: int) -> int:
        """Reserve at once some of what is free, `wanted` at most; how much that is."""
        taken = max(0, min(wanted, (self.total - self.used) // AHEAD_PART))
        self.used += taken
        return taken

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
                with trio.move_on_after(self._stall_s):
                    await entry[1].wait()
                await self._cut_the_slow()
        except trio.Cancelled:
            if entry[1].is_set():
                self.release(size)
            else:
                self._waiting.remove(entry)
                self.release(0)  # it may have kept out smaller ones behind it
            raise

    async def _cut_the_slow(self) -> None:
        """Somebody has waited for long: whoever dawdles makes room. Its packet, or its question, comes again."""
        limit = self._machine.now() - self._stall_s
        for holder in [holder for holder, since in self._dawdling.items() if since <= limit]:
            await holder.cut()

    def _fits(self, size: int) -> bool:
        return self.used == 0 or self.used + size <= self.total


class Memory:
    """All budgets of a node."""

    def __init__(self, machine: Machine, total: int) -> None:
        self.incoming = Budget(machine, int(total * INCOMING_SHARE))
        self.ahead = Budget(machine, int(total * AHEAD_SHARE))
        self.answers = Budget(machine, int(total * ANSWERS_SHARE), ANSWER_S)
        self.peer_max = int(self.incoming.total * PEER_SHARE)

    @property
    def used(self) -> int:
        """Bytes reserved now."""
        return self.incoming.used + self.ahead.used + self.answers.used


class Metered(trio.abc.Stream):
    """A peer's stream that asks the budgets before it reads on."""

    def __init__(self, stream: trio.abc.Stream, connection: Connection, memory: Memory) -> None:
        self._stream = stream
        self._connection = connection
        self._memory = memory
        self._reserved = 0  # for the frame that is being read, or was read last
        self._ahead = 0
        self._is_full = False  # did the last read take all it could?
        self._kept = 0  # of messages whose answers take their time
        self._freed = trio.Event()

    def done(self) -> None:
        """The message that came last was dealt with, and nobody has it any more."""
        self._memory.incoming.end(self)
        self._memory.incoming.release(self._reserved)
        self._reserved = 0

    async def keep(self) -> int:
        """The message that came last stays for longer; what is to be given to `let_go` when it is gone."""
        size, self._reserved = self._reserved, 0
        self._memory.incoming.end(self)
        if not size and self._connection.size > TINY:
            size = self._connection.size
            await self._memory.incoming.reserve(size)
        self._kept += size
        return size

    def let_go(self, size: int) -> int:
        """A message that was kept is gone. Gives 0: nothing is kept any more."""
        if size:
            self._kept -= size
            self._freed.set()
            self._memory.incoming.release(size)
        return 0

    async def cut(self) -> None:
        """End a peer that holds memory for too long."""
        await trio.aclose_forcefully(self._stream)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self._give_back_ahead()
        awaited = self._connection.awaited
        if awaited > max(self._reserved, READ_MIN):
            while self._kept and self._kept + awaited > self._memory.peer_max:
                self._freed = trio.Event()
                await self._freed.wait()
            await self._memory.incoming.reserve(awaited - self._reserved)
            self._reserved = awaited
            self._memory.incoming.begin(self)
        size = self._may_read(max_bytes or READ_MAX)
        data = await self._stream.receive_some(size)
        self._is_full = len(data) == size
        return data

    def _may_read(self, wanted: int) -> int:
        """What is reserved for the frame anyway, and what may be read ahead."""
        lacking = self._connection.lacking if self._reserved else 0
        if wanted > max(READ_MIN, lacking) and self._is_full:
            self._ahead = self._memory.ahead.part(wanted)
        return min(wanted, max(READ_MIN, lacking, self._ahead))

    def _give_back_ahead(self) -> None:
        self._memory.ahead.release(self._ahead)
        self._ahead = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self.done()
        self._give_back_ahead()
        await self._stream.aclose()


class Room:
    """The memory of one answer."""

    def __init__(self, budget: Budget, link: Link) -> None:
        self._budget = budget
        self._link = link

    async def send(self, message: Message) -> None:
        """Send it, or a part of it; who takes it slowly while others wait for memory is cut."""
        self._budget.begin(self)
        try:
            await self._link.send(message)
        finally:
            self._budget.end(self)

    async def cut(self) -> None:
        """End the link that takes too long."""
        await self._link.cut()


class Answers:
    """The large answers of one link."""

    def __init__(self, memory: Memory, link: Link) -> None:
        self._budget = memory.answers
        self._link = link
        self._turns = trio.Semaphore(ANSWERS_MAX)

    @asynccontextmanager
    async def room(self, size: int) -> AsyncIterator[Room]:
        """Memory for an answer of at most `size` bytes while the block lasts. Declined if there is none for long.

        One that is no larger than what a link may hold unasked waits for nobody.
        """
        if size <= READ_MIN:
            yield Room(self._budget, self._link)
            return
        async with self._turns:
            with trio.move_on_after(WAIT_S) as scope:
                await self._budget.reserve(size)
            if scope.cancelled_caught:
                raise Declined("slow", f"no memory for an answer of {size} bytes within {WAIT_S:g} s: see --memory")
            try:
                yield Room(self._budget, self._link)
            finally:
                self._budget.release(size)
