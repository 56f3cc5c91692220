"""Questions that wait behind packets: on a slow way an answer is late, and that is no reason to end the link."""

from typing import Any

from protocol.errors import Unanswered
from protocol.link import Asker
from protocol.messages import Question
from service.machine import Machine

SILENT_S = 10.0  # without an answer to anything: then the link is dead


async def ask_patiently(machine: Machine, asker: Asker, question: Question) -> Any:
    """The answer, as long as others come meanwhile. Unanswered after SILENT_S of silence, LinkLost when it broke."""
    while True:
        try:
            return await asker.ask(question, SILENT_S)
        except Unanswered:
            if machine.now() > max(asker.answered_at.values(), default=0.0) + SILENT_S:
                raise
