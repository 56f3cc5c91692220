"""Full load of one system: files brought in as fast as it can, counted to the CPU second and byte, and read back.

A tenth of the file goes in first, unmeasured, and all of it where JVMs have to compile what they do: it warms the
servers. Before each kind of client loads what is measured,
it loads a thousand lines: that tells what its start costs, which stands in the figures too. CPU seconds are those of
the client's process and of all servers, from the client's start until the system has said how many events it holds
(`Rival.load`). After all loads everything is read back and counted; a number that differs is an error, and then there
are no figures.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bench.papers import blobs, material
from bench.papers.steps import GB, Figures, Room
from bench.rivals.buck import Buck
from bench.rivals.kafka import Kafka
from bench.rivals.lines import weigh
from bench.rivals.nats import Nats
from bench.rivals.process import Program, RivalError
from bench.rivals.rival import Loaded, Rival
from bench.rivals.syslog import Syslog

SHORT_LINES = 1000
WARM, JVM_WARM = 10, 1  # a tenth of the file, all of it
LESS = 4  # what isn't the best of its system loads a fourth of the file
TINY = 50  # and NATS, a message a line by its client in Python, a fiftieth,
TINIEST = 500  # or, where each write waits for the device, a five-hundredth
STILL_S, SETTLE_S = 0.3, 10.0
NATS_STILL_S = 2.0  # it packs what it has stored a while later
READ_S = 600.0
COPIES: dict[str, Literal[2, 3]] = {"two copies": 2, "three copies": 3}


class Way(NamedTuple):
    """One way to load a system. `part`: it loads one part of so many of what the scale says."""

    name: str
    part: int = 1
    tool: str = "kcat"
    settings: dict[str, Any] = {}  # noqa: RUF012  # a NamedTuple's default that nobody changes


BLOBS = "blobs packed by the client"
KAFKA = [
    Way("kcat, not idempotent", settings={"idempotent": False}),
    Way("kcat"),
    Way("kcat, zstd -1", LESS, settings={"level": 1}),
    Way("kcat, lz4", LESS, settings={"compression": "lz4"}),
    Way("kcat, uncompressed", LESS, settings={"compression": "none"}),
    Way("client in Python", LESS, "python"),
    Way("perf tool in Java", LESS, "java"),
]
BEST_KAFKA, OTHER_KAFKA = KAFKA[:2], KAFKA[2:]  # the best are measured most often, the first with two copies too
FLUSHED_KAFKA = [Way("kcat", LESS)]  # where each write waits for the device


def text(room: Room, part: int = 1) -> Path:
    """The lines that are loaded, kept from one repetition to the next."""
    return material.one_file(room.folder.parent / "papers-logs", room.scale.logs, room.scale.raw_bytes // part)


def measured(rival: Rival, name: str, load: Callable[[Path], Loaded], path: Path) -> Figures:
    """One way's figures, its name before each key."""
    weigh([path])  # now, so that servers that stand by meanwhile are charged with nothing
    start = load(material.head(path, SHORT_LINES))
    disk, cpu = settled(rival), rival.cpu_s()
    loaded = load(path)
    servers = rival.cpu_s() - cpu
    stored = settled(rival) - disk
    per_gb = GB / loaded.raw
    found = {
        "cpu_s_per_gb": (loaded.client_cpu_s + servers) * per_gb,
        "client_cpu_s_per_gb": loaded.client_cpu_s * per_gb,
        "servers_cpu_s_per_gb": servers * per_gb,
        "start_cpu_s_per_gb": start.client_cpu_s * per_gb,
        "mb_per_s": loaded.raw / loaded.seconds / 1e6,
        "stored_share": stored / loaded.raw,
        "raw_mb": loaded.raw / 1e6,
        "lines": loaded.lines,
    }
    return {f"{name}: {key}": value for key, value in found.items()}


def warmed(rival: Rival, room: Room, part: int = WARM) -> int:
    """Lines that went in to warm the servers, by the system's first client."""
    loaded = rival.load([text(room, part)])
    return loaded.lines


def settled(rival: Rival) -> int:
    """Bytes on the disks of all nodes once they have not changed for a moment, or after a while."""
    still = NATS_STILL_S if isinstance(rival, Nats) else STILL_S
    deadline = time.monotonic() + SETTLE_S
    size = rival.disk().allocated
    since = time.monotonic()
    while time.monotonic() < min(deadline, since + still):
        time.sleep(0.1)
        if (now := rival.disk().allocated) != size:
            size, since = now, time.monotonic()
    return size


def kafka(rival: Kafka, room: Room, ways: list[Way], packed: bool = True) -> Figures:
    """Lines in every way, in an order drawn by the seed, read back by kcat; if `packed`, then blobs, unpacked again."""
    figures: Figures = {}
    given = rival.settings
    lines = rival.held() + warmed(rival, room, JVM_WARM)
    for way in random.Random(room.seed).sample(ways, len(ways)):
        rival.settings = replace(given, **way.settings)

        def load(path: Path, tool: Any = way.tool) -> Loaded:
            return rival.load([path], tool)

        path = text(room, way.part)
        figures |= measured(rival, way.name, load, path)
        lines += figures[f"{way.name}: lines"] + SHORT_LINES
    rival.settings = given
    servers, partitions = ",".join(rival.addresses()), given.partitions
    since = blobs.ends(servers, partitions)
    figures |= read_back(rival, lines, ["kcat", "-C", "-q", "-e", "-b", servers, "-t", "events", "-o", "beginning"])
    if not packed:
        return figures
    path = text(room)
    rival.settings = replace(given, idempotent=False)  # which costs it less
    figures |= measured(rival, BLOBS, lambda one: load_blobs(rival, one), path)
    rival.settings = given
    found = blobs.lines(servers, since, blobs.ends(servers, partitions))
    if found != (wanted := figures[f"{BLOBS}: lines"] + SHORT_LINES):
        raise RivalError(f"blobs of {wanted} lines were sent, and {found} lines were read")
    return figures


