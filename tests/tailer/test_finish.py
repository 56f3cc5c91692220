"""`--once` and a clean stop: everything at once, a closing seal, and what is said when something is left."""

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio

from protocol.messages import Have
from protocol.ranges import Ranges
from protocol.roster import Retirement
from protocol.seal import Seal, chain
from protocol.secure import Security
from protocol.trust import Trust
from service.faults import armed
from service.run import GRACE_S
from tailer.agent import STOP_FLUSH_S
from tailer.members import ROSTER_EVERY_S
from tests.simulation.disk import Killed
from tests.simulation.machine import World, simulate
from tests.tailer.fake_bucks import FakeBuck, Sending, cluster, start_sending, until
from tests.tailer.journals import EPOCH, KEY, OTHER_KEY, WIDTH

Scenario = Callable[[World, trio.Nursery], Awaitable[None]]


def run(scenario: Scenario, seed: int = 1) -> None:
    async def main(world: World) -> None:
        async with trio.open_nursery() as nursery:
            await scenario(world, nursery)
            nursery.cancel_scope.cancel()

    simulate(seed, main)


async def begun(
    world: World, nursery: trio.Nursery, count: int, *, mend: bool = False, epoch: int = EPOCH
) -> tuple[list[FakeBuck], Sending]:
    bucks = cluster(world, nursery, count)
    tailer = await start_sending(world, nursery, bucks, mend=mend, epoch=epoch)
    await until(lambda: len(tailer.members.linked()) == count and tailer.members.heard)
    return bucks, tailer


def holders(bucks: list[FakeBuck]) -> Counter[tuple[int, int]]:
    return Counter(slot for buck in bucks for slot in buck.packets)


def seals_of(*bucks: FakeBuck) -> list[Seal]:
    """All their seals, in order; a chain without a hole or a fork."""
    ordered, holes, forks = chain(Seal.read(data) for buck in bucks for data in buck.seals.values())
    assert not holes
    assert not forks
    return list(ordered)


def stated(seals: list[Seal], epoch: int = EPOCH) -> list[int]:
    return [
        number
        for seal in seals
        for section in seal.sections
        if section.epoch == epoch
        for number in section.numbers.numbers()
    ]


def test_once_ends_with_a_closing_seal_and_everything_at_A2() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        await tailer.send(200)
        outcome = await tailer.mender.finish(level="A2", patience_s=60)
        assert (outcome.code, outcome.text) == (0, "everything is A2")
        assert tailer.machine.now() < 10  # at once, not after a window
        assert [(seal.closing, seal.goodbye) for seal in seals_of(*bucks)] == [(True, True)]
        assert set(holders(bucks).values()) == {3}

    run(scenario)


def test_level_A1_waits_for_less_and_makes_two_copies_only() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        await tailer.send(20)
        outcome = await tailer.mender.finish(level="A1")
        assert (outcome.code, outcome.text) == (0, "everything is A1")
        assert set(holders(bucks).values()) == {2}
        assert [seal.closing for seal in seals_of(*bucks)] == [True]
        assert not any(isinstance(message, Have) for buck in bucks for message in buck.asked)

    run(scenario)


def test_level_A1_does_not_wait_for_a_buck_without_room() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        bucks[2].refuse = bucks[2].refuse_seals = "full"
        await tailer.send(20)
        outcome = await tailer.mender.finish(level="A1")
        assert (outcome.code, outcome.text) == (0, "everything is A1")
        assert tailer.machine.now() < 10
        assert [seal.closing for seal in seals_of(*bucks[:2])] == [True]

    run(scenario)


