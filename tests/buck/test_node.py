"""Real processes: how a buck starts, refuses to start, stops, and comes back after a kill at any named moment."""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol import messages as m
from protocol.connection import Connection
from protocol.identity import NodeKey
from protocol.ranges import Ranges
from tests.buck.making import KEY, OTHER, make, seal

ROOT = Path(__file__).parents[2]
BUCKET = 1_700_000_100
PATIENCE_S = 30


class Buck:
    """A process, and a connection to it that speaks without trio."""

    def __init__(self, folder: Path, *flags: str, fault: str = "") -> None:
        command = [sys.executable, "-m", "buck", "run", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        for disk in ("d1", "d2"):
            command += ["--disk", str(folder / disk)]
        environ = {**os.environ, "BUCK_FAULT": fault}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([*command, *flags], cwd=ROOT, env=environ, stdout=pipe, stderr=pipe, text=True)
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        self.listen, self.http = (words[1], words[3]) if len(words) == 4 else ("", "")
        self.socket: socket.socket | None = None
        self.asked = 0

    def connect(self, role: str = "tailer", key: NodeKey = KEY) -> None:
        host, port = self.listen.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        self.connection = Connection(m.Hello(role, key.public, "prod", 0, b"h", (1, 1), "", 0), dialing=True)
        self.socket.sendall(self.connection.start())
        while self.connection.peer is None:
            self._receive()

    def ask(self, question: Any) -> list[Any]:
        """All answers to a question; ConnectionError if the buck dies."""
        assert self.socket is not None
        self.asked += 1
        self.socket.sendall(self.connection.send_whole(question(self.asked)))
        answers: list[Any] = []
        while True:
            for message in self.connection.messages():
                answers.append(message)
                if not isinstance(message, m.PacketIs | m.SealsAre):
                    return answers
            self._receive()

    def put(self, number: int, sync: bool = False) -> Any:
        data = make(number, bytes(2000), bucket=BUCKET, sync=sync)
        return self.ask(lambda ask: m.Put(ask, 0, False, data))[0]

    def page(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.http, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """(exit code, stderr)"""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        if self.socket is not None:
            self.socket.close()
        try:
            _, errors = self.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, errors

    def _receive(self) -> None:
        assert self.socket is not None
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the buck closed the link")
        self.connection.receive(data)


@contextlib.contextmanager
def running(folder: Path, *flags: str, fault: str = "") -> Iterator[Buck]:
    buck = Buck(folder, *flags, fault=fault)
    try:
        yield buck
    finally:
        if buck.process.poll() is None:
            buck.process.kill()
        buck.wait()


def refused(*arguments: str) -> str:
    """What a buck that must not start says, in one line, with code 2."""
    command = [sys.executable, "-m", "buck", "run", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]  # the log is JSON
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert done.stdout == ""
    return lines[0]


def test_a_buck_serves_its_pages_and_stops_cleanly(tmp_path: Path) -> None:
    with running(tmp_path) as buck:
        buck.connect()
        assert buck.put(0).level == 1
        assert buck.page("/ruok") == (200, b"imok")
        status = json.loads(buck.page("/status")[1])
        assert (status["packets"], status["env"], status["width"]) == (1, "prod", 300)
        assert [disk["healthy"] for disk in status["disks"]] == [True, True]
        assert (status["health"], status["troubles"]) == ("OK", [])
        assert status["address"] == buck.listen
        assert b"buck_packets_stored_total 1.0" in buck.page("/metrics")[1]
        assert buck.page("/nothing")[0] == 404
        assert buck.end()[0] == 0
    assert (tmp_path / "d1/prod/clean").exists()
    assert not list(tmp_path.glob("d*/prod/*/*.open"))


def test_unknown_key_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "buck.toml").write_text('widht = "300s"\n')
    line = refused("--config", str(tmp_path / "buck.toml"))
    assert line == f"{tmp_path}/buck.toml: widht: unknown; did you mean width?"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--listen", "nowhere"), "is no HOST:PORT"),
        (("--listen", "0.0.0.0:0"), "say --insecure"),
        (("--width", "7s"), "does not divide a day"),
        (("--env", "../etc"), "--env"),
        (("--key", "/proc/nowhere/key"), "key file"),
        (("--disk", ""), "is a variable empty?"),
    ],
)
def test_flags_that_can_not_be(tmp_path: Path, flags: tuple[str, ...], said: str) -> None:
    assert said in refused("--disk", str(tmp_path / "d1"), *flags)


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused("--disk", str(tmp_path / "d1"), "--listen", f"127.0.0.1:{port}")
    assert f"127.0.0.1:{port} is in use" in line


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "file/d1" in refused("--disk", str(tmp_path / "file/d1"), "--key", str(tmp_path / "key"))


