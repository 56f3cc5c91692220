"""What a porter states before bucks may let go: only what it has just read back, packet by packet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from porter.catalog import parts
from porter.document import opened, signed
from porter.objects import MemoryObjects, digest
from porter.prune import Let, named_in, prune
from porter.signed import Signed
from protocol.identity import NodeKey
from protocol.packet import Key
from protocol.ranges import Ranges
from protocol.roster import Retirement
from tests.porter.archiving import HOUR, archive, footers, spread
from tests.porter.fleet import BUCKET, ENV, WIDTH, FakeBuck, FakeTailer, bucks_of, cluster_of, lines_of, node_key
from tests.porter.sealing import Chain
from tests.porter.tampering import rewrite

STRANGER, ADMIN = node_key("another porter"), node_key("admin")
NOTHING_MORE: tuple[Signed, tuple[bytes, ...]] = Signed(()), ()


def fleet(sealed: bool = True) -> tuple[list[FakeBuck], FakeTailer]:
    """Two bucks with a file in six packets of two buckets."""
    bucks, tailer = bucks_of(2), FakeTailer()
    for number in range(6):
        tailer.read(b"/a", lines_of(10 * number, 10), first=400 * number, bucket=BUCKET + WIDTH * (number % 2))
    spread(bucks, tailer)
    if sealed:
        seal = Chain(tailer).seal(tailer.packets, until=BUCKET + 7200, goodbye=True)
        for buck in bucks:
            buck.seals = [seal.data]
    return bucks, tailer


async def run(
    bucks: Sequence[FakeBuck], objects: MemoryObjects, keys: Iterable[bytes] = (), **more: bool
) -> tuple[list[Let], set[Key]]:
    """What became of each hour, and every key that was named to the first buck."""
    async with cluster_of(bucks, patience=10.0) as cluster:
        done = await prune(cluster, objects, 0, lambda count, text: None, keys, **more)
    named = [one for statement in bucks[0].stated for one in statement.named]
    return done, {Key(one.tailer, one.epoch, number) for one in named for number in one.numbers.numbers()}


async def test_every_archived_packet_is_named_with_its_content_to_every_buck() -> None:
    bucks, tailer = fleet()
    objects = MemoryObjects()
    await archive(bucks, objects)
    (let,), named = await run(bucks, objects)
    assert (let.hour, let.named, let.troubles) == (HOUR, 6, {})
    assert named == {packet.header.key for packet in tailer.packets}
    for buck in bucks:
        assert [statement.bucket for statement in buck.stated] == [BUCKET, BUCKET + WIDTH]
        for statement in buck.stated:
            ((_, contents),) = statement.contents().items()
            mine = [packet.header for packet in tailer.packets if packet.header.bucket == statement.bucket]
            wanted = {header.number: header.content[:16] for header in mine}
            assert dict(contents) == wanted
            assert (statement.verdict, statement.public) == (let.verdict, node_key("porter").public)


async def test_D26_what_no_seal_states_is_not_named_unless_its_tailer_is_retired() -> None:
    """Else a seal that comes late finds no packet on any buck, and says of nobody's packets whether they are all."""
    bucks, tailer = fleet(sealed=False)
    objects = MemoryObjects()
    await archive(bucks, objects)
    chain = Chain(tailer)
    bucks[1].seals = [chain.seal(tailer.packets[:4]).data]  # after the part was written, and on one buck
    (let,), named = await run(bucks, objects)
    assert named == {packet.header.key for packet in tailer.packets[:4]}
    assert (let.named, let.short) == (4, True)
    assert f"2 packets of tailer {tailer.key.node.hex()} are archived, and no seal" in next(iter(let.troubles))
    word = Retirement(ENV, tailer.key.node, "tailer", tailer.host, ADMIN.public, 1, 1, HOUR).signed(ADMIN)
    bucks[0].retired.append(word.data)
    (let,), named = await run(bucks, objects)
    assert (len(named), let.named, let.troubles) == (6, 6, {})


async def test_D26_what_its_tailer_has_renounced_is_named_once_it_is_archived() -> None:
    """Given up, or lost in a crash, and then on a disk that came back: no seal will ever state it."""
    bucks, tailer = fleet(sealed=False)
    objects = MemoryObjects()
    stated, late = tailer.packets[:2], tailer.packets[3]
    lost = {"lost_after": 3, "given_up": Ranges([(2, 3)])}  # 3 may still be stated; 4 and 5 are of after the crash
    seal = Chain(tailer).seal(stated, until=BUCKET + 7200, closing=True, goodbye=True, **lost)
    for buck in bucks:
        buck.seals = [seal.data]
    _, named = await run(bucks, objects)
    assert named == set(), "what is not archived is on bucks alone"
    await archive(bucks, objects)
    (let,), named = await run(bucks, objects)
    assert named == {packet.header.key for packet in tailer.packets} - {late.header.key}
    assert f"1 packets of tailer {tailer.key.node.hex()} are archived, and no seal" in next(iter(let.troubles))


