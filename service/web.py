"""A few read-only pages over HTTP: `/ruok`, `/status`, `/metrics`. Sans-IO h11 on the machine's own streams.

A route is a function that gives a Response; a feed is a page that goes on, over a WebSocket (sockets.py). Every peer is
treated as careless: a bounded number of connections, a bounded head (h11's), a deadline for each request and each
answer, no bodies. A page that fails is a 500 and a line in the log, because a broken page must not stop a store. No
TLS, nothing that changes anything.
"""

import json
import traceback
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import h11
import trio

from service.log import get_log
from service.machine import Listener, Machine
from service.run import PEER_GONE
from service.sockets import BROKEN, Feed, Unfit, converse

CONNECTIONS_MAX = 64
# A request, or its answer, that takes longer is cut; so is a kept connection that stays idle.
TURN_S = 20.0
READ_SIZE = 16 << 10
BODY_MAX = 16 << 20  # of a page that is fetched

log = get_log("service.web")


class Response(NamedTuple):
    """What a route answers."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200


Route = Callable[[], Response | Awaitable[Response]]


def json_response(value: object) -> Response:
    """A document for machines, indented for people; bytes are ids and become hex."""
    text = json.dumps(value, indent=1, default=lambda one: one.hex() if isinstance(one, bytes) else str(one))
    return Response(text.encode() + b"\n", "application/json")


async def serve_web(
    machine: Machine,
    host: str,
    port: int,
    routes: Mapping[str, Route],
    feeds: Mapping[str, Feed] = MappingProxyType({}),
    *,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer until cancelled. Started through `nursery.start`, it gives the address it listens on."""
    listeners = await machine.listen(host, port)
    pages = _Pages(routes, feeds)

    async def accept(task_status: trio.TaskStatus[list[Listener]]) -> None:
        await trio.serve_listeners(pages.connection, list(listeners), task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(accept)
        task_status.started(machine.address_of(listeners[0]))


async def fetch(machine: Machine, host: str, port: int, path: str) -> bytes:
    """The body of a page of one of our own processes. OSError where nobody answers, or with anything but 200."""
    http = h11.Connection(h11.CLIENT)
    body = bytearray()
    with trio.move_on_after(TURN_S):
        async with await machine.connect(host, port) as stream:
            head = http.send(h11.Request(method="GET", target=path, headers=[("Host", host), ("Connection", "close")]))
            await stream.send_all((head or b"") + (http.send(h11.EndOfMessage()) or b""))
            while len(body) <= BODY_MAX:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    http.receive_data(bytes(await stream.receive_some(READ_SIZE)))
                elif isinstance(event, h11.Response) and event.status_code != 200:
                    raise OSError(f"{host}:{port}{path} answers {event.status_code}")
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    return bytes(body)
    raise OSError(f"{host}:{port}{path} gives no answer")


class _Pages:
    """The routes, and the connections that ask for them."""

    def __init__(self, routes: Mapping[str, Route], feeds: Mapping[str, Feed]) -> None:
        self.routes = routes
        self.feeds = feeds
        self.open = 0

    async def connection(self, stream: trio.abc.Stream) -> None:
        if self.open >= CONNECTIONS_MAX:
            await trio.aclose_forcefully(stream)
            return
        self.open += 1
        try:
            async with stream:
                await self._converse(stream)
        except* (h11.ProtocolError, BROKEN, *PEER_GONE) as group:
            log.debug("a web request broke off", why=str(group.exceptions[0]))
        finally:
            self.open -= 1

    async def _converse(self, stream: trio.abc.Stream) -> None:
        """Requests one after the other, as long as both sides want to keep the connection."""
        http = h11.Connection(h11.SERVER)
        while True:
            with trio.fail_after(TURN_S):
                request = await _next_request(http, stream)
            if request is None:
                return
            feed = self.feeds.get(request.target.split(b"?", 1)[0].decode("ascii", "replace"))
            answer = await self._follow(http, stream, request, feed) if feed else None
            if feed and answer is None:
                return
            with trio.fail_after(TURN_S):
                answer = answer or await self._answer(request)
                await _send(http, stream, answer, head_only=request.method == b"HEAD")
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return  # one of us said close, or a body came that nobody asked for
            http.start_next_cycle()

    async def _follow(
        self, http: h11.Connection, stream: trio.abc.Stream, request: h11.Request, feed: Feed
    ) -> Response | None:
        """A page that goes on, to its end; or what is answered instead. Its feed has a bound of its own."""
        self.open -= 1
        try:
            await converse(stream, request, http.trailing_data[0], feed)
        except Unfit as unfit:
            return Response(f"{unfit}\n".encode(), status=unfit.status)
        finally:
            self.open += 1
        return None

    async def _answer(self, request: h11.Request) -> Response:
        path = request.target.split(b"?", 1)[0].decode("ascii", "replace")
        route = self.routes.get(path)
        if route is None:
            known = " ".join(sorted(self.routes))
            return Response(f"nothing here; there is: {known}\n".encode(), status=404)
        if request.method not in (b"GET", b"HEAD"):
            return Response(b"only GET\n", status=405)
        try:
            found = route()
            return found if isinstance(found, Response) else await found
        except Exception:
            log.error("a page failed", path=path, trace=traceback.format_exc())
            return Response(b"this page failed; the log says why\n", status=500)


async def _next_request(http: h11.Connection, stream: trio.abc.Stream) -> h11.Request | None:
    """Read until a request is whole. None: the peer left."""
    request = None
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(READ_SIZE)))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            return request  # bodies aren't read: this is answered, and the connection closed
        elif isinstance(event, h11.EndOfMessage):
            return request
        else:
            return None


async def _send(http: h11.Connection, stream: trio.abc.Stream, response: Response, head_only: bool) -> None:
    headers = [
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        ("Cache-Control", "no-store"),
    ]
    if http.their_state is not h11.DONE:
        headers.append(("Connection", "close"))
    head = http.send(h11.Response(status_code=response.status, headers=headers, reason=b""))
    body = http.send(h11.Data(data=b"" if head_only else response.body))
    await stream.send_all((head or b"") + (body or b"") + (http.send(h11.EndOfMessage()) or b""))
