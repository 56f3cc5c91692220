"""One bucket file ("part"): packets of one window on one disk, one after another. Synchronous.

A part is born `.open` and takes packets as they came; when nothing more is expected it gets its footer and becomes
`.closed`; after a failed fsync it becomes `.bad`. Who waits for the device (fsync, folder names) is the store; here are
the steps between the waits, each whole in itself:

    create -> append* -> stop -> write_footer -> (fsync) -> rename_closed -> (fsync of the folder)

Invariants: packets lie in [0, size) and nothing but a torn write lies behind; what was appended before the last good
fsync lies in [0, synced); `synced <= size`; `index` is there while the part is open.
"""

import contextlib
from collections.abc import Sequence

from buck import footer
from buck.files import BAD, CLOSED, LEFT, OPEN, PartName, join
from buck.index import DIGEST_SIZE, Group, Index
from buck.scan import Kind, scan
from protocol import packet as packets
from protocol.errors import PacketError
from protocol.packet import Packet
from service.costs import Unsynced
from service.faults import faultpoint
from service.machine import Disk, File

PART_SIZE_MAX = 1 << 30
RENEWED = ".new"
COPY_SIZE = 4 << 20
# Memory of an open part's index: half a million packets, or 25,000 streams. Then another part is begun.
PART_COST_MAX = 32 << 20


