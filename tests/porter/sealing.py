"""Seals for packets that a `FakeTailer` made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from protocol.packet import Packet
from protocol.ranges import Ranges
from protocol.seal import CONTENT_SIZE, FIRST, Seal, Section
from tests.porter.fleet import BUCKET, ENV, WIDTH, FakeTailer


def sections_of(packets: Sequence[Packet]) -> tuple[Section, ...]:
    """What a seal says of these."""
    groups: defaultdict[tuple[object, ...], list[Packet]] = defaultdict(list)
    for packet in packets:
        header = packet.header
        groups[header.epoch, header.bucket, header.kind, header.late].append(packet)
    return tuple(_section(group) for group in groups.values())


def _section(packets: Sequence[Packet]) -> Section:
    header = packets[0].header
    numbers = Ranges((packet.header.number, packet.header.number + 1) for packet in packets)
    events = sum(packet.header.count for packet in packets)
    raw = sum(packet.header.raw for packet in packets)
    contents = b"".join(packet.header.content[:CONTENT_SIZE] for packet in packets)
    return Section(header.epoch, header.bucket, header.kind, header.late, numbers, events, raw, contents)


class Chain:
    """A tailer's seals, one after another."""

    def __init__(self, tailer: FakeTailer) -> None:
        self.tailer = tailer
        self.seals: list[Seal] = []

    def seal(
        self,
        packets: Sequence[Packet],
        *,
        until: int = BUCKET + WIDTH,
        closing: bool = False,
        goodbye: bool = False,
        **changes: object,
    ) -> Seal:
        """The next seal, over these packets; `changes` replace members of its first section. A goodbye closes too."""
        sections = sections_of(packets)
        if changes:
            sections = (replace(sections[0], **changes), *sections[1:])
        key, number = self.tailer.key, len(self.seals)
        previous = self.seals[-1].digest if self.seals else FIRST
        facts = (ENV, WIDTH, key.node, key.public, self.tailer.host, number, previous)
        seal = Seal(*facts, until * 10**9, until, 0, 0, closing or goodbye, sections, goodbye).signed(key)
        self.seals.append(seal)
        return seal
