"""Real file systems under a real buck: frozen, shut down, made read-only, replaced. Needs root, for mounting."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol import messages as m
from protocol.ranges import Ranges
from tests.buck.making import KEY, OTHER, make
from tests.buck.test_node import BUCKET, Buck, running

pytestmark = pytest.mark.slow

PATIENCE_S = 20.0
SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN: as if the disk had gone; every operation is EIO from then on
NO_LOG_FLUSH = 2


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, mounted where the buck's second disk is."""
    image, place = tmp_path / "image", tmp_path / "d2"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    if os.getuid() != 0:
        pytest.skip("only root can mount a small file system")
    for command in (["mkfs.ext4", "-q", image], ["mount", "-o", "loop", image, place]):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a small file system can't be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=False, capture_output=True)


def disks(buck: Buck) -> dict[str, dict[str, Any]]:
    """What it says of them, by the last part of their names."""
    return {Path(one["path"]).name: one for one in json.loads(buck.page("/status")[1])["disks"]}


def until(buck: Buck, what: str, value: bool) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while (second := disks(buck)["d2"])[what] is not value:
        assert time.monotonic() < deadline, second
        time.sleep(0.05)
    return second


def put_all(buck: Buck, numbers: range) -> float:
    """Put these, all of them acknowledged; the longest that one took."""
    longest = 0.0
    for number in numbers:
        begin = time.monotonic()
        assert isinstance(buck.put(number), m.Ok)
        longest = max(longest, time.monotonic() - begin)
    return longest


def held(buck: Buck) -> Ranges:
    answer = buck.ask(lambda ask: m.Have(ask, KEY.node, 7, BUCKET, True))[0]
    assert answer.held == answer.synced
    found: Ranges = answer.held
    return found


@contextlib.contextmanager
def frozen(place: Path) -> Iterator[None]:
    subprocess.run(["fsfreeze", "--freeze", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", place], check=True)


def test_C33_a_frozen_disk_holds_up_one_packet_for_a_moment_and_the_others_not(tmp_path: Path, second: Path) -> None:
    with running(tmp_path) as buck:
        buck.connect()
        put_all(buck, range(10))
        with frozen(second):
            assert put_all(buck, range(10, 60)) < 4.0
            assert buck.page("/ruok") == (200, b"imok")
            assert disks(buck)["d2"]["hung"]
        until(buck, "hung", value=False)
        put_all(buck, range(60, 70))
        assert held(buck) == Ranges([(0, 70)])
        assert disks(buck)["d2"]["healthy"]
        assert buck.end()[0] == 0


def test_C11_a_disk_that_is_shut_down_is_left_and_named_and_a_start_does_without_it(
    tmp_path: Path, second: Path
) -> None:
    with running(tmp_path) as buck:
        buck.connect()
        put_all(buck, range(20))
        folder = os.open(second, os.O_RDONLY)
        fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(folder)
        put_all(buck, range(100, 140))
        assert "error" in until(buck, "healthy", value=False)["error"]
        assert held(buck).covers(100, 140), "a receipt claims what is on the disk that is well"
        said = json.loads(buck.page("/status")[1])
        assert said["health"] == "CRITICAL"
        assert "d2 has failed" in said["troubles"][0]
        buck.end()
    with running(tmp_path) as buck:
        assert not disks(buck)["d2"]["healthy"]
        buck.connect()
        assert held(buck).covers(100, 140)
    with running(tmp_path) as buck:
        buck.connect("porter", OTHER)
        assert buck.ask(lambda ask: m.List(ask, BUCKET))[0].unsure, "the other disk held some of it"


def test_C12_a_disk_that_can_only_be_read_is_left(tmp_path: Path, second: Path) -> None:
    with running(tmp_path) as buck:
        buck.connect()
        put_all(buck, range(5))
        buck.end()
    subprocess.run(["mount", "-o", "remount,ro", second], check=True)
    with running(tmp_path) as buck:
        assert "ead-only" in disks(buck)["d2"]["error"]
        buck.connect()
        put_all(buck, range(50, 60))
        assert held(buck).covers(50, 60)


def test_C13_a_disk_that_was_unmounted_is_not_written_below(tmp_path: Path, second: Path) -> None:
    with running(tmp_path) as buck:
        buck.connect()
        put_all(buck, range(10))
        subprocess.run(["umount", "-l", second], check=True)
        assert until(buck, "healthy", value=False)["error"]
        put_all(buck, range(10, 20))
        buck.end()
    assert list(second.iterdir()) == [], "nothing goes to the folder where it was mounted"


def test_C14_a_full_disk_is_passed_over_and_used_again_when_there_is_room(tmp_path: Path, second: Path) -> None:
    ballast = second / "ballast"
    with running(tmp_path) as buck:
        buck.connect()
        put_all(buck, range(6))
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        put_all(buck, range(6, 40))
        assert disks(buck)["d2"]["healthy"], "full is not broken"
        ballast.unlink()
        before = sum(path.stat().st_size for path in second.rglob("*.open"))
        deadline, number = time.monotonic() + PATIENCE_S, 40
        while sum(path.stat().st_size for path in second.rglob("*.open")) == before:
            assert time.monotonic() < deadline
            put_all(buck, range(number, number + 5))
            number += 5
            time.sleep(0.2)
        assert held(buck) == Ranges([(0, number)])
        keys = ((KEY.node, 7, Ranges([(0, number)])),)
        parts = buck.ask(lambda ask: m.Get(ask, BUCKET, keys))
        assert sorted(bytes(part.packet) for part in parts[:-1]) == sorted(
            make(n, bytes(2000), bucket=BUCKET) for n in range(number)
        )
