"""The indexes of closed parts, as far as memory allows: least recently used first out.

A node with 48 hours of packets behind it has footers of hundreds of megabytes; what is asked for is mostly the last
windows. The budget counts what the indexes weigh in memory, so a node's size does not depend on how much it stores.
"""

from collections import OrderedDict
from collections.abc import Callable

from buck.bucket import Part
from buck.counts import Counts
from buck.errors import SpoiltError
from buck.index import Index
from service.log import get_log
from service.machine import Machine

log = get_log("buck.cache")

BUDGET = 32 << 20


class Cache:
    """Index of a closed or bad part, from memory, its footer, or its packets."""

    def __init__(
        self, machine: Machine, env: str, counts: Counts, failed: Callable[[Part, OSError], None], budget: int = BUDGET
    ) -> None:
        """`failed` is told of a part whose disk can't read it."""
        self._machine = machine
        self._env = env
        self._counts = counts
        self._failed = failed
        self._budget = budget
        self._kept: OrderedDict[Part, Index] = OrderedDict()
        self.cost = 0

    def get(self, part: Part) -> Index | None:
        """What is in memory; an open part's own index is always."""
        if part.index is not None:
            return part.index
        found = self._kept.get(part)
        if found is not None:
            self._kept.move_to_end(part)
        return found

    def keep(self, part: Part, index: Index) -> None:
        """Remember; forget others as needed. An index heavier than the budget is not kept."""
        self.forget(part)
        if index.cost > self._budget:
            return
        self._kept[part] = index
        self.cost += index.cost
        while self.cost > self._budget:
            _, dropped = self._kept.popitem(last=False)
            self.cost -= dropped.cost

    def forget(self, part: Part) -> None:
        dropped = self._kept.pop(part, None)
        if dropped is not None:
            self.cost -= dropped.cost

    async def load(self, part: Part, keep: bool = True) -> Index:
        """From memory or disk. What can't be read at all is an empty index of a part that has failed."""
        found = self.get(part)
        if found is not None:
            return found
        try:
            index = await self._machine.slow(self._read, part)
        except OSError as error:
            if part.dropped:  # while it was waited for; its packets are in the archive
                return Index()
            log.error("a part can't be read", path=part.path, why=error.strerror or str(error))
            part.failed = True
            self._failed(part, error)
            return Index()
        if keep:
            self.keep(part, index)
        return index

    def _read(self, part: Part) -> Index:
        """Runs beside the loop: the part is closed, so nobody else writes it."""
        try:
            return part.read_index()
        except SpoiltError as error:
            log.warning("a footer is made anew from the packets", path=part.path, why=str(error))
        self._counts.footers_rebuilt.inc()
        index, skipped = part.rebuild(self._env)
        self._counts.skipped.inc(skipped)
        return index

    def check(self) -> None:
        """Invariants."""
        assert self.cost == sum(index.cost for index in self._kept.values()) <= self._budget
