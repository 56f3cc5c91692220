"""What is left of an event whose beginning, or end, is already in another row: a row of its own, with exact bytes.

It happens only where a line was read twice and cut differently: once as a fragment, because its end did not come for
long, and once whole. The remnant keeps the event's point, and has neither format nor names: those belong to the line's
beginning. It is a block of one row, which `grep`, `cat` and the archive take like any other.
"""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

from protocol.columns import CRLF, NONE, OPEN, WIDE_NONE
from protocol.kernel import Rows

if TYPE_CHECKING:
    from porter.source import Block, Piece


def remnant(piece: Piece, row: int, start: int, stop: int) -> Piece:
    """The bytes `start` to `stop` of one row of a piece, as a piece."""
    rows = piece.block.rows
    data = rows.render(row, row + 1)
    first = rows.offsets[row] + start
    block = _block(data[start:stop], rows.points[row], first, piece.block)
    span = piece.span._replace(first=first, end=first + stop - start, count=1, point=rows.points[row])
    return replace(piece, span=span, block=block, row=0, last=1)


def _block(data: bytes, point: int, offset: int, like: Block) -> Block:
    end = b"\r\n" if data.endswith(b"\r\n") else b"\n" if data.endswith(b"\n") else b""
    text = data[: len(data) - len(end)]
    flags = {b"\r\n": CRLF, b"\n": 0, b"": OPEN}[end]
    rows = Rows.from_arrays(
        points=array("Q", [point]),
        flags=bytes([flags]),
        format=array("H", [WIDE_NONE]),
        formats=(),
        shn=array("H", [WIDE_NONE]),
        shn_names=(),
        app=array("H", [WIDE_NONE]),
        app_names=(),
        pid=array("i", [-1]),
        pri=bytes([NONE]),
        lines=text,
        line_offsets=array("i", [0, len(text)]),
        offsets=array("q", [offset]),
    )
    return replace(like, rows=rows, shn=(), app=(), formats=())
