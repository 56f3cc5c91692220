"""rsyslog: one on the sender's host that follows files into a disk-assisted queue for each receiver, and receivers that
write one file each. Every receiver gets everything, so as many nodes are as many copies."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench.rivals.lines import weigh
from bench.rivals.ports import free_ports
from bench.rivals.process import Client, Program, RivalError
from bench.rivals.rival import Loaded, Rival, Settings
from bench.rivals.syslog_client import Tail

# Its queue on disk was seen to keep its last lines for as long as nothing new comes; a sender that is started again
# brings them.
STALLED_S, STARTS_MAX = 2.0, 10
LOAD_S = 600.0
DAEMON = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin:/sbin:/bin")
GLOBAL = 'global(workDirectory="{}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")\n'
SENDER = """module(load="imfile" mode="inotify")
template(name="line" type="string" string="%msg%")
"""
FORWARD = """  action(type="omfwd" target="{host}" port="{port}" protocol="tcp" template="line"
    action.resumeRetryCount="-1" action.resumeInterval="1" queue.type="LinkedList" queue.filename="to{i}"
    queue.size="200000" queue.dequeueBatchSize="1024" queue.maxDiskSpace="4g" queue.saveOnShutdown="on")
"""
RECEIVER = """module(load="imptcp")
template(name="raw" type="string" string="%rawmsg%\\n")
input(type="imptcp" address="{host}" port="{port}" ruleset="in" supportOctetCountedFraming="off")
ruleset(name="in") {{ action(type="omfile" file="{file}" template="raw" sync="{sync}") }}
"""


class Syslog(Rival):
    """Node i is a receiver; the sender's rsyslog belongs to the clients."""

    name = "rsyslog"

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        super().__init__(folder, settings)
        self._ports: list[int] = []
        self._sender: Program | None = None

    @classmethod
    def missing(cls) -> str:
        return "" if DAEMON else "no rsyslogd: apt-get install rsyslog"

    @classmethod
    def versions(cls) -> dict[str, str]:
        said = subprocess.run([str(DAEMON), "-v"], capture_output=True, text=True, check=True, timeout=60).stdout
        return {"rsyslog": said.split()[1]}

    def differences(self) -> list[str]:
        found = [
            "plain TCP syslog acknowledges nothing: an event counts as acknowledged when the files of all receivers"
            " hold it, which its sender can't know; what was in a connection that broke is lost, and nobody is told"
            " (RELP, its protocol that acknowledges, was not tried)",
            "every receiver has everything: copies are the number of nodes, whatever is asked",
            "no compression on the wire or on disk (it has some, not switched on), no identity of lines, no order"
            " between senders, no partitions",
            "a frozen receiver holds back its own queue only; nothing is ever brought to it from another receiver",
            "a node serves again when it listens",
        ]
        if self.settings.sync == "each":
            found.append("omfile with sync: each write of the receiver's file is fsynced")
        return found

    # --- nodes -------------------------------------------------------------------------------------------------------

    def prepare(self, count: int) -> None:
        self._ports = free_ports(count)
        (self.folder / "sent").mkdir()
        for i, port in enumerate(self._ports):
            self.data(i).mkdir(parents=True)
            sync = "on" if self.settings.sync == "each" else "off"
            text = GLOBAL.format(self.data(i).parent) + RECEIVER.format(
                host=self.hosts[i], port=port, file=self._received(i), sync=sync
            )
            (self.data(i).parent / "rsyslog.conf").write_text(text)

    def launch(self, i: int) -> Program:
        folder = self.data(i).parent
        return self.program(i, _command(folder), folder / "server.log")

    def start_sender(self, name: str, files: Sequence[str | Path]) -> Program:
        """An rsyslog that follows these files from their beginnings, for all receivers."""
        folder = self.folder / name
        folder.mkdir()
        inputs = "".join(f'input(type="imfile" file="{file}" tag="bench" ruleset="out")\n' for file in files)
        actions = "".join(FORWARD.format(i=i, host=self.hosts[i], port=port) for i, port in enumerate(self._ports))
        text = f'{GLOBAL.format(folder)}{SENDER}{inputs}ruleset(name="out") {{\n{actions}}}\n'
        (folder / "rsyslog.conf").write_text(text)
        return self._start(name)

    def _start(self, name: str) -> Program:
        return Program.start(name, _command(self.folder / name), self.folder / name / "server.log")

    def stop(self) -> None:
        if self._sender is not None and self._sender.running():
            self._sender.stop()
        super().stop()

    def data(self, i: int) -> Path:
        return self.folder / f"node{i}" / "data"

    def _received(self, i: int) -> Path:
        return self.data(i) / "received.log"

    def addresses(self) -> list[str]:
        return [f"{host}:{port}" for host, port in zip(self.hosts, self._ports, strict=True)]

    def until_ready(self, deadline: float) -> None:
        """Every receiver has a first line."""
        for i in range(len(self.nodes)):
            self.until_serving(i, deadline)
        (self.folder / "sent" / "ready.log").write_text("ready\n")
        self._sender = self.start_sender("sender", [self.folder / "sent" / "*.log"])
        tails = [Tail(self._received(i)) for i in range(len(self.nodes))]
        while not all(tail.lines() or tail.has_read for tail in tails):
            self.pause(deadline, "a receiver has no line")

    def until_serving(self, i: int, deadline: float) -> None:
        while True:
            try:
                socket.create_connection((self.hosts[i], self._ports[i]), 1.0).close()
                return
            except OSError:  # not up yet
                self.pause(deadline, "the receiver doesn't listen", i)

    # --- clients -----------------------------------------------------------------------------------------------------

    def client(self, job: str, *arguments: str) -> Client:
        """A sender appends to a file of its own, which the rsyslog of its host follows."""
        followed = self.folder / "sent" / f"{time.monotonic_ns()}.log"
        if job == "pace":
            followed.touch()
        files = [followed, *(self._received(i) for i in range(len(self.nodes)))]
        return self.client_command("syslog_client", job, *arguments, *map(str, files))

    def load(self, files: Sequence[Path]) -> Loaded:
        """By an rsyslog of its own that follows the files from their beginnings, until all receivers hold all lines."""
        raw, lines = weigh(files)
        tails = [Tail(self._received(i)) for i in range(len(self.nodes))]
        for tail in tails:
            while tail.lines():
                pass
        held, name = [0] * len(tails), f"load{time.monotonic_ns()}"
        begin = moved = time.monotonic()
        started = [self.start_sender(name, files)]
        try:
            while min(held) < lines:
                more = [len(tail.lines()) for tail in tails]
                held, now = [count + new for count, new in zip(held, more, strict=True)], time.monotonic()
                moved = now if any(more) else moved
                if not started[-1].running() or len(started) > STARTS_MAX or now > begin + LOAD_S:
                    text = f"rsyslog was given {lines} lines, and the receivers hold {held}"
                    raise RivalError(f"{text}:\n{started[-1].log_end()}")
                if now > moved + STALLED_S:
                    started[-1].stop()
                    started.append(self._start(name))
                    moved = time.monotonic()
                time.sleep(0.005)
            seconds = time.monotonic() - begin
            started[-1].stop()
        finally:
            started[-1].kill()
        return Loaded(seconds, sum(one.usage().cpu_s for one in started), raw, lines, min(held))


def _command(folder: Path) -> list[str | Path]:
    return [str(DAEMON), "-n", "-f", folder / "rsyslog.conf", "-i", folder / "pid"]
