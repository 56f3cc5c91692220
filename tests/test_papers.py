"""The claims of DESIGN §1, a test each, on small sizes: whether the results point the way that is claimed."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from bench.papers import events, fleet_exact, loads
from bench.papers.steps import Figures, Room, Scale
from bench.rivals.buck import Buck
from bench.rivals.kafka import Kafka


def test_adding_a_server_is_adding_a_server_in_fleets_of_any_size() -> None:
    """DESIGN §1, claim 2, "adding a server is adding a server": nobody is told to move anything, and yet the load of
    each buck falls as their number grows, and stays even; a tailer's links stay few."""
    loads = []
    for bucks in (10, 20, 100, 400):
        chosen = events.links(Random(bucks), bucks, 2_000)
        copies = events.spread(Random(bucks), bucks, chosen, 12)
        assert len(chosen[0]) <= events.LINKS_ALL_MAX
        assert max(copies) / (sum(copies) / bucks) < fleet_exact.fullest_share(bucks, 2_000, 12, len(chosen[0])) + 0.1
        loads.append(max(copies))
    assert loads == sorted(loads, reverse=True)
    assert loads[-1] < loads[0] / 15


@pytest.mark.slow
def test_a_store_without_a_master_carries_the_same_lines_for_less(tmp_path: Path, shared_data: Path) -> None:
    """DESIGN §1, claim 2, "an elected master adds nothing to delivery or reliability here": the same lines with the
    same number of copies, acknowledged by two at least and read back whole, take fewer bytes on the nodes' disks, less
    CPU beside what starting the client takes, less memory and less time to be ready."""
    if why := Kafka.missing():
        pytest.skip(why)
    scale = Scale(True, tuple(sorted((shared_data / "logs/loghub_full").iterdir())), 1, 20_000_000)

    def figures(name: str) -> Figures:
        (tmp_path / name).mkdir()
        system = next(one for one in loads.systems(scale) if one.kind.name == name)
        return loads.measure(system, [system.full], Room(tmp_path / name, scale, 1))

    kafka, buck = figures(Kafka.name), figures(Buck.name)
    assert buck["three copies: stored_share"] < 0.8 * kafka["kcat: stored_share"]
    ours = buck["three copies: cpu_s_per_gb"] - buck["three copies: start_cpu_s_per_gb"]
    assert ours < 0.7 * (kafka["kcat: cpu_s_per_gb"] - kafka["kcat: start_cpu_s_per_gb"])
    assert buck["idle_rss_mb"] < 0.5 * kafka["idle_rss_mb"]
    assert buck["ready_s"] < kafka["ready_s"]
