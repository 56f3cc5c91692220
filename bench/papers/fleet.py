"""Paper 2, at scale: fleets of up to a thousand bucks and a hundred thousand tailers, by simulation and by formulas.

What is simulated: which bucks tailers choose, where packets fall, how news spreads, the end of a window with a dead
buck. What is computed: bytes of gossip and of a porter's questions (messages encoded by the product's codec), the time
of a repair, and the chances of loss for published rates of failure. A test holds the simulator to the formulas, and to
the product's own choosing and gossiping code, at small sizes.
"""

from __future__ import annotations

import time
from random import Random
from typing import Any

from matplotlib.axes import Axes

from bench.papers import events, fleet_exact, fleet_sizes, plots
from bench.papers.events import LINKS_ALL_MAX, LINKS_CHOSEN
from bench.papers.pages import Page
from bench.papers.results import Results
from bench.papers.steps import Figures, Room, Scale, Step
from buck.settings import BuckSettings
from protocol.limits import WIDTH_S
from tailer.mend import GATHER_S, SPREAD_S

PAPER, STEP = 2, "fleet"
SIZES = [(3, 100), (10, 1_000), (10, 10_000), (30, 10_000), (100, 10_000), (100, 100_000), (300, 100_000)]
SIZES.append((1_000, 100_000))
QUICK_TAILERS = 1_000
MINUTE_PACKETS = 12  # of a tailer at a small load: one every five seconds, as late as it closes them
PACKET_S = 60 / MINUTE_PACKETS
WINDOW_BUCKS, WINDOW_TAILERS, DIES_S = 10, 2_000, 120.0
NEWS_RUNS = 5
TAILER_BYTES = 300  # a second, stored for each copy: ten lines of a hundred bytes, packed small
ARCHIVE_H = 48.0
NOTICED_S = 3600.0  # until somebody has a dead buck's packets repaired
CHANCE_LEAST = 1e-9
# Annual rates at which what a node held is gone for ever, and who has published them.
RATES = {
    0.014: "Backblaze, Drive Stats for 2023: 1.4 % of drives a year",
    0.03: "Schroeder and Gibson, FAST 2007: 2–4 % of disks replaced a year are common in the field",
    0.13: "the same: up to 13 % in some systems",
}
COMMAND = "`.venv/bin/python -m bench papers --only fleet`"


def steps(scale: Scale) -> list[Step]:
    """One: it is seeded, and comes out the same each time."""
    return [Step(PAPER, STEP, "buck", simulate, repetitions=1)]


def simulate(room: Room) -> Figures:
    """All sizes; of a quick run only those that take no time."""
    quick = room.scale.quick
    begin = time.process_time()
    rows = [row(Random(room.seed), *size) for size in SIZES if not quick or size[1] <= QUICK_TAILERS]
    tailers = 200 if quick else WINDOW_TAILERS
    found = events.window(
        Random(room.seed), WINDOW_BUCKS, tailers, every=PACKET_S, width=WIDTH_S, gather=GATHER_S,
        sleep=SPREAD_S - GATHER_S, dies=DIES_S,
    )  # fmt: skip
    return {"rows": rows, "window": found._asdict(), "window_tailers": tailers, "cpu_s": time.process_time() - begin}


