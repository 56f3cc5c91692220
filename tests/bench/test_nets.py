"""Nodes in networks of their own: cut off in silence, counted, and removed whatever happens."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.measure import ROOT
from bench.rivals import lines, nets
from bench.rivals.commands import RIVALS
from bench.rivals.process import RivalError
from bench.rivals.rival import Rival, Settings

WAIT_S = 60.0
EVENTS = 200
ECHO = """import socket
server = socket.create_server(("{host}", 7000))
while True:
    to, _ = server.accept()
    while data := to.recv(65536):
        to.sendall(data)
"""

if WHY := nets.missing():
    pytest.skip(WHY, allow_module_level=True)


@pytest.fixture
def two() -> Iterator[nets.Nets]:
    made = nets.Nets(2)
    yield made
    made.close()
    assert not left(made)


def left(made: nets.Nets) -> list[str]:
    """What of it is still there."""
    names = {path.name for folder in (nets.NAMESPACES, nets.INTERFACES) if folder.exists() for path in folder.iterdir()}
    return sorted(names & {made.bridge, *made.names})


@contextlib.contextmanager
def serve(made: nets.Nets, i: int) -> Iterator[subprocess.Popen[bytes]]:
    code = ECHO.format(host=made.addresses[i])
    with subprocess.Popen([*made.prefix(i), sys.executable, "-c", code]) as process:
        try:
            yield process
        finally:
            process.kill()


def dial(made: nets.Nets, i: int) -> socket.socket:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return socket.create_connection((made.addresses[i], 7000), 1.0)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_node_that_is_cut_off_says_nothing_and_goes_on_when_it_is_healed(two: nets.Nets) -> None:
    with serve(two, 1) as process, dial(two, 1) as link:
        link.sendall(b"one")
        assert link.recv(10) == b"one"
        before = two.traffic()
        two.cut(1)
        link.settimeout(0.5)
        link.sendall(b"two")
        with pytest.raises(TimeoutError):
            link.recv(10)
        with pytest.raises(TimeoutError):  # no refusal, no unreachable host: nothing at all
            socket.create_connection((two.addresses[1], 7000), 0.5)
        assert two.traffic() == before
        two.heal(1)
        link.settimeout(WAIT_S)
        assert link.recv(10) == b"two"  # it was sent again
        assert two.traffic()[1].received > before[1].received
        assert two.traffic()[0] == before[0]
        two.close()
        assert process.wait(WAIT_S) != 0, "who runs in a namespace doesn't outlive it"


def test_nodes_reach_each_other_and_each_ones_bytes_are_counted(two: nets.Nets) -> None:
    code = f"import socket; link = socket.create_connection(('{two.addresses[1]}', 7000)); link.sendall(b'x' * 100_000)"
    with serve(two, 1):
        dial(two, 1).close()
        before = two.traffic()
        subprocess.run([*two.prefix(0), sys.executable, "-c", code], check=True, timeout=WAIT_S)
        after = two.traffic()
        two.close()
    assert 100_000 < after[0].sent - before[0].sent < 130_000
    assert after[1].received - before[1].received >= 100_000
    assert two.traffic() == after, "what was counted is known after the end"


def test_what_a_killed_harness_has_left_is_swept_with_its_processes() -> None:
    code = (
        "import subprocess, time; from bench.rivals.nets import Nets; made = Nets(2)\n"
        "subprocess.Popen([*made.prefix(0), 'sleep', '600'])\n"
        "print(made.bridge, *made.names, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as harness:
        assert harness.stdout is not None
        names = set(harness.stdout.readline().decode().split())
        nets.sweep()
        folders = (nets.NAMESPACES, nets.INTERFACES)
        assert names == {path.name for folder in folders for path in folder.iterdir()} & names, "it lives: its own"
        harness.kill()
    nets.sweep()
    assert not {path.name for folder in folders for path in folder.iterdir()} & names


def test_a_cluster_that_does_not_start_leaves_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(RIVALS[-1]):  # type: ignore[misc, valid-type]  # Buck, as good as any
        def prepare(self, count: int) -> None:
            raise RivalError("no")

    rival = Broken(tmp_path / "cluster", Settings(nets=True))
    with pytest.raises(RivalError, match="no"):
        rival.start(3)
    assert not left(rival.network_of_nodes)
    rival.stop()  # as whoever uses it in a `with` does then


def test_on_loopback_there_is_no_network_to_ask(tmp_path: Path) -> None:
    with pytest.raises(RivalError, match="nets=True"):
        RIVALS[-1](tmp_path).network()


@pytest.mark.slow
@pytest.mark.parametrize("kind", RIVALS[1:], ids=lambda kind: kind.name)  # the papers' tests start a Kafka so
def test_each_system_goes_on_when_a_node_is_cut_off_and_healed(
    kind: type[Rival], tmp_path: Path, shared_data: Path
) -> None:
    if why := kind.missing():
        pytest.skip(f"{kind.name}: {why}")
    sent, read = tmp_path / "sent.log", tmp_path / "read.log"
    with kind(tmp_path / "cluster", Settings(linger_ms=5, timeouts="tuned", nets=True)) as rival:
        rival.start(3)
        before = rival.network()
        sender = rival.pace(sent, rate=EVENTS)
        time.sleep(1.0)
        rival.cut(1)
        time.sleep(1.0)
        rival.heal(1)
        sender.finish()
        rival.consume(read, live=False).finish()
        used = rival.network()
    assert all(now.received > then.received for now, then in zip(used, before, strict=True))
    acked = Counter((one.sender, one.number) for one in lines.read_log(sent) if one.kind == "A")
    assert len(acked) >= EVENTS
    found = Counter((one.sender, one.number) for one in lines.read_log(read))
    assert found >= acked if kind.name != "rsyslog" else found, "rsyslog may lose what was on its way"
