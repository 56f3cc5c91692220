"""A tailer's memory does not grow with the files that come and go: rotated, copied and cut, deleted, unreadable."""

import errno
import gc
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from service.disk import Path as Name
from service.disk import RealDisk, RealFile
from tailer.blocks import Draft
from tests.tailer.conftest import Host

BATCH = 50
# More than are remembered (LOST_MAX) have gone when memory is looked at first; then twice so many more come and go.
BEFORE, MEANWHILE = 6 * BATCH, 10 * BATCH


class Guarded(RealDisk):
    """Files of this host; those with `secret` in their name can't be opened."""

    def open_read(self, path: Name) -> RealFile:
        if b"secret" in bytes(path if isinstance(path, bytes) else path.encode()):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return super().open_read(path)


def rotate(folder: Path) -> None:
    for path in folder.glob("*.renamed.log"):
        path.rename(path.with_suffix(".1"))


def delete(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.unlink()


async def come_and_go(h: Host, folder: Path, first: int) -> None:
    """A batch of files is written, read, and goes in one way or another."""
    kinds = ("deleted", "renamed", "secret", "empty", "unfinished")
    for number in range(first, first + BATCH):
        kind = kinds[number % len(kinds)]
        text = {"empty": b"", "unfinished": b"no end %d" % number}.get(kind, b"line of %d\n" % number)
        (folder / f"{number}.{kind}.log").write_bytes(text)
    with (folder / "cut.log").open("wb") as file:  # one that stays, and is written anew each time
        file.write(b"batch %d\n" % first)
    await h.look(1)
    await h.look(6)
    rotate(folder)
    delete(folder, "[0-9]*.log")
    await h.look(1)
    delete(folder, "*.1")
    for _ in range(3):
        await h.look(6)
    assert len(h.known.follows) == 1


def in_memory() -> tuple[int, int]:
    """Objects of the tailer's types, and bytes that its code has asked for since tracing began."""
    gc.collect()
    objects = sum(str(type(one).__module__).startswith("tailer.") for one in gc.get_objects())
    ours = [tracemalloc.Filter(True, "*/tailer/*"), tracemalloc.Filter(False, "*/tests/*")]
    return objects, sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(ours).traces)


async def test_files_that_came_and_went_leave_nothing_in_memory(
    host: Callable[..., Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailer.inputs.reader.TOLD_MAX", BATCH)
    h = host("*.log")
    h.machine.disk = h.known.disk = Guarded()
    sent: list[int] = []

    async def ship(drafts: list[Draft]) -> None:
        sent.append(sum(draft.count for draft in drafts))

    h.reader._ship = ship
    tracemalloc.start()
    try:
        for number in range(0, BEFORE, BATCH):
            await come_and_go(h, tmp_path, number)
        found = [in_memory()]
        for half in (1, 2):  # a table that is grown once, or something that is cached, is in one of them only
            for number in range(BEFORE + (half - 1) * MEANWHILE, BEFORE + half * MEANWHILE, BATCH):
                await come_and_go(h, tmp_path, number)
            found.append(in_memory())
    finally:
        tracemalloc.stop()
    assert sum(sent) > (BEFORE + 2 * MEANWHILE) * 0.55
    objects, size = (min(later[at] - before[at] for before, later in pairwise(found)) / MEANWHILE for at in (0, 1))
    assert abs(objects) < 0.02, f"{objects} objects a file"
    assert size < 10, f"{size} bytes a file"
