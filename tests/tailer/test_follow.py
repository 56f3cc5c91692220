"""Following: growth, rotation, truncation, deletion. The files are real, the clock is the test's."""

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Hosts = Callable[..., Any]


def lines(first: int, end: int, word: str = "line") -> bytes:
    return b"".join(b"%s %d of the log\n" % (word.encode(), i) for i in range(first, end))


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def rewrite(path: Path, data: bytes) -> None:
    """Empty the file and fill it again: the same inode."""
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(data)


async def test_T1_an_existing_file_is_read_from_its_head(host: Hosts, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(lines(0, 100))
    h = host("*.log")
    await h.settle()
    assert h.text("a.log") == lines(0, 100)
    assert h.events == 100


async def test_T1_growth_is_read_as_it_comes(host: Hosts, tmp_path: Path) -> None:
    h = host("*.log")
    for i in range(20):
        append(tmp_path / "a.log", lines(10 * i, 10 * i + 10))
        await h.look(0.3)
    await h.settle()
    assert h.text("a.log") == lines(0, 200)


async def test_T13_more_files_than_may_be_open_are_all_read(host: Hosts, tmp_path: Path) -> None:
    h = host("*.log", open_files=4)
    for i in range(5):
        for name in range(30):
            append(tmp_path / f"{name}.log", lines(i, i + 1, f"file {name}"))
        await h.look(1)
        assert h.open_now <= 4
    await h.settle()
    assert all(h.text(f"{name}.log") == lines(0, 5, f"file {name}") for name in range(30))


async def test_of_too_many_files_some_are_left_out_and_it_is_said(
    host: Hosts, tmp_path: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint is one record: what it can't hold must not end the tailer."""
    monkeypatch.setattr("tailer.inputs.known.FILES_MAX", 3)
    h = host("*.log")
    for name in range(5):
        append(tmp_path / f"{name}.log", lines(0, 2, f"file {name}"))
    for _ in range(3):
        await h.settle()
    assert (len(h.known.states()), h.known.left_out) == (3, 2)
    assert said.getvalue().count("more files than can be followed") == 1
    followed = {follow.where for follow in h.known.follows.values()}
    await h.stop()
    await h.settle()
    assert {follow.where for follow in h.known.follows.values()} == followed, "those that were known are preferred"
    os.unlink(followed.pop())
    await h.settle()
    await h.settle()
    assert (len(h.known.states()) - len(h.known.naming.states()), h.known.left_out) == (3, 1)
    assert sum(bool(h.text(f"{name}.log")) for name in range(5)) == 4


async def test_T13_a_large_file_does_not_hold_up_the_others(host: Hosts, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(lines(0, 80_000))
    (tmp_path / "b.log").write_bytes(lines(0, 1))
    h = host("*.log", block=70_000)
    await h.sweep()
    await h.reader.round()
    assert h.known.by_name[str(tmp_path / "b.log").encode()].read_to == len(lines(0, 1))
    assert h.reader.dirty, "the large one has more"
    await h.settle()
    assert h.text("a.log") == lines(0, 80_000)


async def test_T17_rename_and_create(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    h = host("*.log")
    for i in range(5):
        append(log, lines(10 * i, 10 * i + 5))
        await h.look(0.3)
        append(log, lines(10 * i + 5, 10 * i + 10))
        log.rename(tmp_path / f"a.{i}")
    await h.settle()
    assert h.streams("a.log") == [lines(10 * i, 10 * i + 10) for i in range(5)]


async def test_T18_a_writer_that_keeps_the_renamed_file_is_read_on(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("wb", buffering=0) as writer:
        writer.write(lines(0, 10))
        h = host("*.log")
        await h.look()
        log.rename(tmp_path / "old")
        log.write_bytes(lines(100, 110))
        for i in range(10, 20):
            await h.look(3)
            writer.write(lines(i, i + 1))
    await h.settle()
    assert h.streams("a.log") == [lines(0, 20), lines(100, 110)]
    assert h.open_now == 1


async def test_T19_a_renamed_file_without_successor_is_drained_and_closed(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 10))
    h = host("*.log")
    await h.look()
    append(log, lines(10, 20) + b"unfinished")
    log.rename(tmp_path / "old")
    await h.settle()
    assert h.text("a.log") == lines(0, 20) + b"unfinished"
    assert h.open_now == 0
    assert not h.known.follows


async def test_T20_a_new_name_inside_the_glob_is_not_read_again(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 10))
    h = host("*")
    await h.look()
    log.rename(tmp_path / "a.log.1")
    await h.look(1)
    append(tmp_path / "a.log.1", lines(10, 20))
    log.write_bytes(lines(20, 30))
    await h.settle()
    assert h.streams("a.log") == [lines(0, 20), lines(20, 30)]
    assert h.read_paths() == {b"a.log"}, "an event keeps the path under which it was first read"


async def test_T21_the_rest_of_a_file_renamed_out_of_the_glob_is_read(host: Hosts, tmp_path: Path) -> None:
    log, away = tmp_path / "a.log", tmp_path / "elsewhere"
    away.mkdir()
    log.write_bytes(lines(0, 10))
    h = host("*.log")
    await h.look()
    append(log, lines(10, 20))
    log.rename(away / "a")
    await h.settle()
    assert h.text("a.log") == lines(0, 20)


async def test_T21_the_rest_is_found_by_inode_where_the_file_was_not_open(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 10))
    h = host("*.log")
    await h.look()
    h.reader.close()
    append(log, lines(10, 20))
    log.rename(tmp_path / "renamed")
    await h.settle()
    assert h.text("a.log") == lines(0, 20)


async def test_T22_a_cascade_of_renames_in_one_look(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a"
    h = host("a*")
    total = []
    for i in range(6):
        for old in (2, 1):
            if (tmp_path / f"a.{old}").exists():
                (tmp_path / f"a.{old}").rename(tmp_path / f"a.{old + 1}")
        if log.exists():
            append(log, lines(10 * i - 5, 10 * i))
            log.rename(tmp_path / "a.1")
        log.write_bytes(lines(10 * i, 10 * i + 5))
        total.append(lines(10 * i, 10 * i + (10 if i < 5 else 5)))
        await h.look(0.5)
    await h.settle()
    assert h.streams("a") == total
    assert h.read_paths() == {b"a"}


async def test_T23_rotated_twice_between_two_looks(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a"
    h = host("a*")
    log.write_bytes(lines(0, 5))
    await h.look()
    append(log, lines(5, 10))
    log.rename(tmp_path / "a.2")
    log.write_bytes(lines(10, 20))
    log.rename(tmp_path / "a.1")
    log.write_bytes(lines(20, 30))
    await h.settle()
    assert sorted([*h.streams("a"), *h.streams("a.1")]) == [lines(0, 10), lines(10, 20), lines(20, 30)]


async def test_T26_a_file_that_went_before_it_was_read_is_counted(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 10))
    h = host("*.log")
    await h.sweep()
    log.unlink()
    await h.settle()
    assert h.known.counts["lost_bytes"] == len(lines(0, 10))


async def test_T28_copytruncate_after_everything_was_read(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 10))
    h = host("*.log")
    await h.look()
    shutil.copyfile(log, tmp_path / "a.log.1")
    rewrite(log, b"")
    await h.look(1)
    append(log, lines(10, 20))
    await h.settle()
    assert h.streams("a.log") == [lines(0, 10), lines(10, 20)]


async def test_T28_copytruncate_with_the_copy_inside_the_glob(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    h = host("*")
    await h.look()
    for i in range(3):
        append(log, lines(100 * i, 100 * i + 100))
        await h.look(1)
        shutil.copyfile(log, tmp_path / f"a.log.{i}")
        await h.look(1)
        rewrite(log, b"")
        await h.look(1)
    await h.settle()
    assert h.streams("a.log") == [lines(0, 100), lines(100, 200), lines(200, 300)]
    assert h.read_paths() == {b"a.log"}
    assert h.known.counts["copies"] == 3


async def test_T30_what_was_not_read_before_the_truncation_is_read_from_the_copy(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 100))
    h = host("*")
    await h.look()
    append(log, lines(100, 200))
    shutil.copyfile(log, tmp_path / "a.log.1")
    rewrite(log, lines(200, 250))
    await h.settle()
    assert h.streams("a.log") == [lines(0, 200), lines(200, 250)]


async def test_two_files_that_both_exist_are_two_streams_however_alike(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 100))
    h = host("*")
    await h.look()
    shutil.copyfile(log, tmp_path / "a.log.copy")
    await h.settle()
    assert h.text("a.log") == h.text("a.log.copy") == lines(0, 100)


async def test_T31_truncated_and_refilled_to_the_same_size(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(100, 200))
    h = host("*.log")
    await h.look()
    rewrite(log, lines(200, 300))
    assert log.stat().st_size == len(lines(100, 200))
    await h.settle()
    assert h.streams("a.log") == [lines(100, 200), lines(200, 300)]


async def test_T31_only_the_middle_changed_and_the_tail_tells(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"the same first line\n" + lines(100, 200))
    h = host("*.log")
    await h.look()
    rewrite(log, b"the same first line\n" + lines(200, 300))
    await h.settle()
    assert [one[-len(lines(100, 200)) :] for one in h.streams("a.log")] == [lines(100, 200), lines(200, 300)]


async def test_T32_truncated_and_refilled_larger(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 100))
    h = host("*.log")
    await h.look()
    rewrite(log, lines(100, 1000))
    await h.settle()
    assert h.streams("a.log") == [lines(0, 100), lines(100, 1000)]


