"""`python -m bench papers`: run what the papers need, keep what came out, write the pages."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import corpus
from bench.measure import ROOT, command_line, commit, machine
from bench.papers import steps
from bench.papers.pages import TEXT, Page
from bench.papers.results import ENVIRONMENT, Results
from bench.rivals import lines
from bench.rivals.commands import RIVALS

# In the order in which they are run: what is repeated first, while there is time, is what is compared most closely.
MODULES: list[str] = ["loads", "masterless", "growing", "lateness", "durability", "complete", "ordered", "fleet"]
VERIFY = "verify"
RESULTS = ROOT / "bench/results"
PAGES = ROOT / "docs/papers"


def papers(words: Sequence[str]) -> int:
    """Parse, run, write. 0 if all was measured or said to be impossible here."""
    parser = argparse.ArgumentParser(prog="python -m bench papers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, once each, no judgement on speed")
    parser.add_argument("--logs", default="", metavar="GLOB", help="other logs than the shared samples")
    parser.add_argument("--only", action="append", default=[], metavar="MODULE", help=f"of {' '.join(MODULES)}")
    parser.add_argument(
        "--verify", action="store_true", help="only whether the judge sees a known loss, in each system"
    )
    parser.add_argument("--minutes", type=float, default=55.0, help="begin no repetition that would end later [55]")
    parser.add_argument("--results", type=Path, help="a folder to go on in, or to write the pages of anew")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/papers", help="for files that go away again")
    given = parser.parse_args(words)
    if unknown := set(given.only) - set(MODULES):
        parser.error(f"there is no {', '.join(sorted(unknown))}: there are {', '.join(MODULES)}")
    try:
        logs = lines.files(given.logs)
    except ValueError as error:
        parser.error(str(error))
    scale = steps.Scale.of(given.quick, logs)
    results = Results(given.results or RESULTS / _name(given.quick), commit())
    if len(results):
        print(f"{results.folder} has {len(results)} repetitions: they aren't run again", flush=True)
    _environment(results.folder)
    modules = [importlib.import_module(f"bench.papers.{name}") for name in _chosen(given)]
    found = [step for module in modules for step in module.steps(scale)]
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell has let them be ignored: no server outlives us
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    minutes = given.minutes * 60
    whole = steps.run(found, scale, results, given.folder, lambda text: print(text, flush=True), minutes)
    if not given.verify:
        write(results, results.folder if given.quick or given.only else PAGES)
    print(f"results: {results.folder}", flush=True)
    return 0 if whole else 1


def _chosen(given: argparse.Namespace) -> list[str]:
    return [VERIFY] if given.verify else given.only or MODULES


def write(results: Results, folder: Path) -> None:
    """All pages from the results alone."""
    pages = {int(path.stem): Page(int(path.stem), results) for path in sorted(TEXT.glob("[0-9].md"))}
    for name in MODULES:
        importlib.import_module(f"bench.papers.{name}").fill(results, pages)
    for paper, page in pages.items():
        page.write(folder / f"{paper}.md")


def _name(quick: bool) -> str:
    """Of a results' folder: the day and the machine."""
    lines_of = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1] for line in lines_of if line.startswith("model name")), "cpu")
    words = re.sub(r"[^a-z0-9]+", "-", model.lower().replace("(r)", "").replace("(tm)", "")).strip("-")
    return f"{time.strftime('%Y-%m-%d')}-{words}{'-quick' if quick else ''}"


def _environment(folder: Path) -> None:
    """What ran where, kept beside what came out; a run that goes on elsewhere or of another commit adds a line."""
    versions = {kind.name: kind.versions() for kind in RIVALS if not kind.missing()}
    document = {
        "machine": machine(),
        "platform": platform.platform(),
        "command": command_line(),
        "versions": versions,
        "logs": str(len(corpus.files())) if corpus.SHARED.is_dir() else "",
    }
    with (folder / ENVIRONMENT).open("a") as file:
        file.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    sys.exit(papers(sys.argv[1:]))
