"""One seed: a cluster of the product's own processes, its load, its faults, and the judgement at the end.

    draw ── shape, logs, schedule ──> run ── at least three windows, everything fails ──> heal ──> drain ──> check

Everything comes from the seed, in Python processes with the same hash seed; `report.trace` is one hash over all that
happened. A seed that fails prints its schedule and the command that runs it again (`python -m tests.simulation`).
"""

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import trio

from porter.audit import SEAL_LAG_S
from porter.verdict import COMPLETE
from service.run import DONE
from tests.simulation import oracle
from tests.simulation.cluster import Fleet, Shape
from tests.simulation.faults import Fault, befall
from tests.simulation.jobs import Jobs
from tests.simulation.loss import Lost, destroy
from tests.simulation.machine import NS, START_NS, SimMachine, World, simulate
from tests.simulation.schedule import draw
from tests.simulation.watchdog import Watchdog
from tests.simulation.writers import Writer

WINDOWS = (3, 4)
LINES = (2_000, 3_500)
# From the moment when all is well again, in virtual time: everything is done, and sealed.
DRAIN_S = 600.0
MEET_S = 8.0  # all bucks have met by then
LOSES = 0.08  # of all seeds
QUIET_S = 8.0  # what a tailer still gathers is in a packet by then

Probe = Callable[[Fleet], Awaitable[None]]


@dataclass(frozen=True)
class Plan:
    """What a seed means."""

    seed: int
    shape: Shape
    duration: float
    lines: int
    rotate: float
    once: bool  # at the end each tailer reads to the end, finishes and stops; otherwise it goes on following
    start_ns: int
    faults: tuple[Fault, ...]
    strange: float = 0.5  # how many of the writers have lines that are days old, or early
    loses: bool = False  # at the end all copies of some packets are destroyed
    meet_s: float = MEET_S  # from the bucks' start to that of tailers, writers and faults

    def __str__(self) -> str:
        shape = ", ".join(f"{name} {value}" for name, value in vars(self.shape).items())
        head = f"seed {self.seed}: {shape}; {self.duration:.0f} s, {self.lines} lines, once at the end: {self.once}"
        head += f", bucks alone for {self.meet_s:g} s"
        return "\n  ".join([head, *map(str, self.faults)])


@dataclass
class Report:
    """What became of a seed."""

    seed: int
    trace: str = ""
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    windows: int = 0
    lines: int = 0
    packets: int = 0
    operations: int = 0
    steps: int = 0  # of all tasks in the busiest virtual second
    rows: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    repaired: int = 0  # 1: copies had to be brought back by a repair
    lost: int = 0  # packets that were destroyed, and told as a gap
    pruned: int = 0  # copies that bucks let go of


def plan(seed: int) -> Plan:
    """Everything that a seed decides, but for the order of events."""
    rng = random.Random(seed)
    bucks = rng.choice((3, 3, 3, 3, 3, 3, 4, 4, 4, 5, 6, 7))
    shape = Shape(
        bucks=bucks,
        tailers=rng.choice((2, 2, 2, 2, 2, 2, 3, 3, 3, 4, 5, 6) if bucks < 5 else (2, 2, 3)),
        disks=rng.choice((1, 1, 2)),
        width=rng.choice((10, 10, 10, 10, 10, 20)),
        zones=rng.choice((1, 1, 2, 3)),
        copies=rng.choice((1, 2, 2, 2, 3)),
        sync=rng.choice(("none", "none", "none", "packet")),
        secure=seed % 4 == 1,  # these speak over encrypted links, and each host has a key
    )
    duration = float(shape.width * rng.randint(*WINDOWS) + rng.randint(0, shape.width))
    return Plan(
        seed,
        shape,
        duration,
        lines=rng.randint(*LINES),
        rotate=rng.choice((0.0, 0.05, 0.2)),
        once=rng.random() < 0.5,
        start_ns=START_NS + rng.choice((0, 3600 - 923 - 40)) * NS,  # some cross the hour
        faults=tuple(draw(rng, shape, duration)),
        loses=rng.random() < LOSES,
        meet_s=rng.choice((0.0, 0.5, MEET_S, MEET_S)),
    )


