"""Run a process: signals, the two steps of stopping, and what an ending means to who started it.

`run(main)` calls `await main(machine, stop)`. SIGINT or SIGTERM sets `stop`; main then has `grace_s` to end, after
that it is cancelled; a second signal ends the process on the spot. Failures that were foreseen are one line on stderr
and a code; anything else is a bug, with its traceback.

    0 done · 1 not done · 2 usage or configuration · 3 done with a shortfall · 70 a bug · 128 + signal cut short

`serve_links` accepts connections in two nested nurseries: the inner one ends at `stop`, so that nobody new comes in;
the outer one holds the connections, which have `grace_s` to finish.
"""

import os
import resource
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import NoReturn

import trio

from service.config import ConfigError
from service.log import get_log
from service.machine import AddressError, BusyError, Listener, Machine, RealMachine

DONE, NOT_DONE, USAGE, SHORTFALL, BUG = 0, 1, 2, 3, 70
FORESEEN: Mapping[type[Exception], int] = {ConfigError: USAGE, AddressError: USAGE, BusyError: USAGE}

GRACE_S = 10.0
CONNECTIONS_MAX = 4096

# What an unfriendly or unlucky peer may raise in its own connection. A protocol's own errors are added by its owner.
# Not every OSError: a disk that fails while a message is handled is no peer's fault, and must not pass for one.
PEER_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, ConnectionError)

Main = Callable[[Machine, trio.Event], Awaitable[int | None]]

log = get_log("service.run")


def run(
    main: Main,
    *,
    machine: Machine | None = None,
    grace_s: float = GRACE_S,
    foreseen: Mapping[type[Exception], int] = FORESEEN,
) -> NoReturn:
    """Run to the end and exit with its code. `foreseen` adds a package's own named failures to FORESEEN."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # it would hold keys
    machine = machine or RealMachine()
    codes = {**FORESEEN, **foreseen}
    try:
        code = trio.run(_supervise, main, machine, grace_s)
    except* tuple(codes) as group:
        code = _tell(list(leaves(group)), codes)
    except* Exception:
        traceback.print_exc()
        code = BUG
    sys.exit(_finish_output(code))


def _finish_output(code: int) -> int:
    """Write what is left for stdout, or give it up: the interpreter would try once more, and end with its own code.

    A disk that is full is said once, and is no success; a reader who has gone (`| head`) is no failure.
    """
    try:
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        if code == DONE and not isinstance(error, BrokenPipeError):
            print(f"the output can't be written: {describe(error)}", file=sys.stderr)
            return NOT_DONE
    return code


async def _supervise(main: Main, machine: Machine, grace_s: float) -> int:
    """Main, and beside it a listener for signals that outlives nothing."""
    stop = trio.Event()
    cut = trio.CancelScope()
    caught: list[int] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(_heed_signals, stop, cut, caught, grace_s)
        code: int | None = None
        with cut:
            code = await main(machine, stop)
        nursery.cancel_scope.cancel()
    return 128 + caught[0] if cut.cancelled_caught else code or DONE


async def _heed_signals(
    stop: trio.Event,
    cut: trio.CancelScope,
    caught: list[int],
    grace_s: float,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            if caught:
                os._exit(128 + number)  # asked twice: whoever asks doesn't want to wait for the grace
            caught.append(number)
            stop.set()
            cut.deadline = trio.current_time() + grace_s


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors themselves, however deep nurseries have wrapped them."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def _tell(errors: list[BaseException], codes: Mapping[type[Exception], int]) -> int:
    """One line a failure, each said once; the highest code counts."""
    for line in dict.fromkeys(describe(error) for error in errors):
        print(line, file=sys.stderr)
    return max(code for kind, code in codes.items() for error in errors if isinstance(error, kind))


def describe(error: BaseException) -> str:
    """What a person needs of an error: an OSError's own words and file, not its number."""
    if isinstance(error, OSError) and error.strerror:
        name = os.fsdecode(error.filename) + ": " if isinstance(error.filename, (str, bytes)) else ""
        return name + error.strerror
    return str(error) or type(error).__name__


Handler = Callable[[trio.abc.Stream], Awaitable[None]]


async def serve_links(
    listeners: Sequence[Listener],
    handler: Handler,
    stop: trio.Event,
    *,
    grace_s: float = GRACE_S,
    connections_max: int = CONNECTIONS_MAX,
    peer_errors: tuple[type[Exception], ...] = PEER_GONE,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Give each connection to `handler`, until `stop`; then let those that are open finish, for `grace_s`.

    A handler's `peer_errors` cost its own connection and nothing else; other errors are bugs and end the process.
    """
    guarded = _Guard(handler, connections_max, peer_errors)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            await accepting.start(lambda task_status: _accept(guarded, listeners, connections, task_status))
            task_status.started()
            await stop.wait()
            accepting.cancel_scope.cancel()
        connections.cancel_scope.deadline = trio.current_time() + grace_s


async def _accept(
    handler: Handler,
    listeners: Sequence[Listener],
    connections: trio.Nursery,
    task_status: trio.TaskStatus[list[Listener]],
) -> None:
    await trio.serve_listeners(handler, list(listeners), handler_nursery=connections, task_status=task_status)


class _Guard:
    """A handler that can't hurt its neighbours: counted, closed, its peer's faults caught."""

    def __init__(self, handler: Handler, most: int, peer_errors: tuple[type[Exception], ...]) -> None:
        self.handler = handler
        self.most = most
        self.peer_errors = peer_errors
        self.open = 0

    async def __call__(self, stream: trio.abc.Stream) -> None:
        if self.open >= self.most:
            log.warning("a connection is refused: too many are open", open=self.open)
            await trio.aclose_forcefully(stream)
            return
        self.open += 1
        try:
            async with stream:
                await self.handler(stream)
        except* self.peer_errors as group:
            log.info("a connection ended by an error of its peer", why="; ".join(describe(e) for e in leaves(group)))
        finally:
            self.open -= 1
