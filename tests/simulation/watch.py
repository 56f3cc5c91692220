"""Inotify, simulated: the folders of a simulated disk tell it what changes."""

from collections import deque
from typing import TYPE_CHECKING

import trio

from service.watch import OVERFLOW, Event

if TYPE_CHECKING:
    from tests.simulation.disk import SimDisk
    from tests.simulation.platter import Folder

QUEUE_MAX = 1_000


class SimWatch:
    """One process's watch. `overflow()` makes it forget everything, as the kernel's does in a burst."""

    def __init__(self, disk: "SimDisk") -> None:
        self.disk = disk
        self.queue: deque[Event] = deque()
        self.ready = trio.Event()
        self.folders: dict[int, Folder] = {}
        self.numbers = 0

    def add(self, path: str | bytes) -> int:
        self.disk.enter("watch", path)
        folder = self.disk.platter.folder(path)
        for number, watch in folder.watches:
            if watch is self:
                return number
        self.numbers += 1
        folder.watches.append((self.numbers, self))
        self.folders[self.numbers] = folder
        return self.numbers

    def remove(self, watch: int) -> None:
        folder = self.folders.pop(watch, None)
        if folder is not None:
            folder.watches.remove((watch, self))

    def put(self, watch: int, mask: int, name: bytes) -> None:
        if not self.disk.alive:
            return
        event = Event(watch, mask, name)
        if len(self.queue) >= QUEUE_MAX:
            self.overflow()
        elif not self.queue or self.queue[-1] != event:  # the kernel joins equal neighbours too
            self.queue.append(event)
            self.ready.set()

    def overflow(self) -> None:
        self.queue.clear()
        self.queue.append(Event(-1, OVERFLOW, b""))
        self.ready.set()

    async def events(self) -> list[Event]:
        await self.ready.wait()
        self.ready = trio.Event()
        found = list(self.queue)
        self.queue.clear()
        return found

    def close(self) -> None:
        for watch in list(self.folders):
            self.remove(watch)
