"""What each field of a message may be: small checkers between Python values and msgpack's.

A field's type says both what the program sees and what the wire carries:

    ask: Annotated[int, Number(32)]

A checker has `dump` (value -> what is packed) and `load` (what was unpacked -> value, or SchemaError). Loading
trusts nothing: a boolean is no number, text is no byte string, every length has a bound. Dumping checks nothing but
what must not leave us, because the peer checks it all again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from protocol.errors import FormatError
from protocol.limits import RANGES_MAX
from protocol.ranges import Ranges


class SchemaError(ValueError):
    """A field that is not what the schema says."""


class Field(Protocol):
    """One checker. `name` is what the documents call it."""

    name: str

    def dump(self, value: Any) -> object: ...

    def load(self, value: object) -> Any: ...


class Number:
    """An unsigned integer of so many bits, within bounds if they are narrower."""

    def __init__(self, bits: int, low: int = 0, high: int | None = None) -> None:
        self.low, self.high = low, (1 << bits) - 1 if high is None else high
        self.name = f"u{bits}" if high is None and not low else f"{self.low}..{self.high}"

    def dump(self, value: int) -> int:
        return value

    def load(self, value: object) -> int:
        if type(value) is not int or not self.low <= value <= self.high:
            raise SchemaError(f"must be a number in {self.low}..{self.high}")
        return value


class Flag:
    """True or false."""

    name = "flag"

    def dump(self, value: bool) -> bool:
        return value

    def load(self, value: object) -> bool:
        if type(value) is not bool:
            raise SchemaError("must be true or false")
        return value


class Blob:
    """A byte string; with one argument of exactly that length."""

    def __init__(self, low: int, high: int | None = None) -> None:
        self.low, self.high = low, low if high is None else high
        self.name = f"bytes {low}" if self.high == low else f"bytes {low}..{self.high}"

    def dump(self, value: bytes) -> bytes:
        return value

    def load(self, value: object) -> bytes:
        if type(value) is not bytes or not self.low <= len(value) <= self.high:
            raise SchemaError(f"must be {self.name}")
        return value


class Bulk(Blob):
    """A large byte string, the last field of its message: never copied on the way out, and a view on the way in."""


class Text:
    """UTF-8 text of at most so many bytes."""

    def __init__(self, high: int) -> None:
        self.high = high
        self.name = f"text 0..{high}"

    def dump(self, value: str) -> str:
        return value

    def load(self, value: object) -> str:
        if type(value) is not str or len(value.encode()) > self.high:
            raise SchemaError(f"must be {self.name}")
        return value


class Word:
    """One of a few words."""

    def __init__(self, what: str, words: Sequence[str]) -> None:
        self.words: Final = frozenset(words)
        self.name = what

    def dump(self, value: str) -> str:
        return value

    def load(self, value: object) -> str:
        if type(value) is not str or value not in self.words:
            raise SchemaError(f"must be a {self.name}, one of {', '.join(sorted(self.words))}")
        return value


class Set:
    """A set of integers, flat: [start, end, start, end, ...]."""

    name = f"ranges 0..{RANGES_MAX}"

    def dump(self, value: Ranges) -> list[int]:
        return value.flat()

    def load(self, value: object) -> Ranges:
        if type(value) is not tuple:
            raise SchemaError("must be a list of edges")
        try:
            result = Ranges.from_flat(value)
        except FormatError as error:
            raise SchemaError(str(error)) from error
        if result and not 0 <= result.first <= result.last < 1 << 64:
            raise SchemaError("a set beyond u64")
        return result


class Group:
    """A fixed number of fields, as a tuple or whatever `make` makes of them."""

    def __init__(self, *fields: Field, make: Callable[..., tuple[Any, ...]] | None = None) -> None:
        self.fields = fields
        self.make = make
        self.name = f"({', '.join(field.name for field in fields)})"

    def dump(self, value: tuple[Any, ...]) -> object:
        return [field.dump(member) for field, member in zip(self.fields, value, strict=True)]

    def load(self, value: object) -> tuple[Any, ...]:
        if type(value) is not tuple or len(value) != len(self.fields):
            raise SchemaError(f"must have {len(self.fields)} members")
        members = tuple([field.load(member) for field, member in zip(self.fields, value, strict=True)])
        return members if self.make is None else self.make(*members)


class Many:
    """A list of at most so many of one thing."""

    def __init__(self, field: Field, high: int) -> None:
        self.field, self.high = field, high
        self.name = f"list 0..{high} of {field.name}"

    def dump(self, value: Sequence[Any]) -> object:
        return [self.field.dump(member) for member in value]

    def load(self, value: object) -> tuple[Any, ...]:
        if type(value) is not tuple or len(value) > self.high:
            raise SchemaError(f"must be a list of at most {self.high}")
        load = self.field.load
        return tuple([load(member) for member in value])
