"""Paper 1: durability chosen per message, beside one setting for all. What runs, and what its page is filled with."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.measure import Spread
from bench.papers import carry, complete, expected, mixed, plots, syncs
from bench.papers.hit import CASES, PATIENCE_S, hit
from bench.papers.pages import Page, cell
from bench.papers.results import Results
from bench.papers.steps import Figures, Room, Scale, Step
from bench.rivals import mix, nets, power
from bench.rivals.buck import Buck
from bench.rivals.kafka import Kafka
from bench.rivals.rival import Rival, Settings

PAPER = 1
COSTS, LOSSES = "costs", "losses"
SYSTEMS: list[type[Kafka] | type[Buck]] = [Kafka, Buck]
RAW_BYTES, QUICK_BYTES = 150_000_000, 16_000_000
WARM_BYTES, QUICK_WARM_BYTES = 30_000_000, 1_000_000
SIZES = (3, 4, 5, 6)  # of clusters whose losses are enumerated
RATE, QUICK_RATE = 2000.0, 400.0  # events a second, of all kinds together
PACED_S, QUICK_PACED_S = 6.0, 1.5
HIT_RATE, HIT_S, LOSSES_S = 1000.0, 2.0, 150.0
RARE = 10_000  # of fewer events the thousandth part is a handful: the slowest is shown
SETTINGS = Settings(mix="each", linger_ms=5)  # for events at a steady rate; full load takes 50 ms, its best
COLUMNS = [
    ("CPU-s per raw GB", "cpu_s_per_gb"),
    ("of that servers", "servers_cpu_s_per_gb"),
    ("network, of raw", "network_of_raw"),
    ("stored, of raw", "stored_of_raw"),
    ("written by nodes, of raw", "written_of_raw"),
    ("by senders", "written_by_senders_of_raw"),
    ("fsyncs per raw GB", "syncs_per_gb"),
    ("MB/s", "mb_per_s"),
]
# steps.py's seed of a first repetition: what is measured once is measured then.
FIRST_SEED = zlib.crc32(f"{PAPER} {COSTS} 0".encode())
# How each way stands in the table of a system.
NAMES = {
    carry.ALL_NORMAL: "one setting for all: normal",
    carry.ALL_AUDIT: "one setting for all: audit",
    carry.OWN: "each class its own",
    carry.OWN_PAIRED: "each class its own, normal with two copies",
}
STEADY = {carry.ALL_NORMAL: ["normal"], carry.ALL_AUDIT: ["audit"], carry.OWN: list(mixed.DAY)}


def steps(scale: Scale) -> list[Step]:
    """Costs of all ways, and losses by real kills and power cuts."""
    found = [
        Step(PAPER, COSTS, kind.name, partial(_costs, kind), missing=kind.missing(), repetitions=3) for kind in SYSTEMS
    ]
    for kind in SYSTEMS:
        missing = kind.missing() or power.missing() or ("a quick run kills nobody" if scale.quick else "")
        found.append(Step(PAPER, LOSSES, kind.name, partial(_losses, kind), missing=missing, repetitions=1))
    return found


def _senders(rival: Rival) -> carry.Send:
    if isinstance(rival, Kafka):
        return carry.kafka_sender(rival)
    assert isinstance(rival, Buck)
    return carry.buck_sender(rival)


def _costs(kind: Callable[[Path, Settings], Rival], room: Room) -> Figures:
    """All ways through one cluster, then events at a steady rate through the same."""
    quick, logs = room.scale.quick, room.folder.with_name("papers-mix")
    files = mixed.files(logs / "day", room.scale.logs, QUICK_BYTES if quick else RAW_BYTES)
    warm = mixed.files(logs / "warm", room.scale.logs, QUICK_WARM_BYTES if quick else WARM_BYTES)
    with kind(room.folder / "cluster", replace(SETTINGS, nets=not nets.missing())) as rival:
        rival.start(3)
        send = _senders(rival)
        carry.warm_up(rival, send, warm, [carry.OWN] if quick else list(carry.WAYS))
        found = carry.ways(rival, send, files, room.seed)
        found |= carry.steady(rival, *(QUICK_RATE, QUICK_PACED_S) if quick else (RATE, PACED_S))
        if room.seed == FIRST_SEED:
            found |= complete.measure(rival, files, quick)
        return found | {"differences": rival.differences()}


def _losses(kind: Callable[[Path, Settings], Rival], room: Room) -> Figures:
    def make(number: int) -> Rival:
        return kind(room.folder / f"cluster{number}", SETTINGS)

    return hit(make, CASES, HIT_RATE, HIT_S, LOSSES_S, room.seed)


# --- the page ---------------------------------------------------------------------------------------------------------


def fill(results: Results, pages: dict[int, Page]) -> None:
    """Everything that the text of paper 1 asks for but for what complete.py fills."""
    page = pages[PAPER]
    _mix(page)
    _cost_tables(results, page)
    _saved(results, page)
    _losing(results, page)
    _delay_table(results, page)
    _loss_table(results, page)
    _expected_tables(page)
    _plot(results, page)
    _differences(results, page)


def _mix(page: Page) -> None:
    page.value("mix", ", ".join(f"{100 * share:.0f} % {name}" for name, share in mixed.DAY.items()))
    page.value("mix copies", f"{expected.copies_of(_copies(mixed.DAY)):.2f}")
    page.value("mix copies paired", f"{expected.copies_of(_copies(mixed.PAIRED)):.2f}")
    rows = []
    for kind in mix.CLASSES:
        least = min(2, kind.replicas)
        kafka = f"RF {kind.replicas}, `acks=all`, `min.insync.replicas={least}`"
        rule = ", ".join(f"`{line}`" for line in kind.rule.splitlines())
        shares = [found.get(kind.name) for found in (mixed.DAY, mixed.PAIRED)]
        rows.append([kind.name, *("" if one is None else f"{100 * one:.0f} %" for one in shares),
                     f"{kafka}, `flush.messages=1`" if kind.sync else kafka, rule])  # fmt: skip
    page.table("classes", ["class", "share of bytes", "or", "Kafka: a topic with", "Buck: a rule with"], rows)


def _copies(shares: dict[str, float] | object) -> dict[int, float]:
    """Shares by number of copies."""
    found: dict[int, float] = {}
    assert isinstance(shares, dict)
    for name, share in shares.items():
        copies = mixed.KINDS[name].replicas
        found[copies] = found.get(copies, 0.0) + share
    return found


def _spread(results: Results, system: str, key: str) -> Spread | None:
    return results.spread(PAPER, COSTS, system, "", key)


def _cost_tables(results: Results, page: Page) -> None:
    rows = []
    for way, name in NAMES.items():
        for kind in SYSTEMS:
            why = results.absent(PAPER, COSTS, kind.name, "")
            cells = [cell(_spread(results, kind.name, f"{way}: {key}"), why=why) for _, key in COLUMNS]
            rows.append([name, kind.name, *cells])
    page.table("costs", ["", "", *(title for title, _ in COLUMNS)], rows)
    counts = {kind.name: len(results.of(PAPER, COSTS, kind.name)) for kind in SYSTEMS}
    page.value("repetitions", ", ".join(f"{name} {count}" for name, count in counts.items()))
    raw = next((one.figures[f"{carry.OWN}: raw"] for one in results.of(PAPER, COSTS)), 0)
    page.value("raw", f"{raw / 1e6:.0f} MB")
    page.value("warm", f"{WARM_BYTES / 1e6:.0f} MB")
    page.value("not counted", "; ".join(filter(None, (nets.missing(), syncs.missing()))) or "nothing was left out")


def _ratio(results: Results, key: str, this: tuple[str, str], that: tuple[str, str]) -> float | None:
    """Median of a figure of one system and way, over that of another."""
    above, below = (_spread(results, system, f"{way}: {key}") for system, way in (this, that))
    return above.median / below.median if above and below and below.median else None


def _saved(results: Results, page: Page) -> None:
    """What choosing saves: each system against its own one setting, and Buck's choice against each of Kafka's."""
    keys = [("CPU", "cpu_s_per_gb"), ("network", "network_of_raw"), ("stored", "stored_of_raw"),
            ("fsyncs", "syncs_per_gb")]  # fmt: skip
    kafka, buck = Kafka.name, Buck.name
    pairs = [
        ("Kafka: own topics, beside all as normal", (kafka, carry.OWN), (kafka, carry.ALL_NORMAL)),
        ("Kafka: own topics, beside all as audit", (kafka, carry.OWN), (kafka, carry.ALL_AUDIT)),
        ("Buck: own classes, beside all as normal", (buck, carry.OWN), (buck, carry.ALL_NORMAL)),
        ("Buck: own classes, beside all as audit", (buck, carry.OWN), (buck, carry.ALL_AUDIT)),
        ("Buck's own classes, beside Kafka all as normal", (buck, carry.OWN), (kafka, carry.ALL_NORMAL)),
        ("Buck's own classes, beside Kafka all as audit", (buck, carry.OWN), (kafka, carry.ALL_AUDIT)),
        ("Buck's own classes, beside Kafka's own topics", (buck, carry.OWN), (kafka, carry.OWN)),
        ("the same, both with pairs", (buck, carry.OWN_PAIRED), (kafka, carry.OWN_PAIRED)),
    ]
    rows = [[name, *(_times(_ratio(results, key, this, that)) for _, key in keys)] for name, this, that in pairs]
    page.table("saved", ["", *(f"{title}, times" for title, _ in keys)], rows)
    for name, system in (("kafka", kafka), ("buck", buck)):
        for word, key in keys:
            ratio = _ratio(results, key, (system, carry.OWN), (system, carry.ALL_AUDIT))
            page.value(f"{name} {word} saved", _share_saved(ratio))
    rows = []
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 0.95):
        copies = share + 3 * (1 - share)
        rows.append([f"{100 * share:.0f} %", f"{copies:.2f}", f"{100 * (3 - copies) / 2:.0f} %"])
    page.table("shares", ["share of `debug`", "copies on average", "of the second and third copies, saved"], rows)


def _losing(results: Results, page: Page) -> None:
    """What is said of where Buck loses, and of syncs at a steady rate."""
    own = Buck.name, carry.OWN
    for name, way in (("normal", carry.ALL_NORMAL), ("own", carry.OWN)):
        page.value(f"syncs beside Kafka {name}", _times(_ratio(results, "syncs_per_gb", own, (Kafka.name, way))))
    for kind in SYSTEMS:
        why = results.absent(PAPER, COSTS, kind.name, "")
        for name, way in (("own", carry.OWN), ("paired", carry.OWN_PAIRED)):
            page.value(f"{kind.name} {name} MB/s", cell(_spread(results, kind.name, f"{way}: mb_per_s"), "MB/s", why))
        waited = _spread(results, kind.name, f"{carry.OWN}: audit: p50_ms")
        page.value(f"{kind.name} audit p50", f"{waited.median:,.0f} ms" if waited else cell(None, why=why))
        ratio = _ratio(results, "steady_syncs_per_s", (kind.name, carry.OWN), (kind.name, carry.ALL_AUDIT))
        page.value(f"{kind.name} steady saved", _share_saved(ratio))


def _share_saved(ratio: float | None) -> str:
    return "not measured" if ratio is None else f"{100 * (1 - ratio):.0f} %"


def _times(ratio: float | None) -> str:
    return "not measured" if ratio is None else f"{ratio:.3g}"


def _delay_table(results: Results, page: Page) -> None:
    rows, asked = [], []
    for way, kinds in STEADY.items():
        for system in SYSTEMS:
            why = results.absent(PAPER, COSTS, system.name, "")
            for kind in kinds:
                events = _spread(results, system.name, f"{way}: {kind}: events")
                most = "p99.9" if events and events.low >= RARE else "most"
                keys = ["p50_ms", "p99_ms", f"{most}_ms"]
                cells = [cell(_spread(results, system.name, f"{way}: {kind}: {key}"), why=why) for key in keys]
                sent = f"{events.median:,.0f}" if events else cells[-1]
                last = f"{cells[-1]} ({most})" if events else cells[-1]
                rows.append([NAMES[way], system.name, kind, sent, *cells[:-1], last])
            key = f"{way}: steady_syncs_per_s"
            asked.append([NAMES[way], system.name, cell(_spread(results, system.name, key), why=why)])
    page.table("delays", ["", "", "class", "events each time", "p50, ms", "p99, ms", "p99.9 or most, ms"], rows)
    page.table("steady syncs", ["", "", "fsyncs a second, nodes and senders"], asked)
    page.value("senders", str(carry.SENDERS))
    page.value("rare", f"{RARE:,}")
    page.value("kafka linger", f"{SETTINGS.linger_ms} ms")
    told = {one.figures[f"{way}: tailer_linger"] for one in results.of(PAPER, COSTS, Buck.name) for way in STEADY}
    said = [
        f"was told that a line may wait {one} for others"
        if one
        else "was not told how long a line may wait for others, so it is half a second to five, by how much is written"
        for one in sorted(told)
    ]
    page.value("tailer linger", " or ".join(said) or "was not measured")


def _loss_table(results: Results, page: Page) -> None:
    rows = []
    for fault in dict.fromkeys(case.fault for case in sorted(CASES)):
        for system in SYSTEMS:
            found = results.of(PAPER, LOSSES, system.name)
            why = "; ".join(results.absent(PAPER, LOSSES, system.name, "")) or "not measured"
            cells = [_losses_of(found[0].figures, fault.name, kind) if found else why for kind in mix.CLASSES]
            rows.append([fault.name, system.name, *cells])
    page.table("losses", ["", "", *(kind.name for kind in mix.CLASSES)], rows)
    page.value("patience", f"{PATIENCE_S:.0f} s")
    twice = sum(
        count for one in results.of(PAPER, LOSSES) for key, count in one.figures.items() if key.endswith(": twice")
    )
    page.value("twice", str(twice) if results.of(PAPER, LOSSES) else "not measured")


def _losses_of(figures: Figures, fault: str, kind: mix.Kind) -> str:
    """Not there at once, lost for good, of acknowledged; or why nobody knows."""
    for case in CASES:
        if case.fault.name == fault and kind in mix.MIXES[case.mix]:
            if (why := figures.get(f"{case.name}: why")) is not None:
                return str(why)
            acked, late, lost = (figures[f"{fault}: {kind.name}: {what}"] for what in ("acked", "not at once", "lost"))
            return f"{'no reader' if late is None else late} / {lost} of {acked}"
    return "not run"


def _expected_tables(page: Page) -> None:
    rows, shares = [], _copies(mixed.DAY)
    for nodes in SIZES:
        for dead in (1, 2, 3):
            cells = [_percent(float(expected.lost(nodes, copies, dead))) for copies in (1, 2, 3)]
            rows.append([str(nodes), str(dead), *cells, _percent(expected.lost_of(shares, nodes, dead))])
    cases = sum(expected.cases(nodes, copies, dead) for nodes in SIZES for copies in (1, 2, 3) for dead in (1, 2, 3))
    page.value("enumerated", str(cases))
    page.table("expected", ["nodes", "hit at once", "one copy", "two", "three", "the mix, of its bytes"], rows)


def _percent(share: float) -> str:
    return "0" if not share else f"{100 * share:.3g} %"


def _plot(results: Results, page: Page) -> None:
    """Bars: the mix as each way carries it."""
    figure, axes = plots.sheet(1, 3, high=2.8)
    shown = [COLUMNS[0], COLUMNS[2], ("fsyncs a second, steady rate", "steady_syncs_per_s")]
    for ax, (title, key) in zip(axes, shown, strict=True):
        for at, kind in enumerate(SYSTEMS):
            found = [_spread(results, kind.name, f"{way}: {key}") for way in NAMES]
            places = [i + 0.4 * at - 0.2 for i in range(len(NAMES))]
            heights = [one.median if one else 0.0 for one in found]
            bars = ax.bar(places, heights, 0.38, color=plots.look(kind.name).colour, label=kind.name,
                          hatch=["", "///"][at], edgecolor="white")  # fmt: skip
            ax.bar_label(bars, [_short(one.median) if one else "-" for one in found], fontsize=5)
        ax.set_xticks(range(len(NAMES)), ["all\nnormal", "all\naudit", "own", "own,\npairs"], fontsize=7)
        ax.set_ylabel(title)
    axes[0].legend()
    caption = "The same lines carried in four ways: all as normal, all as audit, each class as its own, and so with"
    page.plot("ways", figure, f"{caption} two copies of normal. Medians.")


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def _differences(results: Results, page: Page) -> None:
    lines = [
        f"- {kind.name}: {text}"
        for kind in SYSTEMS
        for text in next((one.figures["differences"] for one in results.of(PAPER, COSTS, kind.name)), [])
    ]
    page.value("differences", "\n".join(lines) or "nothing was compared")
