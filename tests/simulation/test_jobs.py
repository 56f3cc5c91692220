"""What the judge of a seed takes as known of the porters' jobs: what bucks may have let go of, whoever was killed."""

import random
from contextlib import nullcontext

import pytest
import trio

from porter.cluster import Sealed
from service.faults import armed
from tests.simulation import oracle
from tests.simulation.cluster import Fleet, Shape
from tests.simulation.jobs import Jobs
from tests.simulation.machine import SimMachine, World, kill_who_runs, simulate
from tests.simulation.writers import Writer


@pytest.mark.parametrize("killed", [False, True])
def test_what_is_archived_while_a_prune_run_asks_may_be_let_go_of_by_it(killed: bool) -> None:
    try:
        simulate(1, _archived_meanwhile, killed)
    finally:
        Fleet.stop_watching()


async def _archived_meanwhile(world: World, killed: bool) -> None:
    async with trio.open_nursery() as nursery:
        fleet = Fleet(world, Shape(bucks=3, tailers=1, width=10), nursery)
        fleet.watch_agents()
        jobs, writer = Jobs(fleet), Writer(world.host("t1"), "app0", random.Random(1), strange=0.0)
        await fleet.start_all(8.0)
        await writer.run(trio.current_time() + 20, 200, 0.0)
        await trio.sleep(60)  # all is closed, and sealed
        assert fleet.drained("t1")

        async def faster(machine: SimMachine) -> None:
            async with jobs.cluster(machine) as cluster:
                await jobs.archive(machine, cluster)

        async def prune(machine: SimMachine) -> None:
            async with jobs.cluster(machine) as cluster:
                real = cluster.seals

                async def seals() -> Sealed:
                    assert not jobs.objects.held
                    await world.host("p2").start(nursery, faster).ended.wait()
                    return await real()

                cluster.seals = seals  # type: ignore[method-assign]  # the archive is empty when it asks, and not after
                await jobs.prune(cluster)

        with armed("porter.prune.stated", 3, kill_who_runs) if killed else nullcontext():
            await world.host("p1").start(nursery, prune).ended.wait()
        assert bool(jobs.pruned) is not killed
        async with jobs.cluster(world.machine("judge")) as cluster:
            files = await jobs.files_of_bucks(world.machine("judge"), cluster, "t1", writer.names)
        oracle.compare("t1, from the bucks", [writer], files)
        nursery.cancel_scope.cancel()
