"""Which stream a file is: over restarts, kills, and with a memory that was lost."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailer.inputs import naming

Hosts = Callable[..., Any]


def lines(first: int, end: int) -> bytes:
    return b"".join(b"line %d of the log\n" % i for i in range(first, end))


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


async def test_T12_a_file_left_alone_for_long_goes_on_with_new_lines_only(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 10))
    h = host("*.log", begin="end")
    await h.settle()
    assert h.text("a.log") == b""
    h.machine.clock += 10 * 86_400
    append(log, lines(10, 20))
    await h.settle()
    assert h.text("a.log") == lines(10, 20)


async def test_T2_from_the_end_the_old_is_skipped_and_nothing_new_is_missed(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 10) + b"unfini")
    h = host("*.log", begin="end")
    await h.look()
    append(log, b"shed\n" + lines(10, 20))
    await h.settle()
    assert h.text("a.log") == b"unfinished\n" + lines(10, 20)


async def test_T63_a_stop_and_a_start_lose_and_double_nothing(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    h = host("*.log", block=70_000)
    for i in range(10):
        append(log, lines(1000 * i, 1000 * i + 1000))
        await h.sweep()
        await h.reader.round()
        await h.stop()
    await h.settle()
    assert h.streams("a.log") == [lines(0, 10_000)]


async def test_T64_a_checkpoint_written_while_known_files_are_found_again_forgets_none(
    host: Hosts, tmp_path: Path
) -> None:
    """Between the sweep that finds a file and the look that knows it again, another file's packet may save all."""
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_bytes(lines(0, 10))
    h = host("*.log")
    await h.settle()
    h.save()
    h.start()
    await h.sweep()
    h.save()
    h.start()  # killed right after it
    for name in ("a.log", "b.log"):
        append(tmp_path / name, lines(10, 20))
    await h.settle()
    assert [h.streams(name) for name in ("a.log", "b.log")] == [[lines(0, 20)], [lines(0, 20)]]


async def test_T64_a_kill_loses_what_was_in_builders_and_that_is_read_again(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    h = host("*.log")
    for i in range(10):
        append(log, lines(100 * i, 100 * i + 100))
        await h.look(0.4)
        if i % 3 == 1:
            h.save()
        if i % 2:
            h.start()
    await h.settle()
    assert h.streams("a.log") == [lines(0, 1000)]


async def test_T64_holes_left_by_a_kill_are_filled_exactly(host: Hosts, tmp_path: Path) -> None:
    """Lines of two buckets in turn: one builder was closed, the other was lost. Those without a time of their own keep
    that of the line before."""
    log = tmp_path / "a.log"
    early, late = b"2026-09-21T14:13:%02d+00:00 early %d\n", b"2026-09-21T14:16:%02d+00:00 late %d\n"
    text = b"".join((early if i // 5 % 2 else late) % (i % 60, i) + b"\tat some.place\n" for i in range(300))
    log.write_bytes(text)
    undisturbed = host("*.log")
    await undisturbed.settle()
    h = host("*.log")
    await h.look()
    h.save()
    await h.ship([h.blocks._draft(h.blocks._open.pop())])
    assert 0 < len(h.text("a.log")) < len(text)
    h.start()
    await h.settle()
    assert h.streams("a.log") == [text]
    assert points_of(h) == points_of(undisturbed)


def points_of(h: Any) -> list[int]:
    return [point for stream in h.points.values() for first in sorted(stream) for point in stream[first]]


async def test_T65_what_is_written_while_down_is_read_at_the_start(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 10))
    h = host("*.log")
    await h.settle()
    await h.stop()
    append(log, lines(10, 20))
    await h.settle()
    assert h.streams("a.log") == [lines(0, 20)]


@pytest.mark.parametrize("glob", ["a.log", "a*"])
async def test_T66_one_rotation_while_down(host: Hosts, tmp_path: Path, glob: str) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 10))
    h = host(glob)
    await h.settle()
    await h.stop()
    append(log, lines(10, 20))
    log.rename(tmp_path / "a.log.1")
    log.write_bytes(lines(20, 30))
    await h.settle()
    assert h.streams("a.log") == [lines(0, 20), lines(20, 30)]


async def test_T68_copytruncate_while_down(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 100))
    h = host("*")
    await h.settle()
    await h.stop()
    append(log, lines(100, 110))
    shutil.copyfile(log, tmp_path / "a.log-1")
    log.write_bytes(lines(200, 210))
    await h.settle()
    assert h.streams("a.log") == [lines(0, 110), lines(200, 210)]


async def test_T69_shorter_than_its_fingerprint_at_the_stop_longer_at_the_start(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"x\n")
    h = host("*.log")
    await h.settle()
    await h.stop()
    append(log, lines(0, 500))
    await h.settle()
    assert h.streams("a.log") == [b"x\n" + lines(0, 500)]


async def test_T70_files_with_the_same_head_are_distinct(host: Hosts, tmp_path: Path) -> None:
    h = host("*.log")
    for i in range(20):
        (tmp_path / f"{i}.log").write_bytes(b"#Fields: time name value\n" + lines(i, i + 1))
        if i % 5 == 0:
            await h.look(0.2)
    await h.settle()
    assert all(h.streams(f"{i}.log") == [b"#Fields: time name value\n" + lines(i, i + 1)] for i in range(20))


