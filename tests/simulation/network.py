"""A network in memory: TCP-like streams between named hosts, with delay, pieces of any size, cuts and resets.

Bytes sent are queued with the time at which they arrive; the receiver takes them then, in pieces of random size.
While the way from one host to another is cut (by a test, or because a host has no power) nothing arrives, and nobody
is told: a sender notices after TCP_USER_TIMEOUT, one who only listens after the keepalive. A killed process's streams
are reset. One task, the network's own, wakes each pipe when something arrives in it.

Ways can be made slow (`rates`, bytes a second) or long (`lags`, seconds more, drawn anew for each piece, so that pieces
of different connections overtake each other), and connections between two hosts can be reset by something in between.
"""

import errno
import operator
import random
import socket
from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING
from zlib import crc32

import trio

from service.machine import KEEPALIVE_EVERY_S, KEEPALIVE_IDLE_S, KEEPALIVE_PROBES, TCP_USER_TIMEOUT_MS, AddressError
from tests.simulation.trace import Trace

if TYPE_CHECKING:
    from tests.simulation.machine import SimMachine

WINDOW = 1 << 20
PIECE_MAX = 64 << 10
BACKLOG = 128
LOOPBACK = ("127.0.0.1", "::1", "localhost")
SEND_SILENCE_S = TCP_USER_TIMEOUT_MS / 1000
LISTEN_SILENCE_S = KEEPALIVE_IDLE_S + KEEPALIVE_EVERY_S * KEEPALIVE_PROBES


class Pipe:
    """One direction of one connection."""

    def __init__(self, source: str, target: str) -> None:
        self.source, self.target = source, target
        self.queue: deque[tuple[float, bytes]] = deque()
        self.size = 0
        self.last = 0.0  # Invariant: arrival times in the queue never fall
        self.ended_at: float | None = None  # FIN
        self.reset_at: float | None = None  # RST
        self.changed = trio.Event()

    def touch(self) -> None:
        """Wake whoever waits for this pipe."""
        self.changed.set()
        self.changed = trio.Event()


class Network:
    """All hosts, who listens where, and what is cut."""

    def __init__(self, rng: random.Random, trace: Trace) -> None:
        self.rng = rng
        self.trace = trace
        self.latency_s = (0.000_1, 0.002)
        self.hosts: set[str] = set()
        self.down: dict[str, float] = {}
        self.cuts: dict[tuple[str, str], float] = {}
        self.rates: dict[tuple[str, str], float] = {}
        self.lags: dict[tuple[str, str], tuple[float, float]] = {}
        self.listeners: dict[tuple[str, int], SimListener] = {}
        self.streams: list[SimStream] = []
        self.ports = 40_000
        self.changed = trio.Event()
        self.due: list[tuple[float, int, Pipe]] = []  # a heap: when to wake which pipe
        self.sooner = trio.Event()  # the first of these has changed
        self.count = 0

    async def run(self) -> None:
        """Wake who waits, when it is time. For ever."""
        while True:
            while self.due and self.due[0][0] <= trio.current_time():
                heappop(self.due)[2].touch()
            self.sooner = trio.Event()
            with trio.move_on_at(self.due[0][0] if self.due else float("inf")):
                await self.sooner.wait()

    def wake(self, at: float, pipe: Pipe) -> None:
        """Something arrives in this pipe then."""
        self.count += 1
        heappush(self.due, (at, self.count, pipe))
        if self.due[0][1] == self.count:
            self.sooner.set()

    @property
    def is_whole(self) -> bool:
        """Does everything get everywhere?"""
        return not self.cuts and not self.down

    def cut(self, a: str, b: str, both: bool = True) -> None:
        """Nothing gets from a to b any more (nor back, if `both`)."""
        for way in [(a, b), (b, a)] if both else [(a, b)]:
            self.cuts.setdefault(way, trio.current_time())
        self.touch()

    def heal(self, a: str | None = None, b: str | None = None) -> None:
        """Undo the cuts between a and b, or of a, or all."""
        for way in list(self.cuts):
            if (a is None or a in way) and (b is None or b in way):
                del self.cuts[way]
        self.touch()

    def reset(self, a: str, b: str) -> None:
        """Something between the two ends all their connections."""
        for stream in self.streams:
            if {stream.outgoing.source, stream.outgoing.target} == {a, b}:
                stream.incoming.reset_at = trio.current_time()
                stream.incoming.touch()
                stream.outgoing.touch()

    def touch(self) -> None:
        """What is cut has changed: everybody looks again."""
        self.changed.set()
        self.changed = trio.Event()
        for stream in self.streams:
            stream.incoming.touch()
            stream.outgoing.touch()

    def cut_since(self, source: str, target: str) -> float | None:
        """Since when nothing gets from one to the other; None if it does."""
        if source == target or self.is_whole:
            return None
        times = [self.down.get(source), self.down.get(target), self.cuts.get((source, target))]
        return min((time for time in times if time is not None), default=None)

    def horizon(self, pipe: Pipe) -> float:
        """What was to arrive by this time has arrived: all until now, or until the way was cut."""
        cut = self.cut_since(pipe.source, pipe.target)
        return trio.current_time() if cut is None else cut

    def delay(self, source: str, target: str) -> float:
        if source == target:
            return 0.000_05
        lag = self.lags.get((source, target))
        return self.rng.uniform(*self.latency_s) + (self.rng.uniform(*lag) if lag else 0.0)

    def streams_of(self, process: "SimMachine") -> Iterator["SimStream"]:
        return (stream for stream in list(self.streams) if stream.process is process)

    async def connect(self, process: "SimMachine", host: str, port: int) -> "SimStream":
        await process.disk.thawed()
        here, there = process.host, process.host if host in LOOPBACK else host
        if there not in self.hosts:
            await trio.sleep(self.delay(here, here))
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        with trio.move_on_after(SEND_SILENCE_S):
            while self.cut_since(here, there) is not None or self.cut_since(there, here) is not None:
                await self.changed.wait()
            await trio.sleep(self.delay(here, there) + self.delay(there, here))
            listener = self.listeners.get((there, port))
            if listener is None or len(listener.queue) >= BACKLOG:
                raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
            return self._join(process, listener)
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    def _join(self, process: "SimMachine", listener: "SimListener") -> "SimStream":
        away, back = Pipe(process.host, listener.process.host), Pipe(listener.process.host, process.host)
        ours = SimStream(self, process, incoming=back, outgoing=away)
        listener.queue.append(SimStream(self, listener.process, incoming=away, outgoing=back))
        listener.arrived.set()
        return ours

    def listen(self, process: "SimMachine", host: str, port: int) -> "SimListener":
        if host not in ("", "0.0.0.0", "::", process.host, *LOOPBACK):
            raise AddressError(errno.EADDRNOTAVAIL, f"{host}:{port} is no address of this host")
        if port == 0:
            self.ports += 1
            port = self.ports
        if (process.host, port) in self.listeners:
            raise AddressError(errno.EADDRINUSE, f"{host}:{port} is in use")
        listener = self.listeners[process.host, port] = SimListener(self, process, port)
        return listener


