"""What a tailer must remember over a restart, beside its packets: values, and their plain form in a journal record.

`Checkpoint` is what the agent says of its inputs. The journal adds what it knows itself (epochs, seals, width, members)
and writes all of it at the head of each segment. `EpochNotes` says what became of an epoch's packets, as sets of
numbers, so that a thousand packets cost a few bytes. Reading back trusts nothing: what is not as it should be raises
FormatError, and the journal goes on with an older checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from protocol.errors import FormatError, VersionError
from protocol.packet import Class
from protocol.ranges import Ranges

CHECKPOINT_VERSION = 1


class StreamState(NamedTuple):
    """One followed stream: how to find its file again, and where reading stands."""

    id: bytes
    path: bytes
    inode: int
    device: int
    birth_ns: int
    head: bytes  # the file's first bytes, at most 1 KiB
    tail: bytes  # at most 1 KiB before `read_to`
    read_to: int
    kernel_state: bytes  # the format state at `read_to`
    generation: int
    closed: bool
    start: int = 0  # where reading began (not 0 for `--from end`): nothing before it is wanted
    extra: bytes = b""  # whatever else the agent wants kept of the stream


class MemberState(NamedTuple):
    """A buck seen: whom to ask first after a restart, and who counts as a member."""

    node: bytes
    address: str
    host: bytes
    zone: str


@dataclass(frozen=True)
class Checkpoint:
    """What the agent knows of its inputs now."""

    streams: tuple[StreamState, ...] = ()
    boot_id: bytes = b""  # the host's boot: fingerprints of open files are trusted further within one
    missed: bool = False  # files that were followed before this run are gone, or were written anew


@dataclass
class EpochNotes:
    """What became of one epoch's packets, as sets of their numbers."""

    done: Ranges = field(default_factory=Ranges)
    sealed: Ranges = field(default_factory=Ranges)
    stored: dict[bytes, Ranges] = field(default_factory=dict)  # node -> numbers it said it holds
    synced: dict[bytes, Ranges] = field(default_factory=dict)  # node -> numbers it said are fsynced

    def plain(self) -> list[object]:
        return [self.done.flat(), self.sealed.flat(), _plain_nodes(self.stored), _plain_nodes(self.synced)]

    def merge(self, other: "EpochNotes") -> None:
        self.done |= other.done
        self.sealed |= other.sealed
        for mine, theirs in ((self.stored, other.stored), (self.synced, other.synced)):
            for node, ranges in theirs.items():
                mine[node] = mine[node] | ranges if node in mine else ranges

    def __bool__(self) -> bool:
        return bool(self.done or self.sealed or self.stored or self.synced)


@dataclass
class State:
    """All that a checkpoint record holds."""

    segment: int
    env: str
    tailer: bytes
    epoch: int
    next: int  # the number the next packet of `epoch` gets
    width: int = 0
    crashes: int = 0
    settled: int = 0  # starts up to this one (by the boot counter) are accounted for: bucks need not be asked of them
    clean: bool = False  # written as the last thing of an orderly stop
    agent: Checkpoint = field(default_factory=Checkpoint)
    members: tuple[MemberState, ...] = ()
    seals: tuple[bytes, ...] = ()  # those not yet on enough bucks; the last is the head of the chain, always
    undelivered: tuple[int, ...] = ()  # numbers of the seals among them that wait for delivery
    segments: tuple[int, ...] = ()  # which files belong to the journal; others below `segment` were dropped before
    epochs: dict[int, EpochNotes] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)  # epoch -> the number after its last, for epochs before this one
    lost: dict[int, int] = field(default_factory=dict)  # epoch -> its last known number, of epochs that a crash ended
    coverage: dict[bytes, Ranges] = field(default_factory=dict)  # stream -> offsets that packets hold
    unread: dict[Class, int] = field(default_factory=dict)  # bytes of files that went unread, in no seal yet
    gone: bool = False  # `coverage` counts packets that were given up since: it claims too much
    missed: bool = False  # files of the lost epochs were not found again

    def plain(self) -> dict[str, object]:
        return {
            "k": "checkpoint",
            "v": CHECKPOINT_VERSION,
            "segment": self.segment,
            "env": self.env,
            "tailer": self.tailer,
            "epoch": self.epoch,
            "next": self.next,
            "width": self.width,
            "crashes": self.crashes,
            "settled": self.settled,
            "clean": self.clean,
            "streams": [list(stream) for stream in self.agent.streams],
            "boot": self.agent.boot_id,
            "members": [list(member) for member in self.members],
            "seals": list(self.seals),
            "undelivered": list(self.undelivered),
            "segments": list(self.segments),
            "epochs": plain_notes(self.epochs),
            "ends": self.ends,
            "lost": self.lost,
            "coverage": {stream: ranges.flat() for stream, ranges in self.coverage.items()},
            "unread": {kind.code(): size for kind, size in self.unread.items()},
            "gone": self.gone,
            "missed": self.missed,
        }

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> "State":
        try:
            return cls._from_plain(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"a checkpoint can't be read: {error!r}") from error

    @classmethod
    def _from_plain(cls, value: Mapping[str, Any]) -> "State":
        if value["v"] != CHECKPOINT_VERSION:
            raise VersionError(f"a checkpoint of version {value['v']}; this program knows {CHECKPOINT_VERSION}")
        return cls(
            segment=int(value["segment"]),
            env=str(value["env"]),
            tailer=bytes(value["tailer"]),
            epoch=int(value["epoch"]),
            next=int(value["next"]),
            width=int(value["width"]),
            crashes=int(value["crashes"]),
            settled=int(value["settled"]),
            clean=bool(value["clean"]),
            agent=Checkpoint(tuple(StreamState(*stream) for stream in value["streams"]), bytes(value["boot"])),
            members=tuple(MemberState(*member) for member in value["members"]),
            seals=tuple(bytes(seal) for seal in value["seals"]),
            undelivered=tuple(int(number) for number in value["undelivered"]),
            segments=tuple(int(index) for index in value["segments"]),
            epochs=notes_from_plain(value["epochs"]),
            ends={int(epoch): int(end) for epoch, end in value["ends"].items()},
            lost={int(epoch): int(number) for epoch, number in value["lost"].items()},
            coverage={bytes(stream): Ranges.from_flat(flat) for stream, flat in value["coverage"].items()},
            unread={Class.from_code(code): int(size) for code, size in value["unread"].items()},
            gone=bool(value["gone"]),
            missed=bool(value["missed"]),
        )


def _plain_nodes(which: Mapping[bytes, Ranges]) -> dict[bytes, list[int]]:
    return {node: ranges.flat() for node, ranges in which.items() if ranges}


def plain_notes(epochs: Mapping[int, EpochNotes]) -> dict[int, list[object]]:
    return {epoch: notes.plain() for epoch, notes in epochs.items()}


def notes_from_plain(value: Mapping[int, Any]) -> dict[int, EpochNotes]:
    """Raises FormatError for what `plain_notes` can't have made."""
    try:
        return {int(epoch): _notes(*notes) for epoch, notes in value.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"notes of an epoch can't be read: {error!r}") from error


def _notes(done: list[int], sealed: list[int], stored: dict[bytes, Any], synced: dict[bytes, Any]) -> EpochNotes:
    return EpochNotes(
        Ranges.from_flat(done),
        Ranges.from_flat(sealed),
        {bytes(node): Ranges.from_flat(flat) for node, flat in stored.items()},
        {bytes(node): Ranges.from_flat(flat) for node, flat in synced.items()},
    )
