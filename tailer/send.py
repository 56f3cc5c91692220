"""A packet goes to two random live bucks; to others if those refuse, keep silent or vanish.

Packets are sent in journal order, at most 16 or 32 MiB of them under way. Fresh ones are sent from memory while the
window has room; what waited longer is read back from the journal, so a slow or absent cluster costs disk and no memory.
Bucks on other hosts and in other zones than those that hold a packet already are preferred.

    deliver ──> queue ──> [window: put, put] ──> A1: placed
                  ^               │ nobody left to ask
                  └── parked <────┘     (again when the members change, or after a while)

A buck that takes no bytes, or keeps silent, for SILENT_S is passed over: another one is asked, if there is one, while
its own answer still counts for ACK_TIMEOUT_S, and longer where answers to earlier packets still come. One that says
nothing at all, though asked, is given nothing more long before that; what waits for such ones only is set aside, holds
up no other packet, and goes elsewhere (asked.py). Where many are slow, asking more of them makes them slower: such
copies are bounded (window.py), and slowness never leaves fewer than two bucks to ask. A frame that goes out is not cut
off while it advances: that would end the link, and a slow way would carry nothing.

A packet that is parked has a copy on every buck that can be reached, or is refused by those that don't hold it: it
waits outside the window, in the journal, and holds up nobody. Third copies and what a buck lost are mend.py's business.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence

import trio

from protocol.errors import LinkLost, ProtocolError
from protocol.limits import SLICE
from protocol.messages import SYNCED, No, Ok, Put
from protocol.packet import Packet
from service.beat import until_beat
from service.faults import faultpoint
from service.log import get_log
from service.machine import Machine
from tailer.asked import ACK_TIMEOUT_S, SILENT_S, Asked, Late, Usual
from tailer.choosing import choose
from tailer.fetch import packet_of
from tailer.journal import Journal, JournalError
from tailer.ledger import Entry, Slot
from tailer.members import Buck, Members
from tailer.window import ASIDE_MAX, BYTES, PACKETS, Spare, Window

LOOK_AGAIN_S = 0.25  # can another buck be asked by now?
LATE_MAX = 64  # questions whose answers may still come: some bytes each
LOOK_EVERY_S = 1.0
UNPARK_EVERY_S = 20.0
AGE_MAX_MS = (1 << 32) - 1
A1_COPIES = 2
# How long a buck is given nothing after it refused, by its reason; after silence it is as after "slow", doubled.
AVOID_S = {"full": 10.0, "slow": 1.0, "draining": 60.0}
AVOID_OTHER_S = 0.0  # it refused this packet, not all of them
AVOID_SILENT_S = 5.0
AVOID_DOUBTED_S = 2 * LOOK_AGAIN_S  # and again, as long as packets wait for it

log = get_log("tailer.send")


class Sender:
    """Brings packets to A1, and gives copies out for who mends."""

    def __init__(self, machine: Machine, journal: Journal, members: Members) -> None:
        self.machine = machine
        self.journal = journal
        self.members = members
        self.counters: Counter[str] = Counter()
        self.placed = trio.Event()  # replaced each time a packet reaches A1
        self._queue: deque[Slot] = deque()
        self._parked: set[Slot] = set()
        self._hot: dict[Slot, Packet] = {}  # fresh packets, as far as the window's bytes go
        self._hot_bytes = 0
        self._window = Window()
        self._mended: set[Slot] = set()  # copies of these are being made by who mends
        self._late: deque[Late] = deque()
        self._spare = Spare()
        self._usual = Usual()
        self._idle = trio.lowlevel.ParkingLot()  # workers without a packet

    # --- the way in -------------------------------------------------------------------------------------------------

    async def deliver(self, packet: Packet) -> None:
        """Take over a packet that was appended to the journal. Waits for nothing."""
        slot = packet.header.epoch, packet.header.number
        if slot not in self.journal.ledger.unplaced:
            return
        if self._hot_bytes + len(packet.data) <= BYTES:
            self._hot[slot] = packet
            self._hot_bytes += len(packet.data)
        self.enqueue(slot)

    def enqueue(self, slot: Slot) -> None:
        """Send this packet (again), when its turn comes."""
        self._queue.append(slot)
        self._idle.unpark()

    async def run(self) -> None:
        """Send for ever; first what the journal holds from before, and what was fetched into it since."""
        queued = set(self._queue)
        self._queue.extend(slot for slot in self.journal.ledger.unplaced if slot not in queued)
        async with trio.open_nursery() as nursery:
            for _ in range(PACKETS + ASIDE_MAX):
                nursery.start_soon(self._work)
            await self._unpark()

    async def _work(self) -> None:
        """Place one packet after another: cheaper than a task for each."""
        while True:
            entry = self._take()
            if entry is None:
                await self._idle.park()
                continue
            if self._queue:
                self._idle.unpark()  # the next one, where the window has room for that too
            sent = self.counters["sent"]
            await self._place(entry)
            if self.counters["sent"] == sent:  # nothing was waited for: others have their turn before many of these
                await trio.lowlevel.checkpoint()

    def _take(self) -> Entry | None:
        """The next packet to be sent, if the window has room and there is a buck."""
        while self._queue and self._window.is_open and self.members.live():
            entry = self.journal.ledger.unplaced.get(self._queue[0])
            if entry is not None and not self._window.fits(entry.size):
                return None
            slot = self._queue.popleft()
            if entry is None:
                self._cool(slot)  # placed in another way
            elif slot in self._mended:
                self._parked.add(slot)  # until that ends
            elif slot not in self._window:
                self._window.enter(slot, entry.size)
                return entry
        return None

    async def _place(self, entry: Entry) -> None:
        try:
            if entry.kind.sync:
                await self.journal.sync()  # the class asks for that before any copy
            packet = self._cool(entry.slot) or await packet_of(self.journal, self.members, entry)
            if packet is not None:
                await self.spread(entry, packet, entry.kind.copies, again=entry.again)
            self._settle(entry)
        except JournalError:
            self._parked.add(entry.slot)  # the journal has said why; until it can be synced the packet stays here
        finally:
            self._window.leave(entry.slot)

    def _cool(self, slot: Slot) -> Packet | None:
        packet = self._hot.pop(slot, None)
        self._hot_bytes -= len(packet.data) if packet is not None else 0
        return packet

    def _settle(self, entry: Entry) -> None:
        """After its turn: placed, or parked until something changes."""
        if entry.slot not in self.journal.ledger.unplaced:
            return  # given up, or placed in another way
        if not self.is_stored(entry):
            self._parked.add(entry.slot)
            return
        self.journal.ledger.place(entry)
        self.counters["placed"] += 1
        self.counters["placed_near"] += self._is_near(entry)
        self.placed.set()
        self.placed = trio.Event()

    def _is_near(self, entry: Entry) -> bool:
        """Do its first copies share a host, or a zone that has a name? What falls there takes all of them."""
        held = [self.members.bucks[node] for node in entry.stored if node in self.members.bucks]
        hosts, zones = {buck.host for buck in held}, {buck.zone for buck in held}
        return len(held) > 1 and (len(hosts) == 1 or (len(zones) == 1 and zones != {""}))

    async def _unpark(self) -> None:
        """Try parked packets again when other bucks may be given packets, or a while has passed."""
        asked: set[bytes] = set()
        asked_at = self.machine.now()
        while True:
            with trio.move_on_after(until_beat(self.machine.now(), LOOK_EVERY_S)):
                await self.members.changed.wait()
            await self._hear_the_late()
            self._idle.unpark()  # a buck may have come, or be avoided no longer
            live = {buck.node for buck in self.members.live()}
            if live != asked or self.machine.now() > asked_at + UNPARK_EVERY_S:
                asked, asked_at = live, self.machine.now()
                self._queue.extend(sorted(self._parked))
                self._parked.clear()

    # --- levels -----------------------------------------------------------------------------------------------------

    def is_stored(self, entry: Entry) -> bool:
        """A1: on two bucks (or as many as its class asks for), or on all members if there are fewer."""
        return len(entry.stored) >= min(entry.kind.copies, A1_COPIES, self.members.count)

    def level_text(self) -> str:
        """What A1 means now: "A1 of 2", or "A1 of 1" where there is one buck only."""
        return f"A1 of {min(A1_COPIES, self.members.count)}"

    @property
    def waiting(self) -> int:
        """Packets not yet at A1."""
        return len(self.journal.ledger.unplaced)

    @property
    def crowded(self) -> bool:
        """Do bucks take packets more slowly than they come? Then files wait, rather than fill the journal. Packets that
        no buck at all can be given don't count: they wait in the journal."""
        return len(self._queue) + self._window.moving > 2 * PACKETS and bool(self.members.live())

    # --- copies -----------------------------------------------------------------------------------------------------

    async def mend(self, entry: Entry, lacking: Callable[[], int]) -> None:
        """Give out the copies that it lacks when it was read; nothing while it is under way already."""
        if entry.slot in self._window or entry.slot in self._mended:
            return
        self._mended.add(entry.slot)
        try:
            packet = await packet_of(self.journal, self.members, entry)
            if packet is not None:
                faultpoint("tailer.mend.copy")
                await self.spread(entry, packet, len(entry.stored) + lacking(), again=True)
        finally:
            self._mended.discard(entry.slot)
            if entry.slot in self._parked:
                self._parked.discard(entry.slot)
                self.enqueue(entry.slot)

    async def spread(self, entry: Entry, packet: Packet, copies: int, *, again: bool) -> None:
        """Give out copies until so many bucks hold the packet, or nobody is left to ask."""
        tried: set[bytes] = set()
        while len(entry.stored) < copies:
            bucks = self._choose(entry, copies - len(entry.stored), tried)
            if not bucks:
                return
            await self._put(entry, packet, bucks, again, tried)

    def _choose(self, entry: Entry, count: int, tried: set[bytes]) -> list[Buck]:
        """Random live bucks that don't hold it and were not asked."""
        free = [buck for buck in self.members.live() if buck.node not in tried and buck.node not in entry.stored]
        holders = [self.members.bucks[node] for node in entry.stored if node in self.members.bucks]
        self.machine.random.shuffle(free)
        return choose(free, holders, count)

    async def _put(self, entry: Entry, packet: Packet, bucks: Sequence[Buck], again: bool, tried: set[bytes]) -> None:
        """Ask these bucks one after another, then wait for all of them: one task for a packet is enough."""
        began = self.machine.now()
        asked: list[Asked] = []
        try:
            for buck in bucks:
                tried.add(buck.node)
                await self._ask_while_it_advances(entry, packet, buck, again, asked, tried)
            await self._wait(entry, asked, tried, began)
            while asked:
                await self._hear(entry, asked.pop())
        finally:
            for one in asked:
                one.asker.forget(one.number)

    async def _wait(self, entry: Entry, asked: Sequence[Asked], tried: set[bytes], began: float) -> None:
        """For all answers, or until somebody else is to be asked."""
        doubt_s = self._usual.doubt_s
        look = self.machine.now() + doubt_s
        until = max(began + SILENT_S, self.machine.now() + LOOK_AGAIN_S)  # one that took no bytes has cost time
        while True:
            with trio.CancelScope(deadline=look):
                for one in asked:
                    await one.asker.wait(one.number)
            silent = [one for one in asked if not one.asker.is_answered(one.number)]
            if not silent:
                self._usual.note(self.machine.now() - began)
            end = max((one.end for one in silent), default=look)
            if look >= end:
                return
            is_doubted = self._doubt(entry, silent, look - doubt_s)
            if is_doubted or look >= until:
                for one in silent:
                    self._pass_over(one.buck, AVOID_SILENT_S)
                if self._may_ask_another(entry, tried, began):
                    self._window.take_back(entry.slot)
                    return
            look = min(end, look + LOOK_AGAIN_S, until if until > look else end)

    def _doubt(self, entry: Entry, silent: Sequence[Asked], since: float) -> bool:
        """Give those nothing for a moment that said nothing at all since then. Does it wait for such ones only?"""
        for one in silent:
            if one.heard <= since:
                self._pass_over(one.buck, AVOID_DOUBTED_S)
        live = self.members.live()
        is_doubted = not any(one.buck in live for one in silent)
        if is_doubted and self._window.set_aside(entry.slot):
            self._idle.unpark()
        return is_doubted

    async def _hear(self, entry: Entry, one: Asked) -> None:
        """Note an answer that is here. One that isn't may still come, if somebody else is asked meanwhile."""
        if one.asker.is_answered(one.number):
            await self._answer(entry, one)
            one.asker.forget(one.number)
        elif self.machine.now() >= one.end:
            self._note_failure(one.buck, "unanswered")
            one.asker.forget(one.number)
        else:
            self.counters["passed_over"] += 1
            self._spare.spend()
            self._late.append(Late(entry, one))
            if len(self._late) > LATE_MAX:
                oldest = self._late.popleft().asked
                oldest.asker.forget(oldest.number)

    async def _hear_the_late(self) -> None:
        """Note what has come after all; a parked packet may have enough copies by that."""
        for _ in range(len(self._late)):
            entry, one = self._late.popleft()
            if not one.asker.is_answered(one.number) and self.machine.now() < one.end:
                self._late.append(Late(entry, one))
                continue
            if self.journal.ledger.entries.get(entry.slot) is entry:
                await self._hear(entry, one)
            else:
                one.asker.forget(one.number)
            if entry.slot in self._parked:
                self._parked.discard(entry.slot)
                self._settle(entry)

    def _may_ask_another(self, entry: Entry, tried: set[bytes], since: float) -> bool:
        """Is there a buck that could take the packet instead of a silent one, and is that not too much to ask?"""
        others = [buck for buck in self.members.live() if buck.node not in tried and buck.node not in entry.stored]
        answers = any(buck.asker and buck.asker.answered_at.get(Put, 0.0) >= since for buck in others)
        return bool(others) and self._spare.is_enough(answers=answers and self._usual.is_fast)

    def _pass_over(self, buck: Buck, seconds: float) -> None:
        """Give a silent one nothing for a while, if enough others are left."""
        others = [one for one in self.members.live() if one is not buck]
        if len(others) >= A1_COPIES:
            self.members.avoid(buck, seconds)

    async def _ask_while_it_advances(
        self, entry: Entry, packet: Packet, buck: Buck, again: bool, asked: list[Asked], tried: set[bytes]
    ) -> None:
        """A buck that takes no bytes is left; what it has begun to take is not cut off while it goes on."""
        patience_s = SILENT_S if self._may_ask_another(entry, tried, self.machine.now()) else ACK_TIMEOUT_S
        is_begun = False
        with trio.move_on_after(patience_s) as scope:

            def taken() -> None:
                nonlocal is_begun
                is_begun = True
                scope.deadline = self.machine.now() + patience_s

            await self._ask(entry, packet, buck, again, asked, taken)
        if scope.cancelled_caught:
            self._note_failure(buck, "unanswered")  # the next one need not wait for it
            if is_begun:
                self._spare.spend()  # bytes went for nothing, and others are to take them

    async def _ask(
        self, entry: Entry, packet: Packet, buck: Buck, again: bool, asked: list[Asked], taken: Callable[[], None]
    ) -> None:
        asker = buck.asker
        if asker is None:
            return  # it went while its turn came
        age_ms = AGE_MAX_MS
        if entry.opened:
            age_ms = min(int(max(0.0, self.machine.now() - entry.opened) * 1000), AGE_MAX_MS)
        faultpoint("tailer.send.put")
        self.counters["sent"] += 1
        self.counters["sent_again"] += again
        self.counters["sent_bytes"] += entry.size
        self.journal.costs.moved(entry.kind.label, entry.size)
        began = self.machine.now()
        try:
            number = await asker.begin(Put(0, age_ms, again, packet.data), taken)
            now = self.machine.now()
            asked.append(Asked(buck, asker, number, now, now - began + entry.size / SLICE))
        except ProtocolError:
            self._note_failure(buck, "link_lost")

    async def _answer(self, entry: Entry, one: Asked) -> None:
        try:
            answer = await one.asker.take(one.number)
        except LinkLost:
            self._note_failure(one.buck, "link_lost")
            return
        faultpoint("tailer.send.answered")
        self._note(entry, one.buck, answer)

    def _note_failure(self, buck: Buck, why: str) -> None:
        self.counters[why] += 1
        self.members.avoid(buck, AVOID_SILENT_S)

    def _note(self, entry: Entry, buck: Buck, answer: object) -> None:
        if isinstance(answer, Ok):
            self.counters["acked"] += 1
            self._spare.earn()
            self.journal.ledger.note_stored(entry, buck.node, answer.level >= SYNCED)
            buck.live_wanted = answer.live and buck.asker is not None
        elif isinstance(answer, No):
            self.counters[f"refused_{answer.reason}"] += 1
            self.members.avoid(buck, AVOID_S.get(answer.reason, AVOID_OTHER_S))
            if answer.reason not in AVOID_S:
                log.warning("a buck refuses a packet", node=buck.node.hex(), reason=answer.reason, why=answer.text)
