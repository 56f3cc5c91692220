"""The demo: three bucks, a tailer on this host's own logs, an archive in a folder. `make demo`, and Ctrl-C ends it.

    make demo                 runs until Ctrl-C; says what runs where, and what to try
    make demo LOGS='glob …'   other files than /var/log
    make demo CHECK=1         once: reads, archives, and compares each file byte for byte with what comes back out of
                              the bucks, then out of the archive with the bucks gone; 0 only if all is equal
    make demo CHECK=1 KILL=1  the same, with kill -9 of each process once while it works: bucks, tailer, archive run
    make demo SECURE=1        any of them with keys, certificates and encrypted links

The check wants something to check: ten megabytes, twenty files, one rotation. Where /var/log has less, real programs
run first and write logs of their own (the package manager, the compiler, git, our own tests).
"""

from __future__ import annotations

import argparse
import glob
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.cluster import Buck, Cluster, ClusterError
from bench.demo_check import Check, Checked
from bench.demo_kill import Killer
from bench.demo_logs import ENOUGH_BYTES, ENOUGH_FILES, Writers, enough

ROOT = Path(__file__).parents[1] / "build/demo"
ARCHIVE_EVERY_S = 60
OWN = "processes/*.log"


def main() -> int:
    """Parse what make passes on, and run."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--check", action="store_true", help="run once, compare everything, and end")
    parser.add_argument("--kill", action="store_true", help="with --check: kill -9 each process once while it works")
    parser.add_argument("--secure", action="store_true", help="encrypt all links, and let in only known keys")
    parser.add_argument("--logs", default="/var/log/**", help="globs of the logs to read, separated by blanks")
    options = parser.parse_args()
    if options.kill and not options.check:
        parser.error("--kill needs --check (make demo CHECK=1 KILL=1): only a check says that nothing was lost")
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    logs = [os.path.abspath(pattern) for pattern in options.logs.split()]
    console = Console(stderr=False)
    try:
        with Cluster(ROOT, 3, logs="processes", secure=options.secure) as cluster:
            if options.check:
                return _check(cluster, logs, console, kill=options.kill)
            return _show(cluster, logs, console)
    except ClusterError as error:
        console.print(f"[red]the demo stopped:[/red] {error}", markup=True)
        return 1


def _show(cluster: Cluster, logs: Sequence[str], console: Console) -> int:
    """Until Ctrl-C: follow the logs, archive every minute, say what to try."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    patterns = [*logs, str(ROOT / OWN)]
    tailer = cluster.tailer("--from", "head", *patterns)
    for line in _what_runs(cluster, patterns):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    due = time.monotonic() + ARCHIVE_EVERY_S
    while not stop.wait(1.0):
        if not tailer.running():
            console.print(f"the tailer ended:\n{tailer.log_end()}", markup=False)
            return 1
        if time.monotonic() > due:
            done = cluster.porter("archive", "--older", "0s", "--archive", str(ROOT / "archive"), check=False)
            if done.returncode:
                console.print(done.stderr.decode(errors="replace").strip(), markup=False)
            due = time.monotonic() + ARCHIVE_EVERY_S
    console.print("stopping: the tailer hands over what it has read, then the bucks close their files", soft_wrap=True)
    tailer.stop()
    return 0


def _what_runs(cluster: Cluster, patterns: Sequence[str]) -> Iterator[str]:
    yield ""
    for buck in cluster.bucks:
        assert isinstance(buck, Buck)
        yield f"  {buck.name}    {buck.address:<22} http://{buck.http}/status"
    yield f"  tailer   reads {' '.join(patterns)}"
    yield f"  archive  {ROOT / 'archive'}, every {ARCHIVE_EVERY_S} s (48 hours late in real life)"
    porter = f".venv/bin/porter {{}} --peer {cluster.addresses()[0]}"
    if cluster.keys:
        porter = f".venv/bin/porter {{}} --config {_config(cluster)}"
    yield ""
    yield "Try, in another terminal:"
    yield "  " + porter.format("status")
    yield "  " + porter.format("grep") + " error"
    yield "  " + porter.format("cat") + f" {os.uname().nodename} /var/log/dpkg.log | tail"
    yield "  " + porter.format("audit")
    last = cluster.live()[-1]  # not the one that the lines above ask
    yield f"  kill -9 {last.pid}      ({last.name}: nothing is lost, and nothing stops)"
    yield ""
    yield "Ctrl-C stops everything."


