"""What every benchmark is told: where its files go, how often to measure, how large a corpus is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """A folder for files, how often each thing is measured, and how many bytes a corpus has."""

    folder: Path
    runs: int
    size: int
