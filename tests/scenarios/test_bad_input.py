"""What a person may get wrong, given to the real commands: one line that says what and what to do, and an exit code.

Bytes that are not what they should be are in test_bad_bytes.py.
"""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.cluster import Cluster, Process
from protocol.connection import MAGIC, PREFACE_SIZE
from tests.scenarios.arena import Arena
from tests.scenarios.complaining import LISTEN, complaints, counted, logged, run
from tests.scenarios.reading import HOST

pytestmark = pytest.mark.slow

USAGE, NOT_DONE = 2, 1


@dataclass
class Place:
    """Two bucks that run, one that was stopped, a file, folders that can't be written, and names for the rows below."""

    cluster: Cluster
    root: Path

    def __getitem__(self, name: str) -> str:
        running, stopped = self.cluster.bucks[0], self.cluster.bucks[2]
        assert running is not None
        assert stopped is not None
        known = {"buck": running.address, "stopped": stopped.address, "http": running.http}
        known |= {f"disk{i}": str(self.cluster.disk_folders(i)[0]) for i in range(3)}
        return known.get(name, str(self.root / name))

    def cat(self, path: Path) -> bytes:
        """A file as it comes back, though one buck can't be asked."""
        return self.cluster.porter("cat", HOST, str(path), check=False).stdout

    def said(self, done: subprocess.CompletedProcess[str], code: int) -> str:
        """The one line it said, having ended with `code`."""
        said = complaints(done.stderr)
        assert (done.returncode, len(said)) == (code, 1), done.stderr
        return said[0]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("bad-input")
    (root / "file.log").write_bytes(b"".join(b"line %d\n" % n for n in range(1000)))
    for name, key in (("misspelt", 'patiense = "5s"'), ("unheard", 'colour = "red"')):
        (root / f"{name}.toml").write_text(key + "\n")
    (root / "locked").mkdir(mode=0o500)
    with Cluster(root / "cluster") as cluster:
        tailer = cluster.tailer("--once", str(root / "file.log"))
        assert tailer.wait(30) == 0, tailer.log_end()
        stopped = cluster.bucks[2]
        assert stopped is not None
        assert stopped.stop() == 0
        place = Place(cluster, root)
        yield place
        # whatever was tried: what was acknowledged is there
        assert place.cat(root / "file.log") == (root / "file.log").read_bytes()
        assert len(cluster.live()) == 2


BUCK = ("buck", "run", *LISTEN, "--key", "{new.key}")
TAILER = ("tailer", "run", "--once", "--patience", "2s", "--key", "{new.key}")
PORTER = ("porter", "audit", "--key", "{new.key}")
TO_BUCK = ("--to", "{buck}", "--journal", "{journal}", "{file.log}")

# what is wrong -> the command, how it ends, and the one line it says
REFUSED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "unknown key, buck": ((*BUCK, "--config", "{unheard.toml}"), USAGE, "{unheard.toml}: colour: unknown; see --help"),
    "unknown key, tailer": (
        (*TAILER, "--config", "{misspelt.toml}"),
        USAGE,
        "{misspelt.toml}: patiense: unknown; did you mean patience?",
    ),
    "unknown key, porter": (
        (*PORTER, "--config", "{misspelt.toml}"),
        USAGE,
        "{misspelt.toml}: patiense: unknown; did you mean patience?",
    ),
    "no config file": ((*PORTER, "--config", "{none.toml}"), USAGE, "{none.toml}: can't be read: No such file"),
    "bad address, buck": ((*BUCK, "--listen", "nowhere"), USAGE, "--listen: 'nowhere' is no HOST:PORT"),
    "bad address, tailer": ((*TAILER, "--to", "host:99999"), USAGE, "--to.0: 'host:99999' is no HOST:PORT"),
    "bad address, porter": ((*PORTER, "--peer", ":x"), USAGE, "--peer.0: ':x' is no HOST:PORT"),
    "address of another host": (
        (*BUCK, "--disk", "{new}", "--listen", "192.0.2.1:0", "--insecure"),
        USAGE,
        "192.0.2.1:0 is no address of this host: choose one of its own",
    ),
    "clear text to another host": (
        (*TAILER, "--to", "192.0.2.1:1", "{file.log}"),
        USAGE,
        "192.0.2.1:1 is another host, and links are not encrypted: say --insecure if that is fine",
    ),
    "port in use": (
        (*BUCK, "--disk", "{new}", "--listen", "{buck}"),
        USAGE,
        "{buck} is in use: stop what listens there (ss -ltnp shows it) or choose another port",
    ),
    "port in use, http": ((*BUCK, "--disk", "{new}", "--http", "{http}"), USAGE, "{http} is in use: stop what listens"),
    "folder not writable, buck": (
        (*BUCK, "--disk", "{locked}"),
        USAGE,
        "{locked}: the disk can't be used: Permission denied",
    ),
    "folder not writable, key": (
        ("buck", "run", *LISTEN, "--disk", "{locked/disk}"),
        USAGE,
        "{locked/disk}.key: the key file can't be written: Permission denied",
    ),
    "folder not writable, tailer": (
        (*TAILER, *TO_BUCK, "--journal", "{locked}"),
        USAGE,
        "{locked}: the journal can't be made: Permission denied",
    ),
    "folder not writable, porter": (
        ("porter", "archive", "--older", "0s", "--peer", "{buck}", "--archive", "{locked}", "--key", "{new.key}"),
        NOT_DONE,
        "Permission denied; is the archive's folder writable",
    ),
    "disk in use": ((*BUCK, "--disk", "{disk0}"), USAGE, "{disk0}/lock: in use by another process (pid "),
    "another node's disk": (
        (*BUCK, "--disk", "{disk2}"),
        USAGE,
        "give the right --disk, --key or --width",
    ),
    "disk of another width": (
        ("buck", "run", *LISTEN, "--disk", "{disk2}", "--width", "60s"),
        USAGE,
        "{disk2} has windows of 300 s, and --width says 60 s: give the right",
    ),
    "another env, buck": (
        (*BUCK, "--disk", "{new}", "--join", "{buck}", "--env", "test"),
        USAGE,
        "--join {buck}: the peer refuses: env 'test' is not 'prod'; a cluster has one env",
    ),
    "another env, tailer": (
        (*TAILER, *TO_BUCK, "--env", "test"),
        USAGE,
        "the bucks can't be used: the peer refuses: env 'test' is not 'prod'",
    ),
    "another env, porter": (
        (*PORTER, "--peer", "{buck}", "--env", "test"),
        USAGE,
        "{buck}: the peer refuses: env 'test' is not 'prod'",
    ),
    "another width, buck": (
        (*BUCK, "--disk", "{wide}", "--join", "{buck}", "--width", "60s"),
        USAGE,
        "--join {buck}: the peer refuses: buckets of 60 s are not 300 s; a cluster has one env, one width",
    ),
    "no live buck, porter": ((*PORTER, "--peer", "{stopped}"), NOT_DONE, "(name others with --peer HOST:PORT)"),
}


