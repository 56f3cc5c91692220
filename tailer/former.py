"""Files of which the journal knows nothing (any more): which streams do the bucks say they are?

A stream's id can be made again from its file and the number of its generation, so the bucks are asked for all streams
with the heads that the files have. But a head is often the same in every generation (`#Fields: ...`), so where several
may be meant the bytes decide: the end of what the bucks hold of a stream is fetched and compared with the file.

    the file has what ends a generation (the newest first)      that generation goes on, at its first uncovered offset
    the bucks know generations, and it has none of their ends   it was written anew: the next one, all of it new
    another stream's end, its own file gone or written anew     it may be a copy: naming.py decides
    the bucks know nothing                                      a new file, as always

Where the end of a stream can't be had any more, its length has to do.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import trio

from protocol.errors import FormatError, ProtocolError
from protocol.identity import head_hash
from protocol.kernel import Rows
from protocol.limits import COVERED_STREAMS_MAX, EARLY_S, HEAD_MAX
from protocol.link import Asker
from protocol.messages import Get, List, Listing, PacketIs
from protocol.packet import Packet, read, unpack
from protocol.ranges import Ranges
from service.log import get_log
from service.machine import Disk
from tailer.asking import ANSWER_S, Account, ask_all, ask_covered
from tailer.checkpoint import StreamState
from tailer.inputs.files import Key, Sweep, stream_of
from tailer.inputs.follow import TAIL_MAX, first_line
from tailer.inputs.naming import LOST_MAX, Former, Place
from tailer.journal import Journal
from tailer.members import Members

NS = 1_000_000_000
# A generation may have ended before anything of it was sent: so many unknown ones in a row are the end of them.
GENERATIONS_GAP = 16
# Ends are looked for so far back: bucks keep two days, and then some.
ENDS_BACK_S = 3 * 86_400
# Of a stream's end at most so much is compared.
END_MAX = 64 << 10

log = get_log("tailer.recover")


@dataclass
class _File:
    """A file found, and the generations of it that bucks know."""

    key: Key
    path: bytes
    size: int
    head: bytes
    generations: dict[int, bytes] = field(default_factory=dict)  # number -> stream

    @property
    def place(self) -> Place:
        return self.key, head_hash(self.head)


async def find_former(journal: Journal, members: Members, disk: Disk, sweep: Sweep, patience_s: float) -> Former:
    """What the bucks know of these files. An empty answer where nobody answers: then they are new."""
    files = _look(disk, sweep)
    account = Account()
    heads = sorted({head_hash(file.head) for file in files})

    async def ask(node: bytes, asker: Asker) -> None:
        for at in range(0, len(heads), COVERED_STREAMS_MAX):
            await ask_covered(account, node, asker, journal.node, (), tuple(heads[at : at + COVERED_STREAMS_MAX]))

    if heads:
        await ask_all(members, patience_s, account, ask)
    ours = journal.recovered.streams
    for file in files:
        file.generations = _generations(file, account)
    ends = await _Ends(journal, members, account, patience_s).fetch(_concerned(files, account))
    former = Former()
    for file in files:
        _judge(disk, file, account, ends, former, ours)
    _note_lost(files, account, ends, former, ours)
    log.info("files were found again", known=len(former.goes_on), written_anew=len(former.used) - len(former.goes_on))
    return former


def _look(disk: Disk, sweep: Sweep) -> list[_File]:
    files = []
    for key, found in sweep.files.items():
        try:
            file = disk.open_read(found.path)
            try:
                head = first_line(file.pread(HEAD_MAX, 0))
            finally:
                file.close()
        except OSError:
            continue  # gone, or not to be read: the reader says so
        if head:
            files.append(_File(key, found.path, found.stat.size, head))
    return files


def _generations(file: _File, account: Account) -> dict[int, bytes]:
    """Those of which bucks hold anything."""
    found: dict[int, bytes] = {}
    number = misses = 0
    while misses < GENERATIONS_GAP:
        stream = stream_of(file.key, file.head, number)
        if account.streams.get(stream):
            found[number], misses = stream, 0
        else:
            misses += 1
        number += 1
    return found


def _concerned(files: Iterable[_File], account: Account) -> dict[bytes, int]:
    """Streams whose end must be seen, and where that is: the files' own, and those of equal heads."""
    mine = {stream for file in files for stream in file.generations.values()}
    others = [stream for stream, offsets in account.streams.items() if offsets and stream not in mine]
    return {stream: account.streams[stream].last + 1 for stream in [*mine, *others[:LOST_MAX]]}


def _judge(
    disk: Disk, file: _File, account: Account, ends: Mapping[bytes, bytes], former: Former, ours: set[bytes]
) -> None:
    if not file.generations:
        return
    former.used[file.place] = max(file.generations)
    possible = [(n, stream) for n, stream in sorted(file.generations.items(), reverse=True) if stream not in ours]
    proved = [n for n, stream in possible if stream in ends and _has(disk, file, account.streams[stream], ends[stream])]
    likely = [n for n, stream in possible if stream not in ends and account.streams[stream].last < file.size]
    if proved or likely:
        number = (proved or likely)[0]
        stream = file.generations[number]
        former.goes_on[file.place] = number
        former.coverage[stream] = account.streams[stream]


