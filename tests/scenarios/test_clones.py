"""One tailer twice: a machine that was cloned with its key, its journal and its files, and one restored from a backup.

The clone runs in a mount namespace of its own, with a copy of the file system that holds its journal, its key and its
log where the original has them: inodes and birth times are the same too, so its streams have the same names and, from
the moment of the copy on, other bytes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.cluster import Cluster, Process
from tests.scenarios.arena import PATIENCE_S, Arena
from tests.scenarios.netted import Following, is_complete, until
from tests.scenarios.reading import HOST
from tests.scenarios.test_bad_bytes import counted
from tests.scenarios.test_power import mount

pytestmark = pytest.mark.slow

LINES = 1000
HERE = "a" * 32  # the machine's id


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    with Cluster(tmp_path / "clones", width="10s") as cluster:
        yield Arena(cluster)


@dataclass
class Machines:
    """Images of machines, all with the same things at the same place, each seen by its own processes only."""

    arena: Arena
    root: Path

    @property
    def place(self) -> Path:
        return self.arena.cluster.root / "machine"

    @property
    def log(self) -> Path:
        return self.place / "app.log"

    def make(self) -> None:
        self.place.mkdir()
        with (self.root / "original").open("wb") as file:
            file.truncate(96 << 20)
        subprocess.run(["mkfs.ext4", "-q", self.root / "original"], check=True)

    def clone(self) -> None:
        shutil.copyfile(self.root / "original", self.root / "clone")

    def run(self, image: str, machine_id: str) -> Process:
        """A tailer on that machine."""
        prefix, words = self._settings(image, machine_id)
        return self.arena.cluster.tailer(*words, str(self.log), name=image, prefix=prefix)

    def start(self, image: str, machine_id: str) -> Following:
        """One that follows the log there."""
        prefix, words = self._settings(image, machine_id)
        return Following(self.arena, *words, name=image, files=self.log, prefix=prefix)

    def _settings(self, image: str, machine_id: str) -> tuple[list[str], list[str]]:
        written = self.root / f"{image}-id"
        written.write_text(machine_id + "\n")
        alone = "awk '$1 ~ /loop/ {print $2}' /proc/mounts | xargs -r umount -l"  # it must not keep others' disks alive
        script = alone + '; mount -o loop "$0" "$1" && mount --bind "$2" /etc/machine-id && shift 2 && exec "$@"'
        prefix = ["unshare", "--mount", "sh", "-c", script, str(self.root / image), str(self.place), str(written)]
        return prefix, ["--journal", str(self.place / "journal")]

    def write(self, tailer: Following, text: bytes, count: int) -> list[bytes]:
        """Lines into the log that this tailer sees; then they are read and stored."""
        lines = [b"%s %d\n" % (text, n) for n in range(count)]
        before = tailer.lines()
        command = ["nsenter", "-t", str(tailer.tailer.pid), "--mount", "tee", "-a", str(self.log)]
        subprocess.run(command, input=b"".join(lines), stdout=subprocess.DEVNULL, check=True)
        until(lambda: tailer.lines() == before + count and not tailer.packets("A0"), tailer.says)
        return lines


@pytest.fixture
def machines(arena: Arena, tmp_path: Path) -> Machines:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    found = Machines(arena, tmp_path)
    found.make()
    if not mount(tmp_path / "original", found.place):
        pytest.skip("a small file system can't be mounted here")
    subprocess.run(["umount", found.place], check=True)
    return found


def stop(*tailers: Following) -> None:
    for one in tailers:
        assert one.tailer.stop() == 0, one.tailer.log_end()


def alarms(arena: Arena, name: str) -> float:
    return sum(counted(arena.buck(i), name) for i in range(3))


def test_C34_a_cloned_tailer_is_noticed_and_nothing_is_merged_in_silence(machines: Machines) -> None:
    """Not even the machine's id was changed: both speak with one key, of one stream, at the same time."""
    arena, path = machines.arena, str(machines.log)
    original = machines.start("original", HERE)
    common = machines.write(original, b"before the copy", LINES)
    stop(original)
    machines.clone()
    original, clone = machines.start("original", HERE), machines.start("clone", HERE)
    assert original.says()["node"] == clone.says()["node"]
    both = machines.write(original, b"of the original", LINES) + machines.write(clone, b"of the clone", LINES)
    stop(original, clone)
    assert alarms(arena, "seal_forks_total") > 0
    done = arena.cluster.porter("audit", check=False)
    assert (done.returncode, done.stdout.decode().split()[-1]) == (1, "conflicting"), done.stdout.decode()
    done = arena.cluster.porter("cat", HOST, path, check=False)
    assert done.returncode != 0, "two sides of one file are not a file"
    assert Counter(done.stdout.splitlines(keepends=True)) == Counter(common + both), done.stderr.decode()


def test_C34_a_clone_on_another_machine_makes_a_key_of_its_own_and_leaves_the_journal(machines: Machines) -> None:
    original = machines.start("original", HERE)
    machines.write(original, b"before the copy", LINES)
    stop(original)
    machines.clone()
    clone = machines.run("clone", "b" * 32)
    assert clone.wait(PATIENCE_S) == 2
    assert '"moved": true' in clone.log_end(2)
    assert "the journal belongs to node" in clone.log_end(1)


def test_C35_a_tailer_restored_from_a_backup_goes_on_without_a_collision(arena: Arena) -> None:
    """Journal, key and boot counter are those of an old copy; what was read since is read again, and known."""
    root, writer = arena.cluster.root, arena.writer("tailer")

    def run(*, goodbye: bool = False) -> None:
        tailer = Following(arena)
        writer.write(LINES)
        arena.arrives(writer)
        if goodbye:
            tailer.goodbye()
        else:
            stop(tailer)

    run()
    shutil.copytree(root / "tailer", root / "old")
    shutil.copy(root / "tailer.key", root / "old.key")
    run()
    shutil.rmtree(root / "tailer")
    (root / "old").rename(root / "tailer")
    (root / "old.key").rename(root / "tailer.key")
    run(goodbye=True)
    arena.check(writer)
    assert alarms(arena, "seal_forks_total") == alarms(arena, "conflicts_total") == 0
    is_complete(arena.cluster)
