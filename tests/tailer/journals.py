"""Small drafts for a journal, journals on a simulated disk, and what may be done to their files."""

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from protocol.identity import NodeKey, file_stream, head_hash
from protocol.packet import Class, Run, StreamRef
from protocol.ranges import Ranges
from protocol.seal import Seal
from tailer import segments
from tailer.blocks import Draft
from tailer.journal import Journal
from tailer.ledger import Entry
from tailer.sealing import sections
from tests.simulation.machine import Host, SimMachine, World, simulate
from tests.simulation.platter import Folder, Inode

KEY = NodeKey.from_seed(bytes(range(32)))
OTHER_KEY = NodeKey.from_seed(bytes(32))
WIDTH = 300
BUCKET = 1_700_000_100  # the simulator's clock begins in it
STREAM = file_stream(1, 2, b"head\n", 0)
FOLDER = "/journal"
EPOCH = 1 << 32


def draft(
    first: int,
    end: int,
    *,
    stream: bytes = STREAM,
    bucket: int = BUCKET,
    kind: Class | None = None,
    size: int = 100,
    opened_at: float = 0.0,
) -> Draft:
    """A packet to be, of one line at [first, end), whose body is `size` bytes that nobody decodes."""
    seed = f"{stream!r}{first}{end}".encode()
    point = bucket * 100_000_000
    return Draft(
        bucket=bucket,
        late=False,
        kind=kind or Class(),
        count=1,
        raw=end - first,
        point_min=point,
        point_max=point,
        streams=(StreamRef(stream, b"/var/log/a.log", head_hash(b"head\n")),),
        runs=(Run(0, first, end, 1, point),),
        content=hashlib.sha256(seed).digest(),
        formats=(),
        shn=(),
        app=(),
        sizes=(10, 0, 0, 0, 0, 0, 0, 0),
        body=hashlib.shake_128(seed).digest(size),
        opened_at=opened_at,
    )


async def open_journal(machine: SimMachine, epoch: int = EPOCH, **options: object) -> Journal:
    """A journal of this test's node, with its width known."""
    given = {"env": "test", "key": KEY, "host": b"web-1", "epoch": epoch} | options
    journal = await Journal.open(machine, FOLDER, **given)  # type: ignore[arg-type]  # the tests' own spelling
    journal.set_width(WIDTH)
    return journal


def next_epoch(journal: Journal) -> int:
    return journal.epoch + (1 << 32)


def fill(journal: Journal, count: int, *, size: int = 100) -> list[Entry]:
    """Append packets of ten bytes of the stream each, going on where the last one ended."""
    covered = journal.coverage.get(STREAM, Ranges())
    start = covered.last + 1 if covered else 0
    numbers = [
        journal.append(draft(at, at + 10, size=size)).header.number for at in range(start, start + 10 * count, 10)
    ]
    return [journal.ledger.entries[journal.epoch, number] for number in numbers]


def seal_all(journal: Journal) -> Seal:
    """State everything, as mend.py does."""
    number, previous = journal.chain.head
    seal = Seal(
        env="test",
        width=WIDTH,
        tailer=KEY.node,
        public=KEY.public,
        host=b"web-1",
        number=number + 1,
        previous=previous,
        time_ns=journal.machine.time_ns(),
        until=BUCKET,
        offset_ns=0,
        crashes=journal.crashes,
        closing=False,
        sections=sections(journal.ledger, journal.chain, BUCKET, journal.epoch),
    ).signed(KEY)
    journal.add_seal(seal)
    return seal


def finish(journal: Journal, entries: list[Entry]) -> None:
    for entry in entries:
        journal.ledger.note_done(entry)


def readable(journal: Journal) -> dict[tuple[int, int], bytes]:
    """Every packet that is in the index, read back."""
    found = {}
    for slot, entry in list(journal.ledger.entries.items()):
        packet = journal.load(entry)
        assert packet is not None, slot
        found[slot] = bytes(packet.data)
    return found


def numbers(journal: Journal) -> list[int]:
    return [number for _, number in journal.ledger.entries]


def segment_files(host: Host) -> dict[str, Inode]:
    """The journal's segments, by name, in order."""
    folder = host.platter.find(FOLDER)
    assert isinstance(folder, Folder)
    found = {name.decode(): node for name, node in sorted(folder.names.items()) if name.endswith(b".segment")}
    return {name: node for name, node in found.items() if isinstance(node, Inode)}


def last_segment(host: Host) -> Inode:
    return list(segment_files(host).values())[-1]


def keep(inode: Inode, data: bytes) -> None:
    """Make these bytes the file's, cache and device."""
    inode.data[:] = data
    inode.fsync()


def run(scenario: Callable[[World], Awaitable[None]], seed: int = 1) -> None:
    simulate(seed, scenario)


@contextmanager
def small_segments(size: int = 1500) -> Iterator[None]:
    """Segments of a few packets, so that a test sees many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "SEGMENT_SIZE", size)
        patch.setattr(segments, "SEGMENT_SIZE_MIN", 1)
        yield
