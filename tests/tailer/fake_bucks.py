"""Bucks that remember in a dictionary and speak the real protocol, over the simulated network.

What a test wants of one it sets: `refuse`, `refuse_seals` and `refuse_receipts` (a reason for every such question),
`silent` (it reads and never answers), `slow_s`, `unsure`, `draining`; what it holds may be changed at any time. Every
question is kept in `asked`.
"""

from collections.abc import Awaitable, Callable, Sequence

import trio

from protocol.connection import Connection
from protocol.errors import ProtocolError
from protocol.identity import NodeKey
from protocol.link import Link
from protocol.messages import (
    STORED,
    SYNCED,
    Clock,
    ClockIs,
    Covered,
    Done,
    Get,
    Have,
    Hello,
    Intervals,
    List,
    Listing,
    Message,
    No,
    Ok,
    PacketIs,
    Peer,
    Peers,
    Put,
    Receipt,
    Roster,
    RosterIs,
    SealPut,
    Seals,
    SealsAre,
    View,
    Watch,
)
from protocol.packet import Packet, read
from protocol.ranges import Ranges
from protocol.seal import Seal
from service.run import leaves
from tailer.journal import Journal
from tailer.members import Members
from tailer.mend import Mender
from tailer.send import Sender
from tests.simulation.machine import SimMachine, World, simulate
from tests.tailer.journals import KEY, draft, open_journal

PORT = 7000
Slot = tuple[int, int]


class FakeBuck:
    """One buck; `world.host(name)` is where it runs."""

    def __init__(
        self,
        world: World,
        name: str,
        seed: int,
        *,
        env: str = "test",
        width: int = 300,
        zone: str = "",
        host: str = "",
    ) -> None:
        self.world, self.name, self.env, self.width, self.zone = world, name, env, width, zone
        self.host = (host or name).encode()
        self.key = NodeKey.from_seed(bytes([seed]) * 32)
        self.peers: Sequence[FakeBuck] = (self,)
        self.packets: dict[Slot, Packet] = {}
        self.synced: set[Slot] = set()
        self.seals: dict[int, bytes] = {}
        self.asked: list[Message] = []
        self.refuse = ""
        self.refuse_seals = ""
        self.refuse_receipts = ""
        self.silent = False
        self.mute: tuple[type[Message], ...] = ()  # questions that it does not answer
        self.slow_s = 0.0
        self.unsure = False
        self.lazy = False  # its disk fsyncs nothing that is asked for in a receipt
        self.draining = False
        self.live = False
        self.retired: tuple[bytes, ...] = ()
        self.machine: SimMachine | None = None

    @property
    def address(self) -> str:
        return f"{self.name}:{PORT}"

    @property
    def node(self) -> bytes:
        return self.key.node

    def numbers(self, epoch: int) -> Ranges:
        return Ranges((number, number + 1) for e, number in sorted(self.packets) if e == epoch)

    def start(self, nursery: trio.Nursery) -> None:
        self.machine = self.world.host(self.name).start(nursery, self._main)

    def kill(self) -> None:
        assert self.machine is not None
        self.machine.kill()

    async def _main(self, machine: SimMachine) -> None:
        listeners = await machine.listen(self.name, PORT)
        await trio.serve_listeners(self._serve, list(listeners))

    async def _serve(self, stream: trio.abc.Stream) -> None:
        link = Link(stream, Connection(self._hello(), dialing=False, check=self._check))
        try:
            await link.handshake()
            async with trio.open_nursery() as nursery:
                async for message in link:
                    self.asked.append(message)
                    nursery.start_soon(self._answer, link, message)
        except BaseException as error:
            if not all(isinstance(one, (ProtocolError, OSError, trio.BrokenResourceError)) for one in leaves(error)):
                raise
        finally:
            await link.aclose()

    def _hello(self) -> Hello:
        return Hello("buck", self.key.public, self.env, self.width, self.host, (1, 1), self.address, 0)

    def _check(self, hello: Hello) -> str | None:
        if hello.env != self.env:
            return "env"
        return "width" if hello.width not in (0, self.width) else None

    async def _answer(self, link: Link, message: Message) -> None:
        if self.silent or isinstance(message, self.mute):
            return
        await trio.sleep(self.slow_s)
        for answer in self._answers(message):
            await link.send(answer)

    def _answers(self, message: Message) -> list[Message]:
        match message:
            case Put(ask):
                return [self._put(ask, message)]
            case SealPut(ask) if self.refuse_seals:
                return [No(ask, self.refuse_seals, "as the test wants")]
            case SealPut(ask, seal):
                self.seals[Seal.read(seal).number] = bytes(seal)
                return [Ok(ask, SYNCED, False)]
            case Have(ask) if self.refuse_receipts:
                return [No(ask, self.refuse_receipts, "as the test wants")]
            case Have(ask, _, epoch, bucket, sync):
                held = {slot for slot, p in self.packets.items() if slot[0] == epoch and p.header.bucket == bucket}
                self.synced |= held if sync and not self.lazy else set()
                return [Receipt(ask, _numbers(held), _numbers(held & self.synced), self.unsure)]
            case Peers(ask):
                return [View(ask, self.width, tuple(buck._peer() for buck in self.peers))]
            case Clock(ask):
                return [ClockIs(ask, self.world.host(self.name).time_ns())]
            case Roster(ask, _):
                return [RosterIs(ask, (), self.retired)]
            case Seals(ask, _, since):
                found = tuple(seal for number, seal in sorted(self.seals.items()) if number >= since)
                return [SealsAre(ask, found), Done(ask, ())]
            case Covered():
                return [self._intervals(message)]
            case List(ask, bucket):
                return [self._listing(ask, bucket)]
            case Get(ask, bucket, keys):
                wanted = [(epoch, n) for _, epoch, numbers in keys for n in numbers.numbers()]
                packets = [PacketIs(ask, self.packets[slot].data) for slot in wanted if slot in self.packets]
                lacking = tuple((tailer, epoch, numbers - self.numbers(epoch)) for tailer, epoch, numbers in keys)
                return [*packets, Done(ask, tuple(key for key in lacking if key[2]))]
            case Watch(ask, live):
                return [] if live == self.live else [Ok(ask, STORED, self.live)]
        raise AssertionError(message)

    def _put(self, ask: int, put: Put) -> Message:
        if self.refuse:
            return No(ask, self.refuse, "as the test wants")
        packet = read(bytes(put.packet))
        slot = packet.header.epoch, packet.header.number
        self.packets[slot] = packet
        if packet.header.kind.sync:
            self.synced.add(slot)
        return Ok(ask, SYNCED if slot in self.synced else STORED, False)

    def _peer(self) -> Peer:
        return Peer(self.node, self.key.public, self.address, self.host, self.zone, 1, 1 << 40, self.draining)

    def _intervals(self, message: Covered) -> Intervals:
        epochs = sorted({epoch for epoch, _ in self.packets})
        streams: dict[bytes, tuple[bytes, bytes, Ranges]] = {}
        for packet in self.packets.values():
            for stream, first, end, _, _ in packet.header.runs:
                ref = packet.header.streams[stream]
                if ref.id in message.streams or ref.head in message.heads:
                    streams.setdefault(ref.id, (ref.path, ref.head, Ranges()))[2].add(first, end)
        found = tuple((id, path, head, ranges) for id, (path, head, ranges) in streams.items())
        return Intervals(message.ask, tuple((e, self.numbers(e)) for e in epochs), found, (), self.unsure)

    def _listing(self, ask: int, bucket: int) -> Listing:
        slots = {slot for slot, packet in self.packets.items() if packet.header.bucket == bucket}
        tailers = {packet.header.tailer for packet in self.packets.values()}
        entries = tuple(
            (tailer, epoch, _numbers({slot for slot in slots if slot[0] == epoch}))
            for tailer in tailers
            for epoch in sorted({slot[0] for slot in slots})
        )
        return Listing(ask, bucket, entries, self.unsure, ())


