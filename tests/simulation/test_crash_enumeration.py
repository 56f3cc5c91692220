"""Recovery from every disk that a crash may leave: what was synced is there, nothing else, and twice the same."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import pytest

from buck.counts import Counts
from buck.pruning import Pruner
from buck.reading import listing
from buck.seals import SealStore
from buck.store import Store
from protocol.ranges import Ranges
from protocol.seal import Seal
from service.keys import load_key
from tailer.checkpoint import Checkpoint, StreamState
from tailer.journal import Journal
from tests.buck.making import BUCKET, KEY, OTHER, WIDTH, get, made, numbers, open_store, read, seal, stating
from tests.simulation.crashes import Recording, Subject, Tally, enumerate_crashes
from tests.simulation.folders import materialised, mirrored
from tests.simulation.machine import SimMachine, World, simulate
from tests.tailer.journals import EPOCH, STREAM, draft, next_epoch, open_journal, readable, seal_all, small_segments

STATES_MIN = 1_000
BUCKETS = (BUCKET, BUCKET + WIDTH)
Scenario = Callable[[World, Tally], Awaitable[None]]


# --- the tailer's journal -----------------------------------------------------------------------------------


class Kept(NamedTuple):
    """What a journal must not forget: packets synced and not done, seals synced, and where reading stood."""

    packets: frozenset[tuple[int, int]] = frozenset()
    seals: int = -1
    read_to: int = -1


class JournalClaims(NamedTuple):
    packets: dict[tuple[int, int], bytes]
    seals: int
    read_to: int
    coverage: Ranges


class Writing:
    """A journal's life: packets, seals, checkpoints, syncs, packets that are done, a stop and a second run."""

    def __init__(self, recording: Recording[Kept]) -> None:
        self.recording = recording
        self.written: dict[tuple[int, int], bytes] = {}
        self.places: dict[tuple[int, int], Ranges] = {}
        self.done: set[tuple[int, int]] = set()
        self.offset = 0

    async def run(self) -> None:
        epoch = EPOCH
        for clean in (True, False, True):
            journal = await open_journal(self.recording.host.process(), epoch)
            journal.state = lambda: Checkpoint((_stream(self.offset),))
            for turn in range(8):
                self._append(journal, size=(300, 1_900, 3_100)[turn % 3])
                if turn % 3 == 1:
                    continue  # two packets, and one sync for both
                if turn % 2:
                    seal_all(journal)
                if turn == 2:
                    journal.save()
                await self._sync(journal)
            await self._finish_some(journal)
            await self._end(journal, clean)
            epoch = next_epoch(journal)

    def _append(self, journal: Journal, size: int) -> None:
        packet = journal.append(draft(self.offset, self.offset + 10, size=size))
        slot = packet.header.epoch, packet.header.number
        self.written[slot] = bytes(packet.data)
        self.places[slot] = Ranges([(self.offset, self.offset + 10)])
        self.offset += 10

    async def _sync(self, journal: Journal) -> None:
        head = journal.chain.head[0]
        await journal.sync()
        kept = self.recording.promise
        self.recording.promise = Kept(frozenset(self.written) - self.done, head, kept.read_to)

    async def _finish_some(self, journal: Journal) -> None:
        for entry in list(journal.ledger.entries.values())[:3]:
            self.done.add(entry.slot)
            self.recording.promise = self.recording.promise._replace(packets=self.recording.promise.packets - self.done)
            journal.ledger.note_done(entry)
        await self._sync(journal)
        journal.reclaim()

    async def _end(self, journal: Journal, clean: bool) -> None:
        if clean:
            await journal.close()
            self.recording.promise = self.recording.promise._replace(read_to=self.offset)
        else:
            self.recording.host.processes[-1].kill()

    def check(self, kept: Kept, found: JournalClaims) -> None:
        assert kept.packets <= set(found.packets), "a synced packet is gone"
        assert all(self.written.get(slot) == data for slot, data in found.packets.items()), "a packet never written"
        assert found.seals >= kept.seals, "a synced seal is gone: the chain would fork"
        assert found.read_to >= kept.read_to, "a checkpoint of a clean stop is gone"
        lost = [place for slot, place in self.places.items() if slot not in found.packets and slot not in self.done]
        assert not any(found.coverage & place for place in lost), "what is lost counts as read"


