"""`porter key` and `porter certify`: what they print can be used, and what could not be is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from porter.commands import main
from protocol.errors import Refused
from protocol.trust import Trust, read_certificate, read_certificate_text

NODE = "ab" * 32


@pytest.fixture
def signer(tmp_path: Path) -> str:
    return str(tmp_path / "signer.key")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_a_certificate_lets_in_whom_it_names_while_it_is_good(signer: str) -> None:
    public = run("key", "--key", signer).stdout.split()[3]
    certified = (
        "certify",
        NODE,
        "--role",
        "tailer",
        "--role",
        "porter",
        "--host",
        "web*",
        "--days",
        "2",
        "--key",
        signer,
    )
    done = run(*certified)
    assert done.exit_code == 0, done.stderr
    data = read_certificate_text(done.stdout)
    trust = Trust.parse(f"signer {public} roles=tailer,buck")
    good_s = read_certificate(data).expires_s - 1
    grant = trust.grant(bytes.fromhex(NODE), data, "prod", good_s)
    assert (grant.roles, grant.fits_host(b"web1"), grant.fits_host(b"db1")) == (("tailer",), True, False)
    with pytest.raises(Refused, match="expired"):
        trust.grant(bytes.fromhex(NODE), data, "prod", good_s + 1)
    with pytest.raises(Refused, match="env"):
        trust.grant(bytes.fromhex(NODE), data, "staging", good_s)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((NODE, "--role", "king"), "say at least one of tailer"),
        ((NODE[:-2], "--role", "buck"), "no public key"),
        ((NODE, "--role", "buck", "--host", "[ab]"), "only * and ?"),
        ((NODE, "--role", "buck", "--days", "0"), "--days"),
        ((NODE,), "--role"),
    ],
)
def test_what_could_not_be_used_is_not_signed(words: tuple[str, ...], why: str, signer: str) -> None:
    done = run("certify", *words, "--key", signer)
    assert (done.exit_code, done.stdout) == (2, "")
    assert why in done.stderr
