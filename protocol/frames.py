"""A byte stream cut into frames, whatever pieces it arrives in.

    length of the payload u32 | tag u8 | payload

The length is held against the tag's own bound before a byte of the payload is awaited, and a tag that is not
expected is refused there too. Large payloads are never copied more than once: one that lies within a piece is a view
of it, one that spans several is joined once, when all of it is here. Small pieces are gathered as they come, so that
a peer who sends single bytes can't make us keep a million objects.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from protocol.errors import RemoteProtocolError
from protocol.packed import Buffer

HEAD: Final = struct.Struct(">IB")
GATHER: Final = 4_096  # two neighbouring pieces below this are made one: 16 MiB are never more than 8,192 pieces


class Frame(NamedTuple):
    """One whole frame; `payload` may be a view of what was received, which lives as long."""

    tag: int
    payload: memoryview


def frame(tag: int, pieces: Sequence[Buffer]) -> list[Buffer]:
    """The buffers that make a frame of these pieces of payload, the first joined with the frame's head."""
    head = HEAD.pack(sum(map(len, pieces)), tag)
    return [b"".join((head, pieces[0])), *pieces[1:]]


class Frames:
    """Takes bytes in with `feed`, gives frames out with `next`. `bounds`: each expected tag and its largest payload."""

    def __init__(self, bounds: Mapping[int, int]) -> None:
        self.bounds = bounds
        self._pieces: deque[Buffer] = deque()
        self._at = 0  # how much of the first piece is used up
        self._held = 0  # bytes here and not yet taken
        self._head: tuple[int, int] | None = None  # length and tag of the frame whose payload is awaited

    def feed(self, data: Buffer) -> None:
        """Take what arrived."""
        pieces = self._pieces
        self._held += len(data)
        if len(data) < GATHER and pieces and len(pieces[-1]) < GATHER:
            pieces[-1] = bytes(pieces[-1]) + data
        elif data:
            pieces.append(data)

    def next(self) -> Frame | None:
        """The next frame if all of it is here; RemoteProtocolError if it must never be."""
        head = self._head or self._open()
        if head is None or self._held < head[0]:
            return None
        self._head = None
        return Frame(head[1], self.take(head[0]))

    def _open(self) -> tuple[int, int] | None:
        """Read a frame's head, if it is here, and judge it."""
        if self._held < HEAD.size:
            return None
        size, tag = HEAD.unpack(self.take(HEAD.size))
        bound = self.bounds.get(tag)
        if bound is None:
            raise RemoteProtocolError(f"a frame with the tag {tag} is not expected here")
        if size > bound:
            raise RemoteProtocolError(f"a frame with the tag {tag} of {size} bytes: at most {bound}")
        self._head = size, tag
        return self._head

    def take(self, size: int) -> memoryview:
        """The next `size` bytes, which must be here."""
        assert size <= self._held
        self._held -= size
        first = self._pieces[0] if self._pieces else b""
        end = self._at + size
        if end < len(first):
            view = memoryview(first)[self._at : end]
            self._at = end
            return view
        parts: list[memoryview] = []
        while size > 0:
            piece = memoryview(self._pieces[0])[self._at : self._at + size]
            parts.append(piece)
            size -= len(piece)
            self._at += len(piece)
            if self._at == len(self._pieces[0]):
                self._pieces.popleft()
                self._at = 0
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    @property
    def awaited(self) -> int:
        """The payload's length of the frame that has begun; 0 between two frames."""
        return self._head[0] if self._head else 0

    @property
    def more(self) -> bool:
        """Is there probably another whole frame here? (A short one may be; a long one that has begun is not.)"""
        return self._held >= self.awaited and self._held > 0

    @property
    def held(self) -> int:
        """Bytes received and not yet taken."""
        return self._held

    @property
    def whole(self) -> bool:
        """Does what was received end between two frames?"""
        return self._head is None and not self._held
