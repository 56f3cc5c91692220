"""Named moments at which a test may make this process fail.

`faultpoint("journal.append.before_write")` does nothing, unless exactly this name was armed: by the environment
variable `BUCK_FAULT=name[:nth][:kill|raise|sleep]` read once at import (real processes), or by `armed(...)` (tests in
this process). `nth` counts the passes from 1. `kill` is SIGKILL, as if the power went for this process alone; `raise`
is an OSError(EIO), as a failing disk gives it; `sleep` holds the process still for a second, so that a race can be
lost on purpose.

Names are `<part>.<file>.<moment>`. NAMES lists them all; a test compares it with the calls in the sources, and the
document of scenarios with both.
"""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable, Iterator

NAMES: frozenset[str] = frozenset(
    {
        "buck.bucket.after_append",
        "buck.bucket.after_cut",
        "buck.bucket.after_footer",
        "buck.bucket.after_rename",
        "buck.bucket.before_append",
        "buck.bucket.before_cut",
        "buck.bucket.before_footer",
        "buck.bucket.before_rename",
        "buck.bucket.renewed",
        "buck.durable.after_fsync",
        "buck.durable.before_fsync",
        "buck.pruning.before_remnant",
        "buck.pruning.remnant",
        "buck.pruning.unlinked",
        "buck.pulling.stored",
        "buck.seals.after_fsync",
        "buck.seals.before_append",
        "buck.seals.before_fsync",
        "buck.store.before_ack",
        "buck.volume.after_name",
        "buck.volume.after_unsure",
        "buck.volume.before_name",
        "buck.volume.recovered",
        "porter.archive.after_put",
        "porter.archive.before_put",
        "porter.prune.before_statement",
        "porter.prune.stated",
        "tailer.journal.after_sync",
        "tailer.journal.append",
        "tailer.journal.appended",
        "tailer.journal.before_sync",
        "tailer.journal.drop",
        "tailer.journal.roll",
        "tailer.journal.rolled",
        "tailer.journal.synced",
        "tailer.mend.copy",
        "tailer.mend.done",
        "tailer.mend.receipt",
        "tailer.recover.done",
        "tailer.sealing.put",
        "tailer.sealing.signed",
        "tailer.sealing.synced",
        "tailer.segment.before_write",
        "tailer.segment.written",
        "tailer.send.answered",
        "tailer.send.put",
    }
)

SLEEP_S = 1.0


def faultpoint(name: str) -> None:
    """Pass a moment. Cheap enough for once a packet."""
    for one in tuple(_armed):
        if name == one.name:
            one.passed()


class _Armed:
    def __init__(self, name: str, nth: int, action: Callable[[], None]) -> None:
        self.name = name
        self.left = nth
        self.action = action

    def passed(self) -> None:
        self.left -= 1
        if self.left == 0:  # once: what happens after a fault is part of the scenario
            self.action()


def kill() -> None:
    """End like a power cut of this process: nothing is flushed, no finally runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    """End this operation, as a failing disk does."""
    raise OSError(errno.EIO, "injected fault")


def hold() -> None:
    """Hold the whole process still for a moment."""
    time.sleep(SLEEP_S)


ACTIONS: dict[str, Callable[[], None]] = {"kill": kill, "raise": fail, "sleep": hold}


@contextlib.contextmanager
def armed(name: str, nth: int = 1, action: Callable[[], None] = fail) -> Iterator[None]:
    """Arm one fault point for a block of a test; `action` may raise whatever the scenario wants.

    Several may be armed at a time, and end in any order.
    """
    one = _Armed(name, nth, action)
    _armed.append(one)
    try:
        yield
    finally:
        _armed.remove(one)


def _from_environment(text: str) -> list[_Armed]:
    """`name[:nth][:action]`. A typing mistake must not pass for a fault that never came: ValueError, KeyError."""
    if not text:
        return []
    name, *rest = text.split(":")
    nth = int(rest.pop(0)) if rest and rest[0].isdigit() else 1
    action = ACTIONS[rest.pop(0)] if rest else kill
    if rest or nth < 1:
        raise ValueError(f"BUCK_FAULT={text}: not name[:nth][:kill|raise|sleep]")
    return [_Armed(name, nth, action)]


_armed = _from_environment(os.environ.get("BUCK_FAULT", ""))
