"""A network in memory: TCP-like streams between named hosts, with delay, pieces of any size, cuts and resets.

Bytes sent are queued with the time at which they arrive; the receiver takes them then, in pieces of random size.
While the way from one host to another is cut (by a test, or because a host has no power) nothing arrives, and nobody
is told: a sender notices after TCP_USER_TIMEOUT, one who only listens after the keepalive. A killed process's streams
are reset. No task runs in here: time passes in who waits.
"""

import errno
import operator
import random
import socket
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio

from service.machine import KEEPALIVE_EVERY_S, KEEPALIVE_IDLE_S, KEEPALIVE_PROBES, TCP_USER_TIMEOUT_MS, AddressError

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

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.latency_s = (0.000_1, 0.002)
        self.hosts: set[str] = set()
        self.down: dict[str, float] = {}
        self.cuts: dict[tuple[str, str], float] = {}
        self.listeners: dict[tuple[str, int], SimListener] = {}
        self.streams: list[SimStream] = []
        self.ports = 40_000
        self.changed = trio.Event()

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

    def touch(self) -> None:
        """What is cut has changed: everybody looks again."""
        self.changed.set()
        self.changed = trio.Event()
        for stream in self.streams:
            stream.incoming.touch()

    def cut_since(self, source: str, target: str) -> float | None:
        """Since when nothing gets from one to the other; None if it does."""
        if source == target:
            return None
        times = [self.down.get(source), self.down.get(target), self.cuts.get((source, target))]
        return min((time for time in times if time is not None), default=None)

    def horizon(self, pipe: Pipe) -> float:
        """What was to arrive by this time has arrived: all until now, or until the way was cut."""
        cut = self.cut_since(pipe.source, pipe.target)
        return trio.current_time() if cut is None else cut

    def delay(self, source: str, target: str) -> float:
        return 0.000_05 if source == target else self.rng.uniform(*self.latency_s)

    def streams_of(self, process: "SimMachine") -> Iterator["SimStream"]:
        return (stream for stream in list(self.streams) if stream.process is process)

    async def connect(self, process: "SimMachine", host: str, port: int) -> "SimStream":
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
            await trio.lowlevel.checkpoint()
            while True:
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
        self.incoming.touch()
        self.outgoing.touch()

    def _end(self) -> None:
        if self.outgoing.ended_at is None:
            self.outgoing.ended_at = self._arrival()
            self.outgoing.touch()

    def _push(self, data: bytes) -> None:
        self.outgoing.queue.append((self._arrival(), data))
        self.outgoing.size += len(data)
        self.outgoing.touch()

    def _arrival(self) -> float:
        pipe = self.outgoing
        pipe.last = max(pipe.last, trio.current_time() + self.network.delay(pipe.source, pipe.target))
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
        """Until something happens to the pipe, or time alone changes what is true."""
        now = trio.current_time()
        times = [self._silent_at(), self.incoming.reset_at, self.incoming.ended_at, self.outgoing.reset_at]
        times += [at for at, _ in list(self.incoming.queue)[:1]] if pipe is self.incoming else []
        ahead = min((time for time in times if time is not None and time > now), default=float("inf"))
        with trio.move_on_at(ahead):
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
