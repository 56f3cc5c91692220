"""The whole tailer in a simulated world: from lines in a file to packets on bucks, with kills in between."""

import io
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from protocol.kernel import Rows
from protocol.packet import unpack
from protocol.seal import Seal
from service.config import ConfigError
from service.machine import Machine
from service.run import DONE, NOT_DONE, SHORTFALL, leaves
from tailer.agent import run_tailer
from tailer.settings import TailerSettings
from tests.simulation.machine import SimMachine, World, simulate
from tests.tailer.fake_bucks import FakeBuck, cluster, until

TEXT = b"a line as long as many are, for what is sent at once depends on how much comes in a second"
Scenario = Callable[[World, trio.Nursery], Awaitable[None]]


def run(scenario: Scenario, seed: int = 1) -> None:
    async def main(world: World) -> None:
        async with trio.open_nursery() as nursery:
            await scenario(world, nursery)
            nursery.cancel_scope.cancel()

    simulate(seed, main)


def settings(**changes: Any) -> TailerSettings:
    plain = {"files": ("/log/*",), "to": ("b0:7000",), "journal": "/journal", "env": "test"}
    return TailerSettings.model_validate(plain | {"patience": 5.0, "insecure": True} | changes)


class Writer:
    """Another process of the tailer's host, that writes logs."""

    def __init__(self, world: World) -> None:
        self.disk = world.machine("tailer").disk
        self.disk.mkdirs("/log")
        self.lines = 0

    def write(self, name: str, count: int = 1) -> None:
        file = self.disk.open_append(f"/log/{name}")
        file.write(b"".join(b"%s %d\n" % (TEXT, self.lines + i) for i in range(count)))
        file.close()
        self.lines += count

    @property
    def all(self) -> list[bytes]:
        return [b"%s %d" % (TEXT, i) for i in range(self.lines)]


class Tailer:
    """One run after another on the same host."""

    def __init__(self, world: World, nursery: trio.Nursery, **changes: Any) -> None:
        self.world, self.nursery = world, nursery
        self.settings = settings(**changes)
        self.stop = trio.Event()
        self.codes: list[int] = []
        self.machine: SimMachine | None = None

    def start(self) -> None:
        self.stop = trio.Event()

        async def main(machine: SimMachine) -> None:
            self.codes.append(await run_tailer(machine, self.settings, self.stop))

        self.machine = self.world.host("tailer").start(self.nursery, main)

    def kill(self) -> None:
        assert self.machine is not None
        self.machine.kill()

    async def end(self, seconds: float = 120) -> int:
        """Ask it to stop, and wait for that."""
        self.stop.set()
        return await self.ended(seconds)

    async def ended(self, seconds: float = 120) -> int:
        before = len(self.codes)
        await until(lambda: len(self.codes) > before, seconds)
        return self.codes[-1]


def pieces(bucks: list[FakeBuck]) -> dict[tuple[bytes, int], bytes]:
    """What readers see: by (stream, offset). The same bytes twice under one name are once; other bytes are an error."""
    found: dict[tuple[bytes, int], bytes] = {}
    packets = {slot: packet for buck in bucks for slot, packet in buck.packets.items()}
    for packet in packets.values():
        head = packet.header
        rows = Rows.decode(unpack(packet), head.count, head.sizes, head.formats, head.shn, head.app, head.runs)
        row = 0
        for run in head.runs:
            stream, at = head.streams[run.stream].id, run.first
            for line in rows.render(row, row + run.count).splitlines(keepends=True):
                assert found.setdefault((stream, at), line) == line
                at += len(line)
            row += run.count
    return found


def lines(bucks: list[FakeBuck]) -> list[bytes]:
    return sorted((line.rstrip(b"\n") for line in pieces(bucks).values()), key=lambda line: int(line.split()[-1]))


def test_once_brings_everything_to_three_bucks_and_says_goodbye() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer = cluster(world, nursery, 3), Writer(world)
        for name in "abc":
            writer.write(name, 1000)
        tailer = Tailer(world, nursery, once=True)
        tailer.start()
        assert await tailer.ended() == DONE
        assert lines(bucks) == writer.all
        for buck in bucks:
            assert set(buck.packets) == set(bucks[0].packets), "three copies of each"
            assert max((Seal.read(seal) for seal in buck.seals.values()), key=lambda seal: seal.number).closing

    run(scenario)


