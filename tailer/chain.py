"""The tailer's chain of seals, as the journal keeps it: its head, what is to be delivered, what to state next.

One chain goes over all epochs. The head stays until there is a newer one, because the next seal names its digest; the
others stay until enough bucks have them. `lost`, `given_up` and `unread` wait here for the next seal, over crashes too.

What is missing is filed by class, and by bucket where the packet was known. For the rest `reach` is the first bucket it
may be of: it came after the last seal, but a line may be a day old when it is read.

Of a lost epoch the seal says whether its files were found again; that is known after the first sweep, and only where
the journal still knows which files they were (`healable`). Pure.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from protocol.limits import LATE_S
from protocol.packet import Class
from protocol.ranges import Ranges
from protocol.seal import FIRST, Seal
from tailer.ledger import Entry, Ledger


class Place(NamedTuple):
    """Where numbers that are given up are filed; without a bucket they are known by their numbers only."""

    epoch: int
    bucket: int | None = None
    kind: Class = Class()
    late: bool = False


class Chain:
    """Seals by number. Invariant: `undelivered` are among `seals`, and so is the head."""

    def __init__(self) -> None:
        self.seals: dict[int, bytes] = {}
        self.undelivered: set[int] = set()
        self.lost: dict[int, int] = {}  # epochs that a crash ended, with their last known number
        self.given_up: dict[Place, Ranges] = {}  # numbers that can be had nowhere any more
        self.unread: Counter[Class] = Counter()  # bytes of files that went before they were read
        self.healable: set[int] = set()  # lost epochs whose open files the last checkpoint names
        self.missed = False  # some of these files were missed already by a run that has not sealed
        self.found_again: Callable[[], bool | None] = lambda: False  # were they all found? None: not known yet
        self._delivered: list[int] = []  # since the last note

    def restore(
        self,
        seals: dict[int, bytes],
        undelivered: Iterable[int],
        lost: dict[int, int],
        unread: Mapping[Class, int] | None = None,
    ) -> None:
        """As a former run left it."""
        head = max(seals, default=-1)
        wanted = {*undelivered, head}
        self.seals = {number: seals[number] for number in sorted(seals) if number in wanted}
        self.undelivered = set(undelivered) & set(seals)
        self.lost, self.unread, self.healable = dict(lost), Counter(unread), set(lost)

    @property
    def is_undecided(self) -> bool:
        """Will it be known soon whether the files of a lost epoch were found again?"""
        return bool(self.healable & set(self.lost)) and not self.missed and self.found_again() is None

    def is_read_again(self, epoch: int) -> bool:
        return epoch in self.healable and not self.missed and self.found_again() is True

    def lose(self, epoch: int, last: int, healable: bool) -> None:
        """A crash ended this epoch after that number."""
        self.lost[epoch] = last
        if healable:
            self.healable.add(epoch)

    def note_unread(self, size: int, kind: Class) -> None:
        self.unread[kind] += size

    @property
    def reach(self) -> int:
        """The first bucket that what is missing, and was written after the last seal, may be of."""
        if not self.seals:
            return 0
        last = Seal.read(self.seals[max(self.seals)])
        since = max(0, last.until - LATE_S)
        return since - since % last.width

    @property
    def until(self) -> int:
        """Everything before this second is stated by the last seal."""
        return Seal.read(self.seals[max(self.seals)]).until if self.seals else 0

    @property
    def head(self) -> tuple[int, bytes]:
        """The last seal's number (-1: there is none) and digest."""
        if not self.seals:
            return -1, FIRST
        number = max(self.seals)
        return number, Seal.read(self.seals[number]).digest

    def add(self, seal: Seal, ledger: Ledger) -> None:
        """A new seal of ours. What it states counts as stated at once."""
        self.seals = {number: data for number, data in self.seals.items() if number in self.undelivered}
        self.seals[seal.number] = seal.data
        self.undelivered.add(seal.number)
        for section in seal.sections:
            ledger.note_sealed(section.epoch, section.numbers | section.given_up)
            self.unread[section.kind] -= section.unread
            if section.lost_after is not None:
                self.lost.pop(section.epoch, None)
        self.given_up, self.unread = {}, +self.unread

    def adopt(self, seal: Seal) -> None:
        """The head, as bucks have it: we were behind."""
        self.seals[seal.number] = seal.data
        self._delivered.append(seal.number)

    def delivered(self, number: int) -> None:
        """Enough bucks have this seal on their devices."""
        if number in self.undelivered:
            self.undelivered.discard(number)
            self._delivered.append(number)
            if number != max(self.seals):
                del self.seals[number]

    def take_delivered(self) -> list[int]:
        """Those delivered since the last call, to be written down."""
        numbers, self._delivered = self._delivered, []
        return numbers

    def give_up(self, epoch: int, numbers: Ranges, entry: Entry | None = None) -> None:
        """These can be had nowhere; `entry` is what was known of the one packet."""
        place = Place(epoch) if entry is None else Place(epoch, entry.bucket, entry.kind, entry.late)
        self.given_up[place] = self.given_up.get(place, Ranges()) | numbers
