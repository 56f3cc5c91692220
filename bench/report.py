"""Figures as rows: what was measured, the spread over the runs, the number to reach, and whether it is."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.measure import Spread, command_line, machine

RESULTS = Path(__file__).parent / "results"
DOCUMENT = Path(__file__).parents[1] / "docs/BENCHMARKS.md"
BEGIN, END = "<!-- figures, written by `python -m bench --document` -->", "<!-- end of figures -->"


@dataclass(frozen=True)
class Row:
    """One figure. `most` and `least` are what is to be reached; None: told for information. `every`: by every run."""

    bench: str
    what: str
    value: Spread
    unit: str
    most: float | None = None
    least: float | None = None
    note: str = ""
    every: bool = False

    @property
    def reached(self) -> bool | None:
        """Is the median, or each run, where it should be? None where nothing was promised."""
        if self.most is None and self.least is None:
            return None
        high, low = (self.value.high, self.value.low) if self.every else (self.value.median, self.value.median)
        return (self.most is None or high <= self.most) and (self.least is None or low >= self.least)

    @property
    def target(self) -> str:
        if self.most is not None:
            return f"<= {self.most:g}"
        return "" if self.least is None else f">= {self.least:g}"


def show(rows: Iterable[Row], console: Console) -> None:
    """The table: median (least-most) of the runs."""
    table = Table("bench", "what", "median (min-max)", "unit", "to reach", "", "note", box=None)
    for row in rows:
        mark = {True: "[green]yes", False: "[red]no", None: ""}[row.reached]
        table.add_row(row.bench, row.what, str(row.value), row.unit, row.target, mark, row.note)
    console.print(table)


def keep(rows: Iterable[Row]) -> Path:
    """Append the rows to the raw results of today, with machine, commit and command."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y-%m-%d')}.jsonl"
    with path.open("a") as out:
        for row in rows:
            document = {**asdict(row), "value": row.value._asdict(), "machine": machine(), "command": command_line()}
            out.write(json.dumps(document) + "\n")
    return path


def document(rows: Iterable[Row], path: Path = DOCUMENT) -> None:
    """Put the figures into the document, each bench with its command, and all with machine, commit and day."""
    before, _, rest = path.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text("".join([before, BEGIN, "\n", *_sections(list(rows)), END, after]))


def _sections(rows: list[Row]) -> Iterator[str]:
    yield f"\n{time.strftime('%Y-%m-%d')}, `{command_line()}`, {machine()}.\n"
    for bench in dict.fromkeys(row.bench for row in rows):
        name = bench.replace(" ", "_")
        yield f"\n### {bench}\n\n`.venv/bin/python -m bench {name}`: {_story(name)}\n\n"
        yield "| what | median (min-max) | unit | to reach | reached | note |\n|---|---|---|---|---|---|\n"
        for row in rows:
            if row.bench == bench:
                reached = {True: "yes", False: "**no**", None: ""}[row.reached]
                yield f"| {row.what} | {row.value} | {row.unit} | {row.target} | {reached} | {row.note} |\n"


def _story(name: str) -> str:
    """The first paragraph of a bench's own docstring."""
    text = importlib.import_module(f"bench.{name}").__doc__ or ""
    return " ".join(text.split("\n\n")[0].split())
