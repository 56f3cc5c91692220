"""The journal: write-ahead log, queue and checkpoint in one; packets in number order, in segments of 64 MiB.

    0000000007.segment   checkpoint | packet 1 | packet 2 | notes | packet 3 | seal | ...
    0000000008.segment   checkpoint | packet 4 | ...                              <- the only one written to

What a source gave is acknowledged once its packet is appended here and synced (A0). Everything a restart needs is in
the same files: each segment opens with a checkpoint, notes say which packets which bucks hold, and seals are kept until
enough bucks have them. The index in memory (ledger.py) holds no bytes: packets are read back to be sent again.

*Syncing* is group commit: whoever awaits `sync` shares the next fsync with all who wait; segments.py says what happens
when that fails. *Space*: a segment goes when all its packets are done and sealed, and a later one's checkpoint is on
the device. Above 80 % what two bucks have on their devices is given up early, oldest first, and counted as short. When
that doesn't help, `room` is 0, and the sources wait. It refuses a folder in use, and one of another node or env. It
never overwrites or repairs an old segment, but for cutting off what a crash left torn at its end.
"""

import errno
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import trio

from protocol.errors import FormatError
from protocol.identity import DIGEST_SIZE, NodeKey
from protocol.limits import PACKET_SIZE_MAX
from protocol.packet import Header, Packet, build, read
from protocol.ranges import Ranges
from protocol.record import encode_record
from protocol.seal import Seal
from service.beat import until_beat
from service.config import ConfigError
from service.costs import Costs, Unsynced
from service.faults import faultpoint
from service.log import get_log
from service.machine import Machine
from service.metrics import Metrics
from tailer.blocks import Draft
from tailer.chain import Chain
from tailer.checkpoint import Checkpoint, MemberState, State, plain_notes
from tailer.ledger import Entry, Ledger
from tailer.replay import FIRST_NUMBER, Recovery, Replay, entry_of, replay_folder
from tailer.room import Room
from tailer.segment import Segment
from tailer.segments import JournalError, JournalFull, Moved, Segments

__all__ = ["Journal", "JournalError", "JournalFull"]

SYNC_EVERY_S = 1.0
SYNC_RETRY_MAX_S = 60.0
SYNC_BYTES = 8 << 20  # a sync is asked for early
BOOT_SHIFT = 32  # an epoch's upper half counts the starts
ROOM_POLL_S = 0.5  # others may free the disk without telling us

log = get_log("tailer.journal")


