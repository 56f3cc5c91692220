"""A copy of the tree with a bug in it, and what the tests say there. The tree itself is never touched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.mutants.seeded import Mutant

ROOT = Path(__file__).parents[2]
PARTS = ("protocol", "service", "tailer", "buck", "porter", "tests", "bench", "pyproject.toml")
TEST_S = 60  # a test that a bug leaves hanging is red after so long
PATIENCE_S = 300.0  # and TEST_S for each test: the clean run has them all, on a machine that may be busy
RED, GREEN = 1, 0  # pytest's exit codes; others mean that nothing was tested


class PatchError(Exception):
    """The bug does not fit the code any more; the text says where."""


class Verdict(NamedTuple):
    """Was it caught, and by which test; or why not."""

    caught: bool
    text: str


def check(one: Mutant, root: Path = ROOT) -> None:
    """PatchError unless each text to be replaced stands exactly once in its file, and each test is there."""
    for file, old, new in one.edits:
        count = (root / file).read_text().count(old)
        if count != 1 or old == new:
            raise PatchError(f"{one.name}: {file} has {count} times, not once: {old.strip()[:80]!r}")
    for test in one.tests:
        path, _, name = test.partition("::")
        if not (root / path).is_file() or f"def {name}(" not in (root / path).read_text() + "def (":
            raise PatchError(f"{one.name}: there is no {test}")


def copied(to: Path) -> Path:
    """A copy of what the tests need, without anything that was made from it but the kernel."""
    to.mkdir(parents=True)
    leave_out = shutil.ignore_patterns("__pycache__", "results", ".*")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, to / part, ignore=leave_out)
        else:
            shutil.copy(source, to / part)
    return to


def run(one: Mutant, folder: Path) -> Verdict:
    """Put the bug into a copy at `folder`, run its tests there, remove the copy."""
    try:
        check(one)
        copied(folder)
        for file, old, new in one.edits:
            path = folder / file
            path.write_text(path.read_text().replace(old, new))
        code, output = _pytest(folder, one.tests)
    except (PatchError, subprocess.TimeoutExpired) as error:
        return Verdict(False, str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if code == RED and (red := re.search(r"^FAILED \S+?::(\w+)", output, re.MULTILINE)):
        return Verdict(True, red[1])
    return Verdict(False, f"no test turned red (pytest ended with {code})\n{output[-800:]}")


def run_clean(chosen: Iterable[Mutant], folder: Path) -> str:
    """All the tests in a copy as it is: what pytest says if they are not green."""
    copied(folder)
    tests = sorted({test for one in chosen for test in one.tests})
    try:
        code, output = _pytest(folder, tests)
    except subprocess.TimeoutExpired as error:
        return f"{len(tests)} tests took longer than {error.timeout:.0f} s"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return "" if code == GREEN else output[-3000:]


def _pytest(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(folder)}
    for name in ("NO_SKIPS", "CI", "BUILD_NUMBER", "PYTEST_ADDOPTS"):
        env.pop(name, None)
    done = subprocess.run(
        [*command, f"--timeout={TEST_S}", *tests],
        cwd=folder, env=env, capture_output=True, text=True, timeout=PATIENCE_S + TEST_S * len(tests), check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr
