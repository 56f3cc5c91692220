"""One hash over everything that happens in a simulated world: two runs of a seed are the same run, or it shows."""

import hashlib

import trio


class Trace:
    """Every piece on the network and every operation of a disk, with its time."""

    def __init__(self) -> None:
        self.count = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def note(self, *what: object) -> None:
        """Something happens now."""
        self.count += 1
        self._hash.update(repr((trio.current_time(), *what)).encode())

    def hexdigest(self) -> str:
        """The run so far."""
        return self._hash.hexdigest()
