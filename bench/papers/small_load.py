"""Small load: a hundred hosts at ten lines a second each, an agent a host; what it costs, in a window of steady state.

Agents are real processes, one for each host: kcat, rsyslog, a tailer. (NATS has no agent: one program sends for all.)
CPU and memory are those of the window; bytes are those on all nodes' disks when all that was written has come, less
what was there before, for each copy, agents still running where they write something when they end. What can't be known
while it runs is looked up in the nodes' files afterwards.
"""

from __future__ import annotations

import contextlib
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from operator import ge
from pathlib import Path
from typing import NamedTuple

from bench import small_hosts
from bench.cluster import Process, Usage
from bench.papers.full_load import settled
from bench.papers.steps import Figures, Room
from bench.rivals.buck import Buck
from bench.rivals.kafka import Kafka, producer_options
from bench.rivals.lines import event, read_log, texts
from bench.rivals.nats import Nats
from bench.rivals.process import Program, RivalError
from bench.rivals.rival import Rival
from bench.rivals.syslog import Syslog
from bench.small_hosts import RATE, Hosts, Writer
from bench.stored import Disk as Stored
from protocol.limits import WIDTH_S

HOSTS, WARM_S, WINDOW_S = 100, 6.0, 20.0
QUICK_HOSTS, QUICK_S = 6, 1.5
START_S, END_S, STOPS_AT_ONCE = 1.0, 60.0, 10
# As soon as Kafka's full load sends, and as late as a tailer does at the latest: latency against size of batches.
LINGERS = {"kcat, linger 50 ms": 50, "kcat, linger 5 s": 5000}
BATCH_HEAD = struct.Struct(">qiib")  # base offset, length of what follows these two, leader epoch, magic


def hosts(room: Room) -> int:
    return QUICK_HOSTS if room.scale.quick else HOSTS


def windowed(
    rival: Rival, room: Room, name: str, clients: Callable[[], list[Usage]], write: Callable[[float], None]
) -> Figures:
    """What clients and servers use while lines are written at a steady rate, after a while of the same."""
    warm, window = (QUICK_S, QUICK_S) if room.scale.quick else (WARM_S, WINDOW_S)
    write(warm)
    begin = time.monotonic()
    theirs, ours = rival.cpu_s(), sum(used.cpu_s for used in clients())
    write(window)
    seconds, after = time.monotonic() - begin, clients()
    found = {
        "client_cpu_percent": (sum(used.cpu_s for used in after) - ours) / seconds * 100,
        "servers_cpu_percent": (rival.cpu_s() - theirs) / seconds * 100,
        "client_rss_mb": sum(used.rss for used in after) / 1e6,
        "servers_rss_mb": sum(now for now, _ in rival.memory()) / 1e6,
        "hosts": hosts(room),
    }
    return {f"{name}: {key}": value for key, value in found.items()}


def stored(name: str, rival: Rival, before: int, copies: float, raw: int, packets: float, seconds: float) -> Figures:
    """Bytes on disk of one copy for each raw byte, and how many packets a second carried them."""
    share = (settled(rival) - before) / copies / raw
    return {f"{name}: stored_share": share, f"{name}: packets_per_s": packets / seconds, f"{name}: raw": raw}


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + END_S
    while not holds():
        if time.monotonic() > deadline:
            raise RivalError(f"{what}: not within {END_S:.0f} s")
        time.sleep(0.2)


# --- Kafka -----------------------------------------------------------------------------------------------------------


def kafka(rival: Kafka, room: Room) -> Figures:
    """A kcat a host, fed by a pipe, for each linger: what may wait longer makes larger batches."""
    figures: Figures = {}
    given = rival.settings
    for name, linger_ms in LINGERS.items():
        rival.settings = replace(given, linger_ms=linger_ms)
        figures |= _kcats(rival, room, name)
    rival.settings = given
    return figures


def _kcats(rival: Kafka, room: Room, name: str) -> Figures:
    # Without this its messages change the partition every few milliseconds, and no batch has more than one.
    sticky = ["-X", f"sticky.partitioning.linger.ms={rival.settings.linger_ms}"]
    command = ["kcat", "-P", "-t", "events", *producer_options(rival.addresses(), rival.settings), *sticky]
    before, had = settled(rival), sum(_batches(rival))
    with contextlib.ExitStack() as ending:
        agents = list(_piped(command, hosts(room), rival.folder / "kcat.log", ending))
        pipes = [agent.popen.stdin for agent in agents if agent.popen.stdin is not None]
        writer = Writer(pipes)
        begin = time.monotonic()
        figures = windowed(rival, room, name, lambda: [one.usage() for one in agents], writer.write_for)
        seconds = time.monotonic() - begin
        for pipe in pipes:
            pipe.close()
        for agent in agents:  # each lingers with what it has left
            if agent.wait(END_S):
                raise RivalError(f"kcat failed:\n{agent.log_end()}")
    copies = rival.settings.copies
    packets = (sum(_batches(rival)) - had) / copies
    return figures | stored(name, rival, before, copies, writer.raw, packets, seconds)


def _piped(command: list[str], count: int, log: Path, ending: contextlib.ExitStack) -> Iterator[Program]:
    """So many programs that read what is written to their stdin; whichever still runs at the end is ended."""
    out = ending.enter_context(log.open("ab"))
    for i in range(count):
        popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out, bufsize=0)
        program = Program(f"kcat {i}", popen, log)
        ending.callback(program.kill)
        yield program
    time.sleep(START_S)


