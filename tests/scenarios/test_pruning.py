"""Real bucks let go of what is archived: nothing is missed, and what a kill cut short is done by the next run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cluster import Cluster
from service.faults import NAMES
from tests.scenarios.arena import Arena
from tests.scenarios.checker import differences
from tests.scenarios.reading import HOST
from tests.scenarios.writing import Writer

pytestmark = pytest.mark.slow

LINES = 2000


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with Cluster(tmp_path_factory.mktemp("prune"), width="10s") as cluster:
        yield Arena(cluster, together=True)


def archived(arena: Arena, name: str) -> Writer:
    """A new file, in the bucks and in the archive."""
    writer = arena.writer(name, spread_s=3600)
    writer.write(LINES)
    arena.done(arena.feed(writer))
    arena.cluster.porter("archive", "--older", "0s", "--archive", str(arena.archive))
    return writer


def prune(arena: Arena, *more: str) -> subprocess.CompletedProcess[bytes]:
    return arena.cluster.porter("prune", "--older", "0s", "--archive", str(arena.archive), *more, check=False)


def packets(arena: Arena) -> list[Path]:
    """The bucket files that still hold any."""
    files = [path for i in range(3) for disk in arena.cluster.disk_folders(i) for path in disk.rglob("*.*.*")]
    return [path for path in files if path.suffix in (".open", ".closed", ".bad", ".left")]


def test_what_is_archived_goes_from_the_bucks_and_everything_comes_back_as_before(arena: Arena) -> None:
    writer = archived(arena, "plain")
    assert packets(arena)
    would = prune(arena, "--dry-run")
    assert (would.returncode, bool(packets(arena))) == (0, True), would
    done = prune(arena)
    assert done.returncode == 0, done
    assert packets(arena) == []
    arena.check(writer, archive=str(arena.archive))
    arena.check_archive(writer)
    copied = arena.cluster.porter("cat", "--archive", str(arena.archive), HOST, str(writer.path), check=False)
    assert copied.returncode == 0, copied.stderr
    assert differences(writer.lines, copied.stdout) == []
    without = arena.cluster.porter("cat", HOST, str(writer.path), check=False)
    assert (without.returncode, without.stdout) == (1, b""), without
    assert b"--archive" in without.stderr
    for more in (("--archive", str(arena.archive), "--deep"), ()):
        audit = arena.cluster.porter("audit", *more, check=False)
        assert (audit.returncode, audit.stdout.split()[-1]) == (0, b"complete"), audit
    again = prune(arena)
    assert (again.returncode, again.stdout) == (0, b"the bucks hold nothing that is old enough\n")


@pytest.mark.parametrize("name", sorted(name for name in NAMES if name.startswith("buck.pruning.")))
def test_D21_a_buck_killed_while_it_lets_go_loses_nothing(arena: Arena, name: str) -> None:
    arena.buck(0).kill()
    arena.restart(0, name)
    writer = archived(arena, name)
    assert prune(arena).returncode == 3
    arena.died(arena.buck(0))
    arena.restart(0)
    arena.check(writer, archive=str(arena.archive))
    done = prune(arena)
    assert done.returncode == 0, done
    assert packets(arena) == []
    arena.check(*arena.writers, archive=str(arena.archive))


@pytest.mark.parametrize("name", sorted(name for name in NAMES if name.startswith("porter.prune.")))
def test_C6_a_prune_run_killed_at_a_fault_point_is_done_again(arena: Arena, name: str) -> None:
    writer = archived(arena, name)
    arguments = ("prune", "--older", "0s", "--archive", str(arena.archive))
    arena.died(arena.porter(*arguments, env={"BUCK_FAULT": name}))
    arena.check(writer, archive=str(arena.archive))
    done = prune(arena)
    assert done.returncode == 0, done
    assert packets(arena) == []
    arena.check(*arena.writers, archive=str(arena.archive))
