"""Lines and bytes: what was in the file comes out again, however it was cut into reads."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocol.columns import OPEN, PART
from protocol.limits import LINE_MAX

Hosts = Callable[..., Any]


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def flags_of(h: Any) -> list[int]:
    """All events' flags, in the order of offsets."""
    return [flag for stream in h.flags.values() for first in sorted(stream) for flag in stream[first]]


async def test_T45_a_line_that_is_finished_later_is_one_event(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    h = host("*.log")
    append(log, b"first\nbeg")
    await h.look(1)
    append(log, b"inn")
    await h.look(4)
    append(log, b"ing\nrest\n")
    await h.settle()
    assert h.text("a.log") == b"first\nbeginning\nrest\n"
    assert h.events == 3


async def test_T45_a_first_line_in_pieces_names_the_stream_once(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    h = host("*.log")
    for piece in (b"on", b"e li", b"ne\n", b"two\n"):
        append(log, piece)
        await h.look(20)
    await h.settle()
    assert h.streams("a.log") == [b"one line\ntwo\n"]
    assert h.events == 2


async def test_T46_at_the_end_of_all_reading_only_the_last_line_may_be_unfinished(host: Hosts, tmp_path: Path) -> None:
    """Not the one at the end of a block, of which a large file has many."""
    log = tmp_path / "a.log"
    h = host("*.log", patient=False, block=80_000)
    append(log, b"a line of some length\n" * 20_000 + b"unfinished")
    await h.once()
    flags = flags_of(h)
    assert [n for n, flag in enumerate(flags) if flag & OPEN] == [20_000]
    assert len(flags) == 20_001
    assert h.text("a.log") == log.read_bytes()


async def test_T46_an_unfinished_last_line_is_taken_after_a_while_and_goes_on(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    h = host("*.log")
    append(log, b"first\nunfini")
    await h.settle(4)
    assert h.text("a.log") == b"first\n"
    await h.settle(8)
    assert h.text("a.log") == b"first\nunfini"
    append(log, b"shed\nnext\n")
    await h.settle()
    assert h.streams("a.log") == [b"first\nunfinished\nnext\n"]
    assert [flag & OPEN for flag in flags_of(h)] == [0, OPEN, 0, 0]


async def test_T46_once_takes_an_unfinished_last_line(host: Hosts, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"first\nlast without end")
    (tmp_path / "b.log").write_bytes(b"only")
    h = host("*.log", patient=False)
    await h.once()
    assert h.text("a.log") == b"first\nlast without end"
    assert h.text("b.log") == b"only"


async def test_T46_rotation_and_a_stop_take_an_unfinished_last_line(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    append(log, b"first\nlast")
    h = host("*.log")
    await h.look()
    await h.stop()
    assert h.text("a.log") == b"first\nlast"


async def test_a_short_first_line_waits_for_its_end_over_a_stop(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    append(log, b"shor")
    h = host("*.log")
    await h.settle(30)
    await h.stop()
    assert h.text("a.log") == b""
    append(log, b"t\n")
    await h.settle()
    assert h.streams("a.log") == [b"short\n"]


async def test_T47_a_line_unfinished_at_a_restart_is_completed_once(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    append(log, b"first\nhal")
    h = host("*.log")
    await h.look()
    await h.stop()
    append(log, b"f\n")
    await h.settle()
    assert h.streams("a.log") == [b"first\nhalf\n"]
    assert [flag & OPEN for flag in flags_of(h)] == [0, OPEN, 0]


@pytest.mark.parametrize("text", [b"\n", b"\n" * 500, b"\nfirst\n\n\nlast\n\n", b"\n\nx"])
async def test_T48_empty_lines_are_kept(host: Hosts, tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.log").write_bytes(text)
    h = host("*.log", patient=False)
    await h.once()
    assert h.text("a.log") == text
    assert h.events == text.count(b"\n") + (not text.endswith(b"\n"))


async def test_T49_line_ends_of_all_kinds_are_kept(host: Hosts, tmp_path: Path) -> None:
    text = b"dos\r\nunix\nold\rmac\rline\r\r\n\r\n\r\n\n\rend\r"
    (tmp_path / "a.log").write_bytes(text)
    h = host("*.log", patient=False)
    await h.once()
    assert h.text("a.log") == text


async def test_T49_a_line_end_cut_in_two_is_one(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    h = host("*.log")
    for byte in b"one\r\ntwo\r\n\r\nthree\r\r\n":
        append(log, bytes([byte]))
        await h.look(0.2)
    await h.settle()
    assert h.text("a.log") == b"one\r\ntwo\r\n\r\nthree\r\r\n"
    assert h.events == 4


@pytest.mark.parametrize("size", [LINE_MAX - 1, LINE_MAX, LINE_MAX + 1, 2 * LINE_MAX, 2 * LINE_MAX + 1, 300_000])
async def test_T51_lines_around_the_longest(host: Hosts, tmp_path: Path, size: int) -> None:
    text = b"before\n" + b"x" * size + b"\nafter\n"
    (tmp_path / "a.log").write_bytes(text)
    h = host("*.log", block=100_000)
    await h.settle()
    assert h.text("a.log") == text
    parts = -(-size // LINE_MAX)
    assert h.events == 2 + parts
    assert sum(bool(flag & PART) for flag in flags_of(h)) == parts - 1


@pytest.mark.parametrize("size", [4097, 65_537, 1 << 20, 5 << 20])
async def test_T52_lines_longer_than_anything(host: Hosts, tmp_path: Path, size: int) -> None:
    text = b"before\n" + bytes(range(11, 256)) * (size // 245) + b"\nafter\n"
    (tmp_path / "a.log").write_bytes(text)
    h = host("*.log")
    await h.settle()
    assert h.text("a.log") == text


async def test_T53_an_endless_line_is_read_in_bounded_pieces(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    h = host("*.log")
    for _ in range(10):
        append(log, b"y" * 50_000)
        await h.look(1)
    await h.settle()
    assert h.text("a.log") == b"y" * 500_000


async def test_T54_NULs_inside_lines_are_kept(host: Hosts, tmp_path: Path) -> None:
    text = b"a\0b\n\0\n" + b"a line with a NUL\0 in it\n" * 100 + b"\0\0\0\n"
    (tmp_path / "a.log").write_bytes(text)
    h = host("*.log")
    await h.settle()
    assert h.text("a.log") == text


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe\xfd\n",
        "lätin\n".encode("latin-1"),
        b"\xed\xa0\x80 surrogate\n",
        b"\xc0\xaf overlong\n",
        bytes(range(256)),
    ],
)
async def test_T55_what_is_no_UTF_8_is_kept(host: Hosts, tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.log").write_bytes(text * 50)
    h = host("*.log", patient=False)
    await h.once()
    assert h.text("a.log") == text * 50


async def test_T71_empty_files_are_distinct_and_stated(host: Hosts, tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.log").touch()
    h = host("*.log")
    await h.settle()
    assert h.read_paths() == {b"%d.log" % i for i in range(5)}
    assert h.streams("0.log") == [b""]
    assert h.events == 0
    assert len(h.drafts) == 1
    (tmp_path / "0.log").write_bytes(b"filled\n")
    await h.settle()
    assert h.text("0.log") == b"filled\n"


async def test_T71_an_empty_file_is_stated_once_over_restarts(host: Hosts, tmp_path: Path) -> None:
    (tmp_path / "a.log").touch()
    h = host("*.log")
    await h.settle()
    await h.stop()
    await h.settle()
    assert len(h.drafts) == 1


async def test_T71_once_states_empty_files(host: Hosts, tmp_path: Path) -> None:
    for i in range(600):
        (tmp_path / f"{i}.log").touch()
    h = host("*.log", patient=False)
    await h.once()
    assert len(h.read_paths()) == 600


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"\x1f\x8b\x08 and so on", "gzip"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
        (b"\xfd7zXZ\0..", "xz"),
        (b"BZh9...", "bzip2"),
        (b"user" + bytes(380), "NULs"),
    ],
)
async def test_compressed_and_binary_files_are_named_and_left_out(
    host: Hosts, tmp_path: Path, text: bytes, why: str, said: io.StringIO
) -> None:
    (tmp_path / "a.log").write_bytes(text * 10)
    h = host("*.log")
    await h.settle()
    assert h.known.counts["ignored"] == 1
    assert h.events == 0
    assert said.getvalue().count(why) == 1
    assert h.open_now == 0
