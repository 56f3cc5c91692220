"""The pages: what they answer, and what careless peers get."""

import json

import trio

from service.web import CONNECTIONS_MAX, TURN_S, Response, json_response, serve_web
from tests.simulation.machine import World, simulate


def fails() -> Response:
    raise KeyError("bug")


async def slowly() -> Response:
    await trio.sleep(1)
    return Response(b"slow\n")


ROUTES = {
    "/ruok": lambda: Response(b"imok"),
    "/status": lambda: json_response({"node": b"\xab", "count": 3}),
    "/fails": fails,
    "/slow": slowly,
}


async def served(world: World, body):
    async with trio.open_nursery() as nursery:
        _, port = await nursery.start(serve_web, world.machine("a"), "", 0, ROUTES)
        client = world.machine("b")
        result = await body(lambda: client.connect("a", port))
        nursery.cancel_scope.cancel()
    return result


def exchange(*requests: bytes) -> bytes:
    """All that comes back for these bytes until the server closes."""

    async def body(connect) -> bytes:
        stream = await connect()
        found = b""
        for request in requests:
            await stream.send_all(request)
        while data := await stream.receive_some():
            found += data
        return found

    return simulate(1, served, body)


def get(path: bytes, method: bytes = b"GET", more: bytes = b"Connection: close\r\n") -> bytes:
    return exchange(method + b" " + path + b" HTTP/1.1\r\nHost: a\r\n" + more + b"\r\n")


def test_are_you_ok():
    answer = get(b"/ruok?x=1")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nimok")


def test_a_document_for_machines():
    head, body = get(b"/status").split(b"\r\n\r\n")
    assert b"application/json" in head
    assert json.loads(body) == {"node": "ab", "count": 3}


def test_a_route_may_take_its_time():
    assert get(b"/slow").endswith(b"slow\n")


def test_an_unknown_page_says_which_there_are():
    answer = get(b"/")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"/ruok" in answer


def test_a_page_that_fails_is_a_500_and_the_server_lives():
    answer = exchange(
        b"GET /fails HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /ruok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"KeyError" not in answer
    assert answer.endswith(b"imok")


def test_a_head_has_no_body():
    answer = get(b"/ruok", b"HEAD")
    assert b"content-length: 4" in answer.lower()
    assert answer.endswith(b"\r\n\r\n")


def test_nothing_but_reading():
    assert get(b"/ruok", b"DELETE").startswith(b"HTTP/1.1 405 ")
    answer = exchange(b"POST /ruok HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    assert answer.startswith(b"HTTP/1.1 405 ")


def test_A11_garbage_and_endless_heads_are_cut():
    assert exchange(b"\x00\x01garbage\r\n\r\n") == b""

    async def endless(connect) -> None:
        stream = await connect()
        try:
            while True:
                await stream.send_all(b"GET /" + b"x" * 60_000)
        except trio.BrokenResourceError:
            pass

    simulate(1, served, endless)


def test_A13_a_silent_or_slow_peer_is_cut():
    async def silent(connect) -> float:
        stream = await connect()
        start = trio.current_time()
        await stream.send_all(b"GET /")
        assert await stream.receive_some() == b""
        return trio.current_time() - start

    assert TURN_S <= simulate(1, served, silent) < TURN_S + 1


def test_A14_connections_are_bounded():
    async def many(connect) -> bytes:
        streams = [await connect() for _ in range(CONNECTIONS_MAX + 1)]
        await trio.sleep(1)
        return await streams[-1].receive_some()

    assert simulate(1, served, many) == b""
