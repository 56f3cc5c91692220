"""Whole clusters under every fault, from seeds: in a process of its own, where nothing but the seed decides."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.seeds import plan

ROOT = Path(__file__).parents[2]
SEEDS = 150
LIMIT_S = 900


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 60)
def test_every_seed_is_as_promised() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seeds", f"0:{SEEDS}"]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert f"{SEEDS} seeds, 0 failed" in done.stdout


def test_every_fourth_cluster_has_keys() -> None:
    assert [plan(seed).shape.secure for seed in range(8)] == [False, True, False, False] * 2


def test_a_schedule_has_faults_of_several_kinds_and_a_seed_several_windows() -> None:
    for seed in range(500):
        mine = plan(seed)
        assert mine == plan(seed)
        assert len(mine.faults) >= 5
        assert len({fault.kind for fault in mine.faults}) >= 3
        assert mine.duration >= 3 * mine.shape.width
        assert mine.lines >= 2_000
        assert 3 <= mine.shape.bucks <= 7
        assert 2 <= mine.shape.tailers <= 6
