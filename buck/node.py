"""The wiring of a buck.

```
                    listener ── Session a link ──┬── Store ── Volume a disk ── Part a bucket file
  tailers, porters, ┘  (serve_links)             ├── SealStore ── Book a tailer
                                                 ├── RosterStore
  bucks                                          └── Members  (view)
                    web ── /ruok /status /metrics
                    tend, once a second a disk: sync and close what is due (Store.tend)
                    gossip, once a second: one random peer (Gossiper)
                    live: young packets to whoever watches (Fanout)
```

Order of a stop: nobody new is let in, links may finish, then everything is synced, closed and marked clean.
"""

from collections.abc import Callable

import trio

from buck.budget import Memory, Metered
from buck.counts import Counts
from buck.door import Door
from buck.gossip import Gossiper, remembered
from buck.handing import Hander
from buck.healing import Healer
from buck.leaving import Leaving
from buck.live import Fanout
from buck.members import Members
from buck.pruning import Pruner
from buck.pulling import Puller
from buck.roster import RosterStore
from buck.seals import SealStore
from buck.session import Session
from buck.settings import BuckSettings
from buck.store import Store
from buck.volume import Volume
from buck.web import feeds, routes
from protocol import messages as m
from protocol.connection import Connection
from protocol.errors import LinkLost, MessageError, Refused, RemoteProtocolError
from protocol.identity import NodeKey
from protocol.limits import PACKET_VERSION
from protocol.link import Link
from service.keys import KeyFile, load_key
from service.log import get_log
from service.machine import Machine
from service.run import PEER_GONE, serve_links
from service.units import Address
from service.web import serve_web

log = get_log("buck.node")

TICK_S = 1.0
WILDCARDS = ("0.0.0.0", "::", "")
# Files that a buck needs beside connections: 64 open bucket files, pages, answers that read closed ones, peers dialled.
FILES_RESERVE = 512
GRACE_S = 5.0
PEER_ERRORS = (RemoteProtocolError, LinkLost, *PEER_GONE)

Ready = Callable[[str, str], None]


