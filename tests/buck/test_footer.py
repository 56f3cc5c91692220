"""The footer reads back as it was written; nothing that isn't a footer passes for one."""

import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buck import footer
from buck.errors import SpoiltError
from buck.index import Index
from protocol.ranges import Ranges
from tests.buck.making import KEY, OTHER, index_of, make


def same(one: Index, two: Index) -> bool:
    """Equal in all that a footer keeps."""

    def facts(index: Index) -> list:
        return [
            (
                key,
                group.numbers,
                group.offsets,
                group.sizes,
                group.point_min,
                group.point_max,
                [(k, n.head, n.intervals, n.numbers) for k, n in sorted(group.streams.items())],
            )
            for key, group in sorted(index.groups.items())
        ]

    return facts(one) == facts(two)


@given(
    st.lists(
        st.builds(
            make,
            st.integers(0, 2**64 - 2),
            st.binary(max_size=9),
            tailer=st.sampled_from([KEY.node, OTHER.node]),
            epoch=st.integers(0, 2**64 - 1),
            path=st.binary(max_size=20),
            host=st.binary(max_size=20),
            stream=st.binary(min_size=16, max_size=16),
            offset=st.integers(0, 2**64 - 11),
        )
    )
)
def test_an_index_reads_back(data: list[bytes]) -> None:
    index = index_of(data)
    written = footer.encode(index, 12345, 67)
    trailer = footer.read_trailer(written[-footer.TRAILER_SIZE :], 12345 + len(written))
    assert (trailer.packets, trailer.packet_bytes) == (len(data), sum(map(len, data)))
    assert (trailer.data_size, trailer.last_arrival_ns) == (12345, 67)
    assert same(footer.decode_whole(written), index)


def test_the_trailer_is_as_long_as_the_documents_say() -> None:
    assert footer.TRAILER_SIZE == 88


def test_every_flipped_byte_is_noticed() -> None:
    written = footer.encode(index_of([make(n) for n in range(4)]), 999, 1)
    for at in range(len(written)):
        spoilt = bytearray(written)
        spoilt[at] ^= 0x10
        with pytest.raises(SpoiltError):
            footer.decode_whole(bytes(spoilt))


@given(st.binary(max_size=200))
def test_garbage_is_no_footer(data: bytes) -> None:
    with pytest.raises(SpoiltError):
        footer.read_trailer(data[-footer.TRAILER_SIZE :], len(data))


def test_a_body_that_lies_under_a_good_hash_is_refused() -> None:
    body = b"\xff\xff\xff\xff"
    trailer = footer.Trailer(len(body), 0, 0, 0, 0, hashlib.blake2b(body, digest_size=32).digest())
    with pytest.raises(SpoiltError):
        footer.decode(body, trailer)


def test_a_set_of_very_many_intervals_reads_back() -> None:
    data = [make(2 * n, offset=100 * n) for n in range(70_000)]
    index = index_of(data)
    found = footer.decode_whole(footer.encode(index, 1, 1)).groups[KEY.node, 7]
    assert len(found.ranges()) == 70_000
    assert next(iter(found.streams.values())).intervals == Ranges((100 * n, 100 * n + 10) for n in range(70_000))


def test_the_documents_draw_the_trailer_as_it_is() -> None:
    text = (Path(__file__).parents[2] / "docs/FILES.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| (u16|u32|u64|\d+) \|", text.split("| trailer |")[1].split("\n\n")[0], re.M)
    width = {"u16": 2, "u32": 4, "u64": 8}
    assert sum(width.get(row) or int(row) for row in rows) == footer.TRAILER_SIZE
