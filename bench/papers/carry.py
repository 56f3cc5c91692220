"""One day's mix carried by a cluster in several ways: what each way costs, and how long an acknowledgement takes.

A way says for each class of lines as which kind it is carried: all as one, or each as its own. All ways of a system go
through one cluster, one after another, in another order each time, after lines that warm it up; what is said of a way
is the difference between before and after. CPU, bytes and fsyncs are those of servers and senders.
"""

from __future__ import annotations

import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bench.papers import checker, syncs
from bench.papers.expected import quantile
from bench.papers.mixed import DAY, KINDS, PAIRED
from bench.papers.steps import GB, Figures
from bench.papers.syncs import Syncs
from bench.rivals import mix
from bench.rivals.buck import Buck
from bench.rivals.kafka import Kafka, producer_options
from bench.rivals.lines import weigh
from bench.rivals.process import Program, RivalError
from bench.rivals.rival import Rival

Way = Mapping[str, str]  # class of lines -> kind
ALL_NORMAL, ALL_AUDIT, OWN, OWN_PAIRED = "all as normal", "all as audit", "each as its own", "the same, pairs"
WAYS: dict[str, Way] = {
    ALL_NORMAL: dict.fromkeys(DAY, "normal"),
    ALL_AUDIT: dict.fromkeys(DAY, "audit"),
    OWN: {name: name for name in DAY},
    OWN_PAIRED: dict(zip(DAY, PAIRED, strict=True)),
}
PACED = {ALL_NORMAL: "normal", ALL_AUDIT: "audit", OWN: "day"}  # the mixes of paced senders
SENDERS = len(mix.MIXES["day"])
LOAD_S = 600.0
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


class Sent(NamedTuple):
    """What the senders of one load used. `syncs` is None where nobody could count."""

    cpu_s: float
    syncs: int | None


Send = Callable[[Way, Mapping[str, Path], Path], Sent]


def kafka_sender(rival: Kafka) -> Send:
    """kcat for each class, side by side, each with the options of full load, those that cost it least."""

    def send(way: Way, files: Mapping[str, Path], folder: Path) -> Sent:
        options = producer_options(rival.addresses(), replace(rival.settings, linger_ms=50, idempotent=False))
        programs = []
        for name, kind in way.items():
            command = [
                *syncs.prefix(folder / f"{name}.syncs"),
                "kcat",
                "-P",
                "-t",
                kind,
                "-l",
                str(files[name]),
                *options,
            ]
            programs.append(Program.start(f"kcat {name}", command, folder / f"{name}.log"))
        return _used(programs, [folder / f"{name}.syncs" for name in way])

    return send


def buck_sender(rival: Buck) -> Send:
    """One tailer for all classes, until each packet has what its class asks for, the third copy included."""

    def send(way: Way, files: Mapping[str, Path], folder: Path) -> Sent:
        config = folder / "tailer.toml"
        config.write_text(mix.rules({str(files[name]): KINDS[kind] for name, kind in way.items()}))
        words = ["--config", str(config), "--once", "--level", "A2", *(str(files[name]) for name in way)]
        found = rival.cluster.tailer(
            *words, name=f"tailer{time.monotonic_ns()}", prefix=syncs.prefix(folder / "tailer.syncs")
        )
        return _used([Program(found.name, found.popen, found.log)], [folder / "tailer.syncs"])

    return send


def _used(programs: Sequence[Program], counts: Sequence[Path]) -> Sent:
    """Wait for all of them."""
    for program in programs:
        if code := program.wait(LOAD_S):
            raise RivalError(f"{program.name} ended with {code}:\n{program.log_end()}")
    counted = [syncs.counted(path) for path in counts]
    total = None if None in counted else sum(filter(None, counted))
    return Sent(sum(program.usage().cpu_s for program in programs), total)


def warm_up(rival: Rival, send: Send, files: Mapping[str, Path], names: Sequence[str]) -> None:
    """These lines in each of these ways, uncounted: a JVM has compiled by then what it runs often."""
    for name in names:
        send(WAYS[name], files, _fresh(rival.folder / "sending"))


def ways(rival: Rival, send: Send, files: Mapping[str, Path], seed: int) -> Figures:
    """Every way's figures, their names behind the way's."""
    found: Figures = {}
    for name in random.Random(seed).sample(sorted(WAYS), len(WAYS)):
        work = _fresh(rival.folder / "sending")
        found |= {f"{name}: {key}": value for key, value in _one(rival, send, WAYS[name], files, work).items()}
    return found