def filled(text: str, place: Place) -> str:
    return re.sub(r"\{(.*?)\}", lambda match: place[match[1]], text)


@pytest.mark.parametrize("row", REFUSED)
def test_bad_input_is_refused_in_one_line(place: Place, row: str) -> None:
    command, code, text = REFUSED[row]
    done = run(*(filled(word, place) for word in command))
    assert filled(text, place) in place.said(done, code)


@pytest.mark.parametrize("reason", ["env", "width"])
def test_a_buck_counts_whom_it_refused(place: Place, reason: str) -> None:
    row = f"another {reason}, buck"
    before = counted(place.cluster.live()[0], f'links_refused_total{{reason="{reason}"}}')
    run(*(filled(word, place) for word in REFUSED[row][0]))
    assert counted(place.cluster.live()[0], f'links_refused_total{{reason="{reason}"}}') == before + 1


def test_a_peer_of_another_wire_version_is_refused_and_counted(place: Place) -> None:
    buck = place.cluster.live()[0]
    host, _, port = buck.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as link:
        link.sendall(MAGIC + bytes([9, 0]))
        received = b"".join(iter(lambda: link.recv(4096), b""))
    assert len(received) <= PREFACE_SIZE  # nothing is said in a language that the peer may not know
    assert counted(buck, 'links_refused_total{reason="version"}') == 1
    why = "a peer is refused buck.node version the peer speaks wire version 9, this is 1"
    assert sum(why in line for line in logged(buck, "warning")) == 1


def test_an_unreadable_file_is_named_and_the_others_are_sent(place: Place) -> None:
    folder = place.root / "some"
    folder.mkdir()
    secret, open_one = folder / "secret.log", folder / "open.log"
    secret.write_bytes(b"nobody may read this\n")
    open_one.write_bytes(b"everybody may\n")
    secret.chmod(0)
    command = ["tailer", "run", "--once", "--patience", "2s", "--to", place["buck"], "--journal", place["unread"]]
    done = run(*command, "--level", "A1", str(folder / "*"))
    assert done.returncode == NOT_DONE
    assert complaints(done.stderr, "error") == [f"files could not be read 1 {secret} tailer.agent"]
    assert f"a file can't be read; it is tried again tailer.files {secret} Permission denied" in complaints(
        done.stderr, "warning"
    )
    assert place.cat(open_one) == open_one.read_bytes()


def test_no_live_buck_is_said_and_what_is_undelivered_waits(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", 1) as cluster:
        arena = Arena(cluster)
        writer = arena.writer("lonely")
        writer.write(500)
        arena.done(arena.feed(writer, level="A1"))
        to, buck = cluster.addresses()[0], arena.buck(0)
        buck.kill()
        writer.write(500)
        tailer = given_up(cluster, writer.path, to)
        assert tailer.wait(30) == NOT_DONE
        [said] = logged(tailer, "error")
        assert re.search(r"not everything is done .* \d+ packets are on too few bucks; they wait in ", said)
        arena.restart(0)
        arena.done(arena.feed(writer, level="A1"))
        arena.check(writer)


def given_up(cluster: Cluster, path: Path, to: str) -> Process:
    """A tailer of the same journal that is sent to a buck that doesn't run."""
    (cluster.logs / "tailer.log").unlink()
    return cluster.tailer("--once", "--patience", "2s", "--to", to, str(path))
