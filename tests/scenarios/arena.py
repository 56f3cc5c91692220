"""One cluster for many rounds of violence: each round has a file of its own, and its lines must all come back once.

A round's own file is checked at its end, through one connection and with one real command; `everything` checks all
files of all rounds, so that a later round can't take what an earlier one had.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from bench.cluster import Buck, Cluster, ClusterError, Process
from tests.scenarios.checker import (
    differences,
    expected_names,
    parquet_equal,
    parquet_lines,
    parquet_names,
)
from tests.scenarios.reading import HOST, Back, read_back
from tests.scenarios.writing import SAME, Writer

PATIENCE_S = 90.0
FOLLOWED = "*-tailer.log"  # files of a tailer that follows: not for those that read once
SEED = int(os.environ.get("SCENARIO_SEED", "20261122"))


class Arena:
    """A cluster, the files written so far, and the questions about them."""

    def __init__(self, cluster: Cluster, *, together: bool = False) -> None:
        """`together`: each tailer is told of all files so far. One that finds no file of its last run can't say that
        it has read them again."""
        self.cluster, self.together = cluster, together
        self.writers: list[Writer] = []
        self.archive = cluster.root / "archive"
        self.folder = cluster.root / "logs"
        self.folder.mkdir()

    def writer(self, name: str, spread_s: float = 0.0) -> Writer:
        """A new file."""
        number = len(self.writers)
        writer = Writer(number, self.folder / f"{number}-{name}.log", SEED, spread_s)
        self.writers.append(writer)
        return writer

    def feed(self, writer: Writer, **more: object) -> Process:
        """`tailer run --once` on its file, or on all, always with the same journal."""
        env = more.pop("env", None)
        assert env is None or isinstance(env, dict)
        options = [str(word) for pair in more.items() for word in (f"--{pair[0].replace('_', '-')}", pair[1])]
        if self.together:
            options += ["--exclude", FOLLOWED]
        files = self.folder / "*.log" if self.together else writer.path
        return self.cluster.tailer("--once", *options, str(files), env=env)

    def porter(self, *arguments: str, env: dict[str, str] | None = None) -> Process:
        """A porter's job that can be killed; what it writes is of no interest."""
        base = ["porter", arguments[0], "--key", str(self.cluster.root / "porter.key")]
        for address in self.cluster.addresses():
            base += ["--peer", address]
        process = Process("porter", [*base, *arguments[1:]], self.cluster.logs / "porter.log", env)
        self.cluster.processes.append(process)
        return process

    def done(self, process: Process) -> None:
        """It ended as it should."""
        code = process.wait(PATIENCE_S)
        assert code == 0, f"exit {code}\n{process.log_end()}"

    def died(self, process: Process, timeout_s: float = PATIENCE_S) -> None:
        """It was killed: the fault point was passed."""
        code = process.wait(timeout_s)
        assert code == -signal.SIGKILL, f"exit {code}: the fault never came\n{process.log_end()}"

    # --- what comes back ----------------------------------------------------------------------------------------------

    def back(self, writers: Iterable[Writer], archive: str = "", bucks: bool = True) -> dict[str, Back]:
        peers = self.cluster.addresses() if bucks else []
        paths = [writer.path for writer in writers]
        return read_back(paths, root=self.cluster.root, peers=peers, archive=archive)

    def check(self, *writers: Writer, archive: str = "", bucks: bool = True) -> None:
        """These files come back as they were written, and nothing is said against it."""
        back = self.back(writers, archive, bucks)
        wrong = {path: _wrong(writer, back[path]) for writer in writers if (path := str(writer.path)) in back}
        assert len(wrong) == len(writers)
        assert not any(wrong.values()), wrong

    def arrives(self, writer: Writer) -> None:
        """A follower has it in the bucks soon."""
        deadline = time.monotonic() + PATIENCE_S
        while self.back([writer])[str(writer.path)].data != writer.data and time.monotonic() < deadline:
            time.sleep(0.1)
        self.check(writer)

    def check_archive(self, *writers: Writer) -> None:
        """The same of the archive alone, by its own reader and by DuckDB."""
        self.check(*writers, archive=str(self.archive), bucks=False)
        lines, same = parquet_lines(self.archive), parquet_equal(self.archive, SAME)
        there = {path: (lines.get(path, 0), same.get(path, 0)) for path in (str(one.path) for one in writers)}
        wanted = {str(writer.path): (len(writer.lines), writer.same) for writer in writers}
        assert {path: (there[path], wanted[path]) for path in wanted if there[path] != wanted[path]} == {}
        names, ours = parquet_names(self.archive), Counter[bytes]()
        for writer in writers:
            ours += expected_names(writer.lines)
        assert [(name, names[name], count) for name, count in ours.items() if names[name] != count] == []

    def check_grep(self) -> None:
        """Each line that is the one is found once for each time it was written."""
        done = self.cluster.porter("grep", "--raw", f'"{SAME.decode()}"', check=False)
        assert _is_well(done), done.stderr.decode()
        assert done.stdout.count(SAME) == sum(writer.same for writer in self.writers)

    # --- killing ------------------------------------------------------------------------------------------------------

    def buck(self, i: int) -> Buck:
        buck = self.cluster.bucks[i]
        assert buck is not None
        return buck

    def restart(self, i: int, fault: str = "") -> Buck | None:
        """Start a dead buck again; None if its fault came while it started."""
        try:
            return self.cluster.start(i, {"BUCK_FAULT": fault} if fault else None)
        except ClusterError:
            assert fault, self.buck(i).log_end()
            return None

    def tear(self, i: int) -> None:
        """What a power cut leaves behind the last whole packet of each open part: the beginning of one, and noise."""
        noise = random.Random(SEED).randbytes(5000)
        for part in self.open_parts(i):
            data = part.read_bytes()
            part.write_bytes(data + data[:100] + noise)

    def open_parts(self, i: int) -> list[Path]:
        return [path for disk in self.cluster.disk_folders(i) for path in disk.rglob("*.open")]

    def cat(self, writer: Writer) -> None:
        """The real command."""
        done = self.cluster.porter("cat", HOST, str(writer.path), check=False)
        assert _is_well(done), done.stderr.decode()
        assert differences(writer.lines, done.stdout) == []


def _wrong(writer: Writer, back: Back) -> list[str]:
    found = differences(writer.lines, back.data)
    return [*found, *back.complaints]


def _is_well(done: subprocess.CompletedProcess[bytes]) -> bool:
    """All was had. A buck that was killed may say that it is unsure what it has: then the code says so too."""
    said = done.stderr.decode().splitlines()
    return all(line.startswith("unsure what it holds") for line in said) and done.returncode == (3 if said else 0)
