"""Run many seeds: `python -m tests.simulation --seeds 0:150`, over all cores, and say in a page what was seen.

A process runs its seeds one after another. All have the same hash seed (0, unless PYTHONHASHSEED says otherwise), since
the order of a set of strings is part of a run. Every 20th seed is run twice, and must be the same run to the byte.
"""

import argparse
import os
import statistics
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.worker import Outcome, run_one

TWICE_EVERY = 20


def main(arguments: list[str]) -> int:
    """The exit code: 0 if every seed is as promised."""
    asked = _parse(arguments)
    if "PYTHONHASHSEED" not in os.environ:
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *arguments], _same_hashes())
    first, last = asked.seeds
    seeds = range(first, last)
    work = partial(run_one, coverage=asked.coverage, verbose=asked.verbose)
    with ProcessPoolExecutor(max_workers=asked.jobs) as pool:
        outcomes = []
        for outcome in pool.map(work, seeds, [seed % TWICE_EVERY == 0 for seed in seeds]):
            outcomes.append(outcome)
            if outcome.failure:
                print(f"seed {outcome.seed} FAILED\n{outcome.failure}\n", flush=True)
            elif asked.verbose:
                print(outcome.report, flush=True)
    print(summary(outcomes))
    if asked.coverage:
        from tests.simulation.recovery import covered

        print(covered())
    return 1 if any(outcome.failure for outcome in outcomes) else 0


def summary(outcomes: Iterable[Outcome]) -> str:
    """What was seen, in a few lines."""
    good = [outcome.report for outcome in outcomes if outcome.report is not None]
    bad = [outcome.seed for outcome in outcomes if outcome.failure]
    lines = [f"{len(good) + len(bad)} seeds, {len(bad)} failed{': ' if bad else ''}{', '.join(map(str, bad))}"]
    if good:
        faults = sum((report.faults for report in good), Counter[str]())
        jobs = sum((report.jobs for report in good), Counter[str]())
        names = ("windows", "lines", "packets", "operations", "rows", "steps", "virtual_s", "cpu_s")
        medians = [f"{name} {statistics.median(getattr(report, name) for report in good):.4g}" for name in names]
        per_seed = statistics.median(report.faults.total() for report in good)
        kinds = statistics.median(len(report.faults) for report in good)
        lines += [
            f"medians of a seed: {', '.join(medians)}, faults {per_seed:g} of {kinds:g} kinds",
            f"simulated: {sum(report.virtual_s for report in good) / 3600:.2f} hours of a cluster, "
            f"{sum(report.lines for report in good)} lines, {sum(report.packets for report in good)} packets",
            f"faults: {', '.join(f'{kind} {count}' for kind, count in faults.most_common())}",
            f"jobs in the middle of it: {', '.join(f'{job} {count}' for job, count in jobs.most_common())}",
            f"copies that bucks let go of: {sum(report.pruned for report in good)}, "
            f"in {sum(report.pruned > 0 for report in good)} seeds",
            f"seeds in which a repair had to bring copies back: {sum(report.repaired for report in good)}",
            f"packets that were destroyed, and told as gaps exactly: {sum(report.lost for report in good)}, "
            f"in {sum(report.lost > 0 for report in good)} seeds",
            f"steps of all tasks in the busiest virtual second: {max(report.steps for report in good)}",
            f"run twice, with the same trace: {sum(outcome.twice for outcome in outcomes)}",
        ]
    return "\n".join(lines)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=_range, default=(0, 150), metavar="FIRST:END", help="which seeds, END not")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--coverage", action="store_true", help="say which lines of recovery were run")
    parser.add_argument("--verbose", action="store_true", help="a line a seed, and what the processes log")
    return parser.parse_args(arguments)


def _range(text: str) -> tuple[int, int]:
    first, _, end = text.partition(":")
    return int(first), int(end) if end else int(first) + 1


def _same_hashes() -> dict[str, str]:
    return {**os.environ, "PYTHONHASHSEED": "0"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
