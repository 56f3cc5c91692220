"""The soak's own judges can tell good from bad: its lines, its checker, its fit of memory. It itself takes minutes."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.proxy import Proxy
from bench.soak import load as soak_load
from bench.soak.checker import Objects, compare, compare_rows
from bench.soak.load import Load, LogFile
from bench.soak.memory import slope
from bench.soak.pages import KINDS, LINES, PAGES, SAME

WHEN_US = 1_795_363_200_000_000


def written(folder: Path, number: int, kind: str = "usual", lines: int = 3000) -> LogFile:
    """A file with its ledger, written in two goes."""
    file = LogFile(number, "a", kind, folder / f"{number}.log", 0.0)
    file.write(lines // 3)
    file.write(lines - lines // 3)
    return file


@pytest.mark.parametrize("kind", KINDS)
def test_lines_are_the_same_however_they_are_cut_and_say_which_they_are(kind: str) -> None:
    page = PAGES[kind]
    whole = page.render(12, 2 * LINES, LINES, WHEN_US)
    parts = [page.render(12, 2 * LINES + at, 500, WHEN_US) for at in range(0, LINES, 500)]
    split = [part.split(b"\n") for part in (whole, b"".join(parts))]
    assert [len(one) for one in split] == [LINES + 1] * 2
    untimed = [[line[28:] if line.startswith(b"2026-") else line for line in one] for one in split]
    assert untimed[0] == untimed[1]
    same = sum(line.rstrip(b"\r") == SAME.encode() for line in untimed[0])
    assert 0 < same == page.same_before(3 * LINES) - page.same_before(2 * LINES)
    named = [n for n, line in enumerate(untimed[0]) if line.startswith(b"w00012-%09d " % (2 * LINES + n))]
    assert len(named) + same == LINES


def test_files_come_and_go_and_the_ledger_knows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak_load, "STEP_S", 0.001)
    load = Load(tmp_path / "logs", 1, lambda: True)
    for step in range(100):
        load.target = lambda step=step: 3000 * (step + 1)
        load._step(float(step))
    assert load.mixtures == 4
    assert {kind for file in load.files for kind in [file.kind]} == set(KINDS)
    for file in (file for file in load.files if file.lines):
        assert compare(iter([file.path.read_bytes()]), {file.number: file}) == ([file.number], [])
    archived = {file.number: file.lines - (file.number == 3) for file in load.files}
    now_us = time.time_ns() // 1000
    assert load.delete(archived, {"a": now_us}) == set(), "one is down, and of one it isn't known that it reads again"
    assert load.delete(archived, {"a": 0, "b": 0}) == {"a", "b"}
    left = {file.number for file in load.files if file.lines and file.path.exists()}
    assert left == {file.number for file in load.files if file.lines and (not file.rotated or file.number == 3)}


def test_a_stream_of_whole_files_is_well_however_it_is_cut(tmp_path: Path) -> None:
    files = {n: written(tmp_path, n, kind) for n, kind in enumerate(KINDS)}
    data = b"".join(file.path.read_bytes() for file in files.values())
    for size in (7, 4096, len(data)):
        assert compare((data[at : at + size] for at in range(0, len(data), size)), files) == ([0, 1, 2], [])
    assert compare(iter([]), files) == ([], [])


@pytest.mark.parametrize(
    "broken",
    [
        lambda data: data[:-1],
        lambda data: data[len(data) // 2 :],
        lambda data: data + b"more\n",
        lambda data: data.replace(b"000000500 ", b"000000501 ", 1),
        lambda data: data[: data.index(b"w00001-000000700")] + data[data.index(b"w00001-000000701") :],
        lambda data: data[:300] + data[200:],
        lambda data: b"nobody wrote this\n" + data,
    ],
)
def test_a_stream_with_anything_wrong_is_not_well(tmp_path: Path, broken: Callable[[bytes], bytes]) -> None:
    file = written(tmp_path, 1)
    seen, why = compare(iter([broken(file.path.read_bytes())]), {1: file})
    assert why, seen


def rows(*files: LogFile) -> list[tuple[bytes, int | None, str]]:
    """(stream, offset, line) of whole files, as an archive has them: without times, but with the blank after these."""
    found: list[tuple[bytes, int | None, str]] = []
    for file in files:
        for n, line in enumerate(file.path.read_bytes().decode().split("\n")[:-1]):
            text = line.removesuffix("\r")
            found.append((b"%016d" % file.number, None if n else 0, text[27:] if text.startswith("2026-") else text))
    return found


def store(folder: Path, some: list[tuple[bytes, int | None, str]], name: str = "one") -> None:
    streams, offsets, lines = zip(*some, strict=True)
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"stream": streams, "offset": offsets, "line": lines}), folder / f"{name}.parquet")


def test_an_archive_with_each_line_once_is_well(tmp_path: Path) -> None:
    files = [written(tmp_path, n, kind) for n, kind in enumerate(KINDS)]
    store(tmp_path / "archive", rows(*files)[:4000], "one")
    objects = Objects(tmp_path / "archive")
    assert objects.look() == {0: 3000, 1: 1000}
    store(tmp_path / "archive", rows(*files)[4000:], "two")
    assert objects.look() == {0: 3000, 1: 3000, 2: 3000}
    judged = compare_rows(files, tmp_path / "archive")
    assert (judged.verdict, judged.why, judged.lines) == ("valid", [], 9000)


@pytest.mark.parametrize(
    "broken",
    [
        lambda some: some[1:],
        lambda some: some[:-5],
        lambda some: [*some, some[700]],
        lambda some: [*some, next(one for one in some if one[2] == SAME)],
        lambda some: [*some[:700], *some[701:]],
        lambda some: [*some, (b"x", None, "nobody wrote this")],
        lambda some: [*some, (b"x", None, "w00077-000000001 nobody wrote this")],
        lambda some: [*some[:9], (some[9][0], None, some[9][2] + "!"), *some[10:]],
        lambda some: [*some[:9], (some[9][0], None, some[10][2]), *some[10:]],
    ],
)
def test_an_archive_with_anything_wrong_is_not_well(tmp_path: Path, broken: Callable[[list], list]) -> None:
    file = written(tmp_path, 1)
    store(tmp_path / "archive", broken(rows(file)))
    assert compare_rows([file], tmp_path / "archive").verdict == "invalid"


def series(hourly: float, noise: float = 1e6, seconds: int = 1500) -> list[tuple[float, int]]:
    """Memory that grows so many bytes an hour, with noise that lasts for a while, as an allocator's does."""
    draw, found, drift = np.random.default_rng(7), [], 0.0
    for at in range(seconds):
        drift = 0.95 * drift + float(draw.normal()) * noise * 0.3
        found.append((float(at), int(60e6 + hourly * at / 3600 + drift)))
    return found


