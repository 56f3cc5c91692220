"""Many events as columns: the only place that knows which columns there are, in which order, and what a flag means.

A packet's body is eight columns, one after another without anything between them; the header says how many bytes each
has. `lines`, by far the largest, comes first; the small ones grow in room of their own and are copied behind it once,
when the packet is closed:

    lines | flags | format | points | shn | app | pid | pri

What was taken out of a line is one contiguous hole, `[<pri>][1 ]time[ host app[pid]: ]`; the small columns hold what
was in it, and `lines` what is left. A column has a value only for the rows that need one, so a reader walks all eight
at once, from the first row to the last. `docs/FILES.md` draws this and a test holds the drawing to this file.

The checks here are those that need to be made once a packet, before the kernel walks the rows. A packet can come from
a stolen key, so a body that does not fit its header is a `ColumnsError`, never an assertion.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from protocol.errors import ColumnsError
from protocol.limits import NAME_MAX, PACKET_EVENTS_MAX, PACKET_RUNS_MAX


class Column(NamedTuple):
    """One column: how a value is written, and which rows have one."""

    name: str
    value: str
    rows: str


COLUMNS: Final = (
    Column("lines", "bytes + LF", "all"),
    Column("flags", "u8", "all"),
    Column("format", "u8", "TIME"),
    Column("points", "zigzag varint", "TIME"),
    Column("shn", "u8", "HOST"),
    Column("app", "u8", "APP"),
    Column("pid", "zigzag varint", "PID"),
    Column("pri", "u8", "TIME, format with a head"),
)
LINES, FLAGS_COLUMN, FORMAT, POINTS, SHN, APP_COLUMN, PID_COLUMN, PRI = range(len(COLUMNS))

CRLF: Final = 1  # the line ended with CR LF; neither is in `lines`
OPEN: Final = 2  # the line had no end: end of file, or PART
PART: Final = 4  # cut at LINE_MAX: the stream's next event goes on with the same line
TIME: Final = 8  # has a time of its own; else the time of the row before, or the run's start point
HOST: Final = 16  # a host's name was taken out after the time
APP: Final = 32  # and the application's name after that
PID: Final = 64  # and its process number
FLAGS: Final = {"CRLF": CRLF, "OPEN": OPEN, "PART": PART, "TIME": TIME, "HOST": HOST, "APP": APP, "PID": PID}

NONE: Final = 255  # "no value" in the decoded u8 columns; so a packet's dictionary has at most 255 names
WIDE_NONE: Final = 65_535  # the same in u16 columns, which only an archive's wider dictionaries need
PID_MAX: Final = 999_999_999  # nine digits: a longer number stays in its line
PRI_MAX: Final = 191  # facility 23, severity 7
POINT_MAX: Final = (1 << 62) - 1  # beyond any clock; low enough that adding a difference cannot overflow
_STREAM_MAX: Final = 65_535

NameLists = Sequence[Sequence[bytes]]
RunLike = tuple[int, int, int, int, int]  # stream, first, end, count, start: `packet.Run` is one


def flags_ok(flags: int) -> bool:
    """Can these bits stand together? A later field is taken out only with the one before it."""
    return not (
        flags & 128
        or (flags & PID and not flags & APP)
        or (flags & APP and not flags & HOST)
        or (flags & HOST and not flags & TIME)
        or (flags & PART and not flags & OPEN)
        or (flags & CRLF and flags & OPEN)
    )


FLAGS_OK: Final = bytes(flags_ok(value) for value in range(256))


def bounds(length: int, count: int, sizes: Sequence[int]) -> list[int]:
    """Where each column of a body of `length` bytes begins, and where the last one ends."""
    if len(sizes) != len(COLUMNS):
        raise ColumnsError(f"{len(sizes)} column sizes, expected {len(COLUMNS)}")
    if not 0 <= count <= PACKET_EVENTS_MAX:
        raise ColumnsError(f"{count} events in one packet, at most {PACKET_EVENTS_MAX}")
    edges = [0]
    for size in sizes:
        if size < 0:
            raise ColumnsError("a column of negative size")
        edges.append(edges[-1] + size)
    if edges[-1] != length:
        raise ColumnsError(f"columns of {edges[-1]} bytes in a body of {length}")
    if sizes[FLAGS_COLUMN] != count:
        raise ColumnsError(f"{sizes[FLAGS_COLUMN]} flags for {count} events")
    return edges


def check_runs(runs: Sequence[RunLike], count: int) -> list[RunLike]:
    """The runs of a packet of `count` events, or ColumnsError; the kernel can then trust each number's range."""
    if len(runs) > PACKET_RUNS_MAX:
        raise ColumnsError(f"{len(runs)} runs, at most {PACKET_RUNS_MAX}")
    total = 0
    for stream, first, end, events, start in runs:
        if not 0 <= stream < _STREAM_MAX:
            raise ColumnsError(f"run of stream {stream}")
        if not 0 <= first <= end <= POINT_MAX:
            raise ColumnsError(f"run of the offsets {first} to {end}")
        if events < 0 or (events == 0) != (first == end):
            raise ColumnsError(f"run of {events} events over the offsets {first} to {end}")
        if not 0 <= start <= POINT_MAX:
            raise ColumnsError(f"run that starts at the point {start}")
        total += events
    if total != count:
        raise ColumnsError(f"runs of {total} events in a packet of {count}")
    return [(stream, first, end, events, start) for stream, first, end, events, start in runs]


def check_names(names: Sequence[bytes], most: int) -> tuple[bytes, ...]:
    """A dictionary of names as they may stand in a line: 1 to 255 printable ASCII bytes, no space."""
    if len(names) > most:
        raise ColumnsError(f"dictionary of {len(names)} names, at most {most}")
    for name in names:
        if not 0 < len(name) <= NAME_MAX or not all(32 < byte < 127 for byte in name):
            raise ColumnsError(f"not a name that stands in a line: {bytes(name[:40])!r}")
    return tuple(bytes(name) for name in names)
