"""Keep looking: sweeps and inotify say which files changed, rounds read them.

A sweep every second or so (less often where it takes long) finds everything: new files, growth, what went away.
Inotify on the folders only makes it sooner; it may be missing, run out of watches or overflow, and nothing is lost by
that.

    sweeper:  sweep -> known -> dirty files        folders: an event -> that file is dirty, or a sweep is wanted
                                       rounds: read what is dirty, close blocks that are of age
"""

from collections.abc import Iterable

import trio

from service.beat import until_beat
from service.log import get_log
from service.machine import Machine, Watch
from service.watch import IGNORED, MODIFY, OVERFLOW
from tailer.inputs.files import Scanner, Sweep
from tailer.inputs.known import Known
from tailer.inputs.reader import RETRY_S, Reader

SWEEP_MIN_S, SWEEP_MAX_S = 1.0, 5.0
# A sweep may take this part of the time: one of 20 ms comes each second, one of 100 ms every five.
SWEEP_SHARE = 0.02
# Between two sweeps that are asked for by events: a busy folder must not keep us sweeping.
SWEEP_PAUSE_S = 0.1
# When everything is read once, what can't be read is tried again this often.
RETRIES = 3
# Changes are gathered for so long before they are read: each wake-up costs more than a line. Where little comes at a
# time, and nobody watches live, twice as long each time: its packet lingers for seconds anyway. Who lets lines linger
# for less than that wants them read as soon; still sooner would cost a core.
GATHER_LEAST_S, GATHER_MIN_S, GATHER_MAX_S = 0.02, 0.1, 1.0
LITTLE = 2 << 10

log = get_log("tailer.files")


class Watching:
    """The tasks that keep files read. `once` instead reads everything one time."""

    def __init__(self, machine: Machine, scanner: Scanner, known: Known, reader: Reader) -> None:
        self._machine = machine
        self._scanner = scanner
        self._known = known
        self._reader = reader
        self._folders = Folders(machine.watch())
        self._pause = self._pause_min = max(GATHER_LEAST_S, min(GATHER_MIN_S, reader.blocks.linger))
        self._wake = trio.Event()
        self._much = trio.Event()
        self._sweep_soon = trio.Event()
        self._told: set[bytes] = set()
        reader.want_sweep = self.want_sweep

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sweep_again_and_again)
            nursery.start_soon(self._heed_events)
            nursery.start_soon(self._rounds)

    async def once(self) -> None:
        """Look everywhere, and read all that is there to its end."""
        began = self._machine.now()
        sweep = await self._sweep()
        await self._reader.finish(self._known.apply(sweep, self._machine.now()), began)
        for _ in range(RETRIES):  # out of descriptors, or an error of the disk
            waiting = self._known.waiting()
            if not waiting:
                break
            await trio.sleep(RETRY_S)
            await self._reader.finish(waiting)

    def close(self) -> None:
        self._folders.close()
        self._reader.close()

    def want_sweep(self) -> None:
        self._sweep_soon.set()

    async def _sweep(self) -> Sweep:
        sweep = await self._scanner.sweep()
        for path, error in sweep.failures.items():
            if path not in self._told:
                self._told.add(path)
                log.warning("a folder can't be looked into", path=path, why=error.strerror or str(error))
        for pattern in sweep.barren:
            if pattern not in self._told:
                self._told.add(pattern)
                log.warning("no file fits a pattern", pattern=pattern)
        return sweep

    async def _sweep_again_and_again(self) -> None:
        while True:
            began = self._machine.now()
            sweep = await self._sweep()
            took = self._machine.now() - began
            self._reader.mark(self._known.apply(sweep, self._machine.now()), began)
            self._folders.watch(sweep.folders)
            self._wake.set()
            interval = min(max(took / SWEEP_SHARE, SWEEP_MIN_S), SWEEP_MAX_S)
            with trio.move_on_after(until_beat(self._machine.now(), interval)):
                await self._sweep_soon.wait()
            rested = self._machine.now() - began - took
            await trio.sleep(max(0.0, max(SWEEP_PAUSE_S, took / SWEEP_SHARE / 10) - rested))
            self._sweep_soon = trio.Event()

    async def _heed_events(self) -> None:
        async for names, others in self._folders:
            for name in names:
                follow = self._known.by_name.get(name)
                if follow is not None:
                    self._reader.dirty[follow] = None
            if others:
                self.want_sweep()
            self._wake.set()
            with trio.move_on_after(self._gather_s()):
                await self._much.wait()

    async def _rounds(self) -> None:
        while True:
            before, was_asked = self._reader.bytes_read, bool(self._reader.dirty)
            await self._reader.round()
            if self._reader.dirty:
                await trio.lowlevel.checkpoint()
                continue
            if self._reader.bytes_read - before >= LITTLE or self._reader.blocks.hurries:
                self._pause = self._pause_min
                self._much.set()  # events that are gathered for longer are wanted now
                self._much = trio.Event()
            elif was_asked:  # one that only closed blocks says nothing of how much comes
                self._pause = min(2 * self._pause, GATHER_MAX_S)
            await trio.sleep(min(self._gather_s(), self._until_due()))
            with trio.move_on_after(self._until_due()):
                await self._wake.wait()
            self._wake = trio.Event()

    def _gather_s(self) -> float:
        """How long changes are gathered now. Only the longest pause ends at a beat: a shorter one, cut shorter by that,
        would see little and be taken for a file of which little comes."""
        return until_beat(self._machine.now(), self._pause) if self._pause == GATHER_MAX_S else self._pause

    def _until_due(self) -> float:
        return max(0.0, self._reader.blocks.next_due() - self._machine.now())


class Folders:
    """Folders watched by inotify, where that is to be had."""

    def __init__(self, watch: Watch | None) -> None:
        self._watch = watch
        self._paths: dict[int, bytes] = {}
        self._numbers: dict[bytes, int] = {}
        self._is_full = False

    def watch(self, folders: Iterable[bytes]) -> None:
        """Watch these, and no others."""
        if self._watch is None:
            return
        wanted = set(folders)
        for path in self._numbers.keys() - wanted:
            number = self._numbers.pop(path)
            if self._paths.pop(number, None) is not None:
                self._watch.remove(number)
        for path in wanted - self._numbers.keys():
            self._add(self._watch, path)

    def _add(self, watch: Watch, path: bytes) -> None:
        try:
            number = watch.add(path)
        except FileNotFoundError:
            return  # gone since the sweep
        except OSError as error:
            if not self._is_full:
                self._is_full = True
                log.warning("some folders can't be watched; sweeps find their changes", path=path, why=error.strerror)
            return
        self._numbers[path] = number
        self._paths[number] = path

    def __aiter__(self) -> "Folders":
        return self

    async def __anext__(self) -> tuple[list[bytes], bool]:
        """Files that were written, and whether anything else happened."""
        if self._watch is None:
            raise StopAsyncIteration
        names, others = [], False
        for number, mask, name in await self._watch.events():
            folder = self._paths.get(number)
            if mask & IGNORED and folder is not None:
                del self._paths[number]
                self._numbers.pop(folder, None)
            if folder is not None and mask & MODIFY:
                names.append(folder.rstrip(b"/") + b"/" + name)
            else:
                others = others or bool(mask & OVERFLOW) or not mask & IGNORED
        return names, others

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