async def test_T76_without_any_memory_the_names_are_the_same(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 50))
    h = host("*.log")
    await h.settle()
    first = dict(h.paths)
    h.saved = ()
    h.start()  # the bucks still say what they have
    append(log, lines(50, 60))
    await h.settle()
    assert h.paths == first
    assert h.streams("a.log") == [lines(0, 60)]


async def test_T76_a_memory_and_bucks_that_are_gone_read_all_again_under_the_same_name(
    host: Hosts, tmp_path: Path
) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 50))
    h = host("*.log")
    await h.settle()
    first, h.saved, h.coverage = dict(h.paths), (), {}
    h.start()
    await h.settle()
    assert h.paths == first


async def test_a_truncation_while_down_begins_another_generation(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"header\n" + lines(0, 50))
    h = host("*.log")
    await h.settle()
    for i in range(3):
        await h.stop()
        log.write_bytes(b"header\n" + lines(100 + i, 110 + i))
        await h.settle()
    assert h.streams("a.log") == [b"header\n" + lines(0, 50)] + [
        b"header\n" + lines(100 + i, 110 + i) for i in range(3)
    ]


async def test_a_file_renamed_away_for_long_goes_on_when_it_is_back(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 10))
    h = host("*.log")
    await h.look()
    log.rename(tmp_path / "away")
    await h.settle(20)
    assert h.open_now == 0
    (tmp_path / "away").rename(log)
    append(log, lines(10, 20))
    await h.settle()
    assert h.streams("a.log") == [lines(0, 20)]


async def test_T34_moved_away_truncated_and_moved_back(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 10))
    h = host("*.log")
    await h.look()
    log.rename(tmp_path / "away")
    (tmp_path / "away").write_bytes(lines(50, 55))
    (tmp_path / "away").rename(log)
    await h.settle()
    assert h.streams("a.log") == [lines(0, 10), lines(50, 55)]


@pytest.mark.parametrize(
    ("kept", "new", "again"), [(990, 0, 0), (990, 5, 0), (990, 600, 0), (999, 1, 0), (700, 9, 700)]
)
async def test_after_a_power_cut_only_what_differs_is_another_generation(
    host: Hosts, tmp_path: Path, kept: int, new: int, again: int
) -> None:
    """The log lost its own last lines; others were written since. Beyond a KiB of them all is read again."""
    log = tmp_path / "a.log"
    log.write_bytes(lines(0, 1000))
    h = host("*.log")
    await h.settle()
    await h.stop()
    log.write_bytes(lines(0, kept) + lines(5000, 5000 + new))
    h.same_boot = False
    h.start()
    await h.settle()
    assert b"".join(h.streams("a.log")) == lines(0, 1000) + lines(0, again) + lines(5000, 5000 + new)


async def test_T64_a_line_without_a_time_has_that_of_the_line_before_over_a_kill(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    append(log, b"2026-09-21T14:10:00Z first\n")
    h = host("*.log")
    await h.look()
    append(log, b"2026-09-21T14:11:00Z second\n")
    await h.look(1)
    await h.ship(h.blocks.flush())
    h.start()  # the checkpoint is from before the second line
    append(log, b"\tat some.place\n")
    await h.settle()
    first, second, third = points_of(h)
    assert third == second != first


async def test_T64_a_hole_at_the_head_is_read_as_if_nothing_had_been_read(host: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    append(log, b"a header without a time\n" + b"2026-09-21T14:00:00Z first\n" * 5)
    h = host("*.log")
    await h.look()
    await h.ship([h.blocks._draft(h.blocks._open.pop())])
    h.save()
    h.start()
    await h.settle()
    assert h.events == 6
    header, *rest = points_of(h)
    assert header // 10**8 == h.machine.start_ns // 10**9
    assert len(set(rest)) == 1


async def test_of_files_that_are_long_gone_nothing_is_kept(
    host: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that rotates for years: what is remembered doesn't grow with the number of its files."""
    monkeypatch.setattr(naming, "LOST_MAX", 3)
    h = host("*")
    kept = []
    for n in range(12):
        (tmp_path / f"{n}").write_bytes(b"log %d\n" % n)
        await h.look(1)
        (tmp_path / f"{n}").unlink()
        await h.settle(8)
        kept.append(sum(len(one) for one in vars(h.known.naming).values() if hasattr(one, "__len__")))
        kept[-1] += len(h.known.follows) + len(h.known.by_name) + len(h.reader.dirty) + len(h.reader._opened)
    assert h.events == 12
    assert kept[4:] == [kept[4]] * 8


async def test_a_file_written_anew_often_is_another_stream_each_time(
    host: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also once its first generations are forgotten: as long as it is there, none is used twice."""
    monkeypatch.setattr(naming, "LOST_MAX", 2)
    h = host("*")
    texts = [b"head\n%d\n" % n for n in range(8)]
    for text in texts:
        (tmp_path / "a").write_bytes(b"")
        await h.look(1)
        (tmp_path / "a").write_bytes(text)
        await h.settle(8)
    assert h.streams("a") == texts
