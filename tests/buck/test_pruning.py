"""Letting go of archived packets: what may go, what stays, and what is known of it afterwards."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buck.counts import Counts
from buck.errors import Declined, SpoiltError
from buck.pruning import Lying, Pruned, Pruner, unnamed
from buck.reading import buckets, covered, listing, streams
from buck.remnant import decode, encode
from buck.store import Store
from buck.volume import archived_until
from protocol import messages as m
from protocol.conversation import MAY_ASK
from protocol.errors import FormatError, StatementError, VersionError
from protocol.packet import Key, Packet
from protocol.ranges import Ranges
from protocol.seal import CONTENT_SIZE
from protocol.statement import Named, Statement
from service.faults import armed
from tests.buck.making import (
    BUCKET,
    KEY,
    NODE,
    OTHER,
    PORTER,
    STREAM,
    VERDICT,
    WIDTH,
    get,
    in_world,
    index_of,
    made,
    numbers,
    open_store,
    put_question,
    stating,
)
from tests.buck.test_session import asking, hello, with_a_buck
from tests.simulation.machine import World


async def let_go(store: Store, packets: Iterable[Packet], bucket: int = BUCKET) -> Pruned:
    return await Pruner(store, store.counts).prune(stating(packets, bucket))


def files(world: World, host: str = "a") -> list[str]:
    """The names of the bucket's files."""
    disk = world.machine(host).disk
    return sorted(name for day in disk.listdir("/d1/prod") if day.isdigit() for name in disk.listdir(f"/d1/prod/{day}"))


# --- the decision ---------------------------------------------------------------------------------------------------

lyings = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.sampled_from([b"", b"a" * 32, b"b" * 32])))


@given(
    lyings, st.dictionaries(st.tuples(st.integers(0, 2), st.integers(0, 5)), st.sampled_from([b"a" * 16, b"b" * 16]))
)
def test_a_part_may_go_only_if_each_packet_in_it_is_named_with_its_content(
    lies: list[tuple[int, int, bytes]], said: dict[tuple[int, int], bytes]
) -> None:
    named: dict[tuple[bytes, int], dict[int, bytes]] = {}
    for (epoch, number), content in said.items():
        named.setdefault((KEY.node, epoch), {})[number] = content
    left = unnamed([Lying(Key(KEY.node, epoch, number), content) for epoch, number, content in lies], named)
    assert [(one.key.epoch, one.key.number, one.content) for one in left] == [
        (epoch, number, content) for epoch, number, content in lies if content[:16] != said.get((epoch, number))
    ]


# --- a store --------------------------------------------------------------------------------------------------------


@in_world
async def test_what_is_named_goes_and_stays_known(world: World) -> None:
    store = await open_store(world.machine("a"))
    packets = [made(number, b"x" * 500) for number in range(6)]
    for packet in packets:
        await store.put(packet)
    before = await covered(store, KEY.node, [STREAM], []), await streams(store, BUCKET)
    assert archived_until(store.volumes) == 0
    done = await let_go(store, packets)
    assert (done.parts, done.packets, done.kept) == (1, 6, 0)
    assert [name.rpartition(".")[2] for name in files(world)] == ["archived"]
    for _ in range(2):
        store.check()
        found = await listing(store, BUCKET, b"", b"")
        assert (found.entries, found.unsure) == ([], False)
        assert found.archived == [(KEY.node, 7, Ranges([(0, 6)]))]
        assert (await listing(store, BUCKET, b"web1", b"/var/log/syslog")).archived == found.archived
        assert (await listing(store, BUCKET, b"web1", b"/var/log/other")).archived == []
        assert await get(store, Ranges([(0, 6)])) == []
        held = await store.receipt(KEY.node, 7, BUCKET, True)
        assert held.held == held.synced == Ranges([(0, 6)]), "what is archived needs no mending"
        assert (await covered(store, KEY.node, [STREAM], []), await streams(store, BUCKET)) == before
        (fact,) = buckets(store, 0, 1 << 32)
        assert (fact.packets, fact.bytes, fact.archived) == (0, 0, True)
        assert archived_until(store.volumes) == BUCKET + 1
        assert (await let_go(store, packets)).parts == 0, "a second time there is nothing to do"
        await store.close()
        store = await open_store(world.machine("a"))


