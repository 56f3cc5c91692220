"""Keys, node ids and stream ids. The values are written down: a change here changes what old files mean."""

import pytest
from blake3 import blake3

from protocol import identity
from protocol.errors import FormatError, SealError
from protocol.identity import NodeKey

KEY = NodeKey.from_seed(bytes(range(32)))


def test_a_seed_makes_always_the_same_node() -> None:
    assert KEY.public.hex() == "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"  # RFC 8032's curve
    assert KEY.node == blake3(KEY.public).digest()[:16] == identity.node_id(KEY.public)
    assert NodeKey.from_seed(KEY.seed) == KEY != NodeKey.from_seed(bytes(32))


def test_the_seed_stays_out_of_logs() -> None:
    assert KEY.seed.hex() not in repr(KEY)
    assert repr(KEY.seed) not in repr(KEY)
    assert KEY.node.hex() in repr(KEY)


def test_only_the_signed_bytes_fit_the_signature() -> None:
    signature = KEY.sign(b"what I wrote")
    identity.verify(KEY.public, b"what I wrote", signature)
    other = NodeKey.from_seed(bytes(32))
    for public, data, claimed in (
        (KEY.public, b"what I wrotf", signature),
        (KEY.public, b"what I wrote", signature[:-1] + bytes([signature[-1] ^ 1])),
        (KEY.public, b"what I wrote", signature[:-1]),
        (KEY.public, b"what I wrote", b""),
        (KEY.public[:-1], b"what I wrote", signature),
        (other.public, b"what I wrote", signature),
    ):
        with pytest.raises(SealError):
            identity.verify(public, data, claimed)


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33)])
def test_a_seed_of_another_length_is_refused(seed: bytes) -> None:
    with pytest.raises(FormatError):
        NodeKey.from_seed(seed)


def test_a_public_key_of_another_length_has_no_id() -> None:
    with pytest.raises(FormatError):
        identity.node_id(bytes(31))


def test_a_file_is_another_stream_when_anything_of_it_differs() -> None:
    ids = {
        identity.file_stream(*what)
        for what in ((1, 2, b"head", 0), (2, 1, b"head", 0), (1, 2, b"heaD", 0), (1, 2, b"head", 1), (1, 2, b"", 0))
    }
    ids.add(identity.connection_stream(1, 2))
    ids.add(identity.connection_stream(1, 2, kind=0))
    assert len(ids) == 7
    assert {len(stream) for stream in ids} == {16}
    assert identity.file_stream(1, 2, b"head", 0) == identity.file_stream(1, 2, b"head", 0)


def test_a_stream_id_says_its_kind() -> None:
    assert identity.file_stream(1, 2, b"", 0)[0] == identity.STREAM_BYTES
    assert identity.connection_stream(1, 2)[0] == identity.STREAM_BYTES
    assert identity.connection_stream(1, 2, kind=0)[0] == 0


def test_the_written_form_of_a_file_stream_never_changes() -> None:
    parts = [(7).to_bytes(8, "big"), (9).to_bytes(8, "big"), b"first line", (3).to_bytes(8, "big")]
    hashed = b"buck stream file" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert identity.file_stream(7, 9, b"first line", 3) == b"\x01" + blake3(hashed).digest()[:15]


def test_only_the_first_kib_of_a_head_counts() -> None:
    long = bytes(1024)
    assert identity.file_stream(1, 2, long + b"x", 0) == identity.file_stream(1, 2, long, 0)
    assert identity.head_hash(long + b"x") == identity.head_hash(long) == blake3(long).digest()[:8]
    assert identity.head_hash(long[:-1]) != identity.head_hash(long)


def test_an_epoch_is_the_boot_counter_and_four_random_bytes() -> None:
    assert identity.epoch(3, b"\x01\x02\x03\x04") == 0x3_0102_0304
    assert identity.epoch(2**32 - 1, b"\xff" * 4) == 2**64 - 1
    for counter, entropy in ((2**32, bytes(4)), (-1, bytes(4)), (1, bytes(3))):
        with pytest.raises(FormatError):
            identity.epoch(counter, entropy)
