"""A paper as Markdown: its text, written by hand, with places that the figures of a run are put into.

`{{name}}` stands for a value, a table or a plot of that name. A place that nothing fills is an error: no result in a
text is typed by hand. What could not be measured is said at its place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from bench.measure import Spread
from bench.papers import plots
from bench.papers.results import Results

TEXT = Path(__file__).parent / "text"
PLACE = re.compile(r"\{\{([^{}]+)\}\}")


class Page:
    """What is put into the text of one paper."""

    def __init__(self, paper: int, results: Results) -> None:
        self.paper, self.results = paper, results
        self._parts: dict[str, str] = {}
        self._plots: dict[str, tuple[Figure, str]] = {}

    def value(self, name: str, text: str) -> None:
        """A figure in the midst of a sentence, with its unit."""
        self._take(name)
        self._parts[name] = text

    def table(self, name: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Cells are Markdown; `cell` makes one of a spread."""
        self._take(name)
        lines = [header, ["---"] * len(header), *rows]
        if wrong := [row for row in rows if len(row) != len(header)]:
            raise ValueError(f"table {name}: {len(header)} columns, but a row is {wrong[0]}")
        self._parts[name] = "\n".join(
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
        )

    def plot(self, name: str, figure: Figure, caption: str) -> None:
        """Kept as SVG and PNG beside the results. The caption says what is seen, with its units."""
        self._take(name)
        self._plots[name] = (figure, caption)

    def _take(self, name: str) -> None:
        if name in self._parts or name in self._plots:
            raise ValueError(f"paper {self.paper} has two things called {name}")

    def write(self, path: Path, text: Path | None = None) -> None:
        """The page, and its plots in the results' folder. ValueError names a place that nothing fills."""
        template = whole(text or TEXT / f"{self.paper}.md")
        self._parts.setdefault("measured", self.results.about())
        for name, (figure, caption) in self._plots.items():
            base = plots.save(figure, self.results.folder / "plots" / f"{self.paper}-{name}")
            link = os.path.relpath(base.with_suffix(".svg"), path.parent)
            self._parts[name] = f"![{caption}]({link})\n\n*{caption}*"
        places = dict.fromkeys(PLACE.findall(template))
        if empty := [name for name in places if name not in self._parts]:
            raise ValueError(f"paper {self.paper}: nothing fills {', '.join(empty)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PLACE.sub(lambda found: self._parts[found[1]], template))


def whole(path: Path) -> str:
    """A text with its sections: what `2-loads.md` says stands in `2.md` where that says `<!-- loads -->`. ValueError
    names a section that has no place."""
    text = path.read_text()
    for section in sorted(path.parent.glob(f"{path.stem}-*.md")):
        place = f"<!-- {section.stem.partition('-')[2]} -->"
        if place not in text:
            raise ValueError(f"{path.name} has no {place} for {section.name}")
        text = text.replace(place, section.read_text().strip())
    return text


def verdict(ours: Spread, theirs: Spread, most: float) -> str:
    """Whether ours is at most so much of theirs, whichever repetitions of both are compared."""
    once = " (once)" if ours.low == ours.high and theirs.low == theirs.high else ""
    if ours.high <= most * theirs.low:
        return f"reached{once}"
    return f"missed{once}" if ours.low > most * theirs.high else "not decided: repetitions differ"


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def cell(value: Spread | None, unit: str = "", why: Sequence[str] = ()) -> str:
    """Median, with minimum and maximum where they differ; why there is none."""
    if value is None:
        return "; ".join(why) or "not measured"
    low, median, high = map(number, value)
    words = median if low == high else f"{median} ({low}–{high})"
    return f"{words} {unit}".strip()