def _config(cluster: Cluster) -> Path:
    """A porter's flags as a file of settings: where links are encrypted they are many."""
    words = cluster.porter_command("")[6:]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    lines = [f'{flag[2:].replace("-", "_")} = "{value}"' for flag, value in pairs if flag != "--peer"]
    lines.append(f"peer = {[value for flag, value in pairs if flag == '--peer']}")
    path = ROOT / "porter.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _check(cluster: Cluster, logs: Sequence[str], console: Console, *, kill: bool) -> int:
    """Once: write where needed, read, compare from the bucks, archive, compare from the archive alone."""
    writers = Writers(ROOT / "written", busy=not enough(logs))
    patterns = [*logs, str(ROOT / "written/*"), str(ROOT / OWN)]
    console.print(f"following {' '.join(patterns)}", highlight=False)
    begin = time.monotonic()
    killer = Killer(cluster, lambda: cluster.tailer("--from", "head", *patterns), console)
    if kill:
        killer.start()
    writers.run(console)
    if kill:
        killer.finished()
    killer.tailer.stop(60)
    check = Check(cluster, _files(patterns), writers.renamed)
    last = cluster.tailer("--once", *patterns)
    if code := last.wait(300):
        raise ClusterError(f"tailer --once ended with {code}:\n{last.log_end()}")
    elapsed_s = time.monotonic() - begin
    if check.left_out:
        console.print(f"left out, compressed or binary: {' '.join(map(str, check.left_out))}", markup=False)
    stored = {"bucks": sum(_size(ROOT / f"buck{i}") for i in range(len(cluster.bucks))) // len(cluster.bucks)}
    rows = check.compare("bucks")
    audit = cluster.porter("audit", check=False)
    console.print(audit.stdout.decode(errors="replace"), markup=False)
    archive = str(ROOT / "archive")
    if kill:
        killer.archive_run(ROOT / "archive", "--older", "0s")
    cluster.porter("archive", "--older", "0s", "--archive", archive)
    cluster.close()
    for i in range(len(cluster.bucks)):
        shutil.rmtree(ROOT / f"buck{i}")
    stored["archive"] = _size(ROOT / "archive")
    rows += check.compare("archive", "--archive", archive)
    for note in sorted(check.notes):
        console.print(f"a note of the bucks: {note}", highlight=False, markup=False)
    words = {0: "complete", 1: "incomplete", 3: "unknown"}
    return _report(console, rows, stored, words.get(audit.returncode, f"exit {audit.returncode}"), elapsed_s)


def _files(patterns: Sequence[str]) -> list[Path]:
    found = {Path(name) for pattern in patterns for name in glob.glob(pattern, recursive=True, include_hidden=True)}
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def _report(console: Console, rows: Sequence[Checked], stored: dict[str, int], audit: str, elapsed_s: float) -> int:
    """The table, what differs, and whether it was enough to prove something."""
    table = Table("from", "files", "lines", "raw MB", "stored MB", "MB/s", "verdict", box=None)
    for source in stored:
        mine = [row for row in rows if row.source == source]
        raw, wrong = sum(row.size for row in mine), sum(bool(row.wrong) for row in mine)
        verdict = f"[red]{wrong} differ" if wrong else "[green]all equal"
        figures = f"{sum(row.lines for row in mine):,}", f"{raw / 1e6:.1f}", f"{stored[source] / 1e6:.2f}"
        table.add_row(source, str(len(mine)), *figures, f"{raw / 1e6 / elapsed_s:.1f}", verdict)
    console.print(table)
    for row in rows:
        if row.wrong:
            console.print(f"{row.source}: {row.path}: {row.wrong}", markup=False)
    console.print(f"audit: {audit}", markup=False)
    mine = [row for row in rows if row.source == "bucks"]
    small = sum(row.size for row in mine) < ENOUGH_BYTES or len(mine) < ENOUGH_FILES or not any(r.rotated for r in mine)
    if small:
        console.print("too little to prove anything: it takes 10 MB, 20 files and a rotation; name more with LOGS=")
    return int(small or audit != "complete" or any(row.wrong for row in rows))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
