"""Many files read back over one connection: what `porter cat` does for one, without a process for each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import trio

from porter.archived import Archive
from porter.objects import open_objects
from porter.reader import Reader, open_reader
from porter.settings import PorterSettings
from porter.transfer import Generation, UnknownFileError, cat, generations
from service.machine import RealMachine

HOST = os.uname().nodename


@dataclass
class Back:
    """What came back of one file, and what the reader said about it."""

    generations: tuple[bytes, ...] = ()
    complaints: tuple[str, ...] = ()

    @property
    def data(self) -> bytes:
        """All of them, as `porter cat` writes them."""
        return b"".join(self.generations)


def read_back(
    paths: Iterable[Path | str], *, root: Path, peers: Iterable[str] = (), archive: str = "", env: str = "prod"
) -> dict[str, Back]:
    """Each path's bytes, all generations, from the bucks, the archive, or both."""
    return trio.run(_read_back, [str(path) for path in paths], root, tuple(peers), archive, env)


async def _read_back(paths: list[str], root: Path, peers: tuple[str, ...], archive: str, env: str) -> dict[str, Back]:
    machine = RealMachine()
    settings = PorterSettings.model_validate(
        {"peer": peers, "archive": archive, "env": env, "key": str(root / "porter.key")}
    )
    shelves = Archive(machine, open_objects(archive), env) if archive else None
    found = {}
    async with open_reader(machine, settings, shelves) as reader:
        for path in paths:
            try:
                chosen = await generations(reader, HOST.encode(), os.fsencode(path))
            except UnknownFileError as error:
                found[path] = Back(complaints=(str(error),))
                continue
            read = [await _one(reader, number, one) for number, one in enumerate(chosen, 1)]
            found[path] = Back(tuple(data for data, _ in read), tuple(text for _, said in read for text in said))
    return found


async def _one(reader: Reader, number: int, generation: Generation) -> tuple[bytes, list[str]]:
    """One generation's bytes, and what is short of it."""
    pieces: list[bytes] = []

    async def write(data: bytes) -> None:
        pieces.append(data)

    copied = await cat(reader, [(number, generation)], write)
    return b"".join(pieces), [str(one) for one in (*copied.gaps, *copied.clashes, *copied.begins)]