class Node:
    """One buck: everything it owns."""

    def __init__(self, machine: Machine, settings: BuckSettings, key_file: KeyFile) -> None:
        self.machine = machine
        self.settings = settings
        self.key = NodeKey.from_seed(key_file.seed)
        self.counts = Counts(cpu_s=machine.cpu_s)
        self.width = int(settings.width)
        self.store = Store(machine, settings.disk, settings.env, self.width, self.counts)
        self.seals = SealStore(machine, self.store.volumes, settings.env, self.width, self.counts)
        self.memory = Memory(machine, settings.memory)
        self.counts.memory_reserved.set_function(lambda: self.memory.used)
        self.door = Door(machine, settings, self.key, self.counts)
        self.roster = RosterStore(machine, self.store.volumes, settings.env, self.counts, self.door.security)
        self.live = Fanout(machine, self.counts)
        self.started = machine.now()
        self._boots = key_file.boots
        self._stopped = trio.Event()
        self.puller = self._make_puller()
        self.pruner = Pruner(self.store, self.counts)
        me = m.Peer(self.key.node, self.key.public, "", machine.host.encode()[:255], settings.zone, 0, 0, False)
        self.members = Members(me, [], machine.random)
        self._gossiper: Gossiper | None = None

    async def run(self, stop: trio.Event, ready: Ready) -> None:
        """Until `stop`. `ready` gets the two addresses once both are listened on."""
        self._stopped = stop
        await self.store.open(self.key.node)
        try:
            await self._serve(stop, ready)
        except BaseException:
            self.store.release()
            raise
        await self.roster.save()
        await self.store.close()

    async def _serve(self, stop: trio.Event, ready: Ready) -> None:
        listeners = await self.machine.listen(*self.settings.listen)
        here = Address(*self.machine.address_of(listeners[0]))
        self._introduce(here)
        leaving = Leaving(self.machine, self.store)
        await leaving.look()
        pages = routes(self.identity, self.store, self.seals, self.members, leaving, self.counts)
        self._gossiper = Gossiper(
            self.machine,
            self.members,
            self.store.volumes,
            self.hello,
            self.check,
            self.counts,
            draining=lambda: self.store.draining,
            guessed=self.settings.advertise is None and here.host in WILDCARDS,
            security=self.door.security,
        )
        async with trio.open_nursery() as background:
            there = await background.start(
                serve_web, self.machine, *self.settings.http, pages, feeds(self.settings, self.live)
            )
            for volume in self.store.volumes:
                background.start_soon(self._tend, volume)
                if len(self.store.volumes) > 1:
                    background.start_soon(volume.hands.run)
            background.start_soon(self._gossiper.run)
            for one in (self.door, leaving, self._make_hander(leaving), self._make_healer()):
                background.start_soon(one.run)
            background.start_soon(self.counts.costs.run)
            background.start_soon(self.live.run)
            background.start_soon(self.roster.run, self.members, self.hello, self.check)
            ready(str(here), str(Address(*there)))
            most = self._connections()
            await serve_links(
                listeners, self._link, stop, grace_s=GRACE_S, connections_max=most, peer_errors=PEER_ERRORS
            )
            background.cancel_scope.cancel()

    def _connections(self) -> int:
        """How many peers at the same time: never so many that files could not be opened any more."""
        wanted, files = self.settings.connections, self.machine.files_max()
        room = files - min(FILES_RESERVE, files // 2)
        if room < wanted:
            log.warning("fewer peers than --connections are let in: raise the limit of open files", peers=room)
        return min(wanted, room)

    def _introduce(self, here: Address) -> None:
        """Now that the port is known, others can be told where we are."""
        address = self.settings.advertise or here
        if address.host in WILDCARDS:
            address = Address(self.machine.host, address.port)
        me = self.members.me._replace(address=str(address), heartbeat=self._boots << 32)
        joins = [str(one) for one in self.settings.join]
        known = remembered(self.machine, self.store.volumes)
        self.members = Members(me, joins, self.machine.random, known, self.machine.now())
        self.roster.retire_buck = self.members.retire
        self.roster.load()

    def _make_puller(self) -> Puller:
        rate, security = float(self.settings.pull_rate), self.door.security
        members, counts = lambda: self.members, self.counts
        return Puller(self.machine, self.store, members, self.hello, self.check, counts, rate, security)

    def _make_hander(self, leaving: Leaving) -> Hander:
        return Hander(self.machine, self.store, self.members, self.puller, leaving, self.counts)

    def _make_healer(self) -> Healer:
        return Healer(self.machine, self.store, self.seals, self.roster, self.members, self.puller, self.counts)

    async def _tend(self, volume: Volume) -> None:
        """Each disk by itself: one that hangs holds up no other."""
        while True:
            await self.store.tend(volume)
            await trio.sleep(TICK_S)

    async def _link(self, stream: trio.abc.Stream) -> None:
        """One peer; one whose messages this version can't read is counted."""
        try:
            await self._serve_peer(stream)
        except* MessageError:
            self.counts.links_refused["message"].inc()
            raise

    async def _serve_peer(self, stream: trio.abc.Stream) -> None:
        """From its handshake to its end."""
        connection = Connection(self.hello(), dialing=False, check=self.check, security=self.door.security)
        metered = Metered(stream, connection, self.memory)
        link = Link(metered, connection)
        try:
            await self.door.shake(link, self.machine.peer_of(stream))
            with self.door.holding(link):
                async with trio.open_nursery() as watching:
                    async with trio.open_nursery() as beside:
                        session = Session(self, link, metered, beside)
                        watching.start_soon(self._stop, session)
                        await session.serve()
                    watching.cancel_scope.cancel()
        except Refused as refused:
            self.counts.links_refused[refused.reason].inc()
            say = log.debug if refused.reason == "slow" else log.warning  # those come by the thousand; they are counted
            say("a peer is refused", reason=refused.reason, why=refused.text)
        finally:
            with trio.move_on_after(1.0, shield=True):
                await link.aclose()

    async def _stop(self, session: Session) -> None:
        await self._stopped.wait()
        session.stop()

    def hello(self) -> m.Hello:
        """Who we are, to whoever connects or is dialled."""
        me, versions = self.members.me, (PACKET_VERSION, PACKET_VERSION)
        now = self.machine.time_ns()
        return m.Hello("buck", me.public, self.settings.env, self.width, me.host, versions, me.address, now)

    def check(self, hello: m.Hello) -> str | None:
        """Why a peer isn't let in, or None. A tailer or porter may not know the width yet."""
        if hello.env != self.settings.env:
            return "env"
        if hello.width not in (0, self.width):
            return "width"
        if hello.versions[0] > PACKET_VERSION or hello.versions[1] < PACKET_VERSION:
            return "version"
        return None

    def view(self) -> m.View:
        return m.View(0, self.width, self.members.view())

    def heard(self, peers: tuple[m.Peer, ...]) -> None:
        if self._gossiper is not None:
            self._gossiper.heard(peers)

    def identity(self) -> dict[str, object]:
        """What the status page begins with."""
        return {
            "node": self.key.node.hex(),
            "env": self.settings.env,
            "width": self.width,
            "address": self.members.me.address,
            "host": self.machine.host,
            "uptime_s": round(self.machine.now() - self.started, 1),
        }


async def run_node(machine: Machine, settings: BuckSettings, stop: trio.Event, ready: Ready) -> None:
    """Key, node, run: what `buck run` does, and what a simulated buck does."""
    key = await load_key(machine, settings.key_file)
    if key.moved:
        log.warning("the key file was made on another machine: this node has a new key", path=settings.key_file)
    node = Node(machine, settings, key)
    log.info("a buck starts", node=node.key.node.hex(), env=settings.env, disks=", ".join(settings.disk))
    await node.run(stop, ready)
