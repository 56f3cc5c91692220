"""`/live` of a buck: what a page is shown, and who isn't."""

from __future__ import annotations

import json

from wsproto.events import AcceptConnection, RejectConnection, TextMessage

from buck import live as live_module
from service.units import Address
from tests.buck.test_live import lines, packets, put
from tests.buck.test_session import asking, with_a_buck
from tests.service.test_sockets import Client
from tests.simulation.machine import World


async def viewer(world: World) -> Client:
    return Client(await world.machine("client").connect("a", 80))


@with_a_buck()
async def test_a_page_is_shown_events_with_their_identity(world: World) -> None:
    async with asking(world) as tailer:
        client = await viewer(world)
        assert isinstance(await client.ask("/live?q=%22request+7%22"), AcceptConnection)
        [packet] = packets(lines(10))
        assert (await tailer.ask(put(packet))).live
        event = await client.next()
        assert isinstance(event, TextMessage)
        shown = json.loads(event.data)
        [only] = shown.pop("events")
        assert (only["line"], only["offset"], only["shn"], only["app"]) == (
            "request 7 done",
            len(lines(7)),
            "web-1",
            "app",
        )
        assert only["time"] == "2023-11-14T22:13:07.00000000Z"
        assert (shown["host"], shown["path"], shown["end"]) == ("web1", "/var/log/app.log", len(lines(10)))


@with_a_buck()
async def test_what_can_not_be_asked_is_told_so(world: World) -> None:
    async with asking(world):
        for target in ("/live?q=(a", "/live?other=1"):
            refused = await (await viewer(world)).ask(target)
            assert isinstance(refused, RejectConnection)
            assert refused.status_code == 400


@with_a_buck(insecure=False, listen=Address("127.0.0.1", 7411))
async def test_lines_leave_the_host_in_clear_text_only_if_that_was_said(world: World) -> None:
    refused = None
    while refused is None:
        try:
            refused = await (await viewer(world)).ask()
        except OSError:
            continue
    assert isinstance(refused, RejectConnection)
    assert refused.status_code == 403
    assert live_module.VIEWERS_MAX >= 200
