"""How a process stops, what its ending means, and how connections are accepted and let go."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from service.config import ConfigError
from service.run import run, serve_links
from tests.simulation.machine import World, simulate

ROOT = Path(__file__).parents[2]


def exit_code(main, **options) -> int:
    with pytest.raises(SystemExit) as caught:
        run(main, machine=object(), **options)
    return caught.value.code


def test_the_code_is_what_main_returns():
    async def nothing(machine, stop): ...

    async def three(machine, stop):
        return 3

    assert exit_code(nothing) == 0
    assert exit_code(three) == 3


def test_a_foreseen_failure_is_one_line_wherever_it_happened(capsys):
    async def main(machine, stop):
        async def inner():
            raise ConfigError("x.toml: width: no")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(inner)

    assert exit_code(main) == 2
    assert capsys.readouterr().err == "x.toml: width: no\n"


def test_a_package_may_name_its_own_failures(capsys):
    class ClusterLost(Exception):
        pass

    async def main(machine, stop):
        raise ClusterLost("no buck answers")

    assert exit_code(main, foreseen={ClusterLost: 1}) == 1
    assert capsys.readouterr().err == "no buck answers\n"


def test_a_bug_shows_its_traceback_even_beside_a_foreseen_failure(capsys):
    async def main(machine, stop):
        async def fails(error):
            raise error

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, ConfigError("no"))
            nursery.start_soon(fails, KeyError("bug"))

    assert exit_code(main) == 70
    assert "KeyError: 'bug'" in capsys.readouterr().err


def test_a_signal_sets_stop_and_main_ends_as_it_wants():
    async def main(machine, stop):
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        return 0

    assert exit_code(main) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_main_that_does_not_heed_stop_is_cut_after_the_grace(number):
    async def main(machine, stop):
        os.kill(os.getpid(), number)
        await trio.sleep_forever()

    assert exit_code(main, grace_s=0.05) == 128 + number


def test_a_second_signal_ends_at_once():
    code = (
        "import trio; from service.run import run\n"
        "async def main(machine, stop):\n"
        "    print('up', flush=True)\n"
        "    await stop.wait(); print('stopping', flush=True); await trio.sleep_forever()\n"
        "run(main, grace_s=60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    with process:
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == b"stopping\n"
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 128 + signal.SIGINT
        assert time.monotonic() - start < 5


async def serve(world: World, handler, client, grace_s: float, **options) -> tuple[float, object]:
    """A server and one client; `stop` comes at 10 s. When the server ended, and what the client returned."""
    machine, stop = world.machine("server"), trio.Event()
    listeners = await machine.listen("", 7000)
    result = []

    async def ask() -> None:
        result.append(await client(await world.machine("client").connect("server", 7000)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)

        async def stop_later() -> None:
            await trio.sleep(10)
            stop.set()

        nursery.start_soon(stop_later)
        await serve_links(listeners, handler, stop, grace_s=grace_s, **options)
        ended = trio.current_time()
    return ended, result[0]


async def read_all(stream) -> bytes:
    found = b""
    try:
        while data := await stream.receive_some():
            found += data
    except trio.BrokenResourceError:
        found += b"(reset)"
    return found


async def answer_at_12(stream) -> None:
    await trio.sleep_until(12)
    await stream.send_all(b"done")


def test_an_open_connection_finishes_within_the_grace():
    ended, answer = simulate(1, serve, answer_at_12, read_all, 5)
    assert answer == b"done"
    assert 12 <= ended < 12.1


def test_a_connection_that_does_not_finish_is_cut_after_the_grace():
    ended, answer = simulate(1, serve, answer_at_12, read_all, 1)
    assert answer == b""
    assert ended == 11


def test_nobody_new_is_accepted_after_stop():
    async def late(stream):
        await trio.sleep_until(11)
        with pytest.raises(OSError, match="refused"):
            await stream.network.connect(stream.process, "server", 7000)

    simulate(1, serve, answer_at_12, late, 5)


def test_a_peers_fault_costs_its_own_connection_only():
    async def breaks(stream):
        await stream.receive_some()
        raise trio.BrokenResourceError

    async def twice(stream):
        await stream.send_all(b"x")
        assert await read_all(stream) == b""
        again = await stream.network.connect(stream.process, "server", 7000)
        await again.send_all(b"x")
        return await read_all(again)

    assert simulate(1, serve, breaks, twice, 5)[1] == b""


def test_a_bug_in_a_handler_is_not_swallowed():
    async def breaks(stream):
        raise KeyError("bug")

    with pytest.raises(ExceptionGroup) as caught:
        simulate(1, serve, breaks, read_all, 5)
    assert caught.group_contains(KeyError)


def test_a_disk_that_fails_is_no_fault_of_the_peer():
    async def breaks(stream):
        raise OSError(5, "Input/output error")

    with pytest.raises(ExceptionGroup) as caught:
        simulate(1, serve, breaks, read_all, 5)
    assert caught.group_contains(OSError)


def test_too_many_connections_are_refused():
    async def second(stream):
        await trio.sleep(1)
        return await read_all(await stream.network.connect(stream.process, "server", 7000))

    assert simulate(1, partial(serve, connections_max=1), answer_at_12, second, 5)[1] == b""


def test_the_mock_clock_is_what_makes_these_quick():
    start = time.monotonic()
    trio.run(trio.sleep, 3600, clock=MockClock(autojump_threshold=0))
    assert time.monotonic() - start < 5
