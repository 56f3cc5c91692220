"""Whole clusters under one kind of fault each, by the numbers of the list; at the end all is as the oracle says."""

from dataclasses import replace

import trio

from tests.simulation.cluster import Fleet, Shape
from tests.simulation.faults import Fault
from tests.simulation.loss import packets_in, stored
from tests.simulation.machine import NS, START_NS
from tests.simulation.seeds import Plan, run_plan

BUCKS = ("b1", "b2", "b3", "b4")


def planned(*faults: Fault, seed: int = 1, bucks: int = 4, tailers: int = 2, duration: float = 50.0) -> Plan:
    """Windows of ten seconds, 2,000 lines, and these faults."""
    shape = Shape(bucks=bucks, tailers=tailers, width=10)
    return Plan(seed, shape, duration, 2_000, 0.05, once=False, start_ns=START_NS, faults=faults, strange=0.0)


def cut(at: float, length: float, *pairs: str, one_way: bool = False) -> Fault:
    """No way between these pairs, each written as `a-b`."""
    ways = [tuple(pair.split("-")) for pair in pairs]
    text = " ".join(f"{a}>{b}" if one_way else f"{a}>{b} {b}>{a}" for a, b in ways)
    return Fault(at, "cut", (), length, text)


def test_C1_without_any_fault_everything_is_complete() -> None:
    report = run_plan(planned(bucks=5, tailers=3, duration=60.0))
    assert report.windows == 6


def test_C2_a_buck_killed_at_random_instants() -> None:
    faults = [Fault(at, "kill", (BUCKS[index % 4],), 3.0) for index, at in enumerate((6.1, 13.7, 22.2, 29.9, 38.3))]
    run_plan(planned(*faults))


def test_C3_all_bucks_killed_at_once() -> None:
    run_plan(planned(Fault(12.3, "kill", BUCKS, 2.0), Fault(33.3, "kill", BUCKS, 6.0)))


def test_C4_a_stopped_buck_goes_on_later() -> None:
    """Acks of packets that it took late come when the packets are long on others."""
    faults = Fault(11.0, "stop", ("b1",), 35.0), Fault(20.0, "stop", ("b2", "b3"), 12.0)
    run_plan(planned(*faults))


def test_C5_a_tailer_killed_between_its_steps() -> None:
    """Between the write to the journal, the sync, the send, the ack, the seal and the third copy."""
    moments = (
        "tailer.segment.written:3", "tailer.journal.before_sync:4", "tailer.send.put:3", "tailer.send.answered:2",
        "tailer.sealing.signed:1", "tailer.sealing.synced:1", "tailer.mend.copy:2", "tailer.mend.receipt:1",
    )  # fmt: skip
    faults = [Fault(5.0 + 9.0 * index, "kill_at", (), 8.5, moment) for index, moment in enumerate(moments)]
    run_plan(planned(*faults, duration=80.0))


def test_C9_power_of_all_bucks_at_once_with_tailers_alive() -> None:
    run_plan(planned(Fault(14.6, "power", BUCKS, 3.0), Fault(36.1, "power", BUCKS, 5.0)))


def test_C10_power_cut_that_keeps_names_and_lengths_but_no_data() -> None:
    """Files come back empty, full of zeros, or with zeros in the middle of packets, of one host after another."""
    how = ("b1", "sectors"), ("t1", "zeros"), ("b2", "zeros"), ("b3", "sectors"), ("t2", "sectors"), ("b4", "empty")
    faults = [Fault(8.0 + 9.0 * at, "power", (name,), 2.0, value) for at, (name, value) in enumerate(how)]
    run_plan(planned(*faults, seed=4, duration=70.0))  # nobody prunes in this one


