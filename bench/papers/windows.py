"""What each system does to hand out windows in order, at growing sizes: the measurements of paper 3.

A cluster is loaded part by part, each size adding to the one before, so that a large size costs no new cluster. After
each part every way of reading is measured over all that is there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.papers import disorder
from bench.papers.disorder import Sum
from bench.papers.piped import Cost, measure
from bench.papers.steps import GB, Figures, Room, Scale
from bench.rivals.buck import Buck
from bench.rivals.kafka import Kafka
from bench.rivals.nats import Nats
from bench.rivals.process import RivalError
from bench.rivals.rival import Rival, Settings
from protocol.packet import Header

MEMORY = 512_000_000  # for each way to sort: what a porter takes by default
OWN_MAX = GB  # it is no aim, and three sizes show its law
SORT, OWN, BUCKETS, MERGE = "GNU sort", "external sort", "buckets", "merge"
SORTERS = [sys.executable, "-m", "bench.papers.sorters"]

Way = Callable[[Path, Sum], Cost]


def sizes(scale: Scale) -> list[int]:
    """Bytes of logs, each at least twice the one before; the largest goes on for less than a load began ago."""
    return [GB // 40, GB // 20, GB // 10] if scale.quick else [GB // 20, GB // 4, GB, 8 * GB]


def window_raw(scale: Scale) -> int:
    """Bytes of a window: a small fleet's five minutes."""
    return 10_000_000 if scale.quick else 32_000_000


def repeats(scale: Scale, size: int) -> int:
    return 3 if not scale.quick and size <= GB // 4 else 1


def buck(room: Room) -> Figures:
    """`porter grep --raw '*'`: all windows, one after another."""
    with Buck(room.folder / "cluster", Settings(copies=2)) as rival:
        assert isinstance(rival, Buck)
        rival.start(3)

        def merge(_: Path, expected: Sum) -> Cost:
            query = "path:*sender*"  # not the line that told that the cluster is ready
            command = rival.cluster.porter_command("grep", "--raw", query, "--memory", f"{MEMORY // 10**6}MB")
            return measure("buck", [], command, expected, room.folder / "porter.log")

        start = measure(
            "buck",
            [],
            rival.cluster.porter_command("grep", "--raw", "from:2020-01-01 to:2020-01-02"),
            Sum(),
            room.folder / "log",
        )
        found = _grown(room, rival, {MERGE: merge})
        whole = max(found["rows"], key=lambda row: row["size"])["size"] / found["window_raw"]
        return {**found, "start_up_cpu_s": start.cpu_s, "buckets": filed(rival.packets(), whole)}


def filed(packets: Iterable[Header], whole: float) -> int:
    """How many windows the senders' packets lie in. RivalError if that isn't about what was sent, or if lines were
    filed by their arrival: nothing would be known of windows then."""
    ours = [header for header in packets if any(b"sender" in stream.path for stream in header.streams)]
    if late := sum(header.count for header in ours if header.late):
        raise RivalError(f"{late} of {sum(header.count for header in ours)} lines were filed by their arrival")
    found = len({header.bucket for header in ours})
    if abs(found - whole) > 2 + whole / 20:
        raise RivalError(f"what was sent goes on for {whole:.1f} windows, and lies in {found}")
    return found


def kafka(room: Room) -> Figures:
    """One broker, one copy: what replication costs is not asked here. Readers are kcat, which is librdkafka in C."""
    with Kafka(room.folder / "cluster", Settings(copies=1)) as rival:
        rival.start(1)
        servers = ",".join(rival.addresses())
        read = ["kcat", "-C", "-q", "-e", "-b", servers, "-t", "events", "-o", "beginning"]
        each = [[*read, "-p", str(i)] for i in range(rival.settings.partitions)]
        return _grown(room, rival, _ways(room, [read], each))


def nats(room: Room) -> Figures:
    """One server, one copy, the client in Python."""
    with Nats(room.folder / "cluster", Settings(copies=1)) as rival:
        rival.start(1)
        read = [[sys.executable, "-m", "bench.papers.nats_lines", rival.addresses()[0]]]
        return _grown(room, rival, _ways(room, read, read), sizes(room.scale)[0] // (10 if room.scale.quick else 1))


def _ways(room: Room, read: Sequence[Sequence[str]], each: Sequence[Sequence[str]]) -> dict[str, Way]:
    """The three ways to sort what a queue hands out: `read` gives all, `each` is a reader a partition."""
    log = room.folder / "sorters.log"

    def gnu_sort(folder: Path, expected: Sum) -> Cost:
        sort = ["sort", "-S", f"{MEMORY // 1024}K", "-T", str(folder), "--parallel=2"]
        return measure(SORT, read, sort, expected, log)

    def own(folder: Path, expected: Sum) -> Cost:
        return measure(OWN, read, [*SORTERS, "external", str(folder), str(MEMORY)], expected, log)

    def buckets(folder: Path, expected: Sum) -> Cost:
        command = [*SORTERS, "buckets", str(folder), str(MEMORY)]
        return measure(BUCKETS, each, command, expected, log, pipes=True)

    return {SORT: gnu_sort, OWN: own, BUCKETS: buckets}


def _grown(room: Room, rival: Rival, ways: dict[str, Way], only: int = 0) -> Figures:
    """Load up to each size; measure every way there, every second time in the other order. `only`: one size, once."""
    scale, now, held = room.scale, disorder.begin_us(time.time()), Sum()
    senders = [disorder.Sender(scale.logs, i, room.seed, now) for i in range(disorder.SENDERS)]
    rows: list[dict[str, Any]] = []
    loading_cpu_s = 0.0
    for size in [only] if only else sizes(scale):
        folder = room.folder / f"part{size}"
        paths, made, now = disorder.write(
            folder, senders, now, size - held.size, window_raw(scale), isinstance(rival, Buck)
        )
        before = rival.cpu_s()
        with ThreadPoolExecutor() as pool:
            loaded = list(pool.map(rival.load, [[path] for path in paths]))
        loading_cpu_s += rival.cpu_s() - before + sum(one.client_cpu_s for one in loaded)
        for path in paths:
            path.unlink()
        held += made
        for turn in range(1 if only else repeats(scale, size)):
            for name in list(ways) if turn % 2 == 0 else reversed(ways):
                if name == OWN and size > OWN_MAX:
                    continue
                place = room.folder / "sorting"
                place.mkdir(exist_ok=True)
                before = rival.cpu_s()
                cost = ways[name](place, held)
                servers = rival.cpu_s() - before
                row = {"way": name, "size": held.size, "lines": held.lines, "target": size, "servers_cpu_s": servers}
                rows.append(row | cost.as_figures())
    facts = {"differences": rival.differences(), "window_raw": window_raw(scale), "memory": MEMORY}
    return {"rows": rows, "loading_cpu_s": loading_cpu_s, "loaded": held.size, **facts}
