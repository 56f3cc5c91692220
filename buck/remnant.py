"""What stays of a bucket file whose packets are in the archive: the keys that it held, and how far its streams went.

    <disk>/<env>/<YYYYMMDD>/<HHMMSS>.<part>.archived        one record (protocol/record.py):

    [version, verdict, digest of the verdict, public key of the porter, time ns,
     [[tailer, epoch, numbers, streams], ...]]          numbers: first, end, first, end, ...; streams as in a footer

It's written, fsynced and named before the packets go, and it is never changed. Answers that ask what exists go on being
right with it: `list` names its packets as archived, receipts count them as safe, `covered` and `streams` know its
intervals. It's some bytes a packet at most: that of a part of 1 GiB is some tens of KiB.
"""

from dataclasses import dataclass
from typing import NamedTuple

from buck import footer
from buck.errors import SpoiltError
from buck.files import PartName, join
from buck.index import GroupKey, Index, Streams
from protocol import record
from protocol.errors import FormatError
from protocol.ranges import Ranges
from protocol.statement import Statement
from service.machine import Disk

VERSION = 1


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
    return Remains(str(value[1]), groups)


def is_good(disk: Disk, remnant: Remnant) -> bool:
    """Can it be read?"""
    try:
        decode(disk.read_bytes(remnant.path))
    except SpoiltError:
        return False
    return True
