"""What an audit of the archive names: something that is not as it was written, and where it is."""

from __future__ import annotations

from typing import NamedTuple

from porter.reader import numbers_text
from protocol.ranges import Ranges

__all__ = ["Damage"]


class Damage(NamedTuple):
    """`what` is wrong with an object, as closely as it can be told: row group, packets, stream, offsets."""

    name: str  # of the object
    what: str
    group: int = -1
    tailer: bytes = b""
    epoch: int = 0
    numbers: Ranges = Ranges()
    stream: bytes = b""
    path: bytes = b""
    first: int = 0
    end: int = 0

    def text(self) -> str:
        """As a line for people."""
        said = [self.name]
        if self.group >= 0:
            said.append(f"row group {self.group}")
        if self.numbers:
            word = "packet" if self.numbers.count == 1 else "packets"
            said.append(f"{word} {numbers_text(self.numbers)} of {self.tailer.hex()}/{self.epoch:x}")
        if self.stream:
            path = self.path.decode("utf-8", "backslashreplace")
            said.append(f"{path} (stream {self.stream.hex()}) bytes {self.first} to {self.end}")
        return ": ".join([*said, self.what])

    def document(self) -> dict[str, object]:
        """As JSON; what does not apply is left out."""
        places: dict[str, object] = {"object": self.name, "what": self.what}
        if self.group >= 0:
            places["group"] = self.group
        if self.numbers:
            places |= {"tailer": self.tailer.hex(), "epoch": f"{self.epoch:x}", "numbers": self.numbers.flat()}
        if self.stream:
            path = self.path.decode("utf-8", "backslashreplace")
            places |= {"stream": self.stream.hex(), "path": path, "first": self.first, "end": self.end}
        return places
