"""The same over real sockets, with the real clock."""

from functools import partial

import trio

from protocol.connection import Connection
from protocol.link import Link, open_asker
from protocol.messages import Ok, Put
from tests.protocol.wire_samples import BUCK, hello


async def test_over_real_sockets_packets_of_any_size_arrive() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]

    async def serve(stream: trio.SocketStream) -> None:
        link = Link(stream, Connection(hello("buck", BUCK), dialing=False))
        await link.handshake()
        async for message in link:
            assert isinstance(message, Put)
            await link.send(Ok(message.ask, 1, False))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, serve, listeners))
        async with open_asker(await trio.open_tcp_stream("127.0.0.1", port), hello()) as asker:
            for size in (1, 1_000, 300_000, 5_000_000):
                assert (await asker.ask(Put(0, 0, False, bytes(size)))).level == 1
        nursery.cancel_scope.cancel()
