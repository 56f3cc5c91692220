"""Where reading begins in a file that was there before us."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.machine import RealMachine
from tailer.inputs.begin import PROBE, Day, end_of_lines, unwanted

Hosts = Callable[..., Any]
START_S = 1_790_000_000
HOUR = 3600


def stamped(second: int) -> bytes:
    return f"{datetime.fromtimestamp(second, UTC).isoformat()} something happened\n".encode()


def touch(path: Path, second: int) -> None:
    os.utime(path, (second, second))


def begin_of(path: Path, birth_s: int = START_S - 400 * HOUR) -> int:
    """Where the day begins in a file, said to be born then."""
    file = RealMachine().disk.open_read(str(path))
    found = file.stat()
    at = Day(START_S * 10**9).begins_at(file, found.size, birth_s * 10**9, found.mtime_ns)
    file.close()
    return at


@pytest.mark.parametrize("step", [7, 60, 600, 3600])
def test_lines_of_the_last_day_are_found(tmp_path: Path, step: int) -> None:
    path = tmp_path / "a.log"
    seconds = range(START_S - 20 * 24 * HOUR, START_S, step)
    path.write_bytes(b"".join(map(stamped, seconds)))
    touch(path, START_S)
    at = begin_of(path)
    first = path.read_bytes()[at:].split(b"\n")[0]
    begin = datetime.fromisoformat(first.split()[0].decode()).timestamp()
    assert begin <= START_S - 24 * HOUR + step, "nothing of the day is missed"
    assert len(path.read_bytes()) - at <= len(stamped(0)) * (24 * HOUR // step) + 2 * PROBE


def test_a_file_of_today_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"".join(stamped(second) for second in range(START_S - 20 * HOUR, START_S, 20)))
    touch(path, START_S)
    assert begin_of(path) == 0


def test_a_file_that_nobody_wrote_today_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(stamped(START_S) * 10)
    touch(path, START_S - 25 * HOUR)
    assert begin_of(path) == path.stat().st_size


def test_lines_without_a_time_are_as_old_as_their_file(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"no time here\n" * 10 + b"unfinished")
    touch(path, START_S)
    assert begin_of(path, START_S - HOUR) == 0
    assert begin_of(path, START_S - 48 * HOUR) == 130


@pytest.mark.parametrize(
    ("text", "at"), [(b"", 0), (b"one", 0), (b"one\n", 4), (b"one\ntwo", 4), (b"x" * (PROBE + 5), PROBE + 5)]
)
def test_the_end_is_that_of_the_last_whole_line(tmp_path: Path, text: bytes, at: int) -> None:
    (tmp_path / "a").write_bytes(text)
    file = RealMachine().disk.open_read(str(tmp_path / "a"))
    assert end_of_lines(file, len(text)) == at
    file.close()


async def test_T2_the_default_start_takes_the_last_day(host: Hosts, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    old = b"".join(stamped(second) for second in range(START_S - 100 * 24 * HOUR, START_S - 30 * HOUR, 600))
    new = b"".join(stamped(second) for second in range(START_S - 23 * HOUR, START_S, 60))
    path.write_bytes(old + new)
    touch(path, START_S)
    h = host("*.log", begin="recent")
    await h.settle()
    text = h.text("a.log")
    assert text.endswith(new)
    assert len(text) < len(new) + 2 * PROBE
    with path.open("ab") as file:
        file.write(b"more\n")
    await h.settle()
    assert h.text("a.log") == text + b"more\n"


def judged(data: bytes) -> str:
    return unwanted(data[:1024], data[-1024:])


def test_text_is_wanted_and_other_things_are_not() -> None:
    assert not judged(b"")
    assert not judged(b"a\0b\0\n")
    assert not judged(b"text " * 200)
    assert judged(bytes(5000)) == "binary (NULs)"
    assert judged((b"\x07\0\0\0user" + bytes(376)) * 20) == "binary (NULs)"
    assert judged(b"\x1f\x8b\x08") == "compressed (gzip)"


def test_T29_a_log_behind_a_hole_of_NULs_is_text() -> None:
    """As a writer leaves it that did not notice that its log was cut."""
    assert not judged(bytes(100_000) + b"a line\n" * 200)
    assert not judged(bytes(500) + b"a line\n" * 200)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_T56_utf_16_is_text(encoding: str) -> None:
    assert not judged("a line of text\n".encode(encoding) * 200)
