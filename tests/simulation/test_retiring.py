"""Hosts and bucks that are gone for good, in simulated clusters: what that makes unknown, and how an admin ends it."""

import json

import trio

from porter.cluster import open_cluster
from porter.retire import Retired, retire
from porter.settings import PorterSettings
from porter.verdict import COMPLETE, RETIRED, UNKNOWN, Account
from protocol.identity import NodeKey
from service.run import DONE
from service.units import Address
from service.web import fetch
from tests.simulation.fleet import LISTEN, WIDTH, Fleet, lines
from tests.simulation.machine import World, simulate

ADMIN = NodeKey.from_seed(bytes(range(32)))


async def retired(fleet: Fleet, name: str) -> Retired:
    """`porter retire NAME`, asked of the first buck that lives."""

    live = next(one for one in fleet.names if fleet.processes[one].alive)
    settings = PorterSettings(peer=(Address(live, LISTEN),), insecure=True, key="/porter.key")
    async with open_cluster(fleet.world.machine("admin"), settings, ADMIN, "admin") as cluster:
        return await retire(cluster, name)


def unknown(account: Account) -> list[tuple[int, int]]:
    return [(one.start, one.end) for one in account.unknown]


def test_C29_a_host_that_is_gone_makes_the_time_since_unknown_until_it_is_retired() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 3)
            await fleet.start()
            logs = world.machine("gone").disk
            logs.mkdirs("/var/log")
            logs.open_append("/var/log/app.log").write(lines(200))
            fleet.follow("gone")
            assert await fleet.send(lines(100), "left") == DONE
            await trio.sleep(4 * WIDTH)
            world.host("gone").power_cut()
            await trio.sleep(200)
            accounts = {one.host: one for one in (await fleet.audit()).verdict.accounts}
            assert (accounts[b"left"].state, accounts[b"gone"].state) == (COMPLETE, UNKNOWN)
            until = accounts[b"gone"].until
            assert unknown(accounts[b"gone"]) == [(until, 0)]
            fleet.kill("b3")  # it is told by the others, when it comes back
            done = await retired(fleet, "gone")
            assert len(done.took) == 2
            await fleet.start("b3")
            await trio.sleep(60)
            for name in ("b1", "b2"):
                fleet.kill(name)
            fleet.names.insert(0, fleet.names.pop())
            (account,) = [one for one in (await fleet.audit()).verdict.accounts if one.host == b"gone"]
            assert (account.end, unknown(account)) == (RETIRED, [(until, until + WIDTH)])
            nursery.cancel_scope.cancel()

    simulate(21, scenario)


def test_C29_a_buck_that_died_for_good_is_waited_for_until_it_is_retired() -> None:
    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            fleet = Fleet(world, nursery, 3)
            await fleet.start()
            logs = world.machine("web-1").disk
            logs.mkdirs("/var/log")
            logs.open_append("/var/log/app.log").write(lines(200))
            fleet.kill("b3")
            world.host("b3").power_cut()
            dead = (await fleet.status("b1"))["peers"]
            (node,) = [peer["node"] for peer in dead if peer["address"] == f"b3:{LISTEN}"]
            fleet.follow("web-1", http=Address("web-1", 80))

            async def levels() -> dict[str, int]:
                page = json.loads(await fetch(world.machine("looker"), "web-1", 80, "/status"))
                return dict(page["packets"])

            await trio.sleep(5 * WIDTH)
            waiting = await levels()
            assert waiting["A1"] > 0, "two have it; the third is a member, and may come back"
            assert (await fleet.audit()).verdict.state == UNKNOWN, "it may hold what nobody else does"
            await retired(fleet, node)
            await trio.sleep(90)
            assert (await levels())["A1"] == 0, "all that is waited for have it"
            found = await fleet.audit()
            assert (found.verdict.state, found.troubles) == (COMPLETE, ())
            nursery.cancel_scope.cancel()

    simulate(22, scenario)
