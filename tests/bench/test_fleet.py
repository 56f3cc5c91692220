"""Fleets by simulation: the simulator against formulas, and against the product's own code, at small sizes."""

from __future__ import annotations

from collections import Counter
from math import comb, sqrt
from pathlib import Path
from random import Random
from statistics import mean
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.papers import events, fleet, fleet_exact, fleet_sizes
from bench.papers.events import Queue
from bench.papers.pages import Page
from bench.papers.results import Results, Row
from bench.papers.steps import Room, Scale
from buck.members import Members as View
from protocol.identity import node_id
from protocol.limits import PEERS_FRAME_MAX
from protocol.messages import Peer
from tailer import members as tailers


def test_what_is_due_happens_in_order_of_time_and_what_was_said_first_comes_first() -> None:
    queue, seen = Queue(), []
    queue.at(2.0, lambda: seen.append("c"))
    queue.at(1.0, lambda: queue.after(1.0, lambda: seen.append("d")))
    queue.at(1.0, lambda: seen.append("a"))
    queue.at(9.0, lambda: seen.append("late"))
    queue.run(until=5.0)
    assert (seen, queue.now) == (["a", "c", "d"], 5.0)
    with pytest.raises(ValueError, match=r"4.0 has passed: it is 5.0"):
        queue.at(4.0, lambda: None)


# --- whom tailers choose ---------------------------------------------------------------------------------------------


def chosen_by_the_product(bucks: int, count: int) -> list[list[int]]:
    """Which bucks tailers link, by tailer/members.py."""
    all_of_them = [tailers.Buck(node_id(bytes([i]) * 32), f"b{i}:7411", host=b"b%d" % i, zone="") for i in range(bucks)]
    place = {buck.address: i for i, buck in enumerate(all_of_them)}
    found = []
    for tailer in range(count):
        key = SimpleNamespace(node=node_id(tailer.to_bytes(32)))
        members = SimpleNamespace(bucks={buck.node: buck for buck in all_of_them}, key=key)
        members._dealt = tailers.Members._dealt.__get__(members)
        chosen = tailers.Members._chosen(cast(Any, members))
        found.append(sorted(place[address] for address in chosen))
    return found


def test_tailers_link_as_many_bucks_as_the_product_links_and_as_evenly() -> None:
    assert (events.LINKS_ALL_MAX, events.LINKS_CHOSEN) == (tailers.LINKS_ALL_MAX, tailers.LINKS_CHOSEN)
    assert chosen_by_the_product(16, 2) == events.links(Random(1), 16, 2) == [list(range(16))] * 2
    real = events.counted(30, chosen_by_the_product(30, 600))
    ours = events.counted(30, events.links(Random(1), 30, 600))
    assert sum(real) == sum(ours) == 8 * 600
    sigma = sqrt(600 * 8 / 30 * (1 - 8 / 30))  # of a binomial distribution
    for counts in (real, ours):
        assert max(abs(count - 160) for count in counts) < 4 * sigma
        assert sqrt(mean((count - 160) ** 2 for count in counts)) > sigma / 2


@pytest.mark.parametrize(("bucks", "count", "packets"), [(3, 200, 20), (10, 500, 12), (100, 2_000, 12)])
def test_copies_fall_as_evenly_as_the_formula_says(bucks: int, count: int, packets: int) -> None:
    shares = []
    for seed in range(8):
        random = Random(seed)
        chosen = events.links(random, bucks, count)
        copies = events.spread(random, bucks, chosen, packets)
        assert sum(copies) == 2 * packets * count
        shares.append(max(copies) / (sum(copies) / bucks) - 1)
    bound = fleet_exact.fullest_share(bucks, count, packets, len(chosen[0])) - 1
    assert 0.3 * bound < mean(shares) <= bound


def test_each_pair_of_bucks_is_drawn_alike_and_no_buck_twice() -> None:
    pairs = Counter(tuple(events.spread(Random(seed), 4, [range(4)], 1)) for seed in range(6_000))
    assert len(pairs) == comb(4, 2)
    assert all(max(pair) == 1 for pair in pairs)
    assert all(abs(count - 1_000) < 150 for count in pairs.values())


# --- gossip ----------------------------------------------------------------------------------------------------------


def news_by_the_product(random: Random, count: int) -> float:
    """The same as `events.news`, with the product's members, all of whom have met."""
    peers = [Peer(node_id(bytes([i]) * 32), bytes([i]) * 32, f"b{i}:7411", b"b", "", 1, 0, False) for i in range(count)]
    views = [View(peer, [], random, peers[:i] + peers[i + 1 :]) for i, peer in enumerate(peers)]
    place = {peer.address: view for peer, view in zip(peers, views, strict=True)}
    for view in views:
        for peer in peers:
            view.shown(peer.node, peer.public, peer.address, 0.0)
    views[0].beat(free=77)
    queue, known_at = Queue(), [0.0]
    knows = {0}

    def exchange(i: int) -> None:
        other = place[views[i].tick(queue.now) or ""]
        mine, theirs = views[i].view(), other.view()
        other.step(mine, queue.now)
        views[i].step(theirs, queue.now)
        for at, view in enumerate(views):
            if at not in knows and any(peer.free == 77 for peer in view.view()):
                knows.add(at)
                known_at.append(queue.now)
        queue.after(1.0, lambda: exchange(i))

    for i in range(count):
        queue.at(random.random(), lambda i=i: exchange(i))  # type: ignore[misc]  # bound now
    queue.run(until=20.0)
    assert len(knows) == count
    return known_at[-1]


