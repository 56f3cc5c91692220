"""`--keys FILE`: which keys are believed, and what is said of a file that has none."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from porter.commands import main
from porter.objects import FolderObjects
from porter.pinned import read_keys
from protocol.errors import FormatError
from service.machine import RealMachine
from tests.porter.fleet import ENV, node_key
from tests.porter.test_archived import one_hour

WEB, PORTER, OTHER = (node_key(name).public.hex() for name in ("web1", "porter", "web2"))


def keys_of(folder: Path, text: str) -> frozenset[bytes]:
    (folder / "keys").write_text(text)
    return read_keys(RealMachine(), str(folder / "keys"))


def test_a_key_stands_anywhere_on_its_line_and_the_rest_is_for_people(tmp_path: Path) -> None:
    text = f"# who we are\n\n{WEB} web1  # in the cellar\ntailer {OTHER.upper()} web2\n"
    assert keys_of(tmp_path, text) == {bytes.fromhex(WEB), bytes.fromhex(OTHER)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no public key in it"),
        ("# nothing\n", "no public key in it"),
        (f"{WEB}\nweb2\n", "line 2: no public key"),
        (f"{WEB}ff\n", "line 1: no public key"),
        (f"{WEB[:-2]}\n", "line 1: no public key"),
    ],
)
def test_a_line_without_a_key_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        keys_of(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"keys: No such file"):
        read_keys(RealMachine(), str(tmp_path / "keys"))


def audit(folder: Path, keys: str) -> Result:
    """The command, on an archive alone."""
    (folder / "keys").write_text(keys)
    words = ["audit", "--archive", str(folder / "archive"), "--env", ENV, "--keys", str(folder / "keys")]
    return CliRunner().invoke(main, [*words, "--key", str(folder / "key")])


def test_an_audit_believes_only_keys_that_are_known(tmp_path: Path) -> None:
    trio.run(one_hour, FolderObjects(tmp_path / "archive"))
    result = audit(tmp_path, f"{WEB}\n{PORTER}\n")
    assert result.exit_code == 0, result.output
    result = audit(tmp_path, f"{WEB}\n{OTHER}\n")
    assert result.exit_code == 1
    assert f"22.v00.json: signed by {PORTER}, which is not among the known keys" in result.stdout
    result = audit(tmp_path, f"{OTHER}\n{PORTER}\n")
    assert result.exit_code == 1
    assert f"seal 0 of its footer: signed by {WEB}, which is not among the known keys" in result.stdout
    result = audit(tmp_path, "nonsense")
    assert result.exit_code == 1
    assert "line 1: no public key" in result.stderr