def test_C16_partitions_of_every_shape() -> None:
    halves = [f"{a}-{b}" for a in ("b1", "b2", "t1") for b in ("b3", "b4", "t2")]
    bridge = [f"{a}-{b}" for a in ("b1", "t1") for b in ("b3", "b4", "t2")]
    run_plan(
        planned(
            cut(4.0, 9.0, *(f"b1-{other}" for other in ("b2", "b3", "b4", "t1", "t2"))),
            cut(16.0, 12.0, *halves),
            cut(31.0, 10.0, *bridge),
            cut(44.0, 8.0, "b1-b3", "b2-b4"),
            cut(55.0, 12.0, "t1-b1", "b2-t2", "b3-b1", one_way=True),
            cut(70.0, 8.0, *(f"t1-{buck}" for buck in BUCKS)),
            duration=80.0,
        )
    )


def test_C17_with_one_buck_in_reach_packets_wait_in_the_journal() -> None:
    seen: list[tuple[int, int]] = []

    async def probe(fleet: Fleet) -> None:
        await trio.sleep(34.0)
        for name in fleet.tailers:
            ledger = fleet.agents[name].journal.ledger
            late = [entry for entry in ledger.unplaced.values() if len(entry.stored) == 1]
            seen.append((len(late), len([e for e in ledger.entries.values() if e.done and e.slot in ledger.unplaced])))

    away = [f"{tailer}-{buck}" for tailer in ("t1", "t2") for buck in ("b1", "b2", "b3")]
    run_plan(planned(cut(10.0, 25.0, *away)), probe)
    assert all(waiting >= 1 for waiting, _ in seen), "one copy is not A1"
    assert all(done == 0 for _, done in seen)


def test_C18_slow_lossy_and_half_open_ways() -> None:
    """1,000 bytes a second, answers after two seconds, resets in the middle, a host that goes without a word."""
    run_plan(
        planned(
            Fault(4.0, "slow", ("b1",), 14.0, 1_000.0),
            Fault(12.0, "lag", ("b2",), 12.0, 2.0),
            Fault(18.0, "reset", ("t1",), 0.0),
            Fault(26.0, "reset", ("b3",), 0.0),
            Fault(27.0, "power", ("b4",), 10.0),
            Fault(30.0, "slow", ("t2",), 10.0, 1_000.0),
            Fault(41.0, "reset", ("t2",), 0.0),
        )
    )


def test_C20_clocks_that_are_wrong_or_jump() -> None:
    run_plan(
        planned(
            Fault(4.0, "skew", ("b1",), 25.0, 3 * 86_400),
            Fault(8.0, "skew", ("b2",), 12.0, -3_600),
            Fault(21.0, "jumps", ("b3",), 12.0),
            Fault(10.0, "skew", ("t1",), 15.0, 3_600),
            Fault(26.0, "skew", ("t1",), 10.0, -3_600),
            Fault(30.0, "jumps", ("t2",), 15.0),
        )
    )


def test_C22_a_resend_while_the_first_pair_comes_back() -> None:
    """What two stopped bucks took, and others got again meanwhile, is there once."""
    run_plan(
        planned(
            Fault(7.0, "stop", ("b1", "b2"), 9.0),
            Fault(18.0, "stop", ("b3", "b4"), 9.0),
            Fault(30.0, "stop", ("b1", "b3"), 9.0),
            Fault(41.0, "kill", ("b2", "b4"), 4.0),
        )
    )


def test_C36_lines_of_any_time_are_filed_once() -> None:
    """At the edges of windows, delayed, days old, early, and of 1970: in their own window if it is near, else in that
    of their arrival."""
    fleets: list[Fleet] = []

    async def probe(fleet: Fleet) -> None:
        fleets.append(fleet)

    run_plan(
        replace(planned(Fault(15.0, "kill", ("b1",), 3.0)), strange=1.0, seed=40), probe
    )  # nobody prunes in this one
    [fleet] = fleets
    start, end = START_NS // NS, START_NS // NS + 70
    files = [node for name in fleet.bucks for node in stored(fleet.world.host(name).platter.root)]
    buckets = {header.bucket for node in files for _, _, header in packets_in(node.data)}
    own = {bucket for bucket in buckets if bucket < start - 10}
    assert own, "lines of two hours ago are in their own windows"
    assert all(start - 7_220 < bucket < end - 7_200 for bucket in own), "what is older than a day isn't"
    assert max(buckets) <= end, "nothing is filed an hour or days ahead"
