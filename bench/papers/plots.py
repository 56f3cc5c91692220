"""How every plot looks: readable in print, in grey and for the colour-blind; the same system always looks the same."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# A system without some fonts of formulas, which no plot here uses, is no news.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

WIDE, HIGH = 6.4, 3.4  # inches
# Okabe and Ito, "Color Universal Design" (2008): told apart by all kinds of colour blindness.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


class Look(NamedTuple):
    """What a line of a system is drawn with: colour, dashes and mark all differ, so that any one of them will do."""

    colour: str
    dashes: str
    mark: str


LOOKS = {
    "buck": Look(COLOURS[0], "-", "o"),
    "kafka": Look(COLOURS[1], "--", "s"),
    "nats": Look(COLOURS[2], "-.", "^"),
    "rsyslog": Look(COLOURS[3], ":", "D"),
}
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "buck",  # the same figures give the same file
    "svg.fonttype": "none",  # text stays text
}


def look(system: str, turn: int = 0) -> Look:
    """Of a system; `turn` tells its variants apart."""
    if system in LOOKS and turn == 0:
        return LOOKS[system]
    dashes, marks = ["-", "--", "-.", ":"], ["v", "P", "X", "*", "<", ">"]
    colour = LOOKS[system].colour if system in LOOKS else COLOURS[(4 + turn) % len(COLOURS)]
    return Look(colour, dashes[(turn + 1) % len(dashes)], marks[turn % len(marks)])


def sheet(
    rows: int = 1, columns: int = 1, *, high: float = HIGH, wide: float = WIDE, share_x: bool = False
) -> tuple[Figure, list[Axes]]:
    """An empty figure with so many axes, row by row."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(wide, high), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False, sharex=share_x)
    return figure, [one for row in axes for one in row]


def save(figure: Figure, base: Path) -> Path:
    """As SVG and as PNG; the path without either ending."""
    base.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure.savefig(base.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(base.with_suffix(".png"), dpi=160)
    return base
