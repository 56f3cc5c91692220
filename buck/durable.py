"""Waiting for the device: fsync of a part, and the steps that close it. One fsync a part is under way at a time.

Group commit: who needs a packet synced waits for an fsync that began after its append; all who came meanwhile share the
next one. A failed fsync is final: the kernel may have dropped the pages and call the next one good, so nothing that was
not synced before is ever reported synced, the part takes nothing more, and the disk is left.
"""

from collections.abc import Callable

import trio

from buck.bucket import Part
from buck.counts import Counts
from buck.files import CLOSED
from buck.index import Index
from service.faults import faultpoint
from service.machine import Machine

Failed = Callable[[OSError], None]


class Durable:
    """The waits of one disk. `failed` is told of each error that means the disk is to be left."""

    def __init__(self, machine: Machine, counts: Counts, failed: Failed) -> None:
        self._machine = machine
        self._counts = counts
        self._failed = failed
        self._flights: dict[Part, trio.Event] = {}
        self._closing: dict[Part, trio.Event] = {}

    async def sync(self, part: Part) -> bool:
        """Are all packets that the part holds at this call on the device? False if that can't be had."""
        goal = part.size
        while part.synced < goal:
            if part.failed:
                return False
            await self._next_flight(part)
        return not part.failed

    async def close(self, part: Part) -> Index | None:
        """Footer, fsync, rename: the part is closed, its index given away. None: it failed, or another task does it."""
        if part in self._closing:
            await self._closing[part].wait()
            return None
        self._closing[part] = trio.Event()
        try:
            return await self._close(part)
        finally:
            self._closing.pop(part).set()

    async def _close(self, part: Part) -> Index | None:
        part.stopped = True
        while part in self._flights:
            await self._flights[part].wait()
        if part.failed or not part.is_open:  # another task has closed it while this one waited for its disk
            return None
        await self._machine.slow(part.write_footer)
        if not await self._flight(part):
            return None
        try:
            part.rename(CLOSED)
            await self._machine.disk.fsync_folder(part.folder)
        except OSError as error:
            self._failed(error)
            return None
        self._counts.closed.inc()
        return part.finish()

    async def _next_flight(self, part: Part) -> None:
        """An fsync that begins from now on; shared by all who wait here."""
        under_way = self._flights.get(part)
        if under_way is None:
            await self._flight(part)
        else:
            await under_way.wait()

    async def _flight(self, part: Part) -> bool:
        if part.file is None:
            return not part.failed
        landed = self._flights[part] = trio.Event()
        covered, charged = part.size, part.unsynced.take()
        try:
            faultpoint("buck.durable.before_fsync")
            await self._machine.disk.fsync(part.file)
            faultpoint("buck.durable.after_fsync")
        except OSError as error:
            part.fail()
            self._failed(error)
            return False
        finally:
            del self._flights[part]
            landed.set()
        part.synced = max(part.synced, covered)
        part.last_sync = self._machine.now()
        self._counts.syncs.inc()
        self._counts.costs.synced(charged)
        return not part.failed
