"""What all tests share: the shared data, Hypothesis' profiles, and a count of what was skipped and why.

A test that can't run somewhere is skipped with a reason; the reasons are counted at the end of the run. With NO_SKIPS=1
a skip is a failure of the run, unless its reason is one of ALLOWED_SKIPS: what can run on that machine must run there.
"""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SHARED_DATA = Path(__file__).parents[1] / "../shared/data"
# Reasons that hold on a complete machine too. Each begins a skip's text.
ALLOWED_SKIPS = (
    "only without the compiled kernel",
    "only root can mount a small file system",
    "a small file system can't be mounted here",
)

settings.register_profile(
    "normal", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile("fuzz", settings.get_profile("normal"), max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))

_skips: Counter[str] = Counter()
_modules: set[str] = set()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of sample logs beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("shared data absent")
    return SHARED_DATA.resolve()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _note_skip(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A whole module that skips itself counts as one, though each worker says so."""
    if report.skipped and report.nodeid not in _modules:
        _modules.add(report.nodeid)
        _note_skip(report)


def _note_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    _skips[reason.removeprefix("Skipped: ")] += 1


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if os.environ.get("NO_SKIPS") and exitstatus == pytest.ExitCode.OK and _refused():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason, count in _skips.most_common():
        terminalreporter.write_line(f"skipped {count}: {reason}")
    if os.environ.get("NO_SKIPS") and _refused():
        terminalreporter.write_line("NO_SKIPS: a skip is a failure here", red=True)


def _refused() -> list[str]:
    return [reason for reason in _skips if not reason.startswith(ALLOWED_SKIPS)]
