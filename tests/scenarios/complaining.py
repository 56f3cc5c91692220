"""The real commands, given what they can't use: what they say on stderr, how they end, and what a buck counts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from bench.cluster import Buck, Process

ROOT = Path(__file__).parents[2]
LISTEN = ("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
# A root that has to heed the permissions of files, as everybody else.
HUMBLE = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
TIMEOUT_S = 40.0


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command of ours to its end, from the checkout's folder."""
    return subprocess.run(
        [*HUMBLE, sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        timeout=TIMEOUT_S,
        check=False,
    )


def complaints(stderr: str, *levels: str) -> list[str]:
    """What was said to people: plain lines, and what the log has of the levels that are asked for."""
    said = []
    for line in stderr.splitlines():
        if not line.startswith("{"):
            said.append(line)
            continue
        record = json.loads(line)
        if record.pop("level") in levels:
            said.append(" ".join(str(record.pop(key)) for key in ("event", *sorted(set(record) - {"event", "time"}))))
    return said


def logged(process: Process, *levels: str) -> list[str]:
    """The same of a process that runs."""
    return complaints(process.log.read_text(), *levels)


def counted(buck: Buck, name: str) -> float:
    """A counter of a buck's /metrics, such as `links_refused_total{reason="env"}`; 0 if there is none yet."""
    with urllib.request.urlopen(f"http://{buck.http}/metrics", timeout=10) as answer:
        found = re.search(rf"^buck_{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0
