"""Answers as they fit a frame, however much a peer has put here, and under however long names. Pure.

A set or a list that would be longer than the wire takes is cut to a lower bound, and whoever answers says `unsure`.
Streams are told in portions instead, since a file with a hole must not look whole because its second half was cut off.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from buck.index import StreamKey
from protocol.limits import ENTRIES_MAX, FRAME_SIZE_MAX, NAME_MAX, RANGES_MAX
from protocol.ranges import Ranges

# What fits a frame of lists beside CONFLICTS_MAX, with room to spare: an interval is at most 18 bytes.
INTERVALS_MAX = 180_000
CONFLICTS_MAX = 16_384
INTERVAL_SIZE, ENTRY_SIZE = 18, 72  # bytes at most: an entry's numbers, short names and all their lengths
PORTION_SIZE = 1 << 20  # of streams: a portion is closed above this
PORTION_INTERVALS = 4_096  # of one stream in one row
COVERAGE_SIZE = FRAME_SIZE_MAX - (64 << 10)

Entry = tuple[bytes, int, Ranges]
CoverageKey = tuple[bytes, bytes, bytes]  # stream, path, head


class StreamFacts(NamedTuple):
    """A stream in a bucket, or some of its intervals."""

    key: StreamKey
    tailer: bytes
    intervals: Ranges


def clip(ranges: Ranges) -> Ranges:
    """As much of a set as an answer takes: a lower bound of what is held."""
    return ranges if len(ranges) <= RANGES_MAX else Ranges(list(ranges)[:RANGES_MAX])


def fit(entries: Iterable[Entry]) -> tuple[list[Entry], bool]:
    """Entries as they fit an answer (no set longer than the wire takes), and whether any had to be left out."""
    fitting: list[Entry] = []
    room = INTERVALS_MAX
    for tailer, epoch, numbers in entries:
        pairs = list(numbers)[:room]
        room -= len(pairs) + 2  # an entry weighs as much as two intervals
        for at in range(0, len(pairs), RANGES_MAX):
            fitting.append((tailer, epoch, Ranges(pairs[at : at + RANGES_MAX])))
        if len(pairs) < len(numbers) or room <= 0:
            return fitting, True
    return fitting, False


def fit_coverage(
    epochs: Mapping[int, Ranges], streams: Mapping[CoverageKey, Ranges]
) -> tuple[dict[int, Ranges], dict[CoverageKey, Ranges], bool]:
    """How far a tailer's epochs and streams are covered, as it fits an answer; and whether that is less than all."""
    room, cut = COVERAGE_SIZE, False
    fitting: dict[int, Ranges] = {}
    for epoch, numbers in epochs.items():
        few = clip(numbers)
        room -= ENTRY_SIZE + INTERVAL_SIZE * len(few)
        cut = cut or len(few) < len(numbers)
        if room < 0 or len(fitting) == ENTRIES_MAX:
            return fitting, {}, True
        fitting[epoch] = few
    covered: dict[CoverageKey, Ranges] = {}
    for key, intervals in streams.items():
        few = clip(intervals)
        room -= ENTRY_SIZE + len(key[1]) + INTERVAL_SIZE * len(few)
        cut = cut or len(few) < len(intervals)
        if room < 0 or len(covered) == ENTRIES_MAX:
            return fitting, covered, True
        covered[key] = few
    return fitting, covered, cut


def portions(facts: Iterable[StreamFacts]) -> Iterator[list[StreamFacts]]:
    """Streams as they go into answers: all of them, one with many intervals as several."""
    rows: list[StreamFacts] = []
    size = 0
    for stream in facts:
        pairs = list(stream.intervals)
        for at in range(0, max(1, len(pairs)), PORTION_INTERVALS):
            few = pairs[at : at + PORTION_INTERVALS]
            rows.append(stream._replace(intervals=Ranges(few)))
            size += ENTRY_SIZE + NAME_MAX + len(stream.key.path) + INTERVAL_SIZE * len(few)
            if size >= PORTION_SIZE:
                yield rows
                rows, size = [], 0
    if rows:
        yield rows
