"""Frames: however the bytes are cut, the frames are the same; and no length is believed."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import RemoteProtocolError
from protocol.frames import GATHER, HEAD, Frames, frame

BOUNDS = {1: 100, 2: 100_000, 3: 0}
payloads = st.one_of(
    st.tuples(st.just(1), st.binary(max_size=100)),
    st.tuples(st.just(2), st.integers(0, 20_000).map(lambda size: bytes([size % 251]) * size)),
    st.just((3, b"")),
)


def all_of(frames: Frames) -> list[tuple[int, bytes]]:
    found = []
    while received := frames.next():
        found.append((received.tag, bytes(received.payload)))
    return found


@given(st.lists(payloads, max_size=8), st.lists(st.integers(1, 9_000), max_size=40))
def test_however_the_bytes_are_cut_the_frames_are_the_same(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(b"".join(frame(tag, [payload])) for tag, payload in sent)
    frames, found = Frames(BOUNDS), []
    for size in cuts:
        frames.feed(data[:size])
        data = data[size:]
        found += all_of(frames)
    frames.feed(data)
    found += all_of(frames)
    assert found == sent
    assert frames.whole


def test_byte_by_byte_the_frames_are_the_same_and_memory_stays_small() -> None:
    payload = bytes(range(256)) * 300
    data = b"".join(frame(2, [payload]))
    frames = Frames(BOUNDS)
    tracemalloc.start()
    for at in range(len(data) - 1):
        frames.feed(data[at : at + 1])
        assert frames.next() is None
        assert not frames.whole
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    frames.feed(data[-1:])
    assert all_of(frames) == [(2, payload)]
    assert peak < 3 * len(data)


def test_a_huge_length_is_refused_before_its_body_arrives() -> None:
    for size, tag in ((101, 1), (2**32 - 1, 2), (1, 3)):
        frames = Frames(BOUNDS)
        frames.feed(HEAD.pack(size, tag))
        with pytest.raises(RemoteProtocolError, match="at most"):
            frames.next()


def test_an_unknown_tag_is_refused_before_its_body_arrives() -> None:
    frames = Frames(BOUNDS)
    frames.feed(HEAD.pack(5, 77))
    with pytest.raises(RemoteProtocolError, match="77"):
        frames.next()


def test_a_payload_within_one_piece_is_not_copied() -> None:
    data = b"".join(frame(2, [bytes(50_000)]))
    frames = Frames(BOUNDS)
    frames.feed(data)
    received = frames.next()
    assert received
    assert received.payload.obj is data


def test_a_frame_of_several_pieces_is_their_sum() -> None:
    packet = bytes(GATHER)
    buffers = frame(2, [b"head", packet])
    assert buffers[1] is packet
    frames = Frames(BOUNDS)
    frames.feed(b"".join(buffers))
    assert all_of(frames) == [(2, b"head" + packet)]


def test_bounds_may_change_between_two_frames() -> None:
    frames = Frames({1: 100})
    frames.feed(b"".join(frame(1, [b"a"]) + frame(2, [b"b"])))
    assert frames.next()
    frames.bounds = BOUNDS
    assert all_of(frames) == [(2, b"b")]
