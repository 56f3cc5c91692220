"""What each class costs a buck, as its metrics say it."""

import json

from protocol import messages as m
from service.web import fetch
from tests.buck.making import BUCKET, KEY, make
from tests.buck.test_session import asking, put, with_a_buck
from tests.simulation.machine import World


@with_a_buck()
async def test_a_buck_counts_by_class_what_came_in_what_it_wrote_and_what_it_fsynced(world: World) -> None:
    async with asking(world) as asker:
        for number in range(4):
            await asker.ask(put(make(number, bytes(1000), sync=number % 2 == 0)))
        await asker.ask(put(make(3, bytes(1000))))  # again: it comes over the network, and is not written
        await asker.ask(m.Have(0, KEY.node, 7, BUCKET, True))
    counters = json.loads(await fetch(world.machine("monitor"), "a", 80, "/status"))["counters"]
    size = len(make(0, bytes(1000)))
    for kind, came, synced in (("2+resend", 3, 1), ("2+sync+resend", 2, 2)):
        found = {name: counters[f"class_{name}{{class={kind}}}"] for name in ("packets", "lines", "disk_bytes")}
        assert found == {"packets": 2, "lines": 2, "disk_bytes": 2 * size}
        assert abs(counters[f"class_network_bytes{{class={kind}}}"] - came * size) < 8
        assert counters[f"class_fsyncs{{class={kind}}}"] == synced
