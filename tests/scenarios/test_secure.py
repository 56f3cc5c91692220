"""A cluster of real processes with keys, secret and certificates: what it lets in, keeps out, and never shows."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.cluster import Buck, Cluster, ClusterError, Process
from tests.scenarios.arena import PATIENCE_S, Arena
from tests.scenarios.test_bad_bytes import counted

pytestmark = pytest.mark.slow

LINES = 2000
CROWD = 5000


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Two bucks with keys, and a file that a tailer with a certificate has delivered."""
    with Cluster(tmp_path_factory.mktemp("secure"), 2, secure=True) as cluster:
        yield Arena(cluster)


def wait_for(what: Callable[[], object], process: Process) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, process.log_end()
        time.sleep(0.05)


def flags(arena: Arena, **changes: str) -> list[str]:
    """Those of a node with the cluster's own files, but for the changes."""
    keys = arena.cluster.keys
    assert keys
    named = {"authorized-keys": str(keys.authorized), "secret-file": str(keys.secret), **changes}
    return [word for name, value in named.items() if value for word in (f"--{name}", value)]


def status(arena: Arena, *more: str) -> subprocess.CompletedProcess[str]:
    """`porter status` with these flags."""
    command = [sys.executable, "-m", "porter", "status", "--peer", arena.buck(0).address, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_a_file_comes_back_through_encrypted_links(arena: Arena) -> None:
    writer = arena.writer("first")
    writer.write(LINES)
    arena.done(arena.feed(writer))
    arena.cat(writer)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "this key is not let in there"),
        ({"certificate": "tailer.certificate"}, "the certificate is for the key"),
        ({"secret-file": ""}, "as it does if the peer has another secret"),
        ({"authorized-keys": "", "secret-file": ""}, "wants an encrypted link"),
    ],
)
def test_A1_A2_A4_a_stranger_is_told_what_to_look_at_and_the_buck_logs_one_line(
    arena: Arena, tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    arena.cluster.keys.certified("tailer", "tailer", "--journal", str(arena.cluster.root / "tailer"))  # type: ignore[union-attr]  # it has keys
    changes = {name: str(arena.cluster.root / value) if value else "" for name, value in changes.items()}
    before = arena.buck(0).log.read_text().count("a peer is refused")
    done = status(arena, "--key", str(tmp_path / "stranger.key"), *flags(arena, **changes))
    assert done.returncode in (1, 2), done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    if "certificate" not in changes:
        wait_for(lambda: arena.buck(0).log.read_text().count("a peer is refused") == before + 1, arena.buck(0))


def test_A13_A14_five_thousand_connections_keep_nobody_out_who_is_in(arena: Arena) -> None:
    """A tailer that is connected goes on, and a new peer gets in when they have gone."""
    writer = arena.writer("crowd-tailer")
    writer.write(LINES)
    tailer = arena.cluster.tailer("--from", "head", str(writer.path), name="crowd")
    wait_for(lambda: arrived(arena, writer.path), tailer)
    buck, crowd = arena.buck(0), []
    host, _, port = buck.address.rpartition(":")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * CROWD), hard))
    try:
        for number in range(CROWD):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((host, int(port)))
            crowd.append(one)
            if number % 50 == 49:
                time.sleep(0.01)  # the kernel's queue is not what is tested
                speak(crowd[number - 49 :])
        writer.write(LINES)
        wait_for(lambda: counted(buck, 'links_refused_total{reason="slow"}') > CROWD // 4, buck)
        assert len(os.listdir(f"/proc/{buck.pid}/fd")) < 1024 + 256
    finally:
        for one in crowd:
            one.close()
    assert tailer.running()
    wait_for(lambda: arrived(arena, writer.path), tailer)  # whoever asks is new here
    assert tailer.stop() == 0, tailer.log_end()


def speak(crowd: list[socket.socket]) -> None:
    """One says nothing, the others what is no handshake, or half of one."""
    for number, one in enumerate(crowd):
        with contextlib.suppress(OSError):  # turned away already
            one.send((b"", b"GET / HTTP/1.1\r\n\r\n", b"BUCK\1\1\0\x30", bytes(1000))[number % 4])


def test_A36_no_secret_is_in_a_log_a_page_or_a_command_line(arena: Arena) -> None:
    root = arena.cluster.root
    secret = (root / "secret").read_text().strip()
    keys = [path for path in root.rglob("*.key")]
    hidden = [secret, *(re.search(r'seed = "(\w+)"', path.read_text())[1] for path in keys)]  # type: ignore[index]  # each has one
    assert len(hidden) >= 5
    shown = [path.read_text(errors="replace") for path in root.rglob("*.log") if path.parent == arena.cluster.logs]
    for buck in arena.cluster.live():
        shown += [Path(f"/proc/{buck.pid}/{name}").read_text(errors="replace") for name in ("cmdline", "environ")]
        for page in ("status", "metrics", "ruok", "none"):
            shown.append(page_of(buck, page))
        assert re.search(r"Max core file size\s+0\s", Path(f"/proc/{buck.pid}/limits").read_text())
    # a process that fails where it has the secret in its hands
    shown.append(
        status(arena, "--key", str(root / "porter.key"), *flags(arena, certificate=str(root / "secret"))).stderr
    )
    assert "not a certificate" in shown[-1]
    shown.append(status(arena, "--key", str(root / "secret"), *flags(arena)).stderr)
    assert "not a key file" in shown[-1]
    for text in shown:
        assert not [one for one in hidden if one in text or bytes.fromhex(one).hex(":") in text]


def page_of(buck: Buck, name: str) -> str:
    try:
        with urllib.request.urlopen(f"http://{buck.http}/{name}", timeout=10) as answer:
            return str(answer.read().decode())
    except OSError as error:
        return str(error)


def test_A36_files_that_others_can_read_end_the_start(arena: Arena, tmp_path: Path) -> None:
    open_secret = tmp_path / "secret"
    open_secret.write_text("s" * 40)
    open_secret.chmod(0o644)
    done = status(arena, "--key", str(tmp_path / "k"), *flags(arena, **{"secret-file": str(open_secret)}))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert f"do: chmod 600 {open_secret}" in done.stderr


def test_clear_text_beyond_this_host_ends_the_start_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="name --authorized-keys FILE, or say --insecure"):
        Buck("far", ["buck", "run", "--listen", "0.0.0.0:0", "--disk", str(tmp_path / "d")], tmp_path / "log")