def test_memory_that_grows_is_told_from_noise() -> None:
    flat, grows, much = slope(series(0)), slope(series(12e6)), slope(series(60e6, noise=3e6, seconds=600))
    assert flat is not None and flat.flat and flat.low <= 0 <= flat.high  # noqa: PT018  # None has no members
    assert grows is not None and not grows.flat and grows.low < 12e6 < grows.high  # noqa: PT018  # the same
    assert much is not None and not much.flat  # noqa: PT018  # the same
    spikes = [(at, size + (30_000_000 if at % 60 < 3 else 0)) for at, size in series(0)]
    found = slope(spikes)
    assert found is not None and found.flat  # noqa: PT018  # the same
    assert slope(series(0)[:20]) is None


def test_a_slow_way_carries_everything_at_its_rate() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = Proxy()
        proxy.target = "127.0.0.1:{1}".format(*server.getsockname())
        host, _, port = proxy.address.rpartition(":")
        with socket.create_connection((host, int(port))) as near:
            far, _ = server.accept()
            proxy.rate = 50_000
            begin = time.monotonic()
            near.sendall(bytes(20_000))
            with far:
                assert len(far.recv(20_000, socket.MSG_WAITALL)) == 20_000
                assert time.monotonic() - begin > 0.25, "a tenth of a second for each 5,000 bytes but the last"
                proxy.rate = 0
                near.sendall(bytes(300_000))
                assert len(far.recv(300_000, socket.MSG_WAITALL)) == 300_000
        proxy.close()
