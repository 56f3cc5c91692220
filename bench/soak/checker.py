"""Did every line come back once? For the soak: by the gigabyte, and with the ledger alone in memory.

It imports nothing of the product. What `porter cat` writes is compared while it streams with the very lines, rendered
again from the ledger: a path's stream is whole files one after another, each says in its first line which it is, and
each file of the ledger must come exactly once, under any of its names. The archive's objects are read by DuckDB: for
each file every number once, nothing else, each text as it was written, and as many of the same line as there were.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import duckdb

from bench.soak.load import LogFile
from bench.soak.pages import ID_SIZE, LINES, PAGES, SAME

FIRST = re.compile(rb"w(\d{5})-000000000 ")
PIECE = 1 << 20
SIDE_BY_SIDE = 2
NOTE = "unsure what it holds"  # what a killed buck says of itself until its windows are over
SHORTFALL = 3
WHY_MAX = 20


@dataclass
class Judged:
    """What was compared, and what is wrong with it."""

    files: int = 0
    lines: int = 0
    size: int = 0
    why: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return "invalid" if self.why else "valid"


def compare_streams(files: Sequence[LogFile], command: Callable[[LogFile, Path], list[str]], cwd: Path) -> Judged:
    """Every file against what a reader writes; `command` asks it for one path of one tailer."""
    written = [file for file in files if file.lines]
    numbers = {file.number: file for file in written}
    seen: Counter[int] = Counter()
    found = Judged(len(written), sum(file.lines for file in written), sum(file.size for file in written))
    # Nearly all are found under the first name; one that was first read after its rotation under its second.
    for nth in range(max((len(file.names) for file in written), default=0)):
        asked = {(file.tailer, file.names[nth]): file for file in written if nth < len(file.names)}
        if nth:
            asked = {key: file for key, file in asked.items() if not seen[file.number]}
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            words = [command(file, path) for (_, path), file in asked.items()]
            for one in pool.map(lambda word: _compare_one(word, numbers, cwd), words):
                seen.update(one[0])
                found.why += one[1]
    for number, file in numbers.items():
        if seen[number] != 1:
            found.why.append(f"{file.path.name}: came back {seen[number]} times, {file.lines} lines")
    del found.why[WHY_MAX:]
    return found


def _compare_one(command: list[str], numbers: dict[int, LogFile], cwd: Path) -> tuple[list[int], list[str]]:
    """The numbers of the files in this stream, and what is wrong in it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        with reader.stdout as out:
            seen, why = compare(iter(partial(out.read, PIECE), b""), numbers)
        said = reader.stderr.read().decode(errors="replace").splitlines()
        code = reader.wait()
    unknown = code == 1 and not seen and any("no file" in line or "nobody" in line for line in said)
    noted = code == SHORTFALL and all(line.startswith(NOTE) for line in said)
    if code and not noted and not unknown:
        why.append(f"{command[-1]}: exit {code}: {' '.join(said)[:300]}")
    return seen, why


def compare(pieces: Iterator[bytes], numbers: dict[int, LogFile]) -> tuple[list[int], list[str]]:
    """A stream of whole files, as pieces of any size, against the ledger."""
    seen: list[int] = []
    held = expected = b""  # what came and is not compared yet; what has to come next
    wanted: Iterator[bytes] = iter(())
    for piece in pieces:
        held += piece
        while held:
            expected = expected or next(wanted, b"")
            if not expected:
                if len(held) < ID_SIZE:
                    break  # the rest of a first line's beginning is still on its way
                match = FIRST.match(held)
                if match is None or int(match[1]) not in numbers:
                    return seen, [f"after files {seen}: nobody wrote {held[:60]!r}"]
                seen.append(int(match[1]))
                wanted = _rendered(numbers[seen[-1]])
                continue
            size = min(len(held), len(expected))
            if held[:size] != expected[:size]:
                return seen, [f"file {seen[-1]}: {_difference(expected, held)}"]
            held, expected = held[size:], expected[size:]
    expected = expected or next(wanted, b"")
    if expected:
        return seen, [f"file {seen[-1]}: ends before {expected[:60]!r}"]
    return seen, [f"after files {seen}: nobody wrote {held!r}"] if held else []


def _rendered(file: LogFile) -> Iterator[bytes]:
    return (PAGES[file.kind].render(file.number, *block) for block in file.blocks)


def _difference(expected: bytes, back: bytes) -> str:
    at = next(i for i, (a, b) in enumerate(zip(expected, back, strict=False)) if a != b)
    begin = expected.rfind(b"\n", 0, at) + 1
    return f"{expected[begin : at + 40]!r} was written, {back[begin : at + 40]!r} came back"


# --- the archive, by DuckDB ------------------------------------------------------------------------------------------


