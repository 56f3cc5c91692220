"""What of a fleet is known exactly, or by a published bound: the simulator is held to it, and it goes on beyond."""

from __future__ import annotations

from math import comb, exp, expm1, log, sqrt

YEAR_H = 365.25 * 24


def fullest(balls: float, bins: int) -> float:
    """The load of the fullest of `bins`, each of so many balls thrown into any of them alike, where there are many more
    balls than bins: Raab and Steger, "Balls into Bins" (RANDOM 1998), theorem 1, the case m >> n log n."""
    mean = balls / bins
    return mean + sqrt(2 * mean * log(bins))


def fullest_share(bucks: int, tailers: int, packets: int, links: int) -> float:
    """The same over the mean, for copies dealt in two steps: so many links of each tailer, then two copies of each
    packet over its links. The variances of both steps add up."""
    copies = 2 * packets * tailers / bucks  # on each buck, in the mean
    of_draws = 1 / copies
    of_links = (1 - links / bucks) / (tailers * links / bucks)
    return 1 + sqrt(2 * log(bucks) * (of_draws + of_links))


def years_to_disaster(bucks: int, copies: int, deaths: float, repair: float) -> float:
    """Mean years until so many bucks are dead at once. A chain of births and deaths: with i dead, the next dies at the
    rate (bucks - i) x deaths, and one is repaired at i / repair, all a year (Gibson, "Redundant Disk Arrays", 1992, has
    the same chain for disks)."""
    total = step = 0.0
    for dead in range(copies):
        up = (bucks - dead) * deaths
        step = (1 + dead / repair * step) / up
        total += step
    return total


def within_a_year(years: float) -> float:
    """The chance that what comes after so many years in the mean comes within one."""
    return -expm1(-1 / years)


def share_lost(bucks: int, copies: int) -> float:
    """Of the packets, those whose copies, drawn at random, all lay on as many given bucks as there are copies."""
    return 1 / comb(bucks, copies)


def packet_lost(copies: int, deaths: float, hours: float) -> float:
    """The chance that a packet loses all its copies while it has to wait so long for the archive, nobody repairing."""
    return (1 - exp(-deaths * hours / YEAR_H)) ** copies


def repair_s(stored: float, bucks: int, rate: float) -> float:
    """Seconds until what one buck held has its copies again, where all the others fetch at this rate (bytes/s) each."""
    return stored / ((bucks - 1) * rate)
