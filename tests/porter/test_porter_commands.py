"""The commands: what they say, and how they end."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from porter.commands import main


@pytest.fixture
def key(tmp_path: Path) -> str:
    """Where this test's porter keeps its key."""
    return str(tmp_path / "porter.key")


def run(*arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, arguments)


def test_the_jobs_that_are_listed_are_those_that_work() -> None:
    result = run("--help")
    assert result.exit_code == 0
    commands = [line.split()[0] for line in result.output.partition("Commands:")[2].splitlines() if line.strip()]
    assert commands == ["archive", "audit", "cat", "certify", "grep", "key", "prune", "repair", "retire", "status"]


@pytest.mark.parametrize(
    "command", [("cat", "web1", "/log"), ("grep", "error"), ("audit",), ("status",), ("archive", "--archive", "there")]
)
def test_no_live_buck_is_one_line_and_exit_1(command: tuple[str, ...], key: str) -> None:
    result = run(*command, "--peer", "127.0.0.1:1", "--key", key)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("no live buck: 127.0.0.1:1: ")
    assert line.endswith("(name others with --peer HOST:PORT)")


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("grep", '"open'), "is never closed"),
        (("grep", "x", "--peer", "nowhere"), "'nowhere' is no HOST:PORT"),
        (("grep", "x", "--peer", "192.0.2.1:7411"), "say --insecure if that is fine"),
        (("audit", "--from", "yesterday"), "--from: 'yesterday' is no time: write 2026-11-22, "),
        (("audit", "--to", "2026-13-01"), "--to: '2026-13-01' is no time: month must be in 1..12"),
        (("grep", "/(a/"), "not a regular expression: missing ): (a"),
        (("status", "--env", "../prod"), "--env: '../prod' is no name of an env: 1 to 64 letters, digits, - and _"),
        (("archive", "--older", "soon", "--archive", "there"), "is not a duration"),
        (("archive",), "--archive: a folder or s3://bucket/prefix is needed"),
        (("cat", "a", "b", "--archive", "ftp://x"), "only folders and s3://bucket/prefix are known"),
        (("status", "--memory", "much"), "'much' is not a size"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(command: tuple[str, ...], text: str, key: str) -> None:
    result = run(*command, "--key", key)
    assert result.exit_code in (1, 2)
    (line,) = result.stderr.splitlines()
    assert text in line


def test_an_unknown_key_in_the_file_is_named(tmp_path: Path) -> None:
    config = tmp_path / "porter.toml"
    config.write_text('memry = "1GB"\n')
    result = run("status", "--config", str(config))
    assert result.exit_code == 2
    assert "memry: unknown; did you mean memory?" in result.stderr


def test_an_audit_that_finds_nothing_is_not_complete(tmp_path: Path, key: str) -> None:
    result = run("audit", "--archive", str(tmp_path / "mistyped"), "--key", key)
    assert result.exit_code == 3
    assert result.stdout.splitlines()[-2:] == [
        "no tailer of env prod was found: are host, env, peer and archive right?",
        "unknown",
    ]


@pytest.mark.parametrize("command", [("grep", "error"), ("cat", "web1", "/log")])
def test_an_env_that_the_archive_alone_does_not_have_is_no_empty_answer(
    command: tuple[str, ...], tmp_path: Path, key: str
) -> None:
    (tmp_path / "archive").mkdir()
    result = run(*command, "--key", key, "--archive", str(tmp_path / "archive"), "--env", "wrong")
    assert result.exit_code == 2
    assert "nothing of env 'wrong' is in this archive" in result.output
