"""Packets to one buck over a real socket, as a tailer sends them: a window of puts under way, each until its ok.

It speaks the wire itself, over a plain blocking socket: who measures a buck wants a sender that is no part of it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable

from protocol.connection import Connection
from protocol.identity import NodeKey
from protocol.limits import PACKET_VERSION
from protocol.messages import Hello, Ok, Put
from protocol.packed import Buffer

WINDOW = 16
ACK_S = 120.0  # a disk that is behind holds writers up for long
READ_SIZE = 64 << 10


def key_of(name: str) -> NodeKey:
    """Everybody's key follows from the name."""
    return NodeKey.from_seed(name.encode().ljust(32, b".")[:32])


def hello(key: NodeKey, role: str = "tailer") -> Hello:
    """Who asks."""
    return Hello(role, key.public, "prod", 0, b"bench", (PACKET_VERSION, PACKET_VERSION), "", time.time_ns())


def put_all(address: str, key: NodeKey, packets: Iterable[bytes]) -> int:
    """Store all packets on the buck at an address; the sum of their sizes. Blocks until the last is acked."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), ACK_S) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sender = Sender(link, Connection(hello(key), dialing=True))
        total = sum(map(sender.put, packets))
        sender.wait(0)
    return total


class Sender:
    """One link. `waiting` counts the puts under way."""

    def __init__(self, link: socket.socket, connection: Connection) -> None:
        self._link, self._connection = link, connection
        self._number = self.waiting = 0
        link.sendall(connection.start())
        while connection.peer is None:
            self._receive()

    def put(self, packet: bytes) -> int:
        """Send a packet, once there is room in the window; its size."""
        self.wait(WINDOW - 1)
        self._number += 1
        send_all(self._link, self._connection.send(Put(self._number, 0, False, packet)))
        self.waiting += 1
        return len(packet)

    def wait(self, most: int) -> None:
        """Until at most so many are under way."""
        while self.waiting > most:
            self._receive()
            for answer in self._connection.messages():
                assert isinstance(answer, Ok), answer
                self.waiting -= 1

    def _receive(self) -> None:
        data = self._link.recv(READ_SIZE)
        if not data:
            raise ConnectionError("the buck has closed the link")
        self._connection.receive(data)


def send_all(link: socket.socket, buffers: list[Buffer]) -> None:
    """All of these buffers, with as few copies and calls as there can be."""
    sent = link.sendmsg(buffers)
    for buffer in buffers:
        if sent < len(buffer):
            link.sendall(memoryview(buffer)[sent:])
        sent = max(sent - len(buffer), 0)
