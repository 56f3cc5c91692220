"""The judge of simulated clusters, judged: how many copies it wants of a packet that the archive has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.simulation import oracle
from tests.simulation.cluster import Fleet, Shape
from tests.simulation.fleet import lines
from tests.simulation.jobs import Jobs
from tests.simulation.loss import stored
from tests.simulation.machine import World, simulate
from tests.simulation.seeds import MEET_S


@asynccontextmanager
async def one_log(world: World) -> AsyncIterator[Jobs]:
    """Three bucks that have all of a tailer's log, sealed and on their disks."""
    async with trio.open_nursery() as nursery:
        fleet = Fleet(world, Shape(bucks=3, tailers=1, width=10), nursery)
        disk = world.machine("t1").disk
        disk.mkdirs("/var/log")
        disk.open_append("/var/log/app.log").write(lines(300))
        fleet.once.add("t1")
        await fleet.start_all(MEET_S)
        with trio.fail_after(300):
            while not fleet.codes:  # noqa: ASYNC110  # nothing of the product's tells when it is: it is looked at
                await trio.sleep(1.0)
        yield Jobs(fleet)
        nursery.cancel_scope.cancel()


def test_a_packet_may_be_on_fewer_bucks_only_if_one_let_go_of_it_and_the_archive_has_it() -> None:
    async def scenario(world: World) -> None:
        async with one_log(world) as jobs:
            machine = world.machine("judge")
            hosts = [world.host(name) for name in jobs.fleet.bucks]
            async with jobs.cluster(machine) as cluster:
                await jobs.archive(machine, cluster)
                archived = await jobs.covered(machine)
                oracle.check_copies(hosts, 3, set(), archived)
                for node in stored(hosts[0].platter.root):
                    data, node.data[:] = bytes(node.data), bytes(len(node.data))
                    with pytest.raises(oracle.WrongError, match=r"is on \['b2', 'b3'\] only"):
                        oracle.check_copies(hosts, 3, set(), archived)
                    node.data[:] = data
                jobs.fleet.hold("b1")
                jobs.fleet.kill("b1")
            async with jobs.cluster(machine) as cluster:
                await jobs.prune(cluster)  # b1 is not told, and keeps its own
            assert set(map(frozenset, oracle.copies(hosts).values())) == {frozenset({"b1"})}
            oracle.check_copies(hosts, 3, set(), archived)
            with pytest.raises(oracle.WrongError, match=r"is on \['b1'\] only"):
                oracle.check_copies(hosts, 3, set(), {})

    simulate(6, scenario)
