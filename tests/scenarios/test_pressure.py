"""C31: a real buck that gets ten times what it can take, with little memory: it slows its peers and keeps its word.

It may have 640 MB of addresses, so that one that held all that is pushed at it would meet a MemoryError and not the
machine's limits. A real tailer follows a file beside the other senders.
"""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from bench.cluster import Cluster
from bench.pressure import missing, press
from tests.scenarios.arena import Arena
from tests.scenarios.netted import Following, until

pytestmark = pytest.mark.slow

SECONDS = 4.0
LINES = 20_000
MEMORY = 64_000_000  # what peers may make it hold
RSS_MAX = 300_000_000
TAILER_RSS_MAX = 200_000_000
ADDRESSES_MAX = 640_000_000  # of which some hundred are reserved by threads, and never touched


def test_C31_A20_a_buck_at_ten_times_its_load_keeps_within_its_memory_and_all_that_it_acknowledged(
    tmp_path: Path,
) -> None:
    """56 peers: senders with full windows, senders that read no answer, readers that take nothing of 32 answers."""
    cluster = Cluster(tmp_path / "cluster", 2)
    try:
        for i in range(2):
            cluster.start(i, {"BUCK_MEMORY": str(MEMORY)})
        arena, (buck, _) = Arena(cluster), cluster.live()
        resource.prlimit(buck.pid, resource.RLIMIT_AS, (ADDRESSES_MAX, ADDRESSES_MAX))
        tailer, writer = Following(arena), arena.writer("tailer")
        writer.write(LINES)
        peers = press(buck, SECONDS, sync=True)
        assert buck.running(), buck.log_end()
        assert "MemoryError" not in buck.log.read_text()
        acked = sum(peer.acked.count for peer in peers)
        assert acked > 100
        assert all(peer.acked.count + peer.refused == peer.sent for peer in peers), "each question has its answer"
        assert missing(buck.address, peers) == 0
        assert buck.usage().rss_max < RSS_MAX
        until(lambda: tailer.placed(writer), tailer.says)
        assert tailer.tailer.usage().rss_max < TAILER_RSS_MAX
        arena.check(writer)
    finally:
        cluster.close()
