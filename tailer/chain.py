"""The tailer's chain of seals, as the journal keeps it: its head, what is to be delivered, what to state next.

One chain goes over all epochs. The head stays until there is a newer one, because the next seal names its digest; the
others stay until enough bucks have them. `lost` and `given_up` wait here for the next seal, over crashes too. Pure.
"""

from collections.abc import Iterable

from protocol.ranges import Ranges
from protocol.seal import FIRST, Seal
from tailer.ledger import Ledger


class Chain:
    """Seals by number. Invariant: `undelivered` are among `seals`, and so is the head."""

    def __init__(self) -> None:
        self.seals: dict[int, bytes] = {}
        self.undelivered: set[int] = set()
        self.lost: dict[int, int] = {}  # epochs that a crash ended, with their last known number
        self.given_up: dict[int, Ranges] = {}  # numbers that can be had nowhere any more
        self._delivered: list[int] = []  # since the last note

    def restore(self, seals: dict[int, bytes], undelivered: Iterable[int], lost: dict[int, int]) -> None:
        """As a former run left it."""
        head = max(seals, default=-1)
        wanted = {*undelivered, head}
        self.seals = {number: seals[number] for number in sorted(seals) if number in wanted}
        self.undelivered = set(undelivered) & set(seals)
        self.lost = dict(lost)

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
            self.given_up.pop(section.epoch, None)
            if section.lost_after is not None:
                self.lost.pop(section.epoch, None)

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

    def give_up(self, epoch: int, numbers: Ranges) -> None:
        self.given_up[epoch] = self.given_up.get(epoch, Ranges()) | numbers
