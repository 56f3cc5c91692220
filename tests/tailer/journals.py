"""Small drafts for a journal, and journals on a simulated disk."""

import hashlib

from protocol.identity import NodeKey, file_stream, head_hash
from protocol.packet import Class, Run, StreamRef
from tailer.blocks import Draft
from tailer.journal import Journal
from tests.simulation.machine import SimMachine

KEY = NodeKey.from_seed(bytes(range(32)))
OTHER_KEY = NodeKey.from_seed(bytes(32))
WIDTH = 300
BUCKET = 1_700_000_100  # the simulator's clock begins in it
POINT = BUCKET * 100_000_000
STREAM = file_stream(1, 2, b"head\n", 0)


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


async def open_journal(machine: SimMachine, epoch: int = 1 << 32, folder: str = "/journal", **options: object) -> Journal:
    """A journal of this test's node, with its width known."""
    given = {"env": "test", "key": KEY, "host": b"web-1", "epoch": epoch} | options
    journal = await Journal.open(machine, folder, **given)  # type: ignore[arg-type]  # the tests' own spelling
    journal.set_width(WIDTH)
    return journal
