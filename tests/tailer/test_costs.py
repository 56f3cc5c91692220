"""What a tailer says over HTTP: packets by level, and what each class has cost."""

import json
from typing import Any

import trio

from service.units import Address
from service.web import fetch
from tests.simulation.machine import World
from tests.tailer.fake_bucks import cluster, until
from tests.tailer.test_agent import Tailer, Writer, run

CLASSES = (
    {"path": "/log/cheap*", "copies": 1, "resend": False},
    {"path": "/log/dear*", "copies": 3, "sync": "packet"},
)


async def status(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await fetch(world.machine("monitor"), "tailer", 80, "/status"))
    return found


def cost(page: dict[str, Any], what: str, kind: str) -> float:
    return float(page["metrics"].get(f"class_{what}{{class={kind}}}", 0))


def test_each_class_costs_the_copies_and_fsyncs_that_it_asks_for() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer = cluster(world, nursery, 3), Writer(world)
        kinds = dict(classes=CLASSES, http=Address("tailer", 80), from_="head")
        tailer = Tailer(world, nursery, **kinds)
        writer.write("cheap")
        tailer.start()
        for _ in range(5):
            for name in ("cheap", "dear", "plain"):
                writer.write(name, 100)
            await trio.sleep(8)
        await until(lambda: len({slot for buck in bucks for slot in buck.packets}) >= 15)
        await trio.sleep(400)  # a window, its seal, the third copies
        page = await status(world)
        sizes = {kind: cost(page, "disk_bytes", kind) for kind in ("1", "2+resend", "3+sync+resend")}
        copies = {kind: cost(page, "network_bytes", kind) / sizes[kind] for kind in sizes}
        assert copies == {"1": 1, "2+resend": 3, "3+sync+resend": 3}
        assert {kind: cost(page, "lines", kind) for kind in sizes} == {"1": 501, "2+resend": 500, "3+sync+resend": 500}
        syncs = {kind: cost(page, "fsyncs", kind) for kind in sizes}
        assert syncs["3+sync+resend"] >= cost(page, "packets", "3+sync+resend") - 1 > syncs["2+resend"]
        cpu = [cost(page, "cpu_seconds", kind) for kind in sizes]
        assert 0 < sum(cpu) <= tailer.machine.cpu_s()
        assert cpu[0] < cpu[1]
        assert (page["level"], page["seal"] >= 0, page["packets"]["A0"]) == ("A1 of 2", True, 0)
        metrics = await fetch(world.machine("monitor"), "tailer", 80, "/metrics")
        assert b'tailer_class_network_bytes_total{class="3+sync+resend"}' in metrics
        assert b"tailer_packets_a0 0.0" in metrics
        assert await fetch(world.machine("monitor"), "tailer", 80, "/ruok") == b"imok"
        await tailer.end()

    run(scenario)


def test_levels_are_told_while_bucks_are_away() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer = cluster(world, nursery, 3), Writer(world)
        tailer = Tailer(world, nursery, http=Address("tailer", 80), from_="head")
        writer.write("a")
        tailer.start()
        await until(lambda: any(buck.packets for buck in bucks))
        await trio.sleep(1)
        page = await status(world)
        assert (page["packets"], page["health"], page["troubles"]) == ({"A0": 0, "A1": 1, "A2": 0}, "OK", [])
        for buck in bucks:
            buck.refuse = "full"
        writer.write("a")
        await trio.sleep(10)
        page = await status(world)
        assert (page["packets"], page["health"]) == ({"A0": 1, "A1": 1, "A2": 0}, "WARNING")
        assert page["troubles"] == ["0 of 3 bucks take packets: what is read waits in the journal"]
        await tailer.end()


def test_a_full_journal_is_a_trouble() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        cluster(world, nursery, 3)
        tailer = Tailer(world, nursery, http=Address("tailer", 80), from_="head")
        tailer.start()
        await trio.sleep(5)
        assert (await status(world))["health"] == "OK"
        platter = world.host("tailer").platter
        platter.capacity = platter.used + (1 << 20)
        (text,) = (await status(world))["troubles"]
        assert "full" in text
        assert "reading waits" in text
        await tailer.end()

    run(scenario)

    run(scenario)
