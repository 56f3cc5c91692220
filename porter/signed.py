"""What tailers have signed of each packet's content: the first 16 bytes, in the order of the numbers of a section."""

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
        for seal in seals:
            for section in seal.sections:
                if section.numbers:
                    place = seal.tailer, section.epoch, section.bucket
                    self._sections[place].append((section.numbers, section.contents))

    def contents(self, tailer: bytes, epoch: int, bucket: int) -> dict[int, bytes]:
        """Number -> the first bytes of the content, of all packets that are stated there."""
        found: dict[int, bytes] = {}
        for numbers, contents in self._sections.get((tailer, epoch, bucket), ()):
            parts = (contents[at : at + CONTENT_SIZE] for at in range(0, len(contents), CONTENT_SIZE))
            found.update(zip(numbers.numbers(), parts, strict=True))
        return found

    def of_bucket(self, bucket: int, epochs: Iterable[tuple[bytes, int]]) -> dict[Key, bytes]:
        """The same of a whole bucket, by key."""
        return {
            Key(*epoch, number): content
            for epoch in epochs
            for number, content in self.contents(*epoch, bucket).items()
        }
