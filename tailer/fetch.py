"""Packets of ours back from the bucks that hold them, where the journal can't give them any more.

A start fetches what its journal lost (recover.py). While a tailer runs, a packet's bytes may rot in a segment before
all copies are made: then the first buck that holds it gives it back, it is appended anew, and goes on from there as if
nothing had been. A buck that says it no longer has it counts as a copy lost; where none is left, the journal gives the
packet up, and the next seal says so.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from protocol.errors import FormatError, ProtocolError
from protocol.link import Asker
from protocol.messages import Done, Get, PacketIs
from protocol.packet import Packet, read
from protocol.ranges import Ranges
from service.log import get_log
from tailer.asking import ANSWER_S
from tailer.journal import Journal, JournalError
from tailer.ledger import Entry
from tailer.members import Members

Held = tuple[tuple[bytes, int, Ranges], ...]

log = get_log("tailer.fetch")


async def packet_of(journal: Journal, members: Members, entry: Entry) -> Packet | None:
    """The packet, from the journal or from a buck that holds it; None if neither can give it now."""
    packet = journal.load(entry)
    if packet is not None:
        return packet
    for node in entry.stored:
        packet = await _ask(journal, members, entry, node)
        if packet is not None:
            _restore(journal, entry, packet)
            return packet
    return None


async def ask_packets(asker: Asker, bucket: int, keys: Held) -> AsyncGenerator[Packet | Done, None]:
    """What a buck has of these, verified; at last a Done that says what it has not. ProtocolError, FormatError."""
    with asker.ask_many(Get(0, bucket, keys), ANSWER_S) as parts:
        async for part in parts:
            if isinstance(part, PacketIs):
                yield read(bytes(part.packet))
            elif isinstance(part, Done):
                yield part


async def _ask(journal: Journal, members: Members, entry: Entry, node: bytes) -> Packet | None:
    """From one buck; what it has not is noted."""
    key = journal.node, entry.epoch, entry.number
    keys = ((journal.node, entry.epoch, Ranges([(entry.number, entry.number + 1)])),)
    try:
        async with (
            members.reach(members.bucks[node]) as asker,
            aclosing(ask_packets(asker, entry.bucket, keys)) as parts,
        ):
            async for part in parts:
                if isinstance(part, Done):
                    if part.missing:
                        journal.ledger.note_lost(entry, node)
                elif part.header.key == key and part.header.content.startswith(entry.content):
                    return part
                else:
                    log.error("a buck gave another packet", node=node.hex(), epoch=entry.epoch, number=entry.number)
    except (ProtocolError, FormatError, OSError, KeyError) as error:
        log.warning("a packet could not be fetched back", node=node.hex(), number=entry.number, why=str(error))
    return None


def _restore(journal: Journal, entry: Entry, packet: Packet) -> None:
    """Into the journal again, if it is still needed there; its copies don't wait for that."""
    if journal.ledger.entries.get(entry.slot) is entry:
        try:
            journal.restore(entry, packet)
        except JournalError as error:
            log.warning("a packet that was fetched back has no room", number=entry.number, why=str(error))