def _has(disk: Disk, file: _File, covered: Ranges, end: bytes) -> bool:
    try:
        opened = disk.open_read(file.path)
    except OSError:
        return False
    try:
        return opened.pread(len(end), covered.last + 1 - len(end)) == end
    finally:
        opened.close()


def _note_lost(
    files: Iterable[_File], account: Account, ends: Mapping[bytes, bytes], former: Former, ours: set[bytes]
) -> None:
    """Streams that no file goes on with, and whose end is known: one of the other files may be a copy."""
    by_stream = {stream: (file, n) for file in files for n, stream in file.generations.items()}
    heads = {head_hash(file.head): file.head for file in files}
    taken = {file.generations[former.goes_on[file.place]] for file in files if file.place in former.goes_on}
    for stream, end in ends.items():
        if stream in taken or stream in ours:
            continue
        path, head = account.names[stream]
        offsets = account.streams[stream]
        owner, number = by_stream.get(stream, (None, 0))
        inode, birth_ns, device = owner.key if owner is not None else (0, 0, 0)
        former.coverage[stream] = offsets
        former.lost += (
            StreamState(
                stream, path, inode, device, birth_ns, heads[head], end[-TAIL_MAX:], offsets.last + 1, b"", number,
                True, offsets.first,
            ),
        )  # fmt: skip


class _Ends:
    """Fetches the last bytes that bucks hold of streams, newest buckets first."""

    def __init__(self, journal: Journal, members: Members, account: Account, patience_s: float) -> None:
        self._journal, self._members, self._account = journal, members, account
        self._patience_s = patience_s
        self._wanted: dict[bytes, int] = {}
        self._found: dict[bytes, bytes] = {}

    async def fetch(self, wanted: Mapping[bytes, int]) -> dict[bytes, bytes]:
        """Stream -> its last bytes, of those that could be had in time."""
        self._wanted = dict(wanted)
        with trio.move_on_after(self._patience_s):
            for node in sorted(self._account.held):
                if self._wanted:
                    await self._fetch_from(node)
        return self._found

    async def _fetch_from(self, node: bytes) -> None:
        width = self._journal.width
        now_s = (self._members.machine.time_ns() + self._members.offset_ns) // NS
        try:
            async with self._members.reach(self._members.bucks[node]) as asker:
                for index in range((now_s + 2 * EARLY_S) // width, (now_s - ENDS_BACK_S) // width - 1, -1):
                    if not self._wanted or index < 0:
                        return
                    await self._fetch_bucket(asker, index * width)
        except (ProtocolError, FormatError, OSError) as error:
            log.warning("the ends of streams could not be fetched", node=node.hex(), why=str(error))

    async def _fetch_bucket(self, asker: Asker, bucket: int) -> None:
        if not await self._listed(asker, bucket, b""):
            return
        for path in sorted({self._account.names[stream][0] for stream in self._wanted}):
            keys = await self._listed(asker, bucket, path)
            if not keys:
                continue
            pieces: dict[bytes, dict[int, bytes]] = {}
            with asker.ask_many(Get(0, bucket, keys), ANSWER_S) as parts:
                async for part in parts:
                    if isinstance(part, PacketIs):
                        self._take(read(bytes(part.packet)), pieces)
            for stream, found in pieces.items():
                end = _joined(found, self._wanted[stream])
                if end:
                    self._found[stream] = end
                    del self._wanted[stream]

    async def _listed(self, asker: Asker, bucket: int, path: bytes) -> tuple[tuple[bytes, int, Ranges], ...]:
        """Our packets of a bucket, of one path if it is given."""
        listing = await asker.ask(List(0, bucket, b"", path), ANSWER_S)
        entries = listing.entries if isinstance(listing, Listing) else ()
        return tuple(entry for entry in entries if entry[0] == self._journal.node)

    def _take(self, packet: Packet, pieces: dict[bytes, dict[int, bytes]]) -> None:
        """The bytes near a wanted end that a packet holds."""
        header = packet.header
        near = [
            header.streams[run.stream].id in self._wanted
            and run.end > self._wanted[header.streams[run.stream].id] - END_MAX
            for run in header.runs
        ]
        if not any(near):
            return
        body = unpack(packet)
        rows = Rows.decode(body, header.count, header.sizes, header.formats, header.shn, header.app, header.runs)
        row = 0
        for run, is_near in zip(header.runs, near, strict=True):
            if is_near and run.end > run.first:
                stream = header.streams[run.stream].id
                pieces.setdefault(stream, {})[run.first] = rows.render(row, row + run.count)
            row += run.count


def _joined(pieces: Mapping[int, bytes], end: int) -> bytes:
    """The bytes that lead up to `end` without a hole, the last of them; empty if none do."""
    joined = b""
    for first in sorted(pieces, reverse=True):
        if first + len(pieces[first]) == end - len(joined) and len(joined) < END_MAX:
            joined = pieces[first] + joined
    return joined[-END_MAX:]
