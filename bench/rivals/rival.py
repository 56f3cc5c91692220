"""The one interface to every system that is compared: a cluster of real processes on this host.

    with Kafka(folder, Settings(copies=3)) as rival:
        ready_s = rival.start(3)
        loaded = rival.load(files)                      # as fast as it can, until all is acknowledged
        reader = rival.consume(folder / "read.log")     # processes, with a log each: see lines.py
        sender = rival.pace(folder / "sent.log", rate=1000)
        rival.kill(0); rival.restart(0); rival.freeze(1); rival.thaw(1)
        sender.finish(); reader.finish()
        rival.cpu_s(), rival.memory(), rival.disk()

With `Settings(nets=True)` each node is on a network of its own (nets.py): `cut(i)`, `heal(i)`, `network()`.
Whatever can't be made equal to the others, a system says in `differences`; it belongs beside each result.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Literal, NamedTuple

from bench.cluster import Usage
from bench.rivals import nets
from bench.rivals.mix import MIXES
from bench.rivals.power import Disks
from bench.rivals.process import Client, Program, RivalError

READY_S, STOP_S = 90.0, 30.0
NODES_MAX = 9
DISK_LEAST = 2 << 30
# Below the ports that the system gives to whoever dials: a node's stays free while the node is dead.


@dataclass(frozen=True)
class Settings:
    """What a comparison can ask for; a system that has no such thing says so in its `differences`."""

    copies: Literal[1, 2, 3] = 3
    sync: Literal["none", "each"] = "none"  # each: on the device before the acknowledgement
    compression: Literal["zstd", "lz4", "none"] = "zstd"
    level: int | None = None  # of the compression; None: the client's own choice
    partitions: int = 3
    idempotent: bool = True
    keyed: bool = False  # by sender: a sender's events stay in one partition
    linger_ms: int = 50
    batch_bytes: int = 1_000_000
    timeouts: Literal["default", "tuned"] = "default"
    nets: bool = False  # each node in a network namespace of its own
    mix: str = ""  # of mix.py: paced senders send events of these classes, whatever the rest says

    def __post_init__(self) -> None:
        for name, least, most in (("partitions", 1, 1000), ("linger_ms", 0, 60_000), ("batch_bytes", 1, 8 << 20)):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}: from {least} to {most} are possible")
        if self.mix and self.mix not in MIXES:
            raise ValueError(f"mix is {self.mix}: there are {', '.join(MIXES)}")

    @property
    def acks(self) -> int:
        """So many copies exist at least when a sender is told that an event is stored."""
        return min(2, self.copies)

    def as_json(self) -> str:
        return json.dumps(asdict(self))


class Loaded(NamedTuple):
    """Whole files brought in: seconds until the last acknowledgement, CPU seconds of the clients alone, bytes of the
    files, their lines that aren't empty, and the events that the system says it holds."""

    seconds: float
    client_cpu_s: float
    raw: int
    lines: int
    events: int


class Disk(NamedTuple):
    """Bytes of all data folders: as the file system counts blocks, and as long as files say they are."""

    allocated: int
    apparent: int


