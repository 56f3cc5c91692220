"""Our own logs: one object a line, or plain text for a person."""

import io
import json

import pytest

from service import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restore():
    before = log._sink
    yield
    log._sink = before


def test_a_line_is_an_object_with_its_fields():
    out = io.StringIO()
    log.setup(stream=out, time_ns=lambda: 1_700_000_000_123_000_000)
    log.get_log("buck.node", node="ab").bind(peer="x").warning("a peer is gone", count=3, path=b"/\xc3\xa9\n\xff")
    assert json.loads(out.getvalue()) == {
        "time": "2023-11-14T22:13:20.123+00:00",
        "level": "warning",
        "part": "buck.node",
        "event": "a peer is gone",
        "node": "ab",
        "peer": "x",
        "count": 3,
        "path": "/é\\n\\xff",
    }
    assert out.getvalue().count("\n") == 1


def test_a_terminal_gets_plain_text():
    out = Terminal()
    log.setup(stream=out, time_ns=lambda: 1_700_000_000_123_000_000)
    log.get_log("buck.node").info("up", path="a\nb")
    assert out.getvalue() == "22:13:20.123 info    buck.node: up  path=a\\nb\n"


def test_what_is_below_the_level_is_not_said():
    out = io.StringIO()
    log.setup("warning", out)
    log.get_log("x").info("no")
    log.get_log("x").debug("no")
    log.get_log("x").error("yes")
    assert out.getvalue().count("\n") == 1


def test_a_closed_stderr_stops_nothing():
    out = io.StringIO()
    log.setup(stream=out)
    out.close()
    log.get_log("x").error("nobody hears")