async def test_T33_truncated_to_some_bytes(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 100))
    h = host("*.log")
    await h.look()
    os.truncate(log, len(lines(0, 30)))
    await h.look(1)
    append(log, lines(100, 110))
    await h.settle()
    assert h.streams("a.log") == [lines(0, 100), lines(0, 30) + lines(100, 110)]
    assert h.known.counts["truncated"] == 1


async def test_T35_deleted_and_made_again(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    h = host("*.log")
    for i in range(4):
        log.write_bytes(lines(i, i + 10))
        await h.look(1)
        log.unlink()
        if i % 2:
            await h.look(1)
    await h.settle()
    assert h.streams("a.log") == [lines(i, i + 10) for i in range(4)]


async def test_T35_made_again_with_the_same_line_is_two_events(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "status.log"
    h = host("*.log")
    for _ in range(3):
        log.write_bytes(b"ok\n")
        await h.look(1)
        log.unlink()
        await h.look(10)
    await h.settle()
    assert h.text("status.log") == b"ok\n" * 3


async def test_T36_an_inode_used_again_at_once_is_another_file(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    h = host("*.log")
    used = set()
    for i in range(10):
        log.write_bytes(b"the same head\n" + lines(i, i + 5))
        used.add(log.stat().st_ino)
        await h.look(0.5)
        h.reader.close()  # an open descriptor would keep the inode
        log.unlink()
    await h.settle()
    assert h.streams("a.log") == [b"the same head\n" + lines(i, i + 5) for i in range(10)]
    assert len(used) < 10, "this file system didn't use an inode again: the test shows nothing"


async def test_T37_a_deleted_file_gives_its_descriptor_back_in_time(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 10))
    h = host("*.log")
    await h.look()
    append(log, lines(10, 20))
    log.unlink()
    await h.settle(9)
    assert h.open_now == 0
    assert h.text("a.log") == lines(0, 20)


async def test_T38_a_path_that_comes_back_after_a_while_is_read_once(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 10))
    h = host("*.log")
    await h.look()
    log.unlink()
    await h.settle(20)
    log.write_bytes(lines(10, 20))
    await h.settle()
    assert h.streams("a.log") == [lines(0, 10), lines(10, 20)]


async def test_T39_a_link_that_is_switched_shows_every_target(host: Hosts, tmp_path: Path) -> None:
    (tmp_path / "targets").mkdir()
    link = tmp_path / "current.log"
    h = host("*.log")
    for i in range(10):
        target = tmp_path / f"targets/{i}"
        target.write_bytes(lines(10 * i, 10 * i + 5))
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        await h.look(0.5)
        append(target, lines(10 * i + 5, 10 * i + 10))
    await h.settle()
    assert h.streams("current.log") == [lines(10 * i, 10 * i + 10) for i in range(10)]


async def test_T85_a_name_that_leads_to_another_file_when_it_is_opened(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 10))
    h = host("a*")
    await h.sweep()
    log.rename(tmp_path / "a.1")
    log.write_bytes(lines(10, 20))
    await h.reader.round()
    await h.settle()
    assert sorted([*h.streams("a.log"), *h.streams("a.1")]) == [lines(0, 10), lines(10, 20)]