def _stream(read_to: int) -> StreamState:
    return StreamState(STREAM, b"/var/log/a.log", 1, 2, 3, b"head\n", b"tail", read_to, b"kernel", 0, False)


async def _recover_journal(machine: SimMachine) -> JournalClaims:
    journal = await open_journal(machine, EPOCH + (9 << 32))
    journal.check()
    checkpoint = journal.recovered.checkpoint
    read_to = max((stream.read_to for stream in checkpoint.streams), default=-1) if checkpoint else -1
    return JournalClaims(readable(journal), journal.chain.head[0], read_to, journal.coverage.get(STREAM, Ranges()))


def _settled(found: JournalClaims) -> object:
    return sorted(found.packets), found.seals


async def journal_and_checkpoint(world: World, tally: Tally) -> None:
    """`--from end` aside, a checkpoint says how far was read: never further than packets go."""
    recording = Recording(world.host("tailer"), Kept())
    writing = Writing(recording)
    with small_segments(7_000):
        await writing.run()
        await enumerate_crashes(world, recording, Subject(_recover_journal, writing.check, _settled), tally)


# --- the buck's files ---------------------------------------------------------------------------------------


class Acked(NamedTuple):
    """Per bucket: numbers acknowledged, and those of them in a receipt as synced."""

    stored: dict[int, frozenset[int]]
    synced: dict[int, frozenset[int]]


class StoreClaims(NamedTuple):
    held: dict[int, dict[int, bytes]]
    unsure: frozenset[int]


def _packet(bucket: int, number: int) -> bytes:
    return made(number, bytes([number]) * (200 + 900 * (number % 4)), bucket=bucket).data


async def _put(recording: Recording[Acked], store: Store, bucket: int, number: int) -> None:
    await store.put(made(number, bytes([number]) * (200 + 900 * (number % 4)), bucket=bucket))
    stored = recording.promise.stored
    more = {**stored, bucket: stored.get(bucket, frozenset()) | {number}}
    recording.promise = recording.promise._replace(stored=more)


async def _ask_receipt(recording: Recording[Acked], store: Store, bucket: int) -> None:
    held = await store.receipt(KEY.node, 7, bucket, True)
    synced = {**recording.promise.synced, bucket: frozenset(held.synced.numbers())}
    recording.promise = recording.promise._replace(synced=synced)


async def _recover_store(machine: SimMachine) -> StoreClaims:
    store = await open_store(machine)
    store.check()
    found = {}
    for bucket in BUCKETS:
        held = await numbers(store, bucket)
        found[bucket] = dict(zip(held.numbers(), await get(store, held, bucket), strict=True))
    return StoreClaims(found, frozenset(bucket for bucket in BUCKETS if store.is_unsure(bucket)))


def _check_store(acked: Acked, found: StoreClaims) -> None:
    for bucket in BUCKETS:
        held = found.held[bucket]
        assert acked.synced.get(bucket, frozenset()) <= set(held), "a packet of a receipt is gone"
        assert all(data == _packet(bucket, number) for number, data in held.items()), "a packet nobody sent"
        lost = acked.stored.get(bucket, frozenset()) - set(held)
        assert not lost or bucket in found.unsure, "acknowledged packets are gone, and the bucket is called sure"


async def bucket_files(world: World, tally: Tally) -> None:
    """Two windows, receipts in between, a part closed and another begun, a stop in order and a second run."""
    recording = Recording(world.host("buck"), Acked({}, {}))
    for run in range(2):
        store = await open_store(recording.host.process())
        for turn in range(5):
            for bucket in BUCKETS:
                await _put(recording, store, bucket, 10 * run + 2 * turn)
                await _put(recording, store, bucket, 10 * run + 2 * turn + 1)
            if turn != 2:
                await _ask_receipt(recording, store, BUCKETS[turn % 2])
            if turn == 1:
                await store.close_part(store.open_parts()[0])
        if run == 0:
            await store.close()
    await enumerate_crashes(world, recording, Subject(_recover_store, _check_store, lambda found: found.held), tally)


