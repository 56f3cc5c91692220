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

from porter.verdict import COMPLETE
from service.run import DONE
from tests.simulation import oracle
from tests.simulation.cluster import Fleet, Shape
from tests.simulation.faults import Fault, befall
from tests.simulation.jobs import Jobs
from tests.simulation.machine import NS, START_NS, World, simulate
from tests.simulation.schedule import draw
from tests.simulation.writers import Writer

WINDOWS = (3, 4)
LINES = (2_000, 3_500)
# From the moment when all is well again, in virtual time: everything is done, and sealed.
DRAIN_S = 600.0
QUIET_S = 8.0  # what a tailer still gathers is in a packet by then
ROUNDS_MAX = 5_000  # of steps of all tasks, without any time passing: more is a loop that never ends

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

    def __str__(self) -> str:
        shape = ", ".join(f"{name} {value}" for name, value in vars(self.shape).items())
        head = f"seed {self.seed}: {shape}; {self.duration:.0f} s, {self.lines} lines, once at the end: {self.once}"
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
    rows: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)


class Watchdog(trio.abc.Instrument):
    """Counts how often all tasks that can run have run, without time passing."""

    def __init__(self) -> None:
        self.at, self.rounds = -1.0, 0

    def before_io_wait(self, timeout: float) -> None:
        now = trio.current_time()
        self.rounds = self.rounds + 1 if now == self.at else 0
        self.at = now
        assert self.rounds < ROUNDS_MAX, "some tasks make steps again and again and never wait"


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
    )


def run_seed(seed: int) -> Report:
    """Run it; a WrongError, or any other, if something isn't as promised."""
    return run_plan(plan(seed))


def run_plan(mine: Plan, probe: Probe | None = None) -> Report:
    """The same for a plan that a test has written; `probe` may look at the fleet while everything fails."""
    report, began = Report(mine.seed), time.process_time()
    try:
        simulate(mine.seed, _scenario, mine, report, probe, instruments=[Watchdog()])
    except BaseException as error:
        error.add_note(f"{mine}\n  again: make simulate SEED={mine.seed}")
        raise
    finally:
        Fleet.stop_watching()
    report.cpu_s = time.process_time() - began
    return report


async def _scenario(world: World, mine: Plan, report: Report, probe: Probe | None) -> None:
    world.start_ns = mine.start_ns
    async with trio.open_nursery() as nursery:
        fleet = Fleet(world, mine.shape, nursery)
        fleet.watch_agents()
        jobs = Jobs(fleet)
        writers = _writers(world, mine, fleet)
        await fleet.start_all()
        jobs.start()
        async with trio.open_nursery() as acting:
            for writer in writers:
                acting.start_soon(writer.run, fleet.began + mine.duration, -(-mine.lines // len(writers)), mine.rotate)
            acting.start_soon(befall, fleet, mine.faults)
            if probe is not None:
                acting.start_soon(probe, fleet)
        heal(fleet)
        await drain(fleet, mine)
        await check(world, fleet, jobs, writers, report)
        nursery.cancel_scope.cancel()
    report.trace, report.operations = world.trace.hexdigest(), world.trace.count
    report.virtual_s, report.windows = trio.current_time(), int(mine.duration // mine.shape.width)
    report.lines = sum(writer.lines for writer in writers)
    report.faults.update(fault.kind for fault in mine.faults)
    report.jobs = jobs.done


def _writers(world: World, mine: Plan, fleet: Fleet) -> list[Writer]:
    return [
        Writer(world.host(name), f"app{number}", random.Random(world.rng.random()), mine.strange)
        for name in fleet.tailers
        for number in range(world.rng.randint(1, 2))
    ]


def heal(fleet: Fleet) -> None:
    """All faults are over by now; a disk that one of them spoilt may have been left until the next start."""
    assert not fleet.world.network.cuts
    assert not fleet.world.network.down
    for name in (*fleet.bucks, *fleet.tailers):
        assert not fleet.started[name].held, name
        if fleet.started[name].spoilt:
            fleet.kill(name)
    for name in fleet.porters:
        fleet.hold(name)
        fleet.kill(name)


async def drain(fleet: Fleet, mine: Plan) -> None:
    """Until nobody has anything left to do. Too late is wrong."""
    with trio.move_on_after(DRAIN_S) as patience:
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


async def check(world: World, fleet: Fleet, jobs: Jobs, writers: list[Writer], report: Report) -> None:
    """The judgement."""
    machine = world.machine("judge")
    hosts = [world.host(name) for name in fleet.bucks]
    async with jobs.cluster(machine) as cluster:
        for name in fleet.tailers:
            mine = [writer for writer in writers if writer.host.name == name]
            paths = sorted({path for writer in mine for path in writer.names})
            oracle.compare(f"{name}, from the bucks", mine, await jobs.files_of_bucks(cluster, name, paths))
        await jobs.archive(machine, cluster)
        found = await jobs.audit(cluster)
        if found.verdict.state != COMPLETE:
            raise oracle.WrongError(f"the audit does not say complete: {found.document()}")
    for name in fleet.bucks:
        fleet.hold(name)
        fleet.kill(name)
    oracle.check_copies(hosts, 3, fleet.damaged)
    report.packets = len(oracle.copies(hosts))
    for name in fleet.tailers:
        mine = [writer for writer in writers if writer.host.name == name]
        paths = sorted({path for writer in mine for path in writer.names})
        oracle.compare(f"{name}, from the archive", mine, await jobs.files_of_archive(machine, name, paths))
    report.rows = oracle.check_rows(jobs.objects.held)
    oracle.check_verdict((await jobs.audit_archive(machine)).document(), found.document())