def _one(rival: Rival, send: Send, way: Way, files: Mapping[str, Path], work: Path) -> Figures:
    """One way. What is held is counted: a load that lost lines is no figure."""
    raw, count = weigh(list(files.values()))
    held, cpu_s, stored = _held(rival), rival.cpu_s(), rival.disk().allocated
    traffic = rival.network() if rival.settings.nets else []
    written, written_by_senders = _written([node.pid for node in rival.nodes]), _written([os.getpid()])
    with ExitStack() as counting:
        counter = counting.enter_context(Syncs([node.pid for node in rival.nodes], work / "nodes.syncs"))
        begin = time.monotonic()
        sent = send(way, files, work)
        seconds = time.monotonic() - begin
    if (more := _held(rival) - held) < count:
        raise RivalError(f"{rival.name} was given {count} lines and holds {more}")
    servers = rival.cpu_s() - cpu_s
    known = counter.count is not None and sent.syncs is not None
    return {
        "cpu_s_per_gb": (servers + sent.cpu_s) / raw * GB,
        "servers_cpu_s_per_gb": servers / raw * GB,
        "network_of_raw": _more(traffic, rival) / raw if traffic else None,
        "stored_of_raw": (rival.disk().allocated - stored) / raw,
        "written_of_raw": (_written([node.pid for node in rival.nodes]) - written) / raw,
        "written_by_senders_of_raw": (_written([os.getpid()]) - written_by_senders) / raw,
        "syncs": counter.count,
        "syncs_by_senders": sent.syncs,
        "syncs_per_gb": ((counter.count or 0) + (sent.syncs or 0)) / raw * GB if known else None,
        "mb_per_s": raw / 1e6 / seconds,
        "raw": raw,
        "lines": count,
    }


def _held(rival: Rival) -> int:
    assert isinstance(rival, (Kafka, Buck))
    return rival.held()


def _more(before: Sequence[tuple[int, int]], rival: Rival) -> int:
    """Bytes that have come to the nodes since then: each of a sender's and of another node's once."""
    return sum(now[0] - then[0] for now, then in zip(rival.network(), before, strict=True))


def _written(pids: Sequence[int]) -> int:
    """Bytes that these processes, and those that they have waited for, have made their file systems write."""
    total = 0
    for pid in pids:
        fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        total += int(fields["write_bytes"]) - int(fields["cancelled_write_bytes"])
    return total


def _fresh(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    return folder


def steady(rival: Rival, rate: float, seconds: float) -> Figures:
    """Events at a steady rate, as a day has them, each way in turn: how long acknowledgements take, and fsyncs."""
    found: Figures = {}
    settings = rival.settings
    for name, how in PACED.items():
        rival.settings = replace(settings, mix=how)
        folder = rival.folder / f"paced-{how}"
        folder.mkdir()
        with Syncs([node.pid for node in rival.nodes], folder / "nodes.syncs") as counting:
            begin = time.monotonic()
            sender = rival.pace(folder / "log", rate=rate, senders=SENDERS)
            family = _family(sender.pid)
            lingers = [told_to_linger(_words(pid)) for pid in family]
            with Syncs(family, folder / "senders.syncs") as by_senders:
                time.sleep(seconds)
                sender.finish(LOAD_S)
            took = time.monotonic() - begin
        figures: Figures = {**_delays(rival, folder / "log", how), "tailer_linger": "".join(lingers)}
        known = counting.count is not None and by_senders.count is not None
        figures["steady_syncs_per_s"] = ((counting.count or 0) + (by_senders.count or 0)) / took if known else None
        found |= {f"{name}: {key}": value for key, value in figures.items()}
    rival.settings = settings
    return found


def _words(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")


def told_to_linger(words: Sequence[str]) -> str:
    """How long a tailer with this command line was told that a line may wait for others; empty if it was not."""
    return words[words.index("--linger") + 1] if "--linger" in words else ""


def _family(pid: int) -> list[int]:
    """A process and those that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in _family(int(child)))]


def _delays(rival: Rival, log: Path, how: str) -> dict[str, float]:
    sent = checker.sent_of([log])
    if not sent.acked or len(sent.acked) < len(sent.due):
        raise RivalError(f"{rival.name} acknowledged {len(sent.acked)} of {len(sent.due)} events of a quiet run")
    took: defaultdict[str, list[float]] = defaultdict(list)
    for name, ns in sent.acked.items():
        took[mix.of(how, name[0]).name].append((ns - sent.due[name]) / 1e6)
    found = {f"{kind}: {share}_ms": quantile(some, at) for kind, some in took.items() for share, at in SHARES.items()}
    found |= {f"{kind}: most_ms": max(some) for kind, some in took.items()}
    return found | {f"{kind}: events": len(some) for kind, some in took.items()}
