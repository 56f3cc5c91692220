"""Bad input of every kind, by the real commands: one line that says what is wrong and what to do, and the right code.

Nothing of it may harm what is there: the cluster that these tests share keeps a file, and `intact` reads it back.
Root is above permissions, so the commands that must not be run without its power over files (`UNPRIVILEGED`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cluster import Cluster
from tests.scenarios.arena import Arena
from tests.scenarios.reading import HOST

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
UNPRIVILEGED = (
    ["setpriv", "--inh-caps=-dac_override,-dac_read_search", "--bounding-set=-dac_override,-dac_read_search"]
    if os.geteuid() == 0
    else []
)
NOBODY_S = "127.0.0.1:1"  # a port at which nobody listens

as_an_ordinary_user = pytest.mark.skipif(
    bool(UNPRIVILEGED) and not shutil.which("setpriv"), reason="root without setpriv: permissions don't hold"
)


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Three bucks with one file in them."""
    with Cluster(tmp_path_factory.mktemp("bad")) as cluster:
        arena = Arena(cluster)
        writer = arena.writer("kept")
        writer.write(2000)
        arena.done(arena.feed(writer))
        yield arena


@pytest.fixture
def intact(arena: Arena) -> Iterator[Arena]:
    """Whatever the test does: all bucks are up afterwards, and the file is there."""
    yield arena
    assert all(buck is not None and buck.running() for buck in arena.cluster.bucks)
    arena.check(arena.writers[0])


def run(*words: object, prefix: list[str] | None = None, timeout_s: float = 30) -> tuple[int, str]:
    """A command, to its end: its code, and what it said on stderr that is no log line."""
    done = subprocess.run(
        [*(prefix or []), sys.executable, "-m", *map(str, words)],
        capture_output=True,
        cwd=ROOT,
        timeout=timeout_s,
        check=False,
    )
    return done.returncode, done.stderr.decode()


def plain(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith('{"time"')]


def one_line(text: str, *words: str) -> None:
    """Exactly one line for a person, with these words in it, and no traceback."""
    lines = plain(text)
    assert len(lines) == 1, text
    for word in words:
        assert word in lines[0], text


def says(text: str, *words: str) -> None:
    """Somewhere in the log or beside it, in one line."""
    assert "Traceback" not in text
    assert any(all(word in line for word in words) for line in text.splitlines()), text


