"""Where the CPU of a full load goes: Linux' sampling profiler, over all servers and over what the harness starts.

A sample names process, thread and the library whose code ran. In programs in C, and in ours, the library says what was
done; in a JVM, where all code is made at run time, the thread does. The whole machine is watched, since a process that
is yet to start can't be named; samples of strangers, and of the harness itself, are left out.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.papers.full_load import LESS, text
from bench.papers.steps import Figures, Room
from bench.rivals.kafka import Kafka
from bench.rivals.rival import Rival

FREQUENCY, READY_S, END_S = 499, 30.0, 120.0
SAMPLE = re.compile(r"^\s*(?P<comm>.+?)\s+(?P<pid>\d+)\s+[0-9a-f]+ \((?P<dso>[^()]*)\)\s*$")
FORK = re.compile(r"PERF_RECORD_FORK\((?P<pid>\d+):\d+\):\((?P<parent>\d+):\d+\)")
RECORD = ["perf", "record", "-q", "-a", "-e", "cpu-clock"]
# The first that fits the first 15 letters of the thread's name (of a JVM), or else the library.
THREADS = [
    ("data-plane", "network threads and request handlers"),
    ("ReplicaFetcher", "replicas fetching from leaders"),
    ("C1 Comp", "JVM: compiling"),
    ("C2 Comp", "JVM: compiling"),
    ("GC", "JVM: garbage collection"),
    ("G1", "JVM: garbage collection"),
    ("", "other threads"),
]
LIBRARIES = [
    ("kernel.kallsyms", "Linux: files, sockets, memory"),
    ("zstd", "zstd"),
    ("blake3", "digests"),
    ("protocol/_kernel", "lines into columns (our kernel)"),
    ("librdkafka", "librdkafka"),
    ("libcrypto", "cryptography"),
    ("python", "Python"),
    ("libc.", "libc: copying, memory"),
    ("kcat", "kcat: splitting lines"),
    ("", "other, or not to be placed"),
]


def missing() -> str:
    """Why nothing can be profiled here; empty if it can."""
    if shutil.which("perf") is None:
        return "no perf: apt-get install linux-perf"
    tried = subprocess.run([*RECORD, "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    said = tried.stderr.strip().splitlines()
    return "" if tried.returncode == 0 else f"perf is not allowed to look: {said[0] if said else tried.returncode}"


def profile(rival: Rival, room: Room) -> Figures:
    """Shares of all samples, by `clients` or `servers` and what was done, of a load after one to warm up."""
    path = text(room, LESS)
    rival.load([path])
    data = rival.folder / "perf.data"
    with watching(data):
        rival.load([path])
    command = ["perf", "script", "-i", str(data), "--show-task-events", "-F", "comm,pid,ip,dso"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=END_S).stdout
    servers = {node.pid for node in rival.nodes}
    counts = samples(said.splitlines(), servers, os.getpid(), isinstance(rival, Kafka))
    total = sum(counts.values()) or 1
    return {
        "where": {f"{side}: {what}": count / total for (side, what), count in counts.most_common()},
        "samples": total,
    }


@contextlib.contextmanager
def watching(data: Path) -> Iterator[None]:
    """Samples of everything that runs meanwhile go to a file."""
    perf = subprocess.Popen([*RECORD, "-F", str(FREQUENCY), "-o", str(data)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + READY_S
        while not (data.exists() and data.stat().st_size) and time.monotonic() < deadline and perf.poll() is None:
            time.sleep(0.05)
        yield
    finally:
        perf.send_signal(signal.SIGINT)
        perf.wait(END_S)


def samples(lines: Iterable[str], servers: set[int], harness: int, by_thread: bool) -> Counter[tuple[str, str]]:
    """How many samples fell on which side, and what was done in them: of the servers, and of what the harness and its
    children have started since. `by_thread`: the servers are JVMs."""
    found: Counter[tuple[str, str]] = Counter()
    clients: set[int] = set()
    for line in lines:
        if fork := FORK.search(line):
            if int(fork["parent"]) in clients | {harness} and fork["pid"] != fork["parent"]:
                clients.add(int(fork["pid"]))
        elif parts := SAMPLE.match(line):
            pid = int(parts["pid"])
            if pid in servers or pid in clients:
                side = "servers" if pid in servers else "clients"
                table, name = (LIBRARIES, parts["dso"])
                if by_thread and side == "servers":
                    table, name = THREADS, parts["comm"]
                found[side, next(what for part, what in table if part in name)] += 1
    return found
