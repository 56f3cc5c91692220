"""What bucks have on their disks, read from their files while they run: packets one after another, then a footer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from protocol.errors import FormatError, TornError
from protocol.packet import Header, Key, peek, read


class Disk:
    """All bucket files below a folder, read on from where reading ended; those that are made later too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read_to: defaultdict[Path, int] = defaultdict(int)

    def fresh(self) -> Iterator[tuple[Header, int]]:
        """The headers and sizes of the packets that have come since the last call."""
        for path in self._folder.glob("*/*/*.*.*"):
            try:
                with path.open("rb", buffering=0) as file:
                    file.seek(self._read_to[path.with_suffix("")])
                    data = file.read()
            except FileNotFoundError:
                continue  # it was just closed, and has another name
            yield from self._packets(path.with_suffix(""), data)

    def _packets(self, part: Path, data: bytes) -> Iterator[tuple[Header, int]]:
        at = 0
        try:
            while (size := peek(data, at)) <= len(data) - at:
                yield read(data[at : at + size], verify=False).header, size
                at += size
        except TornError:
            pass  # the rest will come
        except FormatError:
            at = len(data)  # the footer
        self._read_to[part] += at


def one_copy(folders: Iterable[Path]) -> dict[Key, int]:
    """The size of each packet on any of these disks."""
    return {header.key: size for folder in folders for header, size in Disk(folder).fresh()}
