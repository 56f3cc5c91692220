"""Rotation by the real logrotate, while a writer writes and a tailer follows: every byte of every generation, once.

The writer holds still while logrotate runs: what a writer adds between copying and truncating is lost by copytruncate
itself. The tailer doesn't: it may have read all, some or nothing of what is moved away under its hands.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from bench.cluster import Cluster
from tests.scenarios.arena import PATIENCE_S
from tests.scenarios.checker import ID
from tests.scenarios.reading import Back, read_back
from tests.scenarios.writing import Writer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("logrotate"), reason="logrotate is not installed"),
]

ROTATIONS = 8
KEPT = 20
LINES = 1500


class Rotated:
    """A log, its rotator, and what of it can be read back under any of its names."""

    def __init__(self, root: Path, how: str) -> None:
        self.folder = root / "log"
        self.folder.mkdir(mode=0o755)
        self.log = self.folder / "app.log"
        self.log.touch()
        self.rules, self.state = root / "rules", root / "state"
        self.rules.write_text(f"{self.log} {{\n rotate {KEPT}\n {how}\n nocompress\n}}\n")
        self.rules.chmod(0o644)

    def rotate(self) -> None:
        subprocess.run(
            [shutil.which("logrotate") or "", "-f", "-s", str(self.state), str(self.rules)], check=True, timeout=20
        )

    def names(self) -> list[Path]:
        return [*(self.folder / f"app.log.{n}" for n in range(KEPT, 0, -1)), self.log]

    def on_disk(self) -> Counter[bytes]:
        return Counter(line for path in self.names() if path.exists() for line in _lines(path.read_bytes()))

    def back(self, cluster: Cluster) -> dict[str, Back]:
        return read_back(self.names(), root=cluster.root, peers=cluster.addresses())


def _lines(data: bytes) -> list[bytes]:
    return [part + b"\n" for part in data.split(b"\n")[:-1]] + (
        [data.rsplit(b"\n", 1)[-1]] if data[-1:] != b"\n" else []
    )


def _in_order(data: bytes) -> bool:
    numbers = [int(match[0].split(b"-")[1]) for match in ID.finditer(data)]
    return numbers == sorted(numbers)


@pytest.mark.parametrize("how", ["create", "copytruncate"])
@pytest.mark.parametrize("wait_s", [0.0, 0.7], ids=["at once", "with pauses"])
def test_T17_T22_T24_T28_T30_all_generations_come_back_once(cluster: Cluster, how: str, wait_s: float) -> None:
    rotated = Rotated(cluster.root, how)
    writer = Writer(0, rotated.log)
    tailer = cluster.tailer("--from", "head", "--rotate-wait", "2s", f"{rotated.log}*")
    for n in range(ROTATIONS):
        for _ in writer.pieces(LINES + n, 300):
            time.sleep(0.05)
        time.sleep(wait_s)
        rotated.rotate()
    writer.write(LINES)
    wanted = Counter(writer.lines)
    assert rotated.on_disk() == wanted, "logrotate itself lost something"
    deadline = time.monotonic() + PATIENCE_S
    while _count(rotated.back(cluster)) != wanted and time.monotonic() < deadline:
        time.sleep(0.3)
    assert tailer.stop() == 0, tailer.log_end()
    back = rotated.back(cluster)
    got = _count(back)
    assert (wanted - got, got - wanted) == (Counter(), Counter()), f"lost, or twice; {tailer.log_end()}"
    assert all(_in_order(data) for one in back.values() for data in one.generations)


def _count(back: dict[str, Back]) -> Counter[bytes]:
    return Counter(line for one in back.values() for line in _lines(one.data) if line)
