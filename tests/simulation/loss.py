"""What no promise covers: every copy of some packets is destroyed, when no journal and no archive has them either.

Nobody can bring these back. What is promised then is that the gap is told: exactly those packets, exactly those bytes.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from protocol.packet import Header, peek, read
from protocol.ranges import Ranges
from tests.simulation.machine import Host
from tests.simulation.platter import Folder, Inode

MAGIC = b"BUK1"
DIGEST_SIZE = 32
STORED = (b".open", b".closed", b".bad")
LEFT = b".left"  # counts no more, and may be read all the same
REMNANT = b".archived"  # what stays of a file whose packets were let go of
LOST_MAX = 3  # packets


@dataclass
class Lost:
    """What is nowhere any more: packets by (tailer, epoch, bucket), and how many bytes of each host's files."""

    packets: dict[tuple[bytes, int, int], Ranges] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)


def stored(folder: Folder, suffixes: tuple[bytes, ...] = STORED) -> Iterator[Inode]:
    """The bucket files below a folder."""
    for name, node in folder.names.items():
        if isinstance(node, Folder):
            yield from stored(node, suffixes)
        elif name.endswith(suffixes):
            yield node


def packets_in(data: bytes | bytearray) -> Iterator[tuple[int, int, Header]]:
    """Where a good packet begins in a bucket file, how long it is, and its header.

    Whether its digest fits is looked at here: what the product takes for good may not be.
    """
    text, at = bytes(data), data.find(MAGIC)
    while at >= 0:
        try:
            size = peek(text, at)
            end = at + size - DIGEST_SIZE
            good = blake3(text[at:end]).digest() == text[end : at + size]
            header = read(text[at : at + size], verify=False).header if good else None
        except Exception:  # whatever a packet's reader says of bytes that are none
            header = None
        if header is None:
            size = 1
        else:
            yield at, size, header
        at = text.find(MAGIC, at + size)


def destroy(
    hosts: Sequence[Host],
    archived: Mapping[tuple[bytes, int], Ranges],
    rows: Mapping[tuple[str, bytes], Ranges],
    rng: random.Random,
) -> Lost:
    """Zeros over every copy of up to three packets that no part of the archive has. Nobody may run on these hosts.

    `rows`: the offsets of each (host, stream) that the archive has, from whichever packet: what a tailer read twice.
    """
    files = [node for host in hosts for node in stored(host.platter.root, (*STORED, LEFT))]
    headers = {header.key: header for node in files for _, _, header in packets_in(node.data)}
    alone = [key for key in sorted(headers) if key.number not in archived.get(key[:2], ())]
    doomed = set(rng.sample(alone, min(len(alone), rng.randint(1, LOST_MAX))))
    for node in files:
        for at, size, header in list(packets_in(node.data)):
            if header.key in doomed:
                node.data[at : at + size] = bytes(size)
    lost = Lost()
    for key in doomed:
        place = key.tailer, key.epoch, headers[key].bucket
        lost.packets.setdefault(place, Ranges()).add(key.number, key.number + 1)
    gone = _bytes_of(headers[key] for key in doomed)
    left = _bytes_of(header for key, header in headers.items() if key not in doomed)
    for (host_name, stream), offsets in gone.items():
        place = host_name, stream
        count = (offsets - left.get(place, Ranges()) - rows.get(place, Ranges())).count
        lost.bytes[host_name] = lost.bytes.get(host_name, 0) + count
    return lost


def _bytes_of(headers: Iterator[Header]) -> dict[tuple[str, bytes], Ranges]:
    """(host, stream) -> the offsets that these packets have."""
    found: defaultdict[tuple[str, bytes], Ranges] = defaultdict(Ranges)
    for header in headers:
        for run in header.runs:
            if run.first < run.end:
                found[header.host.decode(), header.streams[run.stream].id].add(run.first, run.end)
    return found
