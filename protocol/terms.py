"""The single conditions of a query, each as a test of one line, and what literal a match must contain.

A word matches as a whole word: `error` is found in `an error.` and not in `errors` (`error*` finds both). Word bytes
are letters, digits, `_` and everything beyond ASCII, as in Event v1. A phrase is the same with any bytes inside. Case
counts, unless `i:` stands before; folding is that of ASCII. A pattern compares a whole field, `*` standing for
anything. A regular expression is looked for anywhere in the line, byte by byte.

Expressions come from users, so they run on RE2, which takes linear time, where it is installed; else on the standard
library's engine with a shorter limit and without what RE2 has not (back references, looking around), so that a query
means the same on both.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from protocol.errors import QueryError
from protocol.limits import REGEX_MAX

try:
    import re2
except ImportError:  # an optional extra: porters have it, tailers and bucks need none
    re2 = None

LINEAR: Final = re2 is not None  # does every expression end in time linear in the line?

Test: TypeAlias = Callable[[bytes, bytes, bytes, bytes, int], bool]  # line, host, app, path, point

_IS_WORD: Final = bytes((chr(c).isascii() and chr(c).isalnum()) or c == 0x5F or c >= 0x80 for c in range(256))
PLAIN_REGEX_MAX: Final = 256  # characters, on the engine that may take exponential time
_NOT_LINEAR: Final = re.compile(r"\(\?(?:[=!]|<[=!]|P=|\()|\\[1-9]")


class Literal(NamedTuple):
    """Bytes that every match contains, perhaps in other case."""

    text: bytes
    folded: bool = False


class Term(NamedTuple):
    """One condition."""

    test: Test
    literal: Literal | None = None  # None: nothing is known


def phrase(text: bytes, *, fold: bool = False, open_left: bool = False, open_right: bool = False) -> Term:
    """`text` as whole words; on an open side the word may go on."""
    wanted = text.lower() if fold else text
    size = len(wanted)
    left = not open_left and bool(_IS_WORD[wanted[0]])  # no boundary is asked for beside what is no word itself
    right = not open_right and bool(_IS_WORD[wanted[-1]])

    def test(line: bytes, host: bytes, app: bytes, path: bytes, point: int) -> bool:
        if fold:
            line = line.lower()
        at = line.find(wanted)
        while at >= 0:
            end = at + size
            if not (left and at and _IS_WORD[line[at - 1]]) and not (right and end < len(line) and _IS_WORD[line[end]]):
                return True
            at = line.find(wanted, at + 1)
        return False

    return Term(test, Literal(wanted, fold))


def glob(pattern: bytes) -> Callable[[bytes], bool]:
    """A test of a whole value against a pattern with `*`. Linear: each piece is taken where it first fits."""
    if b"*" not in pattern:
        return pattern.__eq__
    first, *middle, last = pattern.split(b"*")

    def test(value: bytes) -> bool:
        if len(value) < len(first) + len(last) or not value.startswith(first) or not value.endswith(last):
            return False
        at, end = len(first), len(value) - len(last)
        for piece in middle:
            at = value.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True

    return test


def field(name: str, pattern: bytes) -> Term:
    """`host:`, `app:` or `path:` against a pattern."""
    matches = glob(pattern)

    def host_test(line: bytes, host: bytes, app: bytes, path: bytes, point: int) -> bool:
        return matches(host)

    def app_test(line: bytes, host: bytes, app: bytes, path: bytes, point: int) -> bool:
        return matches(app)

    def path_test(line: bytes, host: bytes, app: bytes, path: bytes, point: int) -> bool:
        return matches(path)

    return Term({"host": host_test, "app": app_test, "path": path_test}[name])


def span(start: int | None, end: int | None) -> Term:
    """Points in [start, end); None is open."""
    low = 0 if start is None else start
    high = 1 << 64 if end is None else end

    def test(line: bytes, host: bytes, app: bytes, path: bytes, point: int) -> bool:
        return low <= point < high

    return Term(test)


def regex(text: str, fold: bool, position: int) -> Term:
    """A regular expression, found anywhere in the line; QueryError if it is none, or more than we run."""
    bound = REGEX_MAX if re2 else PLAIN_REGEX_MAX
    if len(text) > bound:
        raise QueryError(f"a regular expression of {len(text)} characters: at most {bound}", position)
    if _NOT_LINEAR.search(text):
        raise QueryError("a regular expression can't refer back or look around", position)
    search = (_linear if re2 else _plain)(text.encode(), fold, position)

    def test(line: bytes, host: bytes, app: bytes, path: bytes, point: int) -> bool:
        return search(line) is not None

    text_found = "" if fold else required(text)
    return Term(test, Literal(text_found.encode()) if text_found else None)


def _plain(pattern: bytes, fold: bool, position: int) -> Callable[[bytes], Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about what `[[` may mean one day: not for who searches
            return re.compile(pattern, re.IGNORECASE if fold else 0).search
    except (re.error, RecursionError, OverflowError) as error:
        raise QueryError(f"not a regular expression: {error}", position) from error


def _linear(pattern: bytes, fold: bool, position: int) -> Callable[[bytes], Any]:
    options = re2.Options()
    options.log_errors = False
    options.encoding = re2.Options.Encoding.LATIN1  # a byte is a character: lines need not be UTF-8
    options.case_sensitive = not fold
    try:
        search: Callable[[bytes], Any] = re2.compile(pattern, options).search
    except re2.error as error:
        raise QueryError(f"not a regular expression: {_said(error)}", position) from error
    return search


def _said(error: Exception) -> str:
    """The library's own words, which it gives as bytes."""
    text = error.args[0] if error.args else ""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


_BREAKS: Final = frozenset("bBdDsSwWAzZtnrfv")  # escapes that stand for something else than themselves
_REPEATS: Final = frozenset("*?{")


def required(text: str) -> str:
    """The longest literal that each match of a regular expression contains; empty if none is certain.

    Careful rather than clever: whatever it does not know for sure ends a literal or gives up altogether.
    """
    if "(?" in text or "|" in text or "[:" in text:
        return ""
    best = run = ""
    depth = at = 0
    while at < len(text):
        char, size, literal = text[at], 1, False
        if char == "\\":
            char, size = text[at + 1 : at + 2], 2
            literal = not char.isalnum()
            if not literal and char not in _BREAKS:
                return ""
        elif char == "[":
            size = _class_size(text, at)
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif char in "{":
            size = max(text.find("}", at) - at + 1, 1)
        else:
            literal = char not in "*+?.^$}"
        at += size
        repeated = text[at : at + 1]
        if literal and depth == 0 and repeated not in _REPEATS:
            run += char
            if repeated != "+":
                best = max(best, run, key=len)
                continue
        best = max(best, run, key=len)
        run = ""
    return best


def _class_size(text: str, at: int) -> int:
    """How many characters the class that begins at `at` takes: to its `]`, which may be escaped or come first."""
    end = at + 1
    if text[end : end + 1] == "^":
        end += 1
    if text[end : end + 1] == "]":
        end += 1
    while end < len(text) and text[end] != "]":
        end += 2 if text[end] == "\\" else 1
    return end + 1 - at
