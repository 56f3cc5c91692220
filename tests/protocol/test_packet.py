"""Packets read back as they were written, and nothing else reads at all."""

import struct
import sys
import tracemalloc
from dataclasses import replace

import msgpack
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from protocol import limits
from protocol.errors import PacketError, TornError, VersionError
from protocol.header import ARRAY_SIZE, Class, Header, Run, StreamRef
from protocol.packed import pack, unpack_array
from protocol.packet import LARGE, MAGIC, OVERHEAD, PREFIX_SIZE, Packer, build, peek, read, unpack
from tests.protocol.wire_samples import BODY, HEADER, anything, headers, packet

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DATA = packet()


def sealed(head: bytes, body: bytes = b"") -> bytes:
    """A packet with a right digest around any header: what a stolen key could send."""
    data = struct.pack(">4sII", MAGIC, len(head), len(body)) + head + body
    return data + blake3(data).digest()


def test_the_bytes_are_laid_out_as_documented() -> None:
    magic, head, body = struct.unpack_from(">4sII", DATA)
    assert magic == b"BUK1"
    assert len(DATA) == 12 + head + body + 32 == peek(DATA)
    assert DATA[-32:] == blake3(DATA[:-32]).digest()
    row = unpack_array(DATA[12 : 12 + head])
    assert len(row) == ARRAY_SIZE == 21
    assert row[:5] == (1, "prod", HEADER.bucket, 300, HEADER.tailer)
    assert row[8] == 0b1001  # copies 2 (less one), not synced, resent


@given(headers(), st.binary(max_size=300))
def test_a_packet_reads_back_as_it_was_written(header: Header, body: bytes) -> None:
    found = read(build(header, body))
    assert found.header == header
    assert bytes(found.body) == body
    assert found.header.key == (header.tailer, header.epoch, header.number)
    assert found.header.decodable
    assert found.digest == bytes(found.data[-32:])


def test_the_body_comes_out_as_it_went_in() -> None:
    assert unpack(read(DATA)) == BODY


def test_a_packer_is_used_again_and_again() -> None:
    packer = Packer()
    bodies = [(bytes([n]) * n * 100, bytes(n)) for n in range(1, 6)]
    for lines, small in [*bodies, (b"", b"")]:
        header = replace(HEADER, sizes=(len(lines), len(small), 0, 0, 0, 0, 0, 0))
        assert unpack(read(build(header, packer.compress(lines, small)))) == lines + small


def zstd_frames(body: memoryview) -> int:
    """How many frames a body has."""
    found = 0
    while body:
        decompressor = zstd.ZstdDecompressor()
        decompressor.decompress(body)
        found, body = found + 1, memoryview(decompressor.unused_data)
    return found


