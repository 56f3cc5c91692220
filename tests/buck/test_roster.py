"""The roster of a buck: whom it met, who is retired, on its disks and by way of the others."""

import errno
from dataclasses import replace

import pytest
import trio

from buck.counts import Counts
from buck.errors import Declined
from buck.roster import RosterStore
from buck.volume import Volume
from protocol import messages as m
from protocol.identity import NodeKey
from protocol.roster import Expected, Retirement
from protocol.secure import Security
from protocol.trust import Trust
from tests.buck.making import KEY, NODE, OTHER, WIDTH, in_world, make, seal
from tests.buck.test_session import asking, hello, put, start, with_a_buck
from tests.simulation.machine import START_NS, SimMachine, World

ADMIN = NodeKey.from_seed(b"\x09" * 32)
GONE = Retirement("prod", KEY.node, "tailer", b"web1", ADMIN.public, START_NS, 1, 600)


async def opened(
    machine: SimMachine, roots: tuple[str, ...] = ("/d1",), security: Security | None = None
) -> RosterStore:
    counts = Counts()
    volumes = [Volume(machine, root, "prod", counts) for root in roots]
    for volume in volumes:
        await volume.open(NODE.node, WIDTH)
    roster = RosterStore(machine, volumes, "prod", counts, security)
    roster.load()
    roster.check()
    return roster


def admin() -> m.Hello:
    return hello(ADMIN, "admin")


@in_world
async def test_a_retirement_survives_a_power_cut_right_after_its_ok(world: World) -> None:
    for seed in range(20):
        host = world.host(f"host{seed}")
        roster = await opened(host.process())
        roster.meet(OTHER.node, b"db1")
        await roster.retire(GONE.signed(ADMIN))
        host.power_cut()
        host.power_on()
        again = await opened(host.process())
        assert list(again.retired.values()) == [GONE]
        assert list(again.expected) == [OTHER.node]


