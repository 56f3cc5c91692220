"""How many files a tailer may have a buck begin, whatever buckets it names, and how many of them stay open."""

import pytest

from buck import begins
from buck.begins import Begins
from buck.errors import Declined
from tests.buck.making import BUCKET, KEY, WIDTH, in_world, made, open_store
from tests.simulation.machine import World


def taken(allowed: Begins, tailer: bytes, now: float, count: int) -> int:
    """How many of so many are granted."""
    granted = 0
    for _ in range(count):
        try:
            allowed.take(tailer, now)
        except Declined:
            continue
        granted += 1
    return granted


@pytest.mark.parametrize("width", [1, 60, 300, 86_400])
def test_weeks_of_windows_may_come_at_once_and_then_more_than_windows_pass(width: int) -> None:
    allowed = Begins(width)
    assert taken(allowed, b"a", 1000.0, begins.AT_ONCE + 100) == begins.AT_ONCE
    hour = taken(allowed, b"a", 4600.0, begins.AT_ONCE)
    assert 3600 / width < hour <= max(360, 4 * 3600 / width)
    assert taken(allowed, b"b", 4600.0, 100) == 100, "each tailer has its own"


def test_who_was_refused_may_go_on_after_a_moment() -> None:
    allowed = Begins(300)
    taken(allowed, b"a", 0.0, begins.AT_ONCE)
    for n in range(1, 100):
        assert taken(allowed, b"a", 10.0 * n, 5) == 1


def test_only_so_many_tailers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begins, "TAILERS_MAX", 10)
    allowed = Begins(300)
    for n in range(100):
        allowed.take(n.to_bytes(16), float(n))
    assert allowed.tailers == 10


@in_world
async def test_a_tailer_that_names_ever_other_buckets_has_to_wait_and_its_own_window_goes_on(world: World) -> None:
    store = await open_store(world.machine("a"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(begins, "AT_ONCE", 20)
        for n in range(20):
            await store.put(made(n, bucket=BUCKET + WIDTH * 1000 * n), KEY.node)
        with pytest.raises(Declined, match="slow"):
            await store.put(made(20, bucket=0), KEY.node)
        await store.put(made(21, bucket=BUCKET), KEY.node)
        await store.put(made(0, bucket=BUCKET), KEY.node)
        await store.put(made(22, bucket=BUCKET + WIDTH), b"another tailer..")
        await store.put(made(23, bucket=BUCKET + 2 * WIDTH))  # pulled from a buck that has it already
    store.check()


@in_world
async def test_a_process_that_may_have_few_files_keeps_a_quarter_of_them_open(world: World) -> None:
    machine = world.machine("a")
    store = await open_store(machine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "files_max", lambda: 32)
        for step in range(20):
            await store.put(made(0, bucket=BUCKET - step * WIDTH))
            assert len(store.open_parts()) == min(step + 1, 8)
        store.check()
