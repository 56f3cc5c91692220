"""Damaged bytes for whoever reads them: `make fuzz SECONDS=60 SEED=1`, so long for each target."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor

from tests.fuzz.damage import FoundError, fuzz
from tests.fuzz.targets import targets


def main(arguments: list[str]) -> int:
    """The exit code: 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    names = [target.name for target in targets()]
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(_one, names, [asked.seed] * len(names), [asked.seconds] * len(names)))
    for name, text in zip(names, found, strict=True):
        print(f"{name:12} {text}")
    return int(any(not text.endswith("inputs, nothing found") for text in found))


def _one(name: str, seed: int, seconds: float) -> str:
    target = next(one for one in targets() if one.name == name)
    try:
        return f"{fuzz(target, seed, seconds):,} inputs, nothing found"
    except FoundError as error:
        return f"FOUND {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
