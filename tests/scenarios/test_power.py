"""Real file systems are cut off, of one buck and of all at once, with tailers alive: what was promised is there.

Each buck has a small ext4 of its own. FS_IOC_SHUTDOWN ends it as a power cut does: nothing that waits in the page cache
gets to the device, and with LOG_FLUSH what the file system has noted does, so that names survive and bytes don't. Then
the bucks are killed, what the devices have is mounted again, and the bucks started. Root alone can do that. Windows are
as wide as usual, so that nobody asks for an fsync but who waits for A2.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cluster import Cluster
from tests.scenarios.arena import Arena
from tests.scenarios.checker import copies
from tests.scenarios.netted import Following, copies_of, is_complete, page, parts, until
from tests.scenarios.test_disks import NO_LOG_FLUSH, SHUTDOWN

pytestmark = pytest.mark.slow

LOG_FLUSH = 1
LINES = 2000
SIZE = 64 << 20


def mount(image: Path, place: Path) -> bool:
    return not subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Three bucks, each disk a file system in an image beside it."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    cluster = Cluster(tmp_path_factory.mktemp("power"))
    places = [disk for i in range(3) for disk in cluster.disk_folders(i)]
    try:
        for place in places:
            place.mkdir(parents=True)
            with image_of(place).open("wb") as file:
                file.truncate(SIZE)
            subprocess.run(["mkfs.ext4", "-q", image_of(place)], check=True)
            if not mount(image_of(place), place):
                pytest.skip("a small file system can't be mounted here")
        for i in range(3):
            cluster.start(i)
        yield Arena(cluster)
    finally:
        cluster.close()
        for place in places:
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)


@pytest.fixture(scope="module")
def following(arena: Arena) -> Following:
    return Following(arena, name="following")


def image_of(place: Path) -> Path:
    return place.with_name("image")


def power_cut(arena: Arena, bucks: range, how: int) -> int:
    """The power of these bucks goes, and comes back. How many packets that they had are gone."""
    places = [disk for i in bucks for disk in arena.cluster.disk_folders(i)]
    before = packets_on(places)
    for place in places:
        folder = os.open(place, os.O_RDONLY)
        fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", how))
        os.close(folder)
    for i in bucks:
        arena.buck(i).kill()
    for place in places:
        subprocess.run(["umount", place], check=True)
        image = image_of(place)  # a copy of it: whoever still sees the old file system doesn't keep it alive
        shutil.copyfile(image, image.with_suffix(".new"))
        image.with_suffix(".new").rename(image)
        assert mount(image, place)
    after = packets_on(places)
    assert after <= before
    for i in bucks:
        arena.restart(i)
    return before - after


def packets_on(places: list[Path]) -> int:
    return copies([part] for place in places for part in parts(place)).total()


CUTS = {
    "C8: one": (range(1, 2), NO_LOG_FLUSH),
    "C9: all": (range(3), NO_LOG_FLUSH),
    "C10: all, names and lengths survive": (range(3), LOG_FLUSH),
}


@pytest.mark.parametrize("cut", CUTS)
def test_C8_C9_C10_after_a_power_cut_what_was_promised_is_there(arena: Arena, following: Following, cut: str) -> None:
    """One file is at A2, and its tailer has forgotten it; another is in page caches, and still in its journal."""
    promised, writer = arena.writer("promised"), arena.writer("tailer")  # the second as in FOLLOWED
    promised.write(LINES)
    arena.done(arena.feed(promised))
    followed = [one for one in arena.writers if one.path.match("*-tailer.log")]
    bucks, _ = CUTS[cut]
    while not all(page(arena.buck(i).http)["unsynced"] for i in bucks):  # each packet goes to two of three
        writer.write(LINES)
        until(lambda: following.placed(*followed), following.says)
    assert power_cut(arena, *CUTS[cut]) > 0, "everything was on the devices already"
    arena.check(*(one for one in arena.writers if one not in followed))
    writer.write(LINES)
    until(lambda: following.placed(*followed), following.says)


def test_after_all_that_every_packet_is_on_three_bucks_and_nothing_is_missed(
    arena: Arena, following: Following
) -> None:
    following.goodbye()
    found = copies_of(arena.cluster)
    assert found
    assert min(found) == 3, found
    arena.check(*arena.writers)
    is_complete(arena.cluster)
