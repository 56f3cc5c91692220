"""A loop that never waits ends the simulation, and is named; one that waits for ever is the clock's business."""

import pytest
import trio

from tests.simulation.machine import World, simulate
from tests.simulation.watchdog import Watchdog


def run(pause_s: float) -> Watchdog:
    """A task that goes round and round, with such pauses, beside one that is done after ten seconds."""
    watchdog = Watchdog(2_000)

    async def round_and_round() -> None:
        while True:  # noqa: ASYNC110  # it waits for nothing: that is the point
            await trio.sleep(pause_s)

    async def scenario(world: World) -> None:
        with watchdog.watching():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(round_and_round)
                await trio.sleep(10)
                nursery.cancel_scope.cancel()

    simulate(1, scenario, instruments=[watchdog])
    return watchdog


@pytest.mark.parametrize("pause_s", [0.0, 1e-6])
def test_a_loop_that_hardly_waits_is_named(pause_s: float) -> None:
    with pytest.raises(AssertionError, match=r"steps of tasks in second 0, most of them by .*round_and_round"):
        run(pause_s)


def test_what_waits_may_go_on() -> None:
    assert 100 <= run(0.01).most <= 1_000
