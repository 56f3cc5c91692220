"""Hours of a fleet in minutes: short windows, 60 % of full load, a fault every 20 s, and the checker's word at the end.

    make soak MINUTES=30            as it is meant: three bucks, two tailers, an archive and a prune run twice a minute
    make soak MINUTES=5 SEED=7      shorter, with other faults; RATE=50000 lines a second instead of 60 % of full

Windows are of 5 s; what is archived is pruned from the bucks, so that hundreds of buckets live, are archived, and
forgotten. First it is measured how much these processes can take: lines are written as fast as the
tailers bring them to the bucks, and an archive run carries them on; the smaller of both is *full*. Then the load is
steady, the mixture of files changes, files are rotated and deleted, and every 20 s something fails. In the end all is
delivered, audited, and compared: from bucks and archive together, through the reader; and from the archive alone, by
DuckDB. Memory of what is not killed while it is followed must not grow (`memory.py` says what that means).
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import befalling
from bench.cluster import Cluster, ClusterError
from bench.measure import machine
from bench.soak.checker import Judged, compare_rows, compare_streams
from bench.soak.cluster import SMALL_DISK, STEP_S, Soak
from bench.soak.faults import FAR, MEASURED, small_disk_folder
from bench.soak.load import LogFile
from bench.soak.memory import slope

ROOT = Path(__file__).parents[2]
WIDTH_S = 5
WARM_S = 20 * WIDTH_S  # memory is followed after so many buckets
FAULT_EVERY_S = 20.0
HARD_END_S = 3 * FAULT_EVERY_S  # as long the measured ones are killed too, in the end
SHARE = 0.6
DISK_MAX = 8 << 30
PATIENCE_S = 900.0


def play(soak: Soak, seconds: float) -> tuple[float, float]:
    """Write, break, mend, until the time is over; then heal everything. From when to when memory was followed."""
    begin, fault_at = time.monotonic(), FAULT_EVERY_S / 2
    follow = min(FAULT_EVERY_S + WARM_S, seconds / 2), max(seconds - HARD_END_S, seconds * 0.75)
    while (now := time.monotonic() - begin) < seconds:
        soak.faults.measuring = FAULT_EVERY_S <= now < follow[1]
        if now >= fault_at and (what := soak.faults.strike(now)):
            print(f"{now:7.1f} s  {what}", flush=True)
            fault_at += FAULT_EVERY_S
        soak.faults.heal(now)
        soak.look(now)
        time.sleep(STEP_S)
    soak.faults.heal(float("inf"))
    soak.load.end()
    return follow


def judge(soak: Soak) -> list[str]:
    """Deliver everything; then what is wrong."""
    wrong, cluster = [], soak.cluster
    archive = ["--archive", str(soak.archive)]
    soak.porter.finish(PATIENCE_S)
    for name, tailer in soak.tailers.items():
        wrong += _ended(f"tailer {name}", tailer.stop(PATIENCE_S), tailer.log_end(5))
        last = soak.follow(name, "--goodbye")
        wrong += _ended(f"tailer {name} --goodbye", last.wait(PATIENCE_S), last.log_end(5))
    wrong += _audited(soak, "bucks and archive", *archive)
    command = cluster.porter_command("cat", *archive)

    def cat(file: LogFile, path: Path) -> list[str]:
        return [*command, f"host-{file.tailer}", str(path)]

    wrong += _judged("bucks and archive", compare_streams(soak.load.files, cat, ROOT))
    cluster.porter("archive", "--older", "0s", *archive)
    wrong += _audited(soak, "archive alone", *archive, alone=True)
    wrong += _judged("archive alone", compare_rows(soak.load.files, soak.archive))
    return wrong + soak.porter.wrong


def _ended(what: str, code: int, log: str) -> list[str]:
    return [f"{what} ended with {code}: {log}"] if code else []


def _audited(soak: Soak, where: str, *flags: str, alone: bool = False) -> list[str]:
    """The audit must say complete."""
    command = soak.cluster.porter_command("audit", *flags)
    if alone:
        peers = {at for at, word in enumerate(command) if word == "--peer"}
        command = [word for at, word in enumerate(command) if at not in peers and at - 1 not in peers]
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=False)
    last = (done.stdout.decode().splitlines() or [""])[-1]
    print(f"audit, {where}: {last} (exit {done.returncode}, {time.monotonic() - begin:.0f} s)", flush=True)
    if done.returncode == 0:
        return []
    print(done.stdout.decode()[-6000:], done.stderr.decode()[-2000:])
    return [f"audit, {where}: exit {done.returncode}"]


def _judged(where: str, judged: Judged) -> list[str]:
    print(f"checker, {where}: {judged.verdict}, {judged.files} files, {judged.lines} lines, {judged.size / 1e9:.2f} GB")
    for text in judged.why:
        print(f"  {text}")
    return [f"checker, {where}: {len(judged.why)} differences"] if judged.why else []


def let_go_of(soak: Soak) -> int:
    """How many bucket files went after they were archived, on all bucks."""
    disks = [disk for i in range(len(soak.cluster.bucks)) for disk in soak.cluster.disk_folders(i)]
    return sum(1 for disk in disks for _ in disk.rglob("*.archived"))


def memory(soak: Soak, follow: tuple[float, float]) -> list[str]:
    """A line for each process that lived long enough; those that are measured must be flat."""
    wrong = []
    measured = {f"buck{MEASURED}", "tailer a"}
    for name, samples in soak.memory.items():
        role = name.rpartition(" ")[0]
        since = max(follow[0], samples[0][0] + (0 if role in measured else WARM_S))
        found = slope([one for one in samples if since <= one[0] < follow[1]])
        if found is None:
            continue
        print(f"memory of {role}: {found}")
        if role in measured and not found.flat:
            wrong.append(f"memory of {role}: {found}")
    return wrong


def summary(
    soak: Soak, asked: argparse.Namespace, full: tuple[float, float], rate: float, gone: int, wrong: list[str]
) -> str:
    load, faults = soak.load, ", ".join(f"{count} x {what}" for what, count in soak.faults.count.items())
    jobs = ", ".join(f"{count} x {what}" for what, count in sorted(soak.porter.done.items()))
    peaks = [peak for _, peak in soak.porter.peaks if peak]
    return (
        f"soak: seed {asked.seed}, {asked.minutes:g} min, {round(asked.minutes * 60 / WIDTH_S)} windows, "
        f"{load.lines} lines, {load.size / 1e9:.1f} GB in {len(load.files)} files, {load.mixtures} mixtures; "
        f"full {min(full):.0f} lines/s (tailers {full[0]:.0f}, archive {full[1]:.0f}), load {rate:.0f}; "
        f"faults: {faults}; {gone} bucket files let go of; "
        f"porter: {jobs}, at most {max(peaks, default=0) / 1e6:.0f} MB; "
        f"disk at most {soak.disk_max / 1e9:.1f} GB, the writer waited {load.waited_s:.0f} s for room; "
        + ("VALID" if not wrong else f"NOT VALID: {'; '.join(wrong)}")
    )


def main() -> int:
    """Parse what make passes on, and run."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, help=f"lines a second, instead of {SHARE:.0%} of full")
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="buck-soak-"))
    print(machine())
    with contextlib.ExitStack() as stack:
        if befalling.can_mount():
            stack.enter_context(befalling.small_disk(small_disk_folder(root), SMALL_DISK))
        else:
            print("no full disk: a small file system can be mounted by root only")
        cluster = stack.enter_context(Cluster(root, 3, width=f"{WIDTH_S}s", proxied=(FAR,)))
        soak = Soak(cluster, asked.seed)
        soak.load.start()
        full = (asked.rate / SHARE,) * 2 if asked.rate else soak.full()
        rate = asked.rate or SHARE * min(full)
        print(f"full: {full[0]:.0f} lines/s to the bucks, {full[1]:.0f} to the archive; load {rate:.0f}", flush=True)
        soak.steady(rate)
        follow = play(soak, asked.minutes * 60)
        try:
            wrong = judge(soak)
        except ClusterError as error:
            wrong = [str(error)]
        gone = let_go_of(soak)
    wrong += memory(soak, follow)
    if gone < asked.minutes * 60 / WIDTH_S:  # a third of what three bucks have
        wrong.append(f"only {gone} bucket files were let go of")
    if soak.disk_max > DISK_MAX:
        wrong.append(f"disk: {soak.disk_max / 1e9:.1f} GB")
    print(summary(soak, asked, full, rate, gone, wrong))
    if wrong:
        print(f"what is left of it: {root}")
    else:
        shutil.rmtree(root)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
