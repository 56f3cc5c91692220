"""Buck: real processes, as bench/cluster.py starts them."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.cluster import Buck as Node
from bench.cluster import Cluster, ClusterError
from bench.measure import commit
from bench.rivals import first_line
from bench.rivals.buck_client import classes
from bench.rivals.lines import weigh
from bench.rivals.ports import free_ports
from bench.rivals.process import Client, Program, RivalError
from bench.rivals.rival import Loaded, Rival, Settings
from bench.stored import Disk as Stored
from protocol.packet import Header

LOAD_S = 3600.0
ASK_S = 5.0


class Buck(Rival):
    """Node i is a buck; senders are tailers, readers are porters."""

    name = "buck"

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        super().__init__(folder, settings)
        self._cluster: Cluster | None = None
        self._spare_ports: list[int] = []  # two of each node that may be added

    @property
    def cluster(self) -> Cluster:
        assert self._cluster is not None, "it was not started"
        return self._cluster

    @classmethod
    def missing(cls) -> str:
        return ""

    @classmethod
    def versions(cls) -> dict[str, str]:
        return {"buck": commit()}

    def differences(self) -> list[str]:
        found = [
            "senders append to a file that a tailer follows: what is measured includes the file, and the tailer's own"
            " journal on the sender's disk, which the disk figures of the nodes don't hold",
            "packets are compressed with zstd and are never re-batched; partitions, idempotence, keys and batch"
            " size have no counterpart: a tailer closes packets by age and size, and every line has an identity",
            "whole files are loaded by `tailer run --once`; its CPU counts from its start to its verified end",
            "a live reader is shown what comes from its start on, each event as often as the product lets through; who"
            " wants the past asks for it apart",
            "a node serves again when it listens",
            f"tailers let a line linger for {self.settings.linger_ms} ms, as the others' senders do"
            if self.settings.timeouts == "tuned"
            else "tailers let a line linger as by default: half a second where much is written, else up to five",
        ]
        if self.settings.copies == 3 and self.settings.sync == "none" and not self.settings.mix:
            found.append(
                "three copies: two are acknowledged, the third follows once the window of time is over; files that are"
                " loaded are done when three bucks have them fsynced (A2)"
            )
        if self.settings.timeouts == "tuned":
            found.append("there are no time-outs to tune: they are the same as by default")
        if self.settings.nets:
            found.append("clear text beyond the host (--insecure): no other system here encrypts")
        if self.settings.compression != "zstd":
            found.append("compression is zstd whatever is asked")
        return found

    # --- nodes -------------------------------------------------------------------------------------------------------

    def prepare(self, count: int) -> None:
        hosts = self.hosts if self.settings.nets else ()
        ports = free_ports(2 * (count + self.spare))
        self._cluster = Cluster(self.folder, count, hosts=hosts, ports=ports[: 2 * count])
        self._spare_ports = ports[2 * count :]

    def launch(self, i: int) -> Program:
        try:
            started = self.cluster.start(i, prefix=self.inside(i))
            return Program(f"buck {i}", started.popen, started.log)
        except ClusterError as error:
            raise RivalError(str(error)) from None

    def stop(self) -> None:
        super().stop()
        if self._cluster is not None:
            self._cluster.close()

    def data(self, i: int) -> Path:
        return self.folder / f"buck{i}"

    def addresses(self) -> list[str]:
        return [self.cluster.fixed[i][0] for i in sorted(self.cluster.fixed)]

    def launch_all(self, count: int) -> None:
        """All bucks side by side: none waits for another."""
        with ThreadPoolExecutor() as pool:
            self.nodes += pool.map(self.launch, range(count))

    def until_ready(self, deadline: float) -> None:
        """All know each other, and all have acknowledged a first line; the client is this process, as for others."""
        while not all(map(self._met, self.cluster.live())):
            self.pause(deadline, "not all bucks know each other")
        first_line.bring(self.cluster.addresses())

    def _met(self, buck: Node) -> bool:
        """Does it know all others, each by its own word?"""
        with urllib.request.urlopen(f"http://{buck.http}/status", timeout=ASK_S) as answer:
            status = json.load(answer)
        others = [one for one in status["peers"] if one["confirmed"] and one["node"] != status["node"]]
        return len(others) == len(self.nodes) - 1

    def until_serving(self, i: int, deadline: float) -> None:
        """It has said that it listens: `launch` waited for that."""

    # --- a node more -------------------------------------------------------------------------------------------------

    def add(self) -> int:
        if self._spare_ports and self._spare_hosts:
            port, http, *self._spare_ports = self._spare_ports
            self.cluster.make_room(f"{self._spare_hosts[0]}:{port}", f"{self._spare_hosts[0]}:{http}")
        return super().add()

    def joined(self, i: int) -> bool:
        """It has said that it listens: `launch` waited for that."""
        return True

    def stored(self, i: int) -> int:
        """Third copies too, where a window ends meanwhile."""
        return sum(size for folder in self.cluster.disk_folders(i) for _, size in Stored(folder).fresh())

    # --- clients -----------------------------------------------------------------------------------------------------

    def client(self, job: str, *arguments: str) -> Client:
        return self.client_command("buck_client", job, *arguments)

    def load(self, files: Sequence[Path]) -> Loaded:
        """`tailer run --once` at A1 for one or two copies, at A2 for three."""
        raw, lines = weigh(files)
        before = self.held()
        begin = time.monotonic()
        program = self._tailer_once(files, "A2" if self.settings.copies == 3 else "A1")
        if code := program.wait(LOAD_S):
            raise RivalError(f"the tailer ended with {code}:\n{program.log_end()}")
        seconds = time.monotonic() - begin
        held = self.held() - before
        if held < lines:
            raise RivalError(f"the tailer was given {lines} lines and the bucks hold {held}")
        return Loaded(seconds, program.usage().cpu_s, raw, lines, held)

    def _tailer_once(self, files: Sequence[Path], level: str) -> Program:
        name = f"once{time.monotonic_ns()}"
        config = self.folder / f"{name}.toml"
        config.write_text(classes(self.settings))
        started = self.cluster.tailer("--config", str(config), "--once", "--level", level, *map(str, files), name=name)
        return Program(started.name, started.popen, started.log)

    def held(self) -> int:
        """How many events the packets on all disks hold, each packet counted once."""
        return sum(header.count for header in self.packets())

    def packets(self) -> Collection[Header]:
        """What is on all disks, each packet once."""
        disks = [folder for i in range(len(self.nodes)) for folder in self.cluster.disk_folders(i)]
        return {header.key: header for folder in disks for header, _ in Stored(folder).fresh()}.values()
