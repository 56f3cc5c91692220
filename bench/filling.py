"""A cluster that holds logs: bucks, and a tailer that has read all of them once and delivered them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.cluster import Cluster, ClusterError
from bench.measure import FailedError, Spent, ended


@contextmanager
def fresh(
    root: Path, bucks: int = 2, *, width: str = "300s", proxied: Collection[int] = (), env_name: str = "prod"
) -> Iterator[Cluster]:
    """Empty bucks in an empty folder, which is removed again."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    try:
        with Cluster(root, bucks, width=width, proxied=proxied, env_name=env_name) as cluster:
            yield cluster
    finally:
        shutil.rmtree(root, ignore_errors=True)


def fill(cluster: Cluster, paths: Sequence[Path], level: str = "A1") -> Spent:
    """Read the files to their ends, deliver everything; what the tailer used."""
    begin = time.perf_counter()
    tailer = cluster.tailer("--once", "--level", level, *map(str, paths))
    try:
        return ended(tailer.popen, begin)
    except FailedError as error:
        raise ClusterError(f"{error}\n{tailer.log_end()}") from error
