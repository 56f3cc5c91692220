"""`porter grep --live` as a process, over encrypted links: lines come while they are written; Ctrl-C ends it with 0."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from bench.cluster import Cluster
from tests.scenarios.arena import PATIENCE_S

pytestmark = pytest.mark.slow


def test_lines_are_shown_once_while_they_are_written(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.touch()
    found: list[int] = []
    with Cluster(tmp_path / "cluster", 2, secure=True) as cluster:
        tailer = cluster.tailer("--from", "head", str(log))
        command = cluster.porter_command("grep", "wanted", "--live", "--json")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as viewer:
            try:
                reader = threading.Thread(target=_read, args=(viewer, found))
                reader.start()
                deadline, number = time.monotonic() + PATIENCE_S, 0
                with log.open("a") as file:
                    while len(set(found)) < 30:
                        assert time.monotonic() < deadline, (len(found), tailer.log_end())
                        file.write(f"other {number}\nwanted {number}\n")
                        file.flush()
                        number += 1
                        time.sleep(0.1)
                viewer.send_signal(signal.SIGINT)
                code = viewer.wait(PATIENCE_S)
                reader.join(PATIENCE_S)
            finally:
                viewer.kill()
            said = viewer.stderr.read().decode() if viewer.stderr else ""
    assert code == 0, said
    assert len(found) == len(set(found))
    first = min(found)
    assert sorted(found) == list(range(first, first + len(found)))
    assert "missed" not in said


def _read(viewer: subprocess.Popen[bytes], found: list[int]) -> None:
    assert viewer.stdout
    for line in viewer.stdout:
        found.append(int(json.loads(line)["line"].removeprefix("wanted ")))
