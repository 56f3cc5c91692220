"""`porter cat HOST PATH`: a file as it was, byte for byte, from the bucks or the archive.

Under one path a host may have had several files, one after another: each is a stream of its own, a *generation*. They
are written oldest first, in order of the time of their first event (of equal times: as they were sent);
`--generation` picks one. A renamed file's lines
stay under the path under which they were first read.

Bytes are written in order of offset, wherever they lie. Where some are missing nothing is invented and nothing hidden:
the ranges go to stderr, and the exit code is not 0. Where two packets disagree about the same bytes both versions are
written, the one filed first before the other, and counted.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from porter.merge import Merged, merged, tangles
from porter.reader import Reader
from porter.source import Piece, Span
from protocol.limits import POINT_HZ

__all__ = ["Copied", "Generation", "UnknownFileError", "cat", "choose", "generations"]

NEAR_MAX = 5
Write = Callable[[bytes], Awaitable[None]]


class UnknownFileError(Exception):
    """No such host, path or generation: one line, exit code 1."""


class Generation(NamedTuple):
    """One stream under a path: its runs, in order of offset, and the time of its first event."""

    point: int
    spans: tuple[Span, ...]


@dataclass
class Copied:
    """What `cat` wrote, and what it could not: offsets as (generation, first, end)."""

    size: int = 0
    gaps: list[tuple[int, int, int]] = field(default_factory=list)
    clashes: list[tuple[int, int, int]] = field(default_factory=list)
    begins: list[tuple[int, int]] = field(default_factory=list)  # (generation, offset) that does not begin at 0


async def generations(reader: Reader, host: bytes, path: bytes) -> list[Generation]:
    """All streams under a path, oldest first. UnknownFileError, naming what is near, if there are none."""
    streams: defaultdict[tuple[bytes, bytes], list[Span]] = defaultdict(list)
    for span in await reader.spans(host, path):
        streams[span.source].append(span)
    if not streams:
        archived = [line for line in reader.shortfalls() if line.startswith("archived")]
        raise UnknownFileError(archived[0] if archived else _unknown(host, path, await reader.names()))
    found = []
    for spans in streams.values():
        spans.sort(key=lambda span: (span.first, span.end, span.rank))
        found.append(Generation(await _first_point(reader, spans), tuple(spans)))
    return sorted(found, key=_age)


def _age(one: Generation) -> tuple[int, object]:
    """Oldest first: by time, then by where in which packet it begins. The archive knows as much as the bucks do."""
    return one.point, min(span.rank for span in one.spans if span.first == one.spans[0].first)


async def _first_point(reader: Reader, spans: Sequence[Span]) -> int:
    """The time of a stream's first event; of an empty one, that of the bucket in which it was said to be empty."""
    for span in spans:
        piece = await reader.load(span) if span.count else None
        if piece is not None:
            return piece.block.rows.points[piece.row]
    return min(span.bucket for span in spans) * POINT_HZ


def choose(found: Sequence[Generation], generation: str | None) -> list[tuple[int, Generation]]:
    """The generations asked for, each with its number, counted from 1."""
    numbered = list(enumerate(found, 1))
    if generation is None:
        return numbered
    if generation == "last":
        return numbered[-1:]
    if not generation.isdecimal() or not 1 <= int(generation) <= len(found):
        raise UnknownFileError(f"no generation {generation}: there are {len(found)}, 1 is the oldest; or say last")
    return [numbered[int(generation) - 1]]


async def cat(reader: Reader, chosen: Sequence[tuple[int, Generation]], write: Write) -> Copied:
    """Write the bytes of these generations, one after another."""
    copied = Copied()
    for number, generation in chosen:
        at: int | None = None
        async with aclosing(_in_order(reader, generation.spans)) as windows:
            async for window in windows:
                for piece, clash in _shown(window):
                    first, end = piece.span.first, piece.span.end
                    data = piece.render()
                    await write(data)
                    copied.size += len(data)
                    if clash:
                        copied.clashes.append((number, first, end))
                        continue
                    if at is None and first:
                        copied.begins.append((number, first))
                    elif at is not None and first > at:
                        copied.gaps.append((number, at, first))
                    at = end
    return copied


async def _in_order(reader: Reader, spans: Sequence[Span]) -> AsyncGenerator[Merged, None]:
    for group in tangles(spans):
        async with aclosing(merged(group, reader.load)) as windows:
            async for window in windows:
                yield window


def _shown(window: Merged) -> list[tuple[Piece, bool]]:
    """Pieces in order of offset; a clash comes behind what it differs from."""
    both = [(piece, False) for piece in window.kept] + [(one.piece, True) for one in window.clashes]
    return sorted(both, key=lambda one: (one[0].span.first, one[1]))


def _unknown(host: bytes, path: bytes, names: set[tuple[bytes, bytes]]) -> str:
    hosts = sorted({name.decode("utf-8", "backslashreplace") for name, _ in names})
    wanted, where = path.decode("utf-8", "backslashreplace"), host.decode("utf-8", "backslashreplace")
    if where not in hosts:
        near = difflib.get_close_matches(where, hosts, NEAR_MAX) or hosts[:NEAR_MAX]
        return f"no host {where}: " + (f"there is {', '.join(near)}" if near else "there is nothing yet")
    paths = sorted({one.decode("utf-8", "backslashreplace") for name, one in names if name == host})
    near = difflib.get_close_matches(wanted, paths, NEAR_MAX, 0.5) or [one for one in paths if wanted in one][:NEAR_MAX]
    return f"{where} has no {wanted}" + (f": near it are {', '.join(near)}" if near else "")
