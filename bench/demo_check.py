"""Is what comes back what was read? Each file against `porter cat`, byte for byte, from the bucks or the archive.

A file that was renamed is found under the path under which it was first read: mostly its old one, but its new one where
the tailer was just dead. A path may have had several files, so a file must equal one generation of its path. One that
still grows (the logs of the bucks themselves) must begin with what comes back, and that must reach at least to where
the file was when reading began.

A buck that was killed says that it is unsure what it holds until its windows are over; where the bytes are equal this
is a note, told at the end. Whatever else a reader says is a difference.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cluster import Cluster
from bench.demo_logs import is_text

GENERATIONS_MAX = 16
NOTE = "unsure what it holds"
SHORTFALL = 3  # the exit code of a reader that says something besides


@dataclass
class Checked:
    """One file's result; `wrong` says how it differs, empty if it doesn't."""

    source: str
    path: Path
    size: int
    lines: int
    rotated: bool
    wrong: str = ""


class Check:
    """The files as they were when reading began, to be compared later."""

    def __init__(self, cluster: Cluster, files: Sequence[Path], renamed: Mapping[Path, Path]) -> None:
        self.cluster, self.renamed = cluster, renamed
        self.files = {path: path.stat().st_size for path in files if is_text(path)}
        self.left_out = [path for path in files if not is_text(path)]
        self.notes: set[str] = set()

    def compare(self, source: str, *options: str) -> list[Checked]:
        """All files against what comes back from one source."""
        return [self._compare(source, path, least, options) for path, least in self.files.items()]

    def _compare(self, source: str, path: Path, least: int, options: Sequence[str]) -> Checked:
        data = path.read_bytes()
        row = Checked(source, path, len(data), data.count(b"\n"), path in self.renamed)
        for name in dict.fromkeys((self.renamed.get(path, path), path)):
            wrong = self._compare_generations(name, data, least, options)
            row.wrong = row.wrong or wrong
            if not wrong:
                row.wrong = ""
                break
        return row

    def _compare_generations(self, name: Path, data: bytes, least: int, options: Sequence[str]) -> str:
        """How the likest generation under that name differs from `data`."""
        wrong = "no generation of it came back"
        for generation in range(1, GENERATIONS_MAX):
            words = ["cat", os.uname().nodename, str(name), "--generation", str(generation), *options]
            done = self.cluster.porter(*words, check=False)
            said = done.stderr.decode(errors="replace").splitlines()
            noted = done.returncode == SHORTFALL and all(line.startswith(NOTE) for line in said)
            if done.returncode and not noted:
                return "\n".join(said) if generation == 1 else wrong
            self.notes.update(said if noted else ())
            wrong = _differs(data, done.stdout, least)
            if not wrong:
                break
        return wrong


def _differs(data: bytes, back: bytes, least: int) -> str:
    if data.startswith(back) and len(back) >= least:
        return ""
    if len(back) < least and data.startswith(back):
        return f"{len(back)} bytes came back of {least}"
    same = next((i for i, (a, b) in enumerate(zip(data, back, strict=False)) if a != b), min(len(data), len(back)))
    return f"differs from byte {same} on"
