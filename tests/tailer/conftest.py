"""A host with log files, and the inputs of a tailer over them, stepped by hand.

The files are real ones in tmp_path; the clock is the test's own, so nothing waits. What would go to the journal is
decoded at once and kept by stream, and nothing may come twice: `Host.text(path)` is what `porter cat` would give.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocol.header import Header
from protocol.kernel import Rows
from protocol.packet import build, read, unpack
from protocol.ranges import Ranges
from service.log import setup
from service.machine import RealMachine
from tailer.blocks import Blocks, Draft
from tailer.checkpoint import StreamState
from tailer.inputs.files import Glob, Scanner
from tailer.inputs.known import Known
from tailer.inputs.naming import Naming
from tailer.inputs.reader import Reader
from tailer.kinds import Kinds

START_NS = 1_790_000_000_000_000_000


class HandClock(RealMachine):
    """The real machine, but for its clocks."""

    def __init__(self) -> None:
        super().__init__(seed=1)
        self.clock = 1000.0
        self.start_ns = START_NS

    def now(self) -> float:
        return self.clock

    def time_ns(self) -> int:
        return self.start_ns + int((self.clock - 1000.0) * 1e9)


class Host:
    """One tailer's inputs over a folder."""

    def __init__(self, folder: Path, *globs: str, exclude: tuple[str, ...] = (), **options: object) -> None:
        self.folder = folder
        self.machine = HandClock()
        self.globs = [Glob.parse(glob, str(folder).encode()) for glob in globs or ("*",)]
        self.excluded = [Glob.parse(glob, str(folder).encode()) for glob in exclude]
        self.begin = str(options.get("begin", "head"))
        self.patient = bool(options.get("patient", True))
        self.open_files = int(str(options.get("open_files", 512)))
        self.block = int(str(options.get("block", 1 << 20)))
        self.same_boot = True
        self.drafts: list[Draft] = []
        self.paths: dict[bytes, bytes] = {}  # stream -> path, in order of appearance
        self.pieces: dict[bytes, dict[int, bytes]] = {}  # stream -> first offset -> bytes
        self.flags: dict[bytes, dict[int, list[int]]] = {}
        self.points: dict[bytes, dict[int, list[int]]] = {}
        self.coverage: dict[bytes, Ranges] = {}
        self.saved: tuple[StreamState, ...] = ()
        self.saved_at = 0
        self._start(())

    def _start(self, states: tuple[StreamState, ...]) -> None:
        self.blocks = Blocks(300, b"host")
        naming = Naming(
            Kinds(),
            begin=self.begin,
            now_ns=self.machine.time_ns(),
            patient=self.patient,
            same_boot=self.same_boot,
            states=states,
            coverage={stream: ranges.copy() for stream, ranges in self.coverage.items()},
        )
        self.known = Known(self.machine.disk, naming)
        self.reader = Reader(
            self.machine, self.known, self.blocks, self.ship, open_files=self.open_files, block=self.block
        )
        self.scanner = Scanner(self.machine.disk, self.globs, self.excluded)

    async def ship(self, drafts: list[Draft]) -> None:
        for draft in drafts:
            self.drafts.append(draft)
            self._decode(draft)

    def _decode(self, draft: Draft) -> None:
        packet = read(build(header_of(draft, len(self.drafts)), draft.body))
        head = packet.header
        rows = Rows.decode(unpack(packet), head.count, head.sizes, head.formats, head.shn, head.app, head.runs)
        row = 0
        for index, first, end, count, _ in head.runs:
            stream = head.streams[index].id
            self.paths.setdefault(stream, head.streams[index].path)
            held = self.coverage.setdefault(stream, Ranges())
            assert not held & Ranges([(first, end)] if end > first else []), "bytes of a stream were sent twice"
            held.add(first, end)
            self.pieces.setdefault(stream, {})[first] = rows.render(row, row + count)
            self.flags.setdefault(stream, {})[first] = list(rows.flags[row : row + count])
            self.points.setdefault(stream, {})[first] = list(rows.points[row : row + count])
            row += count

    async def sweep(self) -> None:
        began = self.machine.now()
        self.reader.mark(self.known.apply(await self.scanner.sweep(), self.machine.now()), began)

    async def look(self, seconds: float = 0.0) -> None:
        """Time passes; then a sweep, and rounds until there is nothing more to read."""
        self.machine.clock += seconds
        await self.sweep()
        for _ in range(1000):
            if not self.reader.dirty:
                break
            await self.reader.round()
        else:
            raise AssertionError("the rounds do not end")
        if self.known.naming.changes != self.saved_at:  # the agent does so within seconds
            self.save()

    async def settle(self, seconds: float = 12.0) -> None:
        """Let all that waits for time happen, and close the builders."""
        for _ in range(int(seconds) * 2):
            await self.look(0.5)
        await self.ship(self.blocks.flush())

    async def once(self) -> None:
        """What `--once` does: read everything to its end."""
        await self.sweep()
        await self.reader.finish([])

    async def stop(self) -> None:
        """A stop in order, and the next start."""
        await self.reader.stop()
        self.save()
        self.start()

    def save(self) -> None:
        """A checkpoint is written."""
        self.saved = self.known.states()
        self.saved_at = self.known.naming.changes

    def start(self) -> None:
        """Start again from the last checkpoint; what was only in builders is gone, as after SIGKILL."""
        self.reader.close()
        self._start(self.saved)
        self.saved_at = 0

    def streams(self, path: str | bytes) -> list[bytes]:
        """The generations read under a path, oldest first."""
        name = path if isinstance(path, bytes) else path.encode()
        whole = str(self.folder).encode() + b"/" + name
        return [self._joined(stream) for stream, at in self.paths.items() if at == whole]

    def _joined(self, stream: bytes) -> bytes:
        pieces = self.pieces.get(stream, {})
        return b"".join(pieces[first] for first in sorted(pieces))

    def text(self, path: str | bytes) -> bytes:
        """What was read under a path."""
        return b"".join(self.streams(path))

    def read_paths(self) -> set[bytes]:
        cut = len(str(self.folder)) + 1
        return {path[cut:] for path in self.paths.values()}

    @property
    def events(self) -> int:
        return sum(draft.count for draft in self.drafts)

    @property
    def open_now(self) -> int:
        return sum(follow.file is not None for follow in self.known.follows.values())


def header_of(draft: Draft, number: int) -> Header:
    return Header(
        env="test",
        bucket=draft.bucket,
        width=300,
        tailer=bytes(16),
        host=b"host",
        epoch=1,
        number=number,
        kind=draft.kind,
        count=draft.count,
        point_min=draft.point_min,
        point_max=draft.point_max,
        late=draft.late,
        streams=draft.streams,
        runs=draft.runs,
        content=draft.content,
        formats=draft.formats,
        shn=draft.shn,
        app=draft.app,
        sizes=draft.sizes,
    )


@pytest.fixture
def host(tmp_path: Path) -> Callable[..., Host]:
    """Makes hosts over tmp_path: `host("*.log", begin="end")`."""

    def make(*globs: str, **options: object) -> Host:
        exclude = options.pop("exclude", ())
        assert isinstance(exclude, tuple)
        return Host(tmp_path, *globs, exclude=exclude, **options)

    return make


@pytest.fixture(scope="session")
def host_class() -> type[Host]:
    """For tests that make their own folders."""
    return Host


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """What is logged during the test."""
    stream = io.StringIO()
    setup(stream=stream)
    yield stream
    setup()
