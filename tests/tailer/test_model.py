"""T96: any order of writing, rotating, cutting, deleting, looking, stopping and killing.

Each line written is another one. The model knows which lines must come out (they were in a file when it was looked
at, or are in one at the end) and which may (they went before anybody looked). Nothing may come twice, and nothing
else may come.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tailer.inputs.files import key_of

OPS = [
    "write", "write", "write", "much", "partial", "rotate", "copytruncate", "rewrite", "delete", "delete old",
    "look", "look", "wait", "stop", "kill", "save",
]  # fmt: skip


class Model:
    """A folder with one log and what it was rotated to, and the tailer over it."""

    def __init__(self, host: Any, folder: Path, glob: str) -> None:
        self.host = host
        self.sees_old = glob.endswith("*")
        self.folder = folder
        self.log = folder / "app.log"
        self.written = 0
        self.must: set[bytes] = set()
        self.may: set[bytes] = set()
        self.rotations = 0

    def write(self, count: int = 3, end: bytes = b"\n") -> None:
        lines = [b"line %d of all that was ever written here" % (self.written + i) for i in range(count)]
        self.written += count
        with self.log.open("ab") as file:
            file.write(b"\n".join(lines) + end)

    def much(self) -> None:
        self.write(200)

    def partial(self) -> None:
        self.write(1, b"")

    def rotate(self) -> None:
        if self.log.exists():
            self.rotations += 1
            if self.sees_old or self._is_known():
                self.log.rename(self.folder / f"app.log.{self.rotations}")
            else:
                self._destroy(self.log)
                self.log.rename(self.folder / f"never seen {self.rotations}")

    def _is_known(self) -> bool:
        key = key_of(self.host.machine.disk.stat(str(self.log)))
        return key in self.host.known.follows or key in self.host.known.naming.awaited

    async def copytruncate(self) -> None:
        if self.log.exists():
            self.rotations += 1
            if self.sees_old:
                shutil.copyfile(self.log, self.folder / f"app.log.{self.rotations}")
            else:
                self._destroy(self.log)
            with self.log.open("r+b") as file:
                file.truncate(0)
            await self.look()  # a restart before it is seen that the original was cut shows two files

    def rewrite(self) -> None:
        if self.log.exists():
            self._destroy(self.log)
            with self.log.open("r+b") as file:
                file.truncate(0)
            self.write(5)

    def delete(self) -> None:
        if self.log.exists():
            self._destroy(self.log)
            self.log.unlink()

    def delete_old(self) -> None:
        for old in sorted(self.folder.glob("app.log.*"))[:1]:
            self._destroy(old)
            old.unlink()

    def _destroy(self, path: Path) -> None:
        self.may |= self._lines(path) - self.must

    async def look(self, seconds: float = 0.3) -> None:
        await self.host.look(seconds)
        for path in self.folder.glob("app.log*"):
            self.must |= self._lines(path)

    async def wait(self) -> None:
        await self.host.settle(15)
        await self.look()

    async def stop(self) -> None:
        for path in self.folder.glob("app.log*"):
            self._lines(path)
        await self.host.stop()

    def kill(self) -> None:
        """What was only in builders is lost with the process, unless its file is still there at the next look."""
        lost = self.must - self.read()
        self.must -= lost
        self.may |= lost
        self.host.start()

    def save(self) -> None:
        self.host.save()

    def read(self) -> set[bytes]:
        lines = [line for stream in self.host.pieces for line in self.host._joined(stream).split(b"\n") if line]
        assert len(lines) == len(set(lines)), "a line came twice"
        return set(lines)

    def _lines(self, path: Path) -> set[bytes]:
        """Its whole lines; an unfinished one may come or not."""
        *whole, rest = path.read_bytes().split(b"\n")
        if rest:
            self.may.add(rest)
        return set(whole)

    async def run(self, ops: list[str]) -> None:
        for op in ops:
            done = getattr(self, op.replace(" ", "_"))()
            if done is not None:
                await done
        await self.wait()
        read = self.read()
        assert not self.must - read, "lines are missing"
        assert not read - self.must - self.may, "lines that were never written so"


@pytest.mark.parametrize("glob", ["app.log*", "app.log"])
@given(ops=st.lists(st.sampled_from(OPS), max_size=25))
def test_T96_nothing_is_lost_and_nothing_comes_twice(glob: str, ops: list[str], host_class: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trio.run(Model(host_class(Path(folder), glob), Path(folder), glob).run, ops)
