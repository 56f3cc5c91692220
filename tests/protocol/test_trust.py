"""The list of keys: what each line lets in, that no mistake in it lets in anybody, and certificates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import FormatError, Refused
from protocol.identity import NodeKey
from protocol.trust import (
    Certificate,
    Trust,
    certificate_text,
    read_certificate,
    read_certificate_text,
)

NODE, SIGNER, OTHER = (NodeKey.from_seed(bytes([n]) * 32) for n in (1, 2, 3))
P, S = NODE.public.hex(), SIGNER.public.hex()
NOW = 1_800_000_000


def certificate(**changes: object) -> bytes:
    fields = {"version": 1, "env": "prod", "public": NODE.public, "signer": SIGNER.public}
    fields |= {"roles": ("tailer",), "hosts": ("web*",), "expires_s": NOW + 60, **changes}
    return Certificate(**fields).encode(SIGNER)  # type: ignore[arg-type]  # by name


def test_a_line_says_what_a_key_may_be_and_where() -> None:
    trust = Trust.parse(f"# who is who\n\nkey {P} roles=tailer,porter hosts=web*,db1 the shop, since=May\n")
    grant = trust.grant(NODE.public, b"", "prod", NOW)
    assert grant.fits("tailer", b"web17")
    assert grant.fits("porter", b"db1")
    assert not grant.fits("buck", b"web17")
    assert not grant.fits("tailer", b"db17")
    assert not grant.fits("tailer", b"a web17")


def test_without_hosts_any_host_will_do() -> None:
    assert Trust.parse(f"key {P} roles=buck").grant(NODE.public, b"", "prod", NOW).fits("buck", b"\xff\xfe")


def test_A1_a_key_in_no_line_is_refused() -> None:
    with pytest.raises(Refused, match="in no line") as caught:
        Trust.parse(f"key {S} roles=buck").grant(NODE.public, b"", "prod", NOW)
    assert caught.value.reason == "security"


def test_a_revoked_key_is_refused_even_with_a_certificate() -> None:
    trust = Trust.parse(f"signer {S} roles=tailer\nrevoked {P} stolen")
    with pytest.raises(Refused, match="revoked"):
        trust.grant(NODE.public, certificate(), "prod", NOW)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (f"kez {P} roles=buck", "none of key, signer, revoked"),
        ("key", "no public key"),
        (f"key {P[:-1]} roles=buck", "no public key"),
        (f"key {P}aa roles=buck", "no public key"),
        (f"key {P}", "at least one of"),
        (f"key {P} roles=", "at least one of"),
        (f"key {P} roles=buck,tailor", "tailor"),
        (f"key {P} role=buck", "only one roles="),
        (f"key {P} roles=buck roles=admin", "only one roles="),
        (f"key {P} roles=buck hosts=", "empty pattern"),
        (f"key {P} roles=buck hosts=web[12]", "only"),
        (f"key {P} roles=buck\nrevoked {P}", "line 2: this key has a line already"),
    ],
)
def test_a_mistake_in_the_list_is_an_error_with_its_line(line: str, why: str) -> None:
    with pytest.raises(FormatError, match=why) as caught:
        Trust.parse(line)
    assert str(caught.value).startswith("line ")


@given(st.text(max_size=200))
def test_any_text_is_a_list_or_a_format_error(text: str) -> None:
    try:
        trust = Trust.parse(text)
    except FormatError:
        return
    assert not trust.keys
    assert not trust.signers


@pytest.mark.parametrize("line", ["{0}", "key {0}", "{0} roles=buck", "key {0} roles=buck", "certificate {0}"])
def test_A36_a_secret_in_the_wrong_file_is_not_in_the_error(line: str) -> None:
    for secret in ("3f" * 31, "correct-horse-battery"):
        with pytest.raises(FormatError) as caught:
            Trust.parse(line.format(secret))
        assert secret[:9] not in str(caught.value)


def test_a_certificate_lends_what_its_signer_may_lend() -> None:
    trust = Trust.parse(f"signer {S} roles=tailer,buck hosts=*.shop")
    grant = trust.grant(NODE.public, certificate(roles=("tailer", "admin")), "prod", NOW)
    assert grant.roles == ("tailer",)
    assert grant.fits_host(b"web1.shop")
    assert not grant.fits_host(b"web1.office")  # the signer's reach
    assert not grant.fits_host(b"db1.shop")  # the certificate's own


def test_a_node_may_be_let_in_by_line_and_certificate_at_once_and_the_line_counts() -> None:
    trust = Trust.parse(f"signer {S} roles=tailer\nkey {P} roles=buck")
    assert trust.grant(NODE.public, certificate(), "prod", NOW).roles == ("buck",)


@pytest.mark.parametrize(
    ("lines", "changes", "env", "why"),
    [
        (f"signer {P} roles=tailer", {}, "prod", "signer"),
        (f"signer {S} roles=tailer\nrevoked {OTHER.public.hex()}", {"public": OTHER.public}, "prod", "another key"),
        (f"revoked {S}", {}, "prod", "revoked"),
        (f"signer {S} roles=tailer", {}, "staging", "env"),
        (f"signer {S} roles=tailer", {"expires_s": NOW}, "prod", "expired"),
    ],
)
def test_a_certificate_that_does_not_fit_is_refused(lines: str, changes: dict, env: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        Trust.parse(lines).grant(NODE.public, certificate(**changes), env, NOW)


def test_A38_a_clock_in_1970_lets_in_keys_and_certificates_alike() -> None:
    assert Trust.parse(f"signer {S} roles=tailer").grant(NODE.public, certificate(), "prod", 0.0).roles == ("tailer",)
    assert Trust.parse(f"key {P} roles=tailer").grant(NODE.public, b"", "prod", 0.0).roles == ("tailer",)


def test_every_changed_bit_of_a_certificate_spoils_it() -> None:
    trust, good = Trust.parse(f"signer {S} roles=tailer"), certificate()
    for at in range(8 * len(good)):
        bad = bytearray(good)
        bad[at // 8] ^= 1 << at % 8
        with pytest.raises(Refused):
            trust.grant(NODE.public, bytes(bad), "prod", NOW)


def test_a_certificate_as_text_reads_back_and_nothing_else_does() -> None:
    text = certificate_text(certificate()) + "\n"
    assert text.count("\n") == 1
    assert read_certificate(read_certificate_text(text)).public == NODE.public
    for wrong in ("", "buck-certificate", "buck-certificate ä", text + text, "x" + text, text.replace("A", "B", 1)):
        with pytest.raises(FormatError):
            read_certificate_text(wrong)


def test_only_the_signer_can_sign() -> None:
    with pytest.raises(FormatError, match="signed by the signer"):
        Certificate(1, "prod", NODE.public, OTHER.public, ("tailer",), ("*",), NOW).encode(SIGNER)


def test_a_certificate_that_would_not_travel_is_not_made() -> None:
    with pytest.raises(FormatError, match="at most"):
        certificate(hosts=tuple("h" * 200 + str(n) for n in range(6)))
