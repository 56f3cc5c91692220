"""A buck that gets ten times what it can take: what it holds in memory, and that it keeps all that it acknowledged.

The buck gets a tenth of its time (it is stopped and let go on a hundred times a second), while many peers push as fast
as it lets them: senders with full windows, senders that read no answer, and readers that ask for everything on 32
questions each and take nothing. What it may hold is `--memory` and what it needs anyway; the latter is measured in the
same run, of an idle one.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import trio

from bench.buck import body, sealed
from bench.cluster import Buck, Process
from bench.filling import fresh
from bench.measure import spread
from bench.options import Options
from bench.report import Row
from bench.sending import hello, key_of, send_all
from protocol import packet as packets
from protocol.connection import Connection
from protocol.identity import NodeKey
from protocol.limits import WIDTH_S
from protocol.link import open_asker
from protocol.messages import Get, Have, Ok, PacketIs, Put, Receipt
from protocol.packet import Class
from protocol.ranges import Ranges

SENDERS, DEAF, GREEDY = 24, 16, 16
SIZES = (32 << 10, 256 << 10, 1 << 20)
WINDOW = 16
QUESTIONS = 32
EPOCH = 1 << 32
SHARE, TURN_S = 0.1, 0.05
WAIT_S = 60.0
LOAD_S = 12.0
FULL = 1_000_000_000


@dataclass
class Peer:
    """One that sends packets of its own to one buck, over a plain blocking socket."""

    address: str
    key: NodeKey
    bucket: int
    size: int
    sync: bool = False
    sent: int = 0
    acked: Ranges = field(default_factory=Ranges)
    refused: int = 0

    def put_until(self, stop: threading.Event) -> None:
        """As a tailer does: a window under way, and after `stop` until all is answered."""
        with link_to(self.address, self.key) as (link, connection):
            waiting = 0
            while waiting or not stop.is_set():
                if not stop.is_set() and waiting < WINDOW:
                    send_all(link, connection.send(self._next()))
                    waiting += 1
                    continue
                connection.receive(_received(link))
                for answer in connection.messages():
                    waiting -= 1
                    number = answer.ask - 1  # type: ignore[attr-defined]  # every answer has it
                    if isinstance(answer, Ok):
                        self.acked.add(number, number + 1)
                    else:
                        self.refused += 1

    def put_deaf(self, stop: threading.Event) -> None:
        """Put, and read no answer: it will be cut."""
        with suppress(OSError), link_to(self.address, self.key) as (link, connection):
            link.settimeout(1.0)
            while not stop.is_set():
                send_all(link, connection.send(self._next()))
            stop.wait()

    def _next(self) -> Put:
        self.sent += 1
        return Put(self.sent, 0, False, packet_of(self.key.node, self.bucket, self.sent - 1, self.size, self.sync))


def packet_of(tailer: bytes, bucket: int, number: int, size: int, sync: bool = False) -> bytes:
    """A packet of about `size` bytes of noise."""
    return sealed(tailer, bucket, number, body(size), Class(2, sync, True))


def ask_deaf(address: str, bucket: int, wanted: list[tuple[bytes, int, Ranges]], stop: threading.Event) -> None:
    """Ask for everything, many times, and read nothing of it."""
    with suppress(OSError), link_to(address, key_of("greedy"), "porter") as (link, connection):
        for number in range(QUESTIONS):
            send_all(link, connection.send(Get(number + 1, bucket, tuple(wanted))))
        stop.wait()


@contextmanager
def link_to(address: str, key: NodeKey, role: str = "tailer") -> Iterator[tuple[socket.socket, Connection]]:
    """A link whose handshake is done. Both ends of its socket hold little."""
    host, port = address.rsplit(":", 1)
    link = socket.socket()
    with link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        link.settimeout(WAIT_S)
        link.connect((host, int(port)))
        connection = Connection(hello(key, role), dialing=True)
        link.sendall(connection.start())
        while connection.peer is None:
            connection.receive(_received(link))
        yield link, connection


def _received(link: socket.socket) -> bytes:
    data = link.recv(64 << 10)
    if not data:
        raise ConnectionError("the buck has closed the link")
    return data


@contextmanager
def slowed(process: Process, share: float = SHARE) -> Iterator[None]:
    """Let a process run only this share of the time."""
    done = threading.Event()

    def turns() -> None:
        while not done.wait(TURN_S * share):
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(TURN_S * (1 - share))
            os.kill(process.pid, signal.SIGCONT)

    thread = threading.Thread(target=turns)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def crowd(tasks: list[Callable[[threading.Event], object]]) -> Iterator[None]:
    """All of these in threads while the block lasts; what one raises is raised at its end."""
    stop, errors = threading.Event(), []

    def run(task: Callable[[threading.Event], object]) -> None:
        try:
            task(stop)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def press(buck: Buck, seconds: float, share: float = SHARE, sync: bool = False) -> list[Peer]:
    """Ten times what it can take, for so long; the senders that heard answers, with what was acknowledged to them."""
    bucket = int(time.time()) // WIDTH_S * WIDTH_S
    peers = [
        Peer(buck.address, key_of(f"sender{i}"), bucket, SIZES[i % len(SIZES)], sync and i % 2 > 0)
        for i in range(SENDERS)
    ]
    deaf = [Peer(buck.address, key_of(f"deaf{i}"), bucket, SIZES[i % len(SIZES)]) for i in range(DEAF)]
    wanted = [(peer.key.node, EPOCH, Ranges([(0, 1 << 20)])) for peer in peers]
    tasks: list[Callable[[threading.Event], object]] = [peer.put_until for peer in peers]
    with crowd(tasks):
        time.sleep(seconds / 4)  # something is there to be asked for
        tasks = [peer.put_deaf for peer in deaf]
        tasks += [lambda stop: ask_deaf(buck.address, bucket, wanted, stop)] * GREEDY
        with slowed(buck, share), crowd(tasks):
            time.sleep(seconds * 3 / 4)
    return peers


def missing(address: str, peers: list[Peer]) -> int:
    """How many packets were acknowledged and are not there, or not as they were sent."""
    return trio.run(_missing, address, peers)


async def _missing(address: str, peers: list[Peer]) -> int:
    lost = 0
    host, port = address.rsplit(":", 1)
    for peer in peers:
        stream = await trio.open_tcp_stream(host, int(port))
        async with open_asker(stream, hello(peer.key), timeout_s=WAIT_S) as asker:
            receipt = await asker.ask(Have(0, peer.key.node, EPOCH, peer.bucket, True))
            assert isinstance(receipt, Receipt)
            lost += (peer.acked - receipt.held).count
    stream = await trio.open_tcp_stream(host, int(port))
    async with open_asker(stream, hello(key_of("porter"), "porter"), timeout_s=WAIT_S) as asker:
        for peer in peers:
            with asker.ask_many(Get(0, peer.bucket, ((peer.key.node, EPOCH, peer.acked),))) as parts:
                async for part in parts:
                    if isinstance(part, PacketIs):
                        packets.read(part.packet)
                    else:
                        lost += sum(numbers.count for *_, numbers in part.missing)
    return lost


def run(options: Options) -> list[Row]:
    seconds = LOAD_S * min(1.0, options.size / FULL)
    peaks, kept, idle = [], [], []
    for _ in range(options.runs):
        with fresh(options.folder / "cluster", 1) as cluster:
            (buck,) = cluster.live()
            idle.append(buck.usage().rss)
            peers = press(buck, seconds)
            peaks.append(buck.usage().rss_max)
            lost = missing(buck.address, peers)
            assert lost == 0, f"{lost} packets that were acknowledged are not there"
            kept.append(sum(peer.acked.count for peer in peers))
    return [
        Row("pressure", "buck, idle", spread([rss / 1e6 for rss in idle]), "MB RSS"),
        Row("pressure", "buck at 10 x its load, peak", spread([rss / 1e6 for rss in peaks]), "MB RSS", most=300),
        Row("pressure", "packets acknowledged and kept", spread([float(count) for count in kept]), "packets"),
    ]
