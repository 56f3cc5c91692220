"""What peers can make a buck hold in memory, and whom that holds up."""

import contextlib

import pytest
import trio

from buck import node
from buck.budget import Budget
from protocol import messages as m
from protocol.connection import Connection
from protocol.errors import ProtocolError
from protocol.identity import NodeKey
from protocol.limits import SEND_STALL_S
from protocol.link import Link
from service.machine import Machine
from tests.buck.making import make
from tests.buck.test_session import PORT, asking, hello, put, with_a_buck
from tests.simulation import network
from tests.simulation.machine import World

PEERS = 12
ROOM = 1 << 20
SIZE = 300_000  # larger than one read: a frame of it is reserved for


class Watched(Budget):
    """A small budget that remembers the most that was ever reserved."""

    peak = 0

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine, ROOM)

    async def begin(self, *args: object) -> None:
        await super().begin(*args)
        Watched.peak = max(Watched.peak, self.used)


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
    monkeypatch.setattr(node, "Budget", Watched)
    Watched.peak = 0

    @with_a_buck()
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            async with asking(world) as asker:
                for number in range(PEERS):
                    nursery.start_soon(flood, world, number)
                await trio.sleep(5)
                assert Watched.peak > ROOM // 2, "they do fill it"
                answer = await asker.ask(put(make(1, bytes(SIZE))), 3 * SEND_STALL_S)
                assert isinstance(answer, m.Ok)
            nursery.cancel_scope.cancel()
        assert Watched.peak <= ROOM

    scenario()
