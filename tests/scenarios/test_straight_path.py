"""The main job on real input: every sample log goes in at a tailer and comes out of bucks and archive byte for byte."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.cluster import Cluster
from tests.scenarios.checker import parquet_lines, parquet_unfinished
from tests.scenarios.reading import HOST, read_back

pytestmark = pytest.mark.slow


@dataclass
class Fed:
    """What is fed, and where it goes."""

    cluster: Cluster
    logs: list[Path]
    archive: Path

    def wrong(self, peers: list[str], archive: str = "", each: int = 1) -> dict[str, object]:
        """The files (each, or each nth) that don't come back equal, or not without a complaint."""
        back = read_back(self.logs[::each], root=self.cluster.root, peers=peers, archive=archive)
        return {
            path: one.complaints or f"{len(one.data)} bytes"
            for path, one in back.items()
            if one.complaints or one.data != Path(path).read_bytes()
        }

    def sample(self) -> list[Path]:
        """A few that are asked for with the real command: the largest, the smallest, an empty one if there is any."""
        by_size = sorted(self.logs, key=lambda path: path.stat().st_size)
        return [by_size[0], by_size[len(by_size) // 2], by_size[-1]]


@pytest.fixture(scope="module")
def fed(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fed]:
    """Three bucks, and a tailer that has read everything and ended with 0."""
    root = tmp_path_factory.mktemp("straight")
    logs = sorted(path for path in (shared_data / "logs").rglob("*") if path.is_file())
    with Cluster(root, width="3600s") as cluster:  # wide windows: each `cat` asks for each of the last day's
        tailer = cluster.tailer("--once", str(shared_data / "logs/**/*"))
        assert tailer.wait(120) == 0, tailer.log_end()
        yield Fed(cluster, logs, root / "archive")


@pytest.fixture(scope="module")
def archived(fed: Fed) -> subprocess.CompletedProcess[bytes]:
    """The archive's first run."""
    return fed.cluster.porter("archive", "--older", "0s", "--archive", str(fed.archive))


@pytest.fixture(scope="module")
def alone(fed: Fed, archived: subprocess.CompletedProcess[bytes]) -> Fed:
    """The archive without bucks: they are killed, and their disks are gone."""
    for i, buck in enumerate(fed.cluster.bucks):
        assert buck is not None
        buck.kill()
        for disk in fed.cluster.disk_folders(i):
            shutil.rmtree(disk)
    return fed


def test_every_file_comes_back_from_the_bucks(fed: Fed) -> None:
    assert len(fed.logs) > 200
    assert fed.wrong(fed.cluster.addresses()) == {}


def test_the_command_gives_the_same_bytes(fed: Fed) -> None:
    for path in fed.sample():
        assert fed.cluster.porter("cat", HOST, str(path)).stdout == path.read_bytes(), path


def test_the_audit_says_complete(fed: Fed) -> None:
    done = fed.cluster.porter("audit", check=False)
    assert (done.returncode, done.stdout.decode().split()[-1]) == (0, "complete")


def test_the_audit_that_reads_every_copy_says_complete(fed: Fed) -> None:
    done = fed.cluster.porter("audit", "--deep", check=False)
    assert (done.returncode, done.stdout.decode().split()[-1]) == (0, "complete")


def test_a_second_archive_run_finds_nothing_to_do(fed: Fed, archived: subprocess.CompletedProcess[bytes]) -> None:
    before = {path: path.stat().st_mtime_ns for path in fed.archive.rglob("*")}
    assert list(fed.archive.rglob("*.parquet"))
    fed.cluster.porter("archive", "--older", "0s", "--archive", str(fed.archive))
    assert {path: path.stat().st_mtime_ns for path in fed.archive.rglob("*")} == before


def test_the_archive_has_each_line_once(fed: Fed, archived: subprocess.CompletedProcess[bytes]) -> None:
    """Counted by DuckDB. A file's last line may have no end: it is counted by neither side."""
    counts = parquet_lines(fed.archive)
    assert {str(path): path.read_bytes().count(b"\n") for path in fed.logs} == {
        str(path): counts.get(str(path), 0) for path in fed.logs
    }


def test_no_line_is_cut_but_a_files_last(fed: Fed, archived: subprocess.CompletedProcess[bytes]) -> None:
    """Whoever greps would miss what is cut in two."""
    unended = {str(path): 1 for path in fed.logs if path.stat().st_size and not path.read_bytes().endswith(b"\n")}
    assert parquet_unfinished(fed.archive) == unended


def test_bucks_and_archive_are_read_as_one(fed: Fed, archived: subprocess.CompletedProcess[bytes]) -> None:
    assert fed.wrong(fed.cluster.addresses(), str(fed.archive), each=7) == {}


def test_every_file_comes_back_from_the_archive_alone(alone: Fed) -> None:
    assert alone.wrong([], str(alone.archive)) == {}


def test_the_command_gives_the_same_bytes_from_the_archive_alone(alone: Fed) -> None:
    for path in alone.sample():
        done = alone.cluster.porter("cat", HOST, str(path), "--archive", str(alone.archive))
        assert done.stdout == path.read_bytes(), path


def test_the_audit_of_the_archive_alone_says_complete(alone: Fed) -> None:
    done = alone.cluster.porter("audit", "--archive", str(alone.archive), check=False)
    assert (done.returncode, done.stdout.decode().split()[-1]) == (0, "complete")
