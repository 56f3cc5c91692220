"""C19: two hundred tailers lose all their bucks at once, and come back to them with encrypted links."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from bench.cluster import Cluster
from bench.measure import ROOT
from bench.sending import key_of
from tailer.members import TOGETHER_S
from tests.scenarios.crowd import NAME

pytestmark = pytest.mark.slow

TAILERS, BUCKS = 200, 2
LINKS = TAILERS * BUCKS
DOWN_S = 3.0
BACK_S = 30.0  # on a busy machine; a tenth of that alone
RSS_MAX = 120_000_000


class Crowd:
    """A process with all the tailers."""

    def __init__(self, cluster: Cluster) -> None:
        assert cluster.keys
        words = ["--tailers", str(TAILERS), "--journals", str(cluster.root / "journals")]
        words += ["--authorized-keys", str(cluster.keys.authorized), "--secret-file", str(cluster.keys.secret)]
        for address in cluster.addresses():
            words += ["--to", address]
        with (cluster.logs / "crowd.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.scenarios.crowd", *words],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip

    def said(self) -> Any:
        """The next line that it prints."""
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())

    def now(self) -> Any:
        """How things are now."""
        assert self._process.stdin
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return self.said()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def crowd_of(cluster: Cluster) -> Iterator[Crowd]:
    crowd = Crowd(cluster)
    try:
        yield crowd
    finally:
        crowd.end()


def refused(http: str) -> float:
    """Links that a buck has refused, for whatever reason."""
    page = urlopen(f"http://{http}/metrics", timeout=10).read().decode()
    lines = [line for line in page.splitlines() if line.startswith("buck_links_refused_total")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_C19_two_hundred_tailers_come_back_over_encrypted_links_and_nobody_is_pushed_out(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster", BUCKS, secure=True)
    assert cluster.keys
    for number in range(TAILERS):
        name = NAME.format(number)
        cluster.keys.add(f"key {key_of(name).public.hex()} roles=tailer {name}")
    with cluster, crowd_of(cluster) as crowd:
        first = crowd.said()
        assert (first["links"], first["failures"]) == (LINKS, 0)
        time.sleep(TOGETHER_S)  # after the first link they look for the others more often for so long
        for buck in cluster.live():
            buck.kill()
        time.sleep(DOWN_S)
        down = crowd.now()
        assert down["links"] == 0
        assert len(down["dials"]) > LINKS, "they don't give up"
        for i in range(BUCKS):
            cluster.start(i)
        begun = time.monotonic()
        back = crowd.said()
        assert time.monotonic() - begun < BACK_S
        assert back["links"] == LINKS
        for buck in cluster.live():
            assert refused(buck.http) == 0, "an honest handshake made room for another"
            assert buck.usage().rss_max < RSS_MAX
