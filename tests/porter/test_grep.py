"""`grep`: every line that matches, once, wherever it lies; and how it looks."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from porter.bucks import Bucks
from porter.grep import Match, as_json, as_raw, as_text, grep, matches_of
from porter.progress import Progress
from porter.reader import Reader
from porter.shelf import block_of, spans_of
from porter.source import Piece
from protocol.limits import POINT_HZ
from protocol.messages import Get
from protocol.query import parse
from tests.porter.fleet import BUCKET, WIDTH, FakeBuck, FakeTailer, bucks_of, cluster_of, sample_logs, stream_of
from tests.porter.sealing import Chain

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def found_by(query: str, bucks: Sequence[FakeBuck], **more: object) -> list[Match]:
    """All matches, in the order in which they are written."""
    found: list[Match] = []

    def render(match: Match) -> bytes:
        found.append(match)
        return b""

    async def write(_: bytes) -> None: ...

    async with cluster_of(bucks, **more) as cluster:
        reader = Reader(Bucks(cluster, cluster.settings.memory), None)
        shown = Progress("grep", 0, lambda: 0.0, io.StringIO())
        assert await grep(reader, parse(query, BUCKET * 10**9), write, render, shown) == len(found)
        assert reader.shortfalls() == []
    return found


def lines(found: Sequence[Match]) -> list[bytes]:
    """What was found, without the ends of lines."""
    return [match.line.rstrip(b"\n") for match in found]


async def test_a_word_is_found_in_every_bucket_host_and_file_and_once_each() -> None:
    bucks, web, mail = bucks_of(2), FakeTailer("web1"), FakeTailer("mail")
    for number in range(3):
        text = b"error %d\nall is well\nerrors %d\n" % (number, number)
        web.read(b"/a", text, first=len(text) * number, bucket=BUCKET + WIDTH * number)
    mail.read(b"/b", b"an error here\n")
    for buck in bucks:
        buck.put([*web.packets, *mail.packets])
    found = await found_by("error", bucks)
    assert lines(found) == [b"an error here", b"error 0", b"error 1", b"error 2"]
    assert {match.host for match in found} == {b"web1", b"mail"}


async def test_fields_prune_and_the_predicate_has_the_last_word() -> None:
    bucks, web, mail = bucks_of(1), FakeTailer("web1"), FakeTailer("mail")
    web.read_many([(b"/var/log/a.log", b"x one\n", 0, None), (b"/var/log/b.txt", b"x two\n", 0, None)])
    mail.read(b"/var/log/a.log", b"x three\n")
    bucks[0].put([*web.packets, *mail.packets])
    assert lines(await found_by("x host:web1", bucks)) == [b"x one", b"x two"]
    assert lines(await found_by("x path:*.log", bucks)) == [b"x three", b"x one"]
    assert lines(await found_by("x path:/var/log/a.log host:web*", bucks)) == [b"x one"]
    assert lines(await found_by("x -two OR three", bucks)) == [b"x three", b"x one"]
    assert lines(await found_by("/t[wh]/", bucks)) == [b"x three", b"x two"]
    assert lines(await found_by("i:ONE", bucks)) == [b"x one"]


async def test_what_was_read_again_in_a_later_bucket_is_found_once() -> None:
    bucks, tailer = bucks_of(2), FakeTailer()
    raw = b"".join(b"error %d\n" % number for number in range(10))
    tailer.read(b"/a", raw[:63])
    tailer.epoch, tailer.number = 2, 0
    tailer.read(b"/a", raw[:45], bucket=BUCKET + WIDTH)
    tailer.read(b"/a", raw[45:], first=45, bucket=BUCKET + 2 * WIDTH)
    for packet in tailer.packets:
        bucks[packet.header.number % 2].put([packet])
    found = await found_by("error", bucks)
    assert sorted(lines(found)) == raw.splitlines()
    assert len({match.offset for match in found}) == 10


async def test_other_bytes_at_the_same_place_are_found_too() -> None:
    bucks, tailer = bucks_of(1), FakeTailer()
    tailer.read(b"/a", b"error 1\nerror 2\n")
    tailer.read(b"/a", b"error 1\nERROR 2\n", bucket=BUCKET + WIDTH)
    bucks[0].put(tailer.packets)
    assert lines(await found_by("i:error", bucks)) == [b"error 1", b"error 2", b"ERROR 2"]


async def test_a_range_of_time_fetches_its_buckets_and_beside_them_only_what_may_be_late() -> None:
    bucks, tailer = bucks_of(1), FakeTailer()
    for number in range(4):
        tailer.read(b"/a", b"error %d\n" % number, first=8 * number, bucket=BUCKET + WIDTH * number)
    old = b"2023-11-14 22:15:30 error old\n"  # in the first bucket's time, and filed days later
    late = tailer.read(b"/a", old, first=32, bucket=BUCKET + 3 * 86_400)
    assert late[0].header.late
    assert late[0].header.point_min // POINT_HZ // WIDTH * WIDTH == BUCKET
    bucks[0].put(tailer.packets)
    bucks[0].seals = [Chain(tailer).seal(tailer.packets, until=BUCKET + 4 * 86_400).data]
    at = "2023-11-14T22:15"
    assert lines(await found_by(f"error from:{at} to:{at}", bucks)) == [b"error 0", old.rstrip()]
    asked = [message for message in bucks[0].asked if isinstance(message, Get)]
    assert [get.bucket for get in asked] == [BUCKET, BUCKET + 3 * 86_400]


async def test_what_is_not_sealed_yet_is_looked_at_whatever_its_time() -> None:
    bucks, tailer = bucks_of(1), FakeTailer()
    tailer.read(b"/a", b"2023-11-14 22:15:30 error old\n", bucket=BUCKET + 3 * 86_400)
    bucks[0].put(tailer.packets)
    assert len(await found_by("error from:2023-11-14T22:15 to:2023-11-14T22:15", bucks)) == 1


async def test_an_empty_query_gives_every_line_of_real_logs_exactly(shared_data: Path) -> None:
    bucks, tailer = bucks_of(2), FakeTailer()
    logs = {bytes(path): path.read_bytes() for path in sample_logs(shared_data)}
    for number, (path, raw) in enumerate(logs.items()):
        tailer.read(path, raw, stream=stream_of(f"{number:>{number + 5}}"))
    for buck in bucks:
        buck.put(tailer.packets)
    found = await found_by("*", bucks, memory=3_000_000)
    for path, raw in logs.items():
        mine = sorted((match.offset, match.line) for match in found if match.path == path)
        assert b"".join(line for _, line in mine) == raw


@given(
    st.lists(st.text(alphabet="ab .:-_0", max_size=12), max_size=30), st.text(alphabet="ab 0", min_size=1, max_size=4)
)
def test_a_phrase_is_found_in_exactly_the_lines_that_have_it(texts: list[str], wanted: str) -> None:
    raw = b"".join(f"2023-11-14 22:15:{i:02} {text}\n".encode() for i, text in enumerate(texts))
    if not raw:
        return
    (packet,) = FakeTailer().read(b"/a", raw)
    block = block_of(packet)
    pieces, row = [], 0
    for span in spans_of(packet.header):
        pieces.append(Piece(span, block, row, row + span.count))
        row += span.count
    found = [match.line for match in matches_of(parse(f'"{wanted}"'), pieces)]
    left = r"(?<![a-z0-9_])" if wanted[0] != " " else ""
    right = r"(?![a-z0-9_])" if wanted[-1] != " " else ""
    pattern = re.compile((left + re.escape(wanted) + right).encode())
    assert found == [line for line in raw.splitlines(keepends=True) if pattern.search(line.rstrip(b"\n"))]


MATCH = Match(
    BUCKET * POINT_HZ + 123, b"web1", b"/a", b"t" * 16, b"\1" * 16, 7, b"bad \x1b[31m\xff\r\n", b"sshd", False
)


def test_a_terminal_is_not_given_what_would_move_its_cursor() -> None:
    assert as_text(MATCH, escape=True) == b"web1 /a: bad \\x1b[31m\\xff\n"
    assert as_text(MATCH, escape=False) == b"web1 /a: bad \x1b[31m\xff\n"
    assert as_text(MATCH._replace(line="Grüße\tda\n".encode()), escape=True) == "web1 /a: Grüße\tda\n".encode()


def test_raw_is_the_line_as_it_was_and_an_unfinished_one_gets_an_end() -> None:
    assert as_raw(MATCH) == b"bad \x1b[31m\xff\r\n"
    assert as_raw(MATCH._replace(line=b"half")) == b"half\n"


def test_json_has_all_that_is_known_and_the_exact_bytes_where_the_text_is_not_exact() -> None:
    document = json.loads(as_json(MATCH))
    assert document["time"] == "2023-11-14T22:15:00.00000123Z"
    assert document["line"] == "bad \x1b[31m�"
    assert document["raw"] == "YmFkIBtbMzFt/w0K"
    assert document["app"] == "sshd"
    assert "raw" not in json.loads(as_json(MATCH._replace(line=b"good\n")))


@pytest.mark.parametrize("query", ["*", "line -nothing", "from:2023-11-14"])
async def test_a_bucket_larger_than_what_may_wait_still_comes_in_order_of_time(
    query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("porter.grep.WRITTEN_AT", 4000)
    bucks = bucks_of(2)
    days = [datetime.fromtimestamp(BUCKET + second, UTC) for second in range(200)]
    expected: list[bytes] = []
    for number, name in enumerate(("web1", "web2", "mail")):
        tailer, at = FakeTailer(name), 0
        for first in (40, 80, 0, 120, 160):  # packets come in another order than their times, three at a time
            some = [f"{day:%Y-%m-%d %H:%M:%S} line of {number}\n".encode() for day in days[first : first + 40]]
            tailer.read(b"/a", b"".join(some), first=at)
            at += sum(map(len, some))
            expected += some
        for buck in bucks:
            buck.put(tailer.packets)
    pieces: list[bytes] = []

    async def write(data: bytes) -> None:
        pieces.append(data)

    async with cluster_of(bucks) as cluster:
        reader = Reader(Bucks(cluster, cluster.settings.memory), None)
        shown = Progress("grep", 0, lambda: 0.0, io.StringIO())
        count = await grep(reader, parse(query, BUCKET * 10**9), write, as_raw, shown)
    assert count == len(expected) == 600
    assert len(pieces) > 2  # it didn't wait for the end
    found = b"".join(pieces).splitlines(keepends=True)
    assert [line[:19] for line in found] == sorted(line[:19] for line in expected)
    assert sorted(found) == sorted(expected)
