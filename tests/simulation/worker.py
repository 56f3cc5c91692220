"""One seed in a process that runs many: its report, or what was wrong, as text that tells how to see it again."""

import gc
import io
import sys
import traceback
from dataclasses import dataclass

from service.log import setup
from service.run import leaves
from tests.simulation.seeds import Report, plan, run_seed

FRAMES = 4  # of a failure's own traceback; those of trio's nurseries say nothing


@dataclass(frozen=True)
class Outcome:
    """What became of one seed."""

    seed: int
    report: Report | None
    failure: str = ""
    twice: bool = False


def run_one(seed: int, twice: bool, *, coverage: bool = False, verbose: bool = False) -> Outcome:
    """Run a seed, and once more if asked."""
    setup("info", stream=sys.stderr if verbose else io.StringIO())
    gc.disable()  # everything goes at the end of a seed, and nothing before
    try:
        if coverage:
            from tests.simulation.recovery import measured

            with measured():
                return _run(seed, twice)
        return _run(seed, twice)
    finally:
        gc.collect()


def _run(seed: int, twice: bool) -> Outcome:
    try:
        report = run_seed(seed)
        if twice and run_seed(seed).trace != report.trace:
            return Outcome(seed, None, f"two runs of it differ\n{plan(seed)}\n  again: make simulate SEED={seed}")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Outcome(seed, None, _tell(error))
    return Outcome(seed, report, twice=twice)


def _tell(error: BaseException) -> str:
    lines = []
    for one in leaves(error):
        where = traceback.extract_tb(one.__traceback__)[-FRAMES:]
        lines += [f"{type(one).__name__}: {one}", *(f"    {frame.filename}:{frame.lineno}" for frame in where)]
    return "\n".join([*lines, *getattr(error, "__notes__", ())])