def test_news_spreads_as_fast_as_by_the_product_s_own_members() -> None:
    real = mean(news_by_the_product(Random(seed), 12) for seed in range(12))
    ours = mean(events.news(Random(seed), 12) for seed in range(100))
    assert abs(real - ours) < 0.6
    assert 1.0 < ours < 4.0
    assert events.news(Random(1), 400) < 10.0  # a logarithm


def test_gossip_and_listings_grow_with_what_they_name_and_fit_their_frames() -> None:
    sizes = [fleet_sizes.gossip(count) for count in (10, 20, 1_000)]
    assert sizes[2] < PEERS_FRAME_MAX
    each = (sizes[1] - sizes[0]) / 10
    assert 90 < each < 130  # a node id, a key, an address, and so on
    assert abs(sizes[2] - 1_000 * each) < 3_000
    assert fleet_sizes.listing_of(2_000, 60) == pytest.approx(fleet_sizes.listing(2_000, 60), rel=0.02)
    assert fleet_sizes.listing(10, 60) < 10 * 150  # numbers are packed as differences
    assert {one.most for one in fleet_sizes.limits()} >= {1_024, 32_768}


# --- a window with a death -------------------------------------------------------------------------------------------


def test_each_packet_has_three_copies_and_what_a_dead_buck_held_is_made_anew_in_time() -> None:
    found = events.window(Random(3), 6, 50, every=5.0, width=60.0, gather=6.0, sleep=54.0, dies=30.0)
    packets = 50 * 12
    lost = sum(found.again)
    assert sum(found.all) == 3 * packets + lost
    assert 0.7 < lost / (packets * 2 / 6 / 2) < 1.3  # the dead buck's share of the half that came before its death
    seconds = [second for second, count in enumerate(found.again) if count]
    assert 66 <= min(seconds) <= max(seconds) <= 120  # one window and sixty seconds


# --- death for ever --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bucks", "copies"), [(3, 2), (6, 2), (5, 3)])
def test_disasters_are_as_frequent_as_the_chain_says(bucks: int, copies: int) -> None:
    years = 600.0
    found = events.disasters(Random(5), bucks, copies, deaths=2.0, repair=0.1, years=years)
    wanted = years / fleet_exact.years_to_disaster(bucks, copies, 2.0, 0.1)
    assert wanted > 100
    assert abs(found - wanted) < 4 * sqrt(wanted)


def test_formulas_give_known_values() -> None:
    one, mu = 0.1, 50.0
    mirrored = (3 * one + mu) / (2 * one**2)  # two disks that mirror each other: Patterson, Gibson and Katz, 1988
    assert fleet_exact.years_to_disaster(2, 2, one, 1 / mu) == pytest.approx(mirrored)
    assert fleet_exact.share_lost(6, 3) == 1 / 20  # the 5 % of DESIGN, promises
    assert fleet_exact.fullest(10_000, 100) == pytest.approx(130.3, abs=0.1)
    assert fleet_exact.within_a_year(1e6) == pytest.approx(1e-6, rel=1e-5)
    assert fleet_exact.packet_lost(2, 0.5, 24 * 365.25) == pytest.approx(0.1548, abs=1e-4)
    assert fleet_exact.repair_s(96e9, 4, 32e6) == 1_000.0


# --- the page --------------------------------------------------------------------------------------------------------

TEXT = "{{fleet-load}}{{fleet-spread}}{{fleet-window}}{{fleet-again}}{{fleet-burst}}{{fleet-loss}}{{fleet-limits}}"
TEXT += "{{fleet-command}}{{fleet-rates}}{{fleet-packet}}{{fleet-links}}"


def test_a_quick_run_fills_the_page_and_so_does_none(tmp_path: Path) -> None:
    (tmp_path / "text.md").write_text(TEXT)
    scale = Scale.of(True, [])
    step = fleet.steps(scale)[0]
    for done in (False, True):
        results = Results(tmp_path / f"results{done}")
        if done:
            results.add(Row(2, step.name, step.system, "", 0), step.run(Room(tmp_path, scale, 1)), 1, 1.0)
        page = Page(2, results)
        fleet.fill(results, {2: page})
        page.write(tmp_path / "2.md", tmp_path / "text.md")
        text = (tmp_path / "2.md").read_text()
        assert ("not measured" in text) != done
        assert "{{" not in text
    assert "| 10 | 1,000 | 10 | 1,000 |" in text


def test_chances_have_a_digit_and_an_end() -> None:
    assert [fleet._chance(one) for one in (0.0312, 1.2e-9, 9e-10, 0.0)] == ["3e-02", "1e-09", "< 1e-09", "< 1e-09"]