async def test_nothing_is_named_before_there_is_a_verdict_and_nothing_in_a_dry_run() -> None:
    bucks, _ = fleet()
    objects = MemoryObjects()
    (let,), named = await run(bucks, objects)
    assert (let.named, named) == (0, set())
    assert "run `porter archive`" in next(iter(let.troubles))
    await archive(bucks, objects)
    verdict = next(name for name in objects.held if name.endswith(".json"))
    data = objects.held.pop(verdict)
    (let,), named = await run(bucks, objects)
    assert (let.named, named, let.short) == (0, set(), True)
    objects.held[verdict] = data
    (let,), named = await run(bucks, objects, dry_run=True)
    assert (let.named, let.packets, named, let.short) == (6, 12, set(), False)


async def test_nothing_is_named_of_an_object_that_is_not_what_its_verdict_says(tmp_path: Path) -> None:
    bucks, _ = fleet()
    objects = MemoryObjects()
    await archive(bucks, objects)
    (part,) = parts(objects, ENV)
    good = objects.held[str(part)]
    for bad in (good[:2000] + bytes([good[2000] ^ 1]) + good[2001:], good[:-1], b""):
        objects.held[str(part)] = bad
        (let,), named = await run(bucks, objects)
        assert (let.named, named, let.short) == (0, set(), True)
    objects.held[str(part)] = good
    rewrite(objects, part, tmp_path, table=lambda group, rows: rows.slice(1))
    (let,), named = await run(bucks, objects)
    assert (let.named, named) == (0, set())
    assert "not the object that" in next(iter(let.troubles))
    del objects.held[str(part)]
    (let,), named = await run(bucks, objects)
    assert (let.named, named) == (0, set())
    assert "it is not there" in next(iter(let.troubles))


def vouch(objects: MemoryObjects, key: NodeKey) -> None:
    """Verdicts over the parts as they are now, signed with this key."""
    for name in [name for name in objects.held if name.endswith(".json")]:
        said = {**opened(name, objects.held[name]).said}
        said["parts"] = [{**part, "digest": digest(objects, part["name"])} for part in said["parts"]]
        del said["porter"], said["signature"]
        objects.held[name] = signed(said, key)


async def test_a_strangers_verdict_is_believed_no_further_than_rows_prove_it(tmp_path: Path) -> None:
    """Who can write to the store may write a verdict over parts of his own making."""
    bucks, tailer = fleet()
    objects = MemoryObjects()
    await archive(bucks, objects)
    vouch(objects, STRANGER)
    (let,), named = await run(bucks, objects)
    assert (let.named, let.troubles) == (6, {}), "what it vouches for is proved from its rows"
    bucks[0].stated.clear()
    (part,) = parts(objects, ENV)
    rewrite(objects, part, tmp_path, table=lambda group, rows: rows.slice(1))
    vouch(objects, STRANGER)
    (let,), named = await run(bucks, objects)
    assert (let.named, named, let.short) == (0, set(), True)
    (let,), named = await run(bucks, objects, [STRANGER.public])
    assert len(named) == let.named == 6, "with its key named it is no stranger"
    assert named == {packet.header.key for packet in tailer.packets}


async def test_two_packets_of_one_key_are_not_named() -> None:
    bucks, tailer = fleet()
    twin = tailer.number_it_again(tailer.packets[2], content=bytes(32))
    objects = MemoryObjects()
    await archive(bucks, objects)
    (footer,) = footers(objects)
    assert {n for some in named_in([footer], *NOTHING_MORE).contents.values() for c in some.values() for n in c} == set(
        range(6)
    )
    batch = next(one for one in footer.packets if 2 in one.numbers)
    footer.packets.append(batch)
    named = {
        n
        for some in named_in([footer], *NOTHING_MORE).contents.values()
        for contents in some.values()
        for n in contents
    }
    assert named == set(range(6)) - set(batch.numbers.numbers())
    assert twin.header.key == tailer.packets[2].header.key


async def test_an_hour_is_left_until_the_archive_would_take_it_too() -> None:
    """Else every run between would end with 3, over buckets of an hour that isn't over for long enough."""
    bucks, _ = fleet()
    objects = MemoryObjects()
    await archive(bucks, objects)
    for time_s, quiet_s, wanted in (
        (HOUR + 3600 + 7199, 4000, 0),
        (HOUR + 3600 + 7200, 4000, 6),
        (HOUR + 3600 + 7200, 3500, 0),
    ):
        for buck in bucks:
            buck.time_s = time_s
            buck.arrivals = {bucket: time_s - quiet_s for bucket in buck.packets}
        async with cluster_of(bucks, patience=10.0) as cluster:
            done = await prune(cluster, objects, 7200, lambda count, text: None)
        assert sum(let.named for let in done) == wanted
