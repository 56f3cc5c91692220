"""Asking all members the same: what they hold of this tailer, how far its streams are covered, and the seals.

Each is asked until it has answered or patience ends, over its link or a short one; members learnt meanwhile are asked
too. What was heard is put into one Account. All of it is a lower bound while somebody is silent or unsure.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from protocol.errors import FormatError, ProtocolError, RemoteProtocolError
from protocol.limits import COVERED_STREAMS_MAX
from protocol.link import Asker
from protocol.messages import Covered, Intervals, Seals, SealsAre
from protocol.ranges import Ranges
from protocol.seal import Seal
from service.log import get_log
from tailer.members import Buck, Members

RETRY_S = 1.0
ANSWER_S = 30.0

log = get_log("tailer.recover")


@dataclass
class Account:
    """What the members said about this tailer."""

    known: set[int] = field(default_factory=set)  # the epochs that the journal knew before
    held: dict[bytes, dict[int, Ranges]] = field(default_factory=dict)  # node -> epoch -> numbers
    streams: dict[bytes, Ranges] = field(default_factory=dict)
    names: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)  # stream -> path, hash of its head
    sealed: dict[int, Ranges] = field(default_factory=dict)
    stated_lost: set[int] = field(default_factory=set)  # epochs that a seal calls lost after some number
    head: Seal | None = None
    answered: set[bytes] = field(default_factory=set)
    unsure: bool = False

    def epoch(self, epoch: int) -> Ranges:
        """The numbers of an epoch that anybody holds."""
        held = Ranges()
        for epochs in self.held.values():
            held |= epochs.get(epoch, Ranges())
        return held

    def epochs(self) -> set[int]:
        return {epoch for epochs in self.held.values() for epoch in epochs} | set(self.sealed)

    def take_intervals(self, node: bytes, answer: Intervals) -> None:
        self.unsure |= answer.unsure
        mine = self.held.setdefault(node, {})
        for epoch, numbers in answer.epochs:
            mine[epoch] = mine.get(epoch, Ranges()) | numbers
        for stream, path, head, offsets in answer.streams:
            self.names[stream] = path, head
            self.streams[stream] = self.streams.get(stream, Ranges()) | offsets

    def take_seal(self, seal: Seal) -> None:
        if self.head is None or seal.number > self.head.number:
            self.head = seal
        for section in seal.sections:
            known = self.sealed.get(section.epoch, Ranges())
            self.sealed[section.epoch] = known | section.numbers | section.given_up
            if section.lost_after is not None:
                self.stated_lost.add(section.epoch)


async def ask_all(
    members: Members,
    patience_s: float,
    account: Account,
    ask: Callable[[bytes, Asker], Awaitable[None]],
    others_s: float = float("inf"),
) -> None:
    """Ask each member, those learnt meanwhile too, until all have answered or patience ends.

    When one has answered, the others are waited for no longer than `others_s`.
    """
    news = trio.Event()

    async def until_answered(buck: Buck) -> None:
        while buck.node not in account.answered:
            try:
                async with members.reach(buck) as asker:
                    await ask(buck.node, asker)
                account.answered.add(buck.node)
            except (ProtocolError, OSError) as error:
                log.debug("a member did not answer", node=buck.node.hex(), why=str(error))
                await trio.sleep(RETRY_S)
        news.set()

    with trio.move_on_after(patience_s) as patience:
        async with trio.open_nursery() as nursery:
            begun: set[bytes] = set()
            while not members.heard or members.nodes - account.answered:
                if account.answered:
                    patience.deadline = min(patience.deadline, trio.current_time() + others_s)
                for node in members.nodes - begun:
                    begun.add(node)
                    nursery.start_soon(until_answered, members.bucks[node])
                with trio.move_on_after(RETRY_S):
                    await news.wait()
                news = trio.Event()
            nursery.cancel_scope.cancel()


async def ask_covered(
    account: Account, node: bytes, asker: Asker, tailer: bytes, streams: Sequence[bytes], heads: tuple[bytes, ...]
) -> None:
    for at in range(0, max(1, len(streams)), COVERED_STREAMS_MAX):
        question = Covered(0, tailer, tuple(streams[at : at + COVERED_STREAMS_MAX]), heads)
        answer = await asker.ask(question, ANSWER_S)
        if not isinstance(answer, Intervals):
            raise RemoteProtocolError(f"no coverage: {answer}")
        account.take_intervals(node, answer)


async def ask_seals(account: Account, asker: Asker, tailer: bytes, since: int) -> None:
    with asker.ask_many(Seals(0, tailer, since), ANSWER_S) as parts:
        async for part in parts:
            for data in part.seals if isinstance(part, SealsAre) else ():
                try:
                    seal = Seal.read(data)
                except FormatError as error:
                    log.error("a buck gave a seal that is none", why=str(error))
                    continue
                if seal.tailer == tailer:
                    account.take_seal(seal)
