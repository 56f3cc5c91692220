"""The budget of bytes on their way in."""

import contextlib

import pytest
import trio

from buck.budget import FRAME_S, Budget, Memory, Metered
from protocol.connection import Connection
from protocol.link import Link
from protocol.messages import Hello, Put
from tests.buck.making import KEY, make
from tests.simulation.machine import World, simulate

HELLO = Hello("tailer", KEY.public, "prod", 0, b"h", (1, 1), "", 0)
BUCK = Hello("buck", b"\x05" * 32, "prod", 300, b"h", (1, 1), "", 0)


class FakeMachine:
    def now(self) -> float:
        return trio.current_time()


async def test_who_comes_first_is_served_first(autojump_clock) -> None:
    budget = Budget(FakeMachine(), 100)
    order: list[str] = []

    async def want(name: str, size: int) -> None:
        await budget.reserve(size)
        order.append(name)
        await trio.sleep(1)
        budget.release(size)

    async with trio.open_nursery() as nursery:
        for name, size in (("a", 60), ("b", 90), ("c", 20), ("d", 500), ("e", 1)):
            nursery.start_soon(want, name, size)
            await trio.testing.wait_all_tasks_blocked()
    assert order == ["a", "b", "c", "d", "e"]
    assert budget.used == 0


async def test_a_waiter_that_is_cancelled_leaves_the_budget_whole(autojump_clock) -> None:
    budget = Budget(FakeMachine(), 100)
    await budget.reserve(80)
    with trio.move_on_after(1):
        await budget.reserve(50)
    assert not budget._waiting
    budget.release(80)
    assert budget.used == 0


@pytest.mark.parametrize("others", [True, False])
def test_who_dawdles_over_a_frame_is_cut_only_if_others_wait(others: bool) -> None:
    async def scenario(world: World) -> None:
        memory = Memory(world.machine("a"), 2_500_000)
        budget = memory.incoming
        assert budget.total == 1_000_000
        (listener,) = await world.machine("a").listen("a", 1)
        cut = trio.Event()

        async def serve(stream: trio.abc.Stream) -> None:
            connection = Connection(BUCK, dialing=False)
            link = Link(Metered(stream, connection, memory), connection, idle_s=1e6)
            await link.handshake()
            try:
                async for _ in link:
                    pass
            except Exception:
                cut.set()
            await link.aclose()

        async def dawdle() -> None:
            stream = await world.machine("b").connect("a", 1)
            connection = Connection(HELLO, dialing=True)
            await stream.send_all(connection.start())
            while connection.peer is None:
                connection.receive(bytes(await stream.receive_some(9999)))
            data = b"".join(connection.send(Put(1, 0, False, make(0, bytes(900_000)))))
            for at in range(0, 1000, 10):
                await stream.send_all(data[at : at + 10])
                await trio.sleep(FRAME_S / 10)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            nursery.start_soon(_forgiving, dawdle)
            await trio.sleep(FRAME_S / 2)
            if others:
                with trio.move_on_after(3 * FRAME_S):
                    await budget.reserve(200_000)
                assert cut.is_set()
                assert budget.used == 200_000
            else:
                await trio.sleep(3 * FRAME_S)
                assert not cut.is_set()
            nursery.cancel_scope.cancel()

    simulate(1, scenario)


async def _forgiving(function) -> None:
    with contextlib.suppress(OSError, trio.BrokenResourceError):
        await function()
