"""A queue between one who brings and one who may be slow: bounded in bytes, the oldest goes first, and is counted.

Whoever brings never waits. Whoever takes is told, before the next item, how much was dropped since it last took.
"""

from collections import deque
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Backlog(Generic[T]):
    """Invariant: `size` is the bytes of what waits, and at most `size_max` unless a single item is larger."""

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self.size = 0
        self.missed = 0  # events dropped since the last take
        self._items: deque[tuple[T, int, int]] = deque()
        self._closed = False
        self._news = trio.Event()

    def put(self, item: T, size: int, events: int) -> int:
        """Let an item of so many bytes and events wait, in place of the oldest; how many events these were."""
        before = self.missed
        while self._items and self.size + size > self.size_max:
            _, oldest, lost = self._items.popleft()
            self.size -= oldest
            self.missed += lost
        self._items.append((item, size, events))
        self.size += size
        self._news.set()
        return self.missed - before

    def miss(self, events: int) -> None:
        """So many events were lost before they got here."""
        self.missed += events
        self._news.set()

    def close(self) -> None:
        """Nobody will bring anything any more, and what waits is not wanted."""
        self._closed = True
        self._news.set()

    async def take(self) -> tuple[int, T | None] | None:
        """How many events were missed, and the oldest item there is, if any; waits for the one or the other.

        None once it is closed.
        """
        while not (self._items or self.missed or self._closed):
            self._news = trio.Event()
            await self._news.wait()
        if self._closed:
            return None
        missed, self.missed = self.missed, 0
        item = None
        if self._items:
            item, size, _ = self._items.popleft()
            self.size -= size
        return missed, item

    def check(self) -> None:
        """Assert the invariant, for tests."""
        assert self.size == sum(size for _, size, _ in self._items)
        assert self.size <= self.size_max or len(self._items) == 1
