"""Does the judge see what it must? A known loss, duplicate and phantom for every system: `bench papers --verify`."""

from __future__ import annotations

from functools import partial

from bench.papers import faults
from bench.papers.steps import Figures, Room, Scale, Step
from bench.rivals import nets
from bench.rivals.commands import RIVALS
from bench.rivals.process import RivalError
from bench.rivals.rival import Rival, Settings

PAPER, NAME = 2, "verify"


def steps(_: Scale) -> list[Step]:
    """A small cluster of each system."""
    return [Step(PAPER, NAME, kind.name, partial(measure, kind), missing=kind.missing(), repetitions=1)
            for kind in RIVALS]  # fmt: skip


def measure(kind: type[Rival], room: Room) -> Figures:
    """RivalError names what the judge did not see."""
    settings = Settings(copies=2, linger_ms=5, nets=not nets.missing())
    with kind(room.folder / "cluster", settings) as rival:
        rival.start(2)
        found = faults.verified(rival, room.folder / "logs")
    if blind := [name for name, seen in found.items() if not seen]:
        raise RivalError(f"{kind.name}: the judge is wrong about: {', '.join(blind)}")
    return found
