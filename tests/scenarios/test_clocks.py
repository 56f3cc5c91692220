"""C20: processes whose wall clocks are wrong, or jump while they work. Everything is there, once, at its own time.

libfaketime gives a process another clock: the true one and an offset, which may be read from a file at any time. The
monotonic clock stays as it is, as it does when somebody sets a host's clock. Two bucks of four are right, and no
hour is archived, nor any window sealed, before it is over by the clock of most.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.cluster import Cluster
from porter.catalog import HOUR_S, parse
from tests.scenarios.arena import Arena
from tests.scenarios.netted import Following, copies_of, is_complete, until

pytestmark = pytest.mark.slow

LINES = 600
JUMPS = ["+3d", "-1h", "-3d", "+1h", "+0"]


def clock(offset: str | Path) -> dict[str, str]:
    """The environment of a process whose clock is off by so much, or by what a file says."""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        pytest.skip("libfaketime is absent (Debian: faketime)")
    where = {"FAKETIME_TIMESTAMP_FILE": str(offset)} if isinstance(offset, Path) else {"FAKETIME": offset}
    options = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
    return {"LD_PRELOAD": str(libraries[0]), "FAKETIME_NO_CACHE": "1", **options, **where}


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    cluster = Cluster(tmp_path / "clocks", 4, width="10s")
    try:
        cluster.start(0)
        with ThreadPoolExecutor() as pool:
            list(pool.map(cluster.start, (1, 2, 3), map(clock, ("+3d", "-1h", "+0"))))
        yield Arena(cluster)
    finally:
        cluster.close()


def test_C20_with_clocks_that_are_wrong_or_jump_everything_is_there_once(arena: Arena, tmp_path: Path) -> None:
    jumping = tmp_path / "offset"
    jumping.write_text("+0\n")
    right = Following(arena, name="right")
    wrong = Following(arena, name="wrong", env=clock(jumping), files=arena.folder / "*-wrong.log")
    ours, theirs = arena.writer("tailer", spread_s=60), arena.writer("wrong", spread_s=60)
    for offset in JUMPS:
        jumping.write_text(offset + "\n")
        ours.write(LINES)
        theirs.write(LINES)
        time.sleep(0.7)  # long enough for packets to leave
    until(lambda: right.placed(ours) and wrong.placed(theirs), lambda: (right.says(), wrong.says()))
    with ThreadPoolExecutor() as pool:
        list(pool.map(Following.goodbye, (right, wrong)))
    assert min(copies_of(arena.cluster)) >= 3
    nothing_ends_early(arena)
    assert arena.buck(1).stop() == 0
    arena.cluster.start(1, clock("-3d"))  # and now it finds files of six days ahead
    arena.check(ours, theirs)
    is_complete(arena.cluster)
    arena.cluster.porter("archive", "--older", "0s", "--archive", str(arena.archive))
    arena.check_archive(ours, theirs)


def nothing_ends_early(arena: Arena) -> None:
    """By the fastest clock all hours were over days ago, and all windows."""
    early = arena.folder.parent / "early"
    arena.cluster.porter("archive", "--older", "1s", "--archive", str(early))
    audit = json.loads(arena.cluster.porter("audit", "--json", check=False).stdout)
    now = time.time()
    hours = [name.hour for path in early.rglob("*.*") if (name := parse(str(path.relative_to(early))))]
    assert [hour for hour in hours if hour + HOUR_S > now] == []
    assert [one["seal"]["until"] for one in audit["tailers"] if one["seal"]["until"] > now] == []
