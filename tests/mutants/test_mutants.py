"""The quick tier of `make mutants`: all seeded bugs still fit the code, a few are run, and what is none survives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.copies import ROOT, PatchError, check, run
from tests.mutants.seeded import MUTANTS, Edit, Mutant, mutant

CHEAP = ("the digest of a packet is not checked", "a seal's number is given twice")


@pytest.mark.parametrize("one", MUTANTS, ids=lambda one: one.name)
def test_a_seeded_bug_still_fits_the_code(one: Mutant) -> None:
    check(one)


def test_each_seeded_bug_is_among_the_scenarios() -> None:
    page = (ROOT / "docs/SCENARIOS.md").read_text()
    assert [one.name for one in MUTANTS if f"| {one.name} |" not in page] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEAP)
def test_a_seeded_bug_is_caught(name: str, tmp_path: Path) -> None:
    verdict = run(next(one for one in MUTANTS if one.name == name), tmp_path / "tree")
    assert verdict.caught, verdict.text


@pytest.mark.slow
def test_a_change_that_breaks_nothing_survives(tmp_path: Path) -> None:
    """The driver does not call everything caught; nor a bug for which there is no test."""
    old = '"""What happens when a disk fills. Pure.'
    harmless = Edit("buck/retention.py", old, old + ".")
    verdict = run(Mutant("harmless", (harmless,), ("tests/tailer/test_begin.py",)), tmp_path / "tree")
    assert not verdict.caught
    assert "pytest ended with 0" in verdict.text


def test_a_bug_that_fits_no_more_is_said() -> None:
    with pytest.raises(PatchError, match="has 0 times, not once"):
        check(mutant("gone", "buck/retention.py", "no such text", "", "tests/tailer/test_begin.py"))
    with pytest.raises(PatchError, match=r"there is no tests/nowhere\.py"):
        check(Mutant("no test", (), ("tests/nowhere.py::test_it",)))