def test_a_dead_member_is_waited_for_until_an_admin_retires_it() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        await tailer.send(20)
        await tailer.until_placed()
        bucks[2].kill()
        await until(lambda: len(tailer.members.linked()) == 2)
        assert (await tailer.mender.finish(patience_s=10)).code == 3
        facts = ("test", bucks[2].node, "buck", b"c", OTHER_KEY.public, 1, 0, 0)
        elsewhere = Retirement("staging", *facts[1:]).signed(OTHER_KEY)
        for word in (elsewhere, Retirement(*facts).signed(OTHER_KEY)):
            assert tailer.members.count == 3
            for buck in bucks:
                buck.retired = (*buck.retired, b"nonsense", word.data)
            await trio.sleep(ROSTER_EVERY_S + 30)
        assert tailer.members.count == 2
        assert not any(bucks[2].node in entry.stored for entry in tailer.journal.ledger.entries.values())
        outcome = await tailer.mender.finish(patience_s=10)
        assert (outcome.code, outcome.text) == (0, "everything is A2")
        assert set(holders(bucks[:2]).values()) == {2}
        assert {state.node for state in tailer.journal.members} == {buck.node for buck in bucks[:2]}

    run(scenario)


def test_with_keys_a_tailer_believes_a_retirement_only_of_an_admin_on_its_list() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        machine = tailer.machine
        security = Security(KEY, "test", machine.entropy, machine.time_ns)
        tailer.members.security = security  # the links that stand stay as they are
        word = Retirement("test", bucks[2].node, "buck", b"c", OTHER_KEY.public, 1, 0, 0).signed(OTHER_KEY)
        for buck in bucks:
            buck.retired = (word.data,)
        for roles, members in (("buck", 3), ("buck,admin", 2)):
            security.trust = Trust.parse(f"key {OTHER_KEY.public.hex()} roles={roles}")
            await trio.sleep(ROSTER_EVERY_S + 30)
            assert tailer.members.count == members

    run(scenario)


def test_a_seal_that_only_a_retired_buck_has_is_given_to_the_others() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        bucks[0].refuse_seals = bucks[1].refuse_seals = "full"
        await tailer.mender.sealer.seal()
        assert tailer.mender.sealer.untold == 0
        bucks[2].kill()
        word = Retirement("test", bucks[2].node, "buck", b"c", OTHER_KEY.public, 1, 0, 0).signed(OTHER_KEY)
        for buck in bucks:
            buck.retired, buck.refuse_seals = (word.data,), ""
        await trio.sleep(ROSTER_EVERY_S + 30)
        assert tailer.mender.sealer.untold == 1
        await tailer.mender.sealer.deliver()
        assert len(seals_of(*bucks[:2])) == 1
        assert not tailer.journal.chain.undelivered

    run(scenario)


def test_a_dead_member_makes_it_a_shortfall_that_is_said() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        bucks[2].kill()
        await until(lambda: len(tailer.members.linked()) == 2)
        await tailer.send(20)
        outcome = await tailer.mender.finish(patience_s=10)
        assert outcome.code == 3
        assert outcome.text.startswith("20 packets have fewer copies than promised")
        assert bucks[2].node.hex() in outcome.text
        assert tailer.machine.now() < 30
        assert [seal.closing for seal in seals_of(*bucks[:2])] == [True]

    run(scenario)


def test_without_any_buck_it_ends_with_1_and_says_what_is_left() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 2)
        for buck in bucks:
            buck.kill()
        await tailer.send(7)
        outcome = await tailer.mender.finish(patience_s=10)
        assert outcome.code == 1
        assert outcome.text == "7 packets are on too few bucks; they wait in /journal"

    run(scenario)


def test_patience_counts_from_the_last_progress() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 2)
        for buck in bucks:
            buck.slow_s = 2.0
        await tailer.send(100)
        assert (await tailer.mender.finish(patience_s=5)).code == 0
        assert tailer.machine.now() > 10

    run(scenario)


