"""A setting that can't be, in words for whoever wrote it: the validator's own speak of Python's types."""

from collections.abc import Mapping
from typing import Any

__all__ = ["in_words"]

SHOWN_MAX = 60  # characters of a value that are repeated
WORDS = {
    "tuple_type": 'is no list: write ["...", "..."]',
    "string_type": "is no text: put it in quotes",
    "bool_type": "is neither true nor false",
    "bool_parsing": "is neither true nor false",
    "int_type": "is no whole number",
    "int_parsing": "is no whole number",
    "int_from_float": "is no whole number",
    "literal_error": "is not {expected}",
    "greater_than_equal": "is less than {ge}",
    "less_than_equal": "is more than {le}",
    "string_too_long": "is longer than {max_length} characters",
    "model_type": "is no table",
}


def in_words(mistake: Mapping[str, Any]) -> str:
    """One of pydantic's `errors()`: the value, and what is wrong with it. Our own validators say both themselves."""
    words = WORDS.get(mistake["type"])
    if words is None:
        return str(mistake["msg"]).removeprefix("Value error, ")
    value = repr(mistake["input"])
    shown = value if len(value) <= SHOWN_MAX else value[:SHOWN_MAX] + "..."
    return f"{shown} {words.format(**mistake.get('ctx', {}))}"