class Going(NamedTuple):
    """Per bucket: numbers synced, those that a statement has named by now, and those that were let go of."""

    synced: dict[int, frozenset[int]]
    named: dict[int, frozenset[int]]
    gone: dict[int, frozenset[int]]


class PruneClaims(NamedTuple):
    held: dict[int, dict[int, bytes]]
    archived: dict[int, frozenset[int]]
    receipts: dict[int, frozenset[int]]


class Pruning:
    """Parts that go one by one, a straggler that waits for a statement of its own, a stop in order and a second run."""

    def __init__(self, recording: Recording[Going]) -> None:
        self.recording = recording

    async def run(self) -> None:
        first, second = BUCKETS
        store = await open_store(self.recording.host.process())
        await self._put(store, first, 0, 1, 2)
        await self._put(store, second, 0, 1)
        await store.close_part(store.open_parts()[0])
        await self._put(store, first, 3)
        await self._prune(store, first, 0, 1, 2)
        await self._prune(store, second, 0, 1)
        await store.close()
        store = await open_store(self.recording.host.process())
        await self._prune(store, first, 0, 1, 2, 3)
        await self._put(store, first, 2, 4)  # one that has gone comes again, beside one that is new
        await self._prune(store, first, 0, 1, 2, 3, 4)

    async def _put(self, store: Store, bucket: int, *some: int) -> None:
        for number in some:
            await store.put(read(_packet(bucket, number)))
        await store.receipt(KEY.node, 7, bucket, True)
        self._promise("synced", bucket, some)

    async def _prune(self, store: Store, bucket: int, *some: int) -> None:
        self._promise("named", bucket, some)
        done = await Pruner(store, Counts()).prune(stating([read(_packet(bucket, one)) for one in some], bucket))
        if not done.kept:
            self._promise("gone", bucket, some)

    def _promise(self, what: str, bucket: int, some: Iterable[int]) -> None:
        known = getattr(self.recording.promise, what)
        more = {**known, bucket: known.get(bucket, frozenset()) | set(some)}
        self.recording.promise = self.recording.promise._replace(**{what: more})


async def _recover_pruned(machine: SimMachine) -> PruneClaims:
    store = await open_store(machine)
    store.check()
    found = PruneClaims({}, {}, {})
    for bucket in BUCKETS:
        listed = await listing(store, bucket, b"", b"")
        held = Ranges.union(one for *_, one in listed.entries)
        data = [bytes(one) for one in await get(store, held, bucket)]
        found.held[bucket] = {read(one).header.number: one for one in data}
        assert set(found.held[bucket]) == set(held.numbers()), "a packet is listed and can't be read"
        found.archived[bucket] = frozenset(n for *_, one in listed.archived for n in one.numbers())
        found.receipts[bucket] = frozenset((await store.receipt(KEY.node, 7, bucket, False)).synced.numbers())
    return found


def _check_pruned(promise: Going, found: PruneClaims) -> None:
    none: frozenset[int] = frozenset()
    for bucket in BUCKETS:
        synced, named = promise.synced.get(bucket, none), promise.named.get(bucket, none)
        held, archived = found.held[bucket], found.archived[bucket]
        assert synced <= set(held) | archived == found.receipts[bucket] | set(held), (
            "a packet is neither here nor archived"
        )
        assert archived <= named, "a packet counts as archived, and nobody has said so"
        assert synced - named <= set(held), "a packet went that nobody has named"
        assert promise.gone.get(bucket, none) <= archived, "that it was let go of is forgotten"
        assert all(data == _packet(bucket, number) for number, data in held.items()), "a packet nobody sent"


async def pruning(world: World, tally: Tally) -> None:
    """What is named goes, and stays known; what isn't stays."""
    recording = Recording(world.host("buck"), Going({}, {}, {}))
    await Pruning(recording).run()
    await enumerate_crashes(world, recording, Subject(_recover_pruned, _check_pruned), tally)


