"""The documents tell the truth: every setting and metric stands in them, and the README's commands run."""

from __future__ import annotations

import ast
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from buck.settings import BuckSettings
from porter.settings import PorterSettings
from service.config import Settings
from service.faults import NAMES
from tailer.settings import TailerSettings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
OPERATING = (ROOT / "docs/OPERATING.md").read_text()
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def flags_of(settings: type[Settings]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in settings.model_fields.items():
        yield (field.alias or name.rstrip("_")).replace("_", "-"), field


@pytest.mark.parametrize(
    ("part", "settings"), [("buck", BuckSettings), ("tailer", TailerSettings), ("porter", PorterSettings)]
)
def test_every_setting_is_in_the_manual(part: str, settings: type[Settings]) -> None:
    section = OPERATING.split(f"### {part}\n")[1].split("\n##")[0]
    missing = [name for name, _ in flags_of(settings) if f"`{name}`" not in section]
    assert not missing


def test_every_metric_is_in_the_manual() -> None:
    calls = [
        node
        for package in ("buck", "tailer", "porter", "service")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    names = {
        node.args[0].value
        for node in calls
        if node.func.attr in ("counter", "counters", "gauge", "histogram")  # type: ignore[attr-defined]  # asked above
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert names
    assert not [name for name in names if f"`{name}`" not in OPERATING]


def test_every_numbered_test_and_every_fault_point_is_among_the_scenarios() -> None:
    page = (ROOT / "docs/SCENARIOS.md").read_text()
    tests = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    numbered = {name for text in tests for name in re.findall(r"def (test_[TSDCA]\d+_\w+)", text)}
    assert numbered == set(re.findall(r"`(test_[TSDCA]\d+_\w+)`", page))
    assert {f"`{name}`" for name in NAMES} <= set(re.findall(r"`[\w.]+`", page))


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_files_that_documents_name_are_there() -> None:
    for document in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "DESIGN.md"):
        for name in re.findall(
            r"`((?:tests|protocol|service|tailer|buck|porter|bench|docs)/[\w/.]+)`", document.read_text()
        ):
            assert (ROOT / name).exists(), f"{document.name}: {name}"


def test_no_document_speaks_of_its_making() -> None:
    words = re.compile(r"\b(issue #?\d+|this session|TO" r"DO|FIX" r"ME)\b", re.IGNORECASE)
    for document in DOCUMENTS:
        assert not words.search(document.read_text()), document.name


def readme_commands() -> list[str]:
    block = re.search(r"```sh\n(.*?)```", README, re.DOTALL)
    assert block
    return block[1].splitlines()


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    """As they stand there, but for ports, folders and the logs that are read."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var/app.log").write_text("".join(f"2026-01-02T03:04:05Z an error {i}\n" for i in range(100)))
    ports = dict(zip(("7411", "7412", "7421", "7422"), map(str, free_ports(4)), strict=True))
    python = f"{sys.executable} -m "
    started: list[subprocess.Popen[bytes]] = []
    try:
        for line in readme_commands():
            line = line.replace("/tmp/", f"{tmp_path}/").replace("'/var/log/*.log'", f"{tmp_path}/var/*.log")
            line = re.sub(r"\.venv/bin/(\w+)", lambda found: python + found[1], line)
            for port, free in ports.items():
                line = line.replace(port, free)
            command = shlex.split(line.removesuffix("&"))
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "HOME": str(tmp_path)}
            )
            started.append(process)
            assert process.stdout
            if line.endswith("&"):
                assert process.stdout.readline().startswith(b"listening")
            else:
                output, _ = process.communicate(timeout=60)
                assert process.returncode == 0, line
                assert "grep" not in line or output.count(b"an error") == 100
        assert list((tmp_path / "archive").rglob("*.parquet"))
    finally:
        for process in started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 20
        for process in started:
            process.wait(max(0.1, deadline - time.monotonic()))
            if process.stdout:
                process.stdout.close()