class Part:
    """One bucket file and what is known of it without reading it."""

    def __init__(self, disk: Disk, env_folder: str, name: PartName) -> None:
        self.disk = disk
        self.env_folder = env_folder
        self.name = name
        self.index: Index | None = None
        self.file: File | None = None
        self.size = 0  # where the next packet goes
        self.synced = 0
        self.packets = 0
        self.last_arrival_ns = 0
        self.arrived = 0.0  # the same on the machine's forward clock; what closing and eviction go by
        self.window_end = 0.0  # on the forward clock
        self.last_sync = 0.0
        self.stopped = False  # takes no more packets
        self.unsynced = Unsynced()  # bytes by class, for who divides the cost of an fsync
        self.dropped = False  # its packets are in the archive, and the file is gone or about to go
        self.failed = False  # an fsync or a cut failed: what isn't synced is not ours to promise

    @property
    def bucket(self) -> int:
        return self.name.bucket

    @property
    def folder(self) -> str:
        return join(self.env_folder, self.name.day)

    @property
    def path(self) -> str:
        return join(self.folder, self.name.file)

    @property
    def cost(self) -> int:
        """Bytes of memory that its index takes while it is open."""
        return self.index.cost if self.index is not None else 0

    @property
    def is_open(self) -> bool:
        return self.name.state == OPEN

    @property
    def trusted(self) -> bool:
        """May its packets count in receipts, and stop a second copy from being stored?"""
        return not self.failed and self.name.state not in (BAD, LEFT)

    def create(self) -> None:
        """Make the file. The store fsyncs the folder before anything in it is acknowledged."""
        self.disk.mkdirs(self.folder)
        self.file = self.disk.open_new(self.path)
        self.index = Index()

    def append(self, packet: Packet) -> int:
        """Append a packet as it came; its offset. After an OSError the file is as it was, or the part has failed."""
        self.write((packet,))
        return self.note(packet)

    def lacks(self, packet: Packet) -> bool:
        """Can it be given this packet, and has it not?"""
        return not self.stopped and self.index is not None and not self.index.has(packet)

    def write(self, packets: Sequence[Packet]) -> None:
        """The part of appending that may wait for the disk: all of them, or after an OSError none.

        It may be stopped since they were chosen for it: who closes it waits for them.
        """
        assert self.file is not None
        for packet in packets:
            faultpoint("buck.bucket.before_append")
            try:
                self.file.write(packet.data)
            except OSError:
                self._cut_back()
                raise
            faultpoint("buck.bucket.after_append")

    def note(self, packet: Packet) -> int:
        """The other part: what was written counts from now on."""
        assert self.index is not None
        offset = self.size
        self.size += len(packet.data)
        self.packets += 1
        self.index.add(packet, offset)
        if self.size >= PART_SIZE_MAX or self.index.cost >= PART_COST_MAX:
            self.stopped = True
        return offset

    def write_footer(self) -> None:
        """Add the footer. Where there is no room for it the part is closed without: a scan makes up for it."""
        assert self.file is not None
        assert self.index is not None
        self.stopped = True
        faultpoint("buck.bucket.before_footer")
        try:
            self.file.write(footer.encode(self.index, self.size, self.last_arrival_ns))
        except OSError:
            self._cut_back()
        faultpoint("buck.bucket.after_footer")

    def rename(self, state: str) -> None:
        """One rename is the change of state; who wants it to last fsyncs the folder."""
        faultpoint("buck.bucket.before_rename")
        old, new = self.path, self.name._replace(state=state)
        self.disk.rename(old, join(self.folder, new.file))
        self.name = new
        faultpoint("buck.bucket.after_rename")

    def finish(self) -> Index:
        """Closed for good: give the descriptor and the index away."""
        assert self.index is not None
        index, self.index = self.index, None
        self.release()
        return index

    def fail(self) -> None:
        """An fsync failed. It is final: the file takes nothing more, and its name says so if it can."""
        self.failed = self.stopped = True
        with contextlib.suppress(OSError):  # the disk is failing: a name that can't be changed changes nothing
            if self.name.state == OPEN:
                self.rename(BAD)

    def release(self) -> None:
        """Give the descriptor back."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def read_trailer(self) -> None:
        """At start-up, of a closed part: counts and arrival, without the index."""
        file = self.disk.open_read(self.path)
        try:
            size = file.size()
            self.last_arrival_ns = file.stat().mtime_ns
            self.size = self.synced = size
            tail = file.pread(footer.TRAILER_SIZE, max(size - footer.TRAILER_SIZE, 0))
            trailer = footer.read_trailer(tail, size)
            self.packets, self.last_arrival_ns = trailer.packets, trailer.last_arrival_ns
            self.size = self.synced = trailer.data_size
        finally:
            file.close()

    def read_index(self) -> Index:
        """The index from the footer; SpoiltError if that isn't good."""
        file = self.disk.open_read(self.path)
        try:
            size = file.size()
            trailer = footer.read_trailer(file.pread(footer.TRAILER_SIZE, max(size - footer.TRAILER_SIZE, 0)), size)
            start = size - footer.TRAILER_SIZE - trailer.body_size
            return footer.decode(file.pread(trailer.body_size, start), trailer)
        finally:
            file.close()

    def scan_index(self, env: str, size: int | None = None) -> tuple[Index, int, int]:
        """The index from the packets themselves; where the last good one ends, and bytes skipped before that."""
        file = self.disk.open_read(self.path)
        try:
            index, end, good = Index(), 0, 0
            for record in scan(file, _packets_of(env, self.bucket), file.size() if size is None else size):
                index.add(record.value, record.offset)
                end = record.offset + record.size
                good += record.size
            self.packets = index.packets
            return index, end, end - good
        finally:
            file.close()

    def rebuild(self, env: str) -> tuple[Index, int]:
        """The index of a closed part whose footer is not good, and bytes skipped. A new footer goes to the end.

        The old one is left in between: a closed file is never cut, lest a disk that reads badly once makes us delete.
        """
        index, end, skipped = self.scan_index(env)
        self.size = self.synced = end
        data = footer.encode(index, end, self.last_arrival_ns)
        if self.name.state == CLOSED:
            with contextlib.suppress(
                OSError
            ):  # no room, or a disk that can only be read: it is scanned again next time
                _add_whole(self.disk.open_append(self.path), data)
        return footer.decode_whole(data), skipped

    def reopen(self, index: Index, end: int) -> int:
        """Take an open part over from a process that died: cut the torn tail; how many bytes that was."""
        faultpoint("buck.bucket.before_cut")
        self.file = self.disk.open_append(self.path)
        torn = self.file.size() - end
        self.last_arrival_ns = self.file.stat().mtime_ns
        if torn:
            self.file.truncate(end)
        self.index, self.size, self.synced, self.stopped = index, end, 0, True
        faultpoint("buck.bucket.after_cut")
        return torn

    def renew(self) -> File:
        """Copy an open part to a file of its own: bytes that were written anew, so that the next fsync says the truth.

        After a failed fsync pages may count as clean without being on the device, until the host boots again; who took
        the part over from a process that died can't know whether that happened. Runs beside the loop.
        """
        assert self.file is not None
        with contextlib.suppress(FileNotFoundError):
            self.disk.unlink(self.path + RENEWED)
        copy = self.disk.open_new(self.path + RENEWED)
        try:
            for at in range(0, self.size, COPY_SIZE):
                copy.write(self.file.pread(min(COPY_SIZE, self.size - at), at))
        except OSError:
            copy.close()
            raise
        return copy

    def take(self, copy: File) -> None:
        """The copy is on the device: from now on it is this part."""
        assert self.file is not None
        faultpoint("buck.bucket.renewed")
        self.disk.rename(self.path + RENEWED, self.path)
        self.file.close()
        self.file = copy

    def check(self) -> None:
        """Invariants."""
        assert 0 <= self.synced <= self.size
        assert self.is_open == (self.index is not None) or self.failed
        if self.index is not None:
            self.index.check()
            assert self.index.packets == self.packets

    def _cut_back(self) -> None:
        assert self.file is not None
        try:
            self.file.truncate(self.size)
        except OSError:
            self.failed = self.stopped = True  # half a packet may stand at the end: nothing may follow it


def read_packet(file: File, offset: int, size: int) -> Packet:
    """The packet at a place, digest verified again; PacketError and its kin if it isn't what was written."""
    return packets.read(file.pread(size, offset))


def digest_at(part: Part, group: Group, row: int) -> bytes:
    """A packet's digest: from memory, or the last bytes of the packet in its file. OSError if they can't be read."""
    known = group.digest(row)
    if known is not None:
        return known
    file = part.disk.open_read(part.path)
    try:
        return file.pread(DIGEST_SIZE, group.offsets[row] + group.sizes[row] - DIGEST_SIZE)
    finally:
        file.close()


def _add_whole(file: File, data: bytes) -> None:
    """Add all of `data` to a file, or nothing."""
    size = file.size()
    try:
        file.write(data)
    except OSError:
        file.truncate(size)
        raise
    finally:
        file.close()


def _packets_of(env: str, bucket: int) -> Kind[Packet]:
    """Packets that belong into a file of this bucket: a misdirected write brings whole ones that don't."""

    def read(data: bytes) -> Packet:
        packet = packets.read(data)
        if packet.header.env != env or packet.header.bucket != bucket:
            raise PacketError("a packet of another env or bucket")
        return packet

    return Kind(packets.MAGIC, packets.peek, read)
