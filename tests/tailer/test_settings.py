"""What a tailer can be told, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from protocol.packet import Class
from service.config import ConfigError, load
from tailer.commands import main
from tailer.settings import TailerSettings


def settings(**flags: Any) -> TailerSettings:
    return load(TailerSettings, flags, environ={})


@pytest.mark.parametrize(
    ("flags", "begin"),
    [
        ({}, "recent"),
        ({"from_": "head"}, "head"),
        ({"from_": "end"}, "end"),
        ({"once": True}, "head"),
        ({"goodbye": True}, "recent"),
        ({"backfill": True}, "head"),
        ({"backfill": True, "from_": "end"}, "end"),
    ],
)
def test_where_reading_begins(flags: dict[str, Any], begin: str) -> None:
    assert settings(**flags).begin == begin


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"once": True, "from_": "end"}, "contradicts"),
        ({"once": True, "goodbye": True}, "leave --goodbye out"),
        ({"to": ("far.example:7000",)}, "--insecure"),
        ({"to": ("nowhere",)}, "HOST:PORT"),
        ({"open_files": "1"}, "open-files"),
        ({"patience": "soon"}, "duration"),
        ({"host": "h" * 256}, "at most 255 bytes"),
        ({"journal": ""}, "is a variable empty"),
    ],
)
def test_mistakes_are_told(flags: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        settings(**flags)


def test_a_key_is_kept_beside_its_journal() -> None:
    assert settings(journal="/var/lib/x/").key_path == "/var/lib/x.key"
    assert settings(journal="/j", key="/k").key_path == "/k"


def test_relative_patterns_are_meant_in_the_current_folder_and_bare_exclusions_anywhere() -> None:
    found = settings(files=("*.log", "/b/*"), exclude=("*.gz", "x/y"))
    assert [glob.text for glob in found.globs(b"/here")] == [b"/here/*.log", b"/b/*"]
    gz, folder = found.excluded(b"/here")
    assert gz.fits(b"/any/where/a.gz")
    assert folder.fits(b"/here/x/y/z.log")
    assert not folder.fits(b"/x/y/z.log")


def test_the_first_class_rule_that_fits_counts(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(
        '[[classes]]\npath = "/audit/**"\ncopies = 3\nsync = "packet"\n[[classes]]\npath = "/**"\nresend = false\n'
    )
    kinds = load(TailerSettings, {}, str(tmp_path / "t.toml"), environ={}).kinds(b"/", b"web1")
    assert kinds(b"/audit/a/b") == Class(3, True, True)
    assert kinds(b"/other") == Class(2, False, False)
    assert settings().kinds(b"/", b"web1")(b"/x") == Class()


def test_an_unknown_key_is_an_error_with_what_was_meant(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text("jurnal = '/j'\n")
    with pytest.raises(ConfigError, match="did you mean journal"):
        load(TailerSettings, {}, str(tmp_path / "t.toml"), environ={})


def test_the_command_line_refuses_without_a_traceback() -> None:
    found = CliRunner().invoke(main, ["run", "--once", "--from", "end", "x"])
    assert found.exit_code == 2
    assert "contradicts" in found.output


def test_key_prints_the_node_and_its_public_key_each_time_the_same(tmp_path: Path) -> None:
    said = [CliRunner().invoke(main, ["key", "--journal", str(tmp_path / "j")]) for _ in range(2)]
    assert said[0].exit_code == 0, said[0].output
    words = said[0].output.split()
    assert (words[0], len(words[1]), words[2], len(words[3])) == ("node", 32, "public", 64)
    assert said[0].output == said[1].output


def test_run_without_what_it_needs_is_a_configuration_error(tmp_path: Path) -> None:
    for arguments, why in ((["x"], "no buck"), (["--to", "127.0.0.1:1"], "no file pattern")):
        found = CliRunner().invoke(main, ["run", "--journal", str(tmp_path / "j"), *arguments])
        assert found.exit_code == 2, found.output
        assert why in found.output
