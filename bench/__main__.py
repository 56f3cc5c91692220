"""`python -m bench [NAME]...`: run the benchmarks (all of them, or those named) and print one table with ratios.

Figures are medians of `--runs` runs with their spread. CPU is that of whole process trees. These machines are noisy, so
what is judged are ratios to something else in the same run. `rivals` and `kafka` in place of a name are commands of
their own: which other systems can run here, and a Kafka to try things with.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from bench import corpus
from bench.measure import ROOT, machine
from bench.options import Options
from bench.report import Row, document, keep, show

BENCHES = [
    "kernel",
    "sizes",
    "tailer",
    "small_hosts",
    "buck",
    "secure",
    "archive",
    "read",
    "audit",
    "latency",
    "live",
    "memory",
    "failover",
    "chaos",
    "pressure",
]
COMMANDS = {"rivals": "bench.rivals.commands", "kafka": "bench.rivals.commands", "papers": "bench.papers.commands"}
# Together they import every library that a measured process does.
MODULES = ["buck.commands", "tailer.commands", "porter.commands", "porter.parquet", "porter.hour", "protocol.secure"]
PACKAGES = ["protocol", "service", "buck", "tailer", "porter"]


def main() -> int:
    """Parse, run, print, keep; or hand over to one of the commands about other systems."""
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        command = getattr(importlib.import_module(COMMANDS[sys.argv[1]]), sys.argv[1])
        return int(command(sys.argv[2:]))
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {' '.join(BENCHES)}")
    parser.add_argument("--runs", type=int, default=5, help="runs of each (5)")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the corpus where one is needed (1)")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "build/bench", help="for its files")
    parser.add_argument("--document", action="store_true", help="write the figures to docs/BENCHMARKS.md too")
    given = parser.parse_args()
    unknown = set(given.names) - set(BENCHES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: there are {', '.join(BENCHES)}")
    if not corpus.SHARED.is_dir():
        parser.error(f"the sample logs are absent: {corpus.SHARED}")
    options = Options(given.folder, given.runs, int(given.gigabytes * 1e9))
    options.folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(machine(), highlight=False)
    _compile()
    rows: list[Row] = []
    for name in given.names or BENCHES:
        console.print(f"-- {name}", highlight=False)
        found = importlib.import_module(f"bench.{name}").run(options)
        show(found, console)
        rows += found
    if len(given.names) != 1:
        console.rule("all")
        show(rows, console)
    console.print(f"raw results: {keep(rows)}", highlight=False)
    if given.document:
        document(rows)
    return 0


def _compile() -> None:
    """Compile all that the processes import, as an installation has it: what is measured must not compile its sources.

    The libraries too: copied or synced, their files have another date than their compiled form remembers, and where no
    bytecode may be written each start would compile two hundred of them again."""
    for name in PACKAGES:
        compileall.compile_dir(ROOT / name, quiet=1)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", f"import {', '.join(MODULES)}"], cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main())