@in_world
async def test_one_packet_that_is_not_named_keeps_its_file_and_no_other(world: World) -> None:
    store = await open_store(world.machine("a"))
    early, late = [made(number) for number in range(3)], [made(number) for number in range(3, 5)]
    for packet in early:
        await store.put(packet)
    await store.close_part(store.open_parts()[0])
    for packet in late:
        await store.put(packet)
    done = await let_go(store, [*early, late[0]])
    assert (done.parts, done.packets, done.kept) == (1, 3, 1)
    assert "1 packets of it are not in the archive" in done.reasons
    assert await get(store, Ranges([(0, 9)])) == [bytes(packet.data) for packet in late]
    assert await numbers(store) == Ranges([(0, 5)])
    done = await let_go(store, [*early, *late])
    assert (done.parts, done.packets, done.kept) == (1, 2, 0)
    assert (await listing(store, BUCKET, b"", b"")).archived == [(KEY.node, 7, Ranges([(0, 5)]))]


@in_world
async def test_a_packet_of_the_same_key_with_other_content_survives(world: World) -> None:
    store = await open_store(world.machine("a"))
    packet = made(1)
    await store.put(packet)
    statement = stating([packet])
    other = Named(*statement.named[0][:3], b"\x01" * CONTENT_SIZE)
    facts = statement.env, statement.width, statement.bucket, PORTER.public, 1, VERDICT, bytes(32)
    done = await Pruner(store, store.counts).prune(Statement(*facts, (other,)).signed(PORTER))
    assert (done.parts, done.kept) == (0, 1)
    assert store.counts.metrics.values()["conflicts"] == 1
    assert await get(store, Ranges([(1, 2)])) == [bytes(packet.data)]


@in_world
async def test_C24_what_is_sent_again_after_it_went_is_a_new_part_and_its_number_is_fresh(world: World) -> None:
    store = await open_store(world.machine("a"))
    packet = made(1)
    await store.put(packet)
    await let_go(store, [packet])
    await store.put(packet)
    await store.put(made(2))
    assert [name.split(".")[1:] for name in files(world)] == [["0", "archived"], ["1", "open"]]
    assert await get(store, Ranges([(0, 9)])) == [bytes(packet.data), bytes(made(2).data)]
    assert archived_until(store.volumes) == BUCKET, "some of that bucket is here again"
    done = await let_go(store, [packet, made(2)])
    assert (done.parts, done.packets) == (1, 2)


