"""C28: peers of a later version. What they store is kept and served; who can't read it says so, and does the rest."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from functools import partial

import pytest
import trio
from blake3 import blake3

from bench.cluster import Buck, Cluster
from protocol import limits
from protocol import messages as m
from protocol.connection import MAGIC as WIRE_MAGIC
from protocol.connection import PREFACE, Connection
from protocol.frames import frame
from protocol.identity import NodeKey
from protocol.link import open_asker
from protocol.packed import pack, unpack_array
from protocol.packet import DIGEST_SIZE, MAGIC, PREFIX, PREFIX_SIZE, Packet
from protocol.payload import dump
from protocol.ranges import Ranges
from protocol.seal import Seal
from service.run import SHORTFALL
from tests.porter.making import packets_of
from tests.scenarios.arena import Arena
from tests.scenarios.netted import until
from tests.scenarios.reading import HOST
from tests.scenarios.test_bad_bytes import hello_of

pytestmark = pytest.mark.slow

KEY = NodeKey.from_seed(bytes(range(32)))
PATH = "/var/log/later.log"
LATER = limits.PACKET_VERSION + 1


@pytest.fixture
def arena(cluster: Cluster) -> Arena:
    return Arena(cluster)


def later(packet: Packet) -> bytes:
    """The same packet as a later version might write it: another body, and a member more in its header."""
    head = unpack_array(memoryview(packet.data)[PREFIX_SIZE : len(packet.data) - DIGEST_SIZE - len(packet.body)])
    header, body = pack((LATER, *head[1:], {b"new": 1})), b"a body that nobody here can read"
    data = PREFIX.pack(MAGIC, len(header), len(body)) + header + body
    return data + blake3(data).digest()


def dialled(buck: Buck) -> socket.socket:
    host, _, port = buck.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def test_C28_a_packet_of_a_later_version_is_kept_served_and_ends_no_job(arena: Arena) -> None:
    writer = arena.writer("now")
    writer.write(300)
    arena.done(arena.feed(writer))
    bucket = int(time.time()) // limits.WIDTH_S * limits.WIDTH_S
    (made,) = packets_of({PATH.encode(): b"a line\n" * 9}, bucket=bucket, host=HOST.encode(), tailer=KEY.node)
    data = later(made)
    for i in range(2):
        assert isinstance(trio.run(asked, arena.buck(i), m.Put(0, 0, False, data)), m.Ok)
    assert arena.buck(0).stop() == 0
    arena.restart(0)  # its recovery, too, keeps what it can't read
    key = made.header.key
    for i in range(2):
        question = m.Get(0, bucket, ((key.tailer, key.epoch, Ranges([(key.number, key.number + 1)])),))
        assert trio.run(served, arena.buck(i), question) == data
    arena.check(writer)
    archive = ["--older", "0s", "--archive", str(arena.archive)]
    for job in (["cat", HOST, PATH], ["grep", '"no such line"'], ["audit", "--deep"], ["archive", *archive]):
        done = arena.cluster.porter(*job, check=False)
        said = (done.stdout + done.stderr).decode()
        assert done.returncode == SHORTFALL, (job, said)
        assert "Traceback" not in said
        if job[0] != "audit":
            assert "quarantined" in said, (job, said)
    arena.check_archive(writer)  # all that can be read is there


async def asked(buck: Buck, question: m.Question) -> m.Message:
    host, _, port = buck.address.rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with open_asker(stream, hello_of(KEY.public)) as asker:
        return await asker.ask(question)


async def served(buck: Buck, question: m.Get) -> bytes:
    host, _, port = buck.address.rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    hello = replace(hello_of(NodeKey.from_seed(bytes(32)).public), role="porter")
    async with open_asker(stream, hello) as asker:
        with asker.ask_many(question) as parts:
            return b"".join([bytes(part.packet) async for part in parts if isinstance(part, m.PacketIs)])


def test_C28_a_message_with_a_field_more_ends_its_link_in_one_line_and_nothing_else(arena: Arena) -> None:
    buck, hello = arena.buck(0), hello_of(KEY.public)
    more = {"Hello": PREFACE + longer(hello), "Clock": Connection(hello, dialing=True).start() + longer(m.Clock(1))}
    for name, said in more.items():
        with dialled(buck) as link:
            link.sendall(said)
            while link.recv(4096):
                pass
        until(partial(lines_of, buck, f"{name}: "), buck.log_end)
        (line,) = lines_of(buck, f"{name}: ")
        assert "fields instead of" in line
    assert "Traceback" not in buck.log.read_text()
    assert isinstance(trio.run(asked, buck, m.Clock(0)), m.ClockIs)


def lines_of(buck: Buck, what: str) -> list[str]:
    return [line for line in buck.log.read_text().splitlines() if what in line]


def longer(message: m.Message) -> bytes:
    """Its frame, with a field that only later versions know."""
    row = unpack_array(b"".join(map(bytes, dump(message))))
    return b"".join(map(bytes, frame(message.tag, [pack((*row, 7))])))


def test_C28_a_seal_of_a_later_version_is_refused_and_the_link_goes_on(arena: Arena) -> None:
    buck = arena.buck(0)
    seal = Seal("prod", 300, KEY.node, KEY.public, HOST.encode(), 0, bytes(32), 1, 300, 0, 0, True, ()).signed(KEY)
    answer = trio.run(asked, buck, m.SealPut(0, seal.data.replace(b"\x01\xa4prod", b"\x63\xa4prod", 1)))
    assert isinstance(answer, m.No), answer
    assert (answer.reason, "this reads" in answer.text) == ("version", True), answer
    assert isinstance(trio.run(asked, buck, m.SealPut(0, seal.data)), m.Ok)


def test_C28_a_porter_that_meets_a_buck_of_a_later_wire_says_so_in_one_line(arena: Arena) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=answer_as_a_later_wire, args=(door,))
        thread.start()
        host, port = door.getsockname()
        done = arena.cluster.porter("status", "--peer", f"{host}:{port}", check=False)
        thread.join()
    said = [line for line in (done.stdout + done.stderr).decode().splitlines() if "version 9" in line]
    assert len(said) == 1, done
    assert "the peer speaks wire version 9, this is 1" in said[0]
    assert b"Traceback" not in done.stderr


def answer_as_a_later_wire(door: socket.socket) -> None:
    link, _ = door.accept()
    with link:
        link.sendall(WIRE_MAGIC + bytes([9, 0]))
        while link.recv(4096):
            pass
