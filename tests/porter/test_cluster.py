"""What a porter asks all bucks, where their answers come in pieces."""

import pytest

from tests.porter.fleet import BUCKET, WIDTH, FakeTailer, bucks_of, cluster_of


async def test_buckets_that_no_answer_holds_alone_are_all_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of one-second buckets, or a tailer that spreads its packets: the answer is cut, and asked on from there."""
    monkeypatch.setattr("porter.cluster.BUCKETS_MAX", 2)
    bucks = bucks_of(2)
    tailer = FakeTailer()
    for n in range(5):
        bucks[0].packets[BUCKET + n * WIDTH] = list(tailer.read(b"/a", b"line\n", bucket=BUCKET + n * WIDTH))
    bucks[1].packets[BUCKET + 9 * WIDTH] = bucks[0].packets[BUCKET]
    for buck in bucks:
        buck.buckets_max = 2
    async with cluster_of(bucks) as cluster:
        found = [one.bucket for one in await cluster.buckets()]
        assert found == [BUCKET + n * WIDTH for n in (0, 1, 2, 3, 4, 9)]
        each = await cluster.buckets_of_each()
        assert sorted(len(buckets) for buckets in each.values()) == [1, 5]
        assert [one.bucket for one in await cluster.buckets(BUCKET + WIDTH, BUCKET + 4 * WIDTH)] == found[1:4]
