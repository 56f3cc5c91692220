"""Where reading begins in a file that was there before us, and which files are left alone.

By default a tailer that never ran here begins at the end, with lines at most a day old before it. The first of those is
looked for by halves: a log is in order of time, or nearly, so a probe of some KiB in the middle tells on which side the
day begins. Twenty probes do for a terabyte. A file whose lines carry no time can't be halved: if it was made within the
day all its lines are of that day, otherwise it is read from its end. A file not in order begins at one of the places
where the day begins.

Files that hold no lines are named once and left alone: compressed ones (their lines were read before they were
compressed, or belong to a time before us), and binary ones such as wtmp, which are full of NULs from end to end.
"""

from protocol.kernel import Builder, Stream, encode
from protocol.limits import LATE_S, POINT_HZ
from service.machine import File

PROBE = 64 << 10
NS = 1_000_000_000
POINT_MAX = (1 << 63) - 1

MAGICS = {
    b"\x1f\x8b": "compressed (gzip)",
    b"\x28\xb5\x2f\xfd": "compressed (zstd)",
    b"\xfd7zXZ\0": "compressed (xz)",
    b"BZh": "compressed (bzip2)",
    b"\x04\x22\x4d\x18": "compressed (lz4)",
    b"PK\x03\x04": "compressed (zip)",
    b"\x7fELF": "binary (a program)",
    b"LPKSHHRH": "binary (systemd's journal)",
    b"SQLite format 3\0": "binary (a database)",
}
# Of a file's first KiB: a text log has a NUL now and then, records of fixed size have them by the hundred.
NULS_MIN = 64


def unwanted(first: bytes, last: bytes) -> str:
    """Why a file with these first and last KiB is left alone; empty if it is not.

    A writer that goes on at its old offset after its log was cut leaves a hole of NULs before its lines, so only what
    is full of NULs at both ends is binary. UTF-16 text is half NULs, and is text.
    """
    for magic, reason in MAGICS.items():
        if first.startswith(magic):
            return reason
    return "binary (NULs)" if _is_binary(first) and _is_binary(last) else ""


def _is_binary(part: bytes) -> bool:
    nuls = part.count(b"\0")
    if nuls < NULS_MIN or nuls * 8 < len(part):
        return False
    halves = part[::2], part[1::2]
    return not any(nuls - half.count(b"\0") < NULS_MIN and 2 * nuls <= len(part) for half in halves)


def end_of_lines(file: File, size: int) -> int:
    """The beginning of the last, unfinished line, or the end of the file if its last line is finished."""
    back_to = max(0, size - PROBE)
    found = file.pread(size - back_to, back_to).rfind(b"\n")
    if found >= 0:
        return back_to + found + 1
    return size if back_to else 0


class Day:
    """Looks for the first line that is at most a day old."""

    def __init__(self, now_ns: int) -> None:
        self._since_ns = now_ns - LATE_S * NS
        self._builder = Builder()

    def begins_at(self, file: File, size: int, birth_ns: int, mtime_ns: int) -> int:
        """The offset of a line's beginning."""
        end = end_of_lines(file, size)
        if mtime_ns < self._since_ns:
            return end
        known = self._is_recent(file, max(0, end - PROBE), mtime_ns)
        if known is None:
            return 0 if birth_ns >= self._since_ns else end
        low, high = 0, end  # lines before `low` are older; those from `high` on are not
        while high - low > PROBE:
            middle = (low + high) // 2
            if self._is_recent(file, middle, mtime_ns):
                high = middle
            else:
                low = middle
        return self._line_after(file, low) if low else 0

    def _line_after(self, file: File, offset: int) -> int:
        found = file.pread(PROBE, offset).find(b"\n")
        return offset + found + 1

    def _is_recent(self, file: File, offset: int, mtime_ns: int) -> bool | None:
        """Is the newest line of the probe at `offset` of the last day? None where no line has a time."""
        probe = file.pread(PROBE, offset)
        begin = probe.find(b"\n") + 1 if offset else 0
        stream = Stream(mtime_ns // 10)
        self._builder.open(0, POINT_MAX, False)
        encode(stream, 0, probe, begin, offset + begin, 0, True, [self._builder], 0, POINT_MAX)
        self._builder.finish()
        if not stream.timed:
            return None
        return self._builder.point_max * (NS // POINT_HZ) >= self._since_ns
