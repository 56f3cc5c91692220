"""What happens when a disk fills. Pure.

Below the floor of 3 % free a disk takes no packets: the tailer gets `no(full)` and keeps them in its journal, which
pushes back to the source. Nothing is deleted to make room.
"""

from typing import NamedTuple

from service.machine import Space

# The rest is for footers, seals, and the file system's own work, which slows to a crawl on a full disk.
FLOOR = 0.03
# After "no space left" although there seemed to be some (quotas, reserved blocks), the disk is left alone for so long.
REST_S = 5.0


class Room(NamedTuple):
    """What is known of a disk's room: as last asked, and until when it rests after a refusal of its own."""

    space: Space
    rests_until: float = 0.0

    def full(self, now: float, floor: float = FLOOR) -> bool:
        """Is it to be spared?"""
        return now < self.rests_until or self.space.free < self.space.total * floor
