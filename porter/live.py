"""`porter grep --live QUERY`: lines as they are written, from every buck, each once.

Each buck has a task that dials it, asks for its peers now and then (so new bucks are found) and shows what comes; when
the link breaks it dials again, after a pause that doubles. A packet is on two bucks, so its events come twice: Seen
remembers by (tailer, stream) which stretches were shown, and only what is new is passed on. Between the links and the
output is a queue bounded in bytes: a terminal that was stopped holds up no buck, and is told what it missed.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

import trio

from porter.grep import escaped
from porter.member import said
from porter.settings import PorterSettings
from protocol.errors import EventError, ProtocolError, Refused
from protocol.event import decode
from protocol.identity import NodeKey
from protocol.limits import LIVE_REMEMBER_S, PACKET_VERSION, PEERS_MAX
from protocol.link import Asker, open_asker
from protocol.messages import Hello, Live, LiveRows, Missed, No, Peers, View
from protocol.ranges import Ranges
from protocol.when import written
from service.backlog import Backlog
from service.config import ConfigError
from service.machine import Machine
from service.run import leaves
from service.units import read_address

if TYPE_CHECKING:
    from protocol.secure import Security

__all__ = ["Seen", "Shown", "Viewer", "as_live_json", "as_live_text"]

PAUSE_FIRST_S, PAUSE_MAX_S = 0.2, 5.0
CONNECT_S = 5.0
LEARN_EVERY_S = 10.0
BACKLOG_BYTES_MAX = 8 << 20  # of rows that wait for the output
# Remembered at once, twice over; more are forgotten too early, and may be shown twice. Stretches of a stream join where
# nothing between them was left out: only a query that few lines fit makes many, 80 bytes each.
STREAMS_MAX, STRETCHES_MAX = 100_000, 250_000
FATAL = ("env", "width", "version", "role", "security", "query")  # will not change by trying again

Write = Callable[[bytes], Awaitable[None]]
Say = Callable[[str], None]


class Seen:
    """Which stretches of which streams were shown, for at least `remember_s`. Pure."""

    def __init__(self, remember_s: float = LIVE_REMEMBER_S) -> None:
        self._remember_s = remember_s
        self._young: dict[tuple[bytes, bytes], Ranges] = {}
        self._old: dict[tuple[bytes, bytes], Ranges] = {}
        self._since = 0.0
        self._stretches = 0  # of the young

    def fresh(self, rows: LiveRows, now: float) -> list[int]:
        """Which of these rows were not shown yet; from now on all of them were."""
        full = len(self._young) >= STREAMS_MAX or self._stretches >= STRETCHES_MAX
        if now >= self._since + self._remember_s or full:
            self._old = self._young if now < self._since + 2 * self._remember_s else {}
            self._young, self._since, self._stretches = {}, now, 0
        key = rows.tailer, rows.stream
        young, old = self._young.setdefault(key, Ranges()), self._old.get(key, Ranges())
        starts = [rows.first + offset for offset in rows.offsets]
        found = [i for i, start in enumerate(starts) if start not in young and start not in old]
        before = len(young)
        young.add(rows.first, rows.end)
        self._stretches += len(young) - before
        return found


class Shown(NamedTuple):
    """One event, and where it comes from."""

    point: int
    host: bytes
    path: bytes
    shn: bytes
    app: bytes
    line: bytes  # without what was taken out of it: time, host, application
    tailer: bytes
    stream: bytes
    offset: int


class Viewer:
    """One run of the command. `counts` of duplicates dropped and events missed are for those who ask."""

    def __init__(
        self,
        machine: Machine,
        settings: PorterSettings,
        key: NodeKey,
        query: str,
        say: Say,
        security: Security | None = None,
    ) -> None:
        self.duplicates = self.missed = 0
        self.watched: set[bytes] = set()  # nodes that show us what comes
        self._machine, self._settings, self._key = machine, settings, key
        self._query, self._say, self._security = query, say, security
        self._seen = Seen()
        self._backlog: Backlog[tuple[LiveRows, list[int]]] = Backlog(BACKLOG_BYTES_MAX)
        self._addresses: set[str] = set()
        self._linked: set[bytes] = set()

    async def run(self, write: Write, flush: Callable[[], Awaitable[None]], render: Callable[[Shown], bytes]) -> None:
        """Show what comes, until cancelled. ConfigError if a buck that was named refuses what we are."""
        async with trio.open_nursery() as nursery:
            for address in self._settings.peers:
                self._begin(nursery, str(address), named=True)
            while taken := await self._backlog.take():
                missed, some = taken
                if missed:
                    self._miss(missed, "this output is slow")
                if some:
                    await write(b"".join(map(render, self._events(*some))))
                    await flush()

    def _miss(self, events: int, why: str) -> None:
        self.missed += events
        self._say(f"missed: at most {events} events: {why}")

    # --- one buck ---------------------------------------------------------------------------------------------------

    def _begin(self, nursery: trio.Nursery, address: str, named: bool) -> None:
        if address and address not in self._addresses and len(self._addresses) < PEERS_MAX:
            self._addresses.add(address)
            nursery.start_soon(self._keep, nursery, address, named)

    async def _keep(self, nursery: trio.Nursery, address: str, named: bool) -> None:
        """Watch one buck, and again when that ends, until cancelled."""
        pause, told = PAUSE_FIRST_S, ""
        while True:
            began = self._machine.now()
            try:
                why = await self._watch(nursery, address)
            except* (OSError, ValueError, ProtocolError, trio.TooSlowError, trio.BrokenResourceError) as group:
                [error, *_] = leaves(group)
                if named and isinstance(error, Refused) and error.reason in FATAL:
                    raise ConfigError(f"{address}: {error}") from None
                why = said(error)
            if why and why != told:
                self._say(f"not watched: {address}: {why}")
            told = why
            if self._machine.now() > began + PAUSE_MAX_S:
                pause = PAUSE_FIRST_S
            await trio.sleep(pause * self._machine.random.uniform(0.5, 1.5))
            pause = min(2 * pause, PAUSE_MAX_S)

    async def _watch(self, nursery: trio.Nursery, address: str) -> str:
        """Show what one buck shows; why it ended. Empty: it is watched under another address already."""
        host, port = read_address(address)
        with trio.fail_after(CONNECT_S):
            stream = await self._machine.connect(host, port)
        patience, check = self._settings.patience, self._check
        async with open_asker(stream, self._hello(), timeout_s=patience, check=check, security=self._security) as asker:
            node = asker.peer.node
            if node in self._linked:
                return ""
            self._linked.add(node)
            try:
                async with trio.open_nursery() as beside:
                    beside.start_soon(self._learn, nursery, asker)
                    why = await self._show(asker, address)
                    beside.cancel_scope.cancel()
            finally:
                self._linked.discard(node)
                self.watched.discard(node)
        return why

    async def _learn(self, nursery: trio.Nursery, asker: Asker) -> None:
        """Who else is there?"""
        while True:
            view = await asker.ask(Peers(0))
            for peer in view.peers if isinstance(view, View) else ():
                self._begin(nursery, peer.address, named=False)
            await trio.sleep(LEARN_EVERY_S)

    async def _show(self, asker: Asker, address: str) -> str:
        with asker.ask_many(Live(0, self._query), float("inf")) as parts:
            async for part in parts:
                if isinstance(part, LiveRows):
                    rows = self._seen.fresh(part, self._machine.now())
                    self.duplicates += len(part.rows) - len(rows)
                    if rows:
                        self._backlog.put((part, rows), sum(map(len, part.rows)), len(rows))
                elif isinstance(part, Missed) and part.events:
                    self._miss(part.events, f"{address} or the way from it is slow")
                elif isinstance(part, No):
                    if part.reason in FATAL:
                        raise Refused(part.reason, part.text)
                    return f"it refuses: {part.text or part.reason}"
                else:
                    self.watched.add(asker.peer.node)
        return "it stops"

    def _events(self, rows: LiveRows, wanted: list[int]) -> list[Shown]:
        """These rows, decoded. One that is no event is missed."""
        found = []
        for i in wanted:
            try:
                event = decode(rows.rows[i])
            except EventError as error:
                self._miss(1, f"a buck showed what is no event: {error}")
                continue
            where = rows.tailer, rows.stream, rows.first + rows.offsets[i]
            found.append(Shown(event.point, rows.host, rows.path, event.shn, event.app, event.line, *where))
        return found

    def _hello(self) -> Hello:
        versions, host = (PACKET_VERSION, PACKET_VERSION), self._machine.host.encode()
        time_ns = self._machine.time_ns()
        return Hello("porter", self._key.public, self._settings.env, 0, host, versions, "", time_ns)

    def _check(self, hello: Hello) -> str | None:
        return None if hello.env == self._settings.env else "env"


def as_live_text(shown: Shown, *, escape: bool) -> bytes:
    """`host path: time name app: line`; names only where the line itself says them."""
    names = b" ".join(filter(None, (shown.shn, shown.app)))
    text = b"%s %s: %s %s" % (
        shown.host,
        shown.path,
        written(shown.point)[:-6].encode() + b"Z",
        names + b": " * bool(names),
    )
    text += shown.line
    return (escaped(text) if escape else text) + b"\n"


def as_live_json(shown: Shown) -> bytes:
    """One JSON object; bytes that are no UTF-8 are shown as U+FFFD."""
    document = {
        "time": written(shown.point),
        **{name: getattr(shown, name).decode("utf-8", "replace") for name in ("host", "path", "shn", "app", "line")},
        "tailer": shown.tailer.hex(),
        "stream": shown.stream.hex(),
        "offset": shown.offset,
    }
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"
