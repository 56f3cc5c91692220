"""Many files read back over one connection: what `porter cat` does for one, without a process for each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import trio

from porter.archived import Archive
from porter.objects import open_objects
from porter.reader import open_reader
from porter.settings import PorterSettings
from porter.transfer import UnknownFileError, cat, generations
from service.machine import RealMachine

HOST = os.uname().nodename


@dataclass
class Back:
    """What came back of one file, and what the reader said about it."""

    data: bytes = b""
    complaints: tuple[str, ...] = ()


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
            pieces: list[bytes] = []

            async def write(data: bytes, pieces: list[bytes] = pieces) -> None:
                pieces.append(data)

            complaints: tuple[str, ...] = ()
            try:
                chosen = await generations(reader, HOST.encode(), os.fsencode(path))
                copied = await cat(reader, list(enumerate(chosen, 1)), write)
                complaints = tuple(str(one) for one in (*copied.gaps, *copied.clashes, *copied.begins))
            except UnknownFileError as error:
                complaints = (str(error),)
            found[path] = Back(b"".join(pieces), complaints)
    return found
