"""Would the tests notice? `python -m tests.mutants`: a copy of the tree for each seeded bug, and its tests there.

    make mutants                all of them: a table, and exit code 1 if one survives or no longer fits the code
    make mutants T='epoch'      those with this word in their names

First all named tests run once in a copy without any bug: a test that is red anyway proves nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.copies import Verdict, run, run_clean
from tests.mutants.seeded import MUTANTS, Mutant


def main(arguments: list[str]) -> int:
    """The exit code: 0 if every bug was caught."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("word", nargs="?", default="", help="only bugs with this word in their names")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    asked = parser.parse_args(arguments)
    chosen = [one for one in MUTANTS if asked.word in one.name]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="buck-mutants-") as folder:
        wrong = run_clean(chosen, Path(folder, "clean"))
        if wrong:
            print(f"without any bug the tests are not green:\n{wrong}")
            return 1
        caught = _run_all(chosen, Path(folder), asked.jobs)
    print(f"{len(chosen)} seeded bugs, {caught} caught, {time.monotonic() - begin:.0f} s")
    return int(caught < len(chosen) or not chosen)


def _run_all(chosen: list[Mutant], folder: Path, jobs: int) -> int:
    def work(numbered: tuple[int, Mutant]) -> tuple[Mutant, Verdict]:
        number, one = numbered
        return one, run(one, folder / str(number))

    caught = 0
    with ThreadPoolExecutor(jobs) as pool:
        for one, verdict in pool.map(work, enumerate(chosen)):
            caught += verdict.caught
            print(f"{'caught  ' if verdict.caught else 'SURVIVED'}  {one.name}\n          {verdict.text}", flush=True)
    return caught


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
