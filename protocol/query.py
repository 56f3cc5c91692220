"""The one query language: read once, then run as a test of each line; and what a search can be narrowed by.

    query  := all ("OR" all)*                    the weakest
    all    := one+                               side by side, or with "AND" between: all of them
    one    := ("-" | "NOT") one | "(" query ")" | term
    term   := word | word* | *word | "a phrase" | i:word | i:"a phrase" | /regex/ | /regex/i
            | host:pattern | app:pattern | path:pattern         a pattern may hold * and may be quoted
            | from:time | to:time                               not inside OR, brackets or after "-"

A time is `2026-11-22`, `2026-11-22T08:30`, with seconds and a fraction, with Z or +02:00 (UTC if nothing is said), or
how long ago: `90s`, `15m`, `2h`, `7d`, or `now`. `to:` takes in all of the day, minute or second that it names. In
quotes `\\"` and `\\\\` stand for themselves; so does `\\/` in a regex. An empty query, or `*`, finds everything.

Wherever a query runs (live, grep, an index, Parquet), a backend may give more than was asked: `predicate` has the
last word on each line, so they all agree. terms.py says exactly what matches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from protocol import limits
from protocol.errors import QueryError
from protocol.lexer import Token, tokens
from protocol.terms import Literal, Term, Test, field, glob, phrase, regex, span
from protocol.when import interval


class Fields(NamedTuple):
    """What every match fulfils, for pruning: patterns for glob, and points [start, end) where they are known."""

    host: tuple[bytes, ...] = ()
    app: tuple[bytes, ...] = ()
    path: tuple[bytes, ...] = ()
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A query that was read. Made by parse."""

    text: str
    fields: Fields
    _test: Test
    _literals: tuple[Literal, ...]
    only_fields: bool = False  # whatever `fields` admits matches

    def predicate(self) -> Test:
        """The test of one line: predicate(line, host, app, path, point)."""
        return self._test

    def needle(self) -> bytes | None:
        """The longest literal that each match contains just so; None if there is none."""
        return max((text for text, folded in self._literals if not folded), key=len, default=None)

    def folded_needle(self) -> bytes | None:
        """The longest literal, lower case, that each match contains in whatever case; never shorter than needle."""
        return max((text.lower() for text, _ in self._literals), key=len, default=None)

    def admits(self, *, host: bytes | None = None, path: bytes | None = None, app: bytes | None = None) -> bool:
        """Can anything of this host, path, app match? What is None is not known, and so no hindrance."""
        asked = ((host, self.fields.host), (path, self.fields.path), (app, self.fields.app))
        return all(glob(pattern)(value) for value, patterns in asked if value is not None for pattern in patterns)

    def admits_points(self, low: int, high: int) -> bool:
        """Can anything with points low..high (both included) match?"""
        start, end = self.fields.start, self.fields.end
        return (start is None or high >= start) and (end is None or low < end)


def parse(text: str, now_ns: int | None = None) -> Query:
    """Read a query; QueryError says what is wrong and where. `now_ns` is what relative times are counted from."""
    if len(text) > limits.QUERY_MAX:
        raise QueryError(f"a query of {len(text)} characters: at most {limits.QUERY_MAX}", limits.QUERY_MAX)
    node = _Reader(text, now_ns).read()
    return Query(text, node.fields, node.test, node.literals, node.only_fields)


class _Node(NamedTuple):
    """What a part of a query amounts to. `fields` and `literals` hold for every match of it."""

    test: Test
    literals: tuple[Literal, ...] = ()
    fields: Fields = Fields()
    only_fields: bool = False  # `fields` say all that is asked


