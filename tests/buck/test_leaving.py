"""The mark that says a buck leaves, where its disk can't say."""

import json

import pytest
import trio

from buck.leaving import mark
from service.config import ConfigError
from service.web import fetch
from tests.buck.test_session import with_a_buck
from tests.simulation.machine import World


async def is_leaving(world: World) -> bool:
    await trio.sleep(2.5)  # it looks each second
    page = json.loads(await fetch(world.machine("looker"), "a", 80, "/status"))
    return bool(page["leaving"]["draining"])


@with_a_buck()
async def test_a_disk_that_can_not_say_whether_its_buck_leaves_changes_nothing(world: World) -> None:
    await trio.sleep(1)
    machine, platter = world.machine("a"), world.host("a").platter
    whole = platter.before

    def broken(operation: str, path: bytes) -> None:
        if path.endswith((b"/draining", b"/width")) and operation == "stat":
            raise PermissionError(13, "Permission denied", path)

    platter.before = broken
    assert not await is_leaving(world)
    platter.before = whole
    await mark(machine, ["/d1"], "prod", True)
    assert await is_leaving(world)
    platter.before = broken
    assert await is_leaving(world), "it was marked, and nobody has said that the mark is gone"
    with pytest.raises(ConfigError, match="/d1/prod: can't be looked at: Permission denied"):
        await mark(machine, ["/d1"], "prod", False)
    platter.before = whole
    await mark(machine, ["/d1"], "prod", False)
    assert not await is_leaving(world)
