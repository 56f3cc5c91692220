"""Lines that wait as columns: times are sorted as numbers, and text is laid out by the kernel; no object a line.

About 50 bytes a line beside its text. What waiting is for, and until when, is told in waiting.py. It needs numpy, which
comes with the archive's libraries; where it is absent, lines wait as objects, five times as dear.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from porter.source import Piece, Span
from porter.waiting import ROWS
from protocol.kernel import arranged
from protocol.query import Fields

__all__ = ["ROW_COST", "Columns"]

ROW_COST = 50  # bytes of memory beside the text


class _Held(NamedTuple):
    """Rows of one span, in order of offset; row i's text is data[edges[i]:edges[i + 1]]."""

    span: Span
    points: NDArray[np.uint64]
    edges: NDArray[np.int64]
    data: bytes


class Columns:
    """Lines that are taken as they are, whatever they say. Each ends with LF: one that had no end gets one."""

    def __init__(self, fields: Fields) -> None:
        self.size = self.count = 0
        self._fields = fields
        self._held: list[_Held] = []

    def add(self, piece: Piece) -> None:
        """Take a piece's rows whose time fits."""
        rows, slots = piece.block.rows, slice(piece.row, piece.last)
        points = np.frombuffer(rows.points, np.uint64)[slots]
        start, end = self._fields.start or 0, self._fields.end
        fits = (points >= start) & (points < end) if end is not None else points >= start
        sizes = np.frombuffer(rows.raw_sizes, np.uint32)[slots].astype(np.int64)
        data = rows.render(piece.row, piece.last)
        held = _Held(piece.span, points, _edges(sizes), data)
        if not fits.all():
            held = _some(held, fits)
        if len(held.points) and not _ended(held):
            lines = [held.data[a:b] for a, b in zip(held.edges[:-1].tolist(), held.edges[1:].tolist(), strict=True)]
            lines = [line if line.endswith(b"\n") else line + b"\n" for line in lines]
            sizes = np.fromiter(map(len, lines), np.int64, len(lines))
            held = held._replace(edges=_edges(sizes), data=b"".join(lines))
        if len(held.points):
            self._keep(held)
            self.count += len(held.points)

    def _keep(self, held: _Held) -> None:
        self._held.append(held)
        self.size += len(held.data) + ROW_COST * len(held.points)

    def take(self, before: int | None = None) -> Iterator[bytes]:
        """See Waiting."""
        if not self._held:
            return
        held = sorted(self._held, key=lambda one: (_place(one.span), one.span.first))  # decides among equal points
        self._held, self.size = [], 0
        points = np.concatenate([one.points for one in held])
        starts = np.cumsum([0, *(len(one.data) for one in held)])
        edges = np.concatenate([one.edges[:-1] + start for one, start in zip(held, starts.tolist(), strict=False)])
        edges, data = np.append(edges, starts[-1]), b"".join(one.data for one in held)
        if before is not None:
            for one in held:
                later = one.points >= before
                if later.any():
                    self._keep(one if later.all() else _some(one, later))
            ready = np.flatnonzero(points < before)
            order = ready[np.argsort(points[ready], kind="stable")]
        else:
            order = np.argsort(points, kind="stable")
        del held, points
        for at in range(0, len(order), ROWS):
            yield arranged(data, edges, order[at : at + ROWS])


def _edges(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    edges = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=edges[1:])
    return edges


def _some(held: _Held, fits: NDArray[np.bool_]) -> _Held:
    """Those rows of it."""
    order, sizes = np.flatnonzero(fits), np.diff(held.edges)
    return held._replace(
        points=held.points[order], edges=_edges(sizes[order]), data=arranged(held.data, held.edges, order)
    )


def _ended(held: _Held) -> bool:
    """Does every line end with LF?"""
    whole = np.diff(held.edges).all()  # none is empty: a message may be
    return bool(whole and (np.frombuffer(held.data, np.uint8)[held.edges[1:] - 1] == 10).all())


def _place(span: Span) -> tuple[bytes, bytes, bytes, bytes]:
    return span.host, span.path, span.tailer, span.stream