class Rival(ABC):
    """A system that carries logs. Nodes are counted from 0; all their files lie below `folder`."""

    name: ClassVar[str]

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.folder, self.settings = folder.resolve(), settings or Settings()
        self.nodes: list[Program] = []
        self._ended: list[list[Usage]] = []  # of each node, what its dead processes have used
        self.hosts: list[str] = []  # the address that each node listens at
        self._nets: nets.Nets | None = None
        self.disks: Disks | None = None  # to be set before `start` where nodes are to lose their power
        self.spare = 0  # to be set before `start`: so many nodes can be added to those that it starts
        self._spare_hosts: list[str] = []

    # --- what each system says ---------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def missing(cls) -> str:
        """Why it can't run here, and the command that changes that; empty if it can."""

    @classmethod
    @abstractmethod
    def versions(cls) -> dict[str, str]:
        """Of the server, the clients, and what they need. Only where nothing is `missing`."""

    @abstractmethod
    def differences(self) -> list[str]:
        """What is not as with the others, in sentences."""

    @abstractmethod
    def prepare(self, count: int) -> None:
        """Files and folders for so many nodes."""

    @abstractmethod
    def launch(self, i: int) -> Program:
        """The process of a node, for the first time or again, on the same ports and data."""

    @abstractmethod
    def until_ready(self, deadline: float) -> None:
        """Wait until a client's first message is acknowledged as the settings ask (`pause` raises in time)."""

    @abstractmethod
    def until_serving(self, i: int, deadline: float) -> None:
        """Wait until a node that came back takes part again; what that means is said in `differences`."""

    @abstractmethod
    def data(self, i: int) -> Path:
        """The folder of a node's data, and of nothing else."""

    @abstractmethod
    def addresses(self) -> list[str]:
        """Where clients reach the nodes, as HOST:PORT."""

    @abstractmethod
    def load(self, files: Sequence[Path]) -> Loaded:
        """All lines of these files, an event a line, as fast as it can until the last is acknowledged."""

    @abstractmethod
    def client(self, job: str, *arguments: str) -> Client:
        """A `pace` or `consume` process that has just been started (client.py says what it is told)."""

    # --- what is the same for all ------------------------------------------------------------------------------------

    def __enter__(self) -> Rival:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, count: int = 3) -> float:
        """An empty cluster. Seconds from the first process until a client's first message is acknowledged."""
        if why := self.missing():
            raise RivalError(f"{self.name} can't run here: {why}")
        if not max(1, self.settings.acks) <= count <= NODES_MAX or count < self.settings.copies:
            raise RivalError(f"{self.name}: {count} nodes for {self.settings.copies} copies; at most {NODES_MAX}")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if (free := shutil.disk_usage(self.folder).free) < DISK_LEAST:
            raise RivalError(f"{self.folder}: {free >> 20} MiB are free, {DISK_LEAST >> 20} are needed: free some")
        hosts = ["127.0.0.1"] * (count + self.spare)
        if self.settings.nets:
            self._nets = nets.Nets(count + self.spare)
            hosts = self._nets.addresses
        self.hosts, self._spare_hosts = hosts[:count], hosts[count:]
        try:
            if self.disks:
                for i in range(count):
                    self.disks.mount(i, self.data(i))
            self.prepare(count)
            begin = time.monotonic()
            self._ended = [[] for _ in range(count)]
            self.launch_all(count)
            self.until_ready(begin + READY_S)
        except BaseException:
            self.stop()
            raise
        return time.monotonic() - begin

    def launch_all(self, count: int) -> None:
        """All nodes, as fast as the system can be started."""
        for i in range(count):
            self.nodes.append(self.launch(i))

    def stop(self) -> None:
        """End all nodes, politely first; one that doesn't end is killed, and named on stderr. Logs, what was used, and
        data but for those on `disks` remain; a second time does nothing."""
        try:
            if self._nets is not None:
                self._nets.heal_all()
            self._stop_nodes()
        finally:
            if self._nets is not None:
                self._nets.close()
            if self.disks is not None:
                self.disks.close()

    def _stop_nodes(self) -> None:
        for node in self.nodes:
            node.signal(signal.SIGCONT)
            node.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for node in self.nodes:
            try:
                node.wait(max(0.0, deadline - time.monotonic()))
            except RivalError:  # a broker that is told last may wait for a quorum that has ended
                node.wait(STOP_S)
                print(f"{node.name} did not end within {STOP_S:.0f} s and was killed", file=sys.stderr, flush=True)

    def kill(self, i: int) -> None:
        """SIGKILL, a frozen one too."""
        self.nodes[i].kill()

    def cut_power(self, chosen: Sequence[int]) -> None:
        """The power of these nodes goes at once: what their disks weren't given is lost. `restart` starts them again.
        Theirs are the `disks`."""
        assert self.disks is not None
        for i in chosen:
            self.disks.cut(i)
        for i in chosen:
            self.kill(i)
        for i in chosen:
            self.disks.restore(i)

    def freeze(self, i: int) -> None:
        """SIGSTOP: it holds its connections and says nothing."""
        self.nodes[i].signal(signal.SIGSTOP)

    def thaw(self, i: int) -> None:
        self.nodes[i].signal(signal.SIGCONT)

    def cut(self, i: int) -> None:
        """Nothing reaches the node or leaves it from now on, and nobody is told: a dead port at the switch."""
        self.network_of_nodes.cut(i)

    def heal(self, i: int) -> None:
        self.network_of_nodes.heal(i)

    def network(self) -> list[nets.Traffic]:
        """Bytes that each node has received and sent since the start, clients' and nodes' together."""
        return self.network_of_nodes.traffic()

    @property
    def network_of_nodes(self) -> nets.Nets:
        if self._nets is None:
            raise RivalError(f"{self.name} is on loopback: start it with Settings(nets=True)")
        return self._nets

    def program(self, i: int, command: Sequence[str | Path], log: Path) -> Program:
        """The process of a node, in its network."""
        return Program.start(f"{self.name} {i}", [*self.inside(i), *command], log)

    def inside(self, i: int) -> list[str]:
        """What a node's command begins with."""
        return self._nets.prefix(i) if self._nets is not None else []

    def restart(self, *chosen: int) -> float:
        """Start nodes again that were killed, or stop those that run first: all of them together. Seconds until all
        take part again."""
        for i in chosen:
            if self.nodes[i].running():
                self.nodes[i].stop()
            self._ended[i].append(self.nodes[i].usage())
        begin = time.monotonic()
        for i in chosen:
            self.nodes[i] = self.launch(i)
        for i in chosen:
            self.until_serving(i, begin + READY_S)
        return time.monotonic() - begin

    # --- a node more -------------------------------------------------------------------------------------------------

    @property
    def all_hosts(self) -> list[str]:
        """The nodes' addresses, with those of nodes that may be added."""
        return [*self.hosts, *self._spare_hosts]

    def add(self) -> int:
        """Start one of the `spare` nodes: it joins the others, which nobody tells of it. Its number; whether it is a
        member yet says `joined`."""
        if not self._spare_hosts:
            raise RivalError(f"{self.name} has no node to add: set `spare` before the start")
        i = len(self.nodes)
        self.hosts.append(self._spare_hosts.pop(0))
        self._ended.append([])
        self.nodes.append(self.launch(i))
        return i

    def joined(self, i: int) -> bool:
        """Do the others count an added node among them?"""
        raise RivalError(f"{self.name} can't be given another node")

    def stored(self, i: int) -> int:
        """How much of the senders' events a node has now: bytes that grow with each event, to be compared with those of
        this system's other nodes."""
        raise RivalError(f"{self.name} doesn't say what a node stores")

    def move_to(self, i: int, deadline: float) -> str:
        """Let an added node hold its part of what is there and of what comes, as an operator would, and wait until it
        does. What was done, in words; empty where an operator can do nothing."""
        return ""

    def confirm_moved(self, deadline: float) -> None:
        """What an operator asks after `move_to`. RivalError if it isn't done in time."""
        return

    def leader(self) -> int | None:
        """A node that leads what is sent to just now, as far as the system tells; None where all are equal."""
        return None

    def fallen(self) -> list[str]:
        """The nodes that don't run, each with its exit code: to be asked when none should have ended."""
        return [f"{node.name}: exit {node.popen.returncode}" for node in self.nodes if not node.running()]

    def cpu_s(self) -> float:
        """CPU seconds of all servers since the start, those that are dead by now included."""
        return sum(used.cpu_s for i in range(len(self.nodes)) for used in self._used(i))

    def memory(self) -> list[tuple[int, int]]:
        """Resident bytes of each node, now (0 if it is dead) and at most."""
        usages = [self._used(i) for i in range(len(self.nodes))]
        return [(used[-1].rss, max(one.rss_max for one in used)) for used in usages]

    def _used(self, i: int) -> list[Usage]:
        return [*self._ended[i], self.nodes[i].usage()]

    def disk(self) -> Disk:
        """What all nodes have on their disks. A file that is removed meanwhile counts for nothing."""
        allocated = apparent = 0
        for i in range(len(self.nodes)):
            for path in self.data(i).rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    found = path.stat()
                    if path.is_file():
                        allocated += found.st_blocks * 512
                        apparent += found.st_size
        return Disk(allocated, apparent)

    def pace(
        self,
        log: Path,
        *,
        rate: float,
        senders: int = 1,
        first: int = 0,
        skew_s: float = 0.0,
        number: int = 0,
        lines: Path | None = None,
    ) -> Client:
        """A process that sends so many events a second in all, of these senders in turn, until `finish`ed or killed.
        One with the same `first` and another log in the same folder goes on for one that has ended, with `number`s."""
        words = ["--rate", str(rate), "--senders", str(senders), "--first", str(first), "--skew", str(skew_s)]
        words += ["--number", str(number)]
        if lines:
            words += ["--lines", str(lines)]
        return self.client("pace", "--log", str(log), *words).until_ready(READY_S)

    def consume(self, log: Path, *, live: bool = True) -> Client:
        """A process that reads new events as they come until it is `finish`ed, and those of before it began where the
        system gives them to who reads live (all but Buck do).
        `live=False`: what is there now, as the system's reader for the past gives it, and no more."""
        return self.client("consume", "--log", str(log), *([] if live else ["--past"])).until_ready(READY_S)

    def client_command(self, module: str, job: str, *arguments: str) -> Client:
        """The process of a client module, with the settings and where the nodes are."""
        where = [word for address in self.addresses() for word in ("--to", address)]
        command = [sys.executable, "-m", f"bench.rivals.{module}", job, "--settings", self.settings.as_json()]
        return Client(f"{self.name} {job}", [*command, *where, *arguments], self.folder / f"{job}.log")

    def pause(self, deadline: float, what: str, i: int | None = None) -> None:
        """A moment's rest in a loop that waits. RivalError if a node has died, or it is late."""
        for node in self.nodes if i is None else [self.nodes[i]]:
            if not node.running():
                raise RivalError(f"{node.name} ended with {node.popen.returncode}:\n{node.log_end()}")
        if time.monotonic() > deadline:
            node = self.nodes[i or 0]
            raise RivalError(f"{self.name}: {what}: not in time; {node.name} says:\n{node.log_end()}")
        time.sleep(0.02)
