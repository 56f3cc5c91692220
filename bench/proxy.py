"""A TCP proxy in front of one process: it can carry slowly, stop carrying either way while connections
stay open, or reset them all.

What is held back stays in the buffers of the kernel, as it would in a network that came back; new connections are let
wait like the others. Nothing is ever dropped from within a stream: a peer that is cut off sees silence, not damage.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

PIECE = 256 << 10
SLICE_S = 0.1
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time at all: closing sends a reset


class Proxy:
    """Listens at `address`; connections go to `target` once that is set. `carried`: bytes to and from it so far."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = "127.0.0.1:{1}".format(*self._listener.getsockname())
        self.target = ""
        self.carried = [0, 0]
        self.rate = 0  # bytes a second, each way of each connection; 0: as fast as it goes
        self._open = (threading.Event(), threading.Event())  # to the target, from it
        self._links: set[tuple[socket.socket, socket.socket]] = set()
        self._ended = False
        self.go_on()
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, *, to: bool = True, back: bool = True) -> None:
        """Carry nothing any more to the target, or back from it, or both."""
        for event, held in zip(self._open, (to, back), strict=True):
            if held:
                event.clear()

    def go_on(self) -> None:
        """Carry everything again, what was held first."""
        for event in self._open:
            event.set()

    def reset(self) -> None:
        """Break all connections, wherever they are in a frame."""
        for link in list(self._links):
            self._cut(link, reset=True)

    def close(self) -> None:
        self._ended = True
        self.go_on()
        with contextlib.suppress(OSError):  # wakes who accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        """One connection: dial, then carry both ways until either side ends."""
        self._open[0].wait()
        host, _, port = self.target.rpartition(":")
        try:
            far = socket.create_connection((host, int(port or 0)), 10.0)
        except OSError:
            self._cut((near, near), reset=True)
            return
        far.settimeout(None)
        link = (near, far)
        for one in link:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.add(link)
        if self._ended:
            self._cut(link, reset=True)
        threading.Thread(target=self._carry, args=(link, far, near, 1), daemon=True).start()
        self._carry(link, near, far, 0)

    def _carry(self, link: tuple[socket.socket, socket.socket], a: socket.socket, b: socket.socket, way: int) -> None:
        room = memoryview(bytearray(PIECE))
        with contextlib.suppress(OSError):
            while size := a.recv_into(room):
                self._open[way].wait()
                self.carried[way] += size  # before it goes: who has received it may look at once
                self._carry_piece(b, room[:size])
        self._open[way].wait()  # an end is held back as well
        self._cut(link)

    def _carry_piece(self, to: socket.socket, piece: memoryview) -> None:
        """At once, or in slices a tenth of a second apart while the way is slow."""
        while self.rate and piece:
            size = max(1, self.rate // 10)
            to.sendall(piece[:size])
            piece = piece[size:]
            time.sleep(SLICE_S)
        to.sendall(piece)

    def _cut(self, link: tuple[socket.socket, socket.socket], reset: bool = False) -> None:
        self._links.discard(link)
        for one in link:
            with contextlib.suppress(OSError):
                if reset:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                one.shutdown(socket.SHUT_RDWR)  # wakes who waits in a call on it; closing alone would not
            one.close()
