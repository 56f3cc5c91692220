"""The command line of a buck: `buck run`, `buck drain` and `buck key`."""

import sys
from typing import Any

import click
import trio

from buck.leaving import follow, mark
from buck.node import run_node
from buck.settings import BuckSettings
from protocol.identity import NodeKey
from service.config import ConfigError, load, options
from service.heap import settle, share_heap
from service.keys import load_key
from service.log import setup
from service.machine import Machine
from service.run import DONE, USAGE
from service.run import run as run_process

# So many more objects than before, and the collector looks for cycles among them: links, and the tasks of each.
COLLECT_EVERY = 2_000


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The storage node: keeps what tailers send, and gives it to porters."""


@main.command()
@options(BuckSettings)
def run(**flags: Any) -> None:
    """Run a buck until it is told to stop."""
    settings = _settings(flags)
    setup()
    share_heap()
    settle(COLLECT_EVERY)

    async def body(machine: Machine, stop: trio.Event) -> int:
        await run_node(machine, settings, stop, _say_ready)
        return DONE

    run_process(body)


@main.command()
@options(BuckSettings)
def key(**flags: Any) -> None:
    """Print this node's id and public key; make the key if there is none yet."""
    settings = _settings(flags)

    async def body(machine: Machine, stop: trio.Event) -> int:
        found = NodeKey.from_seed((await load_key(machine, settings.key_file)).seed)
        print(f"node {found.node.hex()} public {found.public.hex()}")
        return DONE

    run_process(body)


@main.command()
@click.option("--undo", is_flag=True, help="Stay after all: take packets again.")
@click.option("--no-wait", is_flag=True, help="Say it to the buck, and don't wait until its copies are handed on.")
@options(BuckSettings)
def drain(undo: bool, no_wait: bool, **flags: Any) -> None:
    """Leave the cluster: no new packets, and every copy handed on; ends when the buck may be stopped for good.

    Works on the buck's own disks, so it is run on its host, with the settings that the buck has; it need not run.
    """
    settings = _settings(flags)

    async def body(machine: Machine, stop: trio.Event) -> int:
        await mark(machine, settings.disk, settings.env, leaving=not undo)
        if undo or no_wait:
            return DONE
        return await follow(machine, settings.http, stop, print)

    run_process(body)


def _settings(flags: dict[str, Any]) -> BuckSettings:
    try:
        return load(BuckSettings, flags)
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(USAGE)


def _say_ready(listen: str, http: str) -> None:
    """The one line on stdout: whoever started us with port 0 learns where we are."""
    print(f"listening {listen} http {http}", flush=True)