def row(random: Random, bucks: int, tailers: int) -> dict[str, Any]:
    """One fleet."""
    chosen = events.links(random, bucks, tailers)
    links = events.counted(bucks, chosen)
    copies = events.spread(random, bucks, chosen, MINUTE_PACKETS)
    each = len(chosen[0])
    return {
        "bucks": bucks,
        "tailers": tailers,
        "links": each,
        "connections": max(links),
        "spread": max(copies) / (sum(copies) / bucks),
        "bound": fleet_exact.fullest_share(bucks, tailers, MINUTE_PACKETS, each),
        "news_s": sorted(events.news(random, bucks) for _ in range(NEWS_RUNS))[NEWS_RUNS // 2],
        "gossip_bytes_per_s": fleet_sizes.gossip_rate(bucks),
        "listing_bytes": fleet_sizes.listing_of(max(links), round(WIDTH_S / PACKET_S)),
    }


# --- the page --------------------------------------------------------------------------------------------------------


def fill(results: Results, pages: dict[int, Page]) -> None:
    runs = results.of(PAPER, STEP, "buck")
    page = pages.get(PAPER)
    if page is None:
        return
    figures = runs[0].figures if runs else {"rows": [], "window": None, "window_tailers": 0}
    rows = figures["rows"]
    _load(page, rows)
    _window(page, figures)
    _loss(page)
    page.table("fleet-limits", ["bound of the formats", "at most"],
               [[one.what, f"{one.most:,}"] for one in fleet_sizes.limits()])  # fmt: skip
    page.value("fleet-command", COMMAND)
    page.value("fleet-rates", "\n".join(f"* {rate:.1%}: {source}." for rate, source in RATES.items()))


def _load(page: Page, rows: list[dict[str, Any]]) -> None:
    header = ["bucks", "tailers", "links of a tailer", "connections of the fullest buck", "copies on the fullest buck"
              " over the mean, simulated", "by the formula", "news is with all after, s", "gossip of a buck, kB/s",
              "a porter's questions a bucket", "answers to them, MB"]  # fmt: skip
    table = [
        [f"{one['bucks']:,}", f"{one['tailers']:,}", str(one["links"]), f"{one['connections']:,}",
         f"{one['spread']:.3f}", f"{one['bound']:.3f}", f"{one['news_s']:.1f}",
         f"{one['gossip_bytes_per_s'] / 1e3:.1f}", f"{one['bucks']:,}",
         f"{one['bucks'] * one['listing_bytes'] / 1e6:.1f}"]
        for one in rows
    ]  # fmt: skip
    page.table("fleet-load", header, table)
    figure, (spread, gossip) = plots.sheet(1, 2)
    places = range(len(rows))
    names = [f"{one['bucks']:,}\n{one['tailers'] // 1000 or one['tailers'] / 1000:g}k" for one in rows]
    drawn = [("simulated", "spread", plots.look("buck")), ("formula", "bound", plots.look("formula"))]
    for name, key, look in drawn:
        spread.plot(places, [one[key] for one in rows], look.mark, color=look.colour, label=name, fillstyle="none")
    spread.set_ylabel("copies on the fullest buck / mean")
    spread.legend()
    look = plots.look("buck")
    gossip.plot(places, [one["gossip_bytes_per_s"] / 1e3 for one in rows], color=look.colour, marker=look.mark)
    gossip.set_yscale("log")
    gossip.set_ylabel("gossip of a buck, kB/s")
    for axes in (spread, gossip):
        axes.set_xticks(list(places), names, fontsize=7)
        axes.set_xlabel("bucks, tailers")
    page.plot("fleet-spread", figure, "Copies given to the fullest buck in a minute over the mean, and bytes of gossip"
              " that a buck sends and is sent a second, for fleets of so many bucks and tailers")  # fmt: skip


def _window(page: Page, figures: Figures) -> None:
    figure, (puts, again) = plots.sheet(2, 1, share_x=True, high=4.4)
    window = figures["window"]
    if window is None:
        page.value("fleet-again", "not measured")
        page.value("fleet-burst", "not measured")
    else:
        _window_lines(puts, again, window)
        copies = window["again"]
        last = max((second for second, count in enumerate(copies) if count), default=0)
        page.value("fleet-again", f"{last - DIES_S:.0f} s")
        steady = window["all"][int(DIES_S) // 2 : int(DIES_S)]
        page.value("fleet-burst", f"{max(window['all']) / (sum(steady) / len(steady)):.1f}")
    fleet = f"{figures['window_tailers']:,} tailers with a packet every {PACKET_S:g} s"
    dead = f"{WINDOW_BUCKS} bucks of which one dies for ever after {DIES_S:g} s"
    page.plot("fleet-window", figure, f"The packets of one window of time, {fleet}, {dead}")


def _window_lines(puts: Axes, again: Axes, window: dict[str, list[int]]) -> None:
    mean = [count / WINDOW_BUCKS for count in window["all"]]
    puts.plot(window["busiest"], color=plots.COLOURS[1], linestyle="--", linewidth=1, label="the busiest buck")
    puts.plot(mean, color=plots.COLOURS[0], linewidth=1, label="mean of all bucks")
    puts.set_ylabel("puts a second")
    puts.legend()
    total, so_far = sum(window["again"]) or 1, 0
    shares = []
    for count in window["again"]:
        so_far += count
        shares.append(100 * so_far / total)
    again.plot(shares, color=plots.COLOURS[0])
    again.axvline(DIES_S, color=plots.COLOURS[6], linestyle=":", linewidth=1)
    again.set_ylabel("lost copies made anew, %")
    again.set_xlabel("seconds since the window began")


def _chance(value: float) -> str:
    """One digit: the models are no better than that, and beyond some point speak of nothing that will ever be seen."""
    return f"{value:.0e}" if value >= CHANCE_LEAST else f"< {CHANCE_LEAST:.0e}"


def _loss(page: Page) -> None:
    """The chances of loss are formulas alone."""
    rate = BuckSettings.model_fields["pull_rate"].default
    years = {one: ARCHIVE_H / fleet_exact.YEAR_H for one in RATES}
    header = ["bucks", "of a buck's data, 10,000 tailers, 48 h: repaired within"]
    for one in RATES:
        header += [f"{one:.1%} a year: three dead within 48 h, chance a year", "the same, repaired"]
    header.append("share of packets that three dead bucks held alone")
    rows = []
    for bucks in sorted({size[0] for size in SIZES if size[0] > 3}):
        stored = 10_000 * TAILER_BYTES * 3 * ARCHIVE_H * 3600 / bucks
        seconds = fleet_exact.repair_s(stored, bucks, rate)
        line = [f"{bucks:,}", f"{seconds:,.1f} s"]
        seconds += NOTICED_S
        for one, unrepaired in years.items():
            for repair in (unrepaired, seconds / 3600 / fleet_exact.YEAR_H):
                chance = fleet_exact.within_a_year(fleet_exact.years_to_disaster(bucks, 3, one, repair))
                line.append(_chance(chance))
        rows.append([*line, _chance(fleet_exact.share_lost(bucks, 3))])
    page.table("fleet-loss", header, rows)
    chances = (f"{fleet_exact.packet_lost(3, one, ARCHIVE_H):.0e} at {one:.1%}" for one in RATES)
    page.value("fleet-packet", ", ".join(chances))
    page.value("fleet-links", f"{LINKS_ALL_MAX} and {LINKS_CHOSEN}")
