"""C26: a store that refuses, is slow, cuts off, loses answers, or lies: tried again, verified, and never believed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from porter.objects import ObjectsError, S3Objects
from porter.verdict import COMPLETE
from protocol.errors import FormatError
from tests.porter.archiving import archive, copy, lines, names, spread, wrong
from tests.porter.failing_s3 import Proxy, before
from tests.porter.fleet import BUCKET, FakeBuck, FakeTailer, bucks_of, lines_of
from tests.porter.sealing import Chain
from tests.porter.tampering import audited
from tests.porter.test_objects import S3_OPTIONS, counter, s3_endpoint

__all__ = ["s3_endpoint"]  # a fixture

RAW = lines_of(0, 300)


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[Proxy]:
    with before(s3_endpoint) as made:
        yield made


@pytest.fixture
def objects(proxy: Proxy) -> S3Objects:
    """A bucket behind the proxy."""
    name = f"failing-{next(counter)}"
    store = S3Objects(name, "", {"endpoint_url": proxy.url, **S3_OPTIONS})
    store.client.create_bucket(Bucket=name)
    return store


def fleet() -> list[FakeBuck]:
    """A sealed file, in two buckets."""
    tailer, bucks = FakeTailer(), bucks_of(2)
    for at in range(0, len(RAW), 3000):
        tailer.read(b"/a", RAW[at : at + 3000], first=at, bucket=BUCKET + 300 * (at // 3000 % 2))
    spread(bucks, tailer)
    bucks[0].seals = [Chain(tailer).seal(tailer.packets, until=BUCKET + 7200, goodbye=True).data]
    return bucks


async def assert_whole(objects: S3Objects) -> None:
    """Everything once, and proved."""
    assert (await copy(objects, b"/a"))[0] == RAW
    assert await lines(objects) == sorted(RAW.splitlines(keepends=True))
    assert await wrong(objects) == []
    found = await audited(objects)
    assert (found.verdict.state, found.damage, found.troubles) == (COMPLETE, (), ())


@pytest.mark.parametrize("fault", ["refuse", "busy", "hang", "cut", "lose", "short", "etag", "stale"])
async def test_C26_one_failure_of_each_kind_of_request_is_sat_out(fault: str, proxy: Proxy, objects: S3Objects) -> None:
    """The first request of each kind (a list, a put, a head, a get) fails, and then all is well."""
    met: set[str] = set()

    def first(method: str, path: str) -> str | None:
        kind = "LIST" if "list-type" in path else method
        fresh = kind not in met
        met.add(kind)
        return fault if fresh else None

    proxy.faults = first
    (report,) = await archive(fleet(), objects)
    assert report.state == COMPLETE
    assert proxy.seen[fault] == len(met)
    assert names(objects) == ["22.p00.parquet", "22.v00.json"]
    await assert_whole(objects)


@pytest.mark.parametrize("seed", [1, 2])
async def test_C26_whatever_fails_the_archive_is_whole_once_a_run_ends_well(
    seed: int, proxy: Proxy, objects: S3Objects
) -> None:
    chance, bucks = random.Random(seed), fleet()
    kinds = ["refuse", "busy", "cut", "lose", "short", "etag"]
    proxy.faults = lambda method, path: chance.choice(kinds) if chance.random() < 0.4 else None
    states: list[str] = []
    for _ in range(20):
        with suppress(BaseExceptionGroup):
            (report,) = await archive(bucks, objects)
            states.append(report.state)
            break
        # too much at once: the job says so, ends with 1, and is run again
    assert states == [COMPLETE]
    proxy.faults = lambda method, path: None
    assert sum(proxy.seen.values()) >= 4
    await assert_whole(objects)


async def test_C26_a_store_that_changes_what_is_put_is_not_believed(proxy: Proxy, objects: S3Objects) -> None:
    proxy.faults = lambda method, path: "garble" if method == "PUT" and path.endswith(".parquet") else None
    lies = pytest.RaisesExc(FormatError, match="reads back other than it was put")
    with pytest.RaisesGroup(lies, flatten_subgroups=True):
        await archive(fleet(), objects)
    assert not [name for name in names(objects) if name.endswith(".json")], "nothing vouches for it"
    proxy.faults = lambda method, path: None
    changed = pytest.RaisesExc(FormatError, match=r"22\.p00\.parquet.*changed")
    with pytest.RaisesGroup(changed, flatten_subgroups=True):
        await archive(fleet(), objects)
    assert "22.p00.parquet" in (await audited(objects)).damage[0].name


async def test_C26_a_store_that_is_gone_is_one_clear_line(proxy: Proxy, objects: S3Objects, tmp_path: Path) -> None:
    proxy.faults = lambda method, path: "refuse"
    with pytest.raises(ObjectsError, match="check endpoint, bucket and credentials") as caught:
        objects.list()
    assert "\n" not in str(caught.value)