class SimListener(trio.abc.Listener[trio.abc.Stream]):
    def __init__(self, network: Network, process: "SimMachine", port: int) -> None:
        self.network, self.process, self.port = network, process, port
        self.queue: deque[SimStream] = deque()
        self.arrived = trio.Event()
        self.closed = False

    async def accept(self) -> "SimStream":
        await trio.lowlevel.checkpoint()
        while not self.queue:
            if self.closed:
                raise trio.ClosedResourceError
            self.arrived = trio.Event()
            await self.arrived.wait()
            await self.process.disk.thawed()
        return self.queue.popleft()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            del self.network.listeners[self.process.host, self.port]
            self.arrived.set()
            for stream in self.queue:
                stream.reset()


class SimStream(trio.abc.HalfCloseableStream):
    """One end of a connection."""

    def __init__(self, network: Network, process: "SimMachine", incoming: Pipe, outgoing: Pipe) -> None:
        self.network, self.process, self.incoming, self.outgoing = network, process, incoming, outgoing
        self.closed = self.broken = False
        self.sending = trio._util.ConflictDetector("another task is sending")
        self.receiving = trio._util.ConflictDetector("another task is receiving")
        network.streams.append(self)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self.sending:
            self._check_sendable()
            rest = memoryview(data).cast("B")
            await trio.lowlevel.checkpoint()
            await self.process.disk.thawed()
            self._check_sendable()
            while rest:
                await self._wait_for_window()
                self._push(bytes(rest[:PIECE_MAX]))
                rest = rest[PIECE_MAX:]

    async def wait_send_all_might_not_block(self) -> None:
        with self.sending:
            self._check_sendable(ended_is_an_error=False)
            await trio.lowlevel.checkpoint()
            await self._wait_for_window()

    async def send_eof(self) -> None:
        with self.sending:
            if self.closed:
                raise trio.ClosedResourceError
            self._end()
            await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be >= 1")
        with self.receiving:
            if self.closed:
                raise trio.ClosedResourceError
            if self.incoming.queue or self.incoming.ended_at is not None:
                await trio.lowlevel.checkpoint()
            while True:
                if self.process.disk.thaw is not None:
                    await self.process.disk.thawed()
                found = self._arrived(max_bytes or PIECE_MAX)
                if found is not None:
                    return found
                await self._wait(self.incoming)

    async def aclose(self) -> None:
        if not self.closed:
            self._end()
            self._leave()
        await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """End at once, as the kernel does for a process that was killed."""
        if self.outgoing.reset_at is None:
            self.outgoing.reset_at = self._arrival()
            self.network.wake(self.outgoing.reset_at, self.outgoing)
        self._leave()

    def vanish(self) -> None:
        """The host's power went: what was on its way is lost, and nobody is told."""
        self.closed = True
        horizon = self.network.horizon(self.outgoing)
        self.outgoing.queue = deque(one for one in self.outgoing.queue if one[0] <= horizon)

    def _leave(self) -> None:
        self.closed = True
        if self in self.network.streams:
            self.network.streams.remove(self)
        self.incoming.queue.clear()
        self.incoming.size = 0
        if self.incoming.reset_at is None:  # what is still sent meets nobody, and the sender learns it
            self.incoming.reset_at = trio.current_time() + self.network.delay(
                self.outgoing.source, self.outgoing.target
            )
            self.network.wake(self.incoming.reset_at, self.incoming)
        self.incoming.touch()
        self.outgoing.touch()

    def _end(self) -> None:
        if self.outgoing.ended_at is None:
            self.outgoing.ended_at = self._arrival()
            self.network.wake(self.outgoing.ended_at, self.outgoing)

    def _push(self, data: bytes) -> None:
        pipe = self.outgoing
        pipe.queue.append((self._arrival(len(data)), data))
        pipe.size += len(data)
        self.network.trace.note(pipe.source, pipe.target, len(data), crc32(data), pipe.last)
        self.network.wake(pipe.last, pipe)
        if not self.network.is_whole:
            self.incoming.touch()  # whoever listens here learns sooner now that nobody hears us

    def _arrival(self, size: int = 0) -> float:
        pipe = self.outgoing
        pipe.last = max(pipe.last, trio.current_time() + self.network.delay(pipe.source, pipe.target))
        rate = self.network.rates.get((pipe.source, pipe.target))
        if rate:
            pipe.last += size / rate
        return pipe.last

    def _check_sendable(self, ended_is_an_error: bool = True) -> None:
        if self.closed or (ended_is_an_error and self.outgoing.ended_at is not None):
            raise trio.ClosedResourceError
        refused = self.outgoing.reset_at
        if refused is not None and refused <= self.network.horizon(self.incoming):
            self.broken = True
        self._check_broken()

    def _check_broken(self) -> None:
        reset = self.incoming.reset_at
        if reset is not None and reset <= self.network.horizon(self.incoming):
            self.broken = True
        elif self._silent_at() <= trio.current_time():
            self.broken = True
            self.outgoing.reset_at = self._arrival()
        if self.broken:
            raise trio.BrokenResourceError("connection reset by peer")

    def _silent_at(self) -> float:
        """When this end will have heard nothing for too long."""
        if self.network.is_whole:
            return float("inf")
        here, there = self.outgoing.source, self.outgoing.target
        times = [self.network.cut_since(here, there), self.network.cut_since(there, here)]
        since = min((time for time in times if time is not None), default=float("inf"))
        if self.outgoing.queue:
            return max(since, self.outgoing.queue[0][0]) + SEND_SILENCE_S
        return since + LISTEN_SILENCE_S

    async def _wait_for_window(self) -> None:
        while self.outgoing.size >= WINDOW:
            await self._wait(self.outgoing)
            self._check_sendable(ended_is_an_error=False)

    async def _wait(self, pipe: Pipe) -> None:
        """Until something happens to the pipe, or this end has heard nothing for too long."""
        silent = self._silent_at()
        if silent == float("inf"):
            await pipe.changed.wait()
        else:
            with trio.move_on_at(silent):
                await pipe.changed.wait()

    def _arrived(self, most: int) -> bytes | None:
        """The next piece, b"" at the end, None if there is nothing yet."""
        if self.closed:
            raise trio.ClosedResourceError
        pipe, horizon = self.incoming, self.network.horizon(self.incoming)
        if pipe.queue and pipe.queue[0][0] <= horizon:
            return self._take(most)
        if not pipe.queue and pipe.ended_at is not None and pipe.ended_at <= horizon:
            return b""
        self._check_broken()
        return None

    def _take(self, most: int) -> bytes:
        pipe = self.incoming
        at, data = pipe.queue.popleft()
        size = min(most, len(data))
        if self.network.rng.random() < 0.3:
            size = self.network.rng.randint(1, size)  # TCP has no messages
        if size < len(data):
            pipe.queue.appendleft((at, data[size:]))
        pipe.size -= size
        pipe.touch()
        return data[:size]