class Journal:
    """The single writer of a journal folder. Make one with `open`."""

    def __init__(self, machine: Machine, folder: str, env: str, key: NodeKey, host: bytes, epoch: int) -> None:
        self.machine = machine
        self.folder = folder
        self.env = env
        self.node = key.node
        self.host = host
        self.epoch = epoch
        self.width = 0
        self.crashes = 0
        self.settled = 0  # starts up to this one are accounted for
        self.ledger = Ledger()
        self.recovered = Recovery()
        self.members: tuple[MemberState, ...] = ()
        self.chain = Chain()
        self.state: Callable[[], Checkpoint] | None = None
        self.counters: Counter[str] = Counter()
        self.costs = Costs(Metrics("tailer"), machine.cpu_s)
        self._unsynced = Unsynced()
        self._segments = Segments(machine, folder, self._head, self.counters)
        self._room = Room(machine, self._segments, self.ledger, self.counters)
        self._next = FIRST_NUMBER
        self.coverage: dict[bytes, Ranges] = {}  # stream -> offsets that packets hold, here or on bucks
        self._ends: dict[int, int] = {}
        self._gone = False  # a packet that `coverage` counts was given up
        self._syncing = trio.Lock()
        self._sync_soon = trio.Event()
        self._freed = trio.Event()

    # --- opening and closing ----------------------------------------------------------------------------------------

    @classmethod
    async def open(
        cls, machine: Machine, folder: str, *, env: str, key: NodeKey, host: bytes, epoch: int,
        size_max: int | None = None,
    ) -> "Journal":  # fmt: skip
        """Take the folder, read what is there (`recovered`), and begin a new segment. ConfigError, JournalError."""
        self = cls(machine, folder, env, key, host, epoch)
        try:
            self._segments.take()
            self._room.measure(size_max)
            self._recover(replay_folder(machine.disk, folder, Replay(env, key.node)))
            self._segments.roll()
            await self._settle_recovered()
            await self.sync()
        except BaseException as error:
            self.release()
            if isinstance(error, OSError) and not isinstance(error, JournalError):
                why = f"the journal can't be opened: {error.strerror or error}"
                raise JournalError(error.errno, why, folder) from error
            raise
        return self

    def _recover(self, replay: Replay) -> None:
        replay.refuse_foreign(self.folder)
        self._segments.all = replay.segments
        for index in replay.stale():
            self._segments.drop(index)
        found = self.recovered = replay.finish(self.ledger)
        self.chain.restore(replay.seals, replay.undelivered, replay.lost, replay.unread)
        self.coverage = {stream: ranges.copy() for stream, ranges in found.coverage.items()}
        self._ends = dict(found.ends)
        if replay.base is not None:
            self.width, self.members, self.crashes = replay.base.width, replay.base.members, replay.base.crashes
            self.settled = replay.base.settled
            self.chain.missed = replay.base.missed and bool(replay.lost)  # else a seal has stated it since
        if found.clean and found.epoch is not None and found.epoch >> BOOT_SHIFT == self.settled + 1:
            self.settled += 1
        if found.found and not found.clean:
            self._note_crash()

    async def _settle_recovered(self) -> None:
        """What a killed process appended may be in memory only, and counts as journaled from now on."""
        for index in [] if self.recovered.clean else await self._segments.sync_old():
            for entry in self.ledger.of_segment(index):
                if (packet := self.load(entry)) is not None:
                    self._moved(entry)(*self._segments.append(bytes(packet.data), self._moved(entry)))

    def _note_crash(self) -> None:
        found = self.recovered
        self.crashes += 1
        if (ended := found.epoch) is not None:
            self.chain.lose(ended, found.ends.get(ended, FIRST_NUMBER) - 1, healable=found.checkpoint is not None)
        holes = sum(ranges.count for ranges in found.holes.values())
        findings = {"skipped": found.skipped, "cut": found.cut, "missing": holes, "foreign": found.foreign}
        log.warning("the journal was not closed in order", folder=self.folder, stale=found.stale, **findings)

    async def close(self, clean: bool = True) -> None:
        """The last act of an orderly stop: nothing may be appended afterwards."""
        try:
            if clean:
                self._write_notes()
                if not self.ledger.live[self._segments.current.index]:
                    self._segments.roll()  # all of it is done: it goes, and the next start has little to read
                self._segments.append_control(lambda index: encode_record(self._state(index, clean=True).plain()))
                await self._segments.sync()
                self._drop([index for index in self._segments.all if not self.ledger.live[index]])
        finally:
            self.release()

    def release(self) -> None:
        """Give the folder back, as it is."""
        self._segments.close()

    # --- writing ----------------------------------------------------------------------------------------------------

    def append(self, draft: Draft) -> Packet:
        """Number a draft and write its packet (A0 once synced). JournalFull: nothing was changed."""
        header = self._header(draft)
        data = build(header, draft.body)
        entry = entry_of(header, 0, 0, len(data))
        entry.opened = draft.opened_at
        faultpoint("tailer.journal.append")
        self._append_packet(data, header, entry)
        self._next += 1
        self.counters["packets"] += 1
        self.counters["bytes"] += len(data)
        self.costs.written(header.kind.label, header.count, len(data), self._unsynced, header.kind.sync)
        faultpoint("tailer.journal.appended")
        body = memoryview(data)[-DIGEST_SIZE - len(draft.body) : -DIGEST_SIZE]
        return Packet(header, data, body, data[-DIGEST_SIZE:])

    def _append_packet(self, data: bytes, header: Header, entry: Entry) -> None:
        segment, entry.offset = self._place(data, entry)
        entry.segment = segment.index
        self.ledger.add(entry)
        for stream, first, end, _, _ in header.runs:
            self.coverage.setdefault(header.streams[stream].id, Ranges()).add(first, end)
        if self._segments.unsynced_size >= SYNC_BYTES:
            self._sync_soon.set()

    def _place(self, data: bytes, entry: Entry) -> tuple[Segment, int]:
        if len(data) > self.room():
            raise JournalFull(errno.ENOSPC, "the journal is full", self.folder)
        return self._segments.append(data, self._moved(entry))

    def restore(self, entry: Entry, packet: Packet) -> None:
        """Append a packet anew that can't be read where it lies. JournalFull: nothing was changed."""
        self._moved(entry)(*self._place(bytes(packet.data), entry))
        self.counters["restored"] += 1

    def _moved(self, entry: Entry) -> Moved:
        return lambda segment, offset: self.ledger.move(entry, segment.index, offset)

    def _header(self, draft: Draft) -> Header:
        return Header(
            self.env, draft.bucket, self.width, self.node, self.host, self.epoch, self._next, draft.kind, draft.count,
            draft.point_min, draft.point_max, draft.late, tuple(draft.streams), tuple(draft.runs), draft.content,
            tuple(draft.formats), tuple(draft.shn), tuple(draft.app), tuple(draft.sizes),
        )  # fmt: skip

    def adopt(self, packet: Packet, holders: Sequence[bytes]) -> None:
        """Append a packet of an earlier epoch that bucks hold and this journal lost. JournalFull: it isn't."""
        data = bytes(packet.data)
        entry = entry_of(packet.header, 0, 0, len(data))
        entry.again = True
        self._append_packet(data, packet.header, entry)
        for node in holders:
            self.ledger.note_stored(entry, node)
        end = self._ends.get(entry.epoch, FIRST_NUMBER)
        self._ends[entry.epoch] = self.recovered.ends[entry.epoch] = max(end, entry.number + 1)
        self.counters["adopted"] += 1

    def adopt_seal(self, seal: Seal) -> None:
        """The chain's head, as bucks have it: this journal was behind."""
        self._write({"k": "seal", "seal": seal.data})
        self.chain.adopt(seal)

    def hear_of(self, epoch: int, sealed: Ranges) -> None:
        """A start that this journal has lost. What seals state of it is on its way, or done: nothing is to be done."""
        self._ends[epoch] = self.recovered.ends[epoch] = sealed.last + 1 if sealed else FIRST_NUMBER
        self.ledger.note_gone(epoch, sealed)

    def cover(self, streams: Mapping[bytes, Ranges]) -> None:
        """Bucks hold these offsets of streams."""
        for stream, offsets in streams.items():
            self.coverage[stream] = self.coverage.get(stream, Ranges()) | offsets

    @property
    def boots(self) -> int:
        """The start that this is."""
        return self.epoch >> BOOT_SHIFT

    def settle(self) -> None:
        """Bucks were asked: all starts before this one are accounted for."""
        self.settled = self.boots - 1
        self._segments.roll()  # with a checkpoint that says so

    def add_seal(self, seal: Seal) -> None:
        """Keep a signed seal; sync before sending it. JournalFull."""
        self._write({"k": "seal", "seal": seal.data})
        self.chain.add(seal, self.ledger)

    def give_up(self, epoch: int, numbers: Ranges, entry: Entry | None = None) -> None:
        """These packets can be had nowhere: the next seal says so. What they held is read again by the next start."""
        self.chain.give_up(epoch, numbers, entry)
        self._gone = self._gone or entry is not None  # what a recovery gives up was never in its coverage
        self.ledger.note_gone(epoch, numbers)

    def set_width(self, width: int) -> None:
        """Take the width of the bucks. ConfigError if this journal holds packets of another."""
        if self.width not in (0, width):
            raise ConfigError(
                f"{self.folder}: the journal has buckets of {self.width} s, the bucks have {width} s; "
                "start the bucks with its --width, or give --journal another folder"
            )
        self.width = width

    def _write(self, value: dict[str, object]) -> None:
        """A control record; it says which segment it is for, so that a block written elsewhere is noticed."""
        self._segments.append_control(lambda index: encode_record({**value, "segment": index}))

    def _head(self, index: int) -> bytes:
        return encode_record(self._state(index).plain())

    def _state(self, index: int, clean: bool = False) -> State:
        agent = self.state() if self.state is not None else self.recovered.checkpoint or Checkpoint()
        if self.state is not None:
            wanted = {stream.id for stream in agent.streams}
            self.coverage = {stream: ranges for stream, ranges in self.coverage.items() if stream in wanted}
        live = self.ledger.epochs() | {
            *self.chain.lost,
            *(place.epoch for place in self.chain.given_up),
            *self.recovered.holes,
            *(epoch for epoch in self._ends if epoch >> BOOT_SHIFT > self.settled),  # else it seems unheard of
            self.epoch,
        }
        for epoch in {*self._ends, *self.ledger.done, *self.ledger.sealed} - live:
            self._ends.pop(epoch, None)
            self.ledger.forget_epoch(epoch)
        return State(
            index, self.env, self.node, self.epoch, self._next, self.width, self.crashes, self.settled, clean, agent,
            self.members,
            seals=tuple(self.chain.seals.values()), undelivered=tuple(self.chain.undelivered),
            segments=tuple(index for index in self._segments.all if self.ledger.live[index]),
            epochs=self.ledger.snapshot(), ends=self._ends, lost=self.chain.lost, coverage=self.coverage,
            unread=dict(self.chain.unread), gone=self._gone,
            missed=bool(self.chain.lost) and (self.chain.missed or agent.missed),
        )  # fmt: skip

    # --- making durable ---------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint now, between packets: the streams are others than the last one says. JournalError."""
        self._segments.append_control(self._head)

    async def sync(self) -> None:
        """All that was appended before this call is on the device after it. JournalError if that can't be had."""
        wanted = self._segments.order
        async with self._syncing:
            if self._segments.is_durable(wanted) and not self.ledger.has_notes:
                return
            self._write_notes()
            finished = [index for index in self._segments.all if not self.ledger.live[index]]
            charged = self._unsynced.take()
            await self._segments.sync()
            self.costs.synced(charged)
            self._drop(finished)
        faultpoint("tailer.journal.synced")

    def _write_notes(self) -> None:
        epochs, delivered = self.ledger.take_notes(), self.chain.take_delivered()
        if not epochs and not delivered:
            return
        try:
            self._write({"k": "notes", "epochs": plain_notes(epochs), "delivered": delivered})
        except OSError as error:
            # A full disk. The next checkpoint says all of it; until then a crash costs questions to bucks, no more.
            log.warning("notes could not be written", folder=self.folder, why=str(error))

    def _drop(self, finished: list[int]) -> None:
        """Finished segments go, where a later checkpoint is durable. What made them finished was synced just now.

        Unless packets were written again into them meanwhile, because another segment's fsync failed.
        """
        finished = [index for index in finished if index < self._segments.durable and not self.ledger.live[index]]
        dropped = [index for index in finished if self._segments.drop(index)]
        if dropped:
            self._freed.set()
            self._freed = trio.Event()

    async def run(self) -> None:
        """Sync each second, and sooner when much was written. Never ends."""
        pause = SYNC_EVERY_S
        while True:
            with trio.move_on_after(until_beat(self.machine.now(), pause)):
                await self._sync_soon.wait()
            self._sync_soon = trio.Event()
            try:
                await self.sync()
                pause = SYNC_EVERY_S
            except JournalError:  # told by then; what isn't synced stays in memory, and `room` ends when that is much
                pause = min(2 * pause, SYNC_RETRY_MAX_S)
                await trio.sleep(pause)

    # --- room -------------------------------------------------------------------------------------------------------

    def room(self) -> int:
        """Bytes that may be appended now; 0 when the sources must wait."""
        return self._room.left()

    async def wait_for_room(self, size: int = PACKET_SIZE_MAX) -> None:
        """Returns when `size` bytes fit."""
        while self.room() < size:
            self.reclaim()
            self._sync_soon.set()
            with trio.move_on_after(ROOM_POLL_S):
                await self._freed.wait()

    @property
    def used(self) -> int:
        """Bytes in all segments."""
        return self._segments.used

    @property
    def pressed(self) -> bool:
        """Is it so full that packets should be finished now rather than at their window's end?"""
        return self._room.pressed

    def reclaim(self) -> None:
        """Make room where that is possible: room.py."""
        self._room.reclaim()

    # --- reading back -----------------------------------------------------------------------------------------------

    def load(self, entry: Entry) -> Packet | None:
        """A packet's bytes again, verified; None (counted) if they are damaged."""
        try:
            data = self._segments.all[entry.segment].read(entry.offset, entry.size)
            packet = read(data)
            if packet.header.key == (self.node, entry.epoch, entry.number):
                return packet
        except (FormatError, OSError, KeyError) as error:
            log.error("a packet can't be read back", epoch=entry.epoch, number=entry.number, why=str(error))
        self.counters["unreadable"] += 1
        return None

    def check(self) -> None:
        """Assert the invariants, for tests."""
        self.ledger.check()
        for entry in self.ledger.entries.values():
            assert entry.offset + entry.size <= self._segments.all[entry.segment].size
