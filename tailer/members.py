"""The bucks that this tailer knows: who is a member, and a link to each.

It begins with the addresses it was given and learns the others: every linked buck is asked for its view (`Peers`) now
and then, which also tells whether the link lives. One task an address dials, shakes hands, learns, and dials again
after a pause that doubles, with jitter, so that a fleet doesn't come back in one second; for the first minute of an
outage pauses stay short, so that a restarted cluster has its tailers at once; and when one buck is back after none was
there, the others are dialled at once and often for a while: a cluster comes back together. A buck is known by its key,
not by its address: two addresses of one buck are one link.

A *member* is a buck ever seen that neither drains nor was retired by an admin; a dead one stays a member. *Live* ones
are linked, and not avoided because they just refused or kept silent. Up to 16 members are all linked; above, 8 are
chosen by a hash of both keys, dealt over the zones, so each tailer has its own eight and keeps them.

Bucks of another env or width are never used; at the start, before any good one was met, they end it (ConfigError).
"""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn

import trio

from protocol import limits
from protocol.errors import FormatError, LinkLost, ProtocolError, Refused, Unanswered
from protocol.identity import NodeKey
from protocol.link import Asker, open_asker
from protocol.messages import Clock, ClockIs, Hello, Ok, Peer, Peers, Roster, RosterIs, View, Watch
from protocol.roster import Retirement
from service.config import ConfigError
from service.log import get_log
from service.machine import Machine
from service.units import read_address
from tailer.checkpoint import MemberState
from tailer.journal import Journal
from tailer.patient import SILENT_S, ask_patiently

LINKS_ALL_MAX = 16
LINKS_CHOSEN = 8
CONNECT_S = 5.0
# Between two dials. In the first SOON_S after a link was lost at most PAUSE_SOON_S: a refused dial costs two packets,
# and 200 tailers are 500 a second then. Later at most PAUSE_MAX_S, or PAUSE_ALONE_S while no buck at all is linked.
PAUSE_FIRST_S, PAUSE_SOON_S, PAUSE_ALONE_S, PAUSE_MAX_S = 0.1, 0.4, 5.0, 30.0
SOON_S = 60.0
# When none was linked, and one is: the others are dialled every PAUSE_FIRST_S for so long.
TOGETHER_S = 3.0
# A buck is asked for its peers so often; where there are more than two, less often, since all say the same.
LEARN_EVERY_S = 5.0
CLOCK_EVERY_S = 30.0
ROSTER_EVERY_S = 60.0  # some buck is asked so often who is retired
NS = 1_000_000_000
CLOCKS_AGREE_NS = 1_000_000_000
WIDTH_KNOWN_WAIT_S = 2.0  # for a first buck, when the journal knows the width already
WATCH_PAUSE_S = 0.2  # at least, between two words of a buck that somebody watches
LOUD_AFTER = 3  # failures in a row before a warning: a restart of a buck isn't worth one
FATAL = ("env", "width", "version", "security")

if TYPE_CHECKING:
    from protocol.secure import Security

log = get_log("tailer.members")


@dataclass(eq=False)
class Buck:
    """One member, as this tailer sees it."""

    node: bytes
    address: str
    host: bytes = b""
    zone: str = ""
    draining: bool = False
    heartbeat: int = 0  # of the newest word about it: bucks tell what they last heard of each other
    retired: bool = False  # gone for good: its copies don't count
    live_wanted: bool = False  # somebody watches there
    asker: Asker | None = None
    avoid_until: float = 0.0  # it refused, or kept silent
    ahead_ns: int | None = None  # its wall clock against our monotonic one, which nobody sets

    @property
    def is_member(self) -> bool:
        """Is it waited for, dead or alive?"""
        return not (self.draining or self.retired)

    def state(self) -> MemberState:
        return MemberState(self.node, self.address, self.host, self.zone)


