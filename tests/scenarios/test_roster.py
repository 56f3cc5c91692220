"""Classes of one file's lines, and a host and a buck that are gone for good: as running processes have it."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.cluster import Cluster

PATIENCE_S = 60.0
CLASSES = """
[[classes]]
app = "sudo"
copies = 3
sync = "packet"

[[classes]]
app = "chatter*"
copies = 1
resend = false
"""


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.2)


def audited(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.porter("audit", "--json", check=False).stdout)
    return found


def account(cluster: Cluster) -> dict[str, Any]:
    """What an audit says of the one tailer."""
    (found,) = audited(cluster)["tailers"]
    return dict(found)


def lines(count: int) -> str:
    now = datetime.now(UTC)
    apps = ("sudo", "chatterbox", "nginx", "nginx")
    return "".join(f"{now:%Y-%m-%dT%H:%M:%SZ} web {apps[i % 4]}[{i}]: line {i}\n" for i in range(count))


def test_C29_lines_have_classes_and_a_host_and_a_buck_that_are_gone_are_retired(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", width="5s") as cluster:
        config, log = tmp_path / "tailer.toml", tmp_path / "app.log"
        config.write_text(CLASSES)
        log.write_text(lines(400))
        more = ("--config", str(config), "--host", "gone-1", "--http", "127.0.0.1:0", "--from", "head", str(log))
        tailer = cluster.tailer(*more)

        def classes() -> dict[str, int]:
            found = audited(cluster)["tailers"]
            rows = found[0]["classes"] if found else []
            return {f"{row['copies']}{row['sync']}{row['resend']}": row["events"] for row in rows}

        until(lambda: classes() == {"3TrueTrue": 100, "1FalseFalse": 100, "2FalseTrue": 200})
        where = re.search(r'"http": "([^"]+)"', (cluster.logs / "tailer.log").read_text())
        assert where
        with urllib.request.urlopen(f"http://{where[1]}/metrics", timeout=10) as page:
            metrics = page.read().decode()
        assert 'tailer_class_lines_total{class="3+sync+resend"} 100.0' in metrics
        assert 'tailer_class_lines_total{class="1"} 100.0' in metrics
        tailer.kill()
        assert "expected" in account(cluster)["roster"]

        done = cluster.porter("retire", "gone-1")
        assert b"on gone-1 is retired, as of" in done.stdout
        assert b"3 bucks have that on disk" in done.stdout
        found = account(cluster)
        (silent,) = [one for one in found["unknown"] if "retired" in one["reason"]]
        assert found["roster"] == "retired"
        assert (silent["from"], silent["to"]) == (found["seal"]["until"], silent["from"] + 5)

        buck = cluster.bucks[2]
        assert buck is not None
        assert cluster.porter("retire", "nobody", check=False).returncode == 1
        status = json.loads(cluster.porter("status", "--json", check=False).stdout)
        (node,) = [one["node"] for one in status["nodes"] if one["address"] == buck.address]
        refused = cluster.porter("retire", node, check=False)
        assert (refused.returncode, b"drain it first" in refused.stderr) == (1, True)
        buck.kill()
        cluster.bucks[2] = None  # nobody is told of its address any more
        assert not audited(cluster)["asked"]
        cluster.porter("retire", node)
        until(lambda: audited(cluster)["asked"])

        tailer = cluster.tailer(*more)  # it was not gone after all
        until(lambda: account(cluster)["roster"] == "expected")
        assert tailer.stop() == 0
