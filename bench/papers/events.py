"""A small discrete-event simulator, and what of a fleet is simulated with it. Pure and seeded: no clock, no sockets.

Time is in seconds, from 0. Each model is one function that takes a `Random`, so that it can be run again, and held
against a formula or the product's own code where that is possible (tests/bench/test_fleet.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count
from random import Random
from typing import NamedTuple

LINKS_ALL_MAX, LINKS_CHOSEN = 16, 8  # as tailer/members.py has them; a test holds them to it


class Queue:
    """What is to happen, in order of time; of two at the same time, what was said first."""

    def __init__(self) -> None:
        self.now = 0.0
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, time: float, call: Callable[[], None]) -> None:
        """ValueError for a time that has passed."""
        if time < self.now:
            raise ValueError(f"{time} has passed: it is {self.now}")
        heapq.heappush(self._waiting, (time, next(self._numbers), call))

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self.at(self.now + seconds, call)

    def run(self, until: float = float("inf")) -> None:
        """Everything that is due by then, what is added meanwhile included."""
        while self._waiting and self._waiting[0][0] <= until:
            self.now, _, call = heapq.heappop(self._waiting)
            call()
        if until != float("inf"):
            self.now = until


# --- who talks to whom -----------------------------------------------------------------------------------------------


def links(random: Random, bucks: int, tailers: int) -> list[list[int]]:
    """Each tailer's bucks: all of them, or of many its eight, as a hash of two keys deals them."""
    if bucks <= LINKS_ALL_MAX:
        return [list(range(bucks))] * tailers
    return [random.sample(range(bucks), LINKS_CHOSEN) for _ in range(tailers)]


def counted(bucks: int, chosen: Sequence[Sequence[int]]) -> list[int]:
    """How often each buck is among these."""
    found = [0] * bucks
    for some in chosen:
        for buck in some:
            found[buck] += 1
    return found


def spread(random: Random, bucks: int, chosen: Sequence[Sequence[int]], packets: int) -> list[int]:
    """How many copies each buck is given: so many packets of each tailer, each to two of its bucks, drawn anew."""
    found = [0] * bucks
    for mine in chosen:
        pair, last = random.random, len(mine)
        for _ in range(packets):
            first = int(pair() * last)
            second = int(pair() * (last - 1))
            found[mine[first]] += 1
            found[mine[second + (second >= first)]] += 1
    return found


# --- gossip ----------------------------------------------------------------------------------------------------------


def news(random: Random, bucks: int, every: float = 1.0, trip: float = 0.001) -> float:
    """Seconds until all know what one buck begins to tell, where each exchanges all it knows with a random other one
    every second, at a phase of its own."""
    queue, knows = Queue(), [False] * bucks
    knows[0] = True
    known_at = [0.0]

    def exchange(mine: int) -> None:
        other = random.randrange(bucks - 1)
        other += other >= mine
        if knows[mine] != knows[other]:
            knows[mine] = knows[other] = True
            known_at.append(queue.now + trip)
        if len(known_at) < bucks:
            queue.after(every, lambda: exchange(mine))

    for buck in range(bucks):
        queue.at(random.uniform(0.0, every), lambda buck=buck: exchange(buck))  # type: ignore[misc]  # bound now
    queue.run()
    return known_at[-1]


# --- a window of time, and its end -----------------------------------------------------------------------------------


class Window(NamedTuple):
    """Puts that all bucks together, and the busiest of them, get in each second; copies of the dead buck's packets of
    this window that are made anew, by second."""

    all: list[int]
    busiest: list[int]
    again: list[int]


def window(
    random: Random, bucks: int, tailers: int, *, every: float, width: float, gather: float, sleep: float, dies: float
) -> Window:
    """Tailers send a packet each so often, to two of their bucks. One buck dies at `dies`. When the window has ended,
    each tailer waits until the last packet is gathered and a random while, then gives every packet of the window its
    third copy, and another in place of each that the dead buck had."""
    queue, dead = Queue(), 0
    seconds = int(width + gather + sleep) + 2
    puts = [[0] * bucks for _ in range(seconds)]
    again = [0] * seconds
    chosen = links(random, bucks, tailers)

    def send(mine: Sequence[int], sent: list[tuple[int, int]]) -> None:
        live = [buck for buck in mine if buck != dead or queue.now < dies]
        first, second = random.sample(live, 2)
        sent.append((first, second))
        row = puts[int(queue.now)]
        row[first] += 1
        row[second] += 1
        if queue.now + every < width:
            queue.after(every, lambda: send(mine, sent))

    def seal(mine: Sequence[int], sent: list[tuple[int, int]]) -> None:
        second = int(queue.now)
        for holders in sent:
            left = [buck for buck in mine if buck not in (*holders, dead)]
            wanted = 1 + (dead in holders)
            again[second] += wanted - 1
            for buck in random.sample(left, min(wanted, len(left))):
                puts[second][buck] += 1

    for mine in chosen:
        sent: list[tuple[int, int]] = []
        queue.at(random.uniform(0.0, every), lambda mine=mine, sent=sent: send(mine, sent))  # type: ignore[misc]  # bound now
        at = width + gather + random.uniform(0.0, sleep)
        queue.at(at, lambda mine=mine, sent=sent: seal(mine, sent))  # type: ignore[misc]  # bound now
    queue.run()
    return Window([sum(row) for row in puts], [max(row) for row in puts], again)


# --- death for ever --------------------------------------------------------------------------------------------------


def disasters(random: Random, bucks: int, copies: int, *, deaths: float, repair: float, years: float) -> int:
    """How often so many bucks are dead at the same time as could hold all copies of a packet.

    `deaths`: of each buck a year, at exponential times; `repair`: years that it takes until what one held has all its
    copies again, exponential too. After such a disaster all begin anew."""
    queue, found = Queue(), 0
    down: set[int] = set()
    turn = 0

    def begin() -> None:
        nonlocal turn
        turn += 1
        down.clear()
        for buck in range(bucks):
            queue.after(random.expovariate(deaths), lambda buck=buck, mine=turn: die(buck, mine))  # type: ignore[misc]  # bound now

    def die(buck: int, mine: int) -> None:
        nonlocal found
        if mine != turn:
            return
        down.add(buck)
        if len(down) == copies:
            found += 1
            begin()
        else:
            queue.after(random.expovariate(1 / repair), lambda: heal(buck, mine))

    def heal(buck: int, mine: int) -> None:
        if mine == turn:
            down.discard(buck)
            queue.after(random.expovariate(deaths), lambda: die(buck, mine))

    begin()
    queue.run(years)
    return found
