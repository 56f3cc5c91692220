"""A tailer that ends without having read everything: what it says of that, and what a seal must not."""

import io

import pytest
import trio

from protocol.seal import Seal
from service.run import DONE, NOT_DONE
from tests.simulation.machine import World
from tests.tailer.fake_bucks import until
from tests.tailer.test_agent import Tailer, Writer, cluster, lines, run


def test_once_that_leaves_files_out_is_not_done(said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailer.inputs.known.FILES_MAX", 2)

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer = cluster(world, nursery, 3), Writer(world)
        for name in "abc":
            writer.write(name, 10)
        tailer = Tailer(world, nursery, once=True)
        tailer.start()
        assert await tailer.ended() == NOT_DONE
        assert len(lines(bucks)) == 20
        assert "files were left out" in said.getvalue()

    run(scenario)


def test_a_stop_before_any_buck_answered_is_no_crash() -> None:
    """A seal would call that start lost, and verdicts its time unknown, though it has read nothing."""

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        writer = Writer(world)
        writer.write("a", 100)
        tailer, impatient = Tailer(world, nursery), Tailer(world, nursery, once=True, patience=1)
        tailer.start()
        await trio.sleep(3)
        assert await tailer.end() == DONE
        impatient.start()
        assert await impatient.ended() == NOT_DONE
        bucks = cluster(world, nursery, 3)
        tailer.start()
        await until(lambda: len(lines(bucks)) == 100)
        assert await tailer.end() == DONE
        seals = [Seal.read(seal) for buck in bucks for seal in buck.seals.values()]
        assert {seal.crashes for seal in seals} == {0}
        assert not [one for seal in seals for one in seal.sections if one.lost_after is not None]

    run(scenario)
