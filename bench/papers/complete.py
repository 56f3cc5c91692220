"""What it costs to be able to say `complete`: the identity and the statements that others would need, and Buck's seals.

A log that says of its own entries where each stands (an offset) tells what was stored. Whether that is all that there
was, only who made it can tell: each producer has to say from time to time what it has sent, and a reader has to
compare. Counts by window of time are the cheapest form; to name what is absent each line needs a number of its
producer's. With Kafka all of that is to be built, and its parts are measured here on a real cluster. Buck's packets
have such numbers, and its seals are the statements.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from bench import audit
from bench.measure import Spread, here
from bench.papers.pages import Page, cell
from bench.papers.results import Results
from bench.papers.steps import GB, Figures, Room, Scale, Step
from bench.rivals.buck import Buck
from bench.rivals.kafka import Kafka, producer_options
from bench.rivals.lines import weigh
from bench.rivals.process import Program, RivalError
from bench.rivals.rival import Rival
from bench.sending import key_of
from protocol.seal import Seal

PAPER, COSTS, PROOF = 1, "costs", "proof"
TAILERS, QUICK_TAILERS = 20, 2
STATEMENTS, QUICK_STATEMENTS = 1_000, 50
COPIES = 3  # of statements: nodes of the cluster here, each of which has all seals, and replicas of the topic
# Bytes of Kafka's record format around a value that is alone in its batch, small and without a key.
BATCH_HEADER, RECORD_FIELDS = 61, 8
IDLE_S = 2.0
PACKET_RAW = 500_000  # bytes of lines in a packet where a tailer reads 1 MB/s
END_S = 600.0
PIECE = 1 << 20


def steps(scale: Scale) -> list[Step]:
    """What needs no cluster. What does is measured with the one that durability.py has started."""
    return [Step(PAPER, PROOF, Buck.name, _proof, repetitions=1)]


def _proof(room: Room) -> Figures:
    """Seals alone: their bytes beside what is stored, signing and checking one, and the audit of a day."""
    tailers = QUICK_TAILERS if room.scale.quick else TAILERS
    fleet = audit.day(tailers)
    (spent,) = audit.of_bucks(fleet, 1)
    packets = tailers * audit.BUCKETS * audit.EACH
    key, one = key_of("audit0"), fleet[0][0]
    found: Figures = {
        "packets": packets,
        "audit_cpu_s_per_million": spent.cpu_s / packets * 1e6,
        "audit_cpu_s_per_gb": spent.cpu_s / (packets * PACKET_RAW) * GB,
        "seal_bytes": COPIES * len(one.data),
        "seal_packets": audit.EACH,
        "sign_ms": _each_ms(lambda: one.signed(key)),
        "check_ms": _each_ms(lambda: Seal.read(one.data)),
    }
    for rate, cost in audit.rates(room.folder).items():
        found |= {f"{rate}: seals": cost.bucks, f"{rate}: with digests": cost.with_digests}
        found |= {f"{rate}: archive": cost.archive}
    return found


def _each_ms(work: Callable[[], object], times: int = 200) -> float:
    return here(lambda: [work() for _ in range(times)]).cpu_s / times * 1e3


# --- on a cluster that runs -------------------------------------------------------------------------------------------


def measure(rival: Rival, files: Mapping[str, Path], quick: bool) -> Figures:
    """On a cluster that has been loaded. `files`: those that were loaded, by class."""
    if isinstance(rival, Kafka):
        found = _kafka(rival, files["normal"], QUICK_STATEMENTS if quick else STATEMENTS)
    else:
        assert isinstance(rival, Buck)
        found = _buck(rival)
    return {f"complete: {key}": value for key, value in found.items()}


def numbered(path: Path, out: Path, producer: str = "host17/1") -> None:
    """The same lines, each with its producer and number in front: Kafka's records have no such thing of their own."""
    with path.open("rb") as source, out.open("wb") as target:
        for number, line in enumerate(source):
            target.write(b"%s/%d " % (producer.encode(), number) + line)


def statements(out: Path, count: int) -> None:
    """What producers would say at the end of each window of time: the window, the numbers in it, and a digest."""
    with out.open("w") as target:
        for at in range(count):
            first, digest = 5_417 * at, f"{at * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}"
            target.write(f"host{at % 50}/1 window={1_790_000_400 + 300 * at} {first}-{first + 5_416} {digest}\n")


def count_bytes() -> int:
    """Of a statement that is a count alone: all copies of it in Kafka, alone in its batch. A formula, not measured."""
    return COPIES * (BATCH_HEADER + RECORD_FIELDS + len(f"host17/1 {1_790_000_400} 5417"))


def _kafka(rival: Kafka, log: Path, count: int) -> Figures:
    """With three copies: the same lines without and with numbers, statements alone as they come from many hosts, and
    a reader that reads everything once and counts nothing. `idle`: what brokers use that nobody asks anything."""
    folder = rival.folder / "complete"
    folder.mkdir()
    numbered(log, folder / "numbered.log")
    statements(folder / "statements.log", count)
    raw, _ = weigh([log])
    found: Figures = {}
    options = producer_options(rival.addresses(), replace(rival.settings, linger_ms=50))
    for name in ("plain", "numbered"):
        path = log if name == "plain" else folder / "numbered.log"
        cpu_s, stored = _put(rival, "normal", path, options)
        found |= {f"{name}_cpu_s_per_gb": cpu_s / raw * GB, f"{name}_stored_of_raw": stored / raw}
    # Each is of another host: no two can share a batch.
    alone = [*producer_options(rival.addresses(), replace(rival.settings, linger_ms=0)), "-X", "batch.num.messages=1"]
    began = time.monotonic()
    cpu_s, stored = _put(rival, "audit", folder / "statements.log", alone)
    took = time.monotonic() - began
    before = rival.cpu_s()
    time.sleep(IDLE_S)
    idle = (rival.cpu_s() - before) / IDLE_S * took
    found |= {"statement_stored": stored / count, "statement_cpu_ms": cpu_s / count * 1e3}
    found |= {"statement_idle_cpu_ms": idle / count * 1e3}
    before = rival.cpu_s()
    command = ["kcat", "-C", "-q", "-e", "-o", "beginning", "-t", "normal", "-b", ",".join(rival.addresses())]
    size, used = _read(command, folder / "reading")
    return found | {"reading_cpu_s_per_gb": (used + rival.cpu_s() - before) / size * GB}


