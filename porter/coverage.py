"""Which bytes of each stream there are, over bucks and archive together: did a crash leave a hole in any file?

A tailer that was killed reads its files again from where it knows that everything was sent. What its last epoch lost
is then there under new numbers, and nothing shows but that the intervals of each file close up again. A connection
can't be read again, so of a tailer with any of these nothing can be said.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from porter.cluster import Cluster
from protocol.ranges import Ranges

if TYPE_CHECKING:
    from porter.footer import Footer  # and with it numpy, which audits of bucks alone need not load


class Coverage:
    """Intervals of every stream, added up."""

    def __init__(self) -> None:
        self._covered: defaultdict[tuple[bytes, bytes], Ranges] = defaultdict(Ranges)  # of (tailer, stream)
        self._others: set[bytes] = set()  # tailers with something that is no file

    def add(self, tailer: bytes, stream: bytes, path: bytes, offsets: Ranges) -> None:
        """These bytes are there. A file may have been renamed meanwhile: it stays one stream."""
        self._covered[tailer, stream] |= offsets
        if not path.startswith(b"/"):
            self._others.add(tailer)

    def add_footer(self, footer: Footer) -> None:
        """What a part of the archive has. What it dropped as a duplicate is in other rows, of this part or another."""
        for stream in footer.streams:
            self.add(stream.tailer, stream.stream, stream.path, stream.covered)

    async def add_bucks(self, cluster: Cluster) -> None:
        """What the bucks have."""
        for bucket in await cluster.buckets():
            for _host, path, stream, tailer, offsets in await cluster.streams(bucket.bucket):
                self.add(tailer, stream, path, offsets)

    def meets(self, tailer: bytes, stream: bytes, first: int, end: int) -> bool:
        """Is any of these bytes there?"""
        return bool(self._covered.get((tailer, stream), Ranges()) & Ranges([(first, end)]))

    def whole(self) -> frozenset[bytes]:
        """Tailers of which only files are known, none with a hole: what a crash lost of these was read again."""
        holed = {tailer for (tailer, _), offsets in self._covered.items() if len(offsets) > 1}
        return frozenset(tailer for tailer, _ in self._covered) - holed - self._others
