"""Nodes are killed, or lose their power, while events of every class come: how many that were acknowledged are gone.

One cluster takes all faults, one after another: first what was written before is brought to the devices, then events
come for some seconds, then so many nodes are hit at once and started again at once, the sender goes on, and everything
is read. What was acknowledged and isn't read is lost. Senders live on: what they still hold, they send again.

Classes with and without fsyncs are hit apart: in Buck packets of all classes lie in one file of a bucket of time, and
an fsync for one of them keeps what the others have there, too.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

from bench.papers import checker
from bench.papers.steps import Figures
from bench.rivals import mix
from bench.rivals.lines import read_log
from bench.rivals.power import Disks
from bench.rivals.process import Client, RivalError
from bench.rivals.rival import Rival

NODES = 3
MIXES = ["unsynced", "audit"]
SENDERS_MAX = 12  # each mix begins anew at its multiples
FINISH_S, READ_S, LOOK_S = 120.0, 120.0, 0.1


class Fault(NamedTuple):
    """What happens to how many of the nodes at once."""

    power: bool
    nodes: int

    @property
    def name(self) -> str:
        return f"{'power cut' if self.power else 'kill -9'} of {self.nodes}"


FAULTS = [Fault(power, nodes) for power in (False, True) for nodes in (1, 2, 3)]


def hit(rival: Rival, faults: list[Fault], rate: float, seconds: float, seed: int) -> Figures:
    """Acknowledged, lost and doubled events of each kind under each fault. `rival` is not started yet."""
    rival.disks = Disks(rival.folder.with_name(f"{rival.folder.name}-disks"))
    chance = random.Random(seed)
    found: Figures = {}
    with rival:
        rival.start(NODES)
        for number, (fault, how) in enumerate(product(faults, MIXES)):
            rival.settings = replace(rival.settings, mix=how)
            sent, read = rival.folder / f"sent{number}.log", rival.folder / f"read{number}.log"
            rival.disks.sync()
            kinds = mix.MIXES[how]
            sender = rival.pace(sent, rate=rate, senders=len(kinds), first=number * SENDERS_MAX)
            _until_acked(sent, how, sender)
            time.sleep(seconds)
            _befall(rival, fault, sorted(chance.sample(range(NODES), fault.nodes)))
            sender.finish(FINISH_S)
            rival.settings = replace(rival.settings, mix="each")  # everything that there is
            rival.consume(read, live=False).finish(READ_S)
            found |= {f"{fault.name}: {key}": value for key, value in count(sent, read, how).items()}
    return found


def _until_acked(sent: Path, how: str, sender: Client) -> None:
    """Wait until something of every kind is acknowledged: on a busy host that takes its time."""
    deadline = time.monotonic() + FINISH_S
    while {mix.of(how, one.sender) for one in read_log(sent) if one.kind == "A"} != set(mix.MIXES[how]):
        if not sender.running() or time.monotonic() > deadline:
            raise RivalError(f"{sender.name}: not every class is acknowledged:\n{sender.log_end()}")
        time.sleep(LOOK_S)


def _befall(rival: Rival, fault: Fault, chosen: list[int]) -> None:
    if fault.power:
        rival.cut_power(chosen)
    else:
        for i in chosen:
            rival.kill(i)
    rival.restart(*chosen)


def count(sent: Path, read: Path, how: str) -> dict[str, int]:
    """By kind: events acknowledged, those of them that nobody was given, those that somebody was given twice."""
    found = {f"{kind.name}: {what}": 0 for kind in mix.MIXES[how] for what in ("acked", "lost", "twice")}
    given = Counter(checker.read_ids(read))
    for event in checker.sent_of([sent]).acked:
        kind = mix.of(how, event[0]).name
        found[f"{kind}: acked"] += 1
        found[f"{kind}: lost"] += event not in given
        found[f"{kind}: twice"] += given[event] > 1
    return found
