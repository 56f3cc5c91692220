"""One suite of promises, held by every kind of object store: a folder, a dictionary, and S3 (moto's server)."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from porter.objects import (
    ExistsError,
    FolderObjects,
    Info,
    MemoryObjects,
    MissingError,
    Objects,
    ObjectsError,
    S3Objects,
    open_objects,
)


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


S3_OPTIONS = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
counter = iter(range(1_000_000))


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return FolderObjects(tmp_path / "archive")
    if request.param == "memory":
        return MemoryObjects()
    name = f"logs-{next(counter)}"
    s3 = S3Objects(name, "some/prefix", {"endpoint_url": request.getfixturevalue("s3_endpoint"), **S3_OPTIONS})
    s3.client.create_bucket(Bucket=name)
    return s3


@pytest.fixture
def source(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / f"source-{next(counter)}"
        path.write_bytes(data)
        return path

    return write


Source = Callable[[bytes], Path]


def test_what_was_put_is_read_back_whole_and_in_ranges(store: Objects, source: Source) -> None:
    data = bytes(range(256)) * 9_000
    store.put("prod/date=2026-01-02/03.p00.parquet", source(data))
    assert store.get("prod/date=2026-01-02/03.p00.parquet") == data
    with store.open("prod/date=2026-01-02/03.p00.parquet") as reader:
        reader.seek(-10, 2)
        assert reader.read() == data[-10:]
        reader.seek(1_000_000)
        assert reader.read(300) == data[1_000_000:1_000_300]


def test_a_name_is_given_once(store: Objects, source: Source) -> None:
    store.put("a/b", source(b"first"))
    with pytest.raises(ExistsError):
        store.put("a/b", source(b"second"))
    assert store.get("a/b") == b"first"


def test_the_same_bytes_put_again_are_a_success(store: Objects, source: Source) -> None:
    store.put("a/b", source(b"same"))
    store.put("a/b", source(b"same"))
    assert store.list() == [Info("a/b", 4)]


def test_a_list_is_sorted_and_by_prefix(store: Objects, source: Source) -> None:
    for name in ("prod/x/2", "prod/x/10", "prod/y", "staging/x/1"):
        store.put(name, source(name.encode()))
    assert [info.name for info in store.list("prod/x/")] == ["prod/x/10", "prod/x/2"]
    assert len(store.list()) == 4


def test_a_missing_object_is_missing(store: Objects) -> None:
    with pytest.raises(MissingError):
        store.get("nothing/here")
    with pytest.raises(MissingError):
        store.open("nothing/here")
    assert store.list("nothing/") == []


@pytest.mark.parametrize("name", ["", "/etc/passwd", "a//b", "../up", "a/../b", ".hidden", "a/.put-x", "nul\0"])
def test_A21_names_cannot_leave_the_root(store: Objects, source: Source, name: str) -> None:
    with pytest.raises(ObjectsError, match="not allowed"):
        store.put(name, source(b"x"))


def test_of_many_putting_the_same_name_at_once_one_wins(store: Objects, source: Source) -> None:
    results: list[bytes | None] = []

    def put(data: bytes) -> None:
        try:
            store.put("race", sources[data])
            results.append(data)
        except ExistsError:
            results.append(None)

    sources = {b"%d" % i: source(b"%d" % i) for i in range(6)}
    threads = [threading.Thread(target=put, args=(data,)) for data in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [data for data in results if data is not None]
    assert winners == [store.get("race")]
    assert len(results) == 6


def test_an_unfinished_put_to_a_folder_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / ".put-abc").write_bytes(b"half")
    assert FolderObjects(tmp_path).list() == []


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path, source: Source) -> None:
    (tmp_path / "file").write_bytes(b"not a folder")
    with pytest.raises(ObjectsError, match="writable"):
        FolderObjects(tmp_path / "file" / "archive").put("a", source(b"x"))


def test_C26_a_conflict_is_tried_again_and_a_lost_answer_is_recognised(
    s3_endpoint: str, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import ClientError

    s3 = S3Objects("conflicts", "", {"endpoint_url": s3_endpoint, **S3_OPTIONS})
    s3.client.create_bucket(Bucket="conflicts")
    real, calls = s3.client.put_object, []

    def flaky(**arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict"}}, "PutObject")
        real(**arguments)
        raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "PutObject")  # ours, but the answer was lost

    monkeypatch.setattr(s3.client, "put_object", flaky)
    s3.put("x", source(b"data"))
    assert s3.get("x") == b"data"
    assert len(calls) == 2


def test_a_bucket_that_is_not_there_is_a_clear_error(s3_endpoint: str, source: Source) -> None:
    s3 = S3Objects("never-made", "", {"endpoint_url": s3_endpoint, **S3_OPTIONS})
    with pytest.raises(ObjectsError, match="check endpoint, bucket and credentials"):
        s3.put("x", source(b"data"))


def test_urls_name_a_folder_or_a_bucket(tmp_path: Path) -> None:
    assert isinstance(open_objects(str(tmp_path)), FolderObjects)
    with pytest.raises(ObjectsError, match="names no bucket"):
        open_objects("s3:///prefix")
    with pytest.raises(ObjectsError, match="only folders and s3"):
        open_objects("ftp://host/x")
