"""What the next seal says: all that was journaled since the last one, by epoch, bucket and class. Pure.

A seal adds each packet once, so stragglers need no revision of an older seal. It may also close an account:
`lost_after` says up to where an epoch is known that a crash ended, `given_up` which of its packets can be had nowhere
any more. When there is more to say than a seal may hold, the rest is for the next one at once.
"""

from collections.abc import Mapping
from itertools import islice

from protocol.packet import Class
from protocol.ranges import Ranges
from protocol.seal import Section
from tailer.ledger import Entry, Ledger

SEAL_PACKETS = 50_000  # 800 KB of contents: far below what a seal may hold, and a frame that nobody waits for

Account = tuple[int, int, Class, bool]  # epoch, bucket, class, late


def sections(
    ledger: Ledger, lost: Mapping[int, int], given_up: Mapping[int, Ranges], bucket: int
) -> tuple[Section, ...]:
    """The sections of the next seal. What belongs to no bucket any more (lost, given up) is filed under `bucket`."""
    accounts: dict[Account, list[Entry]] = {}
    for entry in islice(ledger.unsealed.values(), SEAL_PACKETS):
        accounts.setdefault((entry.epoch, entry.bucket, entry.kind, entry.late), []).append(entry)
    found = [_section(account, entries) for account, entries in sorted(accounts.items())]
    for epoch in sorted({*lost, *given_up}):
        found.append(_closing(epoch, bucket, given_up.get(epoch, Ranges()), lost.get(epoch)))
    return tuple(found)


def _section(account: Account, entries: list[Entry]) -> Section:
    epoch, bucket, kind, late = account
    entries = sorted(entries, key=lambda entry: entry.number)
    return Section(
        epoch=epoch,
        bucket=bucket,
        kind=kind,
        late=late,
        numbers=Ranges((entry.number, entry.number + 1) for entry in entries),
        events=sum(entry.count for entry in entries),
        raw=sum(entry.raw for entry in entries),
        contents=b"".join(entry.content for entry in entries),
        given_up=Ranges(),
        dropped=0,
        lost_after=None,
    )


def _closing(epoch: int, bucket: int, given_up: Ranges, lost_after: int | None) -> Section:
    """A section of its own for what is missing of an epoch."""
    return Section(
        epoch=epoch,
        bucket=bucket,
        kind=Class(),
        late=False,
        numbers=Ranges(),
        events=0,
        raw=0,
        contents=b"",
        given_up=given_up,
        dropped=0,
        lost_after=lost_after,
    )
