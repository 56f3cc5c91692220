"""What is written to stdout, and what happens when nobody reads it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from porter.output import PIECE, ClosedError, Output
from porter.progress import progress
from service.machine import RealMachine
from service.run import NOT_DONE


class Closed(io.BytesIO):
    """A pipe whose reader has gone."""

    def write(self, data: object) -> int:
        raise BrokenPipeError


async def test_small_writes_are_gathered_and_the_rest_is_written_in_the_end() -> None:
    file = io.BytesIO()
    async with Output(RealMachine(), file) as output:
        await output.write(b"one\n")
        await output.write(b"two\n")
        assert file.getvalue() == b""
        await output.write(b"x" * PIECE)
        assert len(file.getvalue()) == PIECE + 8
        await output.write(b"end")
    assert file.getvalue().endswith(b"xend")


async def test_a_reader_that_has_gone_is_an_error_of_its_own() -> None:
    with pytest.raises(ClosedError):
        async with Output(RealMachine(), Closed()) as output:
            await output.write(b"x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("size", [10, 100_000, 0])
def test_output_to_a_full_disk_is_one_line_and_not_a_bug(size: int) -> None:
    """As `porter cat HOST PATH > file` on one: what is there is cut off, and the exit code says so. 0: a table."""
    main = """
import sys
from porter.commands import FORESEEN
from porter.output import Output
from service.run import run
async def main(machine, stop):
    async with Output(machine, sys.stdout.buffer) as output:
        await output.write(b"x" * int(sys.argv[1]))
    if sys.argv[1] == "0":
        print("a line of a table")
run(main, foreseen=FORESEEN)
"""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-c", main, str(size)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False, env=env)
    assert done.stderr == b"the output can't be written: No space left on device\n"
    assert done.returncode == NOT_DONE


def test_progress_off_a_terminal_is_a_plain_line_now_and_then() -> None:
    times = iter([0.0, 1.0, 10.0, 10.0, 11.0, 25.0, 25.0])
    text = io.StringIO()
    with progress("audit", 9, lambda: next(times), text) as shown:
        for done in range(4):
            shown.step(done, "there")
    assert text.getvalue() == "audit: 1 of 9 there\naudit: 3 of 9 there\n"


def test_progress_loads_no_terminal_library_for_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    with progress("cat", 0, lambda: 100.0, io.StringIO()) as shown:
        shown.step(1)
    assert "rich.progress" not in sys.modules
