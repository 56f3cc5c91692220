"""Leaving the cluster: the mark on the disks that says so, and how far it has got.

`buck drain` puts the mark `draining` on each disk of the node, whether the buck runs or not. A buck that runs sees it
within a second, one that starts sees it at once: from then on it takes no new packets (`no(draining)`), tells the
others so by gossip, and goes on serving what it has, until each of its packets has as many copies elsewhere as it has
now. What is left to be handed on is in /status; when nothing is, the buck may be stopped for good. Taking the mark
away (`buck drain --undo`) makes it an ordinary member again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import trio

from buck.files import join
from buck.store import Store
from service.config import ConfigError
from service.log import get_log
from service.machine import Disk, Machine
from service.run import DONE, NOT_DONE, SHORTFALL
from service.units import Address
from service.web import fetch

log = get_log("buck.leaving")

LOOK_EVERY_S = 1.0
MARK = "draining"


class Progress(NamedTuple):
    """How far the copies are handed on. `done`: as far as can be seen now, nobody needs this node's copies."""

    done: bool = False
    packets: int = 0  # that lack a copy elsewhere
    buckets: int = 0  # in which there are such
    trouble: str = ""  # why it doesn't get on


class Leaving:
    """Is this node leaving, and how far is it?"""

    def __init__(self, machine: Machine, store: Store) -> None:
        self._machine = machine
        self._store = store
        self.progress = Progress()
        self._unsaid = ""  # why the marks could not be looked for the last time

    async def run(self) -> None:
        """Look for the mark, for ever."""
        while True:
            await trio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Take notice of the mark, or of its absence."""
        marks = [join(one.folder, MARK) for one in self._store.volumes if one.able]
        marked = await self._machine.slow(self._marked, marks)
        if marked and not self._store.draining:
            log.warning("this buck is leaving: it takes no new packets")
        elif self._store.draining and not marked:
            log.warning("this buck stays: it takes packets again")
            self.progress = Progress()
        self._store.draining = marked

    def _marked(self, marks: Sequence[str]) -> bool:
        """Is one of them there? Where a disk can't say and none is seen elsewhere, all stays as it is."""
        unsaid = ""
        for mark in marks:
            try:
                if _exists(self._machine.disk, mark):
                    return True
            except OSError as error:
                unsaid = f"{mark}: {error.strerror or error}"
        if unsaid and unsaid != self._unsaid:
            log.warning("a disk can't say whether this buck leaves", why=unsaid, draining=self._store.draining)
        self._unsaid = unsaid
        return self._store.draining if unsaid else False

    def facts(self) -> dict[str, object]:
        """For the status page."""
        return {"draining": self._store.draining, **self.progress._asdict()}


async def mark(machine: Machine, disks: Sequence[str], env: str, leaving: bool) -> None:
    """Say on each disk that its node leaves, or stays. ConfigError if a disk is none of a buck's."""
    folders = [join(disk.rstrip("/") or "/", env) for disk in disks]
    for folder in folders:
        try:
            known = _exists(machine.disk, join(folder, "width"))
        except OSError as error:
            raise ConfigError(f"{folder}: can't be looked at: {error.strerror or error}") from error
        if not known:
            raise ConfigError(f"{folder}: no buck keeps packets there: give the --disk and --env that it runs with")
    for folder in folders:
        try:
            if leaving:
                await machine.disk.replace(join(folder, MARK), b"", mode=0o640)
            elif _exists(machine.disk, join(folder, MARK)):
                machine.disk.unlink(join(folder, MARK))
                await machine.disk.fsync_folder(folder)
        except OSError as error:
            raise ConfigError(f"{folder}: can't be marked: {error.strerror or error}") from error


async def follow(machine: Machine, http: Address, stop: trio.Event, say: Callable[[str], object]) -> int:
    """Tell how a running buck gets on with leaving, until it is done or we are stopped. The exit code."""
    said = ""
    while not stop.is_set():
        try:
            leaving = json.loads(await fetch(machine, *http, "/status"))["leaving"]
        except (OSError, ValueError, KeyError) as error:
            say(f"the buck does not answer at {http} (see --http): {error}; it is marked, and drains when it runs")
            return SHORTFALL
        text = _told(leaving)
        if text != said:
            say(text)
            said = text
        if leaving["draining"] and leaving["done"]:
            return DONE
        with trio.move_on_after(LOOK_EVERY_S):
            await stop.wait()
    return NOT_DONE


def _told(leaving: Mapping[str, Any]) -> str:
    if not leaving["draining"]:
        return "the buck has not seen the mark yet"
    if leaving["done"]:
        return "drained: every packet has its copies elsewhere; this buck may be stopped for good"
    left = f"{leaving['packets']} packets in {leaving['buckets']} buckets are to be handed on"
    return f"{left}; {leaving['trouble']}" if leaving["trouble"] else left


def _exists(disk: Disk, path: str) -> bool:
    """OSError if that can't be told."""
    try:
        disk.stat(path)
    except FileNotFoundError:
        return False
    return True
