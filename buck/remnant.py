"""What stays of a bucket file whose packets are in the archive: the keys that it held, and how far its streams went.

    <disk>/<env>/<YYYYMMDD>/<HHMMSS>.<part>.archived        one record (protocol/record.py):

    [version, verdict, digest of the verdict, public key of the porter, time ns,
     [[tailer, epoch, numbers, streams], ...]]          numbers: first, end, first, end, ...; streams as in a footer

It's written, fsynced and named before the packets go, and it is never changed. Answers that ask what exists go on being
right with it: `list` names its packets as archived, receipts count them as safe, `covered` and `streams` know its
intervals. It's some bytes a packet at most: that of a part of 1 GiB is some tens of KiB.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from buck import footer
from buck.counts import Counts
from buck.errors import SpoiltError
from buck.files import PartName, join
from buck.index import GroupKey, Index, Streams
from protocol import record
from protocol.errors import FormatError
from protocol.ranges import Ranges
from protocol.statement import Statement
from service.log import get_log
from service.machine import Disk, Machine

log = get_log("buck.remnant")

VERSION = 1
# Read ones that stay in memory, by the bytes of their files; they are asked for rarely, and mostly one after another.
KEPT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Gone:
    """The packets of one tailer and epoch that were in the part; the streams are read at each look."""

    numbers: Ranges
    streams_data: bytes

    @property
    def streams(self) -> Streams:
        return footer.read_streams(self.streams_data)

    @property
    def count(self) -> int:
        return self.numbers.count

    def ranges(self) -> Ranges:
        return self.numbers


class Remnant(NamedTuple):
    """One remnant, not read yet."""

    env_folder: str
    name: PartName

    @property
    def path(self) -> str:
        return join(self.env_folder, self.name.day, self.name.file)


class Remains(NamedTuple):
    """One remnant, as read."""

    verdict: str
    groups: dict[GroupKey, Gone]
    size: int


def encode(index: Index, statement: Statement) -> bytes:
    """The remnant of a part that has this index, and of which the statement names every packet."""
    groups = []
    for (tailer, epoch), group in sorted(index.groups.items(), key=lambda item: item[0]):
        groups.append([tailer, epoch, group.ranges().flat(), footer.write_streams(group.streams)])
    facts = (statement.verdict, statement.digest, statement.public, statement.time_ns)
    return record.encode_record([VERSION, *facts, groups])


def decode(data: bytes) -> Remains:
    """A remnant read back. SpoiltError if it isn't one."""
    try:
        value = record.read_record(data)
        if not isinstance(value, list) or len(value) != 6 or value[0] != VERSION:
            raise FormatError("a record that is no remnant, or of another version")
        groups = {
            (bytes(tailer), int(epoch)): Gone(Ranges.from_flat(numbers), bytes(streams))
            for tailer, epoch, numbers, streams in value[5]
        }
    except (FormatError, TypeError, ValueError) as error:
        raise SpoiltError(f"a remnant can't be read: {error}") from error
    return Remains(str(value[1]), groups, len(data))


class Remnants:
    """The remnants of all disks, read when they are asked for. `found` gives those of a bucket."""

    def __init__(
        self,
        machine: Machine,
        counts: Counts,
        found: Callable[[int], Sequence[Remnant]],
        failed: Callable[[Remnant, OSError], None],
        budget: int = KEPT_BYTES,
    ) -> None:
        self._machine = machine
        self._counts = counts
        self._found = found
        self._failed = failed
        self._budget = budget
        self._kept: OrderedDict[Remnant, Remains] = OrderedDict()

    async def of(self, bucket: int) -> list[Remains]:
        """Those of one bucket. Doesn't wait if there are none, or all are in memory."""
        return [remains for one in list(self._found(bucket)) if (remains := await self._read(one)) is not None]

    async def numbers(self, bucket: int, tailer: bytes, epoch: int) -> Ranges:
        """Which packets of an epoch were here, and are archived."""
        found = Ranges()
        for remains in await self.of(bucket):
            gone = remains.groups.get((tailer, epoch))
            if gone is not None:
                found |= gone.numbers
        return found

    async def _read(self, remnant: Remnant) -> Remains | None:
        known = self._kept.get(remnant)
        if known is not None:
            self._kept.move_to_end(remnant)
            return known
        try:
            remains = decode(await self._machine.slow(self._machine.disk.read_bytes, remnant.path))
        except OSError as error:
            self._failed(remnant, error)
            return None
        except SpoiltError as error:
            self._counts.bad_remnants.inc()
            log.error("ALARM: what is left of archived packets can't be read", path=remnant.path, why=str(error))
            return None
        self._kept[remnant] = remains
        while sum(one.size for one in self._kept.values()) > self._budget:
            self._kept.popitem(last=False)
        return remains


def is_good(disk: Disk, remnant: Remnant) -> bool:
    """Can it be read?"""
    try:
        decode(disk.read_bytes(remnant.path))
    except SpoiltError:
        return False
    return True
