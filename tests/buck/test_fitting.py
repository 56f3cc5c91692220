"""Answers fit their frames, whatever a tailer put here: they can be sent, and whoever asked takes them."""

import pytest

from buck import fitting
from buck.fitting import CONFLICTS_MAX, INTERVALS_MAX, CoverageKey, StreamFacts, clip
from buck.index import StreamKey
from protocol.limits import ENTRIES_MAX, NAME_MAX, PATH_MAX, RANGES_MAX
from protocol.messages import Intervals, Listing, Message, StreamsAre
from protocol.packet import Key
from protocol.payload import dump, load
from protocol.ranges import Ranges
from tests.buck.making import KEY

HIGH = 1 << 63  # numbers that take nine bytes each
HOLED = Ranges((HIGH + 2 * n, HIGH + 2 * n + 1) for n in range(RANGES_MAX + 5))
FEW = Ranges([(HIGH, HIGH + 1)])


def sent(message: Message) -> Message:
    return load(type(message), b"".join(dump(message)))


def test_a_list_too_long_for_an_answer_is_a_lower_bound() -> None:
    many = Ranges((2 * n, 2 * n + 1) for n in range(INTERVALS_MAX + 5))
    fitted, cut = fitting.fit([(KEY.node, 7, many)])
    assert cut
    assert sum(len(numbers) for _, _, numbers in fitted) == INTERVALS_MAX
    assert max(len(numbers) for _, _, numbers in fitted) <= RANGES_MAX
    whole, cut = fitting.fit([(KEY.node, 7, Ranges([(0, 9)]))])
    assert (whole, cut) == ([(KEY.node, 7, Ranges([(0, 9)]))], False)


@pytest.mark.parametrize("numbers", [FEW, HOLED])
def test_the_longest_list_with_all_conflicts_can_be_sent(numbers: Ranges) -> None:
    fitted, cut = fitting.fit((KEY.node, HIGH + epoch, numbers) for epoch in range(70_000))
    assert cut
    conflicts = tuple(Key(KEY.node, HIGH, HIGH + n) for n in range(CONFLICTS_MAX))
    listing = Listing(0xFFFF_FFFF, 0xFFFF_FFFF, tuple(fitted), True, conflicts)
    assert len(sent(listing).entries) == len(fitted)  # type: ignore[attr-defined]  # what was sent is a Listing


@pytest.mark.parametrize(
    ("epochs", "streams", "numbers", "path"),
    [
        (ENTRIES_MAX + 5, 10, FEW, b"/var/log/syslog"),  # a restart each second
        (20, 10, HOLED, b"/var/log/syslog"),  # every other number
        (1, 4_200, FEW, b"/" * PATH_MAX),
        (1, 20, HOLED, b"/var/log/syslog"),
        (1, ENTRIES_MAX + 5, FEW, b"/x"),  # all with the head that was asked for
    ],
)
def test_the_widest_coverage_is_cut_to_a_lower_bound(epochs: int, streams: int, numbers: Ranges, path: bytes) -> None:
    held = {HIGH + epoch: numbers for epoch in range(epochs)}
    covered: dict[CoverageKey, Ranges] = {(n.to_bytes(16, "big"), path, b"headhash"): numbers for n in range(streams)}
    some, parts, cut = fitting.fit_coverage(held, covered)
    assert cut
    assert len(some) <= ENTRIES_MAX
    assert all(one == clip(held[epoch]) for epoch, one in some.items())
    assert all(one == clip(covered[key]) for key, one in parts.items())
    rows = tuple((*key, intervals) for key, intervals in sorted(parts.items()))
    answer = sent(Intervals(0xFFFF_FFFF, tuple(sorted(some.items())), rows, (), cut))
    assert (len(answer.epochs), len(answer.streams)) == (len(some), len(parts))  # type: ignore[attr-defined]  # Intervals


def facts(count: int, path: bytes, intervals: Ranges) -> list[StreamFacts]:
    host = b"h" * NAME_MAX
    return [StreamFacts(StreamKey(n.to_bytes(16, "big"), path, host), KEY.node, intervals) for n in range(count)]


@pytest.mark.parametrize(
    "streams",
    [
        facts(0, b"/x", FEW),
        facts(1, b"/empty", Ranges()),
        facts(300, b"/" * PATH_MAX, FEW),
        facts(3, b"/x", HOLED),
        facts(20_000, b"/x", FEW),
    ],
)
def test_streams_come_whole_in_portions_that_can_be_sent(streams: list[StreamFacts]) -> None:
    back: dict[bytes, Ranges] = {}
    for some in fitting.portions(streams):
        rows = tuple((one.key.host, one.key.path, one.key.id, one.tailer, one.intervals) for one in some)
        for *_, stream, _, intervals in sent(StreamsAre(1, rows)).streams:  # type: ignore[attr-defined]  # StreamsAre
            back[stream] = back.get(stream, Ranges()) | intervals
    assert back == {one.key.id: one.intervals for one in streams}


def test_coverage_that_fits_is_told_whole() -> None:
    covered: dict[CoverageKey, Ranges] = {(b"s" * 16, b"/x", b"headhash"): Ranges([(0, 5)])}
    assert fitting.fit_coverage({7: FEW}, covered) == ({7: FEW}, covered, False)