@pytest.mark.parametrize(("size", "frames"), [(0, 1), (LARGE - 1, 1), (LARGE, 2), (limits.PACKET_RAW_MAX, 2)])
@pytest.mark.parametrize("small", [b"", b"small columns"])
def test_many_lines_get_a_frame_of_their_own(size: int, frames: int, small: bytes) -> None:
    lines = (b"%d\n" * (size // 4 + 1) % tuple(range(size // 4 + 1)))[:size]
    found = read(build(replace(HEADER, sizes=(size, len(small), 0, 0, 0, 0, 0, 0)), Packer().compress(lines, small)))
    assert zstd_frames(found.body) == frames
    unpacked = unpack(found)
    assert (len(unpacked), blake3(unpacked).digest()) == (size + len(small), blake3(lines + small).digest())


@pytest.mark.parametrize(
    "body",
    [
        b"", zstd.compress(b"four")[:-1], zstd.compress(b"four") * 2, zstd.compress(b"12") + zstd.compress(b"345"),
        zstd.compress(b"fours"), zstd.compress(b"fou"), zstd.compress(b"four") + b"x",
        zstd.compress(b"12") + zstd.compress(b"34")[:-1], zstd.compress(b"1") * 3 + zstd.compress(b"1"),
        zstd.compress(b"four") + zstd.compress(b"") + zstd.compress(b""), zstd.compress(bytes(1 << 24)),
    ],
)  # fmt: skip
def test_a_body_holds_what_its_header_says_and_not_a_byte_more(body: bytes) -> None:
    header = replace(HEADER, sizes=(3, 1, 0, 0, 0, 0, 0, 0))
    assert unpack(read(build(header, zstd.compress(b"12") + zstd.compress(b"34")))) == b"1234"
    with pytest.raises(PacketError):
        unpack(read(build(header, body)))


def test_every_single_flipped_bit_is_caught() -> None:
    for at in range(len(DATA) * 8):
        damaged = bytearray(DATA)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises((PacketError, VersionError)):
            read(bytes(damaged))


def test_every_cut_is_called_torn() -> None:
    for size in range(len(DATA)):
        with pytest.raises(TornError):
            read(DATA[:size])


def test_bytes_after_a_packet_are_refused_and_not_called_torn() -> None:
    with pytest.raises(PacketError) as caught:
        read(DATA + b"x")
    assert not isinstance(caught.value, TornError)


def test_a_packet_is_found_in_the_middle_of_a_buffer() -> None:
    buffer = memoryview(b"xyz" + DATA + b"tail")
    size = peek(buffer, 3)
    assert size == len(DATA)
    assert read(buffer[3 : 3 + size]).header == HEADER


def test_a_huge_length_is_refused_before_its_bytes_are_awaited() -> None:
    for head, body in ((limits.HEADER_MAX + 1, 0), (0, limits.PACKET_BODY_MAX + 1), (2**32 - 1, 2**32 - 1)):
        with pytest.raises(PacketError) as caught:
            peek(struct.pack(">4sII", MAGIC, head, body))
        assert not isinstance(caught.value, TornError)


def test_another_magic_is_no_packet_and_a_later_one_is_a_later_version() -> None:
    with pytest.raises(PacketError):
        peek(b"PAR1" + bytes(8))
    with pytest.raises(VersionError):
        peek(b"BUK2" + bytes(8))


def test_without_verifying_the_digest_is_taken_on_trust() -> None:
    damaged = DATA[:-1] + bytes([DATA[-1] ^ 1])
    assert read(damaged, verify=False).header == HEADER


def test_the_header_of_one_stream_is_short() -> None:
    assert len(replace(HEADER, shn=(), app=(), formats=()).encode()) <= 220


def test_a_body_of_a_later_version_is_stored_and_left_to_those_who_know_it() -> None:
    row = [*unpack_array(HEADER.encode())]
    later = sealed(pack([7, *row[1:16], "whatever", 5, None]), b"not even zstd")
    found = read(later)
    assert not found.header.decodable
    assert found.header == replace(HEADER, version=7, sizes=(0,) * 8)
    with pytest.raises(VersionError):
        unpack(found)
    with pytest.raises(PacketError):
        build(found.header, b"")


@pytest.mark.parametrize("more", [{"k": 1}, msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 2), 1.5, [[]] * 3])
def test_behind_the_envelope_a_later_version_may_have_what_we_never_write(more: object) -> None:
    row = [*unpack_array(HEADER.encode())]
    found = read(sealed(msgpack.packb([7, *row[1:16], more]), b"not even zstd"))
    assert found.header == replace(HEADER, version=7, sizes=(0,) * 8, formats=(), shn=(), app=())
    with pytest.raises(PacketError):
        read(sealed(msgpack.packb([1, *row[1:16], more]), b"x"))
    with pytest.raises(PacketError):
        read(sealed(msgpack.packb([7, *row[1:15], more, more]), b"x"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"env": ""}, {"env": "e" * 65}, {"host": bytes(256)}, {"tailer": bytes(15)}, {"content": bytes(31)},
        {"bucket": HEADER.bucket + 1}, {"bucket": 2**32 + 44}, {"width": 0}, {"width": 86_401}, {"epoch": -1},
        {"number": 2**64}, {"count": 399}, {"count": limits.PACKET_EVENTS_MAX + 1}, {"kind": Class(4)},
        {"point_min": HEADER.point_max + 1}, {"point_max": HEADER.point_min + 300 * limits.POINT_HZ},
        {"point_min": HEADER.bucket * limits.POINT_HZ - 1}, {"runs": ()}, {"streams": ()},
        {"streams": HEADER.streams * 2}, {"streams": (StreamRef(bytes(15), b"", bytes(8)),)},
        {"streams": (StreamRef(bytes(16), bytes(4097), bytes(8)),)}, {"streams": (StreamRef(bytes(16), b"", b""),)},
        {"runs": (Run(1, 0, 400, 400, 0),)}, {"runs": (Run(0, 0, 399, 400, 0),)}, {"runs": (Run(0, 9, 8, 0, 0),)},
        {"runs": (Run(0, 0, limits.PACKET_RAW_MAX + 1, 400, 0),)}, {"runs": (Run(0, 2**64 - 9, 2**64, 400, 0),)},
        {"point_max": 2**63, "late": True},
        {"runs": (Run(0, 0, 400, 400, 2**63),)}, {"runs": (Run(0, 0, 400, 400, -1),)},
        {"runs": (*HEADER.runs, *[Run(0, 0, 0, 0, 0)] * limits.PACKET_RUNS_MAX)},
        {"sizes": (1,) * 7}, {"sizes": (-1, 1, 0, 0, 0, 0, 0, 0)},
        {"sizes": (limits.PACKET_BODY_MAX, 1, 0, 0, 0, 0, 0, 0)},
    ],
)  # fmt: skip
def test_a_header_that_contradicts_itself_is_neither_written_nor_read(wrong: dict[str, object]) -> None:
    header = replace(HEADER, **wrong)
    with pytest.raises(PacketError):
        build(header, b"")
    if header.kind.copies > 3:
        return  # has no code at all
    low = header.point_min
    runs = [(stream, first, end - first, count, start - low) for stream, first, end, count, start in header.runs]
    facts = (header.version, header.env, header.bucket, header.width, header.tailer, header.host, header.epoch)
    more = (header.kind.code(), header.count, low, header.point_max - low, header.late, header.streams, runs)
    try:
        data = pack((*facts, header.number, *more, header.content, (), (), (), header.sizes, ()))
    except OverflowError:
        return  # msgpack itself has no such number
    with pytest.raises(PacketError):
        read(sealed(data))


