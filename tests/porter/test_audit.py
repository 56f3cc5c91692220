"""`audit` over bucks: what was injected is reported, exactly that, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from porter.audit import Audit, Found, audit, look_at_bucks
from porter.report import audit_table, lines_of
from porter.status import status, status_document
from porter.verdict import COMPLETE, CONFLICTING, INCOMPLETE, UNKNOWN
from protocol.packet import Class, Packet, build, read
from tests.porter.fleet import BUCKET, ENV, WIDTH, FakeBuck, FakeTailer, bucks_of, cluster_of
from tests.porter.sealing import Chain

pytestmark = pytest.mark.usefixtures("autojump_clock")


def ignore(done: int, what: str) -> None:
    """A job's progress, unseen."""


async def audited(bucks: Sequence[FakeBuck], *, deep: bool = False) -> Audit:
    """The audit of these bucks."""
    found = Found()
    async with cluster_of(bucks) as cluster:
        await look_at_bucks(cluster, found, 0, 0, deep, ignore)
    return audit(ENV, found)


def fleet(copies: int = 3) -> tuple[list[FakeBuck], FakeTailer, Chain]:
    """Three bucks with nine packets of a tailer, in `copies` copies each, and its goodbye."""
    bucks, tailer = bucks_of(3), FakeTailer()
    for number in range(9):
        tailer.read(b"/log", b"line %d\n" % number, first=7 * number, bucket=BUCKET + WIDTH * (number // 3))
    for number, packet in enumerate(tailer.packets):
        for copy in range(copies):
            bucks[(number + copy) % 3].put([packet])
    chain = Chain(tailer)
    chain.seal(tailer.packets, until=BUCKET + 3 * WIDTH, goodbye=True)
    for buck in bucks[:2]:
        buck.seals = [seal.data for seal in chain.seals]
    return bucks, tailer, chain


@pytest.mark.parametrize("deep", [False, True])
async def test_a_healthy_cluster_is_complete_and_its_copies_are_counted(deep: bool) -> None:
    bucks, tailer, _ = fleet()
    found = await audited(bucks, deep=deep)
    assert found.verdict.state == COMPLETE
    assert found.copies == {tailer.key.node: {1: 0, 2: 0, 3: 9}}
    assert found.below == {}
    assert lines_of(found) == []


@pytest.mark.parametrize("deep", [False, True])
async def test_packets_on_fewer_bucks_than_their_class_asks_for_are_counted_and_still_complete(deep: bool) -> None:
    bucks, tailer, _ = fleet()
    for packets in bucks[1].packets.values():
        packets[:] = [packet for packet in packets if packet.header.number not in (4, 5)]
    found = await audited(bucks, deep=deep)
    assert found.verdict.state == COMPLETE
    assert found.below == {tailer.key.node: 2}
    assert lines_of(found) == [
        f"web1 ({tailer.key.node.hex()[:12]}): 2 packets are on fewer bucks than their class asks for"
    ]
    assert found.document()["below"] == {tailer.key.node.hex(): 2}


async def test_two_bucks_are_enough_where_there_are_no_more_and_one_for_a_class_of_one() -> None:
    bucks, tailer = bucks_of(3), FakeTailer()
    tailer.read(b"/log", b"a\n", kind=Class(1, False, False))
    tailer.read(b"/log", b"b\n", first=2, kind=Class(2, False, False))
    bucks[0].put(tailer.packets)
    bucks[1].put(tailer.packets[1:])
    bucks[0].seals = [Chain(tailer).seal(tailer.packets, until=BUCKET + 3 * WIDTH, goodbye=True).data]
    assert (await audited(bucks)).below == {}
    bucks, tailer, _ = fleet(copies=2)
    assert (await audited(bucks)).below == {tailer.key.node: 9}
    two = [replace(buck, peers=[other for other in bucks[:2] if other is not buck]) for buck in bucks[:2]]
    assert (await audited(two)).below == {tailer.key.node: 6}, "three are on both"


async def test_a_packet_that_nobody_has_is_named() -> None:
    bucks, tailer, _ = fleet()
    for buck in bucks:
        for packets in buck.packets.values():
            packets[:] = [packet for packet in packets if packet.header.number not in (4, 5)]
    found = await audited(bucks)
    assert found.verdict.state == INCOMPLETE
    (line,) = lines_of(found)
    assert "incomplete: packets 4-5 of epoch 1" in line
    assert line.startswith(f"web1 ({tailer.key.node.hex()[:12]})")


async def test_with_a_dead_buck_what_is_missing_is_unknown_and_what_is_there_is_complete() -> None:
    bucks, tailer, _ = fleet(copies=2)
    bucks[2].dead = True
    found = await audited(bucks)
    (account,) = found.verdict.accounts
    assert account.state == COMPLETE, "the others have a copy of each"
    assert found.verdict.state == UNKNOWN, "a tailer that it alone has met would be missing"
    assert lines_of(found) == [
        "not asked: buck2 (buck2:7000): Connection refused",
        "unknown: a tailer that only a buck that was not asked has met would be missing here",
        f"web1 ({tailer.key.node.hex()[:12]}): 9 packets are on fewer bucks than their class asks for",
    ]
    bucks, _, _ = fleet(copies=1)
    bucks[2].dead = True
    (account,) = (await audited(bucks)).verdict.accounts
    assert account.state == UNKNOWN


async def test_a_tailer_that_only_a_silent_buck_has_met_makes_nothing_complete() -> None:
    bucks, _, _ = fleet()
    other = FakeTailer("web2")
    bucks[2].put(other.read(b"/other", b"alone\n"))
    assert (await audited(bucks)).verdict.state == UNKNOWN  # it has sealed nothing yet
    bucks[2].dead = True
    assert (await audited(bucks)).verdict.state == UNKNOWN
    assert (await audited(bucks)).document()["state"] == "unknown"


async def test_a_buck_that_is_unsure_takes_nothing_from_what_the_others_hold() -> None:
    """It was killed and started again: what is stated is there, so nothing waits for its repair."""
    bucks, _, _ = fleet()
    bucks[1].unsure = True
    found = await audited(bucks)
    assert (found.verdict.state, found.troubles) == (COMPLETE, ())
    assert found.notes == ("unsure what it holds: buck1 (buck1:7000)",)
    assert lines_of(found) == list(found.notes)


async def test_nothing_at_all_is_unknown() -> None:
    found = await audited(bucks_of(2))
    assert found.verdict.state == UNKNOWN
    assert found.troubles == (f"no tailer of env {ENV} was found: are host, env, peer and archive right?",)


async def test_a_tailer_that_had_nothing_to_say_is_complete() -> None:
    bucks = bucks_of(2)
    bucks[0].seals = [Chain(FakeTailer()).seal([], until=BUCKET + 3 * WIDTH, goodbye=True).data]
    found = await audited(bucks)
    assert (found.verdict.state, found.troubles) == (COMPLETE, ())


@pytest.mark.parametrize("copies", [1, 2])
async def test_the_last_word_of_a_table_and_the_exit_code_agree(
    copies: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bucks, _, _ = fleet(copies)
    bucks[0].seals = [b"no seal"]
    for dead, words in ((False, "complete, but see above"), (True, "unknown")):
        bucks[2].dead = dead
        audit_table(await audited(bucks))
        assert capsys.readouterr().out.splitlines()[-1] == words


async def test_what_an_unsure_buck_may_hold_is_unknown_where_it_is_missing() -> None:
    bucks, _, _ = fleet()
    bucks[1].unsure = True
    for buck in bucks:
        buck.packets[BUCKET] = []
    found = await audited(bucks)
    assert found.verdict.state == UNKNOWN
    assert "unsure what it holds: buck1 (buck1:7000)" in found.troubles


async def test_a_forged_seal_is_not_believed_and_who_showed_it_is_named() -> None:
    bucks, _, chain = fleet()
    forged = bytearray(chain.seals[0].data)
    forged[-70] ^= 1
    bucks[2].seals = [bytes(forged)]
    found = await audited(bucks)
    assert found.verdict.state == COMPLETE
    (line,) = found.troubles
    assert line.startswith("buck2 (buck2:7000): a seal that doesn't hold")


async def test_two_packets_under_one_key_are_a_conflict_even_if_no_buck_has_noticed() -> None:
    bucks, tailer, _ = fleet()
    twin = FakeTailer()
    other = twin.read(b"/log", b"LINE 0\n")[0]
    assert other.header.key == tailer.packets[0].header.key
    bucks[0].packets[BUCKET][0] = other
    found = await audited(bucks, deep=True)
    assert found.verdict.state == CONFLICTING
    names = ", ".join(sorted(packet.header.content.hex()[:16] for packet in (other, tailer.packets[0])))
    assert found.verdict.accounts[0].conflicts == [f"two packets are numbered 0 in epoch 1: {names}"]


async def test_two_packets_that_a_buck_knows_of_are_both_named() -> None:
    bucks, tailer, _ = fleet()
    other = FakeTailer().read(b"/log", b"LINE 0\n")[0]
    bucks[0].put([other])
    bucks[0].conflicts = {other.header.key}
    found = await audited(bucks)
    assert found.verdict.state == CONFLICTING
    for packet in (other, tailer.packets[0]):
        assert packet.header.content.hex()[:16] in found.verdict.accounts[0].conflicts[0]


def broken_copies(bucks: Sequence[FakeBuck], member: int, spoilt: dict[int, bytes]) -> None:
    """One buck gives other bytes for these numbers."""
    bucks[member].spoil = lambda packet: spoilt.get(packet.header.number, bytes(packet.data))


async def test_deep_names_the_corrupt_copy_and_the_good_one_counts() -> None:
    bucks, tailer, _ = fleet()
    broken_copies(bucks, 0, {0: bytes(tailer.packets[0].data)[:-1] + b"\0"})
    found = await audited(bucks, deep=True)
    assert found.verdict.state == COMPLETE
    (line,) = found.troubles
    assert line.startswith(
        f"a bad copy: packet 0 of {tailer.key.node.hex()}/1 in bucket {BUCKET} on buck0 (buck0:7000)"
    )
    assert found.copies[tailer.key.node] == {1: 0, 2: 1, 3: 8}
    assert found.below == {tailer.key.node: 1}


async def test_deep_finds_rows_that_are_not_what_the_header_says() -> None:
    bucks, tailer, _ = fleet(copies=1)
    packet = tailer.packets[0]
    lie = replace(packet.header, content=bytes(32))
    broken_copies(bucks, 0, {0: build(lie, bytes(packet.body))})
    found = await audited(bucks, deep=True)
    assert found.verdict.state == INCOMPLETE
    assert "its rows are not what its header says" in found.troubles[0]


async def test_deep_finds_a_packet_that_its_tailer_has_not_signed() -> None:
    bucks, tailer, _ = fleet(copies=1)
    forger = FakeTailer()
    forged: Packet = forger.read(b"/log", b"LINE 0\n")[0]
    broken_copies(bucks, 0, {0: bytes(read(bytes(forged.data)).data)})
    assert forged.header.key == tailer.packets[0].header.key
    found = await audited(bucks, deep=True)
    assert found.verdict.state == INCOMPLETE
    assert "it is not what its tailer has signed" in found.troubles[0]


async def test_status_shows_nodes_tailers_and_copies() -> None:
    bucks, tailer, _ = fleet(copies=2)
    bucks[2].dead = True
    async with cluster_of(bucks) as cluster:
        document = status_document(await status(cluster, ignore))
    nodes = document["nodes"]
    assert isinstance(nodes, list)
    assert [(node["address"], node["live"], node["packets"]) for node in nodes] == [
        ("buck0:7000", True, 6),
        ("buck1:7000", True, 6),
        ("buck2:7000", False, 0),
    ]
    assert nodes[2]["trouble"] == "Connection refused"
    assert document["width"] == WIDTH
    assert document["copies"] == {tailer.key.node.hex(): {2: 3, 1: 6}}
    assert document["below"] == {tailer.key.node.hex(): 9}