class Members:
    """All bucks known, and the tasks that keep links to them."""

    def __init__(
        self,
        machine: Machine,
        key: NodeKey,
        env: str,
        host: bytes,
        addresses: Sequence[object],
        journal: Journal,
        security: "Security | None" = None,
    ) -> None:
        self.machine = machine
        self.security = security
        self.key = key
        self.env = env
        self.host = host
        self.journal = journal
        self.bucks: dict[bytes, Buck] = {m.node: Buck(*m) for m in journal.members}
        self.heard = False  # a member told in this run who the members are: before that nothing is done
        self.counters: Counter[str] = Counter()
        self.changed = trio.Event()  # replaced by another each time it is set
        self._back = trio.Event()  # the first buck after none; replaced as well
        self._back_at = float("-inf")
        self._given = {str(read_address(address)) for address in addresses}
        self._kept: set[str] = set()  # addresses that have a task
        self._refusal: Refused | None = None
        self._roster_at = float("-inf")
        self._words: set[bytes] = set()  # retirements that were looked at
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Keep links. Never ends."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._keep_all()
            await trio.sleep_forever()

    async def wait_width(self) -> int:
        """The width of buckets, from the first buck or from the journal. ConfigError if bucks and journal don't fit."""
        with trio.move_on_after(WIDTH_KNOWN_WAIT_S if self.journal.width else float("inf")):
            while not (self.linked() and self.journal.width):
                if self._refusal is not None:
                    raise ConfigError(f"the bucks can't be used: {self._refusal}")
                await self.changed.wait()
        return self.journal.width

    # --- who is there -----------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> frozenset[bytes]:
        """All members, dead or alive."""
        return frozenset(buck.node for buck in self.bucks.values() if buck.is_member)

    @property
    def count(self) -> int:
        """How many members a packet could be on; until a member told, as many as it takes."""
        return max(1, len(self.nodes)) if self.heard else limits.COPIES_MAX

    @property
    def live_wanted(self) -> bool:
        """Does somebody watch live, on any buck? Then packets leave early."""
        return any(buck.live_wanted for buck in self.bucks.values())

    def linked(self) -> list[Buck]:
        """Those that can be asked."""
        return [buck for buck in self.bucks.values() if buck.asker is not None]

    def live(self) -> list[Buck]:
        """Those that may be given packets now."""
        now = self.machine.now()
        return [buck for buck in self.linked() if buck.is_member and buck.avoid_until <= now]

    def avoid(self, buck: Buck, seconds: float) -> None:
        """Give it nothing for a while."""
        buck.avoid_until = max(buck.avoid_until, self.machine.now() + seconds)

    @property
    def offset_ns(self) -> int:
        """The bucks' median clock against ours as it is now, though it was set since; 0 until two agree."""
        known = sorted(buck.ahead_ns for buck in self.linked() if buck.ahead_ns is not None)
        if not any(b - a <= CLOCKS_AGREE_NS for a, b in pairwise(known)):
            return 0
        median = (known[(len(known) - 1) // 2] + known[len(known) // 2]) // 2
        return median + self._now_ns() - self.machine.time_ns()

    def _now_ns(self) -> int:
        return round(self.machine.now() * NS)

    def is_away(self, buck: Buck) -> bool:
        """Is a link to it kept, and lost now? Then whoever wants to ask it need not dial too."""
        return buck.asker is None and buck.address in self._kept

    @asynccontextmanager
    async def reach(self, buck: Buck) -> AsyncIterator[Asker]:
        """Its link, or a short one of its own. ProtocolError or OSError if it can't be reached."""
        if buck.asker is not None:
            yield buck.asker
            return
        async with self._open(buck.address) as asker:
            yield asker

    # --- keeping links ----------------------------------------------------------------------------------------------

    def _keep_all(self) -> None:
        """One task for each address that should have a link and has none."""
        if self._nursery is None:
            return
        chosen = self._chosen()
        for address in (self._given | chosen) - self._kept:
            self._kept.add(address)
            self._nursery.start_soon(self._keep, address)

    def _chosen(self) -> set[str]:
        """The addresses of the members to be linked."""
        bucks = [buck for buck in self.bucks.values() if buck.address and not buck.retired]
        if len(bucks) > LINKS_ALL_MAX:
            bucks = self._dealt(bucks)[:LINKS_CHOSEN]
        return {buck.address for buck in bucks}

    def _dealt(self, bucks: list[Buck]) -> list[Buck]:
        """Ranked by rendezvous hash, dealt over hosts, then zones: the first of each, then the second of each, ..."""
        ranked = sorted(bucks, key=lambda buck: hashlib.blake2b(self.key.node + buck.node).digest())
        on_host, in_zone = Counter[bytes](), Counter[tuple[str, int]]()
        order = []
        for rank, buck in enumerate(ranked):
            turn = on_host[buck.host] if buck.host else 0
            on_host[buck.host] += 1
            order.append((turn, in_zone[buck.zone, turn], rank, buck))
            in_zone[buck.zone, turn] += 1
        return [buck for *_, buck in sorted(order, key=lambda item: item[:3])]

    async def _keep(self, address: str) -> None:
        """Dial, learn, dial again; ends when the address is nobody's any more."""
        pause, failures, lost_at = PAUSE_FIRST_S, 0, self.machine.now()
        while address in self._given or address in self._chosen():
            try:
                async with self._open(address) as asker:
                    pause, failures = PAUSE_FIRST_S, 0
                    lost_at = float("inf")
                    own = await self._attend(address, asker)
            except (ProtocolError, OSError) as error:
                failures += 1
                own = self._note_failure(address, error, failures)
            lost_at = min(lost_at, self.machine.now())
            pause = own or min(pause, self._pause_max(lost_at))
            rest = trio.sleep_forever if own else self._back.wait
            with trio.move_on_after(pause * self.machine.random.uniform(0.5, 1.5)):
                await rest()
            pause *= 2
        self._kept.discard(address)

    def _pause_max(self, lost_at: float) -> float:
        if self.machine.now() < self._back_at + TOGETHER_S:
            return PAUSE_FIRST_S
        if self.machine.now() < lost_at + SOON_S:
            return PAUSE_SOON_S
        return PAUSE_MAX_S if self.linked() else PAUSE_ALONE_S

    def _note_failure(self, address: str, error: Exception, failures: int) -> float | None:
        self.counters["link_failures"] += 1
        if isinstance(error, Refused) and error.reason in FATAL:
            self._refusal = self._refusal or error
            self._tell()
            log.error("a buck can't be used", address=address, why=str(error))
            return PAUSE_MAX_S
        if failures == LOUD_AFTER:
            log.warning("a buck can't be reached", address=address, why=str(error) or type(error).__name__)
        return None

    @asynccontextmanager
    async def _open(self, address: str) -> AsyncIterator[Asker]:
        host, port = read_address(address)
        with trio.move_on_after(CONNECT_S) as scope:
            stream = await self.machine.connect(host, port)
        if scope.cancelled_caught:
            raise LinkLost(f"no connection within {CONNECT_S:g} s")
        hello, check, security = self._hello(), self._check, self.security
        async with open_asker(stream, hello, timeout_s=SILENT_S, check=check, security=security) as asker:
            yield asker

    def _hello(self) -> Hello:
        return Hello(
            role="tailer",
            public=self.key.public,
            env=self.env,
            width=self.journal.width,
            host=self.host,
            versions=(limits.PACKET_VERSION, limits.PACKET_VERSION),
            address="",
            time_ns=self.machine.time_ns(),
        )

    def _check(self, hello: Hello) -> str | None:
        if hello.env != self.env:
            return "env"
        if self.journal.width and hello.width != self.journal.width:
            return "width"
        low, high = hello.versions
        return None if low <= limits.PACKET_VERSION <= high else "version"

    async def _attend(self, address: str, asker: Asker) -> float | None:
        """Use a link while it lasts. A pause of its own for an address that leads to a buck linked already."""
        hello = asker.peer
        buck = self.bucks.setdefault(hello.node, Buck(hello.node, hello.address or address))
        if buck.asker is not None:
            return PAUSE_MAX_S
        if not self.linked():
            self._back_at = self.machine.now()
            self._back.set()
            self._back = trio.Event()
        buck.asker, buck.host, buck.avoid_until = asker, hello.host, 0.0
        buck.address = hello.address or address
        if hello.width:
            self.journal.set_width(hello.width)
        self._tell()
        if self._nursery:
            self._nursery.start_soon(self._watch, buck, asker)
        try:
            await self._learn_for_ever(buck, asker)
        finally:
            buck.asker, buck.live_wanted = None, False
            self._tell()

    async def _learn_for_ever(self, buck: Buck, asker: Asker) -> NoReturn:
        clock_at = self.machine.now()
        while True:
            view = await ask_patiently(self.machine, asker, Peers(0))
            if isinstance(view, View):
                self._learn(view)
            if self.machine.now() >= clock_at:
                clock_at = self.machine.now() + CLOCK_EVERY_S
                await self._compare_clocks(buck, asker)
            if self.machine.now() >= self._roster_at:
                self._roster_at = self.machine.now() + ROSTER_EVERY_S
                await self._learn_who_is_gone(asker)
            linked = sum(one.asker is not None for one in self.bucks.values())
            pause = LEARN_EVERY_S * max(1.0, linked / 2) * self.machine.random.uniform(0.8, 1.2)
            with trio.move_on_after(pause) as scope:
                await asker.lost.wait()
            if not scope.cancelled_caught:
                raise LinkLost("the link ended")

    async def _watch(self, buck: Buck, asker: Asker) -> None:
        """Hear at once when somebody begins or ends to watch there. Ends with the link, which others tend."""
        with suppress(ProtocolError):
            while buck.asker is asker:
                answer = await asker.ask(Watch(0, buck.live_wanted), float("inf"))
                if not isinstance(answer, Ok) or buck.asker is not asker:
                    return
                buck.live_wanted = answer.live
                await trio.sleep(WATCH_PAUSE_S)

    async def _compare_clocks(self, buck: Buck, asker: Asker) -> None:
        before = self._now_ns()
        with suppress(Unanswered):  # packets were before it: then it would say little, and the link may be well
            clock = await asker.ask(Clock(0))
            if isinstance(clock, ClockIs):
                buck.ahead_ns = clock.time_ns - (before + self._now_ns()) // 2

    async def _learn_who_is_gone(self, asker: Asker) -> None:
        """Bucks that an admin retired: whoever is waited for, it isn't them, and what they held counts no more."""
        answer = await ask_patiently(self.machine, asker, Roster(0, False))
        for data in answer.retired if isinstance(answer, RosterIs) else ():
            if data not in self._words:
                self._words.add(data)
                try:
                    word = Retirement.read(data)
                except FormatError as error:
                    log.warning("a retirement that doesn't hold is left", why=str(error))
                    continue
                if self.security and not self.security.trust.lists(word.public, "admin"):
                    self._words.discard(data)  # the list may name its signer one day
                    log.error("ALARM: a retirement that no admin of the list has signed is left", by=word.public.hex())
                    continue
                self._retire(word)

    def _retire(self, word: Retirement) -> None:
        buck = self.bucks.setdefault(word.node, Buck(word.node, "")) if word.role == "buck" else None
        if buck is not None and word.env == self.env and not buck.retired:
            buck.retired = True
            self.journal.ledger.forget_node(buck.node)
            log.warning("a buck is retired", node=buck.node.hex(), by=word.public.hex())
            self._tell()

    def _learn(self, view: View) -> None:
        self.heard = True
        if self.journal.width not in (0, view.width):
            raise Refused("width", f"buckets of {view.width} s are not {self.journal.width} s")
        self.journal.set_width(view.width)
        for peer in view.peers[: limits.PEERS_MAX]:
            self._learn_peer(peer)
        self.journal.members = tuple(buck.state() for buck in self.bucks.values() if buck.is_member)
        self._tell()
        self._keep_all()

    def _learn_peer(self, peer: Peer) -> None:
        buck = self.bucks.setdefault(peer.node, Buck(peer.node, peer.address))
        if peer.heartbeat < buck.heartbeat:
            return
        buck.zone, buck.draining, buck.heartbeat = peer.zone, peer.draining, peer.heartbeat
        if buck.asker is None:
            buck.host, buck.address = peer.host, peer.address or buck.address

    def _tell(self) -> None:
        """Wake all who wait for a change."""
        self.changed.set()
        self.changed = trio.Event()
