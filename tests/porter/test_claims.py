"""Claims: of two porters that put parts of different hours at one moment, one sees the other's."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import trio

from porter import claims as claiming
from porter.catalog import PartName
from porter.claims import Claims
from porter.objects import ExistsError, MemoryObjects
from protocol.errors import FormatError
from service.machine import RealMachine

ENV = "e"
ONE, OTHER, THIRD = (PartName(ENV, 3600 * hour, "p", 0) for hour in (1, 2, 3))


PUT_TAKES_S = 0.3


class Porter:
    """One porter: what it has put, and whom it has stopped."""

    def __init__(self, objects: MemoryObjects) -> None:
        self.objects = objects
        self.stopped: list[PartName] = []
        self.claims = Claims(RealMachine(), objects, ENV, self.put, self.stop)

    async def put(self, name: str, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.objects.held.setdefault(name, data) != data:
            raise ExistsError(name)

    async def stop(self, part: PartName) -> None:
        await self.put(str(part), b"empty")
        self.stopped.append(part)

    async def archive(self, part: PartName) -> bool:
        """Claim, look whether the other's part is there, put. Did it see the other's?"""
        await self.claims.alone(part, 10)
        seen = any(name.endswith(".parquet") and data == b"rows" for name, data in self.objects.held.items())
        await trio.sleep(PUT_TAKES_S)
        await self.put(str(part), b"rows")
        return seen


def claimed(objects: MemoryObjects) -> list[str]:
    return [json.loads(data)["part"] for name, data in sorted(objects.held.items()) if "/claims/" in name and data]


async def test_claims_are_numbered_in_order(autojump_clock: trio.testing.MockClock) -> None:
    objects = MemoryObjects()
    assert [await Porter(objects).archive(part) for part in (ONE, OTHER, THIRD)] == [False, True, True]
    assert claimed(objects) == [str(ONE), str(OTHER), str(THIRD)]


async def test_of_two_that_put_at_once_one_has_seen_the_other(autojump_clock: trio.testing.MockClock) -> None:
    """Whatever the order in which their steps come: this is what a look just before the put can't give."""
    both = 0
    for delays in itertools.product(range(3), repeat=2):
        objects, seen = MemoryObjects(), []

        async def job(part: PartName, delay: int, objects: MemoryObjects = objects, seen: list[bool] = seen) -> None:
            for _ in range(delay):
                await trio.lowlevel.checkpoint()
            try:
                seen.append(await Porter(objects).archive(part))
            except ExistsError:
                seen.append(True)  # it was stopped, and begins again: then it sees all there is

        async with trio.open_nursery() as nursery:
            for part, delay in zip((ONE, OTHER), delays, strict=True):
                nursery.start_soon(job, part, delay)
        assert any(seen), delays
        both += 1
    assert both == 9


async def test_who_died_after_its_claim_is_waited_for_only_so_long_and_can_not_come_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    objects, dead, porter = MemoryObjects(), Porter(MemoryObjects()), Porter(MemoryObjects())
    dead.objects = porter.objects = objects
    dead.claims._objects = porter.claims._objects = objects
    await dead.claims.alone(ONE, 8 << 20)
    before = trio.current_time()
    assert not await porter.archive(OTHER)
    assert trio.current_time() - before == pytest.approx(claiming.PUT_S + 2 + PUT_TAKES_S, abs=0.5)
    assert porter.stopped == [ONE]
    with pytest.raises(ExistsError):
        await dead.put(str(ONE), b"rows")


async def test_a_slow_put_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    objects = MemoryObjects()
    slow, porter = Porter(objects), Porter(objects)

    async def put_slowly() -> None:
        await trio.sleep(1.5)
        await slow.put(str(ONE), b"rows")

    await slow.claims.alone(ONE, 10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put_slowly)
        assert await porter.archive(OTHER)
    assert porter.stopped == []


async def test_two_that_want_the_same_name_wait_for_nobody() -> None:
    """Put-if-absent decides: that one of them died must not cost the other its name."""
    objects = MemoryObjects()
    first, second = Porter(objects), Porter(objects)
    await first.claims.alone(ONE, 10)
    with trio.fail_after(claiming.PUT_S / 2):
        await second.claims.alone(ONE, 11)
    assert second.stopped == []


async def test_old_claims_are_read_a_few_times_only(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    objects, reads = MemoryObjects(), 0
    read = Claims._read

    async def count(claims: Claims, number: int) -> object:
        nonlocal reads
        reads += 1
        return await read(claims, number)

    monkeypatch.setattr(Claims, "_read", count)
    for hour in range(80):
        await Porter(objects).archive(PartName(ENV, 3600 * hour, "p", 0))
    reads = 0
    await Porter(objects).archive(PartName(ENV, 3600 * 80, "p", 0))
    assert reads <= claiming.SETTLED_EVERY


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"part": "x", "size": 1}', b'{"part": "e/date=1970-01-01/01.p00.parquet"}']
)
async def test_what_is_no_claim_is_named(data: bytes) -> None:
    objects = MemoryObjects()
    objects.held[f"{ENV}/claims/0000000000"] = data
    with pytest.raises(FormatError, match="claims/0000000000"):
        await Porter(objects).claims.alone(ONE, 1)


async def test_a_number_that_another_takes_first_is_not_ours(tmp_path: Path) -> None:
    objects = MemoryObjects()
    porter = Porter(objects)
    put, turns = porter.put, [OTHER]

    async def put_after_another(name: str, data: bytes) -> None:
        if turns:
            await put(name, json.dumps({"part": str(turns.pop()), "size": 1}).encode())
            await put(str(OTHER), b"rows")
        await put(name, data)

    porter.claims._put = put_after_another
    await porter.claims.alone(ONE, 10)
    assert claimed(objects) == [str(OTHER), str(ONE)]
