"""Do a row group's rows lie where the footer says? Rows that were dropped, added or put in another order show here.

A stretch is consecutive rows of one stream without a hole in its bytes; it begins with the row that states its offset.
The stretches that the rows really form are held against those of the footer, in order. Pure.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from porter.damage import Damage
from porter.footer import Check, Footer
from porter.parquet_read import Run
from protocol.packet import Key

__all__ = ["Found", "Laid", "laid_out", "layout_damage"]


class Found(NamedTuple):
    """A run of rows in a row group: bytes `first` to `end` of its stream, as they are, and the events' points."""

    run: Run
    group: int
    first: int
    end: int
    text: bytes
    points: tuple[int, ...]

    @property
    def key(self) -> Key:
        """The packet that its rows say they came in."""
        return Key(self.run.tailer, self.run.epoch, self.run.packet)


class Laid(NamedTuple):
    """A stretch as it lies: of which stream, how many rows, which bytes, and the packet of its first row."""

    tailer: bytes
    stream: bytes
    host: bytes
    path: bytes
    rows: int
    first: int
    end: int
    epoch: int
    number: int
    check: int


def laid_out(footer: Footer) -> Mapping[int, list[Laid]]:
    """Row group -> its stretches in order of rows, as the footer has them."""
    places: defaultdict[int, list[tuple[int, Laid]]] = defaultdict(list)
    for one in footer.streams:
        for at in one.stretches:
            names = one.tailer, one.stream, one.host, one.path
            facts = at.last - at.row, at.first, at.end, at.epoch, at.number, at.check
            places[at.group].append((at.row, Laid(*names, *facts)))
    return {group: [laid for _, laid in sorted(some)] for group, some in places.items()}


def layout_damage(name: str, number: int, expected: Sequence[Laid], found: Sequence[Found]) -> list[Damage]:
    """What of row group `number` lies otherwise than `expected`, a line a stream; and where bytes or times are others.

    The second has no words of its own (`what` is empty): whose they are, the packets will say.
    """
    laid, nameless = _stretches(found)
    damages = [_named(name, number, one, "a row that must say its offset does not") for one in nameless]
    if laid == list(expected):
        return damages
    missing, more = Counter(expected) - Counter(laid), Counter(laid) - Counter(expected)
    if not missing and not more:
        one = next(one for one, other in zip(laid, expected, strict=True) if one != other)
        return [*damages, _named(name, number, one, "its rows stand in another order")]
    streams: defaultdict[tuple[bytes, bytes], list[Laid]] = defaultdict(list)
    for one in (*missing, *more):
        streams[one.tailer, one.stream].append(one)
    for (tailer, stream), some in streams.items():
        rows = [sum(one.rows for one in side if one[:2] == (tailer, stream)) for side in (laid, expected)]
        what = "its rows are cut otherwise than written" if rows[0] == rows[1] else f"{rows[0]} rows, not {rows[1]}"
        whole = some[0]._replace(first=min(one.first for one in some), end=max(one.end for one in some))
        cuts = [{one._replace(check=0) for one in side if one in some} for side in (missing, more)]
        damages.append(_named(name, number, whole, "" if cuts[0] == cuts[1] else what))
    return damages


def _stretches(found: Iterable[Found]) -> tuple[list[Laid], list[Laid]]:
    """What the rows form; and those of them whose first row does not say where it begins."""
    laid: list[Laid] = []
    nameless: list[int] = []
    checks: list[Check] = []
    for one in found:
        run = one.run
        facts = run.tailer, run.stream, run.host, run.path
        rows = run.last - run.row
        if not run.states and laid and laid[-1][:4] == facts:
            laid[-1] = laid[-1]._replace(rows=laid[-1].rows + rows, end=one.end)
        else:
            if not run.states:
                nameless.append(len(laid))
            laid.append(Laid(*facts, rows, one.first, one.end, run.epoch, run.packet, 0))
            checks.append(Check())
        checks[-1].add(one.text, array("Q", one.points).tobytes())
    laid = [one._replace(check=check.value) for one, check in zip(laid, checks, strict=True)]
    return laid, [laid[at] for at in nameless]


def _named(name: str, number: int, one: Laid, what: str) -> Damage:
    place = one.stream, one.path, one.first, one.end
    return Damage(name, what, number, tailer=one.tailer, stream=place[0], path=place[1], first=place[2], end=place[3])
