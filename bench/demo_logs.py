"""Logs for the demo's check, where the host has too few: written by real programs while the tailer reads along.

Each program's output goes to a file of its own, in pieces, as a service writes its log. One of the files is rotated on
the way, as logrotate does: renamed, and a new one begun under the old name.
"""

from __future__ import annotations

import glob
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

ENOUGH_BYTES, ENOUGH_FILES = 10_000_000, 20
PIECE = 64 << 10
SETTLE_S = 3.0  # until the tailer has seen a new file, by its sweep if not by inotify
REPOSITORY = Path(__file__).parents[1]

PROGRAMS: dict[str, list[list[str]]] = {
    "packages": [["dpkg", "--list"], ["dpkg-query", "-W", "-f", "${Package} ${Version} ${Status}\n${Conffiles}\n"]],
    "package-files": [["sh", "-c", "for p in $(dpkg-query -W -f '${Package} '); do dpkg -L $p; done"]],
    "pip": [[sys.executable, "-m", "pip", "list", "-v"], [sys.executable, "-m", "pip", "debug", "-v"]],
    "imports": [[sys.executable, "-v", "-c", "import trio, pydantic, click, rich.console, rich.table, sqlite3"]],
    "compiler": [["sh", "-c", "echo '#include <stdlib.h>' | gcc -v -H -E -dM -x c - "],
                 ["sh", "-c", "for h in stdio math errno signal; do echo \"#include <$h.h>\" | gcc -E -x c -; done"]],
    "git": [["git", "log", "--stat", "--no-color"], ["git", "log", "-p", "--no-color", "-n", "40"]],
    "tests": [[sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "tests/protocol/test_ranges.py"]],
    "processes": [["ps", "auxww"], ["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do ps auxww; done"]],
    "system": [["sh", "-c", "cat /proc/cpuinfo /proc/meminfo /proc/vmstat /proc/interrupts /proc/mounts"]],
    "files": [["find", "/usr/share", "-xdev", "-type", "f", "-printf", "%TY-%Tm-%TdT%TT %s %p\n"]],
    "libraries": [["find", "/usr/lib", "-xdev", "-type", "f", "-printf", "%TY-%Tm-%TdT%TT %s %p\n"]],
}  # fmt: skip
SERVICES = 12  # small logs besides, one a pretended service: each the output of one program run


class Writers:
    """Writes below `folder` when `busy`; always rotates one file, so that a rotation is part of every check."""

    def __init__(self, folder: Path, *, busy: bool) -> None:
        self.folder, self.busy = folder, busy
        self.renamed: dict[Path, Path] = {}
        folder.mkdir(parents=True)

    def run(self, console: Console) -> None:
        """Run the programs, one after another."""
        if self.busy:
            console.print("this host has few logs: some real programs write a few more", highlight=False)
            for name, commands in PROGRAMS.items():
                self._write(self.folder / f"{name}.log", commands)
            for number in range(SERVICES):
                self._write(self.folder / f"service{number:02d}.log", [["ps", "-eo", "pid,lstart,etime,args"]])
        self._rotate(self.folder / "rotated.log")

    def _rotate(self, path: Path) -> None:
        self._write(path, [["git", "log", "--format=%cI %h %an %s"], ["df", "-a"]])
        time.sleep(SETTLE_S)
        rotated = path.with_suffix(".log.1")
        self._write(path, [["uname", "-a"]])  # these lines may still be unread when the name changes
        path.rename(rotated)
        self.renamed[rotated] = path
        self._write(path, [["ps", "auxww"], ["df", "-a"]])
        time.sleep(SETTLE_S)

    def _write(self, path: Path, commands: Sequence[Sequence[str]]) -> None:
        for command in commands:
            try:
                made = subprocess.run(
                    command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    timeout=120, check=False,
                )  # fmt: skip
            except (OSError, subprocess.TimeoutExpired):
                continue  # a host without this program has others
            with path.open("ab", buffering=0) as out:
                for at in range(0, len(made.stdout), PIECE):
                    out.write(made.stdout[at : at + PIECE])


def enough(patterns: Sequence[str]) -> bool:
    """Do these globs name enough text for a check?"""
    sizes = []
    for pattern in patterns:
        for name in glob.glob(pattern, recursive=True):
            path = Path(name)
            if path.is_file() and not path.is_symlink() and is_text(path):
                sizes.append(path.stat().st_size)
    return sum(sizes) > ENOUGH_BYTES and len(sizes) > ENOUGH_FILES


def is_text(path: Path) -> bool:
    """Neither compressed nor binary, by its first bytes: the demo leaves those out, as the tailer does."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    return not head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh")) and head.count(
        b"\0"
    ) * 10 <= len(head)
