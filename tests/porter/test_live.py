"""`grep --live`: nothing twice, nothing silently missed, whichever buck shows it; in simulated clusters."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from porter import live
from porter.live import Seen, Shown, Viewer, as_live_json, as_live_text
from porter.settings import PorterSettings
from protocol.identity import NodeKey
from protocol.messages import LiveRows
from service.units import Address
from tests.simulation.fleet import LISTEN, Fleet
from tests.simulation.machine import World, simulate

LINE = b"2023-11-14T22:13:%02dZ web-1 app[%d]: request %d done\n"


def rows(first: int, end: int, starts: list[int], stream: bytes = b"s" * 16) -> LiveRows:
    return LiveRows(
        0, b"t" * 16, b"h", b"/p", stream, first, end, tuple(s - first for s in starts), (b"x",) * len(starts)
    )


def test_a_stretch_from_a_second_buck_shows_nothing() -> None:
    seen = Seen(40)
    assert seen.fresh(rows(0, 30, [0, 10, 20]), 0.0) == [0, 1, 2]
    assert seen.fresh(rows(0, 30, [0, 10, 20]), 39.0) == []
    assert seen.fresh(rows(20, 50, [20, 30, 40]), 39.0) == [1, 2]
    assert seen.fresh(rows(0, 30, [0, 10, 20], b"o" * 16), 39.0) == [0, 1, 2]


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 40), st.integers(1, 9)), max_size=15))
@example([(39.0, 0, 5), (2.0, 0, 5), (38.0, 0, 5)])
def test_what_was_shown_is_remembered_for_long_enough_and_not_for_ever(steps: list[tuple[float, int, int]]) -> None:
    """Against a model that knows when each offset was last in a stretch."""
    seen, now, last = Seen(40), 1000.0, dict[int, float]()
    for pause, first, count in steps:
        now += pause
        found = seen.fresh(rows(first, first + count, list(range(first, first + count))), now)
        for i in range(count):
            age = now - last.get(first + i, float("-inf"))
            if age < 40:
                assert i not in found
            elif age > 140:
                assert i in found
            last[first + i] = now


def test_stretches_without_end_take_no_more_memory_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "STRETCHES_MAX", 100)
    seen = Seen(600)
    for n in range(1000):
        assert seen.fresh(rows(10 * n, 10 * n + 1, [10 * n]), 0.0) == [0]
        assert seen.fresh(rows(10 * n, 10 * n + 1, [10 * n]), 0.0) == []
    held = [*seen._young.values(), *seen._old.values()]
    assert 100 <= sum(map(len, held)) <= 200


def test_a_copy_that_was_long_on_its_way_is_not_shown_again() -> None:
    """Through a buck that was stopped, or a link that was cut and healed."""
    seen = Seen()
    assert seen.fresh(rows(0, 30, [0, 10, 20]), 0.0) == [0, 1, 2]
    assert seen.fresh(rows(0, 30, [0, 10, 20]), 599.0) == []


def test_how_a_line_is_written() -> None:
    shown = Shown(
        170_000_000_012_345_678, b"web1", b"/var/log/a", b"n\x1b[1m", b"app", b"it's \xff done", b"t", b"s", 7
    )
    assert (
        as_live_text(shown, escape=True)
        == rb"web1 /var/log/a: 2023-11-14T22:13:20.123Z n\x1b[1m app: it's \xff done" + b"\n"
    )
    assert b'"offset": 7' in as_live_json(shown)
    plain = shown._replace(shn=b"", app=b"")
    assert as_live_text(plain, escape=False) == b"web1 /var/log/a: 2023-11-14T22:13:20.123Z it's \xff done\n"


class Watching:
    """`grep --live` on a host of its own, and what it wrote."""

    def __init__(self, fleet: Fleet, query: str = "") -> None:
        settings = PorterSettings(peer=(Address(fleet.names[0], LISTEN),), insecure=True, key="/k")
        self.said: list[str] = []
        self.lines: Counter[bytes] = Counter()
        self.stopped = trio.Event()
        self.stopped.set()
        self.viewer = Viewer(
            fleet.world.machine("desk"), settings, NodeKey.from_seed(b"v" * 32), query, self.said.append
        )
        fleet.nursery.start_soon(self.viewer.run, self._write, self._flush, lambda shown: shown.line + b"\n")

    async def _write(self, data: bytes) -> None:
        await self.stopped.wait()
        self.lines.update(data.splitlines())

    async def _flush(self) -> None:
        pass

    async def until(self, count: int) -> None:
        with trio.fail_after(60):
            while self.lines.total() + self.viewer.missed < count:  # noqa: ASYNC110  # two things may make it so
                await trio.sleep(0.1)


def write(fleet: Fleet, first: int, count: int) -> None:
    disk = fleet.world.machine("web-1").disk
    disk.mkdirs("/var/log")
    disk.open_append("/var/log/app.log").write(b"".join(LINE % (i % 60, i % 7, i) for i in range(first, first + count)))


def wanted(count: int) -> Counter[bytes]:
    return Counter(b"request %d done" % i for i in range(count))


def with_a_fleet(scenario):
    """A test in a world with three bucks."""

    async def whole(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 3)
            await fleet.start()
            await scenario(fleet)
            nursery.cancel_scope.cancel()

    def test() -> None:
        simulate(3, whole)

    test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
    return test


@with_a_fleet
async def test_each_line_comes_once_within_a_second_or_so_from_all_bucks(fleet: Fleet) -> None:
    watching = Watching(fleet)
    write(fleet, 0, 1)
    fleet.follow()
    await trio.sleep(5)
    assert len(watching.viewer.watched) == 3
    for turn in range(1, 40):
        write(fleet, turn, 1)
        begin = trio.current_time()
        await watching.until(turn + 1)
        assert trio.current_time() - begin < 1.5
    assert watching.lines == wanted(40)
    assert watching.viewer.duplicates >= 39  # two bucks had each
    assert not watching.viewer.missed


@with_a_fleet
async def test_a_buck_that_dies_and_comes_back_is_watched_again(fleet: Fleet) -> None:
    watching = Watching(fleet)
    fleet.follow()
    write(fleet, 0, 10)
    await watching.until(10)
    fleet.kill("b2")
    write(fleet, 10, 10)
    await watching.until(20)
    assert any("not watched: b2" in line for line in watching.said)
    await fleet.start("b2")
    await trio.sleep(10)
    assert len(watching.viewer.watched) == 3
    write(fleet, 20, 10)
    await watching.until(30)
    await trio.sleep(30)  # third copies are made meanwhile: not live
    assert watching.lines == wanted(30)


@with_a_fleet
async def test_an_output_that_stops_holds_up_nobody_and_is_told_what_it_missed(fleet: Fleet) -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(live, "BACKLOG_BYTES_MAX", 20_000)
    watching = Watching(fleet)
    patch.undo()
    watching.stopped = trio.Event()
    fleet.follow()
    for turn in range(20):
        write(fleet, turn * 100, 100)
        await trio.sleep(1)
    await trio.sleep(10)
    watching.stopped.set()
    await watching.until(2000)
    assert watching.viewer.missed > 100
    assert watching.lines.total() + watching.viewer.missed == 2000
    assert not watching.lines - wanted(2000)
    assert watching.lines[b"request 1999 done"] == 1
    assert any("this output is slow" in line for line in watching.said)