@in_world
async def test_a_retirement_that_no_disk_took_at_first_is_written_once_one_does(world: World) -> None:
    host = world.host("a")
    roster = await opened(host.process())

    def full(operation: str, path: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    host.platter.before = full
    with pytest.raises(Declined):
        await roster.retire(GONE.signed(ADMIN))
    host.platter.before = lambda operation, path: None
    with trio.move_on_after(5):
        await roster._save_again_and_again()
    host.power_cut()
    host.power_on()
    assert list((await opened(host.process())).retired.values()) == [GONE]


@in_world
async def test_a_damaged_roster_is_taken_from_the_other_disk(world: World) -> None:
    host = world.host("a")
    roster = await opened(host.process(), ("/d1", "/d2"))
    await roster.retire(GONE.signed(ADMIN))
    host.power_cut()
    host.power_on()
    machine = host.process()
    await machine.disk.replace("/d1/prod/roster", b"nonsense", mode=0o640)
    assert list((await opened(machine, ("/d1", "/d2"))).retired.values()) == [GONE]


@in_world
async def test_the_earliest_meeting_counts_and_a_retirement_that_does_not_hold_is_left(world: World) -> None:
    roster = await opened(world.machine("a"))
    roster.meet(KEY.node, b"web1")
    assert roster.expected[KEY.node] == (KEY.node, b"web1", START_NS // 10**9)
    forged = bytearray(GONE.signed(ADMIN).data)
    forged[-1] ^= 1
    elsewhere = replace(GONE, env="staging").signed(ADMIN).data
    roster._merge([Expected(KEY.node, b"web1", 77), Expected(KEY.node, b"web1", 99)], [bytes(forged), elsewhere])
    assert roster.expected[KEY.node].since == 77
    assert not roster.retired


@in_world
async def test_a_retirement_of_another_env_and_one_that_no_disk_takes_are_declined(world: World) -> None:
    host = world.host("a")
    roster = await opened(host.process())
    with pytest.raises(Declined, match="staging"):
        await roster.retire(replace(GONE, env="staging").signed(ADMIN))
    host.platter.capacity = host.platter.used
    with pytest.raises(Declined, match="no disk"):
        await roster.retire(GONE.signed(ADMIN))


@in_world
async def test_with_keys_only_what_an_admin_of_the_list_has_signed_is_taken_and_passed_on(world: World) -> None:
    machine = world.machine("a")
    security = Security(NODE, "prod", machine.entropy, machine.time_ns)
    buck = f"key {OTHER.public.hex()} roles=buck\n"
    security.trust = Trust.parse(f"{buck}key {ADMIN.public.hex()} roles=porter,admin")
    roster = await opened(machine, security=security)
    gone: list[bytes] = []
    roster.retire_buck = gone.append
    told = replace(GONE, node=NODE.node, role="buck", public=OTHER.public).signed(
        OTHER
    )  # by a buck that was taken over
    roster._merge((), [told.data, GONE.signed(ADMIN).data])
    assert (list(roster.retired.values()), gone) == ([GONE], [])
    assert roster.answer(m.Roster(1, False)).retired == (GONE.signed(ADMIN).data,)
    assert roster._counts.metrics.values()["retirements_refused"] == 1
    with pytest.raises(Declined, match="roles=admin"):
        await roster.retire(told)
    assert await roster.save()
    for trust, left in ((buck, 1), (f"{buck}revoked {ADMIN.public.hex()}", 0)):
        roster._volumes[0].release()
        security.trust = Trust.parse(trust)
        roster = await opened(machine, security=security)
        assert len(roster.retired) == left, "an admin who left had said it all the same; a stolen key had not"


@with_a_buck()
async def test_who_brings_a_packet_or_a_seal_is_expected(world: World) -> None:
    async with asking(world) as asker:
        assert (await asker.ask(m.Roster(0, True))).expected == ()
        await asker.ask(put(make(0)))
    async with asking(world, hello(OTHER)) as asker:
        await asker.ask(m.SealPut(0, seal(0, OTHER)))
        found = await asker.ask(m.Roster(0, True))
        assert {one.tailer for one in found.expected} == {KEY.node, OTHER.node}
        assert (await asker.ask(m.Roster(0, False))).expected == ()


@with_a_buck()
async def test_only_the_admin_who_signed_it_brings_a_retirement(world: World) -> None:
    async with asking(world, admin()) as asker:
        answer = await asker.ask(m.RetirePut(0, replace(GONE, public=OTHER.public).signed(OTHER).data))
        assert (answer.reason, "admin" in answer.text) == ("role", True)
        assert (await asker.ask(m.RetirePut(0, b"nonsense"))).reason == "sum"
        assert (await asker.ask(m.Roster(0, True))).retired == ()
        assert (await asker.ask(m.RetirePut(0, GONE.signed(ADMIN).data))).level == 2
        assert (await asker.ask(m.Roster(0, True))).retired == (GONE.signed(ADMIN).data,)


@in_world
async def test_a_buck_that_was_away_learns_the_roster_from_the_others(world: World) -> None:
    async with trio.open_nursery() as nursery:
        start(world.host("a"), nursery)
        async with asking(world) as asker:
            await asker.ask(put(make(0)))
        async with asking(world, admin()) as asker:
            await asker.ask(m.RetirePut(0, GONE.signed(ADMIN).data))
        start(world.host("b"), nursery, join=("a:7411",))
        with trio.fail_after(120):
            while True:
                async with asking(world, hello(OTHER), to="b") as asker:
                    found = await asker.ask(m.Roster(0, True))
                if found.retired and found.expected:
                    break
                await trio.sleep(1)
        assert found.expected[0].tailer == KEY.node
        nursery.cancel_scope.cancel()


@in_world
async def test_a_retired_buck_is_in_nobodys_view_any_more(world: World) -> None:
    async with trio.open_nursery() as nursery:
        start(world.host("a"), nursery)
        start(world.host("b"), nursery, join=("a:7411",))
        peers: tuple[m.Peer, ...] = ()
        with trio.fail_after(60):
            while len(peers) < 2:
                await trio.sleep(1)
                async with asking(world) as asker:
                    peers = (await asker.ask(m.Peers(0))).peers
        (gone,) = [peer for peer in peers if peer.address == "b:7411"]
        word = replace(GONE, node=gone.node, role="buck").signed(ADMIN)
        async with asking(world, admin()) as asker:
            await asker.ask(m.RetirePut(0, word.data))
            await trio.sleep(5)  # b goes on to gossip about itself
            assert [peer.address for peer in (await asker.ask(m.Peers(0))).peers] == ["a:7411"]
        nursery.cancel_scope.cancel()