def test_a_clean_stop_says_goodbye_and_waits_for_nobody() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        await tailer.send(5)
        await tailer.until_placed()
        bucks[1].silent = True
        start = tailer.machine.now()
        outcome = await tailer.mender.finish(level=None)
        assert outcome.code == 0
        assert tailer.machine.now() - start < 4
        assert [(seal.closing, seal.goodbye) for seal in seals_of(bucks[0], bucks[2])] == [(True, False)]
        await tailer.journal.close()
        tailer.stop()
        bucks[1].silent = False
        tailer = await start_sending(world, nursery, bucks, epoch=2 << 32)
        await until(lambda: len(tailer.members.linked()) == 3)
        assert (await tailer.mender.finish()).code == 0
        assert len(seals_of(bucks[1])) == 2  # the one it missed came with the next start
        assert set(holders(bucks).values()) == {3}

    run(scenario)


FAULTS = ("sealing.signed", "sealing.synced", "sealing.put", "mend.copy", "mend.receipt", "mend.done")


@pytest.mark.parametrize("moment", FAULTS)
def test_D21_a_kill_at_any_moment_of_mending_states_everything_once(moment: str) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 4)
        for start in range(1, 4):
            tailer = await start_sending(world, nursery, bucks, epoch=start << 32)
            await until(lambda: len(tailer.members.linked()) == 4)  # noqa: B023  # called before the next turn
            await tailer.send(6)
            await tailer.until_placed()
            with armed(f"tailer.{moment}", 1 if moment in FAULTS[:2] else start, tailer.machine.kill_here):
                nursery.start_soon(_finish_quietly, tailer)
                await until(lambda: not tailer.machine.alive)  # noqa: B023  # called before the next turn
            tailer.scope.cancel()
        tailer = await start_sending(world, nursery, bucks, epoch=4 << 32)
        await until(lambda: len(tailer.members.linked()) == 4)
        assert (await tailer.mender.finish()).code == 0
        seals = seals_of(*bucks)
        for start in range(1, 4):
            assert stated(seals, start << 32) == list(range(6))
        assert min(holders(bucks).values()) >= 3
        assert not tailer.journal.ledger.entries

    run(scenario)


async def _finish_quietly(tailer: Sending) -> None:
    try:
        await tailer.mender.finish()
    except* Killed:
        pass


def test_a_number_that_is_nowhere_is_stated_as_given_up() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        tailer.journal.give_up(EPOCH, Ranges([(100, 103)]))
        assert (await tailer.mender.finish()).code == 0
        (seal,) = seals_of(*bucks)
        assert [section.given_up for section in seal.sections] == [Ranges([(100, 103)])]
        assert not tailer.journal.chain.given_up

    run(scenario)


def test_a_clean_stop_does_not_wait_for_disks_that_hang_while_packets_are_mended() -> None:
    """Who stops a process gives it GRACE_S; a receipt is waited for three times as long."""

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3, mend=True)
        await tailer.send(20)
        await tailer.until_placed()
        for buck in bucks:
            buck.mute = (Have,)
        await until(lambda: any(isinstance(message, Have) for buck in bucks for message in buck.asked), seconds=900.0)
        before = tailer.machine.now()
        outcome = await tailer.mender.finish(level=None)
        assert outcome.code == 0
        assert tailer.machine.now() - before < GRACE_S - STOP_FLUSH_S
        assert seals_of(*bucks)[-1].closing

    run(scenario)


def test_a_window_is_stated_by_the_last_of_its_seals() -> None:
    """A tailer that dies between two of them must not have called complete what only the second names."""

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tailer.sealing.SEAL_PACKETS", 4)
            await tailer.send(3)
            await tailer.mender.sealer.seal()
            await trio.sleep(2 * WIDTH)
            await tailer.send(10)
            await tailer.mender.sealer.seal(closing=True)
        first, *more = seals_of(*bucks)
        assert [len(stated([seal])) for seal in more] == [4, 4, 2]
        assert [seal.until for seal in more] == [first.until, first.until, first.until + 2 * WIDTH]
        assert [seal.closing for seal in more] == [False, False, True]

    run(scenario)
