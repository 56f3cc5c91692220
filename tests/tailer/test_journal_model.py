"""The journal against a model, over any order of good and bad days."""

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.ranges import Ranges
from service.faults import NAMES, armed
from tailer.journal import Journal, JournalError, JournalFull
from tests.simulation.disk import Killed
from tests.simulation.machine import World
from tests.tailer.journals import (
    STREAM,
    draft,
    open_journal,
    readable,
    run,
    seal_all,
    small_segments,
)

STEPS = ("append", "append", "append", "sync", "sync", "seal", "done", "kill", "power", "close", "fsync fails", "full")


@settings(max_examples=100)
@given(steps=st.lists(st.sampled_from(STEPS), max_size=40), seed=st.integers(0, 1000))
def test_whatever_happens_what_was_synced_and_is_not_done_is_there_after_it(steps: list[str], seed: int) -> None:
    async def scenario(world: World) -> None:
        model = _Model(world)
        for step in ["open", *steps, "power"]:
            await model.step(step)

    with small_segments():
        run(scenario, seed)


class _Model:
    """A journal, and what it must not forget."""

    def __init__(self, world: World) -> None:
        self.host = world.host("a")
        self.random = random.Random(world.seed)
        self.journal: Journal | None = None
        self.epoch = 0
        self.written: dict[tuple[int, int], bytes] = {}  # every packet there ever was
        self.places: dict[tuple[int, int], tuple[int, int]] = {}  # where in the stream
        self.kept: set[tuple[int, int]] = set()  # appended, and its process or its bytes are safe
        self.loose: set[tuple[int, int]] = set()  # appended, not synced
        self.done: set[tuple[int, int]] = set()
        self.doubtful: set[tuple[int, int]] = set()  # their fsync failed, and nobody could write them once more
        self.failed = False
        self.offset = 0

    async def step(self, step: str) -> None:
        journal = self.journal
        if step == "open" or journal is None:
            await self._open()
        elif step == "append":
            self._append(journal)
        elif step == "sync":
            await self._sync(journal)
        elif step == "seal":
            seal_all(journal)
        elif step == "done":
            self._finish(journal)
        elif step == "fsync fails":
            self.host.platter.fsync_failures += 1
        elif step == "full":
            self._fill_disk(journal)
        else:
            await self._end(journal, step)
        if self.journal is not None:
            self.journal.check()

    async def _open(self) -> None:
        self.epoch += 1 << 32
        self.host.platter.fsync_failures = 0
        self.failed = False
        self.journal = journal = await open_journal(self.host.process(), self.epoch)
        found = readable(journal)
        unknown = set(found) - set(self.written)
        assert len(unknown) <= 1  # a kill after the write, before the number was told
        for slot in unknown:
            self.written[slot], self.places[slot] = found[slot], (self.offset, self.offset + 10)
            self.offset += 10
        assert all(self.written[slot] == data for slot, data in found.items())
        assert self.kept - self.done <= set(found)
        for slot in set(self.written) - set(found) - self.done:
            start, end = self.places[slot]  # what isn't here must be read again
            assert not journal.coverage.get(STREAM, Ranges()) & Ranges([(start, end)])
        self.kept = set(found) - self.doubtful

    def _append(self, journal: Journal) -> None:
        packet = journal.append(draft(self.offset, self.offset + 10, size=self.random.choice((10, 400, 2000))))
        slot = packet.header.epoch, packet.header.number
        self.written[slot] = bytes(packet.data)
        self.places[slot] = self.offset, self.offset + 10
        self.offset += 10
        self.loose.add(slot)

    async def _sync(self, journal: Journal) -> None:
        try:
            await journal.sync()
        except JournalError:
            self.failed = True
            return
        self.failed = False
        self._keep_loose()

    def _keep_loose(self) -> None:
        """They survive the process. If an fsync failed: the next power cut shows whether they were ever written."""
        self.doubtful |= self.loose if self.failed else set()
        self.kept |= self.loose - self.doubtful
        self.loose = set()

    def _finish(self, journal: Journal) -> None:
        for entry in list(journal.ledger.waiting()):
            if self.random.random() < 0.6:
                journal.ledger.note_done(entry)
                self.done.add(entry.slot)

    def _fill_disk(self, journal: Journal) -> None:
        self.host.platter.capacity = self.host.platter.used + self.random.randrange(300)
        with contextlib.suppress(JournalFull):
            journal._write({"k": "notes", "epochs": {}, "delivered": []})
        self.host.platter.capacity = 1 << 40

    async def _end(self, journal: Journal, how: str) -> None:
        try:
            if how == "close":
                await journal.close()
                self._keep_loose()
            elif how == "kill":
                self.host.processes[-1].kill()
                self._keep_loose()
            else:
                self.host.power_cut()
                self.host.power_on()
        except (JournalError, Killed):
            self.host.power_cut()
            self.host.power_on()
        self.loose = set()
        await self._open()


POINTS = sorted(name for name in NAMES if name.startswith(("tailer.journal.", "tailer.segment.")))


@pytest.mark.parametrize("name", POINTS)
def test_D21_a_kill_at_any_fault_point_three_times_in_a_row_loses_nothing_that_was_synced(name: str) -> None:
    async def scenario(world: World) -> None:
        model = _Model(world)
        fired = 0
        await model.step("open")
        for nth in (1, 2, 3, 5):
            with armed(name, nth, model.host.processes[-1].kill_here):
                try:
                    for step in ("append", "append", "sync", "append", "seal", "done", "sync", "append", "sync") * 2:
                        await model.step(step)
                except Killed:
                    fired += 1
            await model.step("kill" if nth % 2 else "power")
        assert fired >= 2
        await model.step("power")

    with small_segments():
        run(scenario)