class _Reader:
    """Reads one query from left to right; a method for each line of the grammar."""

    def __init__(self, text: str, now_ns: int | None) -> None:
        self._now_ns = now_ns
        self._tokens = tokens(text)
        self._at = 0
        self._depth = 0  # brackets and negations around here: from: and to: may stand at 0 only
        self._alternatives = False  # is there an OR at depth 0?
        self._time: Token | None = None  # the first from: or to:

    def read(self) -> _Node:
        """The whole query."""
        node = self._any()
        token = self._tokens[self._at]
        if token.kind != "end":
            raise QueryError("this bracket closes none", token.position)
        if self._time and self._alternatives:
            raise QueryError("from: and to: hold for the whole query and can't stand beside OR", self._time.position)
        return node

    def _any(self) -> _Node:
        begin = self._at
        nodes = [self._all()]
        while self._tokens[self._at].kind == "OR":
            if self._at == begin:
                raise QueryError("nothing stands before OR", self._tokens[self._at].position)
            self._alternatives = self._alternatives or not self._depth
            self._at += 1
            if self._tokens[self._at].kind in ("OR", ")", "end"):
                raise QueryError("nothing stands behind OR", self._tokens[self._at].position)
            nodes.append(self._all())
        return nodes[0] if len(nodes) == 1 else _either(nodes)

    def _all(self) -> _Node:
        nodes: list[_Node] = []
        while (token := self._tokens[self._at]).kind not in ("end", ")", "OR"):
            if token.kind == "AND":
                if not nodes:
                    raise QueryError("nothing stands before AND", token.position)
                self._at += 1
            nodes.append(self._one())
        return _both(nodes)

    def _one(self) -> _Node:
        token = self._tokens[self._at]
        if token.kind not in ("NOT", "("):
            return self._term(token)
        self._at += 1
        self._depth += 1
        if self._depth > limits.QUERY_DEPTH_MAX:
            raise QueryError(f"nested deeper than {limits.QUERY_DEPTH_MAX}", token.position)
        if token.kind == "NOT":
            node = _not(self._one())
        else:
            if self._tokens[self._at].kind == ")":
                raise QueryError("nothing stands in these brackets", self._tokens[self._at].position)
            node = self._any()
            if self._tokens[self._at].kind != ")":
                raise QueryError("this bracket is never closed", token.position)
            self._at += 1
        self._depth -= 1
        return node

    def _term(self, token: Token) -> _Node:
        self._at += 1
        if token.kind in ("from", "to"):
            return self._span(token)
        if token.kind in ("host", "app", "path"):
            pattern = token.text.encode()
            known = [(pattern,) if kind == token.kind else () for kind in ("host", "app", "path")]
            return _Node(field(token.kind, pattern).test, (), Fields(known[0], known[1], known[2]), True)
        if token.kind in ("regex", "folded regex"):
            return _of(regex(token.text, token.kind != "regex", token.position))
        if token.kind in ("phrase", "folded phrase"):
            if not token.text:
                raise QueryError("an empty phrase", token.position)
            return _of(phrase(token.text.encode(), fold=token.kind != "phrase"))
        if token.kind in ("word", "folded word"):
            return _word(token)
        raise QueryError("something to look for is missing", token.position)

    def _span(self, token: Token) -> _Node:
        if self._depth:
            text = f"{token.kind}: holds for the whole query and can't stand in brackets or be negated"
            raise QueryError(text, token.position)
        self._time = self._time or token
        start, end = interval(token.text, self._now_ns, token.position)
        if token.kind == "from":
            return _Node(span(start, None).test, (), Fields(start=start), True)
        return _Node(span(None, end).test, (), Fields(end=end), True)


def _word(token: Token) -> _Node:
    """A word, which may be open at either side."""
    text = token.text.strip("*")
    if not text:
        return _EVERYTHING
    if "*" in text:
        raise QueryError("a word can have * at its ends only; inside, write a /regex/", token.position)
    left, right = token.text.startswith("*"), token.text.endswith("*")
    return _of(phrase(text.encode(), fold=token.kind != "word", open_left=left, open_right=right))


def _of(term: Term) -> _Node:
    return _Node(term.test, () if term.literal is None else (term.literal,))


def _everything(line: bytes, host: bytes, app: bytes, path: bytes, point: int) -> bool:
    return True


_EVERYTHING = _Node(_everything, only_fields=True)


def _both(nodes: list[_Node]) -> _Node:
    nodes = [node for node in nodes if node is not _EVERYTHING]
    if len(nodes) < 2:
        return nodes[0] if nodes else _EVERYTHING
    tests = tuple(node.test for node in nodes)

    def test(line: bytes, host: bytes, app: bytes, path: bytes, point: int) -> bool:
        return all(each(line, host, app, path, point) for each in tests)

    literals = sum((node.literals for node in nodes), ())
    return _Node(test, literals, _meet([node.fields for node in nodes]), all(node.only_fields for node in nodes))


def _meet(parts: list[Fields]) -> Fields:
    starts = [part.start for part in parts if part.start is not None]
    ends = [part.end for part in parts if part.end is not None]
    return Fields(
        sum((part.host for part in parts), ()),
        sum((part.app for part in parts), ()),
        sum((part.path for part in parts), ()),
        max(starts, default=None),
        min(ends, default=None),
    )


def _either(nodes: list[_Node]) -> _Node:
    tests = tuple(node.test for node in nodes)

    def test(line: bytes, host: bytes, app: bytes, path: bytes, point: int) -> bool:
        return any(each(line, host, app, path, point) for each in tests)

    shared = set(nodes[0].literals).intersection(*(node.literals for node in nodes[1:]))
    return _Node(test, tuple(sorted(shared)))


def _not(node: _Node) -> _Node:
    inner = node.test

    def test(line: bytes, host: bytes, app: bytes, path: bytes, point: int) -> bool:
        return not inner(line, host, app, path, point)

    return _Node(test)
