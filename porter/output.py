"""Bytes to stdout, in large pieces, beside the loop: a reader who pauses (`| less`) must not make bucks time out."""

from __future__ import annotations

from types import TracebackType
from typing import BinaryIO

from service.machine import Machine

__all__ = ["ClosedError", "Output", "OutputError"]

PIECE = 1 << 20


class ClosedError(Exception):
    """Nobody reads our output any more (`| head`): time to end, quietly."""


class OutputError(Exception):
    """What we write can't be written, as on a full disk: one line, exit code 1."""


class Output:
    """Gathers what is written, and writes it out in pieces; `async with` writes the rest."""

    def __init__(self, machine: Machine, file: BinaryIO) -> None:
        self._machine = machine
        self._file = file
        self._waiting: list[bytes] = []
        self._size = 0

    async def write(self, data: bytes) -> None:
        """Write, now or soon."""
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= PIECE:
            await self.flush()

    async def flush(self) -> None:
        """Write all that waits."""
        waiting, self._waiting, self._size = self._waiting, [], 0
        try:
            await self._machine.slow(_write_all, self._file, waiting)
        except BrokenPipeError as error:
            raise ClosedError from error
        except OSError as error:
            raise OutputError(f"the output can't be written: {error.strerror or error}") from error

    async def __aenter__(self) -> Output:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.flush()


def _write_all(file: BinaryIO, pieces: list[bytes]) -> None:
    for piece in pieces:
        file.write(piece)
    file.flush()
