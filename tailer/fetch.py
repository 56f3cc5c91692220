"""Packets of ours back from the bucks that hold them, where the journal can't give them any more.

A start fetches what its journal lost (recover.py). While a tailer runs, a packet's bytes may rot in a segment before
all copies are made: then the first buck that holds it gives it back, it is appended anew, and goes on from there as if
nothing had been. A buck that says it no longer has it counts as a copy lost. The packet is given up, and the next seal
says so, when each buck that may hold it has said that it has not: all members, for one may have taken it and not been
heard, and whoever else was heard to hold it. Silence says nothing, nor does a buck that is unsure of the bucket; then
the packet waits, and they are asked again, until an admin has retired who doesn't come back.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from protocol.errors import FormatError, ProtocolError
from protocol.link import Asker
from protocol.messages import Done, Get, Have, PacketIs, Receipt
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
    asked: set[bytes] = set()
    is_nowhere = members.heard
    while others := [node for node in (*entry.stored, *sorted(members.nodes)) if node not in asked]:
        asked.add(others[0])
        packet, has_not = await _ask(journal, members, entry, others[0])
        if packet is not None:
            _restore(journal, entry, packet)
            return packet
        is_nowhere = is_nowhere and has_not
    if is_nowhere and journal.ledger.entries.get(entry.slot) is entry:
        journal.give_up(entry.epoch, Ranges([(entry.number, entry.number + 1)]), entry)
    return None


async def ask_packets(asker: Asker, bucket: int, keys: Held) -> AsyncGenerator[Packet | Done, None]:
    """What a buck has of these, verified; at last a Done that says what it has not. ProtocolError, FormatError."""
    with asker.ask_many(Get(0, bucket, keys), ANSWER_S) as parts:
        async for part in parts:
            if isinstance(part, PacketIs):
                yield read(bytes(part.packet))
            elif isinstance(part, Done):
                yield part


async def _ask(journal: Journal, members: Members, entry: Entry, node: bytes) -> tuple[Packet | None, bool]:
    """From one buck; and whether it has said for sure that it has it not. What it has, or has not, is noted."""
    key = journal.node, entry.epoch, entry.number
    keys = ((journal.node, entry.epoch, Ranges([(entry.number, entry.number + 1)])),)
    try:
        if members.is_away(members.bucks[node]):
            return None, False
        async with (
            members.reach(members.bucks[node]) as asker,
            aclosing(ask_packets(asker, entry.bucket, keys)) as parts,
        ):
            async for part in parts:
                if isinstance(part, Done):
                    return None, bool(part.missing) and await _has_not(journal, entry, node, asker)
                if part.header.key == key and part.header.content.startswith(entry.content):
                    journal.ledger.note_stored(entry, node)
                    return part, False
                log.error("a buck gave another packet", node=node.hex(), epoch=entry.epoch, number=entry.number)
    except (ProtocolError, FormatError, OSError, KeyError) as error:
        log.warning("a packet could not be fetched back", node=node.hex(), number=entry.number, why=str(error))
    return None, False


async def _has_not(journal: Journal, entry: Entry, node: bytes, asker: Asker) -> bool:
    """It could not send the packet: is that for sure because it has it not? It may be unsure, or have it archived."""
    receipt = await asker.ask(Have(0, journal.node, entry.epoch, entry.bucket, False), ANSWER_S)
    if not isinstance(receipt, Receipt):
        return False
    if entry.number in receipt.held:
        journal.ledger.note_stored(entry, node, entry.number in receipt.synced)
        return False
    journal.ledger.note_lost(entry, node)
    return not receipt.unsure


def _restore(journal: Journal, entry: Entry, packet: Packet) -> None:
    """Into the journal again, if it is still needed there; its copies don't wait for that."""
    if journal.ledger.entries.get(entry.slot) is entry:
        try:
            journal.restore(entry, packet)
        except JournalError as error:
            log.warning("a packet that was fetched back has no room", number=entry.number, why=str(error))
