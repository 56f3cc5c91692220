from collections.abc import Callable
from pathlib import Path
from typing import Any

Hosts = Callable[..., Any]


def lines(first: int, end: int, word: str = "line") -> bytes:
    return b"".join(b"%s %d of the log\n" % (word.encode(), i) for i in range(first, end))


async def test_T1_an_existing_file_is_read_from_its_head(host: Hosts, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(lines(0, 100))
    h = host("*.log")
    await h.look()
    await h.settle()
    assert h.text("a.log") == lines(0, 100)
    assert h.events == 100


async def test_T17_rename_and_create(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 10))
    h = host("*.log")
    await h.look()
    log.rename(tmp_path / "a.1")
    log.write_bytes(lines(10, 20))
    await h.settle()
    assert h.streams("a.log") == [lines(0, 10), lines(10, 20)]
