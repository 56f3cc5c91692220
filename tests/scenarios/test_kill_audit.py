"""SIGKILL of any one process while files are written, then a restart: the audit says complete, wherever it looks.

From the bucks; and from the archive alone when the bucks are gone, where nobody can be asked any more whether the
killed tailer has read its files again, or what a killed buck had.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cluster import Cluster, Process
from tests.scenarios.arena import PATIENCE_S, Arena

pytestmark = pytest.mark.slow

LINES = 4000
AT_ONCE = 200


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    with Cluster(tmp_path / "kill-audit", width="10s") as cluster:
        yield Arena(cluster)


def follow(arena: Arena, *more: str) -> Process:
    return arena.cluster.tailer("--from", "head", *more, str(arena.folder / "*.log"))


def audited(arena: Arena, *where: str) -> tuple[int, str]:
    """The exit code and the last word."""
    done = arena.cluster.porter("audit", *where, check=False)
    print(done.stdout.decode())
    return done.returncode, done.stdout.decode().splitlines()[-1]


@pytest.mark.parametrize("victim", ["tailer", "buck"])
def test_whichever_process_is_killed_the_audit_is_complete(arena: Arena, victim: str) -> None:
    before, writer = arena.writer("before"), arena.writer(victim)
    tailer = follow(arena)
    before.write(LINES)
    arena.arrives(before)  # so that there is something to be killed in the middle of
    for number, _ in enumerate(writer.pieces(LINES, AT_ONCE)):
        time.sleep(0.2)
        if number == 6:
            (tailer if victim == "tailer" else arena.buck(1)).kill()
        if number == 9:
            if victim == "tailer":
                tailer = follow(arena)
            else:
                arena.restart(1)
    arena.arrives(writer)
    assert tailer.stop(PATIENCE_S) == 0, tailer.log_end()
    assert audited(arena) == (0, "complete")
    leaving = follow(arena, "--goodbye")  # a tailer that has only stopped is still expected: the hour isn't over
    assert leaving.wait(PATIENCE_S) == 0, leaving.log_end()
    arena.cluster.porter("archive", "--older", "0s", "--archive", str(arena.archive))
    for i in range(3):
        arena.buck(i).kill()
        for folder in arena.cluster.disk_folders(i):
            shutil.rmtree(folder)
    assert audited(arena, "--archive", str(arena.archive)) == (0, "complete")
    arena.check_archive(before, writer)
