"""A cluster of real processes on this host: start, kill, restart, stop, and what each of them used.

The demo, the end-to-end tests and the benchmarks all start their bucks and tailers here. Every process listens on a
port that the system chose and says so in its first line on stdout (`listening HOST:PORT http HOST:PORT`). Processes are
ended by their own pid, and none outlives the `Cluster` that started it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from bench.keys import Keys
from bench.proxy import Proxy

READY_S = 30.0
STOP_S = 20.0
TICKS = os.sysconf("SC_CLK_TCK")


class ClusterError(Exception):
    """A process did not do what it should; the text holds the end of its log."""


class Usage(NamedTuple):
    """What a process has used so far: CPU seconds, and resident bytes now and at most."""

    cpu_s: float
    rss: int
    rss_max: int


class Process:
    """One process of ours, its log in a file, its first line read."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log: Path,
        env: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """`prefix`: a command that becomes ours after it has changed something, such as `prlimit --nofile=64`."""
        self.name, self.log = name, log
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                [*prefix, sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=out,
                env={**os.environ, **(env or {})},
                cwd=Path(__file__).parents[1],
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def first_line(self, timeout_s: float = READY_S) -> str:
        """The line that says where it listens (ClusterError with the log's end if there is none)."""
        lines: list[str] = []
        assert self.popen.stdout is not None
        reader = threading.Thread(target=lambda out: lines.append(out.readline().decode()), args=(self.popen.stdout,))
        reader.daemon = True
        reader.start()
        reader.join(timeout_s)
        if not lines or not lines[0]:
            self.kill()
            reader.join()
            self.popen.stdout.close()
            raise ClusterError(f"{self.name} did not start:\n{self.log_end()}")
        return lines[0].strip()

    def usage(self) -> Usage:
        """From /proc, so that a running process can be asked; its threads are included, it has no children."""
        stat = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        status = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        rss, most = (int(status[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
        return Usage((int(stat[11]) + int(stat[12])) / TICKS, rss, most)

    def running(self) -> bool:
        return self.popen.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait: what is on disk now is what a crash leaves."""
        self.popen.kill()
        self.popen.wait()

    def stop(self, timeout_s: float = STOP_S) -> int:
        """SIGTERM, and its exit code; one that does not end is killed and reported."""
        self.popen.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> int:
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ClusterError(f"{self.name} did not end within {timeout_s:.0f} s:\n{self.log_end()}") from None

    def log_end(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Buck(Process):
    """A buck that is up: its address on the wire, and the one for HTTP."""

    address: str
    http: str

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        words = self.first_line().split()
        if len(words) != 4 or words[0] != "listening":
            self.kill()
            raise ClusterError(f"{self.name} said {words!r} where 'listening HOST:PORT http HOST:PORT' was expected")
        self.address, self.http = words[1], words[3]


class Cluster:
    """Bucks in folders below `root`, all on loopback, each joined to the first that lives."""

    def __init__(
        self,
        root: Path,
        count: int = 3,
        *,
        env_name: str = "prod",
        disks: int = 1,
        width: str = "300s",
        logs: str = ".",
        secure: bool = False,
        proxied: Collection[int] = (),
        hosts: Sequence[str] = (),
        ports: Sequence[int] = (),
    ) -> None:
        """`proxied`: bucks that stand behind a proxy each, whose address they advertise. `hosts`: where the bucks
        listen instead of on loopback, in clear text all the same. `ports`: two of each buck, which then may all be
        started at the same time; otherwise the system chooses, and the first must be up before the others."""
        self.root, self.env_name, self.disks, self.width = root, env_name, disks, width
        self.logs = root / logs
        self.logs.mkdir(parents=True, exist_ok=True)
        self.bucks: list[Buck | None] = [None] * count
        self.processes: list[Process] = []
        where = [*hosts, *["127.0.0.1"] * (count - len(hosts))]
        self.fixed = {i: (f"{host}:0", f"{host}:0") for i, host in enumerate(hosts)}
        self._known: list[str] = []  # addresses of bucks that may not be up yet
        for i, (port, http) in enumerate(zip(ports[::2], ports[1::2], strict=True)):
            self.fixed[i] = f"{where[i]}:{port}", f"{where[i]}:{http}"
            self._known.append(self.fixed[i][0])
        self._clear = ["--insecure"] if hosts else []
        self.proxies = {i: Proxy() for i in proxied}
        self.keys = Keys(root, env_name) if secure else None

    def __enter__(self) -> Cluster:
        try:
            if self.keys:  # all before the first starts: whoever is in the list late has to wait for a SIGHUP
                for i in range(len(self.bucks)):
                    self.keys.listed("buck", f"buck{i}", *self._disks(i))
            for i in range(len(self.bucks)):
                self.start(i)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, i: int, env: dict[str, str] | None = None, prefix: Sequence[str] = ()) -> Buck:
        """Start buck `i`, or start it again: where it was, on the same ports, with the same disks and key."""
        listen, http = self.fixed.get(i, ("127.0.0.1:0", "127.0.0.1:0"))
        arguments = ["buck", "run", "--listen", listen, "--http", http, "--env", self.env_name, "--width", self.width]
        arguments += [*self._disks(i), *self._clear]
        others = self.addresses()[:1] or [address for address in self._known if address != listen]
        for other in others:
            arguments += ["--join", other]
        if self.keys:
            arguments += self.keys.listed("buck", f"buck{i}", *self._disks(i))
        proxy = self.proxies.get(i)
        if proxy:
            arguments += ["--advertise", proxy.address]
        buck = Buck(f"buck{i}", arguments, self.logs / f"buck{i}.log", env, prefix)
        self.fixed[i] = buck.address, buck.http
        if proxy:
            proxy.target, buck.address = buck.address, proxy.address
        self.bucks[i] = buck
        self.processes.append(buck)
        return buck

    def make_room(self, listen: str, http: str) -> None:
        """For one more buck, to be `start`ed at these addresses; it joins the first that lives."""
        self.fixed[len(self.bucks)] = listen, http
        self.bucks.append(None)

    def _disks(self, i: int) -> list[str]:
        """The flags for a buck's disks, which are made if need be."""
        arguments = []
        for disk in self.disk_folders(i):
            disk.mkdir(parents=True, exist_ok=True)
            arguments += ["--disk", str(disk)]
        return arguments

    def disk_folders(self, i: int) -> list[Path]:
        return [self.root / f"buck{i}" / f"disk{d}" for d in range(self.disks)]

    def addresses(self) -> list[str]:
        return [buck.address for buck in self.live()]

    def live(self) -> list[Buck]:
        """The bucks that run."""
        return [buck for buck in self.bucks if buck is not None and buck.running()]

    def tailer(
        self, *arguments: str, name: str = "tailer", env: dict[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> Process:
        """`tailer run` with a journal of its own name, to all bucks; the caller waits for it or stops it."""
        journal = self.root / name
        base = ["tailer", "run", "--journal", str(journal), "--env", self.env_name, *self._clear]
        found = [buck.address for buck in self.bucks if buck]
        for address in self.addresses() or self._known or found:  # all may be dead just now, or not up yet
            base += ["--to", address]
        if self.keys:
            base += self.keys.certified("tailer", name, "--journal", str(journal))
        process = Process(name, [*base, *arguments], self.logs / f"{name}.log", env, prefix)
        self.processes.append(process)
        return process

    def porter(
        self, *arguments: str, check: bool = True, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """A porter's job, to its end. `check` raises ClusterError for an exit code other than 0."""
        command = self.porter_command(*arguments)
        done = subprocess.run(
            command, capture_output=True, cwd=Path(__file__).parents[1], env={**os.environ, **(env or {})}, check=False
        )
        if check and done.returncode != 0:
            raise ClusterError(f"porter {' '.join(arguments)}: exit {done.returncode}\n{done.stderr.decode()[-2000:]}")
        return done

    def porter_command(self, job: str, *arguments: str) -> list[str]:
        """The command line of a porter's job that asks these bucks."""
        command = [sys.executable, "-m", "porter", job, "--env", self.env_name, "--key", str(self.root / "porter.key")]
        for address in self.addresses():  # all: bucks that have just started may not have met yet
            command += ["--peer", address]
        if self.keys:
            command += self.keys.certified("porter", "porter", "--key", str(self.root / "porter.key"))
        return [*command, *self._clear, *arguments]

    def close(self) -> None:
        """End everything that was started: politely, then not."""
        running = [process for process in self.processes if process.running()]
        for process in running:
            process.popen.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(max(0.1, deadline - time.monotonic()))
            if process.running():
                process.kill()
        for process in self.processes:
            if process.popen.stdout is not None:
                process.popen.stdout.close()
        for proxy in self.proxies.values():
            proxy.close()


@contextlib.contextmanager
def killing(process: Process, after_s: float) -> Iterator[None]:
    """Kill a process with SIGKILL a while after the block began; the block goes on."""
    timer = threading.Timer(after_s, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
