"""Was anything lost, shown twice or made up? The same judge for every system, over the logs of senders and readers.

It imports nothing of any product, only the logs' form (bench/rivals/lines.py). What a sender was told is stored (A) and
no reader was ever given (R) is lost; what a reader of the past was given twice is a duplicate; what nobody sent is a
phantom. A run whose logs can't prove either (nothing was acknowledged; the reader didn't get to its end) is unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, Literal

from bench.rivals.lines import Record, read_log

Id = tuple[int, int]  # sender, number
Verdict = Literal["valid", "invalid", "unknown"]
NS = 10**9
SHOWN = 3  # examples of what is wrong


@dataclass
class Sent:
    """What senders wrote down: when each event was due, was acknowledged, was given up. Nanoseconds."""

    due: dict[Id, int] = field(default_factory=dict)
    acked: dict[Id, int] = field(default_factory=dict)
    failed: dict[Id, int] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record]) -> Sent:
        """ValueError for a record that can't be: an event sent twice, or acknowledged that was not sent."""
        found = cls()
        for one in records:
            name = one.sender, one.number
            if one.kind == "S":
                if name in found.due:
                    raise ValueError(f"event {name} was sent twice by its own log")
                found.due[name] = one.ns
            elif one.kind in "AF":
                if name not in found.due:
                    raise ValueError(f"event {name} was answered, but not sent, by its own log")
                (found.acked if one.kind == "A" else found.failed).setdefault(name, one.ns)
        return found

    @property
    def latencies(self) -> list[int]:
        """Nanoseconds from due to acknowledged, of every event that was."""
        return [ns - self.due[name] for name, ns in self.acked.items()]


@dataclass(frozen=True)
class Judged:
    """`lost`: acknowledged and never read. `torn`: neither acknowledged nor read, which nobody promised.
    `inversions`: neighbours of one sender that a reader was given in the other order."""

    verdict: Verdict
    why: tuple[str, ...]
    sent: int
    acked: int
    read: int
    lost: int
    duplicates: int
    phantoms: int
    inversions: int
    torn: int

    def figures(self) -> dict[str, Any]:
        """For the results."""
        return {**vars(self), "why": list(self.why)}


def judge(sent: Sent, read: Sequence[Id], *, whole: bool = True) -> Judged:
    """`read`: what one reader of everything was given, in its order. `whole`: it got to its end."""
    counts = Counter(read)
    lost = sorted(sent.acked.keys() - counts.keys())
    duplicates = sorted(name for name, count in counts.items() if count > 1)
    phantoms = sorted(counts.keys() - sent.due.keys())
    why = []
    for names, what in ((lost, "acknowledged and never read"), (duplicates, "read twice"), (phantoms, "never sent")):
        if names:
            why.append(f"{len(names)} {what}, such as {', '.join(f'{s}/{n}' for s, n in names[:SHOWN])}")
    doubt = []
    if not sent.acked:
        doubt.append("nothing was acknowledged")
    if not whole:
        doubt.append("the reader did not get to its end")
    proved = bool(duplicates or phantoms or (lost and whole))
    return Judged(
        verdict="invalid" if proved else "unknown" if doubt else "valid",
        why=tuple(why + doubt),
        sent=len(sent.due),
        acked=len(sent.acked),
        read=len(read),
        lost=len(lost),
        duplicates=sum(counts[name] - 1 for name in duplicates),
        phantoms=len(phantoms),
        inversions=inversions(read),
        torn=len(sent.due.keys() - sent.acked.keys() - counts.keys()),
    )


def inversions(read: Iterable[Id]) -> int:
    """How often a sender's event comes right after a later one of the same sender."""
    last: dict[int, int] = {}
    found = 0
    for sender, number in read:
        found += number < last.get(sender, -1)
        last[sender] = number
    return found


def read_ids(path: Path) -> list[Id]:
    """What the reader of this log was given, in order."""
    return [(one.sender, one.number) for one in read_log(path) if one.kind == "R"]


def sent_of(paths: Iterable[Path]) -> Sent:
    """Of all senders together."""
    return Sent.of(record for path in paths for record in read_log(path))


# --- over time ------------------------------------------------------------------------------------------------------


def longest_gap(sent: Sent, begin_ns: int, end_ns: int) -> tuple[int, int]:
    """The longest stretch of this time in which no event was acknowledged: its length and its begin, nanoseconds."""
    times = sorted(ns for ns in sent.acked.values() if begin_ns <= ns <= end_ns)
    return max((after - before, before) for before, after in pairwise([begin_ns, *times, end_ns]))


def worst(sent: Sent, begin_ns: int, end_ns: int) -> int:
    """Nanoseconds that the slowest event took whose way from due to acknowledged touched this time. One that was never
    acknowledged took until the end at least."""
    took = [sent.acked.get(name, end_ns) - due for name, due in sent.due.items() if due < end_ns
            and sent.acked.get(name, end_ns) >= begin_ns]  # fmt: skip
    return max(took, default=0)


def rate(sent: Sent, begin_ns: int, end_ns: int, width_ns: int) -> list[float]:
    """Acknowledged events a second, for each piece of this time that is so wide; the last may be cut short."""
    counts = [0] * ceil((end_ns - begin_ns) / width_ns)
    for ns in sent.acked.values():
        if begin_ns <= ns < end_ns:
            counts[(ns - begin_ns) // width_ns] += 1
    return [count * NS / min(width_ns, end_ns - begin_ns - i * width_ns) for i, count in enumerate(counts)]


def waits(sent: Sent, begin_ns: int, end_ns: int, width_ns: int) -> list[float | None]:
    """Seconds that the worst event took that fell due in each piece of this time; None where none fell due. One that
    was never acknowledged took until the end at least."""
    worst: list[int | None] = [None] * ceil((end_ns - begin_ns) / width_ns)
    for name, due in sent.due.items():
        if begin_ns <= due < end_ns:
            at = (due - begin_ns) // width_ns
            took = sent.acked.get(name, max(end_ns, due)) - due
            worst[at] = max(took, worst[at] or 0)
    return [None if one is None else one / NS for one in worst]