def load_blobs(rival: Kafka, path: Path) -> Loaded:
    """As `Rival.load`, by the packing client."""
    _, lines = weigh([path])
    words = [word for address in rival.addresses() for word in ("--to", address)]
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "bench.papers.blobs",
        *words,
        "--settings",
        rival.settings.as_json(),
        path,
    ]
    begin = time.monotonic()
    program = Program.start("blobs", command, rival.folder / "blobs.log")
    if program.wait(READ_S):
        raise RivalError(f"the packing client failed:\n{program.log_end()}")
    return Loaded(time.monotonic() - begin, program.usage().cpu_s, path.stat().st_size, lines, lines)


def read_back(rival: Kafka, lines: int, command: list[str]) -> Figures:
    """What a reader's process writes, counted: lines, CPU seconds of it and of the servers. RivalError if too few."""
    cpu, log = rival.cpu_s(), rival.folder / "read.log"
    with log.open("ab") as said:
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
    assert popen.stdout is not None
    program = Program("reader", popen, log)
    found = size = 0
    with popen.stdout:
        while data := popen.stdout.read(1 << 20):
            found += data.count(b"\n")
            size += len(data)
    if program.wait(READ_S):
        raise RivalError(f"the reader failed:\n{program.log_end()}")
    held = rival.held()
    if found < lines or found != held:
        raise RivalError(f"{rival.name}: {lines} lines sent, {held} events held, and its reader was given {found}")
    used = program.usage().cpu_s + rival.cpu_s() - cpu
    return {"kcat: read_cpu_s_per_gb": used / size * GB, "read: lines": found, "read: lines_due": lines}


def nats(rival: Nats, room: Room, part: int = TINY) -> Figures:
    """Lines by its client in Python; a consumer counts them."""
    path = text(room, part)
    warm = warmed(rival, room, part * WARM)
    figures = measured(rival, "client in Python", lambda one: rival.load([one]), path)
    due = figures["client in Python: lines"] + SHORT_LINES + warm
    found = asyncio.run(_nats_count(rival.addresses(), due))
    if found != due:
        raise RivalError(f"nats acknowledged {due} lines, and its reader was given {found}")
    return figures


async def _nats_count(addresses: list[str], due: int) -> int:
    """Events that an ordered consumer is given, until there are so many or none comes any more."""
    import nats as client
    from nats.errors import TimeoutError as LateError

    from bench.rivals.nats_client import PENDING_BYTES, STREAM

    connection = await client.connect([f"nats://{address}" for address in addresses])
    found = 0
    try:
        stream = connection.jetstream()
        given = await stream.subscribe(STREAM, ordered_consumer=True, pending_bytes_limit=PENDING_BYTES)
        while found < due:
            await given.next_msg(timeout=10.0)
            found += 1
    except LateError:
        pass  # fewer than are due: told by who asked
    finally:
        await connection.close()
    return found


def syslog(rival: Syslog, room: Room) -> Figures:
    """All receivers' files are counted while they are written; that is how a load of rsyslog ends."""
    warmed(rival, room, LESS * WARM)
    name = "two receivers" if len(rival.nodes) > 1 else "one receiver"
    return measured(rival, name, lambda one: rival.load([one]), text(room, LESS))


def buck(rival: Buck, room: Room, names: Sequence[str] = tuple(COPIES), part: int = 1) -> Figures:
    """`tailer run --once`, with two copies and with three; `porter cat` gives the files back byte for byte."""
    figures: Figures = {}
    given = rival.settings
    path = text(room, part)
    warmed(rival, room)
    for name in random.Random(room.seed).sample(names, len(names)):
        rival.settings = replace(given, copies=COPIES[name])
        here = rival.folder / f"{COPIES[name]}.log"
        here.hardlink_to(path)  # a path for each, so that each is read back apart
        figures |= measured(rival, name, lambda one, here=here: rival.load([here if one == path else one]), path)  # type: ignore[misc]  # bound now
        figures |= _read_file(rival, name, here)
    return figures


def _read_file(rival: Buck, name: str, path: Path) -> Figures:
    cpu, out = rival.cpu_s(), hashlib.blake2b()
    command = rival.cluster.porter_command("cat", os.uname().nodename, str(path))
    log = rival.folder / "read.log"
    with log.open("ab") as said:
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
    assert popen.stdout is not None
    program = Program("porter cat", popen, log)
    with popen.stdout:
        while data := popen.stdout.read(1 << 20):
            out.update(data)
    if program.wait(READ_S):
        raise RivalError(f"porter cat failed:\n{program.log_end()}")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "blake2b").digest() != out.digest():
            raise RivalError(f"{path}: what came back differs")
    used = program.usage().cpu_s + rival.cpu_s() - cpu
    return {f"{name}: read_cpu_s_per_gb": used / path.stat().st_size * GB}
