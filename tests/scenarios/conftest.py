"""Scenarios are played by real processes: bucks, tailers and porters, each started, killed and asked from outside."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cluster import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three bucks of one's own."""
    with Cluster(tmp_path / "cluster") as three:
        yield three
