"""A start of which the journal has lost everything: what bucks hold of it is fetched and stated once."""

from collections.abc import Sequence

import pytest
import trio

from protocol.packet import Packet
from protocol.seal import Seal
from service.faults import armed
from tests.simulation.disk import Killed
from tests.simulation.machine import World
from tests.tailer.fake_bucks import Sending, cluster, until
from tests.tailer.journals import EPOCH
from tests.tailer.test_fetch import seals
from tests.tailer.test_recover import again, first_run, kill, lose_journal, run, start, stated


def lost_in(seal: Seal) -> dict[int, int]:
    """The starts that a seal calls lost, with the last number that was known of each."""
    return {section.epoch: section.lost_after for section in seal.sections if section.lost_after is not None}


@pytest.mark.parametrize("unstated", [0, 4], ids=["all was stated", "some was not stated yet"])
@pytest.mark.parametrize("is_clean", [True, False], ids=["stops", "kills"])
def test_a_start_that_the_journal_has_lost_is_fetched_and_stated_once_while_a_buck_is_unsure(
    unstated: int, is_clean: bool
) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        tailer = await start(world, nursery, bucks, 1)
        await tailer.send(6)
        await tailer.until_placed()
        await tailer.mender.sealer.seal()
        await tailer.send(unstated)
        await tailer.until_placed()
        kill(tailer)
        lose_journal(world)
        bucks[0].unsure = True
        for boot in (2, 4, 6):  # before each, a start that left nothing: bucks are asked until all are sure
            tailer = await start(world, nursery, bucks, boot)
            recovered = await again(tailer)
            assert recovered.unsure
            assert recovered.fetched == (unstated if boot == 2 else 0)
            await tailer.mender.finish()
            if is_clean:
                await tailer.journal.close()
                tailer.stop()
            kill(tailer)
            assert stated(bucks) == list(range(6 + unstated)), "each once"
        assert [lost_in(seal)[EPOCH] for seal in seals(bucks) if EPOCH in lost_in(seal)] == [5 + unstated]
        bucks[0].unsure = False
        tailer = await start(world, nursery, bucks, 9)
        assert (await again(tailer)).fetched == 0
        assert EPOCH not in tailer.journal.ledger.done, "nobody is asked of that start any more"

    run(scenario)


@pytest.mark.parametrize("moment", ["heard", "fetched", "done"])
def test_a_start_that_the_journal_has_lost_is_called_lost_though_the_next_one_is_killed(moment: str) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 3)
        await first_run(world, nursery, bucks, 3)
        lose_journal(world)
        tailer = await start(world, nursery, bucks, 2)
        adopt = tailer.journal.adopt

        def adopt_and_die(packet: Packet, holders: Sequence[bytes]) -> None:
            adopt(packet, holders)
            if moment == "fetched":
                tailer.machine.kill_here()

        tailer.journal.adopt = adopt_and_die  # type: ignore[method-assign]  # there is no fault point in between
        point = "tailer.journal.synced" if moment == "heard" else "tailer.recover.done"
        with armed(point, 1, tailer.machine.kill_here):
            nursery.start_soon(_recover_quietly, tailer)
            await until(lambda: not tailer.machine.alive)
        tailer.scope.cancel()
        tailer = await start(world, nursery, bucks, 3)
        await again(tailer)
        assert (await tailer.mender.finish()).code == 0
        assert stated(bucks) == [0, 1, 2]
        (seal,) = seals(bucks)
        assert lost_in(seal) == {EPOCH: 2, 2 << 32: -1}

    run(scenario)


async def _recover_quietly(tailer: Sending) -> None:
    try:
        await again(tailer)
    except* Killed:
        pass
