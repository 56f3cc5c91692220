"""Processes that may have little: 64 open files. They wait, refuse, and say so; nothing is lost."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cluster import Cluster
from tests.scenarios.arena import Arena
from tests.scenarios.netted import Following, copies_of, is_complete, until

pytestmark = pytest.mark.slow

FEW = 64
FILES = 150
FEW_FILES = ["prlimit", f"--nofile={FEW}", "--"]  # the hard limit too: a buck raises its own as far as it may
FEW_NOW = ["prlimit", f"--nofile={FEW}:4096", "--"]


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    """Two bucks with few files, and one as usual."""
    cluster = Cluster(tmp_path / "limits")
    try:
        for i in range(3):
            cluster.start(i, prefix=FEW_FILES if i else ())
        yield Arena(cluster)
    finally:
        cluster.close()


def test_C32_with_64_open_files_all_goes_more_slowly_and_nothing_is_taken_for_deleted(arena: Arena) -> None:
    writers = [arena.writer("tailer") for _ in range(FILES)]
    for writer in writers:
        writer.write(20)
    tailer = Following(arena, "--open-files", "512", prefix=FEW_NOW)
    until(lambda: tailer.placed(*writers), tailer.says)
    host, _, port = arena.buck(1).address.rpartition(":")
    crowd = [socket.create_connection((host, int(port))) for _ in range(2 * FEW)]
    try:
        for writer in writers:
            writer.write(20)
        until(lambda: tailer.placed(*writers), tailer.says)
        assert "fewer peers than --connections are let in" in arena.buck(1).log.read_text()
    finally:
        for one in crowd:
            one.close()
    assert resource.prlimit(tailer.tailer.pid, resource.RLIMIT_NOFILE, (4096, 4096))[0] == FEW
    writers[0].write(20)
    tailer.goodbye()
    assert min(copies_of(arena.cluster)) == 3
    arena.check(*writers)
    assert {len(back.generations) for back in arena.back(writers).values()} == {1}, "one was taken for deleted"
    is_complete(arena.cluster)
