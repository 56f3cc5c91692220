"""`porter JOB`: one command a job, each safe to run twice. What a job does is in the file of its name.

Exit codes: 0 done (audit: complete), 1 not done (audit: incomplete), 2 usage or configuration, 3 done with a shortfall
that is said (audit: unknown).
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import click
import trio

from porter.cluster import NobodyError
from porter.output import Output
from porter.reader import Reader, open_reader
from porter.settings import PorterSettings
from porter.transfer import Copied, UnknownFileError, cat, choose, generations
from protocol.errors import QueryError
from service.config import load, options
from service.machine import Machine
from service.run import DONE, NOT_DONE, SHORTFALL, USAGE
from service.run import run as run_process

INTERRUPTED = 130
FORESEEN = {NobodyError: NOT_DONE, UnknownFileError: NOT_DONE, QueryError: USAGE}

Job = Callable[[Machine, PorterSettings], Awaitable[int]]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Carry events out of the bucks: to a terminal, to a file, to the archive."""


@main.command("cat")
@click.argument("host")
@click.argument("path")
@click.option(
    "--generation", metavar="N|last", help="Only the Nth file that had this path (1 is the oldest), or the last."
)
@options(PorterSettings)
def cat_command(host: str, path: str, generation: str | None, **flags: Any) -> None:
    """Write a file as it was, byte for byte: every generation seen under PATH on HOST, oldest first."""

    async def job(machine: Machine, settings: PorterSettings) -> int:
        async with open_reader(machine, settings, None) as reader:
            found = choose(await generations(reader, _bytes(host), _bytes(path)), generation)
            async with Output(machine, sys.stdout.buffer) as output:
                copied = await cat(reader, found, output.write)
            return _tell_copied(reader, copied)

    _run(job, flags)


def _tell_copied(reader: Reader, copied: Copied) -> int:
    """Say what `cat` could not write."""
    for number, first, end in copied.gaps:
        _say(f"generation {number}: bytes {first} to {end} are missing")
    for number, first, end in copied.clashes:
        _say(f"generation {number}: bytes {first} to {end} were read twice with different contents: both are written")
    for number, first in copied.begins:
        _say(f"generation {number}: begins at byte {first}; what was before was not read")
    shortfalls = reader.shortfalls()
    for line in shortfalls:
        _say(line)
    if copied.gaps:
        return SHORTFALL if any(line.startswith(("not asked", "unsure")) for line in shortfalls) else NOT_DONE
    return SHORTFALL if copied.clashes or shortfalls else DONE


def _run(job: Job, flags: dict[str, Any]) -> None:
    """Run a job to its end, or to the first signal: there is nothing to finish, each may simply be run again."""

    async def process(machine: Machine, stop: trio.Event) -> int:
        settings = load(PorterSettings, flags)
        code = INTERRUPTED
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_at, stop, nursery.cancel_scope)
            code = await job(machine, settings)
            nursery.cancel_scope.cancel()
        return code

    run_process(process, foreseen=FORESEEN)


async def _cancel_at(stop: trio.Event, scope: trio.CancelScope) -> None:
    await stop.wait()
    scope.cancel()


def _bytes(text: str) -> bytes:
    """A name as the file system has it, whatever its bytes are."""
    return text.encode("utf-8", "surrogateescape")


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
