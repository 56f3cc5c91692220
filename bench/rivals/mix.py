"""Lines that are not all equally precious: the classes of a mix, as each system can be told of them."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A class. `replicas`: copies in the end. `sync`: on the device of each before the acknowledgement.

    Kafka: a topic with so many replicas, acks=all with min.insync.replicas 2 (1 where there is one), flush.messages=1
    for `sync`. Buck: a rule; three copies are two at once and the third when the window of time is over, or three at
    once for `sync`; with fewer, `resend = false`: no further copy and no mending."""

    name: str
    replicas: int
    sync: bool = False

    @property
    def rule(self) -> str:
        """What `[[classes]]` of a tailer's configuration says of it, without where it applies."""
        copies = 2 if self.replicas == 3 and not self.sync else self.replicas
        resend = "true" if self.replicas == 3 else "false"
        return f'copies = {copies}\nsync = "{"packet" if self.sync else "none"}"\nresend = {resend}\n'


CLASSES = Kind("debug", 1), Kind("pair", 2), Kind("normal", 3), Kind("audit", 3, sync=True)
DEBUG, PAIR, NORMAL, AUDIT = CLASSES
# What paced senders send, in turn, by the name that Settings.mix has.
MIXES: dict[str, tuple[Kind, ...]] = {
    "each": CLASSES,
    "normal": (NORMAL,),
    "audit": (AUDIT,),
    "unsynced": (DEBUG, PAIR, NORMAL),
    "day": (*[DEBUG] * 30, *[NORMAL] * 19, AUDIT),
}


def of(mix: str, sender: int) -> Kind:
    """The class of all that a paced sender sends."""
    kinds = MIXES[mix]
    return kinds[sender % len(kinds)]


def rules(where: dict[str, Kind]) -> str:
    """A tailer's configuration: for each pattern of paths the class of its lines."""
    return "\n".join(f'[[classes]]\npath = "{pattern}"\n{kind.rule}' for pattern, kind in where.items())
