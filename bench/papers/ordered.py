"""Paper 3: windows in order. Steps and pages; what is measured stands in windows.py, the arithmetic in growth.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.measure import Spread, spread
from bench.papers import windows
from bench.papers.disorder import LATE_MAX_US, WINDOW_S
from bench.papers.growth import better, comparisons, passes, trie_depth
from bench.papers.pages import Page, cell
from bench.papers.plots import look, sheet
from bench.papers.results import Results
from bench.papers.steps import GB, Scale, Step
from bench.papers.windows import BUCKETS, MEMORY, MERGE, OWN, OWN_MAX, SORT
from bench.rivals.kafka import Kafka
from bench.rivals.nats import Nats

PAPER, NAME = 3, "ordered"
SYSTEMS = [("buck", MERGE), *((system, way) for system in ("kafka", "nats") for way in (SORT, OWN, BUCKETS))]
TURNS = {SORT: 0, OWN: 1, BUCKETS: 2, MERGE: 0}
AIMS = {SORT: 0.5, BUCKETS: 0.8}

Row = dict[str, Any]


def steps(scale: Scale) -> list[Step]:
    """One step a system: it holds all sizes, as a larger one goes on where a smaller one ended."""
    return [
        Step(PAPER, NAME, "buck", windows.buck, repetitions=1),
        Step(PAPER, NAME, "kafka", windows.kafka, missing=Kafka.missing(), repetitions=1),
        Step(PAPER, NAME, "nats", windows.nats, missing=Nats.missing(), repetitions=1),
    ]


def fill(results: Results, pages: dict[int, Page]) -> None:
    """All places of paper 3."""
    page = pages.get(PAPER)
    if page is None:
        return
    rows = {system: _rows(results, *system) for system in SYSTEMS}
    _costs(results, page, rows)
    _bytes(results, page, rows)
    _growths(page, rows)
    _least(results, page, rows)
    _aims(page, rows)
    _differences(results, page)
    _filed(results, page)
    _written(page, rows["kafka", SORT])
    _plots(page, rows)


def _rows(results: Results, system: str, way: str) -> list[Row]:
    return [row for one in results.of(PAPER, NAME, system) for row in one.figures["rows"] if row["way"] == way]


def per_gb(row: Row) -> float:
    """CPU seconds of readers, sorters and servers for 10^9 bytes of logs."""
    return float((row["cpu_s"] + row["servers_cpu_s"]) * GB / row["size"])


def by_size(rows: Sequence[Row], figure: Any) -> dict[int, Spread]:
    """A figure over the repetitions of each size, smallest first."""
    targets = sorted({row["target"] for row in rows})
    return {target: spread([figure(row) for row in rows if row["target"] == target]) for target in targets}


def _costs(results: Results, page: Page, rows: dict[tuple[str, str], list[Row]]) -> None:
    """What a GB costs, and when windows come, at each size."""
    targets = sorted({row["target"] for some in rows.values() for row in some})
    header = ["system and way", *(f"{target / GB:g} GB" for target in targets)]
    cpu: list[list[str]] = []
    first: list[list[str]] = []
    last: list[list[str]] = []
    for (system, way), some in rows.items():
        why = ["not at this size"] if some else results.absent(PAPER, NAME, system, "")
        for table, figure in (
            (cpu, per_gb),
            (first, lambda row: row["first_s"]),
            (last, lambda row: row["last_s"]),
        ):
            found = by_size(some, figure)
            table.append([f"{system}, {way}", *(cell(found.get(target), why=why) for target in targets)])
    page.table("cpu", header, cpu)
    page.table("first", header, first)
    page.table("last", header, last)


def _bytes(results: Results, page: Page, rows: dict[tuple[str, str], list[Row]]) -> None:
    """Memory and I/O at the largest size that each way was measured at."""
    table = []
    for (system, way), some in rows.items():
        if not some:
            table.append([f"{system}, {way}", cell(None, why=results.absent(PAPER, NAME, system, "")), *[""] * 4])
            continue
        target = max(row["target"] for row in some)
        chosen = [row for row in some if row["target"] == target]
        ratios = [cell(spread([row[key] / row["size"] for row in chosen])) for key in ("read", "written", "stored")]
        peak = cell(spread([row["peak"] / 1e6 for row in chosen]))
        table.append([f"{system}, {way}", f"{target / GB:g}", peak, *ratios])
    header = ["system and way", "GB", "peak memory, MB", "read / raw", "written / raw", "into files / raw"]
    page.table("bytes", header, table)


def _growths(page: Page, rows: dict[tuple[str, str], list[Row]]) -> None:
    """All laws through every way's points."""
    table = []
    for (system, way), some in rows.items():
        found = by_size(some, lambda row: row["cpu_s"] + row["servers_cpu_s"])
        if len(found) < 2:
            continue
        events = [one.median for one in by_size(some, lambda row: row["lines"]).values()]
        room = MEMORY / some[-1]["size"] * some[-1]["lines"]
        for fit in better(events, [one.median for one in found.values()], room):
            grows = fit.at(events[-1]) / fit.at(events[-1] / 2) / 2
            line = [f"{system}, {way}", fit.law, f"{fit.fixed:.2g}", f"{fit.worst:.1%}", f"{grows - 1:+.1%}"]
            table.append(line)
    header = [
        "system and way",
        "law (the best first)",
        "fixed, CPU-s",
        "largest residual",
        "a GB's cost when doubled",
    ]
    page.table("growth", header, table or [["none", "", "", "", ""]])


