"""Nodes are killed, or lose their power, while events of every class come: how many that were acknowledged are gone.

One cluster takes all cases, one after another: first what was written before is brought to the devices, then events
come for some seconds, then so many nodes are hit at once and started again at once, the sender goes on until all is
acknowledged, and everything is read. Acknowledged events that this reader isn't given are not there at once.

Senders live on, and so does what they still have: Buck's tailers keep a journal, and the same journal is then delivered
(`tailer run --once`); a Kafka producer has nothing of what was acknowledged, and gets as long. Then all is read again,
and what isn't given now is lost for good.

After a power cut classes with and without fsyncs are looked at apart: in Buck packets of all classes lie in one file of
a bucket of time, and an fsync for one of them keeps what the others have there, too.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bench.papers import checker
from bench.papers.steps import Figures
from bench.rivals import mix
from bench.rivals.buck import Buck
from bench.rivals.lines import read_log
from bench.rivals.power import Disks
from bench.rivals.process import Client, Program, RivalError
from bench.rivals.rival import Rival

NODES = 3
SENDERS_MAX = 12  # each case begins anew at its multiples
FINISH_S, READ_S, LOOK_S = 120.0, 60.0, 0.1
PATIENCE_S, DELIVER_S = 10.0, 90.0  # without any progress; in all
WHY_MAX = 120


class Fault(NamedTuple):
    """What happens to how many of the nodes at once."""

    power: bool
    nodes: int

    @property
    def name(self) -> str:
        return f"{'power cut' if self.power else 'kill -9'} of {self.nodes}"


class Case(NamedTuple):
    """A fault, while events of such a mix come."""

    fault: Fault
    mix: str

    @property
    def name(self) -> str:
        return f"{self.fault.name}: {self.mix}"


# What says most comes first: there may be no time for the rest.
CASES = [
    Case(Fault(False, 1), "each"),
    *(Case(Fault(True, nodes), "unsynced") for nodes in (1, 2, 3)),
    Case(Fault(False, 3), "each"),
    *(Case(Fault(True, nodes), "audit") for nodes in (3, 2, 1)),
]


def hit(
    make: Callable[[int], Rival], cases: Sequence[Case], rate: float, event_s: float, most_s: float, seed: int
) -> Figures:
    """Of each case and kind: events acknowledged, not there at once, lost for good, read twice; or why there is no
    such figure. `make` gives a cluster by number, not started yet: one that a case failed on isn't used again. No case
    begins later than `most_s`."""
    chance = random.Random(seed)
    left = [(case, sorted(chance.sample(range(NODES), case.fault.nodes))) for case in cases]
    found: Figures = {}
    until = time.monotonic() + most_s
    while left and time.monotonic() < until:
        rival = make(len(left))
        try:
            with rival:
                rival.disks = Disks(rival.folder.with_name(f"{rival.folder.name}-disks"))
                rival.start(NODES)
                while left and time.monotonic() < until:
                    case, chosen = left[0]
                    found |= _one(rival, case, chosen, SENDERS_MAX * (len(cases) - len(left)), rate, event_s)
                    del left[0]
        except Exception as error:  # whatever it is: the other cases' figures are not to be lost by it
            print(f"{rival.name}: {left[0][0].name if left else 'the end'}: {error}", file=sys.stderr, flush=True)
            if left:
                found[f"{left.pop(0)[0].name}: why"] = f"failed: {' '.join(str(error).split())}"[:WHY_MAX]
    return found | {f"{case.name}: why": "no time was left for it" for case, _ in left}


def _one(rival: Rival, case: Case, chosen: list[int], first: int, rate: float, event_s: float) -> Figures:
    """`first`: the name of the first sender, which none has had before."""
    assert rival.disks is not None
    sent = rival.folder / f"sent{first}.log"
    rival.disks.sync()
    rival.settings = replace(rival.settings, mix=case.mix)
    sender = rival.pace(sent, rate=rate, senders=len(mix.MIXES[case.mix]), first=first)
    try:
        _until_acked(sent, case.mix, sender)
        time.sleep(event_s)
        _befall(rival, case.fault, chosen)
        sender.finish(FINISH_S)
    finally:
        sender.kill()
    rival.settings = replace(rival.settings, mix="each")  # everything that there is
    found: Figures = {}
    at_once: dict[str, int] | None = None
    try:
        at_once = count(sent, _read(rival, f"once{first}"), case.mix)
        found |= at_once
    except RivalError as error:  # such as a partition that nobody serves yet: it may come
        print(f"{rival.name}: {case.name}: no reader at once: {error}", file=sys.stderr, flush=True)
    if at_once is None or any(at_once[f"{kind.name}: lost"] for kind in mix.MIXES[case.mix]):
        _wait_for_senders(rival, first)
        found = count(sent, _read(rival, f"later{first}"), case.mix)
    for kind in mix.MIXES[case.mix]:
        found |= {f"{kind.name}: not at once": at_once and at_once[f"{kind.name}: lost"]}
    return {f"{case.fault.name}: {key}": value for key, value in found.items()}


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


def _read(rival: Rival, name: str) -> Path:
    log = rival.folder / f"{name}.log"
    rival.consume(log, live=False).finish(READ_S)
    return log


def _wait_for_senders(rival: Rival, first: int) -> None:
    """What these senders' hosts still have is brought."""
    if not isinstance(rival, Buck):
        time.sleep(PATIENCE_S)
        return
    log = rival.folder / f"deliver{first}.log"
    # What it can't bring within its patience is not there for the reader, and counts: its exit code says no more.
    Program.start("the tailer", deliver(rival.folder / f"sender{first}", rival.addresses()), log).wait(DELIVER_S)


def deliver(folder: Path, addresses: Sequence[str]) -> list[str]:
    """A tailer that goes on with the journal, the rules and the files of buck_client.py's in this folder, until three
    nodes have everything that is mended on their devices."""
    command = [sys.executable, "-m", "tailer", "run", "--config", str(folder / "tailer.toml")]
    command += ["--journal", str(folder / "journal"), "--once", "--level", "A2", "--patience", f"{PATIENCE_S:.0f}s"]
    command += [word for address in addresses for word in ("--to", address)]
    return [*command, *map(str, sorted(folder.glob("*.log")))]


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