def test_once_after_once_sends_only_what_is_new() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer = cluster(world, nursery, 3), Writer(world)
        tailer = Tailer(world, nursery, once=True)
        for _ in range(3):
            before = len(lines(bucks))
            writer.write("a", 100)
            tailer.start()
            assert await tailer.ended() == DONE
            assert len(lines(bucks)) == before + 100
        runs = [run for packet in bucks[0].packets.values() for run in packet.header.runs]
        assert sum(run.count for run in runs) == 300

    run(scenario)


@pytest.mark.parametrize(("linger", "least", "most"), [(0.005, 0.0, 0.35), (5.0, 4.0, 7.0)])
def test_a_lone_line_lingers_as_long_as_it_may(linger: float, least: float, most: float) -> None:
    """However few came before it: files are read often where nobody may linger."""

    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer = cluster(world, nursery, 2), Writer(world)
        tailer = Tailer(world, nursery, linger=linger, from_="head")
        tailer.start()
        for _ in range(5):
            await trio.sleep(20.0)
            writer.write("a")
            begin = trio.current_time()
            await until(lambda: lines(bucks) == writer.all, 20.0)
            assert least <= trio.current_time() - begin <= most

    run(scenario)


@pytest.mark.parametrize("level", ["A1", "A2"])
def test_once_with_a_dead_member_has_a_shortfall_at_A2_only(level: str) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer = cluster(world, nursery, 3), Writer(world)
        await trio.sleep(1)
        bucks[2].kill()
        writer.write("a", 100)
        tailer = Tailer(world, nursery, once=True, level=level)
        tailer.start()
        assert await tailer.ended() == (SHORTFALL if level == "A2" else DONE)
        assert lines(bucks[:2]) == writer.all

    run(scenario)


def test_once_without_a_buck_ends_after_its_patience(said: io.StringIO) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        Writer(world).write("a", 100)
        tailer = Tailer(world, nursery, once=True)
        tailer.start()
        assert await tailer.ended(20) == NOT_DONE

    run(scenario)
    assert "no buck answered" in said.getvalue()


def test_once_with_a_file_that_can_not_be_read_is_not_done(said: io.StringIO) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer = cluster(world, nursery, 3), Writer(world)
        writer.write("a", 10)
        writer.write("b", 10)
        tailer = Tailer(world, nursery, once=True)
        tailer.start()
        assert tailer.machine is not None
        open_read = tailer.machine.disk.open_read

        def refuse(path: Any) -> Any:
            if path == b"/log/b":
                raise PermissionError(13, "Permission denied", path)
            return open_read(path)

        tailer.machine.disk.open_read = refuse  # type: ignore[method-assign]  # as a disk that fails
        assert await tailer.ended() == NOT_DONE
        assert lines(bucks) == writer.all[:10]

    run(scenario)
    assert said.getvalue().count("a file can't be read") == 1
    assert "files could not be read" in said.getvalue()


def test_a_followed_line_is_on_two_bucks_within_a_second() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer = cluster(world, nursery, 3), Writer(world)
        tailer = Tailer(world, nursery)
        tailer.start()
        await trio.sleep(5)
        for _ in range(300):
            writer.write("a", 10)
            await trio.sleep(0.01)
        written = len(writer.all)
        await trio.sleep(0.8)
        assert len(lines(bucks)) == written
        assert await tailer.end() == DONE

    run(scenario)


def test_a_stop_in_order_leaves_nothing_to_be_asked() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer = cluster(world, nursery, 3), Writer(world)
        tailer = Tailer(world, nursery)
        for _ in range(3):
            tailer.start()
            await trio.sleep(3)
            writer.write("a", 50)
            await trio.sleep(1)
            assert await tailer.end() == DONE
            writer.write("a", 50)
        tailer.start()
        await trio.sleep(3)
        await tailer.end()
        assert lines(bucks) == writer.all
        asked = [type(message).__name__ for buck in bucks for message in buck.asked]
        assert "Covered" not in asked

    run(scenario)


@pytest.mark.parametrize("seed", range(12))
def test_T64_killed_at_any_moment_nothing_is_lost_and_nothing_comes_twice(seed: int) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer = cluster(world, nursery, 3), Writer(world)
        tailer = Tailer(world, nursery, rotate_wait=1.0, patience=10.0)
        rotations = 0
        for _ in range(10):
            tailer.start()
            for _ in range(world.rng.randrange(20)):
                writer.write("a", world.rng.randrange(1, 200))
                await trio.sleep(world.rng.random() / 2)
                if world.rng.random() < 0.1:
                    rotations += 1
                    writer.disk.rename("/log/a", f"/log/a.{rotations}")
                    writer.write("a")
            tailer.kill()
        tailer.start()
        await trio.sleep(20)
        assert await tailer.end() == DONE
        assert lines(bucks) == writer.all
        events = [run.count for slot in set().union(*(buck.packets for buck in bucks)) for run in _runs(bucks, slot)]
        assert sum(events) == len(writer.all), "nothing was sent under two numbers"

    run(scenario, seed)


