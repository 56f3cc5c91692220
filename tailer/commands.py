"""The command line of a tailer: `tailer run` and `tailer key`."""

import sys
from typing import Any

import click
import trio

from protocol.identity import NodeKey
from service.config import ConfigError, load, options
from service.heap import settle, share_heap
from service.keys import load_key
from service.log import setup
from service.machine import Machine
from service.run import DONE, NOT_DONE, USAGE
from service.run import run as run_process
from tailer.agent import run_tailer
from tailer.journal import JournalError
from tailer.settings import TailerSettings

# So many more objects than before, and the collector looks for cycles among them; of these there are next to none.
COLLECT_EVERY = 10_000


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The agent: sends the lines of growing files to the bucks."""


@main.command()
@options(TailerSettings)
@click.argument("globs", metavar="[GLOB]...", nargs=-1)
def run(globs: tuple[str, ...], **flags: Any) -> None:
    """Follow the files that fit the patterns, until told to stop. Quote patterns, so that new files are found too."""
    settings = _settings({**flags, "files": (*flags.get("files", ()), *globs)})
    setup()
    share_heap()
    settle(COLLECT_EVERY)

    async def body(machine: Machine, stop: trio.Event) -> int:
        return await run_tailer(machine, settings, stop)

    run_process(body, foreseen={JournalError: NOT_DONE})


@main.command()
@options(TailerSettings)
def key(**flags: Any) -> None:
    """Print this node's id and public key; make the key if there is none yet."""
    settings = _settings(flags)

    async def body(machine: Machine, stop: trio.Event) -> int:
        found = NodeKey.from_seed((await load_key(machine, settings.key_path)).seed)
        print(f"node {found.node.hex()} public {found.public.hex()}")
        return DONE

    run_process(body)


def _settings(flags: dict[str, Any]) -> TailerSettings:
    try:
        return load(TailerSettings, flags)
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(USAGE)
