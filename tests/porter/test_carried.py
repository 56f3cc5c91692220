"""Which seals an hour's next part carries, and when it is written for their sake alone."""

from porter.carried import carried
from porter.objects import MemoryObjects
from protocol.seal import Seal
from tests.porter.archiving import HOUR, archive, footers, names, spread, verdict
from tests.porter.fleet import BUCKET, WIDTH, FakeTailer, bucks_of, lines_of
from tests.porter.sealing import Chain
from tests.porter.tampering import audited

END = HOUR + 3600


def chain_of(*untils: int, packets: tuple[int, ...] = ()) -> list[Seal]:
    """Seals that end at these times; those whose numbers are among `packets` state one."""
    tailer = FakeTailer()
    chain = Chain(tailer)
    for at, until in enumerate(untils):
        tailer.read(b"/a", b"line %d\n" % at, first=100 * at)
        chain.seal(tailer.packets[-1:] if at in packets else [], until=until)
    return chain.seals


def read_in_pieces() -> FakeTailer:
    """A tailer that has read a file, in ten packets."""
    tailer, raw = FakeTailer(), lines_of(0, 300)
    for at in range(0, len(raw), 1 + len(raw) // 10):
        tailer.read(b"/a", raw[at : at + 1 + len(raw) // 10], first=at)
    return tailer


def data(seals: list[Seal], *numbers: int) -> list[bytes]:
    return [seals[number].data for number in numbers]


def test_what_speaks_of_the_window_is_carried_once() -> None:
    seals = chain_of(HOUR - 9000, HOUR + 300, HOUR + 600, END + 300, END + 600)
    assert carried(seals, (), (HOUR, END), False) == (data(seals, 1, 2, 3), False)
    assert carried(seals, data(seals, 1, 2), (HOUR, END), False) == (data(seals, 3), False)
    assert carried(seals, data(seals, 1, 2, 3), (HOUR, END), True) == ([], False)


def test_a_seal_of_packets_needs_a_part_and_one_that_says_the_hour_is_whole_where_there_is_one() -> None:
    seals = chain_of(HOUR + 300, HOUR + 600, END, packets=(0, 1))
    assert carried(seals, data(seals, 0), (HOUR, END), True) == (data(seals, 1, 2), True)
    assert carried(seals, data(seals, 0, 1), (HOUR, END), True) == (data(seals, 2), True)
    assert carried(seals, data(seals, 0, 1), (HOUR, END), False) == (data(seals, 2), False)


def test_a_hole_in_a_chain_needs_a_part() -> None:
    seals = chain_of(HOUR + 300, HOUR + 600, HOUR + 900)
    assert carried(seals, data(seals, 0, 2), (HOUR, END), True) == (data(seals, 1), True)
    assert carried(seals, data(seals, 0, 1), (HOUR, END), True) == (data(seals, 2), False)


def test_seals_that_go_back_in_time_are_carried_with_those_around_them() -> None:
    """A clock that was three days ahead for a while, and one that was as much behind."""
    ahead = chain_of(HOUR + 300, END + 3 * 86_400, HOUR + 900, HOUR + 1200, packets=(0, 3))
    assert carried(ahead, (), (HOUR, END), False) == (data(ahead, 0, 1, 2, 3), True)
    behind = chain_of(HOUR + 300, HOUR - 3 * 86_400, HOUR - 3 * 86_400 + 300, HOUR + 900, packets=(0, 3))
    assert carried(behind, (), (HOUR, END), False) == (data(behind, 0, 1, 2, 3), True)


def test_a_goodbye_needs_a_part() -> None:
    tailer = FakeTailer()
    chain = Chain(tailer)
    seals = [chain.seal([], until=END), chain.seal([], until=END, goodbye=True)]
    assert carried(seals, data(seals, 0), (HOUR, END), True) == (data(seals, 1), True)


async def test_seals_that_come_after_their_hours_part_get_a_part_without_rows_and_a_new_verdict() -> None:
    """A buck that has the second of three seals, and was away, brings it when nothing else is new."""
    bucks, objects = bucks_of(2), MemoryObjects()
    tailer = read_in_pieces()
    spread(bucks, tailer)
    chain = Chain(tailer)
    half = len(tailer.packets) // 2
    seals = [chain.seal(tailer.packets[:half]), chain.seal(tailer.packets[half:]), chain.seal([], until=HOUR + 7200)]
    for seal in (seals[0], seals[2]):
        bucks[0].seals.append(seal.data)
    await archive(bucks, objects)
    assert verdict(objects)["state"] == (await audited(objects)).verdict.state == "unknown"
    bucks[1].seals.append(seals[1].data)
    for _ in range(2):
        (report,) = await archive(bucks, objects)
        assert report.state == "complete"
    assert names(objects) == ["22.p00.parquet", "22.p01.parquet", "22.v00.json", "22.v01.json"]
    assert [len(footer.seals) for footer in footers(objects)] == [2, 1]
    proved = await audited(objects)
    assert proved.verdict.state == "complete"
    assert proved.verdict.accounts[0].packets == len(tailer.packets)
    assert not proved.damage


async def test_seals_that_come_when_bucks_have_let_go_of_their_packets_get_a_part_and_a_verdict_all_the_same() -> None:
    """First of the last packets, then that the hour is whole; and only once."""
    bucks, objects = bucks_of(2), MemoryObjects()
    tailer = read_in_pieces()
    spread(bucks, tailer)
    chain = Chain(tailer)
    half = len(tailer.packets) // 2
    bucks[0].seals = [chain.seal(tailer.packets[:half]).data]
    await archive(bucks, objects)
    for buck in bucks:
        buck.packets.clear()
    assert await archive(bucks, objects) == []
    bucks[1].seals = [chain.seal(tailer.packets[half:]).data]
    (report,) = await archive(bucks, objects)
    assert (report.state, report.packets) == ("unknown", 0)
    bucks[0].seals.append(chain.seal([], until=HOUR + 7200).data)
    (report,) = await archive(bucks, objects)
    assert report.state == verdict(objects)["state"] == (await audited(objects)).verdict.state == "complete"
    newcomer = FakeTailer("newcomer")  # whose first seal says nothing of what was before it
    newcomer.read(b"/b", b"line\n", bucket=HOUR + 7200)
    bucks[0].seals.append(Chain(newcomer).seal(newcomer.packets, until=HOUR + 7260).data)
    assert await archive(bucks, objects) == []


async def test_that_a_tailer_still_lives_is_worth_no_part() -> None:
    bucks, objects = bucks_of(2), MemoryObjects()
    tailer = read_in_pieces()
    spread(bucks, tailer)
    chain = Chain(tailer)
    bucks[0].seals.append(chain.seal(tailer.packets).data)
    await archive(bucks, objects)
    bucks[0].seals.append(chain.seal([], until=BUCKET + 2 * WIDTH).data)
    await archive(bucks, objects)
    assert len(footers(objects)) == 1
    bucks[0].seals.append(chain.seal([], until=HOUR + 3600).data)  # now the hour is whole
    await archive(bucks, objects)
    assert [len(footer.seals) for footer in footers(objects)] == [1, 2]
    assert (await audited(objects)).verdict.state == "complete"
