"""All remnants of a node: which there are, in eight bytes each, and reading them.

Their number grows for as long as the node lives, one a bucket and disk, so memory holds nothing of them but bucket and
part, which is all that their names say. They are asked for rarely, and mostly each once (by an audit, by a tailer that
lost its journal), so what was read is not kept: the system's page cache has it, as long as it has room.
"""

from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice

from buck.counts import Counts
from buck.errors import SpoiltError
from buck.files import ARCHIVED, PartName
from buck.remnant import Remains, Remnant, decode
from protocol.ranges import Ranges
from service.log import get_log
from service.machine import Machine

log = get_log("buck.remnants")

# Read with one hop to a thread: some milliseconds, and far less of their time than a hop each.
AT_ONCE = 64
_PARTS = 1 << 32  # more than a bucket has


class Names:
    """The remnants of one disk, in order of bucket and part. Adding the latest is cheap, any other shifts the rest."""

    def __init__(self, env_folder: str) -> None:
        self._env_folder = env_folder
        self._names = array("Q")  # bucket * _PARTS + part

    def __len__(self) -> int:
        return len(self._names)

    def add(self, bucket: int, part: int) -> None:
        """Note one; one that is noted already stays noted once."""
        name = bucket * _PARTS + part
        at = len(self._names)
        if at and name <= self._names[-1]:
            at = bisect_left(self._names, name)
            if self._names[at] == name:
                return
        self._names.insert(at, name)

    def has(self, bucket: int, part: int) -> bool:
        return part in self.parts(bucket)

    def parts(self, bucket: int) -> list[int]:
        """The numbers of a bucket's parts that are remnants."""
        first = bisect_left(self._names, bucket * _PARTS)
        end = bisect_left(self._names, (bucket + 1) * _PARTS, first)
        return [name % _PARTS for name in self._names[first:end]]

    def of(self, bucket: int) -> list[Remnant]:
        """A bucket's remnants."""
        return [self._remnant(bucket, part) for part in self.parts(bucket)]

    def buckets(self, start: int, end: int) -> Iterator[int]:
        """The buckets in [start, end) that have any, in order; not to be added to meanwhile."""
        at = bisect_left(self._names, start * _PARTS)
        while at < len(self._names) and (bucket := self._names[at] // _PARTS) < end:
            yield bucket
            at = bisect_left(self._names, (bucket + 1) * _PARTS, at)

    def all(self) -> Iterator[Remnant]:
        """All that there are at this call, in order."""
        for name in self._names[:]:
            yield self._remnant(*divmod(name, _PARTS))

    @property
    def newest(self) -> int:
        """The latest bucket that has any; -1 if none has."""
        return self._names[-1] // _PARTS if self._names else -1

    def check(self) -> None:
        """Invariants."""
        assert all(a < b for a, b in zip(self._names, self._names[1:], strict=False)), "they ascend"

    def _remnant(self, bucket: int, part: int) -> Remnant:
        return Remnant(self._env_folder, PartName(bucket, part, ARCHIVED))


class Remnants:
    """The remnants of all disks, read at each look."""

    def __init__(
        self,
        machine: Machine,
        counts: Counts,
        names: Callable[[], Sequence[Names]],
        failed: Callable[[Remnant, OSError], None],
    ) -> None:
        """`failed` is told of one that its disk can't read."""
        self._machine = machine
        self._counts = counts
        self._names = names
        self._failed = failed

    async def of(self, bucket: int) -> list[Remains]:
        """Those of one bucket. Doesn't wait if there are none."""
        found = [remnant for names in self._names() for remnant in names.of(bucket)]
        return await self._read(found) if found else []

    async def all(self) -> AsyncIterator[Remains]:
        """Every one that there is at the first look, on all disks; some come together."""
        for found in [names.all() for names in self._names()]:
            while some := list(islice(found, AT_ONCE)):
                for remains in await self._read(some):
                    yield remains

    async def numbers(self, bucket: int, tailer: bytes, epoch: int) -> Ranges:
        """Which packets of an epoch were here, and are archived."""
        found = Ranges()
        for remains in await self.of(bucket):
            gone = remains.groups.get((tailer, epoch))
            if gone is not None:
                found |= gone.numbers
        return found

    async def _read(self, remnants: Sequence[Remnant]) -> list[Remains]:
        """These, but for those that can't be read."""
        good = []
        for remnant, read in zip(remnants, await self._machine.slow(self._read_some, remnants), strict=True):
            if isinstance(read, OSError):
                self._failed(remnant, read)
            elif isinstance(read, SpoiltError):
                self._counts.bad_remnants.inc()
                log.error("ALARM: what is left of archived packets can't be read", path=remnant.path, why=str(read))
            else:
                good.append(read)
        return good

    def _read_some(self, remnants: Sequence[Remnant]) -> list[Remains | OSError | SpoiltError]:
        """Runs beside the loop. In place of one that can't be read the reason."""
        found: list[Remains | OSError | SpoiltError] = []
        for remnant in remnants:
            try:
                found.append(decode(self._machine.disk.read_bytes(remnant.path)))
            except (OSError, SpoiltError) as error:
                found.append(error)
        return found
