"""What came out: JSON lines in one file, a line a repetition, written as it happens; and the questions asked of it."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.measure import Spread, spread

FILE, ENVIRONMENT, LEFT_OUT = "figures.jsonl", "environment.json", "left out"
WHY_MAX = 120  # characters of why something is not there, on a page
SERIES_MAX = 64 << 10  # bytes of one repetition's figures: raw results are kept for ever, so series are thinned


class Row(NamedTuple):
    """Which repetition of which step."""

    paper: int
    name: str
    system: str
    variant: str
    repetition: int


class Found(NamedTuple):
    """A repetition that has been run. `seconds`: that it took, its set-up included. `commit`: of the code."""

    row: Row
    figures: dict[str, Any]
    seed: int
    seconds: float
    commit: str = ""


class Results:
    """The results in a folder. A line that was only begun, failed, or is torn counts as not run, and is run again."""

    def __init__(self, folder: Path, commit: str = "") -> None:
        """`commit`: what is noted in each line that is written."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.path, self.commit = folder, folder / FILE, commit
        self._found: dict[Row, Found] = {}
        self._absent: dict[Row, str] = {}
        for document in _lines(self.path):
            self._take(document)

    def _take(self, document: dict[str, Any]) -> None:
        row = Row(*(document[name] for name in Row._fields))
        if document["state"] == "done":
            facts = (document["figures"], document["seed"], document["seconds"], document.get("commit", ""))
            self._found[row] = Found(row, *facts)
            self._absent.pop(row, None)
        else:
            self._absent[row] = f"{document['state']}: {document['why']}" if document["why"] else document["state"]

    def has(self, row: Row) -> bool:
        return row in self._found

    def __len__(self) -> int:
        """Repetitions that have been run."""
        return len(self._found)

    def longest(self, row: Row) -> float:
        """Seconds that a repetition of the same step has taken at most; 0 if none has been run."""
        return max((one.seconds for one in self.of(*row[:4])), default=0.0)

    def says_left_out(self, row: Row) -> bool:
        return row in self._found or self._absent.get(row, "").startswith(LEFT_OUT)

    # --- written while it runs ---------------------------------------------------------------------------------------

    def begun(self, row: Row) -> None:
        self._write(row, "begun", why="")

    def left_out(self, row: Row, why: str) -> None:
        self._write(row, LEFT_OUT, why=why)

    def failed(self, row: Row, why: str, seed: int) -> None:
        self._write(row, "failed", why=why, seed=seed)

    def add(self, row: Row, figures: dict[str, Any], seed: int, seconds: float) -> None:
        self._write(row, "done", figures=figures, seed=seed, seconds=round(seconds, 3))

    def _write(self, row: Row, state: str, **more: Any) -> None:
        document = {**row._asdict(), "state": state, "commit": self.commit, **more}
        data = json.dumps(document).encode() + b"\n"
        if len(data) > SERIES_MAX:
            raise ValueError(
                f"{row.name} of {row.system}: {len(data)} bytes of figures, {SERIES_MAX} at most: thin them"
            )
        with self.path.open("ab") as file:
            file.write(data)
            os.fsync(file.fileno())
        self._take(json.loads(data))

    # --- asked when pages are written --------------------------------------------------------------------------------

    def of(self, paper: int, name: str, system: str = "", variant: str | None = None) -> list[Found]:
        """The repetitions of a step: of all systems where none is named, of all variants where none is."""
        return [
            one
            for row, one in sorted(self._found.items())
            if (row.paper, row.name) == (paper, name) and system in ("", row.system) and variant in (None, row.variant)
        ]

    def systems(self, paper: int, name: str) -> list[tuple[str, str]]:
        """System and variant of each step of this name that ran, failed or was left out, in order of the run."""
        rows = (row for row in [*self._found, *self._absent] if (row.paper, row.name) == (paper, name))
        return list(dict.fromkeys((row.system, row.variant) for row in rows))

    def spread(self, paper: int, name: str, system: str, variant: str, key: str) -> Spread | None:
        """A figure over its repetitions; None if there are none, or it has none."""
        values = [one.figures[key] for one in self.of(paper, name, system, variant) if one.figures.get(key) is not None]
        return spread(values) if values else None

    def about(self) -> str:
        """Where and of which versions, by the newest line of the environment; and of which commits Buck was."""
        path = self.folder / ENVIRONMENT
        if not path.exists():
            return "Measured where nobody took notes."
        newest = json.loads(path.read_text().splitlines()[-1])
        versions = {name: number for one in newest["versions"].values() for name, number in one.items()}
        others = ", ".join(f"{name} {number}" for name, number in versions.items() if name != "buck")
        where = newest["machine"].partition(", commit")[0]
        commits = dict.fromkeys(one.commit for row, one in self._found.items() if row.system == "buck" and one.commit)
        return f"Measured on {where}, all nodes and clients on it. Others: {others}. Buck: {', '.join(commits)}."

    def absent(self, paper: int, name: str, system: str, variant: str) -> list[str]:
        """Why repetitions of a step are not there, each in a line; the file has all of it."""
        key = (paper, name, system, variant)
        found = dict.fromkeys(why for row, why in sorted(self._absent.items()) if row[:4] == key)
        return [textwrap.shorten(why, WHY_MAX, placeholder=" …") for why in found]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):  # torn by the end of its process: nothing may be glued to it
        data = data[: data.rfind(b"\n") + 1]
        path.write_bytes(data)
    for line in data.splitlines():
        yield json.loads(line)
