"""The seam: all that the product knows of the world outside it. Clock, network, disks, randomness, threads, this host.

Tailer, buck and porter get a `Machine` and import neither `os` nor `socket` nor `time` nor `random`, so that a whole
cluster runs in one test over a simulated one, with a virtual clock and a seeded order of events. `RealMachine` is
thin: it must cost nothing per packet. What can't be simulated (pyarrow, boto3) sits behind interfaces of its own.
"""

import errno
import os
import random
import resource
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar, TypeVarTuple

import trio

from service.disk import Buffer, BusyError, Disk, File, Lock, Path, RealDisk, Space
from service.statx import Stat
from service.watch import Inotify, Watch

__all__ = [
    "AddressError",
    "Buffer",
    "BusyError",
    "Disk",
    "File",
    "Listener",
    "Lock",
    "Machine",
    "Path",
    "RealMachine",
    "Space",
    "Stat",
    "Watch",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Listener = trio.abc.Listener[trio.abc.Stream]

# How long the kernel keeps sending into a connection that doesn't answer: a host that lost its power, or a peer that
# stopped reading, is noticed within this, even when nobody set a deadline.
TCP_USER_TIMEOUT_MS = 20_000
KEEPALIVE_IDLE_S, KEEPALIVE_EVERY_S, KEEPALIVE_PROBES = 30, 10, 3
# Slow calls of one process at the same time.
SLOW_CALLS_MAX = 16
# Open files asked of the system, where it allows as many: the default of 1,024 is that of programs that use select().
FILES_WANTED = 65_536


class AddressError(OSError):
    """An address can't be listened on; the text is one line that says which, why, and what to do."""


class Machine(Protocol):
    """What a process may ask of its host."""

    @property
    def disk(self) -> Disk: ...

    @property
    def random(self) -> random.Random:
        """For choices (which buck, how long to wait), never for secrets."""

    @property
    def host(self) -> str: ...

    @property
    def machine_id(self) -> bytes:
        """16 bytes that stay with this installation; b"" where it has none."""

    @property
    def boot_id(self) -> bytes:
        """16 bytes that change at each boot; b"" where unknown."""

    def entropy(self, n: int) -> bytes:
        """`n` bytes fit for keys."""

    def time_ns(self) -> int:
        """The wall clock: may jump."""

    def now(self) -> float:
        """Seconds that only go forward; the clock of deadlines and ages."""

    def cpu_s(self) -> float:
        """Seconds of CPU that this process has used."""

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """A TCP connection, or an OSError. The caller sets the deadline."""

    async def listen(self, host: str, port: int) -> Sequence[Listener]:
        """Listen; port 0 takes a free one. AddressError if that can't be."""

    def address_of(self, listener: Listener) -> tuple[str, int]:
        """Where a listener of ours listens."""

    def near(self, stream: trio.abc.Stream) -> str:
        """The address of this host that a connection made by `connect` uses; "" where that can't be told."""

    def peer_of(self, stream: trio.abc.Stream) -> str:
        """The host at the other end of a connection, as the network names it; "" if it is gone already."""

    def files_max(self) -> int:
        """How many files and connections this process may have open: as many as the system lets it."""

    def hangups(self) -> AbstractContextManager[AsyncIterator[int]]:
        """While the block lasts, each SIGHUP comes out here instead of ending the process."""

    async def slow(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run a call that may block, beside the loop. A cancel is heeded after it ended."""

    def watch(self) -> Watch | None:
        """A watch over folders, or None where this host can't: then only sweeping finds changes."""


class RealMachine:
    """This host."""

    def __init__(self, seed: int | None = None) -> None:
        self.disk: Disk = RealDisk()
        self.random = random.Random(seed)
        self.host = socket.gethostname()
        self.machine_id = _read_id("/etc/machine-id")
        self.boot_id = _read_id("/proc/sys/kernel/random/boot_id")
        self._slow = trio.CapacityLimiter(SLOW_CALLS_MAX)

    def entropy(self, n: int) -> bytes:
        return os.urandom(n)

    def time_ns(self) -> int:
        return time.time_ns()

    def now(self) -> float:
        return trio.current_time()

    def cpu_s(self) -> float:
        return time.process_time()

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        stream = await trio.open_tcp_stream(host, port)
        _prepare(stream.socket)
        return stream

    async def listen(self, host: str, port: int) -> Sequence[Listener]:
        try:
            listeners = await trio.open_tcp_listeners(port, host=host or None)
        except OSError as error:
            raise _address_error(host, port, error) from error
        if port == 0:  # a free port is chosen for each address of the host: one is enough, and then the port is one
            for spare in listeners[1:]:
                await spare.aclose()
            listeners = listeners[:1]
        for listener in listeners:
            _prepare(listener.socket)  # accepted sockets inherit these
        return listeners

    def address_of(self, listener: Listener) -> tuple[str, int]:
        assert isinstance(listener, trio.SocketListener)
        host, port = listener.socket.getsockname()[:2]
        return str(host), int(port)

    def near(self, stream: trio.abc.Stream) -> str:
        try:
            return str(stream.socket.getsockname()[0]) if isinstance(stream, trio.SocketStream) else ""
        except OSError:
            return ""  # the connection broke meanwhile

    def peer_of(self, stream: trio.abc.Stream) -> str:
        assert isinstance(stream, trio.SocketStream)
        try:
            return str(stream.socket.getpeername()[0])
        except OSError:
            return ""

    def files_max(self) -> int:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most if soft == resource.RLIM_INFINITY else max(soft, most)

    def hangups(self) -> AbstractContextManager[AsyncIterator[int]]:
        return trio.open_signal_receiver(signal.SIGHUP)

    async def slow(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        return await trio.to_thread.run_sync(function, *args, limiter=self._slow)

    def watch(self) -> Watch | None:
        try:
            return Inotify()
        except OSError:
            return None  # no inotify here, or no instance left: sweeping alone finds the same, a little later


def _prepare(sock: trio.socket.SocketType) -> None:
    """trio sets TCP_NODELAY on every stream it makes; these make a silent peer end in an error."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_EVERY_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


def _address_error(host: str, port: int, error: OSError) -> AddressError:
    cause = error.__cause__ or error  # trio wraps the system's error to name the address
    code = getattr(cause, "errno", None) or error.errno
    advice = {
        errno.EADDRINUSE: "is in use: stop what listens there (ss -ltnp shows it) or choose another port",
        errno.EADDRNOTAVAIL: "is no address of this host: choose one of its own, or 0.0.0.0 for all",
        errno.EACCES: "is not allowed for this user: choose a port above 1023",
    }.get(code or 0, f"can't be listened on: {error}")
    return AddressError(code or errno.EINVAL, f"{host}:{port} {advice}")


def _read_id(path: str) -> bytes:
    try:
        with open(path, encoding="ascii") as file:
            return uuid.UUID(file.read().strip()).bytes
    except (OSError, ValueError):
        return b""  # a container without one: "unknown" never equals a known one
