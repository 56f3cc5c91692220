"""Gathering a bucket: each packet once, from a good copy; what is not to be had is said."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
import trio.testing

from porter.cluster import NobodyError
from porter.gather import Epoch, Harvest, Survey, fetch, survey, survey_all
from protocol.messages import Get, List
from protocol.packet import Key, Packet
from protocol.ranges import Ranges
from service.config import ConfigError
from service.run import leaves
from tests.porter.fleet import BUCKET, FakeBuck, FakeTailer, bucks_of, cluster_of, lines_of


def packets_of(tailer: FakeTailer, count: int) -> list[Packet]:
    """Some packets of one file."""
    return [tailer.read(b"/log", lines_of(10 * n, 10), first=400 * n)[0] for n in range(count)]


async def gathered(bucks: list[FakeBuck], **more: object) -> tuple[Counter[Key], Survey, Harvest]:
    """Fetch all of the bucket."""
    async with cluster_of(bucks, **more) as cluster:
        found = await survey(cluster, BUCKET)
        async with fetch(cluster, found) as harvest:
            keys = Counter([packet.header.key async for packet in harvest])
        return keys, found, harvest


async def test_one_peer_is_enough_and_each_packet_comes_once_from_all_bucks_together(
    autojump_clock: trio.testing.MockClock,
) -> None:
    bucks = bucks_of(3)
    packets = packets_of(FakeTailer(), 200)
    for number, packet in enumerate(packets):
        for copy in range(2):
            bucks[(number + copy) % 3].put([packet])
    keys, found, harvest = await gathered(bucks)
    assert keys == Counter({packet.header.key: 1 for packet in packets})
    assert not harvest.missing
    assert not harvest.bad
    assert found.sure
    assert [sum(n.count for n in level.values()) for level in found.copies()] == [200, 200]
    assert sum(buck.given for buck in bucks) == 200
    assert all(buck.given for buck in bucks), "the load is spread"


async def test_small_buckets_are_asked_of_one_buck_each_and_not_always_of_the_same() -> None:
    bucks, tailer = bucks_of(3), FakeTailer()
    buckets = [BUCKET + 300 * n for n in range(6)]
    packets = [tailer.read(b"/log", lines_of(10 * n, 10), first=400 * n, bucket=at)[0] for n, at in enumerate(buckets)]
    for buck in bucks:
        buck.put(packets)
    async with cluster_of(bucks) as cluster:
        for found in await survey_all(cluster, buckets):
            async with fetch(cluster, found) as harvest:
                assert len([packet async for packet in harvest]) == 1
    assert [sum(isinstance(message, Get) for message in buck.asked) for buck in bucks] == [2, 2, 2]
    assert [sum(isinstance(message, List) for message in buck.asked) for buck in bucks] == [6, 6, 6]


async def test_a_corrupt_copy_is_replaced_by_a_good_one(autojump_clock: trio.testing.MockClock) -> None:
    bucks = bucks_of(2)
    packets = packets_of(FakeTailer(), 20)
    for buck in bucks:
        buck.put(packets)
    bucks[0].spoil = lambda packet: bytes(packet.data)[:-1] + bytes([packet.digest[-1] ^ 1])
    keys, _, harvest = await gathered(bucks)
    assert keys == Counter({packet.header.key: 1 for packet in packets})
    assert {bad.member.address for bad in harvest.bad} == {"buck0:7000"}
    assert not harvest.missing


async def test_a_buck_that_gives_another_packet_than_was_asked_for_is_not_believed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    bucks = bucks_of(2)
    tailer = FakeTailer()
    packets = packets_of(tailer, 100)
    other = FakeTailer("evil").read(b"/log", b"phantom\n")[0]
    for buck in bucks:
        buck.put(packets)
    bucks[1].spoil = lambda _: bytes(other.data)
    keys, _, harvest = await gathered(bucks)
    assert keys == Counter({packet.header.key: 1 for packet in packets})
    assert {(bad.member.address, bad.why) for bad in harvest.bad} == {("buck1:7000", "not what was asked for")}


async def test_a_buck_that_lists_what_it_does_not_give_is_passed_over(autojump_clock: trio.testing.MockClock) -> None:
    bucks = bucks_of(3)
    packets = packets_of(FakeTailer(), 30)
    bucks[0].put(packets)
    bucks[1].put(packets)
    bucks[0].spoil = lambda _: None
    keys, _, harvest = await gathered(bucks)
    assert len(keys) == 30
    assert not harvest.missing


async def test_what_nobody_gives_is_missing_and_named(autojump_clock: trio.testing.MockClock) -> None:
    bucks = bucks_of(2)
    tailer = FakeTailer()
    packets = packets_of(tailer, 5)
    for buck in bucks:
        buck.put(packets)
        buck.spoil = lambda packet: None if packet.header.number in (1, 3) else bytes(packet.data)
    keys, _, harvest = await gathered(bucks)
    assert {key.number for key in keys} == {0, 2, 4}
    assert harvest.missing == {Epoch(tailer.key.node, 1): Ranges([(1, 2), (3, 4)])}


async def test_a_buck_that_falls_silent_costs_nothing_that_another_has(autojump_clock: trio.testing.MockClock) -> None:
    bucks = bucks_of(2)
    packets = packets_of(FakeTailer(), 50)
    for buck in bucks:
        buck.put(packets)
    bucks[0].mute = (Get,)
    keys, _, harvest = await gathered(bucks)
    assert len(keys) == 50
    assert not harvest.missing


async def test_a_member_that_is_down_or_does_not_list_is_silent_and_not_forgotten(
    autojump_clock: trio.testing.MockClock,
) -> None:
    bucks = bucks_of(4)
    bucks[0].put(packets_of(FakeTailer(), 3))
    bucks[1].dead = True
    bucks[2].mute = (List,)
    bucks[3].unsure = True
    keys, found, _ = await gathered(bucks)
    assert len(keys) == 3
    assert sorted(member.address for member in found.silent) == ["buck1:7000", "buck2:7000"]
    assert [member.address for member in found.unsure] == ["buck3:7000"]
    assert not found.sure


async def test_two_packets_under_one_key_are_both_given_out(autojump_clock: trio.testing.MockClock) -> None:
    bucks = bucks_of(2)
    one, other = FakeTailer(), FakeTailer()
    bucks[0].put(one.read(b"/log", b"this\n"))
    bucks[1].put(other.read(b"/log", b"that\n"))
    bucks[0].conflicts = {one.packets[0].header.key}
    keys, found, _ = await gathered(bucks)
    assert keys == Counter({one.packets[0].header.key: 2})
    assert found.conflicts == {one.packets[0].header.key}


async def test_with_no_live_buck_the_error_is_one_line_that_names_each(
    autojump_clock: trio.testing.MockClock,
) -> None:
    bucks = bucks_of(1)
    bucks[0].dead = True
    with pytest.raises(ExceptionGroup) as caught:
        await gathered(bucks)
    (error,) = leaves(caught.value)
    assert isinstance(error, NobodyError)
    assert str(error) == "no live buck: buck0:7000: Connection refused (name others with --peer HOST:PORT)"


@pytest.mark.parametrize(("name", "value"), [("env", "prod"), ("width", 600)])
async def test_bucks_of_another_env_or_width_are_a_mistake_in_the_settings(
    autojump_clock: trio.testing.MockClock, name: str, value: object
) -> None:
    bucks = bucks_of(2)
    setattr(bucks[1], name, value)
    with pytest.raises(ExceptionGroup) as caught:
        await gathered(bucks, peer=[buck.address for buck in bucks])
    (error,) = leaves(caught.value)
    assert isinstance(error, ConfigError)
    assert str(error).startswith("buck")  # which of two widths is the wrong one nobody can tell
    assert {"env": "it belongs to env prod, not test", "width": "s wide, those of another buck"}[name] in str(error)
    assert "\n" not in str(error)
