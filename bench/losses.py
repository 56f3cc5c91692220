"""What is lost when so many of so many bucks die at once: `python -m bench.losses` prints the table as Markdown.

Packets are placed by the tailer's own choosing code (two copies at A1, the third at A2), then every set of k bucks dies
in turn, each packet is looked for on those left, and the shares are counted. Beside it is what a majority quorum over
the same nodes (Raft, JetStream with as many replicas as nodes) can do: an entry is acknowledged when a majority has it,
which is all that is promised of it at that moment; with half or more of the nodes dead it acknowledges nothing.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from types import SimpleNamespace
from typing import Any, cast

from tailer.ledger import Entry
from tailer.members import Buck
from tailer.send import A1_COPIES, Sender

A2_COPIES = 3
PACKETS = 3_000
SIZES = (3, 4, 5, 6)
SEED = 1


@dataclass(frozen=True)
class Cell:
    """What is lost in a cluster of `bucks` when `killed` of them die, as shares of all packets of that level."""

    bucks: int
    killed: int
    a1: float  # two copies
    a2: float  # three
    worst_a2: float  # of all sets that may die, the one that costs most
    quorum: float  # of entries that exactly a majority has

    @property
    def quorum_writes(self) -> bool:
        """Can a majority quorum still acknowledge anything?"""
        return 2 * (self.bucks - self.killed) > self.bucks


def table() -> list[Cell]:
    """Every cluster, every number of dead."""
    found = []
    for count in SIZES:
        a1, a2 = place(count, A1_COPIES), place(count, A2_COPIES)
        quorum = majorities(count)
        for killed in range(1, count):
            dead = list(combinations(range(count), killed))
            found.append(
                Cell(
                    count, killed, mean_lost(a1, dead), mean_lost(a2, dead), max(lost(a2, one) for one in dead),
                    mean_lost(quorum, dead),
                )
            )  # fmt: skip
    return found


def place(count: int, copies: int) -> list[frozenset[int]]:
    """Where packets go, by the tailer's own choice among live bucks: first two, then one more."""
    bucks = [Buck(bytes([number]) * 16, f"b{number}:7411", host=b"b%d" % number) for number in range(count)]
    members = SimpleNamespace(live=lambda: bucks, bucks={buck.node: buck for buck in bucks})
    sender = Sender(cast(Any, SimpleNamespace(random=random.Random(SEED))), cast(Any, None), cast(Any, members))
    found = []
    for _ in range(PACKETS):
        entry = cast(Entry, SimpleNamespace(stored=()))
        for wanted in (A1_COPIES, copies):
            chosen = sender._choose(entry, wanted - len(entry.stored), set())
            entry.stored = (*entry.stored, *(buck.node for buck in chosen))
        found.append(frozenset(node[0] for node in entry.stored))
    return found


def majorities(count: int) -> list[frozenset[int]]:
    """Every set of nodes that is just a majority."""
    return [frozenset(one) for one in combinations(range(count), count // 2 + 1)]


def lost(packets: Iterable[frozenset[int]], dead: Iterable[int]) -> float:
    """The share of packets all of whose holders are dead."""
    gone = [holders <= set(dead) for holders in packets]
    return sum(gone) / len(gone)


def mean_lost(packets: list[frozenset[int]], deaths: list[tuple[int, ...]]) -> float:
    """The same over all sets that may die, each as likely as the others."""
    return sum(lost(packets, dead) for dead in deaths) / len(deaths)


def markdown(cells: Iterable[Cell]) -> str:
    """The table, for a document."""
    lines = [
        "| bucks | die at once | A1 lost (2 copies) | A2 lost (3 copies) | worst set, A2 | Buck takes packets | "
        "majority quorum: lost of just acknowledged | takes entries |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for cell in cells:
        left = cell.bucks - cell.killed
        takes = "yes" if left >= A1_COPIES else "yes, one copy, kept in journals too"
        shares = map(_share, (cell.a1, cell.a2, cell.worst_a2))
        ours = [str(cell.bucks), str(cell.killed), *shares, takes]
        lines.append(f"| {' | '.join([*ours, _share(cell.quorum), 'yes' if cell.quorum_writes else 'no'])} |")
    return "\n".join(lines)


def _share(value: float) -> str:
    return "0" if not value else f"{100 * value:.1f} %"


if __name__ == "__main__":
    sys.stdout.write(markdown(table()) + "\n")
