"""T76: a tailer loses its journal and keeps its key. What it reads again has the same identity: nobody sees it twice.

Among the lines are many without a time of their own (they get another one when they are read again) and many that are
truly equal (they are no repeats). Counted in the bucks, and by DuckDB in the archive.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cluster import Cluster
from tests.scenarios.arena import Arena
from tests.scenarios.writing import SAME, Writer

pytestmark = pytest.mark.slow

LINES = 6000


@pytest.fixture
def arena(cluster: Cluster) -> Arena:
    return Arena(cluster)


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[Arena]:
    """One buck of three runs; the others were never started."""
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.start(0)
        yield Arena(cluster)
    finally:
        cluster.close()


def lose_journal(arena: Arena) -> None:
    shutil.rmtree(arena.cluster.root / "tailer")
    assert (arena.cluster.root / "tailer.key").exists()


def check_everywhere(arena: Arena, writer: Writer) -> None:
    """In the bucks, in the archive, in both together; and by the commands."""
    assert writer.same > 100
    assert sum(not line.startswith(b"20") and SAME not in line for line in writer.lines) > 1000
    arena.check(writer)
    arena.check_grep()
    arena.cluster.porter("archive", "--older", "0s", "--archive", str(arena.archive), check=False)
    arena.check_archive(writer)
    arena.check(writer, archive=str(arena.archive))


def test_T76_a_journal_lost_after_a_clean_end(arena: Arena) -> None:
    writer = arena.writer("clean")
    writer.write(LINES)
    arena.done(arena.feed(writer))
    lose_journal(arena)
    writer.write(LINES)
    arena.done(arena.feed(writer))
    check_everywhere(arena, writer)


@pytest.mark.parametrize(
    "fault", ["tailer.send.put:3", "tailer.send.answered:2", "tailer.journal.synced", "tailer.mend.receipt"]
)
def test_T76_a_journal_lost_in_a_crash(arena: Arena, fault: str) -> None:
    """What was on its way lies at one buck, at two, at all, or nowhere."""
    writer = arena.writer("crash")
    writer.write(LINES * 4)
    arena.died(arena.feed(writer, env={"BUCK_FAULT": fault}))
    lose_journal(arena)
    writer.write(LINES)
    arena.done(arena.feed(writer))
    check_everywhere(arena, writer)


def test_T76_a_journal_lost_while_a_tailer_follows(arena: Arena) -> None:
    writer = arena.writer("follow")
    follow = ["--from", "head", str(writer.path)]
    tailer = arena.cluster.tailer(*follow)
    for _ in writer.pieces(LINES, 100):
        time.sleep(0.05)
    tailer.kill()
    lose_journal(arena)
    tailer = arena.cluster.tailer(*follow)
    writer.write(LINES)
    arena.arrives(writer)
    assert tailer.stop() == 0, tailer.log_end()
    check_everywhere(arena, writer)


def test_T76_everything_is_read_again_by_who_cannot_ask(lonely: Arena) -> None:
    """The one buck that knows is down while the tailer starts without its journal: all is stored twice, shown once."""
    cluster, writer = lonely.cluster, lonely.writer("lonely")
    writer.write(LINES)
    lonely.done(lonely.feed(writer))
    cluster.start(1)
    cluster.start(2)
    time.sleep(1.5)  # until they have heard of each other
    lonely.buck(0).kill()
    lose_journal(lonely)
    writer.write(LINES)
    tailer = lonely.feed(writer, patience="3s")
    assert tailer.wait(60) in (0, 3), tailer.log_end()
    lonely.restart(0)
    stored = sum(path.stat().st_size for i in range(3) for path in (cluster.root / f"buck{i}").rglob("*.open"))
    assert stored > 0
    check_everywhere(lonely, writer)
