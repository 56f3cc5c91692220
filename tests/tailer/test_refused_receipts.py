"""A buck that won't say what it holds: packets stay in the journal, and somebody is told."""

from unittest.mock import Mock

import pytest
import trio

from protocol.messages import Have
from tailer import mend
from tests.simulation.machine import World
from tests.tailer.journals import WIDTH
from tests.tailer.test_mend import begun, run


def test_a_buck_that_refuses_receipts_is_counted_and_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Mock()
    monkeypatch.setattr(mend, "log", log)

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, tailer = await begun(world, nursery, 3, mend=True)
        bucks[1].refuse_receipts = "role"
        await tailer.send(2)
        await trio.sleep(2 * WIDTH + 60)
        asked = sum(isinstance(message, Have) for message in bucks[1].asked)
        assert asked > 3
        assert tailer.sender.counters["receipts_refused"] == asked
        assert len(tailer.journal.ledger.entries) == 2
        assert [call.args for call in log.warning.call_args_list] == [("a buck gives no receipt",)]
        bucks[1].refuse_receipts = ""
        await trio.sleep(60)
        assert not tailer.journal.ledger.entries

    run(scenario)