def _runs(bucks: list[FakeBuck], slot: tuple[int, int]) -> Any:
    return next(buck.packets[slot] for buck in bucks if slot in buck.packets).header.runs


@pytest.mark.parametrize("seed", range(4))
def test_a_power_cut_of_the_host_loses_no_line_of_its_files(seed: int) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer = cluster(world, nursery, 3), Writer(world)
        host = world.host("tailer")
        tailer = Tailer(world, nursery, patience=10.0)
        for _ in range(4):
            tailer.start()
            for _ in range(10):
                writer.write("a", world.rng.randrange(1, 50))
                await trio.sleep(world.rng.random() / 2)
            file = writer.disk.open_read("/log/a")
            await writer.disk.fsync(file)
            await writer.disk.fsync_folder("/log")
            host.power_cut()
            await trio.sleep(1)
            host.power_on()
            writer.disk = world.machine("tailer").disk
        tailer.start()
        await trio.sleep(90)
        await tailer.end()
        assert lines(bucks) == writer.all

    run(scenario, seed)


def test_T76_a_journal_that_is_gone_is_asked_from_the_bucks() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer = cluster(world, nursery, 3), Writer(world)
        tailer = Tailer(world, nursery, from_="head")
        writer.write("a", 500)
        tailer.start()
        await trio.sleep(10)
        await tailer.end()
        for name in writer.disk.listdir("/journal"):
            writer.disk.unlink(f"/journal/{name}")
        writer.write("a", 500)
        tailer.start()
        await trio.sleep(20)
        await tailer.end()
        assert lines(bucks) == writer.all

    run(scenario)


def test_without_bucks_lines_wait_in_the_journal_and_go_when_one_comes() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks, writer = cluster(world, nursery, 3), Writer(world)
        tailer = Tailer(world, nursery)
        tailer.start()
        await trio.sleep(3)
        for buck in bucks:
            buck.kill()
        for _ in range(60):
            writer.write("a", 10)
            await trio.sleep(1)
        assert not lines(bucks)
        for buck in bucks:
            buck.start(nursery)
        await trio.sleep(60)
        assert lines(bucks) == writer.all
        assert await tailer.end() == DONE

    run(scenario)


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"files": ()}, "no file pattern"), ({"to": ()}, "no buck"), ({"files": ("",)}, "file pattern")],
)
def test_settings_that_can_not_be_used_are_refused(changes: dict[str, Any], why: str) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        machine: Machine = world.machine("tailer")
        with pytest.raises(ConfigError, match=why):
            await run_tailer(machine, settings(**changes), trio.Event())

    run(scenario)


@pytest.mark.parametrize(("buck", "why"), [({"env": "other"}, "env"), ({"width": 60}, "width")])
def test_bucks_of_another_domain_end_the_start(buck: dict[str, Any], why: str) -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        bucks = cluster(world, nursery, 1)
        Writer(world).write("a")
        tailer = Tailer(world, nursery, once=True)
        tailer.start()
        await tailer.ended()
        for one in bucks:
            one.kill()
        FakeBuck(world, "b9", 9, **buck).start(nursery)
        await trio.sleep(1)
        machine: Machine = world.machine("tailer")
        with pytest.raises(BaseExceptionGroup) as caught:
            await run_tailer(machine, settings(to=("b9:7000",)), trio.Event())
        errors = list(leaves(caught.value))
        assert [type(error) for error in errors] == [ConfigError]
        assert why in str(errors[0])

    run(scenario)


def test_a_journal_of_another_env_ends_the_start() -> None:
    async def scenario(world: World, nursery: trio.Nursery) -> None:
        cluster(world, nursery, 1)
        Writer(world).write("a")
        tailer = Tailer(world, nursery, once=True)
        tailer.start()
        await tailer.ended()
        machine: Machine = world.machine("tailer")
        with pytest.raises(ConfigError, match="env 'test'"):
            await run_tailer(machine, settings(env="other"), trio.Event())

    run(scenario)
