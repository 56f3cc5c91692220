"""Stopped bucks, and ways between processes that are cut, slow, or break in the middle of a frame.

One cluster of four bucks and a tailer that follows; each test is a round with a file of its own. What can go on goes
on while the ways are bad, as the tailer itself says; what can't waits in its journal and claims nothing; and in the end
every packet is on three bucks, every file comes back byte for byte, and the audit says *complete*.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.scenarios.arena import Arena
from tests.scenarios.netted import Following, Netted, copies_of, is_complete, until
from tests.scenarios.proxy import HOLE, Way
from tests.scenarios.writing import Writer

pytestmark = pytest.mark.slow

LINES, SPREAD_S = 1000, 600.0
# What is stopped, cut or slow never gets there in this time; whoever passes over it needs a second or two.
SOON_S = 15.0

Pairs = tuple[tuple[str, str], ...]


def pairs(text: str) -> Pairs:
    """`t-0 1-2`: the tailer and buck 0, bucks 1 and 2."""
    names = {"t": "tailer"} | {str(i): f"buck{i}" for i in range(4)}
    return tuple((names[a], names[b]) for a, b in (word.split("-") for word in text.split()))


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with Netted(tmp_path_factory.mktemp("partitions"), 4, width="10s") as cluster:
        yield Arena(cluster)


@pytest.fixture(scope="module")
def following(arena: Arena) -> Following:
    return Following(arena)


@pytest.fixture
def net(arena: Arena, following: Following) -> Iterator[Netted]:
    """Each test begins with free ways and a tailer that has a link to each buck."""
    assert isinstance(arena.cluster, Netted)
    until(lambda: following.value("members_linked") == 4, following.says)
    yield arena.cluster
    arena.cluster.net.heal()


def fed(arena: Arena) -> Writer:
    """A new file, written at once, of several windows and so in several packets."""
    writer = arena.writer("tailer", spread_s=SPREAD_S)  # as in FOLLOWED
    writer.write(LINES)
    return writer


def asked_in_vain(following: Following) -> int:
    """How often a buck was asked that didn't answer in time, whether there was another to be asked or not."""
    return following.count("passed_over") + following.count("unanswered")


def passed_over(arena: Arena, following: Following) -> Writer:
    """A new file that grows until something of it was asked of a buck that doesn't answer."""
    before, writer = asked_in_vain(following), arena.writer("tailer", spread_s=SPREAD_S)
    for _ in writer.pieces(20 * LINES, LINES):
        time.sleep(0.3)
        if asked_in_vain(following) > before:
            break
    until(lambda: asked_in_vain(following) > before, following.says)
    return writer


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_C4_a_stopped_buck_holds_up_nobody_and_its_late_answers_do_no_harm(
    arena: Arena, net: Netted, following: Following
) -> None:
    with stopped(arena.buck(0).pid):
        writer = passed_over(arena, following)
        until(lambda: following.placed(*arena.writers), following.says, SOON_S)
    arena.check(writer)


SHAPES = {
    "one is alone": ("t-0 0-1 0-2 0-3", True),
    "halves": ("t-2 t-3 0-2 0-3 1-2 1-3", True),
    "a bridge": ("t-2 t-3 0-2 0-3", True),
    "a ring": ("0-2 1-3", True),
    "one way": ("t-0 1-t 2-3", False),
    "a tailer and its pair": ("t-1 t-3", True),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_C16_whatever_is_cut_a_tailer_that_reaches_two_bucks_goes_on(
    arena: Arena, net: Netted, following: Following, shape: str
) -> None:
    text, both = SHAPES[shape]
    net.net.set(HOLE, *pairs(text), both=both)
    writer = fed(arena)
    until(lambda: following.placed(*arena.writers), following.says, SOON_S)
    net.net.heal()
    arena.check(writer)


def grown(following: Following, size: float, waiting: int) -> bool:
    return following.value("journal_bytes") > size and following.packets("A0") > waiting


def test_C17_with_one_buck_in_reach_nothing_is_claimed_and_the_journal_grows(
    arena: Arena, net: Netted, following: Following
) -> None:
    net.net.set(HOLE, *pairs("t-1 t-2 t-3"))
    before, writer = following.count("placed"), arena.writer("tailer")
    for _ in range(2):
        size, waiting = following.value("journal_bytes"), following.packets("A0")
        writer.write(LINES)
        until(partial(grown, following, size, waiting), following.says)
    unanswered = following.count("unanswered")
    until(lambda: following.count("unanswered") > unanswered, following.says)  # and time went by
    until(lambda: following.says()["health"] == "WARNING", following.says)
    now = following.says()
    assert now["counters"].get("placed", 0) == before, "one copy was called A1"
    assert any("1 of 4 bucks" in text for text in now["troubles"]), now["troubles"]
    net.net.heal()
    until(lambda: following.placed(*arena.writers), following.says)
    until(lambda: following.says()["health"] == "OK", following.says)
    arena.check(writer)


def test_C18_a_way_of_1_kB_a_second_and_one_of_2_s_hold_up_no_other(
    arena: Arena, net: Netted, following: Following
) -> None:
    net.net.set(Way(rate=1000), *pairs("t-0"))
    net.net.set(Way(delay_s=2.0), *pairs("t-1"))
    writer = fed(arena)
    until(lambda: following.placed(*arena.writers), following.says, SOON_S)
    net.net.heal()
    arena.check(writer)


def test_C18_resets_in_the_middle_of_a_frame_lose_and_repeat_nothing(
    arena: Arena, net: Netted, following: Following
) -> None:
    before = net.net.resets
    net.net.set(Way(reset_after=3_001), *pairs("0-t 1-t 2-t 3-t"), both=False)
    net.net.set(Way(reset_after=2_003), *pairs("t-0 t-1 t-2 t-3"), both=False)
    writer = fed(arena)
    until(lambda: net.net.resets > before + 8, lambda: (net.net.resets, following.says()))
    assert following.packets("A0"), "they are longer than what gets through"
    net.net.heal()
    until(lambda: following.placed(*arena.writers), following.says)
    arena.check(writer)


def test_C18_C4_who_went_without_a_word_leaves_half_open_links_that_do_no_harm(
    arena: Arena, net: Netted, following: Following
) -> None:
    """First a buck, and the tailer isn't told; then the tailer, and a stopped buck has its last words still to read."""
    net.net.set(HOLE, *pairs("t-2"))
    arena.buck(2).kill()
    writer = fed(arena)
    until(lambda: following.placed(*arena.writers), following.says, SOON_S)
    arena.restart(2)
    net.net.heal()
    until(lambda: following.value("members_linked") == 4, following.says)
    with stopped(arena.buck(3).pid):
        last = passed_over(arena, following)
        following.tailer.kill()
        following.start()
    until(lambda: not following.packets("A0"), following.says)
    arena.arrives(last)
    arena.check(writer, last)


def test_after_all_that_every_packet_is_on_three_bucks_and_nothing_is_missed(
    arena: Arena, net: Netted, following: Following
) -> None:
    following.goodbye()
    found = copies_of(arena.cluster)
    assert found
    assert min(found) >= 3, found
    arena.check(*arena.writers)
    is_complete(arena.cluster)
