"""Each system that can be compared: started, sent to, read from, killed, stopped; and what their logs are made of."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from bench.measure import ROOT
from bench.rivals import kafka_jars, lines, syslog_client
from bench.rivals.buck import Buck
from bench.rivals.client import Asked
from bench.rivals.commands import RIVALS
from bench.rivals.kafka import Kafka, producer_options
from bench.rivals.ports import free_ports
from bench.rivals.process import Client, Program, RivalError
from bench.rivals.rival import Rival, Settings
from bench.stored import Disk

EVENTS, RATE = 200, 400.0
WAIT_S = 60.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", RIVALS, ids=lambda kind: kind.name)
def test_every_event_is_acknowledged_and_read_once_and_a_dead_node_is_noticed(
    kind: type[Rival], tmp_path: Path, shared_data: Path
) -> None:
    if why := kind.missing():
        pytest.skip(f"{kind.name}: {why}")
    log = tmp_path / "app.log"
    log.write_bytes(b"".join(b"%d a line of a file\n" % i for i in range(EVENTS)))
    with kind(tmp_path / "cluster", Settings(linger_ms=5)) as rival:
        assert 0 < rival.start(3) < WAIT_S
        paced_and_read(rival, tmp_path)
        loaded = rival.load([log])
        assert (loaded.raw, loaded.lines, loaded.events) == (log.stat().st_size, EVENTS, EVENTS)
        assert loaded.client_cpu_s > 0
        if isinstance(rival, Kafka):
            assert [rival.load([log, log], "python").events, rival.load([log, log]).events] == [2 * EVENTS] * 2
        before = rival.cpu_s()
        assert not rival.fallen()
        rival.kill(0)
        assert [text.split(":")[0] for text in rival.fallen()] == [rival.nodes[0].name]
        assert rival.cpu_s() >= before > 0
        assert rival.memory()[0][0] == 0 < rival.memory()[0][1]
        assert rival.memory()[1][0] > 0
        assert rival.disk().apparent > 0
        nodes = rival.nodes
    assert not any(Path(f"/proc/{node.pid}").exists() for node in nodes)
    assert rival.differences()
    assert rival.versions()


@pytest.mark.slow
def test_buck_makes_as_many_copies_as_are_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"a line\n" * EVENTS)
    with Buck(tmp_path / "cluster", Settings(copies=1)) as rival:
        rival.start(2)
        assert rival.load([log]).events == EVENTS
        stored = [header for i in range(2) for header, _ in Disk(rival.cluster.disk_folders(i)[0]).fresh()]
    assert sum(header.count for header in stored) == EVENTS + 2  # each has the one that told that it is ready


def paced_and_read(rival: Rival, folder: Path) -> None:
    """Two senders; each event is acknowledged, and read once by a live reader and once by one of the past."""
    sent, live, past = (folder / f"{name}.log" for name in ("sent", "live", "past"))
    reader = rival.consume(live)
    sender = rival.pace(sent, rate=RATE, senders=2, first=3)
    until(lambda: kinds(sent)["S"] >= EVENTS, sender)
    sender.finish()
    found = kinds(sent)
    assert found["A"] == found["S"]
    assert not found["F"]
    until(lambda: kinds(live)["R"] >= found["S"], reader)
    reader.finish()
    rival.consume(past, live=False).finish()
    acked = {(one.sender, one.number) for one in lines.read_log(sent) if one.kind == "A"}
    assert {sender for sender, _ in acked} == {3, 4}
    for path in (live, past):
        assert Counter((one.sender, one.number) for one in lines.read_log(path)) == Counter(acked)
    due = {(one.sender, one.number): one.ns for one in lines.read_log(sent) if one.kind == "S"}
    assert all(one.ns >= due[one.sender, one.number] for one in lines.read_log(sent) if one.kind == "A")


def kinds(path: Path) -> Counter[str]:
    return Counter(one.kind for one in lines.read_log(path))


def until(holds: object, client: Client) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():  # type: ignore[operator]  # a function without arguments
        assert client.running(), client.log_end()
        assert time.monotonic() < deadline, client.log_end()
        time.sleep(0.05)


def test_a_reader_of_the_past_reads_it_whole_though_its_stdin_has_ended_before_it_began(tmp_path: Path) -> None:
    received = tmp_path / "received.log"
    received.write_bytes(b"event=1/0 x\nevent=1/1 x\n")
    asked = Asked([], Settings(), tmp_path, True, [tmp_path / "followed", received], threading.Event())
    asked.ended.set()
    with lines.Log(tmp_path / "log") as log:
        syslog_client.consume(asked, log)
    assert kinds(tmp_path / "log") == Counter(R=2)


def test_a_paced_line_is_told_by_its_sender_and_number_whatever_is_around_it() -> None:
    line = lines.event(b"a real line", 3, 1042, 1_763_842_504_123_456_789)
    assert line == b"2025-11-22T20:15:04.123456Z event=3/1042 a real line"
    assert lines.told(b'{"line": "' + line + b'"}') == (3, 1042)
    assert lines.told(b"no event here") is None


def test_a_pacer_makes_up_for_what_it_was_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("bench.rivals.lines.time.monotonic", lambda: now)
    pacer = lines.Pacer([b"x", b"y"], 10.0, senders=2, first=5, skew_s=60.0)
    assert [(one.sender, one.number) for one in pacer.due()] == []
    now += 0.45
    found = list(pacer.due())
    assert [(one.sender, one.number) for one in found] == [(5, 0), (6, 0), (5, 1), (6, 1), (5, 2)]
    assert [one.due_ns - found[0].due_ns for one in found] == [0, 10**8, 2 * 10**8, 3 * 10**8, 4 * 10**8]
    assert abs(found[0].claimed_ns - time.time_ns() - 60 * 10**9) < 10**10


def test_a_log_of_a_killed_process_may_end_in_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with lines.Log(path) as log:
        log.sent(lines.Event(1, 2, 3, 4, b""))
        log.failed(1, 2, "no\nleader")
        log.read([b"event=1/2 x", b"noise"])
    with path.open("ab") as file:
        file.write(b"A 1 2 12")
    found = list(lines.read_log(path))
    assert [(one.kind, one.sender, one.number) for one in found] == [("S", 1, 2), ("F", 1, 2), ("R", 1, 2)]
    assert (found[0].ns, found[0].rest, found[1].rest) == (3, "4", "no leader")


def test_ports_in_use_and_what_is_not_possible_are_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RivalError, match=f"port {port} is in use"):
            free_ports(3, port)
    with pytest.raises(RivalError, match="2 nodes for 3 copies"):
        Buck(tmp_path / "few").start(2)
    with pytest.raises(ValueError, match="linger_ms is -1"):
        Settings(linger_ms=-1)


def test_too_little_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.rivals.rival.DISK_LEAST", 1 << 60)
    with pytest.raises(RivalError, match="MiB are free"):
        Buck(tmp_path / "full").start(3)


def test_what_kafka_lacks_is_said_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_jars, "java_version", lambda: 11)
    assert "java is 11" in Kafka.missing()
    monkeypatch.setattr(kafka_jars, "java_version", lambda: 17)
    monkeypatch.setenv("KAFKA_JARS", str(tmp_path))
    assert "make rivals" in Kafka.missing()
    with pytest.raises(RivalError, match="kafka can't run here"):
        Kafka(tmp_path / "cluster").start(3)
    assert not (tmp_path / "cluster").exists()


def test_a_kafka_broker_that_said_before_its_death_that_it_had_started_is_not_back_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Kafka(tmp_path)
    log = tmp_path / "node0" / "server.log"
    log.parent.mkdir()
    log.write_bytes(b"Kafka Server started\n")
    monkeypatch.setattr(cluster, "_java", lambda *_: ["true"])
    cluster.launch(0).wait(WAIT_S)
    assert not cluster.is_unfenced(0)
    with log.open("ab") as file:
        file.write(b"[KafkaRaftServer nodeId=1] Kafka Server started (kafka.server.KafkaRaftServer)\n")
    assert cluster.is_unfenced(0)


def test_kcat_is_told_what_the_client_in_python_is() -> None:
    pytest.importorskip("confluent_kafka")
    words = producer_options(["127.0.0.1:1"], Settings(idempotent=False, timeouts="tuned"))
    assert {"acks=all", "enable.idempotence=false", "linger.ms=50", "socket.timeout.ms=2000"} <= set(words)


def test_a_program_is_counted_to_its_end_and_a_client_that_fails_is_named(tmp_path: Path) -> None:
    burn = "import time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    program = Program.start("burner", [sys.executable, "-c", burn], tmp_path / "log")
    assert program.wait(WAIT_S) == 0
    assert 0.2 <= program.usage().cpu_s < 5
    broken = Client("sender", [sys.executable, "-c", "raise SystemExit('no way')"], tmp_path / "client.log")
    with pytest.raises(RivalError, match=r"(?s)sender did not begin.*no way"):
        broken.until_ready(WAIT_S)


def test_the_command_says_of_each_rival_whether_it_can_run_here() -> None:
    command = [sys.executable, "-m", "bench", "rivals"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "KAFKA_JARS": "/nowhere"})  # fmt: skip
    assert done.returncode == 1
    assert all(kind.name in done.stdout for kind in RIVALS)
    assert "no jars of Kafka" in done.stdout
