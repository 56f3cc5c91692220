"""Verdicts: what is said of what is missing, of what can't be known, and of what contradicts itself."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from porter.verdict import COMPLETE, CONFLICTING, INCOMPLETE, UNKNOWN, Evidence, Verdict, judge
from protocol.packet import Class, Packet
from protocol.ranges import Ranges
from protocol.roster import RETIRED, Expected, Retirement
from protocol.seal import Seal
from tests.porter.fleet import BUCKET, ENV, WIDTH, FakeTailer, node_key
from tests.porter.sealing import Chain

DUE = BUCKET + WIDTH


def held_of(packets: Sequence[Packet]) -> dict[tuple[bytes, int], dict[int, Ranges]]:
    """As listings would say it."""
    held: defaultdict[tuple[bytes, int], defaultdict[int, Ranges]] = defaultdict(lambda: defaultdict(Ranges))
    for packet in packets:
        header = packet.header
        held[header.tailer, header.epoch][header.bucket].add(header.number, header.number + 1)
    return {epoch: dict(buckets) for epoch, buckets in held.items()}


def judged(seals: Sequence[Seal], packets: Sequence[Packet], **more: object) -> Verdict:
    """The verdict on what a few packets leave."""
    evidence = Evidence(seals, held_of(packets), **{"due": DUE, **more})  # type: ignore[arg-type]  # as the test says
    return judge(ENV, evidence)


def five() -> tuple[FakeTailer, list[Packet], Chain]:
    """A tailer with five packets and a chain for them."""
    tailer = FakeTailer()
    for number in range(5):
        tailer.read(b"/log", b"line %d\n" % number, first=7 * number)
    return tailer, tailer.packets, Chain(tailer)


def test_all_that_is_sealed_is_held() -> None:
    _, packets, chain = five()
    verdict = judged([chain.seal(packets)], packets)
    (account,) = verdict.accounts
    assert verdict.state == account.state == COMPLETE
    assert (account.packets, account.events, account.raw, account.seal) == (5, 5, 35, 0)


def test_a_missing_packet_is_incomplete_with_its_numbers() -> None:
    _, packets, chain = five()
    verdict = judged([chain.seal(packets)], [*packets[:2], packets[4]])
    (gap,) = verdict.accounts[0].gaps
    assert verdict.state == INCOMPLETE
    assert (gap.epoch, gap.bucket, gap.numbers, gap.allowed) == (1, BUCKET, Ranges([(2, 4)]), False)


def test_what_a_class_allowed_to_be_lost_is_incomplete_and_no_broken_promise() -> None:
    tailer = FakeTailer()
    packets = tailer.read(b"/log", b"a\n", kind=Class(1, False, False))
    verdict = judged([Chain(tailer).seal(packets)], [])
    assert verdict.state == INCOMPLETE
    assert verdict.accounts[0].gaps[0].allowed


def test_a_missing_packet_that_a_silent_buck_may_have_is_unknown() -> None:
    _, packets, chain = five()
    seal = chain.seal(packets)
    for doubt in ({"asked": False}, {"unsure": {BUCKET}}):
        verdict = judged([seal], packets[:4], **doubt)
        assert verdict.state == verdict.accounts[0].state == UNKNOWN
        assert "may be on a buck that was not asked" in verdict.accounts[0].unknown[0].reason
    assert not judged([seal], packets, asked=False).document()["asked"]
    elsewhere = judged([seal], packets[:4], unsure={BUCKET + WIDTH})
    assert elsewhere.state == INCOMPLETE, "what a buck may have lost of another bucket brings none of this one"


def test_without_every_answer_nothing_is_complete_but_without_certainty_what_is_held_is() -> None:
    _, packets, chain = five()
    seal = chain.seal(packets)
    assert judged([seal], packets, unsure={BUCKET}).state == COMPLETE
    verdict = judged([seal], packets, asked=False)
    assert (verdict.state, verdict.accounts[0].state) == (UNKNOWN, COMPLETE)


def test_numbers_that_no_seal_has_stated_are_unknown() -> None:
    _, packets, chain = five()
    seals = [chain.seal(packets[:1]), chain.seal([packets[1], packets[4]], until=DUE + WIDTH)]
    verdict = judged(seals, packets)
    (unknown,) = verdict.accounts[0].unknown
    assert unknown.reason == "packets 2-3 of epoch 1 were never stated"
    assert (unknown.start, unknown.end) == (BUCKET, DUE + WIDTH)
    late = judge(ENV, Evidence(seals, held_of(packets)), start=DUE + WIDTH)
    assert late.state == COMPLETE, "it was due before"


def test_numbers_that_were_given_up_stated_later_or_lost_in_a_crash_are_not_missing_from_the_seals() -> None:
    _, packets, chain = five()
    seals = [chain.seal(packets[3:]), chain.seal(packets[:2], given_up=Ranges([(2, 3)]))]
    assert judged(seals, packets).accounts[0].unknown == []
    tailer, packets, chain = five()
    seal = chain.seal(packets[3:], lost_after=4, read_again=True)
    assert judged([seal], packets, healed=frozenset({tailer.key.node})).state == COMPLETE


def test_a_missing_seal_makes_its_time_unknown() -> None:
    _, packets, chain = five()
    parts = ((packets[:2], DUE), (packets[2:3], DUE + WIDTH), (packets[3:], DUE + 2 * WIDTH))
    seals = [chain.seal(part, until=until) for part, until in parts]
    verdict = judged([seals[0], seals[2]], packets)
    assert verdict.state == UNKNOWN
    (unknown,) = verdict.accounts[0].unknown
    assert (unknown.start, unknown.end) == (seals[0].until, seals[2].until)


def test_a_host_that_fell_silent_is_unknown_from_there_on_but_not_after_a_goodbye() -> None:
    _, packets, chain = five()
    seal = chain.seal(packets)
    assert judged([seal], packets, due=DUE).state == COMPLETE
    late = judged([seal], packets, due=DUE + WIDTH)
    assert late.state == UNKNOWN
    assert late.accounts[0].unknown[0].start == seal.until
    goodbye = chain.seal([], until=DUE, goodbye=True)
    assert judged([seal, goodbye], packets, due=DUE + 9 * WIDTH).state == COMPLETE


def test_a_tailer_that_stopped_in_order_is_still_expected() -> None:
    _, packets, chain = five()
    stop = chain.seal(packets, until=DUE, closing=True)
    assert judged([stop], packets, due=DUE).state == COMPLETE
    (unknown,) = judged([stop], packets, due=DUE + WIDTH).accounts[0].unknown
    assert (unknown.start, unknown.reason) == (DUE, "it was stopped, and neither runs again nor has said goodbye")


def test_a_host_of_the_roster_that_nobody_knows_otherwise_is_unknown_from_when_it_was_met() -> None:
    _, packets, chain = five()
    goodbye = chain.seal(packets, goodbye=True)
    met = Expected(node_key("db7").node, b"db7", DUE + WIDTH)
    assert judged([goodbye], packets, expected=[met], due=DUE + WIDTH).state == COMPLETE, "it was met later"
    verdict = judged([goodbye], packets, expected=[met], due=DUE + 2 * WIDTH)
    (account,) = [one for one in verdict.accounts if one.host == b"db7"]
    assert (verdict.state, account.state, account.unknown[0].start) == (UNKNOWN, UNKNOWN, DUE + WIDTH)
    assert judge(ENV, Evidence([], {}, due=DUE + 2 * WIDTH, expected=[met]), end=DUE).accounts == ()


def retirement(tailer: FakeTailer, seals: int, until: int) -> Retirement:
    admin = node_key("admin")
    return Retirement(ENV, tailer.key.node, "tailer", tailer.host, admin.public, 1, seals, until).signed(admin)


def test_of_a_retired_host_only_the_window_in_which_it_fell_silent_stays_unknown() -> None:
    tailer, packets, chain = five()
    seal = chain.seal(packets)
    facts = {"due": DUE + 9 * WIDTH, "retired": [retirement(tailer, 1, seal.until)]}
    verdict = judged([seal], packets, **facts)
    (unknown,) = verdict.accounts[0].unknown
    assert (unknown.start, unknown.end) == (seal.until, seal.until + WIDTH)
    assert (verdict.accounts[0].end, verdict.document()["tailers"][0]["roster"]) == (RETIRED, RETIRED)
    evidence = Evidence([seal], held_of(packets), **facts)
    assert judge(ENV, evidence, start=seal.until + WIDTH).state == COMPLETE
    assert judge(ENV, evidence, end=seal.until).state == COMPLETE
    back = [seal, chain.seal([], until=DUE + 3 * WIDTH)]
    assert judged(back, packets, **facts).accounts[0].unknown[0].start == DUE + 3 * WIDTH, "it is expected again"


def test_seals_that_only_a_retirement_knows_of_are_missing() -> None:
    tailer, packets, chain = five()
    seal = chain.seal(packets)
    retired = [retirement(tailer, 3, seal.until + 2 * WIDTH)]
    reasons = [one.reason for one in judged([seal], packets, due=DUE + 9 * WIDTH, retired=retired).accounts[0].unknown]
    assert reasons[0] == "its chain had 3 seals when it was retired: the last can't be found"


def test_what_was_dropped_or_not_read_is_told_by_class() -> None:
    tailer, cheap = FakeTailer(), Class(1, False, False)
    packets = [*tailer.read(b"/log", b"a\n", kind=cheap), *tailer.read(b"/audit", b"b\n")]
    allowed = Chain(tailer).seal(packets, dropped=7, unread=9, since=BUCKET)
    account = judged([allowed], packets).accounts[0]
    assert (account.state, account.broken, account.dropped, account.unread) == (INCOMPLETE, False, 7, 9)
    assert account.classes[cheap] == {"packets": 1, "events": 1, "raw": 2, "given_up": 0, "dropped": 7, "unread": 9}
    assert account.classes[Class()] == {"packets": 1, "events": 1, "raw": 2}
    broken = Chain(tailer).seal(packets[::-1], dropped=7, since=BUCKET)
    assert judged([broken], packets).accounts[0].broken


def test_what_was_lost_is_held_against_every_bucket_that_it_may_be_of() -> None:
    """A line may be a day old when it is read: what was lost of it reaches behind the seal before."""
    tailer, packets, chain = five()
    chain.seal(packets)
    since = BUCKET - 86_400
    chain.seal(tailer.read(b"/log", b"x\n", bucket=DUE), until=DUE + WIDTH, lost_after=3, since=since)
    evidence = Evidence(chain.seals, held_of(tailer.packets))
    assert judge(ENV, evidence, end=since).state == COMPLETE
    assert judge(ENV, evidence, start=since, end=since + WIDTH).state == UNKNOWN
    known = chain.seal(tailer.read(b"/log", b"y\n", bucket=DUE), given_up=Ranges([(99, 100)]), since=DUE, bucket=DUE)
    evidence = Evidence([*chain.seals[:1], known], held_of(tailer.packets))
    assert judge(ENV, evidence, end=DUE).accounts[0].gaps == [], "of a packet that is known the bucket is known"
    assert judge(ENV, evidence, start=DUE).accounts[0].gaps


def test_a_tailer_without_any_seal_is_unknown() -> None:
    _, packets, _ = five()
    verdict = judged([], packets)
    assert verdict.state == UNKNOWN
    assert verdict.accounts[0].unstated == 5


def test_packets_that_are_not_sealed_yet_are_counted_and_change_nothing() -> None:
    _, packets, chain = five()
    verdict = judged([chain.seal(packets[:3])], packets)
    assert verdict.state == COMPLETE
    assert verdict.accounts[0].unstated == 2


def test_two_chains_of_one_key_are_a_conflict() -> None:
    tailer, packets, chain = five()
    twin = Chain(tailer)
    verdict = judged([chain.seal(packets), twin.seal(packets[:1])], packets)
    assert verdict.state == CONFLICTING


def test_two_packets_under_one_key_are_a_conflict() -> None:
    _, packets, chain = five()
    verdict = judged([chain.seal(packets)], packets, conflicts={packets[1].header.key: [b"one", b"other"]})
    assert verdict.state == CONFLICTING
    assert "numbered 1" in verdict.accounts[0].conflicts[0]
    assert verdict.accounts[0].conflicts[0].endswith(f"{b'one'.hex()}, {b'other'.hex()}")


def test_what_a_crash_took_is_unknown_unless_the_files_were_read_again() -> None:
    tailer, packets, chain = five()
    healed = frozenset({tailer.key.node})
    again = chain.seal(packets, lost_after=4, read_again=True)
    assert judged([again], packets).state == UNKNOWN
    assert judged([again], packets, healed=healed).state == COMPLETE
    gone = Chain(tailer).seal(packets, lost_after=4)
    assert judged([gone], packets, healed=healed).state == UNKNOWN


def test_what_went_before_it_was_read_is_incomplete() -> None:
    _, packets, chain = five()
    verdict = judged([chain.seal(packets, unread=17)], packets)
    assert verdict.state == INCOMPLETE
    assert verdict.accounts[0].unread == 17


def test_a_crash_is_held_against_the_time_in_which_it_lost_something_and_not_that_in_which_it_was_noticed() -> None:
    """The host was away for nine windows: its lost seconds lie after the seal before, not where it came back."""
    tailer = FakeTailer()
    first = tailer.read(b"/log", b"a\n")
    later = tailer.read(b"/log", b"c\n", first=4, bucket=BUCKET + 9 * WIDTH)
    chain = Chain(tailer)
    chain.seal(first, until=BUCKET + WIDTH)
    chain.seal(later, until=BUCKET + 10 * WIDTH, lost_after=0, given_up=Ranges([(7, 8)]), since=BUCKET + WIDTH)
    evidence = Evidence(chain.seals, held_of(tailer.packets))
    assert judge(ENV, evidence, end=BUCKET + WIDTH).state == COMPLETE
    for start in (BUCKET + WIDTH, BUCKET + 5 * WIDTH, BUCKET + 9 * WIDTH):
        verdict = judge(ENV, evidence, start=start, end=start + WIDTH)
        assert verdict.state == INCOMPLETE
        (account,) = verdict.accounts
        assert [(gap.numbers, gap.allowed) for gap in account.gaps] == [(Ranges([(7, 8)]), False)]
        assert [(one.start, one.end) for one in account.unknown] == [(BUCKET + WIDTH, BUCKET + 10 * WIDTH)]
    assert judge(ENV, evidence, start=BUCKET + 10 * WIDTH).state == COMPLETE


def test_a_packet_that_was_sealed_and_given_up_later_is_missing_from_its_own_bucket() -> None:
    """Its tailer could not read it back. Stating it twice makes it neither there nor missing twice."""
    _, packets, chain = five()
    seals = [
        chain.seal(packets),
        chain.seal(packets[:1], given_up=Ranges([(3, 4)]), numbers=Ranges(), contents=b"", since=BUCKET),
    ]
    kept = [packet for packet in packets if packet.header.number != 3]
    verdict = judged(seals, kept)
    (gap,) = verdict.accounts[0].gaps
    assert (verdict.state, gap.bucket, gap.numbers) == (INCOMPLETE, BUCKET, Ranges([(3, 4)]))
    assert gap.reason == "sealed, and given up by its tailer"
    assert judged(seals, packets).state == COMPLETE, "some buck had it after all"


def test_a_goodbye_is_taken_back_by_packets_that_no_seal_states() -> None:
    """It was started again, and its host died before the next seal: what else it wrote, nobody knows."""
    tailer = FakeTailer()
    first = tailer.read(b"/log", b"a\n")
    goodbye = Chain(tailer).seal(first, until=BUCKET + WIDTH, goodbye=True)
    more = tailer.read(b"/log", b"b\n", first=2, bucket=BUCKET + 3 * WIDTH)
    verdict = judged([goodbye], [*first, *more], due=BUCKET + 9 * WIDTH)
    assert verdict.state == UNKNOWN
    assert verdict.accounts[0].unknown[0].start == BUCKET + 3 * WIDTH
    assert judged([goodbye], [*first, *more], due=BUCKET + 3 * WIDTH).state == COMPLETE  # it may still seal them


def test_events_dropped_at_the_source_make_it_incomplete() -> None:
    _, packets, chain = five()
    assert judged([chain.seal(packets, dropped=3)], packets).state == INCOMPLETE


def test_a_range_looks_at_its_own_buckets_only() -> None:
    tailer = FakeTailer()
    first = tailer.read(b"/log", b"a\n")
    second = tailer.read(b"/log", b"b\n", first=2, bucket=BUCKET + WIDTH)
    seal = Chain(tailer).seal([*first, *second], until=BUCKET + 2 * WIDTH)
    evidence = Evidence([seal], held_of(second), due=0)
    assert judge(ENV, evidence).state == INCOMPLETE
    assert judge(ENV, evidence, start=BUCKET + WIDTH).state == COMPLETE
    assert judge(ENV, evidence, end=BUCKET + WIDTH).state == INCOMPLETE


def test_a_verdict_of_one_host_does_not_speak_of_others() -> None:
    one, other = FakeTailer("a"), FakeTailer("b")
    packets = [*one.read(b"/log", b"a\n"), *other.read(b"/log", b"b\n")]
    seals = [Chain(one).seal(packets[:1]), Chain(other).seal(packets[1:])]
    evidence = Evidence(seals, held_of(packets[:1]))
    assert judge(ENV, evidence, hosts=[b"a"]).state == COMPLETE
    assert judge(ENV, evidence, hosts=[b"b"]).state == INCOMPLETE


@given(st.sets(st.integers(0, 11)), st.lists(st.integers(1, 11), max_size=3))
def test_the_gaps_are_exactly_what_is_missing_however_it_was_sealed(lost: set[int], cuts: list[int]) -> None:
    tailer = FakeTailer()
    for number in range(12):
        tailer.read(b"/log", b"x\n", first=2 * number, bucket=BUCKET + WIDTH * (number % 3))
    chain = Chain(tailer)
    edges = [0, *sorted(set(cuts)), 12]
    for low, high in pairwise(edges):
        chain.seal(tailer.packets[low:high])
    kept = [packet for packet in tailer.packets if packet.header.number not in lost]
    verdict = judged(chain.seals, kept)
    missing = {number for account in verdict.accounts for gap in account.gaps for number in gap.numbers.numbers()}
    assert missing == lost
    assert verdict.state == (INCOMPLETE if lost else COMPLETE)


def test_the_document_is_json_and_says_as_of_which_seal() -> None:
    _, packets, chain = five()
    seal = chain.seal(packets)
    document = json.loads(json.dumps(judged([seal], packets[1:]).document(parts=["a"])))
    (tailer,) = document["tailers"]
    assert document["state"] == "incomplete"
    assert document["parts"] == ["a"]
    assert tailer["seal"] == {"number": 0, "digest": seal.digest.hex(), "until": seal.until, "closing": False}
    assert tailer["incomplete"][0]["numbers"] == [0, 1]
