"""What peers can make a buck hold in memory, and whom that holds up."""

import contextlib

import pytest
import trio

from buck import node
from buck.budget import ANSWER_S, WAIT_S, Budget, Memory, Metered
from buck.store import Store, Stored
from protocol import messages as m
from protocol.connection import Connection
from protocol.errors import ProtocolError
from protocol.identity import NodeKey
from protocol.limits import READ_MAX, READ_MIN, SEND_STALL_S
from protocol.link import Link
from protocol.packet import Packet
from service.machine import Machine
from tests.buck.making import BUCKET, KEY, make
from tests.buck.test_budget import BUCK, FakeMachine
from tests.buck.test_session import KEYS, PORT, asking, hello, put, with_a_buck
from tests.simulation import network
from tests.simulation.machine import World

PEERS = 12
ROOM = 1 << 20
SIZE = 300_000  # larger than one read: a frame of it is reserved for


class Watched(Budget):
    """A small budget for what comes that remembers the most that was ever reserved."""

    peak = 0

    async def reserve(self, size: int) -> None:
        await super().reserve(size)
        self.peak = max(self.peak, self.used)


class Small(Memory):
    """Little for what comes, and for answers."""

    made: Memory

    def __init__(self, machine: Machine, total: int) -> None:
        super().__init__(machine, total)
        self.incoming = Watched(machine, ROOM)
        self.answers = Watched(machine, 8 * ROOM, ANSWER_S)
        self.peer_max = 3 * SIZE
        Small.made = self


async def flood(world: World, number: int) -> None:
    """Put packets for ever and read no answer."""
    with contextlib.suppress(OSError, trio.BrokenResourceError, ProtocolError):
        key = NodeKey.from_seed(bytes([100 + number]) * 32)
        stream = await world.machine(f"bad{number}").connect("a", PORT)
        link = Link(stream, Connection(hello(key), dialing=True))
        await link.handshake()
        for at in range(1, 100):
            await link.send(m.Put(at, 0, False, make(at, bytes(SIZE), tailer=key.node)))


def test_A20_peers_that_read_no_answers_hold_no_more_than_the_budget_and_others_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network, "WINDOW", 64)
    monkeypatch.setattr(node, "Memory", Small)

    @with_a_buck()
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            async with asking(world) as asker:
                for number in range(PEERS):
                    nursery.start_soon(flood, world, number)
                await trio.sleep(5)
                assert Small.made.incoming.peak > ROOM // 2, "they do fill it"
                answer = await asker.ask(put(make(1, bytes(SIZE))), 3 * SEND_STALL_S)
                assert isinstance(answer, m.Ok)
            nursery.cancel_scope.cancel()
        assert Small.made.incoming.peak <= ROOM

    scenario()


def test_A20_peers_that_ask_for_everything_and_take_nothing_hold_no_more_than_the_budget_and_are_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network, "WINDOW", 64)
    monkeypatch.setattr(node, "Memory", Small)

    async def ask_for_all(world: World, number: int) -> None:
        with contextlib.suppress(OSError, trio.BrokenResourceError, ProtocolError):
            stream = await world.machine(f"bad{number}").connect("a", PORT)
            key = NodeKey.from_seed(bytes([100 + number]) * 32)
            link = Link(stream, Connection(hello(key, "porter"), dialing=True))
            await link.handshake()
            for at in range(1, 20):
                await link.send(m.Get(at, BUCKET, (KEYS,)))
            await trio.sleep_forever()

    @with_a_buck()
    async def scenario(world: World) -> None:
        async with asking(world) as asker:
            for number in range(3):
                assert isinstance(await asker.ask(put(make(number, bytes(SIZE)))), m.Ok)
        async with trio.open_nursery() as nursery:
            for number in range(PEERS):
                nursery.start_soon(ask_for_all, world, number)
            await trio.sleep(5)
            answers = Small.made.answers
            assert 4 * ROOM < answers.used <= 8 * ROOM, "they do fill it"
            async with asking(world, hello(KEY, "porter")) as asker:
                with asker.ask_many(m.Get(0, BUCKET, (KEYS,)), WAIT_S) as coming:
                    parts = [part async for part in coming]
            assert sum(isinstance(part, m.PacketIs) for part in parts) == 3
            assert answers.peak <= 8 * ROOM
            nursery.cancel_scope.cancel()

    scenario()


def test_a_packet_whose_ack_nobody_reads_holds_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "Memory", Small)
    real = Link.send

    async def never(link: Link, message: m.Message) -> None:
        """Acks find a peer that takes nothing."""
        if isinstance(message, m.Ok):
            await trio.sleep(SEND_STALL_S)
        await real(link, message)

    @with_a_buck()
    async def scenario(world: World) -> None:
        async with asking(world):
            monkeypatch.setattr(Link, "send", never)  # the buck is there
        async with trio.open_nursery() as nursery:
            for number in range(PEERS):
                nursery.start_soon(flood, world, number)
            await trio.sleep(5)
            assert Small.made.incoming.peak > 0
            assert Small.made.incoming.used == 0
            nursery.cancel_scope.cancel()

    scenario()


def test_packets_that_wait_for_their_fsync_take_only_a_share_of_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "Memory", Small)

    async def slow(store: Store, packet: Packet, stored: Stored) -> int:
        await trio.sleep(1)
        return m.SYNCED

    monkeypatch.setattr(Store, "synced", slow)

    @with_a_buck()
    async def scenario(world: World) -> None:
        async with asking(world) as asker, trio.open_nursery() as nursery:
            memory, begin = Small.made, trio.current_time()
            memory.incoming.total = 100 * SIZE
            for number in range(8):
                nursery.start_soon(asker.ask, put(make(number, bytes(SIZE), sync=True)))
            await trio.sleep(0.5)
            assert SIZE < memory.incoming.used <= memory.peer_max + SIZE
        assert memory.incoming.used == 0
        assert trio.current_time() - begin < 8, "and several go on at the same time"

    scenario()


async def test_what_is_read_ahead_is_bounded_for_all_links_together(autojump_clock) -> None:
    memory = Memory(FakeMachine(), 100 * READ_MIN)
    peers = [trio.testing.memory_stream_pair() for _ in range(50)]
    metered = [Metered(ours, Connection(BUCK, dialing=False), memory) for ours, _ in peers]
    most = 0
    for _ in range(4):
        for (_, theirs), reader in zip(peers, metered, strict=True):
            await theirs.send_all(bytes(READ_MAX))
            most = max(most, len(await reader.receive_some(READ_MAX)))
            assert memory.used <= memory.ahead.total
    assert most > READ_MIN, "some read more at once"
    for reader in metered:
        await reader.aclose()
    assert memory.used == 0
