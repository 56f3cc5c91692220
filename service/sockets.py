"""WebSockets: a page that goes on. Sans-IO wsproto, on the connection where h11 has read the request.

A feed is a context manager that gives a function; each call of it waits for the next text to send, None ends the
conversation. It raises Unfit where there is nothing to send for this request, before anything is promised. Viewers only
listen: one that says something is shown out, one that takes or answers nothing for a while is cut. A browser says which
page it acts for (Origin), and any page may try to connect to this host, so only pages that were named are served.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple
from urllib.parse import parse_qsl

import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Ping, Request, TextMessage
from wsproto.events import Event as SocketEvent
from wsproto.utilities import RemoteProtocolError

BROKEN = RemoteProtocolError  # what a peer raises that breaks the rules
PING_S = 20.0
SILENCE_S = 3 * PING_S  # pings that nobody answers for so long: nobody is there
STALL_S = 20.0  # nor if nothing is taken for so long
READ_SIZE = 4 << 10
PARAMETERS_MAX = 8
GOING_AWAY, NOT_WELCOME = 1001, 1008

Next = Callable[[], Awaitable[str | None]]
Open = Callable[[Mapping[str, str]], AbstractContextManager[Next]]


class Feed(NamedTuple):
    """One page that goes on, and the web pages (Origin) that may show it; programs say no origin."""

    open: Open
    origins: Collection[str] = ()


class Unfit(Exception):
    """This request gets no conversation but this answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def converse(stream: trio.abc.Stream, request: h11.Request, rest: bytes, feed: Feed) -> None:
    """Send a feed's texts until it or the peer ends. Unfit, before a byte was sent, for a request that can't have it.

    `rest` is what came behind the request. PEER_GONE and BROKEN where the peer misbehaves.
    """
    origin = dict(request.headers).get(b"origin")
    if origin is not None and origin.decode("latin-1") not in feed.origins:
        raise Unfit(403, "pages of this origin may not read here")
    socket = WSConnection(ConnectionType.SERVER)
    try:
        socket.initiate_upgrade_connection(list(request.headers), request.target)
        [asked] = socket.events()
        parameters = dict(parse_qsl(_query_of(asked), max_num_fields=PARAMETERS_MAX, errors="strict"))
    except (RemoteProtocolError, ValueError) as error:
        raise Unfit(400, f"a WebSocket is spoken here: {error}") from error
    with feed.open(parameters) as following:
        talk = _Talk(stream, socket)
        await talk.send(AcceptConnection())
        if rest:
            socket.receive_data(rest)
        async with trio.open_nursery() as nursery:
            for task in (talk.listen, talk.ping):
                nursery.start_soon(task, nursery.cancel_scope)
            while (text := await following()) is not None:
                await talk.send(TextMessage(data=text))
            await talk.send(CloseConnection(code=GOING_AWAY))
            nursery.cancel_scope.cancel()


def _query_of(asked: SocketEvent) -> str:
    assert isinstance(asked, Request)
    return asked.target.partition("?")[2]


class _Talk:
    """One conversation; several tasks send in it."""

    def __init__(self, stream: trio.abc.Stream, socket: WSConnection) -> None:
        self._stream = stream
        self._socket = socket
        self._sending = trio.Lock()

    async def send(self, event: SocketEvent) -> None:
        async with self._sending:
            with trio.fail_after(STALL_S):
                await self._stream.send_all(self._socket.send(event))

    async def ping(self, _: trio.CancelScope) -> None:
        while True:
            await trio.sleep(PING_S)
            await self.send(Ping())

    async def listen(self, scope: trio.CancelScope) -> None:
        """Answer pings, and notice the end."""
        data = b"-"
        while True:
            for event in self._socket.events():
                if isinstance(event, Ping):
                    await self.send(event.response())
                elif isinstance(event, CloseConnection | Message):
                    if data and isinstance(event, CloseConnection):
                        await self.send(event.response())
                    elif data:
                        await self.send(CloseConnection(code=NOT_WELCOME, reason="there is nothing to say here"))
                    scope.cancel()
                    return
            with trio.fail_after(SILENCE_S):
                data = bytes(await self._stream.receive_some(READ_SIZE))
            self._socket.receive_data(data or None)
