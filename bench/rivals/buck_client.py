"""Buck's sender and reader: a program that appends to files that a real tailer follows, and `porter grep`.

A sender has a file of its own. When an event is acknowledged is the tailer's own knowledge (acking_tailer.py). Who
reads live is what `porter grep --live` is inside: it is shown what comes from then on, nothing of before. To read what
is there is `porter grep`, which merges; an event arrives when its line comes out of the pipe.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import trio

from bench.rivals import mix
from bench.rivals.client import END_S, LOOK_S, Asked, main, ready
from bench.rivals.lines import Log, Pacer
from bench.rivals.rival import READY_S, Settings
from porter.live import Shown, Viewer
from porter.settings import PorterSettings
from protocol.identity import NodeKey
from service.machine import RealMachine
from service.units import read_address

STOP_S, LINKED_S, END_LOOK_S = 20.0, 10.0, 0.05


class Acks:
    """From what the tailer writes down to events: `sent` says where each ends."""

    def __init__(self, path: Path, log: Log) -> None:
        path.touch()
        self._file, self._log = path.open("rb"), log
        self._ends: dict[bytes, dict[int, tuple[int, int]]] = {}  # by path and offset: sender and number
        self._file.seek(0, os.SEEK_END)
        self._torn = b""
        self.waiting = 0

    def until_any(self, tailer: subprocess.Popen[bytes]) -> None:
        """Wait for the first line: the tailer has come up and its way is open. Other systems' senders are connected,
        too, before their events' time begins. RuntimeError if that doesn't come."""
        deadline = time.monotonic() + READY_S
        while not self._file.peek(1):
            if tailer.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the tailer has brought nothing within {READY_S:.0f} s, or ended: {tailer.poll()}")
            time.sleep(LOOK_S)

    def sent(self, path: bytes, start: int, sender: int, number: int) -> None:
        self._ends.setdefault(path, {})[start] = sender, number
        self.waiting += 1

    def look(self) -> None:
        data = self._torn + self._file.read()
        *lines, self._torn = data.split(b"\n")
        for line in lines:
            ns, first, end, path = line.split(b" ", 3)
            starts = self._ends.get(path, {})
            for start in sorted(start for start in starts if int(first) <= start < int(end)):
                self._log.acked(*starts.pop(start), int(ns))
                self.waiting -= 1


def pace(asked: Asked, pacer: Pacer, log: Log) -> None:
    """The files, the tailer's journal and its log lie below the log's folder."""
    folder = asked.folder / f"sender{pacer.first}"
    folder.mkdir(exist_ok=True)  # it is there where a sender goes on
    acks = Acks(folder / "acks", log)
    paths = [folder / f"{sender}.log" for sender in pacer.names]
    files = {sender: path.open("ab", buffering=0) for sender, path in zip(pacer.names, paths, strict=True)}
    opening = folder / "opening.log"
    with opening.open("ab") as file:
        file.write(b"a line that opens the way\n")
    with _tailer(asked, folder, [opening], paths) as tailer:
        acks.until_any(tailer)
        ready()
        pacer.begin()
        while not asked.ended.is_set() and tailer.poll() is None:
            for event in pacer.due():
                log.sent(event)
                file = files[event.sender]
                acks.sent(bytes(folder / f"{event.sender}.log"), file.tell(), event.sender, event.number)
                file.write(event.line + b"\n")
            acks.look()
            log.flush()
            time.sleep(LOOK_S)
        deadline = time.monotonic() + END_S
        while acks.waiting and time.monotonic() < deadline and tailer.poll() is None:
            acks.look()
            time.sleep(LOOK_S)
        if tailer.poll() is not None:
            raise RuntimeError(f"the tailer ended with {tailer.returncode}")
        tailer.terminate()
        tailer.wait(STOP_S)


def _tailer(asked: Asked, folder: Path, other: list[Path], paths: list[Path]) -> subprocess.Popen[bytes]:
    config = folder / "tailer.toml"
    config.write_text(_mixed(asked.settings.mix, paths) if asked.settings.mix else classes(asked.settings))
    command = ["setpriv", "--pdeathsig", "KILL"]  # a sender that is killed is a host that dies: its tailer dies too
    command += [
        sys.executable,
        "-m",
        "bench.rivals.acking_tailer",
        str(folder / "acks"),
        "run",
    ]
    command += ["--config", str(config), "--journal", str(folder / "journal"), "--from", "head", *_clear(asked)]
    if asked.settings.timeouts == "tuned":
        command += ["--linger", f"{asked.settings.linger_ms}ms"]
    for address in asked.to:
        command += ["--to", address]
    return subprocess.Popen([*command, *map(str, other + paths)], stdin=subprocess.DEVNULL)


def _clear(asked: Asked) -> list[str]:
    return ["--insecure"] if asked.settings.nets else []


def _mixed(name: str, paths: list[Path]) -> str:
    """A class for each sender's file."""
    return mix.rules({str(path): mix.of(name, int(path.stem)) for path in paths})


def classes(settings: Settings) -> str:
    """The tailer's configuration: nothing for two copies at once and a third later, else a class for all files."""
    if settings.copies == 3 and settings.sync == "none":
        return ""
    sync, resend = ("packet", "true") if settings.sync == "each" else ("none", "false")
    return f'[[classes]]\npath = "/**"\ncopies = {settings.copies}\nsync = "{sync}"\nresend = {resend}\n'


def consume(asked: Asked, log: Log) -> None:
    """The past from a porter's pipe, or what comes from now on from a viewer in this process."""
    if asked.past:
        _past(asked, log)
    else:
        trio.run(_live, asked, log)


def _past(asked: Asked, log: Log) -> None:
    """Every line of `porter grep` that holds an event, when it comes out of the pipe."""
    command = [sys.executable, "-m", "porter", "grep", "event", "--json", "--key", str(asked.folder / "porter.key")]
    command += _clear(asked)
    for address in asked.to:
        command += ["--peer", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as porter:
        assert porter.stdout
        ready()
        rest = b""
        while data := os.read(porter.stdout.fileno(), 1 << 20):
            *lines, rest = (rest + data).split(b"\n")
            log.read(lines)
            log.flush()
    if porter.returncode not in (0, 3):  # 3: done, with a shortfall that it said on stderr
        raise RuntimeError(f"the porter ended with {porter.returncode}")


async def _live(asked: Asked, log: Log) -> None:
    """What `porter grep --live` is inside. Ready when every buck shows what comes, or some after a while."""
    settings = PorterSettings(peer=tuple(map(read_address, asked.to)), insecure=asked.settings.nets)
    key = NodeKey.from_seed(os.urandom(32))
    viewer = Viewer(RealMachine(), settings, key, "", partial(print, file=sys.stderr))

    def render(shown: Shown) -> bytes:
        log.read([shown.line])
        return b""

    async def write(_: bytes) -> None:
        pass

    async def flush() -> None:
        pass  # below, in time

    async with trio.open_nursery() as nursery:
        nursery.start_soon(viewer.run, write, flush, render)
        patient_until = trio.current_time() + LINKED_S
        while len(viewer.watched) < (len(asked.to) if trio.current_time() < patient_until else 1):  # noqa: ASYNC110  # a viewer tells nobody
            await trio.sleep(LOOK_S)
        ready()
        while not asked.ended.is_set():
            log.flush()
            await trio.sleep(END_LOOK_S)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    sys.exit(main(pace, consume))
