"""What tailers have signed of packets: of those they state how the content begins, in the order of a section's numbers;
and which they will never state, because they gave them up, or a crash ended the epoch before them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from protocol.packet import Key
from protocol.ranges import Ranges
from protocol.seal import CONTENT_SIZE, Seal

__all__ = ["Signed"]


class Signed:
    """The statements of some seals, found by tailer, epoch and bucket."""

    def __init__(self, seals: Iterable[Seal]) -> None:
        self._sections: defaultdict[tuple[bytes, int, int], list[tuple[Ranges, bytes]]] = defaultdict(list)
        self._given_up: defaultdict[tuple[bytes, int], Ranges] = defaultdict(Ranges)
        self._lost_after: dict[tuple[bytes, int], int] = {}
        for seal in seals:
            for section in seal.sections:
                epoch = seal.tailer, section.epoch
                if section.numbers:
                    self._sections[*epoch, section.bucket].append((section.numbers, section.contents))
                if section.given_up:
                    self._given_up[epoch] |= section.given_up
                if section.lost_after is not None:
                    self._lost_after[epoch] = max(section.lost_after, self._lost_after.get(epoch, -1))

    def contents(self, tailer: bytes, epoch: int, bucket: int) -> dict[int, bytes]:
        """Number -> the first bytes of the content, of all packets that are stated there."""
        found: dict[int, bytes] = {}
        for numbers, contents in self._sections.get((tailer, epoch, bucket), ()):
            parts = (contents[at : at + CONTENT_SIZE] for at in range(0, len(contents), CONTENT_SIZE))
            found.update(zip(numbers.numbers(), parts, strict=True))
        return found

    def is_renounced(self, tailer: bytes, epoch: int, number: int) -> bool:
        """Has its tailer said that it will never state this packet? It may turn up on a disk that comes back."""
        after = self._lost_after.get((tailer, epoch))
        return (after is not None and number > after) or number in self._given_up.get((tailer, epoch), ())

    def of_bucket(self, bucket: int, epochs: Iterable[tuple[bytes, int]]) -> dict[Key, bytes]:
        """The same of a whole bucket, by key."""
        return {
            Key(*epoch, number): content
            for epoch in epochs
            for number, content in self.contents(*epoch, bucket).items()
        }
