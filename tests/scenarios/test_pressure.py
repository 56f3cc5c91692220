"""A real buck that gets ten times what it can take, with little memory: it slows its peers down, and keeps its word."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from bench.cluster import Cluster
from bench.pressure import missing, press

pytestmark = pytest.mark.slow

SECONDS = 4.0
RSS_MAX = 300_000_000
ADDRESSES_MAX = 640_000_000  # of which some hundred are reserved by threads, and never touched


def test_A20_a_buck_at_ten_times_its_load_keeps_within_its_memory_and_all_that_it_acknowledged(tmp_path: Path) -> None:
    """56 peers: senders with full windows, senders that read no answer, readers that take nothing of 32 answers."""
    with Cluster(tmp_path, 1) as cluster:
        (buck,) = cluster.live()
        resource.prlimit(buck.pid, resource.RLIMIT_AS, (ADDRESSES_MAX, ADDRESSES_MAX))
        peers = press(buck, SECONDS, sync=True)
        assert buck.running(), buck.log_end()
        acked = sum(peer.acked.count for peer in peers)
        assert acked > 100
        assert all(peer.acked.count + peer.refused == peer.sent for peer in peers), "each question has its answer"
        assert missing(buck.address, peers) == 0
        assert buck.usage().rss_max < RSS_MAX