def test_the_disk_of_another_node_and_a_disk_in_use(tmp_path: Path) -> None:
    with running(tmp_path) as buck:
        assert "in use by another process" in refused("--disk", str(tmp_path / "d1"))
        assert buck.end()[0] == 0
    line = refused("--disk", str(tmp_path / "d1"), "--key", str(tmp_path / "another.key"))
    assert "is the disk of node" in line
    assert (tmp_path / "d1/node").read_text().strip() in line


def test_buck_key_prints_what_the_disk_will_say(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "buck", "key", "--disk", str(tmp_path / "d1")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    word, node, _, public = done.stdout.split()
    assert (word, len(node), len(public)) == ("node", 32, 64)
    with running(tmp_path):
        assert (tmp_path / "d1/node").read_text().strip() == node


WRITING = [
    "buck.volume.before_name", "buck.volume.after_name", "buck.bucket.before_append:7", "buck.bucket.after_append:7",
    "buck.store.before_ack:7", "buck.durable.before_fsync", "buck.durable.after_fsync", "buck.seals.before_append",
    "buck.seals.before_fsync", "buck.seals.after_fsync",
]  # fmt: skip
STOPPING = [
    "buck.bucket.before_footer", "buck.bucket.after_footer", "buck.bucket.before_rename", "buck.bucket.after_rename",
]  # fmt: skip
STARTING = [
    "buck.volume.after_unsure", "buck.bucket.before_cut", "buck.bucket.after_cut", "buck.bucket.renewed",
    "buck.volume.recovered",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("moment", [*WRITING, *STOPPING, *STARTING])
def test_D21_a_kill_at_a_named_moment_loses_nothing_that_was_acknowledged(tmp_path: Path, moment: str) -> None:
    with running(tmp_path, fault="" if moment in STARTING else moment) as buck:
        stored, seals = write_until_it_dies(buck, 20)
        if moment in STARTING:
            buck.end(signal.SIGKILL)
            for disk in tmp_path.glob("d*/prod/*/*.open"):
                with disk.open("ab") as file:
                    file.write(b"BUK1 torn")
            assert Buck(tmp_path, fault=moment).wait()[0] == -signal.SIGKILL
        elif moment in STOPPING:
            assert buck.end()[0] == -signal.SIGKILL
        else:
            assert buck.wait()[0] == -signal.SIGKILL
    check_all_is_there(tmp_path, stored, seals)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_kills_at_random_moments_lose_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    stored: set[int] = set()
    for attempt in range(4):
        with running(tmp_path) as buck:
            buck.connect()
            deadline = time.monotonic() + rng.uniform(0.0, 0.15)
            number = 1000 * attempt
            while time.monotonic() < deadline:
                buck.put(number)
                stored.add(number)
                number += 1
            buck.end(signal.SIGKILL)
    check_all_is_there(tmp_path, stored, set())


def write_until_it_dies(buck: Buck, count: int) -> tuple[set[int], set[int]]:
    """Put packets and seals, ask for a sync; what was acknowledged."""
    stored: set[int] = set()
    seals: set[int] = set()
    with contextlib.suppress(ConnectionError):
        buck.connect()
        for number in range(count):
            assert isinstance(buck.put(number), m.Ok)
            stored.add(number)
            if number % 8 == 5:
                data = seal(number // 8)
                assert isinstance(buck.ask(lambda ask, data=data: m.SealPut(ask, data))[0], m.Ok)
                seals.add(number // 8)
        buck.ask(lambda ask: m.Have(ask, KEY.node, 7, BUCKET, True))
    return stored, seals


def check_all_is_there(folder: Path, stored: set[int], seals: set[int]) -> None:
    with running(folder) as buck:
        buck.connect("porter", OTHER)
        listing = buck.ask(lambda ask: m.List(ask, BUCKET))[0]
        held = next((numbers for _, _, numbers in listing.entries), Ranges())
        assert stored <= set(held.numbers())
        keys = ((KEY.node, 7, held),)
        parts = buck.ask(lambda ask: m.Get(ask, BUCKET, keys))
        assert [part.packet for part in parts[:-1]] != [] or not stored
        found = sorted(bytes(part.packet) for part in parts[:-1])
        assert found == sorted(make(n, bytes(2000), bucket=BUCKET) for n in held.numbers())
        assert parts[-1].missing == ()
        kept = [data for part in buck.ask(lambda ask: m.Seals(ask, b"", 0))[:-1] for data in part.seals]
        assert {seal(n) for n in seals} <= set(kept)
        assert len(kept) == len(set(kept))
        assert buck.end()[0] == 0
