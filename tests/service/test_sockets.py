"""WebSockets: who is let in, what is sent, and how those end who stall, flood or leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from service.sockets import PING_S, SILENCE_S, STALL_S, Feed, Next, Unfit
from service.web import CONNECTIONS_MAX, Response, serve_web
from tests.simulation.machine import World, simulate


class Source:
    """A feed that a test holds the other end of."""

    def __init__(self) -> None:
        self.open = 0
        self.send, self._receive = trio.open_memory_channel[str | None](100)

    @contextmanager
    def feed(self, parameters: Mapping[str, str]) -> Iterator[Next]:
        if "bad" in parameters:
            raise Unfit(400, "bad is not good")
        self.open += 1
        try:
            yield self._receive.receive
        finally:
            self.open -= 1


class Client:
    """A viewer, with the events that came."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.socket = WSConnection(ConnectionType.CLIENT)

    async def ask(self, target: str = "/live?q=x%20y", origin: str = "") -> object:
        more = [(b"Origin", origin.encode())] if origin else []
        await self.stream.send_all(self.socket.send(Request(host="a", target=target, extra_headers=more)))
        return await self.next()

    async def next(self) -> object:
        while True:
            for event in self.socket.events():
                return event
            data = bytes(await self.stream.receive_some())
            self.socket.receive_data(data or None)

    async def send(self, event: object) -> None:
        await self.stream.send_all(self.socket.send(event))  # type: ignore[arg-type]  # any of wsproto's


def conversation(body):
    """Run `body(source, connect)` against a server with one feed."""

    async def whole(world: World) -> None:
        source = Source()
        feeds = {"/live": Feed(source.feed, ("https://archie",))}
        routes = {"/ruok": lambda: Response(b"imok")}
        async with trio.open_nursery() as nursery:
            _, port = await nursery.start(serve_web, world.machine("a"), "", 0, routes, feeds)

            async def connect() -> Client:
                return Client(await world.machine("b").connect("a", port))

            await body(source, connect)
            nursery.cancel_scope.cancel()

    def test() -> None:
        simulate(1, whole)

    test.__name__, test.__doc__ = body.__name__, body.__doc__
    return test


@conversation
async def test_texts_come_in_order_and_an_end_is_said(source, connect) -> None:
    client = await connect()
    assert isinstance(await client.ask(), AcceptConnection)
    for text in ("one", "zwei é", "x" * 100_000):
        await source.send.send(text)
        found = ""
        while found != text:
            event = await client.next()
            assert isinstance(event, TextMessage)
            found += event.data
    await source.send.send(None)
    event = await client.next()
    assert isinstance(event, CloseConnection)
    assert event.code == 1001
    await trio.sleep(1)
    assert not source.open


@conversation
async def test_A26_only_pages_that_were_named_may_listen(source, connect) -> None:
    for origin in ("https://evil", "http://a", "null", "https://archie.evil", "https://archie:444"):
        refused = await (await connect()).ask(origin=origin)
        assert isinstance(refused, RejectConnection)
        assert refused.status_code == 403
        assert not source.open
    assert isinstance(await (await connect()).ask(origin="https://archie"), AcceptConnection)


@conversation
async def test_what_does_not_fit_is_told_so_over_plain_http(source, connect) -> None:
    client = await connect()
    refused = await client.ask("/live?bad=1")
    assert isinstance(refused, RejectConnection)
    assert refused.status_code == 400
    said = await client.next()
    assert isinstance(said, RejectData)
    assert said.data == b"bad is not good\n"
    assert (await (await connect()).ask("/live?" + "&".join("abcdefghi"))).status_code == 400
    plain = await connect()
    await plain.stream.send_all(b"GET /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b" 400 " in bytes(await plain.stream.receive_some())
    assert not source.open


@conversation
async def test_A26_who_says_something_is_shown_out(source, connect) -> None:
    client = await connect()
    await client.ask()
    await client.send(TextMessage(data="hello"))
    event = await client.next()
    assert isinstance(event, CloseConnection)
    assert event.code == 1008
    await trio.sleep(1)
    assert not source.open


@pytest.mark.parametrize("how", ["leaves", "says goodbye", "talks nonsense"])
def test_who_is_gone_is_forgotten(how: str) -> None:
    @conversation
    async def run(source, connect) -> None:
        client = await connect()
        await client.ask()
        assert source.open == 1
        if how == "leaves":
            await client.stream.aclose()
        elif how == "says goodbye":
            await client.send(CloseConnection(code=1000))
            assert isinstance(await client.next(), CloseConnection)
        else:
            await client.stream.send_all(b"\xff" * 100)
        await trio.sleep(1)
        assert not source.open

    run()


@conversation
async def test_pings_go_both_ways_and_silence_is_cut(source, connect) -> None:
    client = await connect()
    await client.ask()
    await client.send(Ping(payload=b"x"))
    assert isinstance(await client.next(), Pong)
    begin = trio.current_time()
    assert isinstance(await client.next(), Ping)
    assert trio.current_time() - begin <= PING_S + 1
    await trio.sleep(SILENCE_S + 1)
    assert not source.open


@conversation
async def test_A26_who_takes_nothing_is_cut(source, connect) -> None:
    client = await connect()
    await client.ask()
    for _ in range(50):
        await source.send.send("x" * 1_000_000)
    await trio.sleep(STALL_S + 2)
    assert not source.open


@conversation
async def test_viewers_leave_the_pages_their_room(source, connect) -> None:
    clients = []
    for _ in range(CONNECTIONS_MAX + 10):
        clients.append(await connect())
        assert isinstance(await clients[-1].ask(), AcceptConnection)
    page = await connect()
    await page.stream.send_all(b"GET /ruok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b"imok" in bytes(await page.stream.receive_some())
    assert source.open == len(clients)