def buck(root: Path, *words: object) -> list[object]:
    return ["buck", "run", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--disk", root / "disk", *words]


# --- settings ---------------------------------------------------------------------------------------------------------

COMMANDS = {
    "buck": ["buck", "run"],
    "tailer": ["tailer", "run", "x.log"],
    "porter": ["porter", "status"],
}


@pytest.mark.parametrize("part", COMMANDS)
def test_an_unknown_key_in_the_file_is_named_and_what_was_meant(part: str, tmp_path: Path) -> None:
    config = tmp_path / f"{part}.toml"
    config.write_text('envv = "prod"\n')
    code, text = run(*COMMANDS[part], "--config", config)
    assert code == 2
    one_line(text, str(config), "envv", "did you mean env?")


@pytest.mark.parametrize("part", COMMANDS)
def test_a_file_that_is_no_toml_is_named(part: str, tmp_path: Path) -> None:
    config = tmp_path / f"{part}.toml"
    config.write_text("env = prod =\n")
    code, text = run(*COMMANDS[part], "--config", config)
    assert code == 2
    one_line(text, str(config), "not TOML")


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:port", ":7411:7412"])
@pytest.mark.parametrize(("part", "flag"), [("buck", "--listen"), ("tailer", "--to"), ("porter", "--peer")])
def test_a_bad_address_is_a_usage_error(part: str, flag: str, address: str) -> None:
    code, text = run(*COMMANDS[part], flag, address)
    assert code == 2
    one_line(text, flag, address)


def test_another_host_in_clear_text_needs_a_word(tmp_path: Path) -> None:
    code, text = run("porter", "status", "--peer", "192.0.2.1:7411", "--key", tmp_path / "key")
    assert code == 2
    one_line(text, "192.0.2.1:7411", "--insecure")


def test_a_tailer_without_a_pattern_or_a_buck_is_told_what_to_give(tmp_path: Path) -> None:
    journal = ["--journal", tmp_path / "journal"]
    code, text = run("tailer", "run", *journal, "--to", NOBODY_S)
    assert code == 2
    one_line(text, "no file pattern")
    code, text = run("tailer", "run", *journal, "x.log")
    assert code == 2
    one_line(text, "--to HOST:PORT")


# --- files and folders ------------------------------------------------------------------------------------------------


@as_an_ordinary_user
def test_T83_an_unreadable_file_is_named_and_the_others_are_sent(intact: Arena) -> None:
    secret, writer = intact.writer("secret"), intact.writer("beside")
    intact.writers.remove(secret)
    secret.write(10).chmod(0)
    writer.write(100)
    words = ["--once", "--patience", "3s", "--journal", intact.cluster.root / "ordinary"]
    to = [word for address in intact.cluster.addresses() for word in ("--to", address)]
    code, text = run("tailer", "run", *words, *to, secret.path, writer.path, prefix=UNPRIVILEGED)
    assert code == 1
    says(text, "could not be read", str(secret.path))
    intact.check(writer)
    secret.path.chmod(0o600)
    code, text = run("tailer", "run", *words, *to, secret.path, writer.path, prefix=UNPRIVILEGED)
    assert code == 0, text
    intact.check(secret, writer)


@as_an_ordinary_user
@pytest.mark.parametrize("part", COMMANDS)
def test_a_folder_that_is_not_writable_is_named(part: str, tmp_path: Path, arena: Arena) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    peer = arena.cluster.addresses()[0]
    commands: dict[str, list[object]] = {
        "buck": buck(folder),
        "tailer": ["tailer", "run", "--once", "--journal", folder / "journal", "--to", peer, arena.writers[0].path],
        "porter": ["porter", "archive", "--older", "0s", "--archive", folder, "--peer", peer, "--key", tmp_path / "k"],
    }
    code, text = run(*commands[part], prefix=UNPRIVILEGED)
    assert code in (1, 2)
    one_line(text, str(folder), "ermission denied")


def test_another_nodes_disk_is_refused(intact: Arena, tmp_path: Path) -> None:
    (disk,) = intact.cluster.disk_folders(0)
    stolen = tmp_path / "disk"
    shutil.copytree(disk, stolen)
    code, text = run(*buck(tmp_path))
    assert code == 2
    one_line(text, str(stolen), "is the disk of node", "--key")


def test_C34_a_disk_in_use_is_refused(intact: Arena) -> None:
    (disk,) = intact.cluster.disk_folders(0)
    words = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--disk", disk]
    code, text = run("buck", "run", *words)
    assert code == 2
    one_line(text, str(disk), "use")


def test_T77_a_journal_in_use_is_refused(intact: Arena) -> None:
    to = ["--to", intact.cluster.addresses()[0]]
    writer = intact.writer("followed")
    writer.write(10)
    tailer = intact.cluster.tailer("--from", "head", str(writer.path), name="used")
    intact.arrives(writer)
    code, text = run("tailer", "run", "--journal", intact.cluster.root / "used", *to, writer.path)
    assert tailer.stop() == 0
    assert code == 2
    one_line(text, "used", "use")


def test_a_port_in_use_is_named(intact: Arena, tmp_path: Path) -> None:
    taken = intact.cluster.addresses()[0]
    code, text = run("buck", "run", "--listen", taken, "--http", "127.0.0.1:0", "--disk", tmp_path / "disk")
    assert code == 2
    one_line(text, taken, "in use")


# --- peers ------------------------------------------------------------------------------------------------------------


def test_a_buck_of_another_env_or_width_does_not_join(intact: Arena, tmp_path: Path) -> None:
    join = ["--join", intact.cluster.addresses()[0]]
    code, text = run(*buck(tmp_path / "a", "--env", "staging", *join))
    assert code == 2
    one_line(text, "staging", "prod", "--env")
    code, text = run(*buck(tmp_path / "b", "--width", "60s", *join))
    assert code == 2
    one_line(text, "60", "300", "--width")


def test_a_tailer_of_another_env_delivers_nothing_and_says_why(intact: Arena, tmp_path: Path) -> None:
    to = ["--to", intact.cluster.addresses()[0], "--env", "staging"]
    words = ["--once", "--patience", "2s", "--journal", tmp_path / "journal"]
    code, text = run("tailer", "run", *words, *to, intact.writers[0].path)
    assert code in (1, 2)
    says(text, "env", "prod")


def test_a_porter_of_another_env_is_told_so(intact: Arena, tmp_path: Path) -> None:
    words = ["--peer", intact.cluster.addresses()[0], "--env", "staging", "--key", tmp_path / "key"]
    code, text = run("porter", "status", *words)
    assert code == 2
    one_line(text, "prod", "staging", "--env")


def test_no_live_buck(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("a line\n")
    words = ["--once", "--patience", "1s", "--journal", tmp_path / "journal", "--to", NOBODY_S]
    code, text = run("tailer", "run", *words, log)
    assert code == 1
    says(text, "no buck answered", NOBODY_S, "start one")
    code, text = run("porter", "cat", "--peer", NOBODY_S, "--key", tmp_path / "key", HOST, log)
    assert code == 1
    one_line(text, NOBODY_S)


def test_bucks_that_die_are_waited_for_and_nothing_is_lost(arena: Arena) -> None:
    """All of them, while a tailer runs: it says so, ends with 1, and the next one goes on."""
    writer = arena.writer("waiting")
    writer.write(2000)
    peers = [word for address in arena.cluster.addresses() for word in ("--to", address)]
    for i in range(3):
        arena.buck(i).kill()
    words = ["tailer", "run", "--once", "--patience", "1s", "--journal", arena.cluster.root / "tailer", *peers]
    code, text = run(*words, writer.path)
    assert code == 1
    says(text, "not everything is done")
    for i in range(3):
        arena.restart(i)
    arena.done(arena.feed(writer))
    arena.check(*arena.writers)


# --- names that are not there -----------------------------------------------------------------------------------------


def test_what_is_asked_for_and_not_there_is_said_with_what_is_near(intact: Arena) -> None:
    path = str(intact.writers[0].path)
    done = intact.cluster.porter("cat", HOST, path.replace("kept", "ketp"), check=False)
    assert done.returncode == 1
    one_line(done.stderr.decode(), "near it are", path)
    done = intact.cluster.porter("cat", "nohost", path, check=False)
    assert done.returncode == 1
    one_line(done.stderr.decode(), "no host nohost", HOST)


def test_a_bad_query_is_a_usage_error(intact: Arena) -> None:
    done = intact.cluster.porter("grep", "/(/", check=False)
    assert done.returncode == 2
    one_line(done.stderr.decode(), "(")
