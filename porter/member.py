"""One buck as a porter's job sees it: who it is, whether it can be asked, and what came of asking.

A member that does not answer, or refuses, is in *trouble*, in words that can be shown; it is not asked again in this
job, and whatever depends on all bucks having answered knows about it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import trio

from protocol.errors import ProtocolError
from protocol.link import Asker
from protocol.messages import No, Peer, Question
from service.run import describe

__all__ = ["Answer", "Member", "Parts", "ask_each", "said"]


@dataclass(eq=False)
class Member:
    """One buck. `trouble` says why it is not asked (any more); then its answers are missing from everything."""

    address: str
    node: bytes = b""
    host: bytes = b""
    peer: Peer | None = None  # what the others say of it
    asker: Asker | None = None
    trouble: str = ""

    @property
    def live(self) -> bool:
        """Can it be asked?"""
        return self.asker is not None and not self.trouble

    @property
    def leaving(self) -> bool:
        """Do the others say that it is draining?"""
        return self.peer is not None and self.peer.draining

    def __str__(self) -> str:
        name = self.host.decode("utf-8", "backslashreplace")
        return f"{name} ({self.address})" if name else self.address


class Answer(NamedTuple):
    """What one member said."""

    member: Member
    message: object


async def ask_each(member: Member, questions: Sequence[Question], patience_s: float) -> list[Answer]:
    """Some questions to one member, all at once; the answers, in their order.

    The first that does not come in time, or is a refusal, ends it, and the member is silent from now on.
    """
    asker, numbers, answers = member.asker, [], []
    if asker is None or member.trouble:
        return []
    try:
        with trio.move_on_after(patience_s) as scope:
            for question in questions:
                numbers.append(await asker.begin(question))
            for number in numbers:
                message = await asker.take(number)
                if isinstance(message, No):
                    member.trouble = f"it refuses: {message.text or message.reason}"
                    break
                answers.append(Answer(member, message))
        if scope.cancelled_caught:
            member.trouble = f"no answer to {type(questions[0]).__name__} within {patience_s:g} s"
    except ProtocolError as error:
        member.trouble = said(error)
    finally:
        for number in numbers:
            asker.forget(number)
    return answers


class Parts:
    """What comes in answer to one question, until its end or the member's. Iterate once."""

    def __init__(self, member: Member, parts: AsyncIterator[object] | None) -> None:
        self._member = member
        self._parts = parts

    def __aiter__(self) -> Parts:
        return self

    async def __anext__(self) -> object:
        if self._parts is None:
            raise StopAsyncIteration
        try:
            part = await self._parts.__anext__()
        except ProtocolError as error:
            self._member.trouble = said(error)
            raise StopAsyncIteration from error
        if isinstance(part, No):
            self._member.trouble = f"it refuses: {part.text or part.reason}"
            raise StopAsyncIteration
        return part


def said(error: BaseException) -> str:
    """An error in words for people."""
    return "it can't be reached in time" if isinstance(error, trio.TooSlowError) else describe(error)
