"""The statement of content: the same for the same events, however they were fed, and another for others."""

from array import array
from itertools import pairwise

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from protocol.content import ContentHasher, content, rows_content
from protocol.errors import ColumnsError
from protocol.kernel import Rows
from protocol.packet import Run, StreamRef
from tests.protocol.packets_by_hand import Made, Row, make

A, B = b"\x01" * 16, b"\x02" * 16


def points(*values: int) -> memoryview:
    return memoryview(array("Q", values))


def test_the_bytes_that_are_hashed_are_those_of_the_docstring() -> None:
    hasher = ContentHasher(b"web1")
    hasher.raw(B, b"/var/log/b", 7, b"two\n")
    hasher.raw(A, b"/a", 0, b"one\n")
    hasher.points(A, b"/a", points(5))
    hasher.points(B, b"/var/log/b", points(0x0102030405060708))
    by_hand = bytes.fromhex("6275636b20636f6e74656e742031 00000002")
    by_hand += A + b"\0\x02/a" + b"\0\x04web1" + bytes.fromhex("00000001 0000000000000000 0000000000000004")
    by_hand += blake3(b"one\n").digest() + blake3(bytes.fromhex("0500000000000000")).digest()
    by_hand += B + b"\0\x0a/var/log/b" + b"\0\x04web1" + bytes.fromhex("00000001 0000000000000007 000000000000000b")
    by_hand += blake3(b"two\n").digest() + blake3(bytes.fromhex("0807060504030201")).digest()
    assert hasher.digest() == blake3(by_hand).digest()


@given(
    st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5), st.lists(st.integers(0, 2**64 - 1), max_size=6)
)
def test_it_is_the_same_however_the_bytes_are_cut(data: bytes, cuts: list[int], times: list[int]) -> None:
    whole, pieces = ContentHasher(b"h"), ContentHasher(b"h")
    whole.raw(A, b"/a", 100, data)
    whole.points(A, b"/a", points(*times))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        pieces.raw(A, b"/a", 100 + start, data[start:end])
    for time in times:
        pieces.points(A, b"/a", points(time))
    assert whole.digest() == pieces.digest()


def statement(
    host: bytes = b"h", path: bytes = b"/a", key: bytes = A, first: int = 0, data: bytes = b"x", at: int = 1
) -> bytes:
    hasher = ContentHasher(host)
    hasher.raw(key, path, first, data)
    hasher.points(key, path, points(at))
    return hasher.digest()


def test_another_host_path_stream_offset_byte_or_time_is_another_content() -> None:
    others = [
        statement(),
        statement(host=b"g"),
        statement(path=b"/b"),
        statement(key=B),
        statement(first=1),
        statement(data=b"y"),
        statement(at=2),
        statement(host=b"", path=b"h/a"),
        ContentHasher(b"h").digest(),
    ]
    assert len(set(others)) == len(others)


def test_an_empty_file_is_stated_without_an_interval() -> None:
    hasher = ContentHasher(b"h")
    hasher.raw(A, b"/empty", 0, b"")
    nothing = blake3(b"").digest()
    assert hasher.digest() == content([(A, b"/empty", b"h", [], nothing, nothing)])
    assert hasher.digest() != ContentHasher(b"h").digest()


def test_a_hole_between_two_runs_shows() -> None:
    hasher = ContentHasher(b"h")
    hasher.raw(A, b"/a", 0, b"one\n")
    hasher.raw(A, b"/a", 9, b"two\n")
    parts = (blake3(b"one\ntwo\n").digest(), blake3(b"").digest())
    assert hasher.digest() == content([(A, b"/a", b"h", [(0, 4), (9, 13)], *parts)])


def test_offsets_that_step_back_are_refused() -> None:
    hasher = ContentHasher(b"h")
    hasher.raw(A, b"/a", 0, b"one\n")
    with pytest.raises(ColumnsError, match="comes after"):
        hasher.raw(A, b"/a", 3, b"\ntwo\n")


@given(st.integers(0, 2**32))
def test_the_rows_of_a_packet_state_what_its_source_had(seed: int) -> None:
    made = make(seed)
    arguments = made.arguments()
    streams = [StreamRef(bytes([i]) * 16, b"/log/%d" % i, b"") for i in range(4)]
    hasher = ContentHasher(b"h")
    row = 0
    for stream, first, _end, count, _start in arguments["runs"]:
        mine = made.rows[row : row + count]
        hasher.raw(streams[stream].id, streams[stream].path, first, b"".join(r.raw(made) for r in mine))
        hasher.points(streams[stream].id, streams[stream].path, points(*(r.point for r in mine)))
        row += count
    runs = [Run(*run) for run in arguments["runs"]]
    assert rows_content(b"h", streams, runs, Rows.decode(**arguments)) == hasher.digest()


def test_a_run_of_a_stream_that_is_not_there_is_refused() -> None:
    arguments = Made([Row(b"x")], [(3, 1)]).arguments()
    rows = Rows.decode(**arguments)
    with pytest.raises(ColumnsError, match="stream 3"):
        rows_content(b"h", [], arguments["runs"], rows)
