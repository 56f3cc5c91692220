"""Real bucks come and go: one is added, one leaves for good, and all are restarted in turn while lines are written."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from bench.cluster import Cluster, Process
from tests.scenarios.arena import FOLLOWED, PATIENCE_S, Arena

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def status(cluster: Cluster, i: int) -> dict[str, Any]:
    buck = cluster.bucks[i]
    assert buck is not None
    with urllib.request.urlopen(f"http://{buck.http}/status", timeout=PATIENCE_S) as page:
        found: dict[str, Any] = json.load(page)
        return found


def until_met(cluster: Cluster, i: int, peers: int) -> None:
    """All others are known to it, and were called back."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        known = status(cluster, i)["peers"]
        if sum(one["confirmed"] for one in known) == peers:
            return
        assert time.monotonic() < deadline, known
        time.sleep(0.05)


def drain(cluster: Cluster, i: int, *flags: str) -> subprocess.CompletedProcess[str]:
    disks = [word for disk in cluster.disk_folders(i) for word in ("--disk", str(disk))]
    command = [sys.executable, "-m", "buck", "drain", *disks, "--http", cluster.fixed[i][1], *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def below(cluster: Cluster) -> list[int]:
    """How many packets of each tailer are on too few bucks."""
    done = cluster.porter("status", "--json", check=False)
    return list(json.loads(done.stdout)["below"].values())


def test_C29_a_buck_is_added_and_another_leaves_and_nothing_is_missed(tmp_path: Path) -> None:
    with Cluster(tmp_path, width="10s") as cluster:
        arena = Arena(cluster)
        writer = arena.writer("before")
        writer.write(4000)
        arena.done(arena.feed(writer))
        cluster.bucks.append(None)
        cluster.start(3)
        for i in range(4):
            until_met(cluster, i, 3)
        done = drain(cluster, 0)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1].startswith("drained")
        assert status(cluster, 0)["leaving"] == {
            "draining": True, "done": True, "packets": 0, "buckets": 0, "trouble": ""
        }  # fmt: skip
        assert arena.buck(0).stop() == 0
        arena.check(writer)
        assert not any(below(cluster))


def arena_stop(cluster: Cluster, i: int) -> int:
    buck = cluster.bucks[i]
    assert buck is not None
    return buck.stop()


def test_C30_everything_is_restarted_in_turn_while_lines_are_written(tmp_path: Path) -> None:
    with Cluster(tmp_path, width="10s") as cluster:
        arena = Arena(cluster, together=True)

        def follow() -> Process:
            files = str(arena.folder / FOLLOWED)
            return cluster.tailer("--from", "head", files, name="following")

        tailer = follow()
        writer = arena.writer("tailer")  # as in FOLLOWED
        turns = 0
        for written, _ in enumerate(writer.pieces(4000, 200)):
            time.sleep(0.02)
            if written % 5 == 4 and turns < 3:
                assert arena_stop(cluster, turns) == 0
                cluster.start(turns)
                turns += 1
            elif written == 17:
                assert tailer.stop() == 0
                tailer = follow()
        assert turns == 3
        arena.arrives(writer)
        assert tailer.stop() == 0
