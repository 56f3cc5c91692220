"""Which class a line has: by the path of its file, and by the host and the application that the line itself names.

The first rule that fits counts. Where rules for a file ask for nothing but its path, all its lines have one class. Else
the file has a `Route`: the kernel reads what each line names anyway, and asks the route for the class of each pair of
names, once. A line that names no host has that of its tailer; one that names no application fits no rule that asks for
one; one without a time of its own (the rest of a stack trace) has the class of the line before it.
"""

import re
from collections.abc import Sequence
from fnmatch import translate
from typing import NamedTuple

from protocol.packet import Class
from tailer.inputs.files import Glob

# Names come from lines, so there may be any number: then what is known is forgotten.
NAMES_MAX = 4096


class Rule(NamedTuple):
    """Lines of these files, from these hosts and applications; None: of any."""

    path: Glob | None
    host: re.Pattern[bytes] | None
    app: re.Pattern[bytes] | None
    kind: Class


def names_like(pattern: str) -> re.Pattern[bytes]:
    """A pattern (`*`, `?`, `[...]`) for names, which may be any bytes."""
    return re.compile(translate(pattern).encode("utf-8", "surrogateescape"))


class Route(dict[tuple[bytes, bytes], int]):
    """(host, app) of a line -> its class as a code, worked out when it is first asked for."""

    def __init__(self, rules: Sequence[Rule], host: bytes) -> None:
        super().__init__()
        self.rules = rules
        self._host = host

    def __missing__(self, names: tuple[bytes, bytes]) -> int:
        if len(self) >= NAMES_MAX:
            self.clear()
        code = self[names] = self._kind(names[0] or self._host, names[1]).code()
        return code

    def _kind(self, host: bytes, app: bytes) -> Class:
        for rule in self.rules:
            if (rule.host is None or rule.host.match(host)) and (rule.app is None or (app and rule.app.match(app))):
                return rule.kind
        return Class()


class Kinds:
    """All rules, in their order. `host` is the tailer's."""

    def __init__(self, rules: Sequence[Rule] = (), host: bytes = b"") -> None:
        self._rules = rules
        self._host = host

    def __call__(self, path: bytes) -> Class:
        """The class of a file's lines where nothing else decides, and of what is said of the file as a whole."""
        code = self._route(path)[b"", b""]
        return Class.from_code(code)

    def route(self, path: bytes) -> Route | None:
        """How a file's lines are told apart; None where all have one class."""
        route = self._route(path)
        named = any(rule.host is not None or rule.app is not None for rule in route.rules)
        return route if named else None

    def _route(self, path: bytes) -> Route:
        return Route([rule for rule in self._rules if rule.path is None or rule.path.fits(path)], self._host)