def _put(rival: Kafka, topic: str, path: Path, options: list[str]) -> tuple[float, int]:
    """CPU seconds of all, and bytes that all nodes have stored more."""
    cpu_s, stored = rival.cpu_s(), rival.disk().allocated
    command = ["kcat", "-P", "-t", topic, "-l", str(path), *options]
    program = Program.start("kcat", command, path.with_suffix(".said"))
    if code := program.wait(END_S):
        raise RivalError(f"kcat ended with {code}:\n{program.log_end()}")
    return program.usage().cpu_s + rival.cpu_s() - cpu_s, rival.disk().allocated - stored


def _read(command: list[str], log: Path) -> tuple[int, float]:
    """Bytes that came out of a program, and its CPU seconds."""
    with log.open("wb") as said:
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
    program, size = Program(command[0], popen, log), 0
    assert popen.stdout
    with popen.stdout:
        while piece := popen.stdout.read(PIECE):
            size += len(piece)
    if code := program.wait(END_S):
        raise RivalError(f"{command[0]} ended with {code}:\n{program.log_end()}")
    return size, program.usage().cpu_s


def _buck(rival: Buck) -> Figures:
    """Asking who has what that was sealed, and looking at every copy; what the seals take on the disks."""
    found: Figures = {}
    raw = sum(header.raw for header in rival.packets())
    seals = sum(path.stat().st_size for path in rival.folder.glob("buck*/disk*/*/seals/*.seals"))
    found["seals_of_stored"] = seals / rival.disk().apparent
    for name, words in (("audit", []), ("deep_audit", ["--deep"])):
        before, began = rival.cpu_s(), time.monotonic()
        size, used = _read(rival.cluster.porter_command("audit", *words), rival.folder / f"{name}.log")
        assert size
        found |= {
            f"{name}_cpu_s_per_gb": (used + rival.cpu_s() - before) / raw * GB,
            f"{name}_s": time.monotonic() - began,
        }
    return found


# --- the page ---------------------------------------------------------------------------------------------------------


def fill(results: Results, pages: dict[int, Page]) -> None:
    """The section on completeness of paper 1."""
    page = pages[PAPER]

    def of(name: str, system: str, key: str, unit: str = "") -> str:
        return cell(results.spread(PAPER, name, system, "", key), unit, results.absent(PAPER, name, system, ""))

    def put(key: str, unit: str = "", system: str = Kafka.name) -> str:
        return of(COSTS, system, f"complete: {key}", unit)

    seal = (
        f"{of(PROOF, Buck.name, 'seal_bytes', 'bytes')}: digests of {of(PROOF, Buck.name, 'seal_packets', 'packets')}"
    )
    sign, check = of(PROOF, Buck.name, "sign_ms", "ms"), of(PROOF, Buck.name, "check_ms", "ms")
    asked, deep = (put(f"{name}_cpu_s_per_gb", system=Buck.name) for name in ("audit", "deep_audit"))
    read, idle = put("reading_cpu_s_per_gb"), put("statement_idle_cpu_ms", "ms")
    rows = [
        ["a line's number at its producer: stored, of raw", _two(put, "stored_of_raw"), "in packets already"],
        ["the same: CPU-s per raw GB", _two(put, "cpu_s_per_gb"), "in packets already"],
        ["a host's statement for a window: bytes, all copies",
         f"{put('statement_stored', 'measured')}; {count_bytes()} by formula for a count alone", seal],
        ["the same: CPU, end to end", f"{put('statement_cpu_ms', 'ms')}, of that {idle} idle JVMs", "not measured"],
        ["the same: CPU, in memory alone", "not measured", f"{sign} to sign, {check} to check, each time"],
        ["reading to compare: CPU-s per raw GB", f"{read}: every line read once, nothing compared yet",
         f"{asked}: nodes asked who has what, compared; {deep}: every copy read and checked, too"],
    ]  # fmt: skip
    page.table("complete", ["", "Kafka: parts of what is to be built on top", "Buck: what it does"], rows)
    rows = [
        [rate, *(of(PROOF, Buck.name, f"{rate}: {key}") for key in ("seals", "with digests", "archive"))]
        for rate in ("1 MB/s", "10 lines/s")
    ]
    page.table("proof", ["a tailer reads", "seals and receipts, of what bucks store", "with digests in packets",
                         "proof in the archive, of its size"], rows)  # fmt: skip
    seals = results.spread(PAPER, COSTS, Buck.name, "", "complete: seals_of_stored")
    percent = seals and Spread(*(100 * one for one in seals))
    page.value("seals of stored", cell(percent, "%", results.absent(PAPER, COSTS, Buck.name, "")))
    page.value("audit of a day", of(PROOF, Buck.name, "audit_cpu_s_per_million", "CPU-s"))
    page.value("audit of a day per GB", of(PROOF, Buck.name, "audit_cpu_s_per_gb", "CPU-s"))


def _two(put: Callable[[str], str], key: str) -> str:
    return f"{put(f'plain_{key}')} without, {put(f'numbered_{key}')} with"
