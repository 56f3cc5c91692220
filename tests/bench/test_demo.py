"""The demo's check, small: a few programs' logs instead of a host's, with each process killed while it works."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from bench import demo, demo_check, demo_kill, demo_logs


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it runs: its own folder, little to write, and that is enough."""
    monkeypatch.setattr(demo, "ROOT", tmp_path / "demo")
    monkeypatch.setattr(demo, "ENOUGH_BYTES", 20_000)
    monkeypatch.setattr(demo, "ENOUGH_FILES", 3)
    monkeypatch.setattr(demo, "OWN", "nothing/*.log")  # each file is two processes more
    monkeypatch.setattr(demo_logs, "PROGRAMS", {"system": demo_logs.PROGRAMS["system"]})
    monkeypatch.setattr(demo_logs, "SERVICES", 0)
    monkeypatch.setattr(demo_kill, "BEFORE_S", 0.2)
    monkeypatch.setattr(demo_kill, "AWAY_S", 0.2)
    return tmp_path / "var"


def run(monkeypatch: pytest.MonkeyPatch, logs: Path, *flags: str) -> int:
    monkeypatch.setattr(sys, "argv", ["demo", *flags, "--logs", f"{logs}/*.log"])
    return demo.main()


@pytest.mark.slow
def test_each_process_is_killed_once_and_all_is_equal(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(monkeypatch, small, "--check", "--kill")
    said = capsys.readouterr().out
    print(said)
    assert code == 0
    assert re.findall(r"kill -9 \d+ \((.+?)\)", said) == ["buck0", "tailer", "buck1", "buck2", "porter archive"]
    assert re.findall(r"(\w+) is back as \d+", said) == ["buck0", "tailer", "buck1", "buck2"]
    assert said.count("all equal") == 2


def test_killing_wants_a_check(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, small, "--kill")


def test_a_file_that_differs_is_named_and_how() -> None:
    assert demo_check._differs(b"one\ntwo\n", b"one\ntwo\n", 8) == ""
    assert demo_check._differs(b"one\ntwo\n", b"one\n", 4) == "", "it still grew"
    assert demo_check._differs(b"one\ntwo\n", b"one\n", 8) == "4 bytes came back of 8"
    assert demo_check._differs(b"one\ntwo\n", b"one\nTwo\n", 8) == "differs from byte 4 on"
