"""Packets, seals and stores for the tests of the buck."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from buck.counts import Counts
from buck.index import Index
from buck.reading import Reading
from buck.store import Store
from protocol import packet as packets
from protocol.identity import NodeKey
from protocol.limits import POINT_HZ
from protocol.messages import Put
from protocol.packet import Class, Header, Packet, Run, StreamRef
from protocol.ranges import Ranges
from protocol.seal import CONTENT_SIZE, FIRST, Seal
from protocol.statement import Named, Statement
from service.machine import Machine
from tests.simulation.machine import START_NS, World, simulate

WIDTH = 300
BUCKET = START_NS // 1_000_000_000 // WIDTH * WIDTH
KEY = NodeKey.from_seed(b"\x01" * 32)
OTHER = NodeKey.from_seed(b"\x02" * 32)
NODE = NodeKey.from_seed(b"\x03" * 32)
PORTER = NodeKey.from_seed(b"\x09" * 32)
VERDICT = "prod/date=2023-11-14/22.v00.json"
STREAM = b"\x01" * 16


def make(
    number: int = 0,
    body: bytes = b"body",
    *,
    bucket: int = BUCKET,
    tailer: bytes = KEY.node,
    epoch: int = 7,
    path: bytes = b"/var/log/syslog",
    host: bytes = b"web1",
    env: str = "prod",
    width: int = WIDTH,
    sync: bool = False,
    stream: bytes = STREAM,
    offset: int | None = None,
) -> bytes:
    """A packet with one event of ten bytes in one stream; its body is not what a tailer would write."""
    first = number * 10 if offset is None else offset
    point = bucket * POINT_HZ
    header = Header(
        env, bucket, width, tailer, host, epoch, number, Class(2, sync, True), 1, point, point, False,
        (StreamRef(stream, path, b"headhash"),), (Run(0, first, first + 10, 1, point),), bytes(32),
    )  # fmt: skip
    return packets.build(header, body)


def read(data: bytes) -> Packet:
    return packets.read(data)


def made(number: int = 0, body: bytes = b"body", **what: Any) -> Packet:
    return read(make(number, body, **what))


def index_of(data: Iterable[bytes]) -> Index:
    """The index of a file made of these packets."""
    index, offset = Index(), 0
    for one in data:
        index.add(read(one), offset)
        offset += len(one)
    return index


def seal(number: int = 0, key: NodeKey = KEY, env: str = "prod", width: int = WIDTH, time_ns: int = 0) -> bytes:
    return Seal(
        env, width, key.node, key.public, b"web1", number, FIRST, time_ns, BUCKET, 0, 0, False, ()
    ).signed(key).data  # fmt: skip


def stating(packets: Iterable[Packet], bucket: int = BUCKET, env: str = "prod", width: int = WIDTH) -> Statement:
    """A porter's statement that names these."""
    by_epoch: dict[tuple[bytes, int], dict[int, bytes]] = {}
    for packet in packets:
        tailer, epoch, number = packet.header.key
        by_epoch.setdefault((tailer, epoch), {})[number] = packet.header.content[:CONTENT_SIZE]
    named = [
        Named(*epoch, Ranges((n, n + 1) for n in sorted(some)), b"".join(some[n] for n in sorted(some)))
        for epoch, some in sorted(by_epoch.items())
    ]
    return Statement(env, width, bucket, PORTER.public, 1, VERDICT, bytes(32), tuple(named)).signed(PORTER)


async def open_store(machine: Machine, roots: Sequence[str] = ("/d1",), env: str = "prod") -> Store:
    store = Store(machine, roots, env, WIDTH, Counts())
    await store.open(NODE.node)
    return store


async def numbers(store: Store, bucket: int = BUCKET, tailer: bytes = KEY.node, epoch: int = 7) -> Ranges:
    """What the store says it holds."""
    return (await store.receipt(tailer, epoch, bucket, False)).held


async def get(store: Store, wanted: Ranges, bucket: int = BUCKET, tailer: bytes = KEY.node) -> list[bytes]:
    """The packets themselves."""
    reading = Reading(store, bucket, [(tailer, 7, wanted)])
    found: list[bytes] = []
    try:
        while await reading.look():
            found += await reading.batch()
    finally:
        reading.close()
    return found


def in_world(scenario: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """A test that is a scenario of simulated hosts."""

    def test() -> None:
        simulate(1, scenario)

    test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
    return test


def put_question(data: bytes) -> Put:
    """As a tailer puts it."""
    return Put(0, 0, False, data)