def run_seed(seed: int) -> Report:
    """Run it; a WrongError, or any other, if something isn't as promised."""
    return run_plan(plan(seed))


def run_plan(mine: Plan, probe: Probe | None = None) -> Report:
    """The same for a plan that a test has written; `probe` may look at the fleet while everything fails."""
    report, began = Report(mine.seed), time.process_time()
    try:
        watchdog = Watchdog()
        simulate(mine.seed, _watched, watchdog, mine, report, probe, instruments=[watchdog])
    except BaseException as error:
        error.add_note(f"{mine}\n  again: make simulate SEED={mine.seed}")
        raise
    finally:
        Fleet.stop_watching()
    report.cpu_s = time.process_time() - began
    return report


async def _watched(world: World, watchdog: Watchdog, mine: Plan, report: Report, probe: Probe | None) -> None:
    with watchdog.watching():
        await _scenario(world, mine, report, probe)
    report.steps = watchdog.most


async def _scenario(world: World, mine: Plan, report: Report, probe: Probe | None) -> None:
    world.start_ns = mine.start_ns
    async with trio.open_nursery() as nursery:
        fleet = Fleet(world, mine.shape, nursery)
        fleet.watch_agents()
        jobs = Jobs(fleet)
        writers = _writers(world, mine, fleet)
        await fleet.start_all(mine.meet_s)
        jobs.start()
        async with trio.open_nursery() as acting:
            for writer in writers:
                acting.start_soon(writer.run, fleet.began + mine.duration, -(-mine.lines // len(writers)), mine.rotate)
            acting.start_soon(befall, fleet, mine.faults)
            if probe is not None:
                acting.start_soon(probe, fleet)
        heal(fleet)
        await bury(fleet, jobs)
        await drain(fleet, mine)
        await check(world, fleet, mine, jobs, writers, report)
        nursery.cancel_scope.cancel()
    report.trace, report.operations = world.trace.hexdigest(), world.trace.count
    report.virtual_s, report.windows = trio.current_time(), int(mine.duration // mine.shape.width)
    report.lines = sum(writer.lines for writer in writers)
    report.faults.update(fault.kind for fault in mine.faults)
    report.jobs, report.pruned = jobs.done, jobs.pruned


def _writers(world: World, mine: Plan, fleet: Fleet) -> list[Writer]:
    return [
        Writer(world.host(name), f"app{number}", random.Random(world.rng.random()), mine.strange)
        for name in fleet.tailers
        for number in range(world.rng.randint(1, 2))
    ]


def heal(fleet: Fleet) -> None:
    """All faults are over by now; a disk that one of them spoilt may have been left until the next start."""
    assert not fleet.world.network.cuts
    assert fleet.world.network.down.keys() == fleet.gone
    for name in (*fleet.left_bucks, *fleet.tailers):
        assert not fleet.started[name].held, name
        if fleet.started[name].spoilt:
            fleet.kill(name)
    for name in fleet.porters:
        fleet.hold(name)
        fleet.kill(name)


async def bury(fleet: Fleet, jobs: Jobs) -> None:
    """Whoever is gone is waited for no more."""
    if fleet.gone:
        await trio.sleep(QUIET_S)
    for name in sorted(fleet.gone):
        await jobs.retire(fleet.world.machine("admin"), name)


async def drain(fleet: Fleet, mine: Plan) -> None:
    """Until nobody has anything left to do. Too late is wrong."""
    with trio.move_on_after(DRAIN_S) as patience:
        await trio.sleep(QUIET_S)
        if not all(map(fleet.reads, fleet.tailers)):
            while not all(map(fleet.reads, fleet.tailers)):  # noqa: ASYNC110  # as below
                await trio.sleep(1.0)
            await trio.sleep(QUIET_S)
        if mine.once:
            for name in fleet.tailers:
                fleet.once.add(name)
                fleet.kill(name) if fleet.world.rng.random() < 0.5 else fleet.restart(name)
        done = partial(_finished if mine.once else _drained, fleet)
        while not done():  # noqa: ASYNC110  # nothing of the product's tells when it is: it is looked at
            await trio.sleep(1.0)
    if patience.cancelled_caught:
        left = {name: fleet.left(name) for name in fleet.tailers}
        raise oracle.WrongError(f"not everything is done {DRAIN_S:.0f} s after all is well: {left} {fleet.codes}")
    if any(code != DONE for code in fleet.codes.values()):
        raise oracle.WrongError(f"tailers that were to finish everything ended with {fleet.codes}")


def _finished(fleet: Fleet) -> bool:
    return set(fleet.codes) == set(fleet.tailers)


def _drained(fleet: Fleet) -> bool:
    return all(map(fleet.drained, fleet.tailers))


async def lose(fleet: Fleet, jobs: Jobs, machine: SimMachine) -> Lost:
    """All bucks are stopped in order, copies are destroyed on their disks, and they start again."""
    for name in fleet.left_bucks:
        fleet.hold(name)
        fleet.restart(name)
    while any(fleet.started[name].process is not None for name in fleet.left_bucks):  # noqa: ASYNC110  # looked at
        await trio.sleep(1.0)
    hosts = [fleet.world.host(name) for name in fleet.left_bucks]
    lost = destroy(hosts, await jobs.covered(machine), await jobs.rows(machine), fleet.world.rng)
    for name in fleet.left_bucks:
        fleet.release(name)
    await trio.sleep(QUIET_S)
    return lost


async def check(world: World, fleet: Fleet, mine: Plan, jobs: Jobs, writers: list[Writer], report: Report) -> None:
    """The judgement."""
    machine = world.machine("judge")
    hosts = [world.host(name) for name in fleet.left_bucks]
    fewer = bool(fleet.gone) or mine.meet_s < MEET_S  # there were fewer members for a while, or they seemed to be
    archived = await jobs.covered(machine)
    try:
        oracle.check_copies(hosts, 3, fleet.damaged - fleet.gone, archived)
    except oracle.WrongError:
        if not fewer:
            raise
        report.repaired = 1
    if report.repaired or mine.loses:
        await trio.sleep(SEAL_LAG_S + fleet.shape.width)
        async with jobs.cluster(machine) as cluster:
            await jobs.repair(cluster)
    oracle.check_copies(hosts, 3, fleet.damaged - fleet.gone, archived)
    report.packets = len(oracle.copies(hosts))
    lost = await lose(fleet, jobs, machine) if mine.loses else Lost()
    report.lost = sum(numbers.count for numbers in lost.packets.values())
    async with jobs.cluster(machine) as cluster:
        for name in fleet.tailers:
            own = [writer for writer in writers if writer.host.name == name]
            paths = sorted({path for writer in own for path in writer.names})
            files = await jobs.files_of_bucks(machine, cluster, name, paths)
            oracle.compare(f"{name}, from the bucks", own, files, lost.bytes.get(name, 0))
        await jobs.archive(machine, cluster)
        for last in (False, True):  # before the bucks let go of all they may, and after that
            found = await jobs.audit(machine, cluster)
            if lost.packets:
                oracle.check_gaps(found.document(), lost, mine.shape.copies > 1)
            elif found.verdict.state != COMPLETE:
                raise oracle.WrongError(f"the audit does not say complete: {found.document()}")
            if last or mine.seed % 3:
                break
            await jobs.prune(cluster)
    for name in fleet.left_bucks:
        fleet.hold(name)
        fleet.kill(name)
    for name in fleet.tailers:
        own = [writer for writer in writers if writer.host.name == name]
        paths = sorted({path for writer in own for path in writer.names})
        files = await jobs.files_of_archive(machine, name, paths)
        oracle.compare(f"{name}, from the archive", own, files, lost.bytes.get(name, 0))
    report.rows = oracle.check_rows(jobs.objects.held)
    oracle.check_verdict((await jobs.audit_archive(machine)).document(), found.document())
