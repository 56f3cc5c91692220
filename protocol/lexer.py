"""A query cut into tokens: what stands between blanks, brackets and quotes, and of what kind it is.

A word with a slash at each end is a regular expression, unless another slash stands inside (`/var/log/syslog` is a
word). `host:`, `app:`, `path:`, `from:`, `to:` and `i:` take what follows without a blank as their value; any other
colon is part of the word (`10:30`, `status:500`). OR, AND and NOT are what they say only in capitals.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from protocol.errors import QueryError
from protocol.limits import QUERY_TERMS_MAX

_TOKEN: Final = re.compile(
    r"""(?P<bracket>[()])
    | (?P<minus>-)(?=[^\s)])
    | /(?P<regex>(?:[^/\\]|\\.)+)/(?P<flag>i?)(?=[\s()]|$)
    | (?:(?P<key>host|app|path|from|to|i):)?(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>[^\s()"]+))""",
    re.VERBOSE | re.DOTALL,
)
_BLANK: Final = re.compile(r"\s*")
_WORDS: Final = frozenset(("OR", "AND", "NOT"))
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Token(NamedTuple):
    """`kind`: ( ) OR AND NOT end; word, phrase, regex, all three also "folded"; or the key that `text` is for."""

    kind: str
    text: str
    position: int


def tokens(text: str) -> list[Token]:
    """All tokens of a query, the last one an `end`. QueryError where there is none to be found."""
    if bad := _SURROGATE.search(text):
        raise QueryError("this is no character", bad.start())
    result = []
    at = _end_of_blank(text, 0)
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise QueryError("this quote is never closed", at)
        result.append(_token(match))
        if len(result) > QUERY_TERMS_MAX:
            raise QueryError(f"more than {QUERY_TERMS_MAX} terms", at)
        at = _end_of_blank(text, match.end())
    result.append(Token("end", "", len(text)))
    return result


def _end_of_blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match
    return match.end()


def _token(match: re.Match[str]) -> Token:
    at = match.start()
    if match["bracket"]:
        return Token(match["bracket"], "", at)
    if match["minus"]:
        return Token("NOT", "", at)
    if match["regex"]:
        return Token("folded regex" if match["flag"] else "regex", match["regex"].replace("\\/", "/"), at)
    key, quoted, word = match["key"], match["quoted"], match["word"]
    value = word if quoted is None else re.sub(r"\\([\"\\])", r"\1", quoted)
    if key and key != "i":
        return Token(key, value, at)
    if word in _WORDS and not key:
        return Token(word, "", at)
    kind = "word" if quoted is None else "phrase"
    return Token(f"folded {kind}" if key else kind, value, at)