def _batches(rival: Kafka) -> Iterator[int]:
    """Of the topic, in each file of each node."""
    for i in range(len(rival.nodes)):
        for path in rival.data(i).glob("events-*/*.log"):
            yield batches(path.read_bytes())


def batches(data: bytes) -> int:
    """How many record batches a segment of a Kafka log holds; one that is torn counts for nothing."""
    found = at = 0
    while at + BATCH_HEAD.size <= len(data):
        size = BATCH_HEAD.unpack_from(data, at)[1]
        at += 12 + size
        if size <= 0 or at > len(data):
            break
        found += 1
    return found


# --- the others ------------------------------------------------------------------------------------------------------


def nats(rival: Nats, room: Room) -> Figures:
    """One program for all hosts, a message a line."""
    name, log, before = "one client for all hosts", rival.folder / "hosts.log", settled(rival)
    count = hosts(room)
    begin = time.monotonic()
    client = rival.pace(log, rate=RATE * count, senders=count)
    try:
        figures = windowed(rival, room, name, lambda: [client.usage()], time.sleep)
        seconds = time.monotonic() - begin
    finally:
        client.finish()
    kinds = [one.kind for one in read_log(log)]
    if kinds.count("A") != kinds.count("S"):
        raise RivalError(f"of {kinds.count('S')} events {kinds.count('A')} were acknowledged")
    lines, sent = texts(), kinds.count("S")
    raw = sum(len(event(lines[i % len(lines)], i % count, i // count, 0)) for i in range(sent))
    return figures | stored(name, rival, before, rival.settings.copies, raw, sent, seconds)


def syslog(rival: Syslog, room: Room) -> Figures:
    """An rsyslog a host follows its file."""
    name, before, had = "an rsyslog a host", settled(rival), _received(rival)
    with Hosts(rival.folder / "hosts", hosts(room)) as files:
        agents = [rival.start_sender(f"host{i}", [path]) for i, path in enumerate(files.paths)]
        try:
            time.sleep(START_S)
            begin = time.monotonic()
            figures = windowed(rival, room, name, lambda: [one.usage() for one in agents], files.write_for)
            seconds = time.monotonic() - begin
            due = [size + files.raw for size in had]
            until(lambda: all(map(ge, _received(rival), due)), "not all lines are with all receivers")
        finally:
            _stop_all(agents)
        lines = sum(path.read_bytes().count(b"\n") for path in files.paths)
    return figures | stored(name, rival, before, len(rival.nodes), files.raw, lines, seconds)


def _stop_all(agents: Sequence[Program | Process]) -> None:
    """Some at a time: each takes a while to end."""
    with ThreadPoolExecutor(STOPS_AT_ONCE) as pool:
        list(pool.map(lambda agent: agent.stop(), agents))


def _received(rival: Syslog) -> list[int]:
    """Bytes that each receiver has written."""
    return [sum(path.stat().st_size for path in rival.data(i).iterdir()) for i in range(len(rival.nodes))]


def buck(rival: Buck, room: Room) -> Figures:
    """A tailer a host follows its file. Packets have two copies at once, and a third, as large, when their window of
    time is over: how many there are is counted while tailers still run. A tailer seals each window of five minutes;
    here it does so once, when it is ended: of these seals' bytes the part is added that falls to the time measured, and
    what seals take on disks meanwhile, where a window ends, is left out: whole blocks, once for all that follow."""
    name, before, had = "a tailer a host", settled(rival), _held(rival)
    blocks = _seals(rival).allocated
    with Hosts(rival.folder / "hosts", hosts(room)) as files:
        tailers = small_hosts.started(rival.cluster, files.paths)
        begin = time.monotonic()
        figures = windowed(rival, room, name, lambda: [one.usage() for one in tailers], files.write_for)
        seconds = time.monotonic() - begin
        lines = sum(path.read_bytes().count(b"\n") for path in files.paths)
        until(lambda: _held(rival)[0] >= had[0] + 2 * lines, "not all lines have two copies")
        now, sealed = _held(rival), _seals(rival)
        copies = (now[0] - had[0]) / lines
        base, packets = before + sealed.allocated - blocks, (now[1] - had[1]) / copies
        figures |= stored(name, rival, base, copies, files.raw, packets, seconds)
        _stop_all(tailers)
    now = _held(rival)
    share = (_seals(rival).size - sealed.size) / copies / files.raw
    figures[f"{name}: stored_share"] += share * min(1.0, seconds / WIDTH_S)
    ended = (settled(rival) - before) / ((now[0] - had[0]) / lines) / files.raw
    return figures | {f"{name}: seals_share": share, f"{name}: stored_share_ended": ended}


class _Seals(NamedTuple):
    """Bytes of all seals on all disks, and of the blocks that they take."""

    size: int
    allocated: int


def _seals(rival: Buck) -> _Seals:
    disks = [folder for i in range(len(rival.nodes)) for folder in rival.cluster.disk_folders(i)]
    found = [path.stat() for folder in disks for path in folder.glob("*/seals/*.seals")]
    return _Seals(sum(one.st_size for one in found), sum(512 * one.st_blocks for one in found))


def _held(rival: Buck) -> tuple[int, int]:
    """Events and packets on all disks, each copy counted."""
    disks = [folder for i in range(len(rival.nodes)) for folder in rival.cluster.disk_folders(i)]
    counts = [header.count for folder in disks for header, _ in Stored(folder).fresh()]
    return sum(counts), len(counts)
