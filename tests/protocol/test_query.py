"""Queries: what matches, what a search may be narrowed by, and where a bad one goes wrong."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import limits, terms
from protocol.errors import QueryError
from protocol.query import Fields, parse
from protocol.terms import glob, required

LINE = b"Nov 22 08:30:01 web1 sshd[77]: Failed password for root from 10.0.0.1 port 22, errors=5 caf\xc3\xa9 /var/log/x"
POINT = 1_795_336_201 * limits.POINT_HZ  # 2026-11-22T08:30:01Z
NOW_NS = (POINT + 3_600 * limits.POINT_HZ) * 10


def matches(text: str, line: bytes = LINE, now_ns: int | None = NOW_NS) -> bool:
    return parse(text, now_ns).predicate()(line, b"web1.fra", b"sshd", b"/var/log/auth.log", POINT)


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "*", "Failed", "Fail*", "*word", "*asswor*", "fail* OR Fail*", '"password for root"', "10.0.0.1",
        "errors", "errors=5", "sshd[77]", "root port", "root AND port", "i:failed", 'i:"PASSWORD FOR"', "i:FAIL*",
        "-sshd2", "NOT sshd2", "root -(foo OR bar)", "foo OR root", "(foo OR root) port", "foo bar OR root port",
        "/port \\d+/", "/PORT \\d+/i", "/^Nov/", "/x$/", "/[[]77[]]/", "/var\\/log/", "/var/log/x", "café",
        "host:web1.fra",
        "host:web*", "host:*.fra", "host:w*1*a", "app:sshd", "path:/var/log/*", 'path:"/var/log/*"', "-host:db*",
        "from:2026-11-22", "to:2026-11-22", "from:2026-11-22T08:30 to:2026-11-22T08:30", "from:2026-11-22T08:30:01",
        "to:2026-11-22T08:30:01", "from:2026-11-22T09:30+01:00", "to:2026-11-22T08:30:01.0", "from:2h", "from:-2h",
        "from:2h to:now", "to:30m", "root from:1h", "--Failed",
    ],
)  # fmt: skip
def test_it_matches(text: str) -> None:
    assert matches(text)


@pytest.mark.parametrize(
    "text",
    [
        "failed", "Faile", "assword", "error", "*asswor", "oot*", '"password  for"', "root foo", "-root", "NOT root",
        "-(foo OR root)", "foo OR bar", "/PORT/", "/^root/", "i:faile", "caf", "host:web1", "host:WEB*", "app:ssh",
        "path:/var", "path:*.gz", "-host:web*", "from:2026-11-23", "to:2026-11-21", "to:2026-11-22T08:29",
        "from:2026-11-22T08:30:02", "to:2026-11-22T08:30:00.99", "from:2026-11-22T08:30:02Z", "from:10m", "to:2h",
        "or", "Failed and root",
    ],
)  # fmt: skip
def test_it_does_not_match(text: str) -> None:
    assert not matches(text)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("a OR", 4), ("OR a", 0), ("a OR OR b", 5), ("AND a", 0), ("a AND", 5), ("(a", 0), ("a)", 1), ("()", 1),
        ('a "b', 2), ('""', 0), ("a*b", 0), ("x from:yesterday", 2), ("from:2026-13-01", 0), ("from:1969-12-31", 0),
        ("a -", None),
        ("(from:1h)", 1), ("-from:1h", 1), ("a OR from:1h", 5), ("x /a(/", 2), ("x /(a)\\1/", 2), ("/(?=a)/", 0),
        ("/" + "a" * 1_100 + "/", 0), ("(" * 33 + "a" + ")" * 33, 32), ("a " * 257, 512), ("a" * 5_000, 4_096),
        ("-AND", 1),
        ("NOT", 3), ("\ud800", 0), ("from:99999999999d", 0), ("from:2026-11-22T08:30+99:00", 0),
        ("from:0001-01-01T00:00+23:00", 0),
    ],
)  # fmt: skip
def test_a_bad_query_says_where_it_goes_wrong(text: str, position: int | None) -> None:
    if position is None:
        assert not matches(text), "a dash by itself is a word"
        return
    with pytest.raises(QueryError) as caught:
        parse(text, NOW_NS)
    assert caught.value.position == position
    assert f"at character {position + 1}" in str(caught.value)


def test_a_relative_time_needs_a_clock() -> None:
    with pytest.raises(QueryError, match="relative to now"):
        parse("from:1h")
    assert parse("from:2026-11-22").fields.start == 1_795_305_600 * limits.POINT_HZ


@pytest.mark.parametrize(
    ("text", "needle", "folded"),
    [
        ("", None, None), ("a OR b", None, None), ("-abc", None, None), ("ab abc", b"abc", b"abc"),
        ("(x OR y) abc", b"abc", b"abc"),
        ("(abc x OR abc y)", b"abc", b"abc"), ("i:ABC xy", b"xy", b"abc"),
        ("/ab+c.*long one/", b"long one", b"long one"),
        ("/abc/i", None, None), ("/[[:digit:]]abc/", None, None),
        ("host:abc", None, None), ("Err*", b"Err", b"err"),
        ('"Two Words"', b"Two Words", b"two words"),
    ],
)  # fmt: skip
def test_the_needle_is_the_longest_literal_that_every_match_contains(
    text: str, needle: bytes | None, folded: bytes | None
) -> None:
    assert parse(text).needle() == needle
    assert parse(text).folded_needle() == folded


words = st.sampled_from(
    ["alpha", "beta", "Gamma", "i:BETA", "-alpha", "gam*", '"alpha beta"', "/al.ha/", "*a", "host:h*", "-/b/"]
)
texts = st.recursive(words, lambda inner: st.one_of(
    st.tuples(inner, inner).map(" ".join), st.tuples(inner, inner).map(" OR ".join), inner.map("({})".format),
    inner.map("-({})".format)), max_leaves=6)  # fmt: skip
lines = st.lists(st.sampled_from([b"alpha", b"beta", b"Gamma", b"gamma", b" ", b"_", b"."]), max_size=8).map(b"".join)


@given(texts, lines)
def test_no_match_lacks_the_needle(text: str, line: bytes) -> None:
    query = parse(text)
    if query.predicate()(line, b"host", b"", b"", 0):
        assert (query.needle() or b"") in line
        assert (query.folded_needle() or b"") in line.lower()
        assert query.admits(host=b"host", path=b"", app=b"")


@given(texts, lines)
def test_what_is_negated_matches_all_else(text: str, line: bytes) -> None:
    said, negated = parse(text).predicate(), parse(f"-({text})").predicate()
    assert said(line, b"host", b"", b"", 0) != negated(line, b"host", b"", b"", 0)


@given(st.text(alphabet=st.sampled_from('ab*() "\\/-:iORANDfromt2017d.'), max_size=25), lines)
def test_any_text_is_a_query_or_a_query_error(text: str, line: bytes) -> None:
    try:
        query = parse(text, NOW_NS)
    except QueryError:
        return
    query.predicate()(line, b"h", b"a", b"p", POINT)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # what `[[` may mean one day
@given(st.text(alphabet=st.sampled_from("ab.*+?[]^(){}|\\dx1,"), max_size=10), st.text(alphabet="abdx1", max_size=12))
def test_what_an_expression_requires_is_in_all_that_it_matches(pattern: str, line: str) -> None:
    try:
        found = re.search(pattern.encode(), line.encode())
    except re.error:
        return
    if found:
        assert required(pattern) in line


@pytest.mark.parametrize(
    ("pattern", "literal"),
    [
        ("abc+d", "abc"), ("ab?cde", "cde"), ("(abc)?de", "de"), ("(abc)de", "de"), ("a[bcd]ef", "ef"),
        ("foo|barbar", ""),
        ("\\d+ms", "ms"), ("a\\.b", "a.b"), ("abc{2}d", "ab"), ("abc{0}", "ab"), ("\\x41bc", ""), ("(?i)abc", ""),
        ("^abc$", "abc"), ("[]]xy", "xy"), ("[^]a]xy", "xy"), ("[\\]a]xy", "xy"), ("\\Qa.b\\E", ""), ("\\pLabc", ""),
    ],
)  # fmt: skip
def test_the_literal_of_an_expression_is_certain(pattern: str, literal: str) -> None:
    assert required(pattern) == literal


@given(st.text(alphabet="ab*", max_size=8), st.text(alphabet="ab", max_size=8))
def test_a_pattern_matches_as_the_expression_it_stands_for(pattern: str, value: str) -> None:
    wanted = re.fullmatch(pattern.replace("*", ".*"), value) is not None
    assert glob(pattern.encode())(value.encode()) == wanted


def test_fields_narrow_a_search_only_where_every_match_has_them() -> None:
    query = parse("host:web* app:sshd from:2026-11-22T08:30 to:2026-11-22T08:30 x")
    minute = 1_795_336_200 * limits.POINT_HZ
    assert query.fields == Fields((b"web*",), (b"sshd",), (), minute, minute + 60 * limits.POINT_HZ)
    assert query.admits(host=b"web9")
    assert not query.admits(host=b"db")
    assert not query.admits(app=b"cron", host=b"web9")
    assert query.admits_points(0, minute)
    assert not query.admits_points(0, minute - 1)
    assert not query.admits_points(minute + 60 * limits.POINT_HZ, 2**63)
    assert parse("host:a OR host:b").fields == parse("-host:a").fields == Fields()
    assert parse("host:a* host:*b").fields.host == (b"a*", b"*b")
    assert not parse("host:a* host:*b").admits(host=b"ac")


def test_without_the_linear_engine_expressions_still_work_within_tighter_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(terms, "re2", None)
    assert matches("/port \\d+/")
    assert matches("/PORT/i")
    assert not matches("/PORT/")
    with pytest.raises(QueryError, match="at most 256"):
        parse(f"/{'a' * 257}/")
    with pytest.raises(QueryError, match="not a regular expression"):
        parse("/a(/")


@pytest.mark.skipif(terms.re2 is None, reason="google-re2 is not installed")
def test_an_expression_that_takes_others_for_ever_takes_linear_time() -> None:
    assert not matches("/(a+)+$/", b"a" * 50_000 + b"b")


def test_bytes_that_are_no_text_are_searched_all_the_same() -> None:
    line = b"\x00\xff\xfe broken \xc3 bytes"
    assert matches("broken", line)
    assert matches("/broken . bytes/", line)
    assert not matches("broke", line)