def _numbers(slots: set[Slot]) -> Ranges:
    return Ranges((number, number + 1) for _, number in sorted(slots))


class Sending:
    """The sending half of a tailer on host `tailer`: journal, members, sender, mender, with their tasks running."""

    def __init__(self, machine: SimMachine, journal: Journal, addresses: Sequence[str]) -> None:
        self.machine, self.journal = machine, journal
        self.members = Members(machine, KEY, "test", b"web-1", addresses, journal)
        self.sender = Sender(machine, journal, self.members)
        self.mender = Mender(machine, KEY, journal, self.members, self.sender)
        self.offset = 0
        self.scope = trio.CancelScope()

    async def send(self, count: int = 1, **options: object) -> None:
        """Journal so many packets and hand them over."""
        for _ in range(count):
            options["opened_at"] = self.machine.now()
            made = draft(self.offset, self.offset + 10, **options)  # type: ignore[arg-type]  # the tests' own spelling
            await self.sender.deliver(self.journal.append(made))
            self.offset += 10

    async def until_placed(self, seconds: float = 60.0) -> None:
        with trio.fail_after(seconds):
            while self.sender.waiting:
                await self.sender.placed.wait()

    async def run(self, *, mend: bool = False) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                for task in (self.members.run, self.journal.run, self.sender.run):
                    nursery.start_soon(task)
                if mend:
                    nursery.start_soon(self.mender.run)

    def stop(self) -> None:
        self.scope.cancel()
        self.journal.release()


async def start_sending(
    world: World,
    nursery: trio.Nursery,
    bucks: Sequence[FakeBuck],
    *,
    epoch: int = 1 << 32,
    mend: bool = False,
    size_max: int | None = None,
    name: str = "tailer",
) -> Sending:
    """A tailer that was told the first of these bucks and has met it."""
    machine = world.machine(name)
    sending = Sending(machine, await open_journal(machine, epoch, size_max=size_max), [bucks[0].address])
    nursery.start_soon(lambda: sending.run(mend=mend))
    await sending.members.wait_width()
    return sending


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  # anything may be waited for, and virtual time costs nothing
            await trio.sleep(0.05)


def cluster(world: World, nursery: trio.Nursery, count: int, **options: object) -> list[FakeBuck]:
    """So many bucks that know each other, running."""
    bucks = [FakeBuck(world, f"b{n}", n + 1, **options) for n in range(count)]  # type: ignore[arg-type]  # as given
    for buck in bucks:
        buck.peers = bucks
        buck.start(nursery)
    return bucks


def run(scenario: Callable[[World, trio.Nursery], Awaitable[None]], seed: int = 1) -> None:
    """A scenario in virtual time; what it started ends with it."""

    async def main(world: World) -> None:
        async with trio.open_nursery() as nursery:
            await scenario(world, nursery)
            nursery.cancel_scope.cancel()

    simulate(seed, main)


async def begun(world: World, nursery: trio.Nursery, count: int) -> tuple[list[FakeBuck], Sending]:
    """So many bucks, and a sender that is linked to all of them."""
    bucks = cluster(world, nursery, count)
    tailer = await start_sending(world, nursery, bucks)
    await until(lambda: len(tailer.members.linked()) == count and tailer.members.heard)
    return bucks, tailer
