"""Many tailers in one process, as far as their links go: each has a key, a journal and the product's own `Members`.

    python -m tests.scenarios.crowd --to HOST:PORT ... --tailers 200 --journals DIR --authorized-keys F --secret-file F

It prints a line of JSON whenever as many links are up as there could be, and at each line on its stdin one with the
state as it is now: {"time", "links", "dials": [when each dial began, monotonic, since the last line], "failures"}.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys

import trio

from bench.sending import key_of
from protocol.secure import Security
from service.authorized import use_files
from service.machine import Machine
from service.run import run
from tailer.journal import Journal
from tailer.members import Members
from tailer.settings import TailerSettings

NAME = "crowd{}"
FILES = 8_192
LOOK_S = 0.02


class Crowd:
    """The tailers, and when they dialled."""

    def __init__(self, machine: Machine, asked: argparse.Namespace) -> None:
        self.machine, self.asked = machine, asked
        self.members: list[Members] = []
        self.dials: list[float] = []
        connect = machine.connect

        async def noted(host: str, port: int) -> trio.abc.Stream:
            self.dials.append(machine.now())
            return await connect(host, port)

        machine.connect = noted  # type: ignore[method-assign]  # every dial of every tailer passes here

    async def begin(self, nursery: trio.Nursery) -> None:
        for number in range(self.asked.tailers):
            name = NAME.format(number)
            key, folder = key_of(name), f"{self.asked.journals}/{name}"
            journal = await Journal.open(self.machine, folder, env="prod", key=key, host=name.encode(), epoch=1 << 32)
            security = Security(key, "prod", self.machine.entropy, self.machine.time_ns)
            files = {"authorized_keys": self.asked.authorized_keys, "secret_file": self.asked.secret_file}
            settings = TailerSettings.model_validate({"to": self.asked.to, "journal": folder, **files})
            use_files(self.machine, settings, security.take)
            members = Members(self.machine, key, "prod", name.encode(), self.asked.to, journal, security)
            self.members.append(members)
            nursery.start_soon(members.run)

    @property
    def links(self) -> int:
        return sum(len(one.linked()) for one in self.members)

    def tell(self) -> None:
        failures = sum(one.counters["link_failures"] for one in self.members)
        said = {"time": self.machine.now(), "links": self.links, "dials": self.dials, "failures": failures}
        print(json.dumps(said), flush=True)
        self.dials.clear()

    async def watch(self) -> None:
        """Tell whenever all are linked."""
        while True:
            while self.links < len(self.members) * len(self.asked.to):  # noqa: ASYNC110  # of 200 events, one would do
                await trio.sleep(LOOK_S)
            self.tell()
            while self.links == len(self.members) * len(self.asked.to):  # noqa: ASYNC110  # the same
                await trio.sleep(LOOK_S)

    async def answer(self) -> None:
        """Tell at each line of stdin, until it ends."""
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            self.tell()


async def _main(machine: Machine, asked: argparse.Namespace) -> int:
    crowd = Crowd(machine, asked)
    async with trio.open_nursery() as nursery:
        await crowd.begin(nursery)
        nursery.start_soon(crowd.watch)
        await crowd.answer()
        nursery.cancel_scope.cancel()
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.scenarios.crowd", description=__doc__)
    parser.add_argument("--to", action="append", required=True)
    parser.add_argument("--tailers", type=int, required=True)
    parser.add_argument("--journals", required=True)
    parser.add_argument("--authorized-keys", required=True)
    parser.add_argument("--secret-file", required=True)
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))

    async def work(machine: Machine, stop: trio.Event) -> int:
        return await _main(machine, asked)

    run(work)


if __name__ == "__main__":
    main()
