"""A bucket file that a crash or a bad disk has been at: what is good is kept, and nothing wrong is ever read.

Scenarios D1 to D5, D9 and D10 for bucket files.
"""

import random

from hypothesis import given
from hypothesis import strategies as st

from buck.bucket import Part, read_packet
from buck.files import CLOSED, OPEN, PartName
from protocol.packet import MAGIC
from service.machine import RealMachine
from tests.buck.making import BUCKET, KEY, WIDTH, make

DATA = [make(n, bytes([65 + n]) * (20 + n)) for n in range(4)]
WHOLE = b"".join(DATA)
ENDS = [sum(map(len, DATA[: n + 1])) for n in range(len(DATA))]


def left(folder: str, content: bytes, state: str = OPEN) -> Part:
    """A part as a dead process has left it."""
    part = Part(RealMachine().disk, folder, PartName(BUCKET, 0, state))
    part.disk.mkdirs(part.folder)
    with open(part.path, "wb") as file:
        file.write(content)
    return part


def recovered(part: Part) -> tuple[list[bytes], int, int]:
    """(the packets that are read back, bytes cut, bytes skipped) of an open part taken over."""
    index, end, skipped = part.scan_index("prod")
    torn = part.reopen(index, end)
    part.check()
    assert part.file is not None
    places = sorted((p.offset, p.size) for group in index.groups.values() for p in group.places(group.ranges()))
    found = [bytes(read_packet(part.file, offset, size).data) for offset, size in places]
    assert part.file.size() == end
    part.release()
    return found, torn, skipped


def test_D1_a_tail_torn_at_any_byte_is_cut_and_no_packet_before_it_lost(tmp_path) -> None:
    for cut in range(len(WHOLE) + 1):
        found, torn, skipped = recovered(left(str(tmp_path), WHOLE[:cut]))
        whole = [one for one, end in zip(DATA, ENDS, strict=True) if end <= cut]
        assert found == whole
        assert (torn, skipped) == (cut - sum(map(len, whole)), 0)


def test_D2_a_tail_of_zeros_is_cut(tmp_path) -> None:
    for cut in (ENDS[2], ENDS[2] + 1, ENDS[3] - 1):
        found, torn, _ = recovered(left(str(tmp_path), WHOLE[:cut] + bytes(5000)))
        assert found == DATA[:3]
        assert torn == cut - ENDS[2] + 5000


@given(st.data())
def test_D3_a_garbage_tail_that_holds_a_magic_is_cut(tmp_path_factory, data) -> None:
    rng = random.Random(data.draw(st.integers(0, 999)))
    tail = rng.randbytes(rng.randrange(40)) + MAGIC + rng.randbytes(rng.randrange(300)) + DATA[0][: rng.randrange(99)]
    found, torn, _ = recovered(left(str(tmp_path_factory.mktemp("d3")), WHOLE + tail))
    assert found == DATA
    assert torn == len(tail)


def test_D4_a_packet_damaged_at_any_byte_costs_only_itself(tmp_path) -> None:
    for at in range(ENDS[0], ENDS[1]):
        spoilt = bytearray(WHOLE)
        spoilt[at] ^= 0x40
        found, torn, skipped = recovered(left(str(tmp_path), bytes(spoilt)))
        assert found == [DATA[0], DATA[2], DATA[3]]
        assert (torn, skipped) == (0, len(DATA[1]))


def test_D5_a_length_that_lies_is_not_believed(tmp_path) -> None:
    for field in (4, 8):
        for lie in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 4096):
            spoilt = bytearray(WHOLE)
            spoilt[ENDS[0] + field : ENDS[0] + field + 4] = lie.to_bytes(4, "big")
            found, _, _ = recovered(left(str(tmp_path), bytes(spoilt)))
            assert found == [DATA[0], DATA[2], DATA[3]]


def test_D9_an_older_piece_over_a_newer_one_costs_only_what_it_covers(tmp_path) -> None:
    old = make(0, b"older", epoch=3)
    spoilt = old + WHOLE[len(old) :]
    found, _, _ = recovered(left(str(tmp_path), spoilt))
    assert found == [old, *DATA[1:]]


def test_D10_a_packet_of_another_bucket_or_env_is_not_taken_for_ours(tmp_path) -> None:
    for foreign in (make(9, bucket=BUCKET + WIDTH), make(9, env="staging")):
        found, torn, skipped = recovered(left(str(tmp_path), DATA[0] + foreign + DATA[1]))
        assert found == DATA[:2]
        assert (torn, skipped) == (0, len(foreign))


def test_a_few_stray_bytes_between_packets_cost_no_packet(tmp_path) -> None:
    for stray in range(1, 20):
        found, torn, skipped = recovered(left(str(tmp_path), DATA[0] + b"\0" * stray + DATA[1]))
        assert found == DATA[:2]
        assert (torn, skipped) == (0, stray)


def test_damage_across_many_windows_of_the_search_is_passed_over(tmp_path) -> None:
    gap = random.Random(1).randbytes(3 << 20)
    for shift in range(4):  # the next magic across the edge of a window too
        pad = bytes((1 << 20) - shift - len(DATA[0]) % (1 << 20))
        found, _, skipped = recovered(left(str(tmp_path), DATA[0] + gap + pad + DATA[1]))
        assert found == DATA[:2]
        assert skipped == len(gap) + len(pad)


def test_a_closed_part_is_read_from_its_footer_and_from_its_packets_alike(tmp_path) -> None:
    part = left(str(tmp_path), WHOLE)
    index, end, _ = part.scan_index("prod")
    part.reopen(index, end)
    part.write_footer()
    part.rename(CLOSED)
    part.finish()
    again = Part(part.disk, str(tmp_path), PartName(BUCKET, 0, CLOSED))
    again.read_trailer()
    assert (again.packets, again.size, again.synced) == (4, len(WHOLE), len(WHOLE))
    group = again.read_index().groups[KEY.node, 7]
    assert list(group.numbers) == [0, 1, 2, 3]
    assert list(group.offsets) == [0, *ENDS[:-1]]
    rescanned, end, skipped = again.scan_index("prod")
    assert rescanned.groups[KEY.node, 7].offsets == group.offsets
    assert (end, skipped) == (len(WHOLE), 0)


def test_a_footer_that_is_not_good_is_made_anew_behind_the_old_one(tmp_path) -> None:
    part = left(str(tmp_path), WHOLE + b"what was a footer", CLOSED)
    index, skipped = part.rebuild("prod")
    assert list(index.groups[KEY.node, 7].numbers) == [0, 1, 2, 3]
    assert skipped == 0
    again = Part(part.disk, str(tmp_path), PartName(BUCKET, 0, CLOSED))
    again.read_trailer()
    assert again.size == len(WHOLE)
    assert list(again.read_index().groups[KEY.node, 7].offsets) == [0, *ENDS[:-1]]
    with open(again.path, "rb") as file:
        assert file.read().startswith(WHOLE + b"what was a footer")
