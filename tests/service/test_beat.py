"""Tasks that wait for a beat wake together."""

import pytest
import trio
import trio.testing

from service.beat import until_beat


@pytest.mark.parametrize(("now", "period_s", "expected"), [(10.25, 1.0, 0.75), (10.0, 1.0, 1.0), (7.0, 5.0, 3.0)])
def test_a_beat_is_the_next_whole_multiple(now: float, period_s: float, expected: float) -> None:
    assert until_beat(now, period_s) == pytest.approx(expected)


async def test_tasks_that_began_at_any_time_wake_at_the_same(autojump_clock: trio.testing.MockClock) -> None:
    woken: list[float] = []

    async def work(begin_s: float, period_s: float) -> None:
        await trio.sleep(begin_s)
        await trio.sleep(until_beat(trio.current_time(), period_s))
        woken.append(trio.current_time() % 1.0)

    async with trio.open_nursery() as nursery:
        for begin_s, period_s in ((0.1, 1.0), (0.7, 1.0), (1.3, 2.0)):
            nursery.start_soon(work, begin_s, period_s)
    assert woken == pytest.approx([woken[0]] * 3)
