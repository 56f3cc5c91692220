"""Who puts next: of two porters at different hours, one always sees the other's part before it puts its own.

Two parts of one hour can't be put under one name. Two parts of different hours can, and if a tailer has read a file
twice, both may hold the same bytes. A look at the archive just before the put is not enough: another may be putting at
that very moment. So who is about to put a part says so first, under the next free number:

    <env>/claims/0000000017           {"part": "prod/date=…/03.p00.parquet", "size": 12345}, put if absent
    <env>/claims/0000000016.settled   of every claim up to this number it is known what became of it

and before it puts, it *settles* every claim before its own: the part is there, and can be looked at; or it is not, and
then, after the time that such a put may take, its name is taken by an empty part, so that it never will be: its writer
finds the name taken and begins again. Nobody waits for somebody who has died, no clock is compared, and of any two
that put, the later claim's writer has seen the earlier part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from porter.catalog import PartName, parse
from porter.document import UNREADABLE
from porter.objects import ExistsError, MissingError, Objects
from protocol.errors import FormatError
from service.machine import Machine

__all__ = ["Claims"]

TRIES = 64  # of porters that take the next number at the same moment
SETTLED_EVERY = 16  # claims that are read again and again before a mark says that they need not be
PUT_S, PUT_BYTES_S = 2.0, 4 << 20  # a put may take this long, and this many bytes a second, before it is stopped
POLL_S = 0.5
NAME = re.compile(r"(?P<number>\d{10})(?P<settled>\.settled)?")

Put = Callable[[str, bytes], Awaitable[None]]
Stop = Callable[[PartName], Awaitable[None]]


class Claim(NamedTuple):
    """Claim `number`: a part of so many bytes is about to be put."""

    number: int
    part: PartName
    size: int


class Claims:
    """The claims of one env. `put` puts a small object if absent; `stop` takes a part's name with an empty part."""

    def __init__(self, machine: Machine, objects: Objects, env: str, put: Put, stop: Stop) -> None:
        self._machine, self._objects, self._env = machine, objects, env
        self._put, self._stop = put, stop

    async def alone(self, part: PartName, size: int) -> None:
        """Claim the next number, and settle all before it. After that nobody puts without having seen our part."""
        mine = await self._take(part, size)
        numbers, settled = await self._numbers()
        before = [number for number in numbers if settled < number < mine]
        for number in before:
            claim = await self._read(number)
            if claim.part != part:  # the same name can be taken once, by whomever
                await self._settle(claim)
        if len(before) >= SETTLED_EVERY:
            await self._put(f"{self._folder}{before[-1]:010d}.settled", b"")

    async def _take(self, part: PartName, size: int) -> int:
        text = json.dumps({"part": str(part), "size": size}).encode()
        for _ in range(TRIES):
            numbers, settled = await self._numbers()
            number = max([*numbers, settled], default=-1) + 1
            try:
                await self._put(f"{self._folder}{number:010d}", text)
            except ExistsError:
                continue
            return number
        raise ExistsError(f"{self._folder}: other porters take every number: try again later")

    async def _settle(self, claim: Claim) -> None:
        """Its part is there, or never will be."""
        with trio.move_on_after(PUT_S + claim.size / PUT_BYTES_S):
            while not await self._is_there(claim.part):  # noqa: ASYNC110  # no event: another host puts it
                await trio.sleep(POLL_S)
            return
        try:
            await self._stop(claim.part)
        except ExistsError:
            return  # it has just been put

    async def _is_there(self, part: PartName) -> bool:
        def look() -> bool:
            try:
                self._objects.open(str(part)).close()
            except MissingError:
                return False
            return True

        return await self._machine.slow(look)

    @property
    def _folder(self) -> str:
        return f"{self._env}/claims/"

    async def _numbers(self) -> tuple[list[int], int]:
        """The claims that there are, and up to which all are settled (-1: none)."""
        names = [info.name for info in await self._machine.slow(self._objects.list, self._folder)]
        found = [match for name in names if (match := NAME.fullmatch(name, len(self._folder)))]
        numbers = sorted(int(one["number"]) for one in found if not one["settled"])
        return numbers, max((int(one["number"]) for one in found if one["settled"]), default=-1)

    async def _read(self, number: int) -> Claim:
        name = f"{self._folder}{number:010d}"
        data = await self._machine.slow(self._objects.get, name)
        try:
            said = json.loads(data)
            part, size = parse(said["part"]), int(said["size"])
        except UNREADABLE as error:
            raise FormatError(f"{name}: not a claim ({error}); was the object changed?") from error
        if part is None or part.env != self._env or not 0 <= size < 1 << 50:
            raise FormatError(f"{name}: a claim of {said['part']!r}, which is no part; was the object changed?")
        return Claim(number, part, size)
