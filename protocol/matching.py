"""Which rows of a block may match a query, found in its columns, before any line is rendered.

Bucks (live) and porters (grep) look the same way: the longest literal that each match must contain is looked for by the
kernel; the query's own predicate has the last word on each row that is left. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol.kernel import Rows
from protocol.query import Query


def candidates(query: Query, rows: Rows) -> Sequence[int]:
    """The rows that may match, in order."""
    needle, folded = query.needle(), query.folded_needle()
    if needle and folded and len(folded) <= len(needle):
        return rows.find(needle)
    if folded:
        return rows.find(folded, True)
    return range(rows.count)


def without_end(line: bytes) -> bytes:
    """A line as a predicate sees it."""
    return line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line


def name(names: Sequence[bytes], index: int) -> bytes:
    """What a column of names says; empty where it says nothing."""
    return names[index] if index < len(names) else b""
