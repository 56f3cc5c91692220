"""Ports for servers that have to be told where to listen."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from random import randrange

from bench.rivals.process import RivalError

PORTS = range(20_000, 32_000)


def free_ports(count: int, base: int = 0) -> list[int]:
    """Ports in a row that nobody listens at: from `base` on (RivalError names one in use), or anywhere."""
    for _ in range(100):
        first = base or randrange(PORTS.start, PORTS.stop - count)
        used = next(_used_ports(first, count), 0)
        if not used:
            return list(range(first, first + count))
        if base:
            raise RivalError(f"port {used} is in use: end who listens there (ss -ltnp), or name others with --port")
    raise RivalError(f"no {count} free ports in a row from {PORTS.start} to {PORTS.stop}")


def _used_ports(first: int, count: int) -> Iterator[int]:
    for port in range(first, first + count):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            yield port
