"""A real tailer that writes down when it learnt that lines are stored.

    python -m bench.rivals.acking_tailer FILE run ...

Everything is the product's own. Only three of its methods are listened to: a packet that gets its place in the journal,
or is loaded from it, says what is in it, and a buck's acknowledgement that is noted says who holds it. With the
acknowledgement that makes as many copies as the packet's class asks for at once, a line for each stretch of each file
in the packet goes to FILE:

    TIME FIRST END PATH        nanoseconds of the monotonic clock, offsets in the file
"""

from __future__ import annotations

import os
import sys
import time

from protocol.packet import Header, Packet
from tailer import commands
from tailer.blocks import Draft
from tailer.journal import Journal
from tailer.ledger import Entry, Ledger, Slot


def listen(out: int) -> None:
    """From now on, of every journal of this process."""
    headers: dict[Slot, Header] = {}
    append, load, note_stored = Journal.append, Journal.load, Ledger.note_stored

    def appended(journal: Journal, draft: Draft) -> Packet:
        packet = append(journal, draft)
        headers[packet.header.epoch, packet.header.number] = packet.header
        return packet

    def loaded(journal: Journal, entry: Entry) -> Packet | None:
        packet = load(journal, entry)
        if packet is not None and len(entry.stored) < packet.header.kind.copies:
            headers[entry.slot] = packet.header
        return packet

    def noted(ledger: Ledger, entry: Entry, node: bytes, synced: bool = False) -> None:
        note_stored(ledger, entry, node, synced)
        header = headers.get(entry.slot)
        if header is not None and len(entry.stored) >= header.kind.copies:
            del headers[entry.slot]
            now = time.monotonic_ns()
            lines = [
                b"%d %d %d %s\n" % (now, run.first, run.end, header.streams[run.stream].path) for run in header.runs
            ]
            os.write(out, b"".join(lines))

    for owner, name, method in (
        (Journal, "append", appended),
        (Journal, "load", loaded),
        (Ledger, "note_stored", noted),
    ):
        setattr(owner, name, method)


if __name__ == "__main__":
    listen(os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
    del sys.argv[1:2]
    commands.main()
