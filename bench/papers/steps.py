"""What is to be run: steps, each a measurement of one system, repeated in alternating order, that can go on later.

A paper's module has `steps(scale) -> list[Step]`. A step's `run` is called once a repetition with an empty folder and
a seed of its own, and gives the figures of that repetition, which must be JSON. What ran stands in the results with
its key, so that a run that was interrupted goes on where it ended.
"""

from __future__ import annotations

import math
import shutil
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.papers.results import Results, Row
from bench.rivals import power
from bench.rivals.process import RivalError

Figures = dict[str, Any]  # units stand in the keys: cpu_s_per_gb, worst_ack_s
GB = 10**9
WHY_MAX = 4000  # characters of an error that are kept


@dataclass(frozen=True)
class Scale:
    """How much is measured. `quick`: whether all works, in minutes, with no judgement on speed."""

    quick: bool
    logs: tuple[Path, ...]
    repetitions: int = 5
    raw_bytes: int = GB  # of logs at full load
    paced_s: float = 30.0  # of events at a steady rate, a fault in their midst included

    @classmethod
    def of(cls, quick: bool, logs: Sequence[Path]) -> Scale:
        return cls(True, tuple(logs), 1, 20_000_000, 6.0) if quick else cls(False, tuple(logs))


@dataclass(frozen=True)
class Room:
    """What a repetition is given: a folder that is empty and goes away after it, the scale, and a seed."""

    folder: Path
    scale: Scale
    seed: int


@dataclass(frozen=True)
class Step:
    """One measurement of one system. `missing`: why it can't be made here; it is then told, not left out in silence.

    `repetitions`: fewer than the scale says where a repetition takes minutes; the pages say how many there were."""

    paper: int
    name: str
    system: str
    run: Callable[[Room], Figures] = field(compare=False)
    variant: str = ""
    missing: str = ""
    repetitions: int | None = None

    def times(self, scale: Scale) -> int:
        return min(scale.repetitions, self.repetitions or scale.repetitions)


def in_turn(steps: Sequence[Step], scale: Scale) -> Iterator[tuple[Step, int]]:
    """Each step so many times; all once before any is repeated, so that a run that is cut short has something of each.
    Steps of one name take turns, and every second turn goes backwards: what a system left behind in caches and clocks
    is not always met by the same other."""
    for repetition in range(max((step.times(scale) for step in steps), default=0)):
        for name in dict.fromkeys((step.paper, step.name) for step in steps):
            group = [step for step in steps if (step.paper, step.name) == name and repetition < step.times(scale)]
            for step in group if repetition % 2 == 0 else reversed(group):
                yield step, repetition


def run(
    steps: Sequence[Step],
    scale: Scale,
    results: Results,
    folder: Path,
    say: Callable[[str], None],
    seconds: float = math.inf,
) -> bool:
    """All that hasn't been run yet; what has run once is repeated only if that can end within `seconds` of the begin,
    by how long it took. False if a step failed: it is named in the results, and the others go on."""
    whole, until = True, time.monotonic() + seconds
    for step, repetition in in_turn(steps, scale):
        row = Row(step.paper, step.name, step.system, step.variant, repetition)
        words = f"paper {step.paper}: {step.name}, {' '.join(filter(None, (step.system, step.variant)))}"
        if step.missing:
            if repetition == 0 and not results.says_left_out(row):
                say(f"{words}: left out: {step.missing}")
                results.left_out(row, step.missing)
            continue
        if results.has(row):
            continue
        if repetition and time.monotonic() + results.longest(row) > until:
            say(f"{words}, {repetition + 1} of {step.times(scale)}: no time left for it")
            continue
        results.begun(row)
        power.sweep(folder)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        seed = zlib.crc32(f"{step.paper} {step.name} {repetition}".encode())  # the same for all systems
        begin = time.monotonic()
        try:
            figures = step.run(Room(folder, scale, seed))
            seconds = time.monotonic() - begin
            results.add(row, figures, seed, seconds)
        except Exception as error:  # whatever it is: an hour of others is not to be lost by it
            whole = False
            why = str(error) if isinstance(error, RivalError) else f"{type(error).__name__}: {error}"
            say(f"{words}, {repetition + 1}: FAILED: {why}")
            traceback.print_exception(error)
            results.failed(row, why[-WHY_MAX:], seed)
        else:
            say(f"{words}, {repetition + 1} of {step.times(scale)}: {seconds:.1f} s")
    shutil.rmtree(folder, ignore_errors=True)
    return whole
