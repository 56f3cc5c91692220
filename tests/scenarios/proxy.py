"""The network between real processes: a TCP proxy before each buck, and a rule for each direction of each pair.

A buck says that it is reached at its proxy. Who opens a connection is found out by its port (/proc/net/tcp leads to a
socket's inode, the inode to one of our processes), so `net.ways["tailer", "buck1"]` is what befalls the bytes that the
tailer sends to buck 1, on whichever connection, and `net.ways["buck1", "tailer"]` the other direction. Processes that
nobody registered, such as the test's own readers, pass freely. Rules may change at any time.

A hole takes nothing more from its sender and says nothing to anybody, not even that the other side has gone: what was
on its way comes when the way is free again, as TCP would send it again, and a process that died meanwhile has left a
half-open connection behind.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import trio

CHUNK = 16 << 10
TICK_S = 0.01
QUEUE_MAX = 64  # chunks under way on a slow or long way: 1 MiB
SOCKET_BUFFER = 64 << 10  # small, or the kernel would take everything that a slow way should hold back


@dataclass(frozen=True)
class Way:
    """What befalls the bytes in one direction."""

    hole: bool = False  # nothing gets through
    delay_s: float = 0.0
    rate: float = float("inf")  # bytes a second, of each connection
    reset_after: float = float("inf")  # bytes of a connection, then both of its ends are reset, in a frame or not


FREE, HOLE = Way(), Way(hole=True)


@dataclass
class Net:
    """All proxies of a cluster; they run in a thread of their own."""

    processes: Callable[[], Iterable[tuple[str, int]]]  # names and pids of those that rules are about
    ways: dict[tuple[str, str], Way] = field(default_factory=dict)
    resets: int = 0
    behind: dict[str, tuple[str, int]] = field(default_factory=dict)

    def __enter__(self) -> Net:
        self._stop = trio.Event()
        ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run, ready))
        self._thread.start()
        ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._token.run_sync_soon(self._stop.set)
        self._thread.join()

    def front(self, name: str) -> str:
        """The address at which `name` is reached from now on; `behind[name]` says where it really is."""
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        self._token.run_sync_soon(self._nursery.start_soon, self._serve, name, listener)
        host, port = listener.getsockname()
        return f"{host}:{port}"

    def set(self, way: Way, *pairs: tuple[str, str], both: bool = True) -> None:
        """The same rule for these pairs, in both directions."""
        self.ways |= dict.fromkeys(pairs, way)
        if both:
            self.ways |= {(b, a): way for a, b in pairs}

    def heal(self) -> None:
        self.ways = {}

    # --- the thread ---------------------------------------------------------------------------------------------------

    async def _run(self, ready: threading.Event) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self._nursery:
            ready.set()
            await self._stop.wait()
            self._nursery.cancel_scope.cancel()

    async def _serve(self, name: str, listener: socket.socket) -> None:
        _, here = listener.getsockname()
        with trio.socket.from_stdlib_socket(listener) as door:
            while True:
                near, (_, port) = await door.accept()
                near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
                who = self._owner(port, here)
                self._nursery.start_soon(self._connection, who, name, trio.SocketStream(near))

    async def _connection(self, who: str, name: str, near: trio.SocketStream) -> None:
        async with near:
            await self._while_hole(who, name)
            try:
                far = await trio.open_tcp_stream(*self.behind[name])
            except OSError:
                return
            async with far, trio.open_nursery() as both:
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
                both.start_soon(self._direction, (who, name), near, far, both)
                both.start_soon(self._direction, (name, who), far, near, both)

    async def _direction(
        self, pair: tuple[str, str], source: trio.SocketStream, to: trio.SocketStream, both: trio.Nursery
    ) -> None:
        """Carry bytes one way until that side ends. A reset, or an end that broke, ends both."""
        put, take = trio.open_memory_channel[tuple[float, bytes]](QUEUE_MAX)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, pair, source, put)
                async with take:
                    await self._write(pair, take, to)
            with contextlib.suppress(trio.BrokenResourceError):
                await to.send_eof()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, _ResetError):
            for one in (source, to):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            both.cancel_scope.cancel()

    async def _read(
        self, pair: tuple[str, str], source: trio.SocketStream, put: trio.MemorySendChannel[tuple[float, bytes]]
    ) -> None:
        async with put:
            while True:
                await self._while_hole(*pair)
                data = await source.receive_some(CHUNK)
                if not data:
                    return
                await put.send((time.monotonic(), data))

    async def _write(
        self, pair: tuple[str, str], take: trio.MemoryReceiveChannel[tuple[float, bytes]], to: trio.SocketStream
    ) -> None:
        gone = 0
        async for came, data in take:
            await trio.sleep(max(0.0, came + self._way(pair).delay_s - time.monotonic()))
            while data:
                await self._while_hole(*pair)
                way = self._way(pair)
                piece = data[: max(1, int(min(len(data), way.rate * 10 * TICK_S, max(1.0, way.reset_after - gone))))]
                await to.send_all(piece)
                await trio.sleep(len(piece) / way.rate)
                data, gone = data[len(piece) :], gone + len(piece)
                if gone >= way.reset_after:
                    self.resets += 1
                    raise _ResetError
        await self._while_hole(*pair)  # an end, too, gets lost

    async def _while_hole(self, *pair: str) -> None:
        while self._way((pair[0], pair[1])).hole:  # noqa: ASYNC110  # rules are changed in another thread, at any time
            await trio.sleep(TICK_S)

    def _way(self, pair: tuple[str, str]) -> Way:
        return self.ways.get(pair, FREE)

    # --- who is it? ---------------------------------------------------------------------------------------------------

    def _owner(self, port: int, to: int) -> str:
        """The registered process whose socket on this port is connected to us; nobody if there is none."""
        wanted = f"socket:[{_inode(port, to)}]"
        for name, pid in self.processes():
            with contextlib.suppress(OSError):  # it ended meanwhile
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):  # it was closed meanwhile
                        if os.readlink(f"/proc/{pid}/fd/{fd}") == wanted:
                            return name
        return ""


class _ResetError(Exception):
    """The rule says that this connection breaks now."""


def _inode(port: int, to: int) -> str:
    """Of the socket on 127.0.0.1 with this local port that is connected to that one. A port may be in use, or waiting
    for its end, towards others too."""
    wanted = [f"0100007F:{port:04X}", f"0100007F:{to:04X}"]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[1:3] == wanted:
            return words[9]
    return ""