def test_a_revoked_key_is_cut_off_at_SIGHUP_and_the_rest_goes_on(arena: Arena) -> None:
    keys = arena.cluster.keys
    assert keys
    writer = arena.writer("revoked-tailer")
    writer.write(LINES)
    tailer = arena.cluster.tailer("--from", "head", str(writer.path), name="revoked")
    wait_for(lambda: arrived(arena, writer.path), tailer)
    node = subprocess.run(
        [sys.executable, "-m", "tailer", "key", "--journal", str(arena.cluster.root / "revoked")],
        capture_output=True, text=True, check=True, timeout=PATIENCE_S,
    ).stdout.split()  # fmt: skip
    keys.add(f"revoked {node[3]} in a test")
    for buck in arena.cluster.live():
        buck.popen.send_signal(signal.SIGHUP)
    for buck in arena.cluster.live():
        wait_for(lambda buck=buck: "a link is cut: its key is not let in any more" in buck.log.read_text(), buck)
        assert buck.running()
    before = writer.data
    writer.write(LINES)
    wait_for(lambda: "can't be used" in tailer.log.read_text(), tailer)
    done = arena.cluster.porter("cat", os.uname().nodename, str(writer.path), check=False)
    assert len(done.stdout) == len(before)


def arrived(arena: Arena, path: Path) -> bool:
    done = arena.cluster.porter("cat", os.uname().nodename, str(path), check=False)
    return done.returncode in (0, 3) and len(done.stdout) == path.stat().st_size