@in_world
async def test_another_env_or_width_is_refused(world: World) -> None:
    store = await open_store(world.machine("a"))
    for statement in (stating([made()], env="test"), stating([made()], BUCKET // 600 * 600, width=600)):
        with pytest.raises(Declined, match=r"env|width"):
            await Pruner(store, Counts()).prune(statement)


def crashing_at(point: str) -> None:
    async def scenario(world: World) -> None:
        machine = world.machine("a")
        store = await open_store(machine)
        packets = [made(number) for number in range(4)]
        for packet in packets:
            await store.put(packet)

        class Stopped(Exception):
            pass

        def stop() -> None:
            raise Stopped

        with pytest.raises(Stopped), armed(point, action=stop):
            await let_go(store, packets)
        machine.disk.kill()
        world.host("a").platter.locks.clear()
        store = await open_store(world.machine("a"))
        store.check()
        assert await numbers(store) == Ranges([(0, 4)]), "held, or archived: never unknown"
        went = point != "buck.pruning.before_remnant"
        assert [name.rpartition(".")[2] for name in files(world)] == (["archived"] if went else ["closed"])
        await let_go(store, packets)
        assert [name.rpartition(".")[2] for name in files(world)] == ["archived"]

    in_world(scenario)()


@pytest.mark.parametrize("point", ["buck.pruning.before_remnant", "buck.pruning.remnant", "buck.pruning.unlinked"])
def test_D26_killed_between_the_mark_and_the_unlink_it_is_finished_by_the_next_start(point: str) -> None:
    crashing_at(point)


@in_world
async def test_C24_a_reader_under_way_gets_what_it_opened_and_the_rest_is_said_to_be_missing(world: World) -> None:
    from buck.reading import Reading

    store = await open_store(world.machine("a"))
    packets = [made(number, b"z" * 2_000) for number in range(6)]
    for number in (0, 3):
        for packet in packets[number : number + 3]:
            await store.put(packet)
        await store.close_part(store.open_parts()[0])
    reading = Reading(store, BUCKET, [(KEY.node, 7, Ranges([(0, 6)]))])
    assert await reading.look()
    first = await reading.batch()
    assert len(first) == 3
    await let_go(store, packets)
    assert not await reading.look()
    assert await reading.missing() == [(KEY.node, 7, Ranges([(3, 6)]))]
    reading.close()
    assert all(volume.healthy for volume in store.volumes), "a file that went is no fault of its disk"


@with_a_buck()
async def test_A32_only_the_porter_whose_key_signed_it_can_state_what_is_archived(world: World) -> None:
    packet = made(1, b"x" * 200)
    async with asking(world) as tailer:
        assert isinstance(await tailer.ask(put_question(bytes(packet.data))), m.Ok)
    statement = stating([packet]).data
    question = m.Archived(0, statement)
    async with asking(world, hello(OTHER, "porter")) as stranger:
        answer = await stranger.ask(question)
        assert (type(answer), answer.reason) == (m.No, "role")
    async with asking(world, hello(PORTER, "porter")) as porter:
        for bad in (statement[:-1] + b"?", statement[:40], b"BUA1"):
            answer = await porter.ask(m.Archived(0, bad))
            assert (type(answer), answer.reason) == (m.No, "sum")
        listed = await porter.ask(m.List(0, BUCKET))
        assert [numbers for *_, numbers in listed.entries] == [Ranges([(1, 2)])]
        answer = await porter.ask(question)
        assert (answer.parts, answer.packets, answer.kept, answer.why) == (1, 1, 0, "")
        listed = await porter.ask(m.List(0, BUCKET))
        assert (listed.entries, listed.archived) == ((), ((KEY.node, 7, Ranges([(1, 2)])),))
    assert not any(m.Archived in MAY_ASK[role] for role in ("tailer", "buck", "archie"))


# --- what is signed, and what stays ---------------------------------------------------------------------------------


def test_a_statement_reads_back_and_no_other_is_taken() -> None:
    statement = stating([made(1), made(5), made(2, tailer=OTHER.node)])
    assert Statement.read(statement.data) == statement
    assert statement.count == 3
    for at in range(0, len(statement.data), 7):
        broken = bytearray(statement.data)
        broken[at] ^= 1
        with pytest.raises((StatementError, VersionError)):
            Statement.read(bytes(broken))
    with pytest.raises(StatementError):
        Statement("prod", WIDTH, BUCKET, NODE.public, 1, VERDICT, bytes(32), ()).signed(PORTER)
    twice = (statement.named[0], statement.named[0])
    with pytest.raises(StatementError, match="twice"):
        Statement("prod", WIDTH, BUCKET, PORTER.public, 1, VERDICT, bytes(32), twice).signed(PORTER)
    short = (statement.named[0]._replace(contents=b"x" * 15),)
    with pytest.raises(StatementError, match="15 bytes"):
        Statement("prod", WIDTH, BUCKET, PORTER.public, 1, VERDICT, bytes(32), short).signed(PORTER)


def test_what_stays_reads_back_and_damage_is_told() -> None:
    data = encode(index_of([bytes(made(number).data) for number in (0, 1, 4)]), stating([made(0)]))
    found = decode(data)
    (gone,) = found.groups.values()
    assert (found.verdict, gone.ranges()) == (VERDICT, Ranges([(0, 2), (4, 5)]))
    assert [note.intervals for note in gone.streams.values()] == [Ranges([(0, 20), (40, 50)])]
    for at in range(0, len(data), 11):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises((SpoiltError, FormatError)):
            decode(bytes(broken))