async def seals(world: World, tally: Tally) -> None:
    """Two tailers' books; each seal that was answered is there."""
    recording: Recording[frozenset[bytes]] = Recording(world.host("buck"), frozenset())
    written = [seal(number, key, time_ns=number) for number in range(8) for key in (KEY, OTHER)]

    async def recover(machine: SimMachine) -> set[bytes]:
        return await _all_seals(await _seal_store(machine))

    def check(answered: frozenset[bytes], found: set[bytes]) -> None:
        assert answered <= found, "an answered seal is gone"
        assert found <= set(written), "a seal that nobody signed"

    store = await _seal_store(recording.host.process())
    for data in written:
        await store.put(Seal.read(data), data)
        recording.promise = recording.promise | {data}
    await enumerate_crashes(world, recording, Subject(recover, check), tally)


async def _seal_store(machine: SimMachine) -> SealStore:
    store = await open_store(machine)
    return SealStore(machine, store.volumes, "prod", WIDTH, Counts())


async def _all_seals(store: SealStore) -> set[bytes]:
    batches, found = await store.batches(b"", 0), set[bytes]()
    while batch := await batches.next():
        found |= {bytes(one) for one in batch}
    return found


# --- keys ---------------------------------------------------------------------------------------------------


async def keys(world: World, tally: Tally) -> None:
    """A boot that was counted is never counted again: epochs made of it would collide. And the seed stays."""
    recording: Recording[tuple[int, bytes]] = Recording(world.host("node"), (0, b""))

    async def recover(machine: SimMachine) -> Any:
        return await load_key(machine, "/etc/buck/node.key")

    def check(promise: tuple[int, bytes], found: Any) -> None:
        assert found.boots > promise[0], "a boot is counted twice"
        assert not promise[1] or found.seed == promise[1], "the identity is another"

    for _ in range(8):
        found = await recover(recording.host.process())
        recording.promise = found.boots, found.seed
    await enumerate_crashes(world, recording, Subject(recover, check, lambda found: found.seed), tally)


# --- the archive's folder -----------------------------------------------------------------------------------


async def archive_folder(world: World, tally: Tally) -> None:
    """Objects put into a folder: one that was put is there, and none is ever there in part."""
    recording: Recording[frozenset[str]] = Recording(world.host("archive"), frozenset())
    parts = {f"prod/date=2026-11-22/{hour:02}.p00.parquet": bytes([hour]) * (700 + 1_300 * hour) for hour in range(8)}

    async def recover(machine: SimMachine) -> dict[str, bytes]:
        with materialised(machine) as objects:
            return {one.name: objects.get(one.name) for one in objects.list()}

    def check(put: frozenset[str], found: dict[str, bytes]) -> None:
        assert put <= set(found), "an object that was put is gone"
        assert all(parts[name] == data for name, data in found.items()), "an object is there in part"

    with mirrored(recording.host.process()) as objects:
        for name, data in parts.items():
            objects.put_bytes(name, data)
            recording.promise = recording.promise | {name}
    await enumerate_crashes(world, recording, Subject(recover, check), tally)


# ------------------------------------------------------------------------------------------------------------

SCENARIOS: tuple[Scenario, ...] = (journal_and_checkpoint, bucket_files, pruning, seals, keys, archive_folder)


@pytest.fixture(scope="module")
def tallies() -> dict[str, Tally]:
    """What each scenario has come through so far; all scenarios run once a module."""
    return {}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.__name__)
def test_D23_every_crash_of(scenario: Scenario, tallies: dict[str, Tally]) -> None:
    mine = tallies[scenario.__name__] = Tally()
    simulate(1, scenario, mine)
    print(
        f"{scenario.__name__}: {mine.moments} moments, {mine.recoveries} recoveries, {len(mine.states)} distinct disks"
    )
    assert len(mine.states) > 20


def test_a_thousand_distinct_disks_were_recovered_from(tallies: dict[str, Tally]) -> None:
    if set(tallies) != {scenario.__name__ for scenario in SCENARIOS}:
        pytest.skip("counted over all scenarios, and not all of them ran and held")
    assert sum(len(tally.states) for tally in tallies.values()) >= STATES_MIN