def _least(results: Results, page: Page, rows: dict[tuple[str, str], list[Row]]) -> None:
    """What no implementation can do without."""
    mine = rows["buck", MERGE]
    found = results.of(PAPER, NAME, "buck")
    if not mine or not found:
        page.table("least", ["what must be told apart", "events", "comparisons an event"], [["not measured", "", ""]])
        page.value("passes", "(not measured)")
        page.value("depth", str(trie_depth(WINDOW_S * 10**8)))
        return
    largest = max(mine, key=lambda row: row["size"])
    lines, size, window = largest["lines"], largest["size"], found[0].figures["window_raw"]
    inside = max(1, round(lines * window / size))
    late = max(1, round(inside * LATE_MAX_US / 1e6 / WINDOW_S))
    kinds = [("everything", lines), ("a window, once events lie in theirs", inside), ("what may still come late", late)]
    table = [[what, f"{n:,}", f"{comparisons(n):.1f}"] for what, n in kinds]
    page.table("least", ["what must be told apart", "events", "comparisons an event"], table)
    page.value("passes", _often(passes(size, found[0].figures["memory"])))
    page.value("depth", str(trie_depth(WINDOW_S * 10**8)))


def _often(times: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(times, f"{times} times")


def _written(page: Page, rows: Sequence[Row]) -> None:
    """What GNU sort wrote to files at its largest size, and the memory that each way has."""
    most = max((row["target"] for row in rows), default=0)
    stored = [row["stored"] / row["size"] for row in rows if row["target"] == most]
    page.value("gnu stored", cell(spread(stored) if stored else None))
    page.value("gnu size", f"{most / GB:g} GB" if stored else "no size")
    page.value("memory", f"{MEMORY / 1e6:.0f} MB")


def _aims(page: Page, rows: dict[tuple[str, str], list[Row]]) -> None:
    """Buck's CPU beside the others', at the largest size that both have; and how flat it is."""
    mine = by_size(rows["buck", MERGE], per_gb)
    table = []
    for (system, way), some in rows.items():
        other = by_size(some, per_gb)
        both = sorted(set(mine) & set(other))
        if system == "buck" or not both:
            continue
        ratio = mine[both[-1]].median / other[both[-1]].median
        aim = AIMS.get(way) if system == "kafka" else None
        reached = "" if aim is None else f"{aim}: {'reached' if ratio <= aim else 'missed'}"
        table.append([f"{system}, {way}", f"{both[-1] / GB:g} GB", f"{ratio:.2f}", reached])
    page.table("aims", ["beside", "at", "Buck's CPU-s a GB / its", "aim"], table or [["none", "", "", ""]])
    values = [one.median for one in mine.values()]
    half = values[len(values) // 2 :]
    flat = f"{min(half):.2f} to {max(half):.2f}" if half else "not measured"
    page.value("flat", f"{flat} CPU-s a GB over the larger half of the sizes")
    page.value("repetitions", "; ".join(f"{system}, {way}: {_counts(some)}" for (system, way), some in rows.items()))


def _counts(rows: Sequence[Row]) -> str:
    targets = sorted({row["target"] for row in rows})
    return ", ".join(f"{sum(row['target'] == t for row in rows)} of {t / GB:g} GB" for t in targets) or "none"


def _filed(results: Results, page: Page) -> None:
    """Over how many windows Buck had spread what was sent, and what it cost each system to take it in."""
    table = []
    for system in dict.fromkeys(system for system, _ in SYSTEMS):
        costs = [one.figures["loading_cpu_s"] * GB / one.figures["loaded"] for one in results.of(PAPER, NAME, system)]
        table.append([system, cell(spread(costs) if costs else None, why=results.absent(PAPER, NAME, system, ""))])
    page.table("loading", ["system", "CPU-s a GB, senders and servers"], table)
    page.value("own", f"{OWN_MAX / GB:g} GB")
    found = [one.figures for one in results.of(PAPER, NAME, "buck")]
    page.value(
        "windows", " or ".join(f"{one['buckets']} windows" for one in found) or "no windows, as none was measured"
    )
    page.value("window", " or ".join(f"{one['window_raw'] / 1e6:g} MB" for one in found) or "not measured")


def _differences(results: Results, page: Page) -> None:
    lines = []
    for system in ("buck", "kafka", "nats"):
        for one in results.of(PAPER, NAME, system)[:1]:
            lines += [f"- {system}: {text}." for text in one.figures["differences"]]
        lines += [f"- {system}: {why}." for why in results.absent(PAPER, NAME, system, "")]
    page.value("differences", "\n".join(lines))


def _plots(page: Page, rows: dict[tuple[str, str], list[Row]]) -> None:
    figure, (left, right) = sheet(1, 2)
    for (system, way), some in rows.items():
        looks, label = look(system, TURNS[way]), f"{system}, {way}"
        for axes, value in ((left, per_gb), (right, lambda row: row["first_s"])):
            found = by_size(some, value)
            sizes, costs = [target / GB for target in found], [one.median for one in found.values()]
            axes.plot(sizes, costs, color=looks.colour, ls=looks.dashes, marker=looks.mark, label=label)
    for axes, title in ((left, "CPU-s a GB"), (right, "seconds until the first window")):
        if any(rows.values()):  # without points there is no logarithm of anything
            axes.set_xscale("log", base=2)
        axes.set_xlabel("GB of logs")
        axes.set_ylabel(title)
    left.set_ylim(bottom=0)
    if any(rows.values()):
        right.set_yscale("log")
    left.legend(fontsize=6)
    page.plot(
        "growth-plot", figure, "CPU seconds a GB, and seconds until the first window is there, by size of the logs."
    )
