"""How safe a packet is: the five levels, whose names stand in acks, receipts, metrics and status.

    A0 journaled    in its tailer's journal, synced within a second
    A1 stored       written by two different bucks (fewer, if its class or the cluster has fewer): page cache
    A2 sealed       fsynced receipts of three different bucks, or of all members if these are fewer; stated by a seal
    A3 archived     in an object of the archive that was read back and verified
    A4 indexed      found by searches of the recent index

One buck's ack is a step towards a level, never all of it: `Ok` with A1 says "I have written it", with A2 "and fsynced
it"; the tailer counts them. In a receipt the numbers held count for A1, those fsynced for A2.
"""

from enum import IntEnum

__all__ = ["Level"]


class Level(IntEnum):
    """Ordered: who has a level has those below."""

    A0 = 0
    A1 = 1
    A2 = 2
    A3 = 3
    A4 = 4
