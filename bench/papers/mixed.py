"""A day's mix of classes as files: real lines, a file a class, divided by bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path

from bench import corpus
from bench.rivals import mix

# The mix is an assumption, and the pages say so: most of what is logged is read by nobody, little must never be lost.
DAY: Mapping[str, float] = {"debug": 0.60, "normal": 0.38, "audit": 0.02}
PAIRED = {"pair" if name == "normal" else name: share for name, share in DAY.items()}
KINDS = {kind.name: kind for kind in mix.CLASSES}
BLOCK = 100  # lines in a row that one class gets: an application writes more than one


def files(folder: Path, logs: Sequence[Path], size: int) -> dict[str, Path]:
    """About `size` bytes of these logs (the same lines, with other dates and numbers, where they are too few) as
    a file for each class of DAY. Made once; whoever asks again for as much gets the same."""
    paths = {name: folder / f"{name}.log" for name in DAY}
    stamp, wanted = folder / ".made-of", f"{size} {BLOCK} {DAY} {' '.join(map(str, logs))}"
    if not (stamp.exists() and stamp.read_text() == wanted):
        folder.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        outs = {name: path.open("wb") for name, path in paths.items()}
        try:
            for name, block in divided(_pieces(logs, size), DAY):
                outs[name].write(block)
        finally:
            for out in outs.values():
                out.close()
        stamp.write_text(wanted)
    return paths


def divided(pieces: Iterator[bytes], shares: Mapping[str, float]) -> Iterator[tuple[str, bytes]]:
    """Blocks of lines, each for whoever has the least of its share so far. Empty lines are left out: not every system
    takes them."""
    given = dict.fromkeys(shares, 0)
    for piece in pieces:
        lines = [line for line in piece.splitlines(keepends=True) if line.strip(b"\r\n")]
        for at in range(0, len(lines), BLOCK):
            block = b"".join(lines[at : at + BLOCK])
            if not block.endswith(b"\n"):
                block += b"\n"
            name = min(given, key=lambda one: given[one] / shares[one])
            given[name] += len(block)
            yield name, block


def _pieces(logs: Sequence[Path], size: int) -> Iterator[bytes]:
    """Some of every log where less is wanted than there is, else all of them again and again, never the same."""
    total = sum(path.stat().st_size for path in logs)
    if not total:
        raise ValueError("these logs are empty")
    share, done, repeat = min(1.0, size / total), 0, 0
    while not done or (share == 1.0 and done < size):
        for path in logs:
            data = path.read_bytes()[: ceil(path.stat().st_size * share)]
            if share < 1:  # not in the midst of a line
                data = data[: data.rfind(b"\n") + 1] or data
            done += len(data)
            yield corpus.vary(data, repeat)
        repeat += 1