class Objects:
    """The archive's Parquet objects, counted as they come: each is read once while the soak runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: Counter[int] = Counter()
        self._seen: set[Path] = set()
        self._streams: dict[bytes, int] = {}
        self._waiting: Counter[bytes] = Counter()

    def look(self) -> Counter[int]:
        """Lines of each file in the archive by now."""
        fresh = [path for path in self.folder.rglob("*.parquet") if path not in self._seen]
        if not fresh:
            return self.lines
        self._seen.update(fresh)
        names = "regexp_extract(line, '^w(\\d{5})-', 1)"
        first = f'min(CASE WHEN "offset" = 0 THEN {names} END)'
        with duckdb.connect() as connection:
            connection.execute("SET threads = 1")
            rows = connection.execute(f"SELECT stream, count(*), {first} FROM {_source(fresh)} GROUP BY 1").fetchall()
        for key, count, number in rows:
            self._waiting[key] += count
            if number:
                self._streams[key] = int(number)
        for key in list(self._waiting):
            if key in self._streams:
                self.lines[self._streams[key]] += self._waiting.pop(key)
        return self.lines


def compare_rows(files: Iterable[LogFile], folder: Path) -> Judged:
    """Every row of the archive against the ledger."""
    ledger = {file.number: file for file in files if file.lines}
    found = Judged(len(ledger), sum(file.lines for file in ledger.values()), sum(file.size for file in ledger.values()))
    objects = sorted(folder.rglob("*.parquet"))
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {SIDE_BY_SIDE}; SET memory_limit = '2GB'")
        connection.execute(f"SET temp_directory = '{folder.parent / 'duckdb'}'")
        connection.execute("CREATE TABLE texts (kind VARCHAR, place INTEGER, text VARCHAR)")
        connection.executemany("INSERT INTO texts VALUES (?, ?, ?)", _texts())
        connection.execute("CREATE TABLE files (number INTEGER, kind VARCHAR)")
        connection.executemany("INSERT INTO files VALUES (?, ?)", [(one.number, one.kind) for one in ledger.values()])
        connection.execute(f"CREATE VIEW rows AS SELECT ltrim(line) AS line FROM {_source(objects)}")
        top = max((file.lines for file in ledger.values()), default=0)
        seen = {row[0]: row[1:] for row in connection.execute(_by_file(top)).fetchall()}
    same = sum(PAGES[file.kind].same_before(file.lines) for file in ledger.values())
    unnamed, _, _, _, there = seen.pop(None, (0, 0, None, 0, 0))
    if there != same:
        found.why.append(f"'{SAME}' is there {there} times, and was written {same} times")
    if unnamed != there:
        found.why.append(f"{unnamed - there} rows that nobody wrote")
    for number in sorted(seen.keys() | ledger.keys()):
        found.why += _counted(number, ledger.get(number), seen.get(number, (0, 0, None, 0, 0))[:4])
    del found.why[WHY_MAX:]
    return found


_NUMBER = "try_cast(nullif(regexp_extract(line, '^w(\\d{5})-\\d{9} ', 1), '') AS INTEGER)"
_NTH = "try_cast(substr(line, 8, 9) AS INTEGER)"


def _by_file(top: int) -> str:
    """One look at each row. Which numbers (to `top`) were seen is a bit each: exact, and small beside the numbers."""
    seen = f"bitstring_agg(CASE WHEN nth BETWEEN 0 AND {top} THEN nth END, 0, {top})"
    return f"""
        SELECT number, count(*), coalesce(bit_count({seen}), 0), max(nth),
               count(*) FILTER (text IS NULL OR rest <> text), count(*) FILTER (number IS NULL AND line = '{SAME}')
        FROM (SELECT line, {_NUMBER} AS number, {_NTH} AS nth, substr(line, {ID_SIZE + 1}) AS rest FROM rows) AS named
        LEFT JOIN files USING (number)
        LEFT JOIN texts ON texts.kind = files.kind AND texts.place = nth % {LINES}
        GROUP BY number
    """


def _counted(number: int, file: LogFile | None, row: Sequence[int | None]) -> list[str]:
    """What is wrong with one file's rows: (rows, different numbers, the highest, rows with another text)."""
    if file is None:
        return [f"file {number}: {row[0]} rows, and nobody wrote it"]
    named = file.lines - PAGES[file.kind].same_before(file.lines)
    highest = max(
        n for n in range(max(0, file.lines - LINES), file.lines) if PAGES[file.kind].texts[n % LINES] is not None
    )
    wanted = (named, named, highest, 0)
    if tuple(row) == wanted:
        return []
    return [f"file {number}: (rows, different, highest, of another text) are {tuple(row)} where {wanted} is right"]


def _texts() -> list[tuple[str, int, str]]:
    return [(kind, at, text) for kind, page in PAGES.items() for at, text in enumerate(page.texts) if text is not None]


def _source(objects: Sequence[Path]) -> str:
    names = ", ".join(f"'{path}'" for path in objects)
    return f"read_parquet([{names}], hive_partitioning = false)"
