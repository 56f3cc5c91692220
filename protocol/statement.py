"""A porter's signed statement that packets of one bucket are in the archive: what a buck needs to let go of them.

    magic "BUA1" | length u32 | msgpack array | Ed25519 signature of all before, 64

    array: version, env, width, bucket, public key of the porter, time ns, verdict, digest of the verdict,
           [[tailer, epoch, numbers, contents], ...]

It names every packet by its key and by the first 16 bytes of its `content`, in the order of the numbers, as seals do: a
packet of the same key with another content is another packet, and stays where it is. `verdict` is the object of the
archive that vouches for the hour, and its SHA-256. Who signed it had just read the named objects back; whether its key
may say so is the buck's business. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from protocol import limits
from protocol.envelope import Envelope
from protocol.errors import StatementError
from protocol.identity import DIGEST_SIZE, NODE_SIZE, PUBLIC_SIZE, NodeKey
from protocol.packed import Buffer
from protocol.ranges import Ranges
from protocol.schema import Blob, Group, Many, Number, Set, Text
from protocol.seal import CONTENT_SIZE

__all__ = ["Named", "Statement"]


class Named(NamedTuple):
    """Packets of one tailer and epoch. Invariant: CONTENT_SIZE bytes of `contents` for each number."""

    tailer: bytes
    epoch: int
    numbers: Ranges
    contents: bytes


@dataclass(frozen=True, slots=True)
class Statement:
    """One bucket's statement. `data` is the signed form, where there is one."""

    env: str
    width: int
    bucket: int
    public: bytes
    time_ns: int
    verdict: str
    digest: bytes
    named: tuple[Named, ...]
    data: bytes = field(default=b"", compare=False, repr=False)

    @property
    def count(self) -> int:
        """How many packets are named."""
        return sum(one.numbers.count for one in self.named)

    def contents(self) -> Mapping[tuple[bytes, int], Mapping[int, bytes]]:
        """(tailer, epoch) -> number -> how the content of the packet that is meant begins."""
        found: dict[tuple[bytes, int], dict[int, bytes]] = {}
        for tailer, epoch, numbers, contents in self.named:
            parts = (contents[at : at + CONTENT_SIZE] for at in range(0, len(contents), CONTENT_SIZE))
            found[tailer, epoch] = dict(zip(numbers.numbers(), parts, strict=True))
        return found

    def signed(self, key: NodeKey) -> Statement:
        """The same with its signed form; StatementError if a reader would refuse it."""
        facts = (self.env, self.width, self.bucket, self.public, self.time_ns, self.verdict, self.digest)
        return Statement.read(_STATEMENT.sign(key, *facts, self.named))

    @classmethod
    def read(cls, data: Buffer) -> Statement:
        """The statement in `data`, its signature checked. StatementError, or VersionError for a later version."""
        found = replace(cls(*_STATEMENT.open(data)), data=bytes(data))
        _check(found)
        return found


def _check(statement: Statement) -> None:
    if statement.bucket % statement.width:
        raise StatementError(f"no bucket of {statement.width} s begins at {statement.bucket}")
    for _, _, numbers, contents in statement.named:
        if len(contents) != CONTENT_SIZE * numbers.count:
            raise StatementError(f"{len(contents)} bytes of contents for {numbers.count} packets")
    if len({one[:2] for one in statement.named}) < len(statement.named):
        raise StatementError("an epoch is named twice")


_NAMED: Final = Group(
    Blob(NODE_SIZE), Number(64), Set(), Blob(0, CONTENT_SIZE * limits.STATEMENT_PACKETS_MAX), make=Named
)
_FIELDS: Final = Group(
    Number(8), Text(limits.ENV_MAX), Number(32, 1, limits.WIDTH_MAX_S), Number(32), Blob(PUBLIC_SIZE), Number(64),
    Text(limits.NAME_MAX), Blob(DIGEST_SIZE), Many(_NAMED, limits.ENTRIES_MAX),
)  # fmt: skip
_STATEMENT: Final = Envelope(
    b"BUA1", "statement", limits.STATEMENT_VERSION, limits.STATEMENT_SIZE_MAX, _FIELDS, 4, StatementError
)
