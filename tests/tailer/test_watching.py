"""Watching, with real inotify and real time: changes are seen at once, and without inotify a little later."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from service.machine import RealMachine
from service.watch import OVERFLOW, Event
from tailer.blocks import Blocks
from tailer.inputs.watching import GATHER_LEAST_S, GATHER_MIN_S, Folders, Watching

Hosts = Callable[..., Any]


class Real(RealMachine):
    def __init__(self, inotify: bool) -> None:
        super().__init__(seed=1)
        self.inotify = inotify

    def watch(self) -> Any:
        return super().watch() if self.inotify else None


def watching(h: Any, inotify: bool = True) -> Watching:
    """The harness's inputs, in real time."""
    machine = Real(inotify)
    h.reader.machine = machine
    h.blocks.live = True
    return Watching(machine, h.scanner, h.known, h.reader)


async def until(condition: Callable[[], bool], seconds: float) -> float:
    began = trio.current_time()
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  # what it looks at tells nobody
            await trio.sleep(0.02)
    return trio.current_time() - began


@pytest.mark.parametrize("inotify", [True, False])
async def test_new_lines_and_new_files_are_read_soon(host: Hosts, tmp_path: Path, inotify: bool) -> None:
    h = host("**/*.log")
    (tmp_path / "a.log").write_bytes(b"first\n")
    watch = watching(h, inotify)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await until(lambda: h.text("a.log") == b"first\n", 4)
        with (tmp_path / "a.log").open("ab") as file:
            file.write(b"second\n")
        await until(lambda: h.text("a.log") == b"first\nsecond\n", 4)
        (tmp_path / "x/y").mkdir(parents=True)
        (tmp_path / "x/y/b.log").write_bytes(b"new\n")
        await until(lambda: h.text("x/y/b.log") == b"new\n", 6)
        nursery.cancel_scope.cancel()
    watch.close()


async def test_a_file_of_which_much_comes_is_read_often(host: Hosts, tmp_path: Path) -> None:
    h = host("*.log")
    path = tmp_path / "busy.log"
    path.write_bytes(b"first\n")
    watch = watching(h)
    h.blocks.live = False
    pauses = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await until(lambda: h.text("busy.log") == b"first\n", 8)
        for _ in range(150):
            with path.open("ab") as file:
                file.write(b"x" * 2999 + b"\n")  # each is more than little, however slowly they come
            pauses.append(watch._pause)
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    watch.close()
    assert set(pauses[100:]) == {GATHER_MIN_S}


@pytest.mark.parametrize(("linger", "pause"), [(5.0, GATHER_MIN_S), (0.05, 0.05), (0.0, GATHER_LEAST_S)])
def test_who_lets_lines_linger_for_less_has_them_read_as_soon(host: Hosts, linger: float, pause: float) -> None:
    h = host("*.log")
    h.reader.blocks = Blocks(300, b"host", linger=linger)
    watch = watching(h)
    watch.close()
    assert watch._pause == pause


async def test_T9_a_folder_removed_and_made_again_is_watched_again(host: Hosts, tmp_path: Path) -> None:
    h = host("x/*.log")
    watch = watching(h)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        for i in range(2):
            (tmp_path / "x").mkdir()
            (tmp_path / "x/a.log").write_bytes(b"round %d\n" % i)
            await until(lambda: len(h.streams("x/a.log")) == i + 1, 5)  # noqa: B023  # looked at within the round
            (tmp_path / "x/a.log").unlink()
            (tmp_path / "x").rmdir()
        nursery.cancel_scope.cancel()
    watch.close()
    assert h.text("x/a.log") == b"round 0\nround 1\n"


async def test_once_reads_everything_and_ends(host: Hosts, tmp_path: Path) -> None:
    for i in range(50):
        (tmp_path / f"{i}.log").write_bytes(b"line of %d\nand no end" % i)
    h = host("*.log", patient=False)
    watch = watching(h)
    await watch.once()
    watch.close()
    assert all(h.text(f"{i}.log") == b"line of %d\nand no end" % i for i in range(50))


class Told:
    """A watch that says what the test wants."""

    def __init__(self, events: list[Event], fail: OSError | None = None) -> None:
        self.told = events
        self.fail = fail
        self.watched: list[bytes] = []
        self.removed: list[int] = []

    def add(self, path: bytes) -> int:
        if self.fail is not None:
            raise self.fail
        self.watched.append(path)
        return len(self.watched)

    def remove(self, watch: int) -> None:
        self.removed.append(watch)

    async def events(self) -> list[Event]:
        return self.told

    def close(self) -> None: ...


async def test_a_pattern_that_no_file_fits_is_named_once(host: Hosts, tmp_path: Path, said: io.StringIO) -> None:
    (tmp_path / "a.log").write_bytes(b"first\n")
    h = host("*.log", "a*", "nowhere/*.txt")
    watch = watching(h)
    await watch.once()
    await watch.once()
    watch.close()
    assert said.getvalue().count("no file fits a pattern") == 1
    assert "nowhere/*.txt" in said.getvalue()


async def test_T15_an_overflow_asks_for_a_sweep() -> None:
    folders = Folders(Told([Event(-1, OVERFLOW, b"")]))
    assert await anext(folders) == ([], True)


def test_T15_without_watches_left_sweeps_go_on() -> None:
    watch = Told([], OSError(28, "No space left on device"))
    folders = Folders(watch)
    folders.watch([b"/a", b"/b"])
    folders.watch([b"/a"])


def test_only_the_folders_of_the_last_sweep_are_watched() -> None:
    watch = Told([])
    folders = Folders(watch)
    folders.watch([b"/a"])
    folders.watch([b"/a", b"/b"])
    folders.watch([b"/b"])
    assert watch.watched == [b"/a", b"/b"]
    assert watch.removed == [1]