def test_no_header_is_longer_than_allowed() -> None:
    many = tuple(StreamRef(n.to_bytes(16, "big"), bytes(600), bytes(8)) for n in range(1_000))
    with pytest.raises(PacketError, match="header of"):
        replace(HEADER, streams=many).encode()


def test_a_body_too_large_is_not_built() -> None:
    with pytest.raises(PacketError):
        build(HEADER, bytes(limits.PACKET_BODY_MAX))


@given(st.integers(0, ARRAY_SIZE - 1), anything)
def test_a_header_with_any_member_replaced_reads_or_is_a_packet_error(at: int, value: object) -> None:
    row = [*unpack_array(HEADER.encode())]
    row[at] = value
    try:
        found = read(sealed(pack(row)))
    except PacketError:
        return
    if found.header.decodable:
        assert unpack_array(found.header.encode()) == unpack_array(pack(row)), "what reads is what was written"


@given(st.binary(max_size=200))
def test_garbage_in_a_sound_envelope_is_a_packet_error(garbage: bytes) -> None:
    with pytest.raises(PacketError):
        read(sealed(garbage))


def bad_bodies() -> list[tuple[str, bytes]]:
    good = Packer().compress(BODY[:6_400], BODY[6_400:])
    bomb = Packer().compress(bytes(50_000_000), b"")
    return [
        ("empty", b""), ("garbage", b"not zstd at all"), ("cut", good[:-3]), ("a byte more", good + b"x"),
        ("two frames", good + good), ("too long", Packer().compress(BODY, b"x")),
        ("too short", Packer().compress(BODY[1:], b"")),
        ("bomb", bomb), ("a window of 128 MiB", bytes.fromhex("28b52ffd0088010000")),
        ("a false size", bytes.fromhex("28b52ffde0ffffffffffffff7f")),
    ]  # fmt: skip


@pytest.mark.parametrize(("what", "body"), bad_bodies(), ids=[what for what, _ in bad_bodies()])
def test_a_body_that_is_not_exactly_what_the_header_says_is_refused(what: str, body: bytes) -> None:
    with pytest.raises(PacketError):
        unpack(read(build(HEADER, body)))


def test_A15_a_body_that_unpacks_to_too_much_costs_no_memory() -> None:
    bomb = read(build(HEADER, Packer().compress(bytes(200_000_000), b"")))
    assert len(bomb.data) < 50_000
    tracemalloc.start()
    try:
        with pytest.raises(PacketError):
            unpack(bomb)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < sum(HEADER.sizes) + 1_000_000


@pytest.mark.parametrize("code", [-1, 3, 7, 16, True, None, "9", 9.0])
def test_only_codes_of_classes_are_classes(code: object) -> None:
    with pytest.raises(PacketError):
        Class.from_code(code)


def test_a_class_is_its_code() -> None:
    kinds = [Class(copies, sync, resend) for copies in (1, 2, 3) for sync in (False, True) for resend in (False, True)]
    assert [Class.from_code(kind.code()) for kind in kinds] == kinds
    assert Class().code() == 9


def test_a_packet_without_events_says_that_an_empty_file_is_there() -> None:
    empty = replace(HEADER, count=0, point_min=0, point_max=0, runs=(Run(0, 0, 0, 0, 0),), sizes=(0,) * 8)
    found = read(packet(empty, b""))
    assert found.header.raw == 0
    assert unpack(found) == b""
    assert OVERHEAD == PREFIX_SIZE + 32
