"""What tests look at when they compare rows: all that a Rows shows, and what an archive would keep of it."""

from array import array
from typing import Any

import pytest
from hypothesis import strategies as st

from protocol import _kernel_py_out as twin
from tests.protocol.packets_by_hand import APP, HOST, OPEN, PART, PID, TIME, Made, Row

try:
    from protocol import _kernel as compiled
except ImportError:
    compiled = None  # type: ignore[assignment]  # no compiler here: the twin alone is tested

KERNELS = [pytest.param(twin, id="twin")]
if compiled is not None:
    KERNELS.append(pytest.param(compiled, id="compiled"))
VIEWS = [
    "starts",
    "text_sizes",
    "raw_sizes",
    "points",
    "offsets",
    "flags",
    "stream",
    "pid",
    "pri",
    "format",
    "shn",
    "app",
]
kernels = pytest.mark.parametrize("kernel", KERNELS)
seeds = st.integers(0, 2**32)


def shown(rows: Any) -> dict[str, Any]:
    """All that a Rows shows."""
    views = {name: getattr(rows, name) for name in VIEWS}
    return {
        **{name: (view.format, view.tolist()) for name, view in views.items()},
        **{name: getattr(rows, name) for name in ("count", "raw", "lines", "formats", "shn_names", "app_names")},
    }


def arrays(rows: Any) -> dict[str, Any]:
    """What an archive would keep of these rows."""

    def wide(name: str) -> "array[int]":
        return array("H", [65_535 if value == 255 else value for value in getattr(rows, name)])

    lines, line_offsets = rows.text()
    return {
        "points": array("Q", rows.points),
        "flags": bytes(rows.flags),
        "format": wide("format"),
        "formats": rows.formats,
        "shn": wide("shn"),
        "shn_names": rows.shn_names,
        "app": wide("app"),
        "app_names": rows.app_names,
        "pid": array("i", rows.pid),
        "pri": bytes(rows.pri),
        "lines": lines,
        "line_offsets": line_offsets,
        "offsets": array("q", rows.offsets),
        "stream": array("H", rows.stream),
    }


def good() -> dict[str, Any]:
    """Two lines of syslog, one of JSON, one without a time."""
    point = 1_644_451_263 * 10**8
    rows = [
        Row(b"started", TIME | HOST | APP | PID, 6, point, 1, 2, 77, 13),
        Row(b"stopped", TIME | HOST | APP | PID, 6, point + 10**8, 1, 2, 78, 14),
        Row(b'{"ts":""}', TIME, 4, point + 10**8),
        Row(b"more", OPEN | PART, 255, point + 10**8),
    ]
    return Made(rows, [(0, 2), (1, 2)]).arguments()
